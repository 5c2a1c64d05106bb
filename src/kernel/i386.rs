//! i386: two levels of 32-bit entries, or three of 64 bits with PAE, and one linear map.
//!
//! | virtual | physical |
//! |---|---|
//! | lowmem with the kernel image, from PAGE_OFFSET | minus that |
//! | vmalloc and modules above it, fixmap, kmap | by the tables only |
//!
//! `PAGE_OFFSET` is nowhere exported: it is what a program header that holds a symbol says, else one of the memory
//! splits that the kernel can be configured for. Intel SDM volume 3, "Paging"; `arch/x86/include/asm/pgtable-2level.h`
//! and `pgtable-3level.h`.

use alloc::vec::Vec;

use super::space::{Lowmem, split_guess};
use super::tables::{self, Entry, Level, ReadEntry};
use super::{Mapping, Segment};
use crate::addr::{PhysAddr, VirtAddr};
use crate::error::{Error, Result};
use crate::vmcoreinfo::VmcoreInfo;

const PRESENT: u64 = 1;
/// The entry maps a large page rather than pointing to the next table.
const PSE: u64 = 1 << 7;
/// Bits 12 to 51 of an entry of 64 bits.
const ADDRESS_MASK: u64 = 0x000f_ffff_ffff_f000;

/// The address space of an i386 kernel.
pub(super) struct I386 {
    pae: bool,
    levels: Vec<Level>,
    lowmem: Lowmem,
    root: Option<PhysAddr>,
}

impl I386 {
    /// The `guess`-th set-up that the note and the program headers leave open, likeliest first.
    pub(super) fn new(info: &VmcoreInfo, segments: &[Segment], guess: usize) -> Option<Self> {
        let (guess, pae) = split_guess(info.value("CONFIG_X86_PAE"), guess);
        let lowmem = Lowmem::guess(info, segments, PhysAddr(0), guess)?;
        let top = info.symbol("swapper_pg_dir").ok();
        Some(I386 {
            pae,
            levels: tables::uniform(12, if pae { 9 } else { 10 }, 32),
            root: top.and_then(|top| lowmem.translate(top)),
            lowmem,
        })
    }

    /// Bytes of an entry.
    pub(super) fn entry_len(&self) -> u64 {
        if self.pae { 8 } else { 4 }
    }

    /// Translates by the page tables; `read` reads one entry at a physical address.
    pub(super) fn walk(&self, addr: VirtAddr, read: ReadEntry<'_>) -> Result<Mapping> {
        let root = self.root.ok_or(Error::NotMapped { addr, level: 0 })?;
        let decode = if self.pae { decode_pae } else { decode };
        tables::walk(addr, root, &self.levels, self.entry_len(), read, &decode)
    }

    /// Translates by the formula of lowmem.
    pub(super) fn linear(&self, addr: VirtAddr) -> Option<PhysAddr> {
        self.lowmem.translate(addr)
    }
}

/// An entry of 32 bits. A 4 MiB page can lie above 4 GiB: bits 13 to 20 are bits 32 to 39 of its address (PSE-36).
fn decode(level: Level, value: u64) -> Entry {
    if value & PRESENT == 0 {
        Entry::Absent
    } else if level.number == 1 {
        Entry::Page(value & 0xffff_f000)
    } else if value & PSE != 0 {
        Entry::Page((value & 0xffc0_0000) | ((value & 0x001f_e000) << 19))
    } else {
        Entry::Table(value & 0xffff_f000)
    }
}

/// An entry of 64 bits.
fn decode_pae(level: Level, value: u64) -> Entry {
    let target = value & ADDRESS_MASK;
    if value & PRESENT == 0 {
        Entry::Absent
    } else if level.number == 1 || (level.number == 2 && value & PSE != 0) {
        Entry::Page(target)
    } else {
        Entry::Table(target)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tables::synthetic::{info, maps, tables};
    use super::*;

    #[test]
    fn two_levels_have_4_kib_and_4_mib_pages() {
        let space = I386::new(&info("SYMBOL(swapper_pg_dir)=c1000000\n"), &[], 0).unwrap();
        let entries = [
            (0x0100_0000 + 4 * 0x3e0, 0x0200_0067),
            (0x0200_0000 + 4 * 5, 0x0abc_d163),
            (0x0100_0000 + 4 * 0x300, 0x0004_21e3),
            (0x0100_0000 + 4 * 0x3e1, 0),
        ];
        let walk = |addr| space.walk(VirtAddr(addr), &tables(&entries));
        assert_eq!(walk(0xf800_5123), maps(0x0abc_d123, 0x1000 - 0x123));
        assert_eq!(
            walk(0xc012_3456),
            maps(0x21_0012_3456, 0x40_0000 - 0x12_3456),
            "PSE-36"
        );
        let addr = VirtAddr(0xf840_0000);
        assert_eq!(walk(addr.0), Err(Error::NotMapped { addr, level: 2 }));
        assert_eq!(space.entry_len(), 4);
    }

    #[test]
    fn pae_has_three_levels_and_2_mib_pages_above_4_gib() {
        let note = info("SYMBOL(swapper_pg_dir)=d5e98020\nCONFIG_X86_PAE=y\n");
        let space = I386::new(&note, &[], 0).unwrap();
        let entries = [
            (0x15e9_8020 + 8 * 3, 0x0200_0001),
            (0x0200_0000 + 8 * 0x1c0, 0x0300_0067),
            (0x0300_0000 + 8 * 5, 0x8000_0001_0abc_d163),
            (0x0200_0000 + 8, 0x0000_0002_0020_00e3),
        ];
        let walk = |addr| space.walk(VirtAddr(addr), &tables(&entries));
        assert_eq!(walk(0xf800_5123), maps(0x1_0abc_d123, 0x1000 - 0x123));
        assert_eq!(walk(0xc020_0010), maps(0x2_0020_0010, 0x20_0000 - 0x10));
        assert_eq!(space.entry_len(), 8);
    }

    #[test]
    fn the_memory_split_comes_from_a_header_that_holds_a_symbol_or_is_guessed() {
        let note = info("SYMBOL(_stext)=81000000\nSYMBOL(swapper_pg_dir)=81500000\n");
        let segment = |vaddr, paddr| Segment {
            vaddr: Some(VirtAddr(vaddr)),
            paddr: PhysAddr(paddr),
            len: 0x100_0000,
        };
        let headers = [
            segment(0xf800_0000, 0x38_0000),
            segment(0x8100_0000, 0x100_0000),
        ];
        let space = I386::new(&note, &headers, 0).unwrap();
        assert_eq!(
            space.linear(VirtAddr(0x8100_0010)),
            Some(PhysAddr(0x100_0010))
        );
        assert!(I386::new(&note, &headers, 1).unwrap().pae, "not told");
        assert!(I386::new(&note, &headers, 2).is_none(), "nothing is open");
        let guesses: Vec<_> = (0..)
            .map_while(|guess| I386::new(&note, &[], guess))
            .collect();
        assert!(guesses.len() > 2);
        assert!(
            guesses
                .iter()
                .any(|space| space.linear(VirtAddr(0x8100_0000)) == Some(PhysAddr(0x100_0000)))
        );
    }

    #[test]
    fn vmalloc_is_not_in_the_linear_map() {
        let note = info("SYMBOL(swapper_pg_dir)=c1000000\nNUMBER(VMALLOC_START)=0xe0800000\n");
        let space = I386::new(&note, &[], 0).unwrap();
        assert_eq!(space.linear(VirtAddr(0xe080_0000)), None);
        assert_eq!(
            space.linear(VirtAddr(0xd000_0000)),
            Some(PhysAddr(0x1000_0000))
        );
        assert_eq!(space.linear(VirtAddr(0x0804_8000)), None);
        let memory = [Segment {
            vaddr: None,
            paddr: PhysAddr(0),
            len: 0x1000_0000,
        }];
        let space = I386::new(&info("A=b\n"), &memory, 0).unwrap();
        assert_eq!(
            space.linear(VirtAddr(0xd000_0000)),
            None,
            "memory has ended"
        );
    }
}
