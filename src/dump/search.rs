//! VMCOREINFO without its note: a search of physical memory.
//!
//! From early boot on, configured for kdump or not, a kernel keeps the ready-made note at the start of a page:
//!
//! | n_namesz 11 | n_descsz | n_type 0 | `VMCOREINFO` NUL pad | `OSRELEASE=`... |
//!
//! So the first bytes of every stored page are enough. Earlier kernels and guests leave notes of their own behind, so
//! the caller has to say which one is right; searching for the text anywhere would find many more, in files and in the
//! memory of programs.

use alloc::vec;
use alloc::vec::Vec;

use super::{PhysMem, PhysRange};
use crate::addr::PhysAddr;
use crate::bytes::{Endian, index};
use crate::error::{Error, Result};
use crate::limits;

/// Where the text starts.
const HEADER_LEN: u64 = 24;
const TEXT: &[u8] = b"OSRELEASE=";
/// Pages between two calls of `progress`.
const STEP: u64 = 256;

/// Searches the stored pages of `mem` for the text of VMCOREINFO, lowest addresses first. `accept` is asked about every
/// one that is found; `progress` is told the bytes done and those in all.
///
/// # Errors
/// `Missing` when none is accepted.
pub fn vmcoreinfo(
    mem: &dyn PhysMem,
    endian: Endian,
    accept: &mut dyn FnMut(&[u8]) -> bool,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Vec<u8>> {
    let all = stored(mem);
    let mut done = 0_u64;
    let mut tries = 0_u64;
    let mut from = PhysAddr(0);
    while let Some(range) = mem.next_stored(from).filter(|range| range.len != 0) {
        let end = range.start.wrapping_add(range.len);
        let first = range.start.0.next_multiple_of(limits::PAGE);
        for (number, at) in (first..end.0).step_by(index(limits::PAGE)).enumerate() {
            if (index(STEP).wrapping_sub(1)) & number == 0 {
                progress(done.saturating_add(at.saturating_sub(range.start.0)), all);
            }
            let Some(text) = note_at(mem, PhysAddr(at), endian) else {
                continue;
            };
            if accept(&text) {
                return Ok(text);
            }
            tries = tries.saturating_add(1);
            if tries >= limits::VMCOREINFO_TRIES {
                return Err(MISSING);
            }
        }
        done = done.saturating_add(range.len);
        from = end;
    }
    Err(MISSING)
}

/// The text of the note that the absolute lowcore of s390x points to: `vmcore_info` of `struct lowcore`, set at boot for
/// stand-alone dumps.
pub fn by_lowcore(mem: &dyn PhysMem) -> Option<Vec<u8>> {
    const VMCORE_INFO: PhysAddr = PhysAddr(0xe0c);
    let mut raw = [0; 8];
    mem.read_phys(VMCORE_INFO, &mut raw).ok()?;
    let note = Endian::Big.u64(&raw, 0)?;
    note_at(mem, PhysAddr(note), Endian::Big)
}

const MISSING: Error = Error::Missing {
    key: "VMCOREINFO (neither as a note nor in memory)",
};

/// Bytes that are stored.
fn stored(mem: &dyn PhysMem) -> u64 {
    let mut all = 0_u64;
    let mut from = PhysAddr(0);
    while let Some(PhysRange { start, len }) = mem.next_stored(from).filter(|range| range.len != 0)
    {
        all = all.saturating_add(len);
        from = start.wrapping_add(len);
    }
    all
}

/// The text of the note at `at`, if there is one.
fn note_at(mem: &dyn PhysMem, at: PhysAddr, endian: Endian) -> Option<Vec<u8>> {
    let mut head = [0; 34];
    mem.read_phys(at, &mut head).ok()?;
    let descsz = endian.u32(&head, 4)?;
    let is_note = endian.u32(&head, 0)? == 11
        && (1..=limits::VMCOREINFO_LEN).contains(&descsz.into())
        && endian.u32(&head, 8)? == 0
        && head.get(12..24)? == b"VMCOREINFO\0\0"
        && head.get(24..)? == TEXT;
    if !is_note {
        return None;
    }
    let mut text = vec![0; index(descsz.into())];
    mem.read_phys(at.checked_add(HEADER_LEN)?, &mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Memory from address 0x800 on.
    struct Memory(Vec<u8>);

    impl PhysMem for Memory {
        fn read_phys(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<()> {
            let missing = Error::NotInDump { addr };
            let start = addr.0.checked_sub(0x800).ok_or(missing)? as usize;
            let bytes = self.0.get(start..start + buf.len()).ok_or(missing)?;
            buf.copy_from_slice(bytes);
            Ok(())
        }

        fn next_stored(&self, from: PhysAddr) -> Option<PhysRange> {
            let end = 0x800 + self.0.len() as u64;
            let start = from.0.max(0x800);
            (start < end).then(|| PhysRange {
                start: PhysAddr(start),
                len: end - start,
            })
        }
    }

    fn memory(notes: &[(usize, &[u8])]) -> Memory {
        let mut bytes = vec![0xff; 0x1_0000];
        for &(at, text) in notes {
            let at = at - 0x800;
            bytes[at..at + 4].copy_from_slice(&11_u32.to_be_bytes());
            bytes[at + 4..at + 8].copy_from_slice(&(text.len() as u32).to_be_bytes());
            bytes[at + 8..at + 12].fill(0);
            bytes[at + 12..at + 24].copy_from_slice(b"VMCOREINFO\0\0");
            bytes[at + 24..at + 24 + text.len()].copy_from_slice(text);
        }
        Memory(bytes)
    }

    #[test]
    fn notes_at_page_starts_are_offered_in_order_until_one_is_accepted() {
        let memory = memory(&[
            (0x1800, b"OSRELEASE=in the middle of a page\n"),
            (0x3000, b"OSRELEASE=earlier kernel\n"),
            (0x4000, b"no release"),
            (0x5000, b"OSRELEASE=right\n"),
            (0x6000, b"OSRELEASE=later\n"),
        ]);
        let mut offered = Vec::new();
        let mut told = Vec::new();
        let found = vmcoreinfo(
            &memory,
            Endian::Big,
            &mut |text| {
                offered.push(text.to_vec());
                text.ends_with(b"right\n")
            },
            &mut |done, all| told.push((done, all)),
        );
        assert_eq!(found, Ok(b"OSRELEASE=right\n".to_vec()));
        assert_eq!(offered.len(), 2);
        assert_eq!(told, [(0x800, 0x1_0000)]);
    }

    #[test]
    fn the_lowcore_of_s390x_points_to_the_note() {
        let mut memory = memory(&[(0x1800, b"OSRELEASE=pointed to\n")]);
        assert_eq!(by_lowcore(&memory), None, "a wild pointer");
        memory.0[0xe0c - 0x800..][..8].copy_from_slice(&0x1800_u64.to_be_bytes());
        let found = by_lowcore(&memory).unwrap();
        assert_eq!(found, b"OSRELEASE=pointed to\n");
    }

    #[test]
    fn none_in_memory_is_missing() {
        let found = vmcoreinfo(&memory(&[]), Endian::Big, &mut |_| true, &mut |_, _| {});
        assert_eq!(found, Err(MISSING));
        let other = memory(&[(0x1000, b"OSRELEASE=x\n")]);
        let found = vmcoreinfo(&other, Endian::Little, &mut |_| true, &mut |_, _| {});
        assert_eq!(found, Err(MISSING), "the other byte order");
    }
}
