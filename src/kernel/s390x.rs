//! s390x: two to five levels of tables, and memory at its own address.
//!
//! | virtual | physical |
//! |---|---|
//! | memory | the same; since 6.10 minus `IDENTITYBASE` |
//! | kernel image, since 6.10 apart from it | minus `KERNELOFFSET`, plus `KERNELOFFPHYS` |
//! | `SAMODE31` to `EAMODE31` (code for 31-bit mode), lowcore | the same |
//! | vmalloc, modules | by the tables only |
//!
//! How many levels there are is written in the first entry of the root. Everything is big-endian. z/Architecture
//! Principles of Operation, "Dynamic Address Translation"; `arch/s390/include/asm/pgtable.h`.

use super::space::{KERNEL_IMAGE_MAX, image_offset, memory_end};
use super::tables::{self, Entry, Level, ReadEntry, low_bits};
use super::{Mapping, Segment};
use crate::addr::{PhysAddr, VirtAddr};
use crate::error::{Error, Result};
use crate::vmcoreinfo::VmcoreInfo;

const fn level(number: u8, shift: u32, bits: u32) -> Level {
    Level {
        number,
        shift,
        bits,
    }
}

/// Region-first, -second and -third tables, segment tables, page tables.
const LEVELS: [Level; 5] = [
    level(5, 53, 11),
    level(4, 42, 11),
    level(3, 31, 11),
    level(2, 20, 11),
    level(1, 12, 8),
];
/// What an image has before `_stext`: its start-up code.
const BEFORE_STEXT: u64 = 1 << 20;
/// A region or segment that is not mapped.
const INVALID: u64 = 0x20;
/// In a page-table entry: the page is not mapped.
const PAGE_INVALID: u64 = 0x400;
/// In a segment or region-third entry: format control, the entry maps a page of 1 MiB or 2 GiB.
const LARGE: u64 = 0x400;

/// The address space of an s390x kernel.
pub(super) struct S390x {
    root: Option<PhysAddr>,
    identity_base: u64,
    /// Virtual and physical start of the image, where it does not lie in the identity map.
    image: Option<(u64, u64)>,
    amode31: (u64, u64),
    /// The first address above the identity map.
    identity_end: u64,
}

impl S390x {
    pub(super) fn new(info: &VmcoreInfo, segments: &[Segment]) -> Self {
        let identity_base = info.hex("IDENTITYBASE").unwrap_or(0);
        let memory_end = memory_end(segments).0.saturating_add(identity_base);
        let vmalloc_start = info.number("VMALLOC_START").unwrap_or(u64::MAX);
        let by_note = info
            .hex("KERNELOFFSET")
            .ok()
            .zip(info.hex("KERNELOFFPHYS").ok());
        let by_header = || {
            let offset = image_offset(info, segments)?;
            let start = info.symbol("_stext").ok()?.0.wrapping_sub(BEFORE_STEXT);
            Some((start, start.wrapping_sub(offset)))
        };
        let image = by_note.or_else(by_header);
        let mut space = S390x {
            root: None,
            identity_base,
            image,
            amode31: (
                info.hex("SAMODE31").unwrap_or(0),
                info.hex("EAMODE31").unwrap_or(0),
            ),
            identity_end: memory_end.min(vmalloc_start),
        };
        let top = info.symbol("swapper_pg_dir").ok();
        space.root = top.and_then(|top| space.linear(top));
        space
    }

    /// Translates by the page tables; `read` reads one entry at a physical address.
    pub(super) fn walk(&self, addr: VirtAddr, read: ReadEntry<'_>) -> Result<Mapping> {
        let unmapped = Error::NotMapped { addr, level: 0 };
        let root = self.root.ok_or(unmapped)?;
        let skip = match (read(root)? >> 2) & 3 {
            3 => 0,
            2 => 1,
            1 => 2,
            _ => 3,
        };
        let levels = LEVELS.get(skip..).unwrap_or_default();
        let top = levels.first().ok_or(unmapped)?;
        if addr.0 & !low_bits(top.shift.saturating_add(top.bits)) != 0 {
            return Err(unmapped);
        }
        tables::walk(addr, root, levels, 8, read, &decode)
    }

    /// Translates by the formulas of the image and of the identity map.
    pub(super) fn linear(&self, addr: VirtAddr) -> Option<PhysAddr> {
        if (self.amode31.0..self.amode31.1).contains(&addr.0) {
            return Some(PhysAddr(addr.0));
        }
        if let Some((virt, phys)) = self.image
            && let Some(inside) = addr.0.checked_sub(virt)
            && inside < KERNEL_IMAGE_MAX
        {
            return Some(PhysAddr(inside.wrapping_add(phys)));
        }
        let inside = addr.0.checked_sub(self.identity_base)?;
        (addr.0 < self.identity_end).then_some(PhysAddr(inside))
    }
}

fn decode(level: Level, value: u64) -> Entry {
    match level.number {
        1 if value & PAGE_INVALID != 0 => Entry::Absent,
        1 => Entry::Page(value & !low_bits(12)),
        _ if value & INVALID != 0 => Entry::Absent,
        2 | 3 if value & LARGE != 0 => Entry::Page(value & !low_bits(12)),
        // A page table has 256 entries, half a page.
        2 => Entry::Table(value & !low_bits(11)),
        _ => Entry::Table(value & !low_bits(12)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tables::synthetic::{info, maps, tables};
    use super::*;

    #[test]
    fn the_first_entry_of_the_root_tells_the_levels() {
        let space = S390x::new(&info("SYMBOL(swapper_pg_dir)=1000000\n"), &[]);
        // A region-third root: three levels.
        let entries = [
            (0x100_0000, 0x200_0007),
            (0x100_0000 + 8, 0x8000_0407 | 1 << 42), // 2 GiB
            (0x200_0000, 0x0030_0800),
            (0x200_0000 + 8, 0x0040_0000 | LARGE),
            (0x200_0000 + 16, INVALID),
            (0x30_0800 + 8 * 3, 0x0abc_d000),
            (0x30_0800 + 8 * 4, PAGE_INVALID),
        ];
        let walk = |addr| space.walk(VirtAddr(addr), &tables(&entries));
        assert_eq!(walk(0x3010), maps(0x0abc_d010, 0xff0));
        assert_eq!(walk(0x10_0010), maps(0x40_0010, 0xf_fff0));
        assert_eq!(walk(0x8000_0010), maps(0x400_8000_0010, 0x7fff_fff0));
        let unmapped = |addr, level| {
            let addr = VirtAddr(addr);
            assert_eq!(walk(addr.0), Err(Error::NotMapped { addr, level }));
        };
        unmapped(0x4000, 1);
        unmapped(0x20_0000, 2);
        unmapped(1 << 42, 0);
        // A segment-table root and a region-first root.
        let two = [(0x100_0000, 0x30_0800), (0x30_0808, 0x5000)];
        let of = |entries: &[(u64, u64)], addr| space.walk(VirtAddr(addr), &tables(entries));
        assert_eq!(of(&two, 0x1010), maps(0x5010, 0xff0));
        let five = [
            (0x100_0000, 0x200_000f),
            (0x200_0000, 0x201_000b),
            (0x201_0000, 0x202_0007),
            (0x202_0000, 0x0040_0000 | LARGE),
        ];
        assert_eq!(of(&five, 0x1010), maps(0x40_1010, 0xf_eff0));
    }

    #[test]
    fn since_6_10_the_image_has_its_own_place() {
        let note = info(
            "IDENTITYBASE=0\nKERNELOFFSET=3ffe0000000\nKERNELOFFPHYS=2000000\nSAMODE31=7f0000\nEAMODE31=7f8000\n\
             NUMBER(VMALLOC_START)=0x3df00000000\nSYMBOL(swapper_pg_dir)=3ffe1000000\n",
        );
        let space = S390x::new(&note, &[]);
        let linear = |addr| space.linear(VirtAddr(addr));
        assert_eq!(space.root, Some(PhysAddr(0x300_0000)));
        assert_eq!(linear(0x3ff_e000_0008), Some(PhysAddr(0x200_0008)));
        assert_eq!(linear(0x7f_0010), Some(PhysAddr(0x7f_0010)));
        assert_eq!(linear(0x1000_0000), Some(PhysAddr(0x1000_0000)));
        assert_eq!(linear(0x3df_0000_0000), None, "vmalloc");
        let cut = info("SYMBOL(_stext)=3ffe0100000\nSYMBOL(init_uts_ns)=3ffe1000000\n");
        let header = [Segment {
            vaddr: Some(VirtAddr(0x3ff_e100_0000)),
            paddr: PhysAddr(0x300_0000),
            len: 1,
        }];
        let space = S390x::new(&cut, &header);
        assert_eq!(
            space.linear(VirtAddr(0x3ff_e000_0008)),
            Some(PhysAddr(0x200_0008)),
            "without the keys"
        );
        let memory = [Segment {
            vaddr: None,
            paddr: PhysAddr(0),
            len: 1 << 30,
        }];
        let space = S390x::new(&note, &memory);
        assert_eq!(space.linear(VirtAddr(1 << 30)), None, "memory has ended");
    }
}
