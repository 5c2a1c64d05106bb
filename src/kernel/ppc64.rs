//! ppc64, either byte order: one linear map, and tables of two shapes.
//!
//! | virtual | physical |
//! |---|---|
//! | linear map with the kernel image, from 0xc000000000000000 | minus that |
//! | vmalloc, modules, from 0xc008000000000000 (0xd000000000000000 with the hash MMU) | by the tables only |
//!
//! Entries are big-endian even in a little-endian kernel. POWER9 and later walk radix tables, which hold the linear map
//! too. With the hash MMU (POWER8 and before, or by choice) the kernel keeps tables of its own, of another shape, and
//! the linear map is not in them; so the first entry of the root tells which they are. Of the shapes that the hash
//! MMU's tables had, the one since 4.17 is known here. Power ISA book III, "Radix Tree Translation";
//! `arch/powerpc/include/asm/book3s/64/radix.h`, `hash-4k.h`, `hash-64k.h`.

use super::space::memory_end;
use super::tables::{self, Entry, Level, ReadEntry, low_bits};
use super::{Mapping, Segment};
use crate::addr::{PhysAddr, VirtAddr};
use crate::error::{Error, Result};
use crate::vmcoreinfo::VmcoreInfo;

/// `PAGE_OFFSET`.
const LINEAR_MAP: u64 = 0xc000_0000_0000_0000;
/// The first address above the linear map.
const LINEAR_MAP_END: u64 = 0xc008_0000_0000_0000;
const PRESENT: u64 = 1 << 63;
/// The entry maps a page rather than pointing to the next table.
const LEAF: u64 = 1 << 62;
/// Bits 8 to 59 of an entry that points to a table.
const TABLE_MASK: u64 = 0x0fff_ffff_ffff_ff00;
/// Bits 12 to 52 of an entry that maps a page.
const PAGE_MASK: u64 = 0x001f_ffff_ffff_f000;

const fn level(number: u8, shift: u32, bits: u32) -> Level {
    Level {
        number,
        shift,
        bits,
    }
}

/// The hash MMU's tables with pages of 4 and of 64 KiB.
const HASH_4K: [Level; 4] = [
    level(4, 37, 9),
    level(3, 28, 9),
    level(2, 21, 7),
    level(1, 12, 9),
];
const HASH_64K: [Level; 4] = [
    level(4, 44, 8),
    level(3, 34, 10),
    level(2, 24, 10),
    level(1, 16, 8),
];

/// The address space of a ppc64 kernel.
pub(super) struct Ppc64 {
    radix: [Level; 4],
    hash: [Level; 4],
    root: Option<PhysAddr>,
    linear_end: u64,
}

impl Ppc64 {
    pub(super) fn new(info: &VmcoreInfo, segments: &[Segment]) -> Self {
        let page_shift = info.page_size().trailing_zeros();
        let vmalloc_start = info.number("VMALLOC_START").unwrap_or(LINEAR_MAP_END);
        let memory_end = memory_end(segments).0.saturating_add(LINEAR_MAP);
        let mut space = Ppc64 {
            radix: [
                level(4, 39, 13),
                level(3, 30, 9),
                level(2, 21, 9),
                level(1, page_shift, 21_u32.saturating_sub(page_shift)),
            ],
            hash: if page_shift == 16 { HASH_64K } else { HASH_4K },
            root: None,
            linear_end: vmalloc_start.min(memory_end).min(LINEAR_MAP_END),
        };
        let top = info.symbol("swapper_pg_dir").ok();
        space.root = top.and_then(|top| space.linear(top));
        space
    }

    /// Translates by the page tables; `read` reads one entry, always big-endian, at a physical address.
    pub(super) fn walk(&self, addr: VirtAddr, read: ReadEntry<'_>) -> Result<Mapping> {
        let root = self.root.ok_or(Error::NotMapped { addr, level: 0 })?;
        // The upper two bits name the quadrant; the tables resolve 52.
        if addr.0 & !low_bits(52) != LINEAR_MAP {
            return Err(Error::NotMapped { addr, level: 0 });
        }
        // The start of the linear map.
        let is_radix = read(root)? & PRESENT != 0;
        let levels = if is_radix { &self.radix } else { &self.hash };
        let decode = |level: Level, value: u64| match decode(level, value) {
            Entry::Absent if !is_radix && level.number > 1 && value & TABLE_MASK != 0 => {
                Entry::Table(value & TABLE_MASK)
            }
            entry => entry,
        };
        tables::walk(addr, root, levels, 8, read, &decode)
    }

    /// Translates by the formula of the linear map.
    pub(super) fn linear(&self, addr: VirtAddr) -> Option<PhysAddr> {
        let inside = addr.offset_from(VirtAddr(LINEAR_MAP))?;
        (addr.0 < self.linear_end).then_some(PhysAddr(inside))
    }
}

/// A radix entry. With the hash MMU, those that point to tables may be bare addresses.
fn decode(level: Level, value: u64) -> Entry {
    if value & PRESENT == 0 {
        Entry::Absent
    } else if value & LEAF != 0 {
        Entry::Page(value & PAGE_MASK)
    } else if level.number == 1 {
        Entry::Absent
    } else {
        Entry::Table(value & TABLE_MASK)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tables::synthetic::{info, maps, tables};
    use super::*;

    #[test]
    fn radix_tables_of_both_page_sizes_are_walked() {
        let entries = [
            (0x160_0000, 0x8000_0000_0fc0_0009),
            (0x160_0000 + 8 * 0x1000, 0x8000_0000_0ff0_0009),
            (0x0ff0_0000, 0x8000_0000_0fe0_0009),
            (0x0fe0_0000, 0x8000_0000_0fd0_0005),
            (0x0fe0_0000 + 8, 0xc000_0000_0040_018e),
            (0x0fd0_0000 + 8, 0xc000_0000_0abc_018e),
            (0x0fd0_0000 + 16, 0),
        ];
        let of = |page_size| {
            let note = info(
                &(alloc::format!(
                    "PAGESIZE={page_size}\nSYMBOL(swapper_pg_dir)=c000000001600000\n"
                )),
            );
            Ppc64::new(&note, &[])
        };
        let walk = |page_size, addr| of(page_size).walk(VirtAddr(addr), &tables(&entries));
        assert_eq!(
            walk(65536, 0xc008_0000_0001_0010),
            maps(0x0abc_0010, 0xfff0)
        );
        assert_eq!(walk(4096, 0xc008_0000_0000_1010), maps(0x0abc_0010, 0xff0));
        assert_eq!(
            walk(65536, 0xc008_0000_0020_0010),
            maps(0x40_0010, 0x1f_fff0),
            "2 MiB"
        );
        let addr = VirtAddr(0xc008_0000_0000_2000);
        assert_eq!(walk(4096, addr.0), Err(Error::NotMapped { addr, level: 1 }));
        assert!(
            walk(4096, 0xd008_0000_0000_0000).is_err(),
            "the hash MMU's vmalloc"
        );
    }

    #[test]
    fn the_hash_mmu_has_tables_of_another_shape() {
        let note = info("PAGESIZE=65536\nSYMBOL(swapper_pg_dir)=c000000001600000\n");
        let space = Ppc64::new(&note, &[]);
        let entries = [
            (0x160_0000, 0),
            (0x160_0000 + 8 * 0x80, 0x8000_0000_0ff0_0000),
            (0x160_0000 + 8 * 0x81, 0),
            (0x0ff0_0000, 0x0fe0_0000),
            (0x0fe0_0000, 0x0fd0_0000),
            (0x0fd0_0000 + 8, 0xc000_0000_0abc_018e),
        ];
        let walk = |addr| space.walk(VirtAddr(addr), &tables(&entries));
        assert_eq!(walk(0xc008_0000_0001_0010), maps(0x0abc_0010, 0xfff0));
        let addr = VirtAddr(0xc008_1000_0000_0000);
        assert_eq!(walk(addr.0), Err(Error::NotMapped { addr, level: 4 }));
    }

    #[test]
    fn the_linear_map_ends_with_memory_and_where_vmalloc_starts() {
        let space = Ppc64::new(&info("PAGESIZE=65536\n"), &[]);
        assert_eq!(
            space.linear(VirtAddr(0xc000_0000_0160_0000)),
            Some(PhysAddr(0x160_0000))
        );
        assert_eq!(space.linear(VirtAddr(0xc008_0000_0000_0000)), None);
        assert_eq!(space.linear(VirtAddr(0x1000)), None);
        let memory = [Segment {
            vaddr: None,
            paddr: PhysAddr(0),
            len: 1 << 30,
        }];
        let space = Ppc64::new(&info("PAGESIZE=4096\n"), &memory);
        assert_eq!(space.linear(VirtAddr(0xc000_3d00_0000_0000)), None);
    }
}
