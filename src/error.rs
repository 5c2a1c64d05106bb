//! What can be wrong with a dump, in one `Copy` enum.
//!
//! A variant says *what* (the field, in kernel spelling), *where* ([`At`]) and *why* (the value and the bound it
//! broke). No text is built until somebody prints it, so an error costs nothing in the capture kernel. The class
//! decides what a caller does: `Missing` tries an older layout, `NotInDump` leaves a gap, `Unsupported` tells the
//! user plainly, `Invalid` is quoted in the report.

use core::fmt;

use crate::addr::{PhysAddr, VirtAddr};

/// Where something was found: each layer of the program has an address space of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// Bytes from the start of the dump file.
    File(u64),
    /// A physical address of the crashed machine.
    Phys(PhysAddr),
    /// A virtual address of the crashed kernel.
    Virt(VirtAddr),
    /// A line of a text, counted from 1.
    Line(u32),
}

/// An error of the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The data ended before the field did.
    Truncated {
        /// The field.
        what: &'static str,
        /// Where the field starts.
        at: At,
        /// Bytes the field takes.
        need: u64,
        /// Bytes there were.
        have: u64,
    },
    /// A value that its field cannot have.
    Invalid {
        /// The field.
        what: &'static str,
        /// Where the field is.
        at: At,
        /// What it holds.
        value: u64,
        /// The bound it breaks, to be read after "value,".
        why: &'static str,
    },
    /// Correct input of a kind that is not handled.
    Unsupported {
        /// The kind of thing.
        what: &'static str,
        /// Which one it is.
        value: u64,
    },
    /// A file of a known kind that is no dump that can be read.
    Foreign {
        /// The kind, with its article.
        what: &'static str,
        /// What the user can do.
        advice: &'static str,
    },
    /// Something the kernel should have told is not there: a VMCOREINFO key, a symbol, a structure member.
    Missing {
        /// Its name, as the kernel spells it.
        key: &'static str,
    },
    /// Physical memory that the dump does not hold: a hole or a page that a filter left out.
    NotInDump {
        /// The first address that is missing.
        addr: PhysAddr,
    },
    /// A virtual address that the crashed kernel's page tables do not map.
    NotMapped {
        /// The address.
        addr: VirtAddr,
        /// The page-table level that said so: 1 is the one with 4 KiB entries, 0 no table at all.
        level: u8,
    },
    /// A number beyond what this program is willing to handle (see `limits`).
    Limit {
        /// The field.
        what: &'static str,
        /// What it holds.
        value: u64,
        /// The most that is accepted.
        max: u64,
    },
    /// The operating system could not read the file.
    Io {
        /// Bytes from the start of the file.
        at: u64,
        /// Bytes asked for.
        len: usize,
        /// The system's error number, 0 when it gave none.
        errno: i32,
    },
}

/// The core's results.
pub type Result<T> = core::result::Result<T, Error>;

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::File(offset) => write!(f, "file offset {offset:#x}"),
            At::Phys(addr) => write!(f, "physical address {addr}"),
            At::Virt(addr) => write!(f, "{addr}"),
            At::Line(line) => write!(f, "line {line}"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Error::Truncated {
                what,
                at,
                need,
                have,
            } => {
                write!(
                    f,
                    "{what} at {at} is cut short: {need} bytes needed, {have} there"
                )
            }
            Error::Invalid {
                what,
                at,
                value,
                why,
            } => write!(f, "{what} at {at}: {value:#x}, {why}"),
            Error::Unsupported { what, value } => write!(f, "{what} {value:#x} is not supported"),
            Error::Foreign { what, advice } => write!(f, "this is {what}; {advice}"),
            Error::Missing { key } => write!(f, "{key} is missing"),
            Error::NotInDump { addr } => write!(f, "physical address {addr} is not in the dump"),
            Error::NotMapped { addr, level: 0 } => write!(f, "no translation for {addr}"),
            Error::NotMapped { addr, level } => {
                write!(f, "{addr} is not mapped (page table level {level})")
            }
            Error::Limit { what, value, max } => write!(f, "{what} is {value}, more than {max}"),
            Error::Io { at, len, errno } => write!(
                f,
                "cannot read {len} bytes at file offset {at:#x} (error {errno})"
            ),
        }
    }
}

impl core::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_message_is_one_lower_case_line_with_what_where_and_why() {
        let error = Error::Invalid {
            what: "prb_desc_ring.count_bits",
            at: At::Virt(VirtAddr(0xffff_ffff_82a5_1c40)),
            value: 77,
            why: "must be at most 24",
        };
        assert_eq!(
            error.to_string(),
            "prb_desc_ring.count_bits at 0xffffffff82a51c40: 0x4d, must be at most 24"
        );
    }
}
