//! arm (32 bits): the short-descriptor tables, or LPAE's three levels, and one linear map.
//!
//! | virtual | physical |
//! |---|---|
//! | lowmem with the kernel image, from PAGE_OFFSET | minus that, plus PHYS_OFFSET |
//! | modules below it, vmalloc above | by the tables only |
//!
//! Neither offset is exported: their difference is what a program header that holds a symbol says; else memory is taken
//! to start where the dump's does. The tables are those of the hardware; Linux keeps its own flags beside them. ARM ARM
//! (DDI 0406), "Virtual Memory System Architecture"; `arch/arm/include/asm/pgtable-2level.h` and `pgtable-3level.h`.

use alloc::vec::Vec;

use super::space::{Lowmem, memory_start, split_guess};
use super::tables::{self, Entry, Level, ReadEntry, low_bits};
use super::{Mapping, Segment};
use crate::addr::{PhysAddr, VirtAddr};
use crate::error::{Error, Result};
use crate::vmcoreinfo::VmcoreInfo;

/// The levels of short descriptors: 4096 sections of 1 MiB, 256 pages of 4 KiB each.
const SHORT: [Level; 2] = [
    Level {
        number: 2,
        shift: 20,
        bits: 12,
    },
    Level {
        number: 1,
        shift: 12,
        bits: 8,
    },
];
/// A section that is one of sixteen entries of a 16 MiB supersection.
const SUPERSECTION: u64 = 1 << 18;
/// Bits 12 to 39 of a descriptor of 64 bits.
const LPAE_ADDRESS_MASK: u64 = 0x00ff_ffff_f000;

/// The address space of a 32-bit arm kernel.
pub(super) struct Arm {
    lpae: bool,
    levels: Vec<Level>,
    lowmem: Lowmem,
    root: Option<PhysAddr>,
}

impl Arm {
    /// The `guess`-th set-up that the note and the program headers leave open, likeliest first.
    pub(super) fn new(info: &VmcoreInfo, segments: &[Segment], guess: usize) -> Option<Self> {
        let (guess, lpae) = split_guess(info.value("CONFIG_ARM_LPAE"), guess);
        // The kernel takes its own load address, so rounded at least, as the start of memory; a filter may have left
        // out the first pages.
        let phys_offset = PhysAddr(memory_start(segments).0 & !low_bits(24));
        let lowmem = Lowmem::guess(info, segments, phys_offset, guess)?;
        let top = info.symbol("swapper_pg_dir").ok();
        Some(Arm {
            lpae,
            levels: if lpae {
                tables::uniform(12, 9, 32)
            } else {
                SHORT.to_vec()
            },
            root: top.and_then(|top| lowmem.translate(top)),
            lowmem,
        })
    }

    /// Bytes of an entry.
    pub(super) fn entry_len(&self) -> u64 {
        if self.lpae { 8 } else { 4 }
    }

    /// Translates by the page tables; `read` reads one entry at a physical address.
    pub(super) fn walk(&self, addr: VirtAddr, read: ReadEntry<'_>) -> Result<Mapping> {
        let root = self.root.ok_or(Error::NotMapped { addr, level: 0 })?;
        let decode = if self.lpae { decode_lpae } else { decode_short };
        tables::walk(addr, root, &self.levels, self.entry_len(), read, &decode)
    }

    /// Translates by the formula of lowmem.
    pub(super) fn linear(&self, addr: VirtAddr) -> Option<PhysAddr> {
        self.lowmem.translate(addr)
    }
}

/// A short descriptor. Where bit 1 is set, bit 0 says "never execute": of a section since ARMv7 with PXN, of a page
/// always.
fn decode_short(level: Level, value: u64) -> Entry {
    let small = value & 2 != 0;
    match (level.number, small, value & 1 != 0) {
        (1, true, _) => Entry::Page(value & 0xffff_f000),
        (1, false, true) => Entry::Sized {
            base: value & 0xffff_0000,
            shift: 16,
        },
        (2, true, _) if value & SUPERSECTION != 0 => Entry::Sized {
            base: (value & 0xff00_0000) | ((value & 0x00f0_0000) << 12),
            shift: 24,
        },
        (2, true, _) => Entry::Page(value & 0xfff0_0000),
        (2, false, true) => Entry::Table(value & 0xffff_fc00),
        _ => Entry::Absent,
    }
}

/// A long descriptor, as on arm64.
fn decode_lpae(level: Level, value: u64) -> Entry {
    let target = value & LPAE_ADDRESS_MASK;
    match (value & 3, level.number) {
        (3, 1) | (1, 2 | 3) => Entry::Page(target),
        (3, _) => Entry::Table(target),
        _ => Entry::Absent,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tables::synthetic::{info, maps, tables};
    use super::*;

    fn memory(vaddr: Option<u64>) -> [Segment; 1] {
        [Segment {
            vaddr: vaddr.map(VirtAddr),
            paddr: PhysAddr(0x6000_0000),
            len: 0x2000_0000,
        }]
    }

    #[test]
    fn short_descriptors_have_four_page_sizes() {
        let note = info("SYMBOL(swapper_pg_dir)=c0004000\n");
        let space = Arm::new(&note, &memory(Some(0xc000_0000)), 0).unwrap();
        let root = 0x6000_4000;
        let entries = [
            (root + 4 * 0xc00, 0x6001_140e),
            (root + 4 * 0xc01, 0x6011_140f), // with PXN
            (root + 4 * 0xc02, 0x6014_140e | SUPERSECTION),
            (root + 4 * 0xf00, 0x6123_4401),
            (0x6123_4400 + 4 * 3, 0x6abc_d45f),
            (0x6123_4400 + 4 * 0x10, 0x6ab0_0001),
            (root + 4 * 0xf01, 0),
        ];
        let walk = |addr| space.walk(VirtAddr(addr), &tables(&entries));
        assert_eq!(walk(0xc000_8000), maps(0x6000_8000, 0xf_8000));
        assert_eq!(walk(0xc010_0004), maps(0x6010_0004, 0xf_fffc));
        assert_eq!(walk(0xc020_0000), maps(0x1_6020_0000, 0xe0_0000));
        assert_eq!(walk(0xf000_3010), maps(0x6abc_d010, 0xff0));
        assert_eq!(walk(0xf001_0010), maps(0x6ab0_0010, 0xfff0));
        let addr = VirtAddr(0xf010_0000);
        assert_eq!(walk(addr.0), Err(Error::NotMapped { addr, level: 2 }));
    }

    #[test]
    fn lpae_has_pages_sections_and_forty_bits() {
        let note = info("SYMBOL(swapper_pg_dir)=c0003000\nCONFIG_ARM_LPAE=y\n");
        let space = Arm::new(&note, &memory(Some(0xc000_0000)), 0).unwrap();
        let entries = [
            (0x6000_3000 + 8 * 3, 0x6000_7003),
            (0x6000_7000, 0x0040_6000_0711),
            (0x6000_7000 + 8 * 0x180, 0x6123_4003),
            (0x6123_4000 + 8 * 3, 0x0060_00ff_6abc_d74f),
        ];
        let walk = |addr| space.walk(VirtAddr(addr), &tables(&entries));
        assert_eq!(walk(0xc000_8000), maps(0x40_6000_8000, 0x1f_8000));
        assert_eq!(walk(0xf000_3010), maps(0xff_6abc_d010, 0xff0));
        assert_eq!(space.entry_len(), 8);
    }

    #[test]
    fn without_a_virtual_address_memory_starts_where_the_dump_does() {
        let note = info("SYMBOL(_stext)=80008000\nSYMBOL(swapper_pg_dir)=80004000\n");
        let guesses: Vec<_> = (0..)
            .map_while(|guess| Arm::new(&note, &memory(None), guess))
            .collect();
        let found = guesses
            .iter()
            .filter(|space| space.linear(VirtAddr(0x8000_8000)) == Some(PhysAddr(0x6000_8000)));
        assert_eq!(found.count(), 2, "with and without LPAE");
    }
}
