//! mips: segments that show physical memory, of which the kernel image is in one.
//!
//! | virtual | physical |
//! |---|---|
//! | KSEG0 0x80000000, KSEG1 0xa0000000 (64 bits: CKSEG0 and CKSEG1, the same sign-extended) | the lower 29 bits |
//! | XKPHYS 0x8000000000000000 to 0xbfffffffffffffff | the lower 59 bits |
//! | KSEG2, KSEG3, XKSEG: vmalloc, modules | by the tables only |
//!
//! Tables are not walked: where in an entry the page number starts differs from processor to processor, and nothing in
//! VMCOREINFO says. MIPS architecture for programmers, volume III; `arch/mips/include/asm/addrspace.h`.

use crate::addr::{PhysAddr, VirtAddr};
use crate::bytes::Word;

/// KSEG0 and KSEG1 show the first 512 MiB.
const KSEG_BITS: u64 = 0x1fff_ffff;
/// CKSEG0 and CKSEG1, the segments of 32 bits seen from 64.
const CKSEG0: u64 = 0xffff_ffff_8000_0000;
const CKSEG2: u64 = 0xffff_ffff_c000_0000;
/// Below are the bits of a physical address, above those that choose segment and caching.
const XKPHYS_BITS: u64 = (1 << 59) - 1;

/// Translates by the segments.
pub(super) fn linear(addr: VirtAddr, word: Word) -> Option<PhysAddr> {
    let kseg = Some(PhysAddr(addr.0 & KSEG_BITS));
    match word {
        Word::W32 => kseg.filter(|_| addr.0 >> 30 == 0b10),
        Word::W64 if (CKSEG0..CKSEG2).contains(&addr.0) => kseg,
        Word::W64 => (addr.0 >> 62 == 0b10).then_some(PhysAddr(addr.0 & XKPHYS_BITS)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_segments_show_physical_memory() {
        let linear = |addr, word| linear(VirtAddr(addr), word).map(|paddr| paddr.0);
        assert_eq!(linear(0x8012_3456, Word::W32), Some(0x12_3456));
        assert_eq!(linear(0xa012_3456, Word::W32), Some(0x12_3456));
        assert_eq!(linear(0xc012_3456, Word::W32), None);
        assert_eq!(linear(0xffff_ffff_8012_3456, Word::W64), Some(0x12_3456));
        assert_eq!(linear(0xffff_ffff_c012_3456, Word::W64), None, "modules");
        assert_eq!(
            linear(0xa800_0001_2345_6789, Word::W64),
            Some(0x1_2345_6789)
        );
        assert_eq!(linear(0xc000_0000_0000_0000, Word::W64), None, "vmalloc");
        assert_eq!(linear(0x12_3456, Word::W64), None);
    }
}
