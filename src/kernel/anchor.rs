//! Where the kernel image lies, when neither VMCOREINFO nor the program headers tell: a search of physical memory.
//!
//! `init_uts_ns` is in the image, and its release is known from VMCOREINFO. Images are loaded at addresses that agree
//! with the virtual ones modulo 64 KiB at least, on most machines 2 MiB, so that there are few places to look at: one
//! per 2 MiB, and if the release is at none of them, one per 64 KiB. A hit is no proof: the image of a kernel that
//! waits to be started by kexec has a release there too.

use crate::addr::{PhysAddr, VirtAddr};
use crate::dump::PhysMem;
use crate::limits;

/// The distances of the places to look at, the quicker search first.
const STEPS: [u64; 2] = [2 << 20, 64 << 10];

/// Offers `accept` each place of `mem` where `text` stands that may be that of `addr`, lowest first, until it says yes.
pub(super) fn find(
    mem: &dyn PhysMem,
    addr: VirtAddr,
    text: &[u8],
    accept: &mut dyn FnMut(PhysAddr) -> bool,
) {
    let mut buf = [0; limits::RELEASE_LEN];
    let Some(buf) = buf.get_mut(..text.len()) else {
        return;
    };
    for step in STEPS {
        let mut from = PhysAddr(0);
        for _ in 0..limits::IMAGE_PROBES {
            let Some(stored) = mem.next_stored(from).filter(|range| range.len != 0) else {
                break;
            };
            let ahead = addr.0.wrapping_sub(stored.start.0) & step.wrapping_sub(1);
            let Some(place) = stored.start.checked_add(ahead) else {
                break;
            };
            if ahead < stored.len
                && mem.read_phys(place, buf).is_ok()
                && buf == text
                && accept(place)
            {
                return;
            }
            // Behind this place, or behind this stretch when the place is not in it.
            from = if ahead < stored.len {
                place.wrapping_add(1)
            } else {
                stored.start.wrapping_add(stored.len)
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::dump::PhysRange;
    use crate::error::Result;

    /// Two stretches of memory with the text at some places.
    struct Memory(&'static [u64]);

    const STORED: [(u64, u64); 2] = [(0x10_0000, 0x10_0000), (0x4000_0000, 0x100_0000)];
    const TEXT: &[u8] = b"6.1.0\0";

    impl PhysMem for Memory {
        fn read_phys(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<()> {
            let inside = |&(start, len): &(u64, u64)| (start..start + len).contains(&addr.0);
            assert!(STORED.iter().any(inside), "{addr} is not stored");
            buf.fill(0);
            if self.0.contains(&addr.0) {
                buf.copy_from_slice(TEXT);
            }
            Ok(())
        }

        fn next_stored(&self, from: PhysAddr) -> Option<PhysRange> {
            let (start, len) = STORED
                .into_iter()
                .find(|(start, len)| start + len > from.0)?;
            let skip = from.0.saturating_sub(start);
            Some(PhysRange {
                start: PhysAddr(start + skip),
                len: len - skip,
            })
        }
    }

    fn found(places: &'static [u64], accepted: u64) -> Vec<u64> {
        let mut offered = Vec::new();
        let addr = VirtAddr(0xffff_8000_8123_4568);
        find(&Memory(places), addr, TEXT, &mut |place| {
            offered.push(place.0);
            place.0 == accepted
        });
        offered
    }

    #[test]
    fn places_that_agree_with_the_address_are_offered_lowest_first() {
        let places = &[0x4000_4568, 0x4003_4568, 0x4023_4568, 0x4043_4568];
        let coarse = [0x4003_4568, 0x4023_4568, 0x4043_4568];
        assert_eq!(found(places, 0x4043_4568), coarse);
        assert_eq!(found(places, 0x4000_4568)[..3], coarse);
        assert_eq!(found(places, 0x4000_4568)[3..], [0x4000_4568]);
    }

    #[test]
    fn the_search_ends_with_the_memory() {
        assert!(found(&[], 0).is_empty());
        assert!(found(&[0x10_4569, 0x4000_4567], 0).is_empty());
    }
}
