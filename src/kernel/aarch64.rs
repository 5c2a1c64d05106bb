//! arm64: two to five levels of tables of 4, 16 or 64 KiB, a kernel image and a linear map.
//!
//! | virtual | physical |
//! |---|---|
//! | kernel image | minus `kimage_voffset` |
//! | linear map, since 5.4 the lower half of the kernel's addresses, before that the upper | plus `PHYS_OFFSET`, minus its start |
//! | vmalloc, modules | by the tables only |
//!
//! Bits 63 to 56 of a pointer can be a tag (MTE, KASAN), and those above the width of addresses, but bit 55, a signature
//! (PAC, `KERNELPACMASK`). A kernel for 52 bits also runs where the hardware has 48: `VA_BITS` is then what it was built
//! for, `TCR_EL1_T1SZ` what it runs with. The tables of 64 KiB pages are laid out for the former, those of 4 and 16 KiB
//! for the latter. ARM ARM (DDI 0487), "VMSAv8-64"; `arch/arm64/include/asm/memory.h`, `pgtable-hwdef.h`.

use alloc::vec::Vec;

use super::space::{KERNEL_IMAGE_MAX, image_offset};
use super::tables::{self, Entry, Level, ReadEntry, low_bits};
use super::{Mapping, Segment};
use crate::addr::{PhysAddr, VirtAddr};
use crate::error::{Error, Result};
use crate::vmcoreinfo::VmcoreInfo;

/// Widths of virtual addresses that a kernel can be configured for, the usual ones first.
const WIDTHS: [u64; 6] = [48, 39, 52, 47, 42, 36];
/// What an image may have before `_stext`: its header and, with 64 KiB pages, alignment.
const BEFORE_STEXT: u64 = 2 << 20;

/// The address space of an arm64 kernel.
pub(super) struct Aarch64 {
    page_shift: u32,
    /// Bits of an address that the tables resolve.
    width: u32,
    levels: Vec<Level>,
    root: Option<PhysAddr>,
    /// `_stext`.
    image: Option<VirtAddr>,
    kimage_voffset: Option<u64>,
    linear_map: Option<LinearMap>,
    modules: (u64, u64),
    pac_mask: u64,
}

/// The linear map of all memory.
struct LinearMap {
    start: u64,
    /// The last address.
    last: u64,
    /// What to add, modulo 2^64.
    to_phys: u64,
}

impl Aarch64 {
    /// The `guess`-th set-up that the note leaves open, likeliest first.
    pub(super) fn new(info: &VmcoreInfo, segments: &[Segment], guess: usize) -> Option<Self> {
        let va_bits = match info.number("VA_BITS") {
            Ok(bits) => (guess == 0).then_some(bits)?,
            Err(_) => *WIDTHS.get(guess)?,
        };
        let va_bits = u32::try_from(va_bits.clamp(36, 52)).ok()?;
        let page_shift = info.page_size().trailing_zeros();
        let t1sz = info
            .number("TCR_EL1_T1SZ")
            .ok()
            .filter(|t1sz| (12..=28).contains(t1sz));
        let actual = t1sz.and_then(|t1sz| u32::try_from(64_u64.wrapping_sub(t1sz)).ok());
        let width = match actual {
            Some(actual) if page_shift != 16 => actual,
            _ => va_bits,
        };
        let kimage_voffset = info
            .number("kimage_voffset")
            .ok()
            .or_else(|| image_offset(info, segments));
        let top = info.symbol("swapper_pg_dir").ok();
        let to_image = |addr: VirtAddr| Some(PhysAddr(addr.0.wrapping_sub(kimage_voffset?)));
        let image = info.symbol("_stext").ok();
        Some(Aarch64 {
            page_shift,
            width,
            levels: tables::uniform(page_shift, page_shift.saturating_sub(3), width),
            root: top.and_then(to_image),
            image,
            kimage_voffset,
            linear_map: LinearMap::new(info, segments, va_bits, image),
            modules: (
                info.number("MODULES_VADDR").unwrap_or(0),
                info.number("MODULES_END").unwrap_or(0),
            ),
            pac_mask: info.number("KERNELPACMASK").unwrap_or(0),
        })
    }

    /// The address without tag and signature.
    pub(super) fn untagged(&self, addr: VirtAddr) -> VirtAddr {
        const TAG: u64 = 0xff << 56;
        let extra = TAG | self.pac_mask;
        let kernel = addr.0 & (1 << 55) != 0;
        VirtAddr(if kernel {
            addr.0 | extra
        } else {
            addr.0 & !extra
        })
    }

    /// Translates by the page tables; `read` reads one entry at a physical address.
    pub(super) fn walk(&self, addr: VirtAddr, read: ReadEntry<'_>) -> Result<Mapping> {
        let unmapped = Error::NotMapped { addr, level: 0 };
        let root = self.root.ok_or(unmapped)?;
        if addr.0 | low_bits(self.width) != u64::MAX {
            return Err(unmapped);
        }
        let decode = |level: Level, value| self.decode(level, value);
        tables::walk(addr, root, &self.levels, 8, read, &decode)
    }

    fn decode(&self, level: Level, value: u64) -> Entry {
        let target = self.output_address(value);
        match (value & 3, level.number) {
            (3, 1) => Entry::Page(target),
            (3, _) => Entry::Table(target),
            (1, 2..) => Entry::Page(target),
            _ => Entry::Absent,
        }
    }

    /// The address in a descriptor. Physical addresses of 52 bits have their upper bits elsewhere: with 64 KiB pages in
    /// what is zero otherwise, with the others only when virtual addresses are as wide (LPA2).
    fn output_address(&self, value: u64) -> u64 {
        let page_mask = !low_bits(self.page_shift);
        let address = value & low_bits(48) & page_mask;
        if self.page_shift == 16 {
            address | ((value >> 12) & 0xf) << 48
        } else if self.width == 52 {
            address | value & (3 << 48) | ((value >> 8) & 3) << 50
        } else {
            address
        }
    }

    /// Translates by the formulas of the image and of the linear map.
    pub(super) fn linear(&self, addr: VirtAddr) -> Option<PhysAddr> {
        let modules = self.modules.0..self.modules.1;
        let in_image = self.image.is_some_and(|stext| {
            let inside = addr.0.wrapping_sub(stext.0.wrapping_sub(BEFORE_STEXT));
            inside < KERNEL_IMAGE_MAX && !modules.contains(&addr.0)
        });
        if in_image && let Some(voffset) = self.kimage_voffset {
            return Some(PhysAddr(addr.0.wrapping_sub(voffset)));
        }
        let map = self.linear_map.as_ref()?;
        let inside = (map.start..=map.last).contains(&addr.0);
        inside.then_some(PhysAddr(addr.0.wrapping_add(map.to_phys)))
    }
}

impl LinearMap {
    fn new(
        info: &VmcoreInfo,
        segments: &[Segment],
        va_bits: u32,
        image: Option<VirtAddr>,
    ) -> Option<Self> {
        let page_16k = info.page_size() == 16 << 10;
        let least_bits = if va_bits == 52 && page_16k {
            47
        } else {
            va_bits.min(48)
        };
        let all = !low_bits(va_bits);
        let upper_half = !low_bits(least_bits.saturating_sub(1));
        let image_is_above = image.is_none_or(|stext| stext.0 >= upper_half);
        let (start, last) = if image_is_above {
            (all, upper_half.wrapping_sub(1))
        } else {
            (!low_bits(va_bits.saturating_sub(1)), u64::MAX)
        };
        let by_note = info
            .number("PHYS_OFFSET")
            .map(|phys_offset| phys_offset.wrapping_sub(start));
        let by_header = segments.iter().find_map(|segment| {
            let vaddr = segment
                .vaddr
                .filter(|vaddr| (start..=last).contains(&vaddr.0))?;
            Some(segment.paddr.0.wrapping_sub(vaddr.0))
        });
        let to_phys = by_note.ok().or(by_header)?;
        Some(LinearMap {
            start,
            last,
            to_phys,
        })
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;

    use super::super::tables::synthetic::{info, maps, tables};
    use super::*;

    /// An image at 0xffff800080010000 whose `_text` lies at 0x40000000.
    const IMAGE: &str = "SYMBOL(_stext)=ffff800080010000\nSYMBOL(swapper_pg_dir)=ffff800081000000\n\
                         NUMBER(kimage_voffset)=0xffff800040000000\nNUMBER(PHYS_OFFSET)=0x40000000\n";
    const ROOT: u64 = 0x4100_0000;

    fn space(lines: &str) -> Aarch64 {
        Aarch64::new(&info(&format!("{IMAGE}{lines}")), &[], 0).unwrap()
    }

    #[test]
    fn four_levels_of_4_kib_have_pages_and_blocks() {
        let space = space("PAGESIZE=4096\nNUMBER(VA_BITS)=48\nNUMBER(TCR_EL1_T1SZ)=0x10\n");
        let entries = [
            (ROOT + 8 * 0x100, 0x1000_0000_4200_0003),
            (0x4200_0000 + 8, 0x4300_0003),
            (0x4200_0000 + 16, 0x0060_0000_8000_0701),
            (0x4300_0000, 0x4400_0003),
            (0x4300_0000 + 8, 0x0060_0000_4560_0701),
            (0x4400_0000 + 8, 0x0068_0000_4abc_df03),
            (0x4400_0000 + 16, 0x4abc_df01), // no page: bit 1 is not set
        ];
        let walk = |addr| space.walk(VirtAddr(addr), &tables(&entries));
        assert_eq!(walk(0xffff_8000_4000_1010), maps(0x4abc_d010, 0xff0));
        assert_eq!(walk(0xffff_8000_4020_0010), maps(0x4560_0010, 0x1f_fff0));
        assert_eq!(walk(0xffff_8000_8000_0010), maps(0x8000_0010, 0x3fff_fff0));
        let addr = VirtAddr(0xffff_8000_4000_2000);
        assert_eq!(walk(addr.0), Err(Error::NotMapped { addr, level: 1 }));
        assert!(walk(0x0000_8000_4000_1010).is_err(), "a user address");
    }

    #[test]
    fn addresses_of_52_bits_have_their_upper_bits_where_the_page_size_says() {
        let wide = space("PAGESIZE=65536\nNUMBER(VA_BITS)=52\nNUMBER(TCR_EL1_T1SZ)=0x10\n");
        let entries = [
            (ROOT + 8 * 0x3e0, 0x4200_0003),
            (0x4200_0000 + 8 * 4, 0x4300_f003),
            (0xf_0000_4300_0000 + 8, 0x0060_0000_4abc_c703),
        ];
        let mapping = wide.walk(VirtAddr(0xffff_8000_8001_0010), &tables(&entries));
        assert_eq!(mapping, maps(0xc_0000_4abc_0010, 0xfff0));

        let lpa2 = space("PAGESIZE=4096\nNUMBER(VA_BITS)=52\nNUMBER(TCR_EL1_T1SZ)=0xc\n");
        let entries = [
            (ROOT + 8 * 0xf, 0x4200_0003),
            (0x4200_0000 + 8 * 0x100, 0x4300_0003),
            (0x4300_0000 + 8 * 2, 0x0061_0000_8000_0601),
        ];
        let mapping = lpa2.walk(VirtAddr(0xffff_8000_8000_0010), &tables(&entries));
        assert_eq!(mapping, maps(0x9_0000_8000_0010, 0x3fff_fff0));
    }

    #[test]
    fn a_52_bit_kernel_on_48_bit_hardware_walks_one_level_less() {
        let space = space("PAGESIZE=4096\nNUMBER(VA_BITS)=52\nNUMBER(TCR_EL1_T1SZ)=0x10\n");
        assert_eq!(space.levels.len(), 4);
        assert_eq!(
            space.output_address(0x0060_0000_8000_0f03),
            0x8000_0000,
            "shareability is no address"
        );
    }

    #[test]
    fn the_linear_map_lies_below_the_image_since_5_4_and_above_before() {
        let space = space("PAGESIZE=4096\nNUMBER(VA_BITS)=48\n");
        let linear = |addr| space.linear(VirtAddr(addr));
        assert_eq!(
            linear(0xffff_0000_0000_1000),
            Some(PhysAddr(0x4000_1000)),
            "linear map"
        );
        assert_eq!(
            linear(0xffff_8000_8001_0000),
            Some(PhysAddr(0x4001_0000)),
            "image"
        );
        assert_eq!(linear(0xffff_8000_9900_0000), None, "vmalloc");
        let old = info(
            "SYMBOL(_stext)=ffff000008081000\nNUMBER(VA_BITS)=48\nNUMBER(PHYS_OFFSET)=0x40000000\n\
             NUMBER(kimage_voffset)=0xfffeffffc8000000\n",
        );
        let old = Aarch64::new(&old, &[], 0).unwrap();
        assert_eq!(
            old.linear(VirtAddr(0xffff_8000_0000_1000)),
            Some(PhysAddr(0x4000_1000))
        );
        assert_eq!(
            old.linear(VirtAddr(0xffff_0000_0808_1000)),
            Some(PhysAddr(0x4008_1000))
        );
    }

    #[test]
    fn a_cut_note_leaves_the_headers_and_every_width() {
        let note = info("SYMBOL(_stext)=ffff800080010000\nSYMBOL(swapper_pg_dir)=ffff800081000000");
        let headers = [Segment {
            vaddr: Some(VirtAddr(0xffff_8000_8000_0000)),
            paddr: PhysAddr(0x4000_0000),
            len: 0x200_0000,
        }];
        let widths: Vec<_> = (0..)
            .map_while(|guess| Aarch64::new(&note, &headers, guess))
            .map(|space| (space.root, space.width))
            .collect();
        assert_eq!(widths.len(), WIDTHS.len());
        assert!(widths.contains(&(Some(PhysAddr(ROOT)), 39)));
    }

    #[test]
    fn tags_and_signatures_are_taken_off() {
        let space = space("NUMBER(VA_BITS)=48\nNUMBER(KERNELPACMASK)=0x7f000000000000\n");
        let kernel = VirtAddr(0xffff_8000_8001_0000);
        assert_eq!(space.untagged(VirtAddr(0xf4ff_8000_8001_0000)), kernel);
        assert_eq!(space.untagged(VirtAddr(0x2abd_8000_8001_0000)), kernel);
        assert_eq!(
            space.untagged(VirtAddr(0x0b00_aaaa_0000_1000)),
            VirtAddr(0xaaaa_0000_1000)
        );
    }
}
