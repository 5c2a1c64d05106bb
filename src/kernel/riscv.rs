//! riscv: Sv39, Sv48 and Sv57 (Sv32 on 32 bits), a kernel image and a linear map.
//!
//! | virtual | physical |
//! |---|---|
//! | kernel image, from `KERNEL_LINK_ADDR` | minus `va_kernel_pa_offset` |
//! | linear map, from `PAGE_OFFSET` | minus that, plus `phys_ram_base` |
//! | modules just below the image, vmalloc | by the tables only |
//!
//! The note has these numbers since 6.2, `va_kernel_pa_offset` since 6.4; before that, what a program header says of a
//! symbol serves, and each width of addresses is tried. Before 5.13, and on 32 bits, the image lies in the linear map.
//! RISC-V privileged specification, "Supervisor"; `arch/riscv/include/asm/pgtable-64.h`.

use alloc::vec::Vec;

use super::space::{KERNEL_IMAGE_MAX, image_offset, memory_start};
use super::tables::{self, Entry, Level, ReadEntry, low_bits};
use super::{Mapping, Segment};
use crate::addr::{PhysAddr, VirtAddr};
use crate::bytes::Word;
use crate::error::{Error, Result};
use crate::vmcoreinfo::VmcoreInfo;

/// `KERNEL_LINK_ADDR` where the note does not tell.
const KERNEL_LINK_ADDR: u64 = 0xffff_ffff_8000_0000;
/// The widths of addresses that the note may leave open.
const WIDTHS: [u64; 3] = [39, 48, 57];
/// An image is loaded this far into memory, to keep the firmware below it.
const IMAGE_IN_MEMORY: u64 = 2 << 20;
const VALID: u64 = 1;
/// Read, write, execute: an entry with any of them maps a page.
const LEAF: u64 = 0b1110;
/// Svnapot: the entry is one of sixteen that map 64 KiB together.
const NAPOT: u64 = 1 << 63;

/// The address space of a riscv kernel.
pub(super) struct Riscv {
    word: Word,
    width: u32,
    levels: Vec<Level>,
    root: Option<PhysAddr>,
    kernel_link_addr: u64,
    va_kernel_pa_offset: u64,
    page_offset: Option<u64>,
    phys_ram_base: u64,
}

impl Riscv {
    /// The `guess`-th set-up that the note leaves open, likeliest first.
    pub(super) fn new(
        info: &VmcoreInfo,
        segments: &[Segment],
        word: Word,
        guess: usize,
    ) -> Option<Self> {
        let width = match (word, info.number("VA_BITS")) {
            (Word::W32, _) => (guess == 0).then_some(32)?,
            (_, Ok(bits)) => (guess == 0).then_some(bits)?,
            (_, Err(_)) => *WIDTHS.get(guess)?,
        };
        let width = u32::try_from(width.min(57)).ok()?;
        let kernel_link_addr = info.number("KERNEL_LINK_ADDR").unwrap_or(KERNEL_LINK_ADDR);
        let phys_ram_base = info
            .number("phys_ram_base")
            .unwrap_or_else(|_| memory_start(segments).0);
        let by_note = info.number("va_kernel_pa_offset").ok();
        let va_kernel_pa_offset = by_note
            .or_else(|| image_offset(info, segments))
            .unwrap_or_else(|| {
                kernel_link_addr
                    .wrapping_sub(phys_ram_base)
                    .wrapping_sub(IMAGE_IN_MEMORY)
            });
        let bits = if word == Word::W32 { 10 } else { 9 };
        let mut space = Riscv {
            word,
            width,
            levels: tables::uniform(12, bits, width),
            root: None,
            kernel_link_addr,
            va_kernel_pa_offset,
            page_offset: info.number("PAGE_OFFSET").ok(),
            phys_ram_base,
        };
        let top = info.symbol("swapper_pg_dir").ok();
        space.root = top.map(|top| {
            let by_image = PhysAddr(word.wrap(top.0.wrapping_sub(va_kernel_pa_offset)));
            space.linear(top).unwrap_or(by_image)
        });
        Some(space)
    }

    /// Bytes of an entry.
    pub(super) fn entry_len(&self) -> u64 {
        match self.word {
            Word::W32 => 4,
            Word::W64 => 8,
        }
    }

    /// Translates by the page tables; `read` reads one entry at a physical address.
    pub(super) fn walk(&self, addr: VirtAddr, read: ReadEntry<'_>) -> Result<Mapping> {
        let unmapped = Error::NotMapped { addr, level: 0 };
        let root = self.root.ok_or(unmapped)?;
        let half = low_bits(self.width.saturating_sub(1));
        if self.word == Word::W64 && addr.0 | half != u64::MAX {
            return Err(unmapped);
        }
        tables::walk(
            addr,
            root,
            &self.levels,
            self.entry_len(),
            read,
            &|level, value| self.decode(level, value),
        )
    }

    fn decode(&self, level: Level, value: u64) -> Entry {
        // The page number is bits 10 to 53 (10 to 31 of an entry of 32 bits); above are memory types.
        let target = ((value & low_bits(54)) >> 10) << 12;
        if value & VALID == 0 {
            Entry::Absent
        } else if value & LEAF == 0 && level.number > 1 {
            Entry::Table(target)
        } else if value & LEAF == 0 {
            Entry::Absent
        } else if value & NAPOT != 0 && level.number == 1 && (target >> 12) & 0xf == 8 {
            Entry::Sized {
                base: target,
                shift: 16,
            }
        } else {
            Entry::Page(target)
        }
    }

    /// True in the kernel image. KASLR moves it by less than its own room.
    pub(super) fn is_linear(&self, addr: VirtAddr) -> bool {
        let inside = addr.0.checked_sub(self.kernel_link_addr);
        inside.is_some_and(|inside| inside < KERNEL_IMAGE_MAX.wrapping_mul(8))
    }

    /// Translates by the formulas of the image and of the linear map.
    pub(super) fn linear(&self, addr: VirtAddr) -> Option<PhysAddr> {
        if self.is_linear(addr) {
            return Some(PhysAddr(addr.0.wrapping_sub(self.va_kernel_pa_offset)));
        }
        /// Modules and the image take the last 4 GiB.
        const LINEAR_MAP_END: u64 = 0xffff_ffff_0000_0000;
        let end = match self.word {
            Word::W32 => 1 << 32,
            Word::W64 => LINEAR_MAP_END,
        };
        let inside = addr.0.checked_sub(self.page_offset?)?;
        (addr.0 < end).then_some(PhysAddr(inside.wrapping_add(self.phys_ram_base)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tables::synthetic::{info, maps, tables};
    use super::*;

    /// The arch lines of a real note (6.12).
    const NOTE: &str = "SYMBOL(swapper_pg_dir)=ffffffff81dca000\nNUMBER(phys_ram_base)=2147483648\n\
                        NUMBER(PAGE_OFFSET)=0xff60000000000000\nNUMBER(VA_BITS)=57\n\
                        NUMBER(KERNEL_LINK_ADDR)=0xffffffff80000000\n\
                        NUMBER(va_kernel_pa_offset)=0xfffffffeffe00000\n";
    const ROOT: u64 = 0x81fc_a000;

    #[test]
    fn five_levels_have_large_and_napot_pages_and_memory_types() {
        let space = Riscv::new(&info(NOTE), &[], Word::W64, 0).unwrap();
        let entries = [
            (ROOT + 8 * 0x120, 0x2000_0001 | 1 << 61),
            (0x8000_0000, 0x2000_0401),
            (0x8000_1000, 0x2000_0801),
            (0x8000_2000, 0x2000_0c01),
            (0x8000_2000 + 8, 0x2010_00e7 | 1 << 62),
            (0x8000_3000 + 8, 0x2abc_d0e7),
            (0x8000_3000 + 8 * 0x12, 0x2abc_e0e7 | NAPOT),
            (0x8000_3000 + 16, 0xe6),
            (0x8000_3000 + 24, 0x2000_0001), // points on, at the last level
        ];
        let walk = |addr| space.walk(VirtAddr(addr), &tables(&entries));
        assert_eq!(walk(0xff20_0000_0000_1010), maps(0xaaf3_4010, 0xff0));
        assert_eq!(walk(0xff20_0000_0020_0010), maps(0x8040_0010, 0x1f_fff0));
        assert_eq!(
            walk(0xff20_0000_0001_2010),
            maps(0xaaf3_2010, 0xdff0),
            "NAPOT"
        );
        for addr in [0xff20_0000_0000_2000, 0xff20_0000_0000_3000].map(VirtAddr) {
            assert_eq!(walk(addr.0), Err(Error::NotMapped { addr, level: 1 }));
        }
        assert!(walk(0x1000).is_err(), "a user address");
    }

    #[test]
    fn image_and_linear_map_have_formulas_and_modules_none() {
        let space = Riscv::new(&info(NOTE), &[], Word::W64, 0).unwrap();
        let linear = |addr| space.linear(VirtAddr(addr));
        assert_eq!(linear(0xffff_ffff_81d6_9658), Some(PhysAddr(0x81f6_9658)));
        assert_eq!(linear(0xff60_0000_0000_1000), Some(PhysAddr(0x8000_1000)));
        assert_eq!(linear(0xffff_ffff_01e6_b000), None);
        assert_eq!(linear(0xff20_0000_0000_0000), None);
    }

    #[test]
    fn an_older_note_leaves_the_width_open_and_the_headers_tell_the_rest() {
        let note =
            info("SYMBOL(_stext)=ffffffff80002000\nSYMBOL(swapper_pg_dir)=ffffffff81dca000\n");
        let headers = [Segment {
            vaddr: Some(VirtAddr(0xffff_ffff_8000_0000)),
            paddr: PhysAddr(0x8020_0000),
            len: 0x200_0000,
        }];
        let guesses: Vec<_> = (0..)
            .map_while(|guess| Riscv::new(&note, &headers, Word::W64, guess))
            .collect();
        assert_eq!(guesses.len(), 3);
        assert!(
            guesses
                .iter()
                .all(|space| space.root == Some(PhysAddr(ROOT)))
        );
    }

    #[test]
    fn sv32_has_two_levels_of_32_bit_entries() {
        let note = info(
            "SYMBOL(swapper_pg_dir)=c1000000\nNUMBER(PAGE_OFFSET)=0xc0000000\nNUMBER(phys_ram_base)=0x80000000\n",
        );
        let space = Riscv::new(&note, &[], Word::W32, 0).unwrap();
        let entries = [
            (0x8100_0000 + 4 * 0x300, 0x2010_00ef),
            (0x8100_0000 + 4 * 0x280, 0x2000_0401),
            (0x8000_1004, 0x2abc_d0e7),
        ];
        let walk = |addr| space.walk(VirtAddr(addr), &tables(&entries));
        assert_eq!(walk(0xc000_0010), maps(0x8040_0010, 0x3f_fff0));
        assert_eq!(walk(0xa000_1010), maps(0xaaf3_4010, 0xff0));
        assert_eq!(space.entry_len(), 4);
    }
}
