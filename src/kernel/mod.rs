//! The crashed kernel: virtual memory over physical memory.
//!
//! An address is translated in one of three ways, see [`Way`]: by the crashed kernel's own page tables, by the linear
//! formulas of its architecture, by what the program headers say. None is trusted blindly. Each has to find the release
//! in `init_uts_ns` that VMCOREINFO names; those that do come first, those that find something else come last. Of the
//! ways in this order, the first counts that leads to memory which the dump holds:
//!
//! | dump | what serves |
//! |---|---|
//! | whole, or filtered (filters keep page tables) | the tables |
//! | trimmed, or tables overwritten | the formulas; the tables again for what these do not cover |
//! | tables damaged in part | the formulas in the image, elsewhere the tables unless they lead out of the dump |
//! | from QEMU, whose program headers have no virtual addresses | the tables, the formulas |
//! | made with wrong virtual addresses in its program headers | the tables, the formulas |
//! | of a kernel whose VMCOREINFO was cut or is too old to say | the guess that finds the release |
//! | the same, without virtual addresses either | what follows from the place where the release is found |
//!
//! Nothing above this layer sees a physical address. Reads are copies into a caller's buffer through a small page cache;
//! memory of a crashed kernel does not change, so reading twice is right and keeping is not needed.

use alloc::vec::Vec;
use core::cell::RefCell;

use crate::addr::{PhysAddr, VirtAddr};
use crate::bytes::{Endian, Word, index, wide};
use crate::dump::{Abi, Machine, PhysMem, Segment, Vmcore};
use crate::error::{At, Error, Result};
use crate::limits;
use crate::vmcoreinfo::VmcoreInfo;

mod aarch64;
mod anchor;
mod arm;
mod cache;
mod i386;
mod loongarch;
mod mips;
mod ppc64;
mod riscv;
mod s390x;
mod space;
mod tables;
mod window;
mod x86_64;

use cache::PageCache;
use space::AddressSpace;
pub use window::Window;

/// Where a virtual address lies, and for how many bytes that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The physical address.
    pub paddr: PhysAddr,
    /// Bytes from there on that are mapped contiguously.
    pub len: u64,
}

/// A way of translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The page tables of the crashed kernel.
    Tables,
    /// The linear formulas of the architecture.
    Formula,
    /// The virtual addresses of the program headers, hints at best.
    Headers,
}

impl Way {
    const ALL: [Way; 3] = [Way::Tables, Way::Formula, Way::Headers];
}

/// The order where nothing but the formula can be true.
const FORMULA_FIRST: [Way; 3] = [Way::Formula, Way::Tables, Way::Headers];

/// What became of the release when it was read in some way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// It is what VMCOREINFO says.
    Right,
    /// It could not be read, or there is nothing to compare it with.
    Unknown,
    /// It is something else.
    Wrong,
}

/// The virtual memory of the crashed kernel.
pub struct Kernel<'v> {
    mem: &'v dyn PhysMem,
    segments: &'v [Segment],
    abi: Abi,
    info: VmcoreInfo,
    space: AddressSpace,
    /// The most credible first.
    ways: [Way; 3],
    /// The formulas find the release.
    formula_is_right: bool,
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
        let mut kernel = Kernel {
            mem,
            segments,
            abi,
            info,
            space: AddressSpace::Headers,
            ways: Way::ALL,
            formula_is_right: false,
            cache: RefCell::new(PageCache::new(limits::PAGE_CACHE_PAGES)),
            recent: RefCell::default(),
        };
        kernel.choose_space();
        kernel
    }

    /// Settles how addresses are translated: by what the note and the headers say, else by where the release is found.
    fn choose_space(&mut self) {
        let mut best = self.try_spaces(self.segments, [Verdict::Wrong; 3]);
        if !best.contains(&Verdict::Right)
            && let Some((addr, release)) = self.release()
            && let Ok(init_uts_ns) = self.info.symbol("init_uts_ns")
        {
            anchor::find(self.mem, addr, &release, &mut |place| {
                // As a program header would show it, from the symbol to the release and its NUL.
                let before = addr.0.wrapping_sub(init_uts_ns.0);
                let mut segments = Vec::with_capacity(self.segments.len().saturating_add(1));
                segments.push(Segment {
                    paddr: place.wrapping_sub(before),
                    vaddr: Some(init_uts_ns),
                    len: before.saturating_add(wide(release.len())),
                });
                segments.extend_from_slice(self.segments);
                best = self.try_spaces(&segments, best);
                best.first() == Some(&Verdict::Right)
            });
        }
        let mut judged = [(Verdict::Unknown, Way::Tables); 3];
        for (slot, found) in judged.iter_mut().zip(best.into_iter().zip(Way::ALL)) {
            *slot = found;
        }
        judged.sort_by_key(|&(verdict, _)| verdict);
        self.ways = judged.map(|(_, way)| way);
        self.formula_is_right = judged.contains(&(Verdict::Right, Way::Formula));
    }

    /// Takes the first guess at the address space that finds more than what `best` says of the present one.
    fn try_spaces(&mut self, segments: &[Segment], mut best: [Verdict; 3]) -> [Verdict; 3] {
        for guess in 0.. {
            let guessed = AddressSpace::new(self.abi, &self.info, segments, guess);
            let Some(guessed) = guessed else { break };
            let before = core::mem::replace(&mut self.space, guessed);
            let verdicts = Way::ALL.map(|way| self.verdict(way));
            // Only the release speaks for another guess than the likeliest: garbage may be damage of its page.
            let better = verdicts < best && verdicts.contains(&Verdict::Right);
            if better || matches!(before, AddressSpace::Headers) {
                best = verdicts;
            } else {
                self.space = before;
            }
            if best.first() == Some(&Verdict::Right) {
                break;
            }
        }
        best
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

    /// Compares the release in `init_uts_ns`, found in one way, with that of VMCOREINFO.
    fn verdict(&self, way: Way) -> Verdict {
        match self.release_is(way) {
            Some(true) => Verdict::Right,
            Some(false) => Verdict::Wrong,
            None => Verdict::Unknown,
        }
    }

    fn release_is(&self, way: Way) -> Option<bool> {
        let (mut at, release) = self.release()?;
        let mut found = [0; limits::RELEASE_LEN];
        let found = found.get_mut(..release.len())?;
        let mut rest = &mut *found;
        while !rest.is_empty() {
            let mapping = self.translate_by(way, at).ok()?;
            let (now, later) = rest.split_at_mut(index(mapping.len).clamp(1, rest.len()));
            self.read_physical(mapping.paddr, now).ok()?;
            at = at.wrapping_add(wide(now.len()));
            rest = later;
        }
        // Zeros are what a filter leaves of a page, and say nothing.
        let told = found.iter().any(|&byte| byte != 0);
        told.then_some(found == release)
    }

    /// Where the release stands, and what with its NUL it should be.
    fn release(&self) -> Option<(VirtAddr, Vec<u8>)> {
        /// `new_utsname.release` behind sysname and nodename, 65 bytes each.
        const RELEASE: u64 = 130;
        let mut release = self.info.osrelease()?.as_bytes().to_vec();
        release.push(0);
        let uts = self.info.symbol("init_uts_ns").ok()?;
        let name = self.info.offset("uts_namespace.name").unwrap_or(0);
        let addr = uts.checked_add(name)?.checked_add(RELEASE)?;
        (2..=limits::RELEASE_LEN)
            .contains(&release.len())
            .then_some((addr, release))
    }

    /// Finds the physical address of `addr`.
    ///
    /// # Errors
    /// `NotMapped` when no way of translation knows it, `NotInDump` when a page table is missing and nothing else helps.
    pub fn translate(&self, addr: VirtAddr) -> Result<Mapping> {
        let addr = VirtAddr(self.abi.word.wrap(addr.0));
        let addr = self.space.untagged(addr);
        if let Some(mapping) = self.recent.borrow().find(addr) {
            return Ok(mapping);
        }
        let sure = self.formula_is_right && self.space.is_linear(addr);
        let ways = if sure { &FORMULA_FIRST } else { &self.ways };
        let mut answers = ways.iter().map(|&way| self.translate_by(way, addr));
        let unmapped = Err(Error::NotMapped { addr, level: 0 });
        let mut chosen = answers.next().unwrap_or(unmapped);
        for other in answers {
            if chosen.is_ok_and(|mapping| self.is_stored(mapping.paddr)) {
                break;
            }
            // A way that leads nowhere still tells why; one that leads out of the dump is the best so far.
            if other.is_ok_and(|mapping| chosen.is_err() || self.is_stored(mapping.paddr)) {
                chosen = other;
            }
        }
        let mapping = chosen?;
        self.recent.borrow_mut().add(addr, mapping);
        Ok(mapping)
    }

    /// True when the dump has the byte at `paddr`.
    fn is_stored(&self, paddr: PhysAddr) -> bool {
        let stored = self.mem.next_stored(paddr);
        stored.is_some_and(|range| range.start == paddr)
    }

    /// Translates in one way.
    fn translate_by(&self, way: Way, addr: VirtAddr) -> Result<Mapping> {
        match way {
            Way::Tables => self.space.walk(addr, &|at| self.table_entry(at)),
            Way::Formula => self.by_formula(addr),
            Way::Headers => self.by_header(addr),
        }
    }

    /// Translates by the linear formulas of the architecture, up to the end of the page.
    fn by_formula(&self, addr: VirtAddr) -> Result<Mapping> {
        let paddr = self.space.linear(addr);
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

    /// The page-table entry at `at`.
    fn table_entry(&self, at: PhysAddr) -> Result<u64> {
        let (len, endian) = self.space.entry_format(self.abi.endian);
        let mut raw = [0; 8];
        let raw = raw.get_mut(..index(len)).unwrap_or_default();
        self.read_physical(at, raw)?;
        let entry = match raw.len() {
            4 => endian.u32(raw, 0).map(u64::from),
            _ => endian.u64(raw, 0),
        };
        Ok(entry.unwrap_or_default())
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
pub(crate) fn to_page_end(addr: u64) -> u64 {
    limits::PAGE.wrapping_sub(addr & limits::PAGE.wrapping_sub(1))
}

#[cfg(test)]
mod tests;
