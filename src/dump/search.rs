//! VMCOREINFO without its note: a search of physical memory.
//!
//! From early boot on, configured for kdump or not, a kernel keeps the ready-made note:
//!
//! | n_namesz 11 | n_descsz | n_type 0 | `VMCOREINFO` NUL NUL | `OSRELEASE=`... |
//!
//! Since 4.13 it starts a page; before, it stood anywhere in the kernel image, aligned to four bytes. s390x also keeps
//! its address in the lowcore. Earlier kernels and guests leave notes of their own behind, so the caller has to say which
//! one is right; searching for the text alone would find many more, in files and in the memory of programs.

use alloc::vec;
use alloc::vec::Vec;

use super::{PhysMem, PhysRange};
use crate::addr::PhysAddr;
use crate::bytes::{Endian, index, wide};
use crate::error::{Error, Result};
use crate::limits;

/// Where the text starts.
const HEADER_LEN: u64 = 24;
/// Up to the end of `OSRELEASE=`.
const HEAD_LEN: usize = 34;
/// Where in the note its name is.
const NAME_AT: usize = 12;
const NAME: &[u8] = b"VMCOREINFO\0\0";
const TEXT: &[u8] = b"OSRELEASE=";

/// Searches the stored memory of `mem` for the text of VMCOREINFO, lowest addresses first. `accept` is asked about every
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
    let mut search = Search {
        mem,
        endian,
        accept,
        tries: 0,
    };
    let all = stored(mem);
    let mut done = 0_u64;
    let mut from = PhysAddr(0);
    let mut buf = Vec::new();
    while let Some(range) = mem.next_stored(from).filter(|range| range.len != 0) {
        let mut inside = 0;
        while inside < range.len {
            progress(done.saturating_add(inside), all);
            let at = range.start.wrapping_add(inside);
            // The first bytes of the next chunk are read with this one, for a note that begins in it.
            let left = range.len.saturating_sub(inside);
            let len = left.min(limits::WINDOW_LEN.saturating_add(wide(HEAD_LEN)));
            buf.resize(index(len), 0);
            read(mem, at, &mut buf);
            if let Some(text) = search.in_chunk(at, &buf) {
                return Ok(text);
            }
            if search.is_over() {
                return Err(MISSING);
            }
            inside = inside.saturating_add(limits::WINDOW_LEN);
        }
        done = done.saturating_add(range.len);
        from = range.start.wrapping_add(range.len);
    }
    Err(MISSING)
}

/// The text of the note that the absolute lowcore of s390x points to: `vmcore_info` of `struct lowcore`, set at boot for
/// stand-alone dumps.
pub fn by_lowcore(mem: &dyn PhysMem) -> Option<Vec<u8>> {
    const VMCORE_INFO: PhysAddr = PhysAddr(0xe0c);
    let mut raw = [0; 8];
    mem.read_phys(VMCORE_INFO, &mut raw).ok()?;
    let note = PhysAddr(Endian::Big.u64(&raw, 0)?);
    let mut head = [0; HEAD_LEN];
    mem.read_phys(note, &mut head).ok()?;
    read_text(mem, note, text_len(&head, Endian::Big)?)
}

/// The `len` bytes of text of the note at `at`.
fn read_text(mem: &dyn PhysMem, at: PhysAddr, len: u64) -> Option<Vec<u8>> {
    let mut text = vec![0; index(len)];
    mem.read_phys(at.checked_add(HEADER_LEN)?, &mut text).ok()?;
    Some(text)
}

/// The length of the text of the note that starts with `head`, `None` when it is none.
fn text_len(head: &[u8], endian: Endian) -> Option<u64> {
    let descsz = u64::from(endian.u32(head, 4)?);
    let is_note = endian.u32(head, 0)? == 11
        && (1..=limits::VMCOREINFO_LEN).contains(&descsz)
        && endian.u32(head, 8)? == 0
        && head.get(NAME_AT..24)? == NAME
        && head.get(24..HEAD_LEN)? == TEXT;
    is_note.then_some(descsz)
}

const MISSING: Error = Error::Missing {
    key: "VMCOREINFO (neither as a note nor in memory)",
};

/// Fills `buf` from `at`; pages that cannot be read are zero.
fn read(mem: &dyn PhysMem, at: PhysAddr, buf: &mut [u8]) {
    if mem.read_phys(at, buf).is_ok() {
        return;
    }
    let mut at = at;
    let mut rest = buf;
    while !rest.is_empty() {
        let run = limits::PAGE.saturating_sub(at.0 & limits::PAGE.wrapping_sub(1));
        let (now, later) = rest.split_at_mut(index(run).min(rest.len()));
        if mem.read_phys(at, now).is_err() {
            now.fill(0);
        }
        at = at.wrapping_add(run);
        rest = later;
    }
}

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

/// A search, and how many notes it has found.
struct Search<'a> {
    mem: &'a dyn PhysMem,
    endian: Endian,
    accept: &'a mut dyn FnMut(&[u8]) -> bool,
    tries: u64,
}

impl Search<'_> {
    /// True when so many were found that none will be right.
    fn is_over(&self) -> bool {
        self.tries >= limits::VMCOREINFO_TRIES
    }

    /// The text of an accepted note that begins in `chunk`, which is at `start`.
    fn in_chunk(&mut self, start: PhysAddr, chunk: &[u8]) -> Option<Vec<u8>> {
        // Notes are aligned to four, and so are the starts of what is stored.
        let words = (0_usize..).step_by(4).zip(chunk.chunks_exact(4));
        for (at, _) in words.filter(|(_, word)| word == b"VMCO") {
            let head_at = at.checked_sub(NAME_AT);
            let head = head_at.and_then(|head_at| Some((head_at, chunk.get(head_at..)?)));
            let note = head.and_then(|(at, head)| Some((at, text_len(head, self.endian)?)));
            let Some((at, len)) = note else { continue };
            let found = self.offer(start.wrapping_add(wide(at)), len);
            if found.is_some() || self.is_over() {
                return found;
            }
        }
        None
    }

    /// Reads the `len` bytes of text of the note at `at`, if it is accepted.
    fn offer(&mut self, at: PhysAddr, len: u64) -> Option<Vec<u8>> {
        self.tries = self.tries.saturating_add(1);
        let text = read_text(self.mem, at, len)?;
        (self.accept)(&text).then_some(text)
    }
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
    fn notes_are_offered_in_order_until_one_is_accepted() {
        let memory = memory(&[
            (0x1802, b"OSRELEASE=not aligned\n"),
            (
                0x2ff4,
                b"OSRELEASE=across two pages, of an earlier kernel\n",
            ),
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
        assert_eq!(told, [(0, 0x1_0000)]);
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

    #[test]
    fn a_note_across_two_chunks_is_found() {
        let at = 0x800 + 0x8000 - 20;
        let memory = memory(&[(at, b"OSRELEASE=x\n")]);
        let found = vmcoreinfo(&memory, Endian::Big, &mut |_| true, &mut |_, _| {});
        assert_eq!(found, Ok(b"OSRELEASE=x\n".to_vec()));
    }
}
