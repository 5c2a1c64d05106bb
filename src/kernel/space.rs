//! The address spaces of all architectures behind one name, and what several of them share.
//!
//! | in the dump | architecture | file |
//! |---|---|---|
//! | `EM_X86_64` | x86_64 | `x86_64` |
//! | `EM_386` | i386 | `i386` |
//! | `EM_AARCH64`, `EM_ARM` | arm64, arm | `aarch64`, `arm` |
//! | `EM_PPC64` | ppc64, ppc64le | `ppc64` |
//! | `EM_PPC` | powerpc of 32 bits | a linear map alone |
//! | `EM_RISCV`, `EM_S390`, `EM_LOONGARCH`, `EM_MIPS` | ... | `riscv`, `s390x`, `loongarch`, `mips` |
//!
//! Where VMCOREINFO leaves something open (an old kernel, or a note that was cut), an architecture has several guesses;
//! which one is right shows when the release is read through it.

use super::aarch64::Aarch64;
use super::arm::Arm;
use super::i386::I386;
use super::loongarch::Loongarch;
use super::ppc64::Ppc64;
use super::riscv::Riscv;
use super::s390x::S390x;
use super::tables::ReadEntry;
use super::x86_64::X86_64;
use super::{Mapping, mips};
use crate::addr::{PhysAddr, VirtAddr};
use crate::bytes::{Endian, Word};
use crate::dump::{Abi, Machine, Segment};
use crate::error::{Error, Result};
use crate::vmcoreinfo::VmcoreInfo;

/// How an architecture finds physical addresses: a closed set, hence no trait.
pub(super) enum AddressSpace {
    X86_64(X86_64),
    I386(I386),
    Aarch64(Aarch64),
    Arm(Arm),
    Ppc64(Ppc64),
    Riscv(Riscv),
    S390x(S390x),
    Loongarch(Loongarch),
    Mips(Word),
    /// An architecture of 32 bits of which only the linear map is known.
    Lowmem(Lowmem),
    /// An architecture without a translation of its own: only program headers serve.
    Headers,
}

/// No kernel image is larger; beyond are modules or vmalloc.
pub(super) const KERNEL_IMAGE_MAX: u64 = 128 << 20;
/// Where the linear map of 32 bits starts, by the memory splits a kernel can be configured for, the usual one first.
const PAGE_OFFSETS_32: [u64; 5] = [
    0xc000_0000,
    0x8000_0000,
    0x4000_0000,
    0xb000_0000,
    0x7800_0000,
];

impl AddressSpace {
    /// The `guess`-th address space that fits the note and the program headers, likeliest first; `None` after the last.
    pub(super) fn new(
        abi: Abi,
        info: &VmcoreInfo,
        segments: &[Segment],
        guess: usize,
    ) -> Option<Self> {
        let only = (guess == 0).then_some(());
        Some(match abi.machine {
            Machine::X86_64 => AddressSpace::X86_64(X86_64::new(info, segments, guess)?),
            Machine::I386 => AddressSpace::I386(I386::new(info, segments, guess)?),
            Machine::Aarch64 => AddressSpace::Aarch64(Aarch64::new(info, segments, guess)?),
            Machine::Arm => AddressSpace::Arm(Arm::new(info, segments, guess)?),
            Machine::Riscv => AddressSpace::Riscv(Riscv::new(info, segments, abi.word, guess)?),
            Machine::Ppc => {
                AddressSpace::Lowmem(Lowmem::guess(info, segments, PhysAddr(0), guess)?)
            }
            Machine::Ppc64 => only.map(|()| AddressSpace::Ppc64(Ppc64::new(info, segments)))?,
            Machine::S390 => only.map(|()| AddressSpace::S390x(S390x::new(info, segments)))?,
            Machine::Loongarch => {
                only.map(|()| AddressSpace::Loongarch(Loongarch::new(info, abi.word)))?
            }
            Machine::Mips => only.map(|()| AddressSpace::Mips(abi.word))?,
            Machine::Other(_) => only.map(|()| AddressSpace::Headers)?,
        })
    }

    /// The address that a pointer means, without what an architecture stores in its unused bits.
    pub(super) fn untagged(&self, addr: VirtAddr) -> VirtAddr {
        match self {
            AddressSpace::Aarch64(space) => space.untagged(addr),
            _ => addr,
        }
    }

    /// Bytes of a page-table entry and their order in a kernel of byte order `endian`.
    pub(super) fn entry_format(&self, endian: Endian) -> (u64, Endian) {
        match self {
            AddressSpace::I386(space) => (space.entry_len(), endian),
            AddressSpace::Arm(space) => (space.entry_len(), endian),
            AddressSpace::Riscv(space) => (space.entry_len(), endian),
            AddressSpace::Ppc64(_) => (8, Endian::Big),
            _ => (8, endian),
        }
    }

    /// Translates by the kernel's page tables; `read` reads one entry at a physical address.
    pub(super) fn walk(&self, addr: VirtAddr, read: ReadEntry<'_>) -> Result<Mapping> {
        match self {
            AddressSpace::X86_64(space) => space.walk(addr, read),
            AddressSpace::I386(space) => space.walk(addr, read),
            AddressSpace::Aarch64(space) => space.walk(addr, read),
            AddressSpace::Arm(space) => space.walk(addr, read),
            AddressSpace::Ppc64(space) => space.walk(addr, read),
            AddressSpace::Riscv(space) => space.walk(addr, read),
            AddressSpace::S390x(space) => space.walk(addr, read),
            AddressSpace::Loongarch(space) => space.walk(addr, read),
            AddressSpace::Mips(_) | AddressSpace::Lowmem(_) | AddressSpace::Headers => {
                Err(Error::NotMapped { addr, level: 0 })
            }
        }
    }

    /// True where no kernel maps anything in another way than the formula says, so that tables which disagree are
    /// damaged. (Elsewhere vmalloc may lie beside the image, or a map start where only the tables know.)
    pub(super) fn is_linear(&self, addr: VirtAddr) -> bool {
        match self {
            AddressSpace::X86_64(space) => space.is_linear(addr),
            AddressSpace::Riscv(space) => space.is_linear(addr),
            AddressSpace::Ppc64(_) | AddressSpace::S390x(_) => self.linear(addr).is_some(),
            _ => false,
        }
    }

    /// Translates by the linear formulas.
    pub(super) fn linear(&self, addr: VirtAddr) -> Option<PhysAddr> {
        match self {
            AddressSpace::X86_64(space) => space.linear(addr),
            AddressSpace::I386(space) => space.linear(addr),
            AddressSpace::Aarch64(space) => space.linear(addr),
            AddressSpace::Arm(space) => space.linear(addr),
            AddressSpace::Ppc64(space) => space.linear(addr),
            AddressSpace::Riscv(space) => space.linear(addr),
            AddressSpace::S390x(space) => space.linear(addr),
            AddressSpace::Loongarch(space) => space.linear(addr),
            AddressSpace::Mips(word) => mips::linear(addr, *word),
            AddressSpace::Lowmem(lowmem) => lowmem.translate(addr),
            AddressSpace::Headers => None,
        }
    }
}

/// The linear map of a 32-bit kernel, with its image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lowmem {
    start: u64,
    /// The first address above.
    end: u64,
    phys: PhysAddr,
}

impl Lowmem {
    /// The `guess`-th map of memory that starts at `phys`: as a program header shows it that holds a symbol, else one
    /// for each memory split.
    pub(super) fn guess(
        info: &VmcoreInfo,
        segments: &[Segment],
        phys: PhysAddr,
        guess: usize,
    ) -> Option<Self> {
        /// What every kernel keeps free at the top, for vmalloc and fixed mappings.
        const HIGHEST_END: u64 = 0xf800_0000;
        let start = match image_offset(info, segments) {
            Some(offset) => (guess == 0).then(|| Word::W32.wrap(phys.0.wrapping_add(offset)))?,
            None => *PAGE_OFFSETS_32.get(guess)?,
        };
        // Where memory ends, the map does; vmalloc follows.
        let memory_len = memory_end(segments).0.saturating_sub(phys.0);
        let vmalloc_start = info.number("VMALLOC_START").unwrap_or(HIGHEST_END);
        let end = start.saturating_add(memory_len).min(vmalloc_start);
        Some(Lowmem { start, end, phys })
    }

    pub(super) fn translate(&self, addr: VirtAddr) -> Option<PhysAddr> {
        let inside = addr.0.checked_sub(self.start)?;
        (addr.0 < self.end).then_some(self.phys.wrapping_add(inside))
    }
}

/// Divides a guess in two where a `CONFIG_` key is not in the note, which may have been cut: the rest of the guess, and
/// whether the option is taken to be set.
pub(super) fn split_guess(config: Option<&str>, guess: usize) -> (usize, bool) {
    match config {
        Some(value) => (guess, value == "y"),
        None => (guess >> 1, guess & 1 == 1),
    }
}

/// What to subtract, modulo 2^64, from an address in the kernel image: `p_vaddr` less `p_paddr` of a program header
/// that holds one of the image's symbols. Other headers show other maps, or nothing that is true.
pub(super) fn image_offset(info: &VmcoreInfo, segments: &[Segment]) -> Option<u64> {
    const SYMBOLS: [&str; 5] = [
        "_stext",
        "init_uts_ns",
        "swapper_pg_dir",
        "prb",
        "node_online_map",
    ];
    let holding = |symbol: VirtAddr| {
        segments.iter().find_map(|segment| {
            let vaddr = segment.vaddr.filter(|vaddr| vaddr.0 != segment.paddr.0)?;
            let inside = symbol.offset_from(vaddr)?;
            (inside < segment.len).then_some(vaddr.0.wrapping_sub(segment.paddr.0))
        })
    };
    let mut symbols = SYMBOLS.iter().filter_map(|name| info.symbol(name).ok());
    symbols.find_map(holding)
}

/// Where the dump's memory starts.
pub(super) fn memory_start(segments: &[Segment]) -> PhysAddr {
    let starts = segments.iter().map(|segment| segment.paddr);
    starts.min().unwrap_or(PhysAddr(0))
}

/// The first address above the dump's memory, the highest there is where no header tells.
pub(super) fn memory_end(segments: &[Segment]) -> PhysAddr {
    let ends = segments
        .iter()
        .map(|segment| PhysAddr(segment.paddr.0.saturating_add(segment.len)));
    ends.max().unwrap_or(PhysAddr(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::tables::synthetic::info;
    use super::*;

    fn segment(vaddr: u64, paddr: u64, len: u64) -> Segment {
        Segment {
            vaddr: Some(VirtAddr(vaddr)),
            paddr: PhysAddr(paddr),
            len,
        }
    }

    #[test]
    fn only_a_header_that_holds_a_symbol_tells_the_offset_of_the_image() {
        let note = info("SYMBOL(init_uts_ns)=ffffffff81d69658\n");
        let headers = [
            segment(0xff60_0000_0000_0000, 0x8000_0000, 0x1000_0000),
            segment(0xffff_ffff_81d6_9000, 0xffff_ffff_81d6_9000, 0x1000),
            segment(0xffff_ffff_81d6_9000, 0x81f6_9000, 0x1000),
        ];
        assert_eq!(
            image_offset(&note, &headers),
            Some(0xffff_ffff_81d6_9000 - 0x81f6_9000)
        );
        assert_eq!(image_offset(&note, &headers[..2]), None);
    }

    #[test]
    fn every_machine_has_a_last_guess() {
        for e_machine in [3, 8, 20, 21, 22, 40, 62, 183, 243, 258, 0xfff] {
            let machine = Machine::from_elf(e_machine);
            for word in [Word::W32, Word::W64] {
                let abi = Abi {
                    machine,
                    endian: Endian::Big,
                    word: machine.word(word),
                };
                let guesses = (0..)
                    .map_while(|guess| AddressSpace::new(abi, &info("A=b\n"), &[], guess))
                    .count();
                assert!((1..=10).contains(&guesses), "{machine:?}");
            }
        }
    }
}
