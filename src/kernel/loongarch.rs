//! loongarch: windows onto all of memory, and tables for the rest.
//!
//! | virtual | physical |
//! |---|---|
//! | direct-mapped windows 0x8000..., 0x9000... (with the kernel image), 0xa000... | the lower 48 bits |
//! | vmalloc, modules, from 0xffff800000000000 | by the tables only |
//! | 32 bits: windows 0x80000000 and 0xa0000000 | the lower 29 bits |
//!
//! The tables have as many levels as 47 bits take: three with the usual pages of 16 KiB, four with 4 KiB. Their upper
//! entries hold addresses in a window. LoongArch reference manual, volume 1; `arch/loongarch/include/asm/addrspace.h`,
//! `pgtable-bits.h`.

use alloc::vec::Vec;

use super::Mapping;
use super::tables::{self, Entry, Level, ReadEntry, low_bits};
use crate::addr::{PhysAddr, VirtAddr};
use crate::bytes::Word;
use crate::error::{Error, Result};
use crate::vmcoreinfo::VmcoreInfo;

/// Bits of a virtual address in vmalloc's range.
const WIDTH: u32 = 47;
/// Bits of a physical address.
const PHYS_BITS: u32 = 48;
/// The entry maps a page.
const VALID: u64 = 1;
/// An upper entry maps a large page.
const HUGE: u64 = 1 << 6;
/// The page is there, though perhaps not to be touched.
const PRESENT: u64 = 1 << 7;

/// The address space of a loongarch kernel.
pub(super) struct Loongarch {
    word: Word,
    page_shift: u32,
    levels: Vec<Level>,
    root: Option<PhysAddr>,
}

impl Loongarch {
    pub(super) fn new(info: &VmcoreInfo, word: Word) -> Self {
        let page_shift = info.page_size().trailing_zeros();
        let top = info.symbol("swapper_pg_dir").ok();
        let bits = page_shift.saturating_sub(3);
        let count = WIDTH.saturating_sub(page_shift).div_ceil(bits.max(1));
        // The top table is as large as the others, and bits that are all ones pick in it.
        let resolved = page_shift.saturating_add(bits.saturating_mul(count));
        let mut space = Loongarch {
            word,
            page_shift,
            levels: tables::uniform(page_shift, bits, resolved),
            root: None,
        };
        space.root = top.and_then(|top| space.linear(top));
        space
    }

    /// Translates by the page tables; `read` reads one entry at a physical address.
    pub(super) fn walk(&self, addr: VirtAddr, read: ReadEntry<'_>) -> Result<Mapping> {
        let unmapped = Error::NotMapped { addr, level: 0 };
        let root = self.root.ok_or(unmapped)?;
        if self.word == Word::W32 || addr.0 | low_bits(WIDTH) != u64::MAX {
            return Err(unmapped);
        }
        let decode = |level: Level, value| self.decode(level, value);
        tables::walk(addr, root, &self.levels, 8, read, &decode)
    }

    fn decode(&self, level: Level, value: u64) -> Entry {
        let target = value & low_bits(PHYS_BITS) & !low_bits(12);
        if level.number == 1 || value & HUGE != 0 {
            if value & (VALID | PRESENT) == 0 {
                return Entry::Absent;
            }
            return Entry::Page(target & !low_bits(self.page_shift));
        }
        // Where nothing is mapped, upper entries point to an empty table; zero is no table.
        if target == 0 {
            Entry::Absent
        } else {
            Entry::Table(target)
        }
    }

    /// Translates by the formula of the windows.
    pub(super) fn linear(&self, addr: VirtAddr) -> Option<PhysAddr> {
        match self.word {
            Word::W64 => {
                matches!(addr.0 >> 60, 0x8..=0xa).then_some(PhysAddr(addr.0 & low_bits(PHYS_BITS)))
            }
            Word::W32 => {
                matches!(addr.0 >> 28, 0x8..=0xb).then_some(PhysAddr(addr.0 & 0x1fff_ffff))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tables::synthetic::{info, maps, tables};
    use super::*;

    #[test]
    fn three_levels_of_16_kib_hold_addresses_in_a_window() {
        let note = info("PAGESIZE=16384\nSYMBOL(swapper_pg_dir)=9000000001600000\n");
        let space = Loongarch::new(&note, Word::W64);
        let entries = [
            (0x160_0000 + 8 * 0x400, 0x9000_0000_0170_0000),
            (0x160_0000 + 8 * 0x401, 0),
            (0x170_0000, 0x9000_0000_0180_0000),
            (0x170_0000 + 8, 0x0400_00d3),
            (0x180_0000 + 8 * 2, 0x6000_0000_0abc_c1d3),
            (0x180_0000 + 8 * 3, 0x8),
        ];
        let walk = |addr| space.walk(VirtAddr(addr), &tables(&entries));
        assert_eq!(walk(0xffff_c000_0000_8010), maps(0x0abc_c010, 0x3ff0));
        assert_eq!(walk(0xffff_c000_0200_0010), maps(0x400_0010, 0x1ff_fff0));
        for (addr, level) in [(0xffff_c000_0000_c000, 1), (0xffff_c010_0000_0000, 3)] {
            let addr = VirtAddr(addr);
            assert_eq!(walk(addr.0), Err(Error::NotMapped { addr, level }));
        }
        assert!(walk(0x1000).is_err(), "a user address");
    }

    #[test]
    fn the_windows_show_all_memory() {
        let space = Loongarch::new(&info("PAGESIZE=16384\n"), Word::W64);
        for window in [0x8000, 0x9000, 0xa000_u64] {
            let addr = VirtAddr(window << 48 | 0x8_1234_5678);
            assert_eq!(space.linear(addr), Some(PhysAddr(0x8_1234_5678)));
        }
        assert_eq!(space.linear(VirtAddr(0xffff_8000_0000_0000)), None);
        let small = Loongarch::new(&info("PAGESIZE=16384\n"), Word::W32);
        assert_eq!(
            small.linear(VirtAddr(0xa123_4567)),
            Some(PhysAddr(0x0123_4567))
        );
    }
}
