//! x86_64: four or five levels of page tables, and two linear maps.
//!
//! | virtual | physical |
//! |---|---|
//! | kernel image, from 0xffffffff80000000 | minus that, plus `phys_base` |
//! | direct map, from `page_offset_base` | minus that |
//! | vmalloc, modules, per-CPU entry areas | by the tables only |
//!
//! KASLR moves the image virtually (`KERNELOFFSET`, contained in every symbol's address), physically (`phys_base`)
//! and, apart from both, the direct map. Intel SDM volume 3, "Paging"; `arch/x86/include/asm/pgtable_64_types.h`.

use alloc::vec::Vec;

use super::tables::{self, Entry, Level, ReadEntry};
use super::{Mapping, Segment};
use crate::addr::{PhysAddr, VirtAddr};
use crate::error::{Error, Result};
use crate::vmcoreinfo::VmcoreInfo;

/// `__START_KERNEL_map`.
const KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;
/// The image's share of the kernel map where VMCOREINFO does not tell, and what it is with KASLR. Modules follow.
const KERNEL_IMAGE_SIZE: u64 = 512 << 20;
const KERNEL_IMAGE_SIZE_KASLR: u64 = 1 << 30;
/// The lowest canonical kernel address with five levels.
const KERNEL_HALF: u64 = 0xff00_0000_0000_0000;
const PRESENT: u64 = 1;
/// The entry maps a large page rather than pointing to the next table.
const PSE: u64 = 1 << 7;
/// Bits 12 to 51 of an entry.
const ADDRESS_MASK: u64 = 0x000f_ffff_ffff_f000;
/// Where the direct map starts without KASLR: since 4.20 with four levels, with five, and before.
const PAGE_OFFSETS: [u64; 4] = [
    0xffff_8880_0000_0000,
    0xff11_0000_0000_0000,
    0xffff_8800_0000_0000,
    0xff10_0000_0000_0000,
];

/// The address space of an x86_64 kernel.
pub(super) struct X86_64 {
    root: Option<PhysAddr>,
    levels: Vec<Level>,
    phys_base: u64,
    image_size: u64,
    /// The memory encryption bit of AMD's SME and SEV, set in entries and not part of the address.
    sme_mask: u64,
    page_offset: Option<u64>,
}

impl X86_64 {
    /// The `guess`-th set-up that the note leaves open: without `pgtable_l5_enabled`, there may be five levels.
    pub(super) fn new(info: &VmcoreInfo, segments: &[Segment], guess: usize) -> Option<Self> {
        let five_levels = match (guess, info.number("pgtable_l5_enabled")) {
            (0, l5_enabled) => l5_enabled == Ok(1),
            (1, Err(_)) => true,
            _ => return None,
        };
        let image_size = match info.hex("KERNELOFFSET") {
            Ok(0) | Err(_) => KERNEL_IMAGE_SIZE,
            Ok(_) => KERNEL_IMAGE_SIZE_KASLR,
        };
        let phys_base = info
            .number("phys_base")
            .ok()
            .or_else(|| phys_base(segments))
            .unwrap_or(0);
        let top = info
            .symbol("swapper_pg_dir")
            .or_else(|_| info.symbol("init_top_pgt"));
        let root = top.ok().and_then(|top| image_address(top, phys_base));
        Some(X86_64 {
            root,
            levels: tables::uniform(12, 9, if five_levels { 57 } else { 48 }),
            phys_base,
            image_size: info.number("KERNEL_IMAGE_SIZE").unwrap_or(image_size),
            sme_mask: info.number("sme_mask").unwrap_or(0),
            page_offset: page_offset(info, segments),
        })
    }

    /// Translates by the page tables; `read` reads one entry at a physical address.
    pub(super) fn walk(&self, addr: VirtAddr, read: ReadEntry<'_>) -> Result<Mapping> {
        let unmapped = Error::NotMapped { addr, level: 0 };
        let root = self.root.ok_or(unmapped)?;
        let sign_bits: u32 = if self.levels.len() == 5 { 8 } else { 17 };
        if addr.0.leading_ones() < sign_bits {
            return Err(unmapped);
        }
        let decode = |level: Level, value: u64| {
            let target = value & ADDRESS_MASK & !self.sme_mask;
            let large = value & PSE != 0 && (level.number == 2 || level.number == 3);
            if value & PRESENT == 0 {
                Entry::Absent
            } else if level.number == 1 || large {
                Entry::Page(target)
            } else {
                Entry::Table(target)
            }
        };
        tables::walk(addr, root, &self.levels, 8, read, &decode)
    }

    /// True in the kernel image.
    pub(super) fn is_linear(&self, addr: VirtAddr) -> bool {
        let inside = addr.offset_from(VirtAddr(KERNEL_MAP));
        inside.is_some_and(|inside| inside < self.image_size)
    }

    /// Translates by the formulas of the two linear maps.
    pub(super) fn linear(&self, addr: VirtAddr) -> Option<PhysAddr> {
        if addr.0 >= KERNEL_MAP {
            let inside = self.is_linear(addr);
            return image_address(addr, self.phys_base).filter(|_| inside);
        }
        /// No machine has more than 52 bits of physical address.
        const PHYSICAL_END: u64 = 1 << 52;
        let inside = addr.0.checked_sub(self.page_offset?)?;
        (inside < PHYSICAL_END).then_some(PhysAddr(inside))
    }
}

/// The physical address of an address in the kernel image.
fn image_address(addr: VirtAddr, phys_base: u64) -> Option<PhysAddr> {
    let inside = addr.offset_from(VirtAddr(KERNEL_MAP))?;
    Some(PhysAddr(inside.wrapping_add(phys_base)))
}

/// `phys_base` from the program header of the kernel image, for kernels before 4.10, which do not export its value.
fn phys_base(segments: &[Segment]) -> Option<u64> {
    segments.iter().find_map(|segment| {
        let inside = segment.vaddr?.offset_from(VirtAddr(KERNEL_MAP))?;
        Some(segment.paddr.0.wrapping_sub(inside))
    })
}

/// Where the direct map starts: what the last program header below the kernel map says, else what kernels that are not
/// randomised use. Of the latter the level count picks; old kernels' base cannot be told apart without more.
fn page_offset(info: &VmcoreInfo, segments: &[Segment]) -> Option<u64> {
    let in_direct_map = |vaddr: &VirtAddr| (KERNEL_HALF..KERNEL_MAP).contains(&vaddr.0);
    let by_header = segments.iter().rev().find_map(|segment| {
        let vaddr = segment.vaddr.filter(in_direct_map)?;
        vaddr.0.checked_sub(segment.paddr.0)
    });
    by_header.or_else(|| {
        let randomised = info.hex("KERNELOFFSET").is_ok_and(|offset| offset != 0);
        let five_levels = info.number("pgtable_l5_enabled") == Ok(1);
        // `pgtable_l5_enabled` came with 4.17, shortly before the direct map moved.
        let old = info.number("pgtable_l5_enabled").is_err();
        let choice = usize::from(five_levels).wrapping_add(if old { 2 } else { 0 });
        PAGE_OFFSETS.get(choice).copied().filter(|_| !randomised)
    })
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::super::tables::synthetic::{info, tables};
    use super::*;

    const NOTE: &str = "SYMBOL(swapper_pg_dir)=ffffffff80001000\nNUMBER(phys_base)=4096\n";

    #[test]
    fn a_4_kib_page_is_found_through_four_levels() {
        let space = X86_64::new(&info(NOTE), &[], 0).unwrap();
        let addr = VirtAddr(0xffff_c900_0000_0123);
        let entries = [
            (0x2000 + 8 * 402, 0x1_0001),
            (0x1_0000, 0x1_1001),
            (0x1_1000, 0x1_2001),
            (0x1_2000, 0x8000_0000_0abc_d163),
        ];
        let mapping = space.walk(addr, &tables(&entries)).unwrap();
        assert_eq!(
            mapping,
            Mapping {
                paddr: PhysAddr(0x0abc_d123),
                len: 0x1000 - 0x123
            }
        );
    }

    #[test]
    fn large_pages_lose_their_pat_bit_and_the_encryption_bit() {
        let note = info(
            &(String::from(NOTE)
                + "NUMBER(pgtable_l5_enabled)=1\nNUMBER(sme_mask)=0x800000000000\n"),
        );
        let space = X86_64::new(&note, &[], 0).unwrap();
        let c = 0x8000_0000_0000;
        let entries = [
            (0x2000 + 8 * 273, 0x1_0001 | c),
            (0x1_0000, 0x1_1001 | c),
            (0x1_1000 + 8, (2 << 30) | 0x1000 | c | 0x81),
        ];
        let mapping = space
            .walk(VirtAddr(0xff11_0000_4000_0010), &tables(&entries))
            .unwrap();
        assert_eq!(
            mapping,
            Mapping {
                paddr: PhysAddr((2 << 30) + 0x10),
                len: (1 << 30) - 0x10
            }
        );
    }

    #[test]
    fn the_level_that_is_not_present_is_named_and_a_missing_table_is_a_hole() {
        let space = X86_64::new(&info(NOTE), &[], 0).unwrap();
        let addr = VirtAddr(0xffff_c900_0000_0000);
        let unmapped = space.walk(
            addr,
            &tables(&[(0x2000 + 8 * 402, 0x1_0001), (0x1_0000, 0)]),
        );
        assert_eq!(unmapped, Err(Error::NotMapped { addr, level: 3 }));
        let hole = space.walk(addr, &tables(&[(0x2000 + 8 * 402, 0x1_0001)]));
        assert_eq!(
            hole,
            Err(Error::NotInDump {
                addr: PhysAddr(0x1_0000)
            })
        );
        assert!(
            space.walk(VirtAddr(0x1000), &tables(&[])).is_err(),
            "not a kernel address"
        );
    }

    #[test]
    fn the_linear_maps_come_from_the_note_or_the_program_headers() {
        let segment = |vaddr, paddr| Segment {
            vaddr: Some(VirtAddr(vaddr)),
            paddr: PhysAddr(paddr),
            len: 0x1000,
        };
        let segments = [
            segment(0xffff_ffff_8100_0000, 0x300_0000),
            segment(0xffff_9980_0010_0000, 0x10_0000),
        ];
        let space =
            X86_64::new(&info("OSRELEASE=4.4\nKERNELOFFSET=1000000\n"), &segments, 0).unwrap();
        assert_eq!(
            space.linear(VirtAddr(0xffff_ffff_8200_0000)),
            Some(PhysAddr(0x400_0000))
        );
        assert_eq!(
            space.linear(VirtAddr(0xffff_9980_0000_0008)),
            Some(PhysAddr(8))
        );
        assert_eq!(
            space.linear(VirtAddr(0xffff_ffff_c000_0000)),
            None,
            "modules"
        );
        let fixed = X86_64::new(
            &info("KERNELOFFSET=0\nNUMBER(pgtable_l5_enabled)=0\n"),
            &[],
            0,
        )
        .unwrap();
        assert_eq!(
            fixed.linear(VirtAddr(0xffff_8880_0000_1000)),
            Some(PhysAddr(0x1000))
        );
    }
}
