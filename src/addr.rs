//! The address spaces of a crashed machine, one type each, so that they cannot be mixed up.
//!
//! Nothing above `dump` sees a file offset, nothing above `kernel` a physical address. Arithmetic wraps or is
//! checked; it never panics, since addresses come from a dump that may be torn.

use core::fmt;

/// A physical address of the crashed machine, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PhysAddr(pub u64);

/// A virtual address of the crashed kernel, in bytes; 32-bit kernels use the lower half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtAddr(pub u64);

/// A page frame number: a physical address divided by the page size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pfn(pub u64);

macro_rules! arithmetic {
    ($name:ident) => {
        impl $name {
            /// The address `bytes` further on, or `None` past the end of the address space.
            pub fn checked_add(self, bytes: u64) -> Option<Self> {
                self.0.checked_add(bytes).map(Self)
            }

            /// The address `bytes` further on, modulo 2^64.
            #[must_use]
            pub fn wrapping_add(self, bytes: u64) -> Self {
                Self(self.0.wrapping_add(bytes))
            }

            /// The address `bytes` before, modulo 2^64.
            #[must_use]
            pub fn wrapping_sub(self, bytes: u64) -> Self {
                Self(self.0.wrapping_sub(bytes))
            }

            /// Bytes from `start` to here, or `None` when `start` is higher.
            pub fn offset_from(self, start: Self) -> Option<u64> {
                self.0.checked_sub(start.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

arithmetic!(PhysAddr);
arithmetic!(VirtAddr);
