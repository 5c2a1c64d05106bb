//! The crashed kernel: virtual memory over physical memory.
//!
//! An address is translated by the crashed kernel's own page tables where they can be read, else by the linear
//! formulas of its architecture, else by what the program headers say. Which of these is believed is decided once, by
//! reading the release through them and comparing it with VMCOREINFO. Nothing above this layer sees a physical
//! address.
//!
//! Reads are copies into a caller's buffer through a small page cache; memory of a crashed kernel does not change, so
//! reading twice is right and keeping is not needed.

use alloc::vec::Vec;
use core::cell::RefCell;

use crate::addr::{PhysAddr, VirtAddr};
use crate::bytes::{Endian, Word, index, wide};
use crate::dump::{Abi, Machine, PhysMem, Segment, Vmcore};
use crate::error::{At, Error, Result};
use crate::limits;
use crate::vmcoreinfo::VmcoreInfo;

mod cache;
mod window;
mod x86_64;

use cache::PageCache;
pub use window::Window;

/// Where a virtual address lies, and for how many bytes that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The physical address.
    pub paddr: PhysAddr,
    /// Bytes from there on that are mapped contiguously.
    pub len: u64,
}

/// How an architecture finds physical addresses: a closed set, hence no trait.
enum AddressSpace {
    X86_64(x86_64::X86_64),
    /// An architecture without a translation of its own: only program headers serve.
    Headers,
}

/// The virtual memory of the crashed kernel.
pub struct Kernel<'v> {
    mem: &'v dyn PhysMem,
    segments: &'v [Segment],
    abi: Abi,
    info: VmcoreInfo,
    space: AddressSpace,
    /// False when the page tables gave something else than the kernel's release where it must stand.
    tables_are_good: bool,
    cache: RefCell<PageCache>,
    recent: RefCell<Recent>,
}

/// The last few translations: reads cluster.
#[derive(Default)]
struct Recent {
    mappings: [Option<(VirtAddr, Mapping)>; 8],
    next: usize,
}

impl<'v> Kernel<'v> {
    /// Sets up the translation for the kernel that `info` describes.
    pub fn new(vmcore: &'v Vmcore<'_>, info: VmcoreInfo) -> Self {
        Self::over(vmcore, vmcore.segments(), vmcore.abi(), info)
    }

    /// The same over any physical memory.
    pub fn over(mem: &'v dyn PhysMem, segments: &'v [Segment], abi: Abi, info: VmcoreInfo) -> Self {
        let space = match abi.machine {
            Machine::X86_64 => AddressSpace::X86_64(x86_64::X86_64::new(&info, segments)),
            _ => AddressSpace::Headers,
        };
        let cache = RefCell::new(PageCache::new(limits::PAGE_CACHE_PAGES));
        let recent = RefCell::default();
        let mut kernel = Kernel {
            mem,
            segments,
            abi,
            info,
            space,
            tables_are_good: true,
            cache,
            recent,
        };
        if kernel.release_is_readable() == Some(false) {
            kernel.tables_are_good = false;
            kernel.recent = RefCell::default();
            // When the formulas are no better, the tables are the best guess after all.
            kernel.tables_are_good = kernel.release_is_readable() != Some(true);
            kernel.recent = RefCell::default();
        }
        kernel
    }

    /// How the kernel lays out its data.
    pub fn abi(&self) -> Abi {
        self.abi
    }

    /// Its byte order.
    pub fn endian(&self) -> Endian {
        self.abi.endian
    }

    /// Its word size.
    pub fn word_size(&self) -> Word {
        self.abi.word
    }

    /// What it wrote down about itself.
    pub fn info(&self) -> &VmcoreInfo {
        &self.info
    }

    /// Its physical memory, for searches that nothing else can replace.
    pub fn physical(&self) -> &'v dyn PhysMem {
        self.mem
    }

    /// What the program headers say of the memory; empty for containers without them.
    pub fn segments(&self) -> &'v [Segment] {
        self.segments
    }

    /// Compares the release in `init_uts_ns` with that of VMCOREINFO; `None` when either cannot be read.
    fn release_is_readable(&self) -> Option<bool> {
        /// `new_utsname.release` behind sysname and nodename, 65 bytes each.
        const RELEASE: u64 = 130;
        let osrelease = self.info.osrelease()?.as_bytes();
        let name = self.info.offset("uts_namespace.name").unwrap_or(0);
        let addr = self
            .info
            .symbol("init_uts_ns")
            .ok()?
            .checked_add(name)?
            .checked_add(RELEASE)?;
        let mut release = [0; 65];
        let release = release.get_mut(..osrelease.len())?;
        self.read_at(addr, release).ok()?;
        Some(release == osrelease)
    }

    /// Finds the physical address of `addr`.
    ///
    /// # Errors
    /// `NotMapped` when no way of translation knows it, `NotInDump` when a page table is missing and nothing else helps.
    pub fn translate(&self, addr: VirtAddr) -> Result<Mapping> {
        let addr = VirtAddr(self.abi.word.wrap(addr.0));
        if let Some(mapping) = self.recent.borrow().find(addr) {
            return Ok(mapping);
        }
        let walked = if self.tables_are_good {
            self.walk(addr)
        } else {
            self.by_formula(addr)
        };
        let mapping = walked.or_else(|error| {
            let formula = if self.tables_are_good {
                self.by_formula(addr)
            } else {
                self.walk(addr)
            };
            formula.or_else(|_| self.by_header(addr)).map_err(|_| error)
        })?;
        self.recent.borrow_mut().add(addr, mapping);
        Ok(mapping)
    }

    /// Translates by the kernel's own page tables.
    fn walk(&self, addr: VirtAddr) -> Result<Mapping> {
        match &self.space {
            AddressSpace::X86_64(space) => space.walk(addr, &|at| self.table_entry(at)),
            AddressSpace::Headers => Err(Error::NotMapped { addr, level: 0 }),
        }
    }

    /// Translates by the linear formulas of the architecture, up to the end of the page.
    fn by_formula(&self, addr: VirtAddr) -> Result<Mapping> {
        let paddr = match &self.space {
            AddressSpace::X86_64(space) => space.linear(addr),
            AddressSpace::Headers => None,
        };
        let paddr = paddr.ok_or(Error::NotMapped { addr, level: 0 })?;
        Ok(Mapping {
            paddr,
            len: to_page_end(paddr.0),
        })
    }

    /// Translates by the program headers, whose virtual addresses are hints at best.
    fn by_header(&self, addr: VirtAddr) -> Result<Mapping> {
        let believable = |segment: &&Segment| {
            let identity = segment
                .vaddr
                .is_some_and(|vaddr| vaddr.0 == segment.paddr.0);
            !identity || self.abi.machine == Machine::S390
        };
        let found = self.segments.iter().filter(believable).find_map(|segment| {
            let inside = addr.offset_from(segment.vaddr?)?;
            let len = segment.len.checked_sub(inside).filter(|&len| len != 0)?;
            Some(Mapping {
                paddr: segment.paddr.checked_add(inside)?,
                len,
            })
        });
        found.ok_or(Error::NotMapped { addr, level: 0 })
    }

    /// A page-table entry of 64 bits in the kernel's byte order.
    fn table_entry(&self, at: PhysAddr) -> Result<u64> {
        let mut raw = [0; 8];
        self.read_physical(at, &mut raw)?;
        Ok(self.abi.endian.u64(&raw, 0).unwrap_or_default())
    }

    /// Reads physical memory through the page cache.
    fn read_physical(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<()> {
        self.cache.borrow_mut().read(self.mem, addr, buf)
    }

    /// Fills `buf` from virtual address `addr`, wholly or not at all.
    ///
    /// # Errors
    /// As [`Kernel::translate`], and what reading the dump gave.
    pub fn read_at(&self, addr: VirtAddr, buf: &mut [u8]) -> Result<()> {
        let mut at = addr;
        let mut rest = buf;
        while !rest.is_empty() {
            let run = self.run_at(at, wide(rest.len()))?;
            let (now, later) = rest.split_at_mut(index(run.len).clamp(1, rest.len()));
            self.read_physical(run.paddr, now)?;
            at = at.wrapping_add(wide(now.len()));
            rest = later;
        }
        Ok(())
    }

    /// Translates `addr` and as much of the `want` bytes behind it as is contiguous in physical memory, so that an
    /// array in small pages still costs one read.
    fn run_at(&self, addr: VirtAddr, want: u64) -> Result<Mapping> {
        let mut run = self.translate(addr)?;
        while run.len < want {
            let next = self.translate(addr.wrapping_add(run.len));
            match next {
                Ok(next) if Some(next.paddr) == run.paddr.checked_add(run.len) => {
                    run.len = run.len.saturating_add(next.len);
                }
                // What does not go on, or not at all, is the business of the next read.
                _ => break,
            }
        }
        Ok(run)
    }

    /// The `N` bytes at `addr`.
    fn array<const N: usize>(&self, addr: VirtAddr) -> Result<[u8; N]> {
        let mut raw = [0; N];
        self.read_at(addr, &mut raw)?;
        Ok(raw)
    }

    /// The `u8` at `addr`.
    ///
    /// # Errors
    /// As [`Kernel::read_at`].
    pub fn read_u8(&self, addr: VirtAddr) -> Result<u8> {
        self.array::<1>(addr).map(|[byte]| byte)
    }

    /// The `u16` at `addr`.
    ///
    /// # Errors
    /// As [`Kernel::read_at`].
    pub fn read_u16(&self, addr: VirtAddr) -> Result<u16> {
        Ok(self
            .abi
            .endian
            .u16(&self.array::<2>(addr)?, 0)
            .unwrap_or_default())
    }

    /// The `u32` at `addr`.
    ///
    /// # Errors
    /// As [`Kernel::read_at`].
    pub fn read_u32(&self, addr: VirtAddr) -> Result<u32> {
        Ok(self
            .abi
            .endian
            .u32(&self.array::<4>(addr)?, 0)
            .unwrap_or_default())
    }

    /// The `u64` at `addr`.
    ///
    /// # Errors
    /// As [`Kernel::read_at`].
    pub fn read_u64(&self, addr: VirtAddr) -> Result<u64> {
        Ok(self
            .abi
            .endian
            .u64(&self.array::<8>(addr)?, 0)
            .unwrap_or_default())
    }

    /// The `unsigned long` at `addr`.
    ///
    /// # Errors
    /// As [`Kernel::read_at`].
    pub fn read_word(&self, addr: VirtAddr) -> Result<u64> {
        match self.abi.word {
            Word::W32 => self.read_u32(addr).map(u64::from),
            Word::W64 => self.read_u64(addr),
        }
    }

    /// The pointer at `addr`.
    ///
    /// # Errors
    /// As [`Kernel::read_at`], and `Invalid` when it is null.
    pub fn read_ptr(&self, addr: VirtAddr, what: &'static str) -> Result<VirtAddr> {
        match self.read_word(addr)? {
            0 => Err(Error::Invalid {
                what,
                at: At::Virt(addr),
                value: 0,
                why: "a null pointer",
            }),
            ptr => Ok(VirtAddr(ptr)),
        }
    }

    /// The bytes at `addr` up to a NUL, at most `max` of them.
    ///
    /// # Errors
    /// As [`Kernel::read_at`], when not even the first byte can be read.
    pub fn read_cstr(&self, addr: VirtAddr, max: usize) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        while text.len() < max {
            let at = addr.wrapping_add(wide(text.len()));
            // Up to the end of a page, so that a string at the end of what is stored does not need what follows.
            let len = to_page_end(at.0)
                .min(64)
                .min(wide(max.saturating_sub(text.len())));
            let mut piece = [0; 64];
            let piece = piece.get_mut(..index(len)).unwrap_or_default();
            match self.read_at(at, piece) {
                Err(error) if text.is_empty() => return Err(error),
                Err(_) => break,
                Ok(()) => {}
            }
            let end = piece.iter().position(|&byte| byte == 0);
            text.extend_from_slice(piece.get(..end.unwrap_or(piece.len())).unwrap_or_default());
            if end.is_some() {
                break;
            }
        }
        Ok(text)
    }
}

impl Recent {
    fn find(&self, addr: VirtAddr) -> Option<Mapping> {
        self.mappings
            .iter()
            .flatten()
            .find_map(|&(start, mapping)| {
                let inside = addr.offset_from(start)?;
                let len = mapping.len.checked_sub(inside).filter(|&len| len != 0)?;
                Some(Mapping {
                    paddr: mapping.paddr.checked_add(inside)?,
                    len,
                })
            })
    }

    fn add(&mut self, addr: VirtAddr, mapping: Mapping) {
        if let Some(slot) = self.mappings.get_mut(self.next) {
            *slot = Some((addr, mapping));
        }
        self.next = self.next.wrapping_add(1) & 7;
    }
}

/// Bytes from `addr` to the end of its 4 KiB page.
fn to_page_end(addr: u64) -> u64 {
    limits::PAGE.wrapping_sub(addr & limits::PAGE.wrapping_sub(1))
}
