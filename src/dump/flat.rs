//! makedumpfile's flattened stream: a dump as a list of writes, so that it can go through a pipe.
//!
//! | `makedumpfile`, type 1, version 1 | ... 4096: | offset, size, bytes | offset, size, bytes | ... | -1, -1 |
//!
//! All numbers are big-endian and signed 64-bit. The writes come in no order and may overwrite each other: the later
//! one counts. Specified by `makedumpfile.h` (`struct makedumpfile_header`, `makedumpfile_data_header`).
//!
//! The list is read once and kept sorted, 24 bytes a record, so that the dump can be read at any offset without being
//! put together.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;

use super::ReadAt;
use crate::bytes::{Endian, index, wide};
use crate::error::{At, Error, Result};
use crate::limits;

const SIGNATURE: &[u8; 16] = b"makedumpfile\0\0\0\0";
/// Where the first record stands.
const RECORDS_AT: u64 = 4096;
const RECORD_LEN: u64 = 16;

/// Bytes of the dump that stand together in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Extent {
    /// Where in the dump.
    offset: u64,
    len: u64,
    /// Where in the stream.
    at: u64,
}

impl Extent {
    fn end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }
}

/// A flattened dump, read as if it had been put together.
pub struct Flat<'s> {
    file: &'s dyn ReadAt,
    /// Sorted and disjoint.
    extents: Vec<Extent>,
    complete: bool,
}

impl<'s> Flat<'s> {
    /// True when `file` starts like a flattened stream.
    pub fn is(file: &dyn ReadAt) -> bool {
        let mut signature = [0; 16];
        file.read_at(0, &mut signature).is_ok() && signature == *SIGNATURE
    }

    /// Reads all record headers of `file`.
    ///
    /// # Errors
    /// `Unsupported` for another version, `Limit` for more records than are kept, `Truncated` without any record. A
    /// stream that is cut later is what it is up to there.
    pub fn open(file: &'s dyn ReadAt) -> Result<Self> {
        let mut header = [0; 32];
        file.read_at(0, &mut header)?;
        for (what, at) in [("flattened type", 16), ("flattened version", 24)] {
            let value = Endian::Big.u64(&header, at).unwrap_or_default();
            if value != 1 {
                return Err(Error::Unsupported { what, value });
            }
        }
        let mut records = Vec::new();
        let mut at = RECORDS_AT;
        let complete = loop {
            let mut raw = [0; 16];
            match file.read_at(at, &mut raw) {
                Ok(()) => {}
                Err(Error::Truncated { .. }) if !records.is_empty() => break false,
                Err(error) => return Err(error),
            }
            let offset = Endian::Big.u64(&raw, 0).unwrap_or_default();
            let len = Endian::Big.u64(&raw, 8).unwrap_or_default();
            if offset == u64::MAX {
                break true;
            }
            let data = at.saturating_add(RECORD_LEN);
            let next = data
                .checked_add(len)
                .filter(|_| offset.checked_add(len).is_some());
            let Some(next) = next.filter(|&next| next < 1 << 63) else {
                if records.is_empty() {
                    return Err(Error::Invalid {
                        what: "a flattened record's size",
                        at: At::File(at.saturating_add(8)),
                        value: len,
                        why: "points out of any file",
                    });
                }
                break false;
            };
            push(
                &mut records,
                Extent {
                    offset,
                    len,
                    at: data,
                },
            )?;
            at = next;
        };
        Ok(Flat {
            file,
            extents: disjoint(records),
            complete,
        })
    }

    /// False when the stream ends without its end mark.
    pub fn is_complete(&self) -> bool {
        self.complete
    }
}

fn push(records: &mut Vec<Extent>, record: Extent) -> Result<()> {
    if record.len == 0 {
        return Ok(());
    }
    let count = wide(records.len());
    if count >= limits::FLAT_RECORDS {
        return Err(Error::Limit {
            what: "the number of flattened records",
            value: count,
            max: limits::FLAT_RECORDS,
        });
    }
    records.push(record);
    Ok(())
}

/// Sorts records by where they go and cuts away what later ones overwrite.
fn disjoint(mut records: Vec<Extent>) -> Vec<Extent> {
    records.sort_unstable_by_key(|record| record.offset);
    let overlap = records
        .windows(2)
        .any(|pair| matches!(pair, [a, b] if a.end() > b.offset));
    if !overlap {
        return records;
    }
    // A sweep over the dump. On top of the heap is the latest of the writes that go on here, since the stream is in
    // the order of time.
    let mut done: Vec<Extent> = Vec::with_capacity(records.len());
    let mut open: BinaryHeap<(u64, Extent)> = BinaryHeap::new();
    let mut starts = records.iter().peekable();
    let mut here = 0;
    loop {
        while open.peek().is_some_and(|(_, top)| top.end() <= here) {
            open.pop();
        }
        let next = starts.peek().map(|record| record.offset);
        let Some((_, top)) = open.peek().filter(|_| next.is_none_or(|next| next > here)) else {
            let Some(&record) = starts.next() else {
                return done;
            };
            here = here.max(record.offset);
            open.push((record.at, record));
            continue;
        };
        let until = next.unwrap_or(u64::MAX).min(top.end());
        add(&mut done, top, here, until);
        here = until;
    }
}

/// Adds the part of `record` from `start` to `end`, to the last one if it goes on there.
fn add(done: &mut Vec<Extent>, record: &Extent, start: u64, end: u64) {
    let at = record
        .at
        .saturating_add(start.saturating_sub(record.offset));
    let len = end.saturating_sub(start);
    match done.last_mut() {
        Some(last) if last.end() == start && last.at.saturating_add(last.len) == at => {
            last.len = last.len.saturating_add(len);
        }
        _ => done.push(Extent {
            offset: start,
            len,
            at,
        }),
    }
}

impl ReadAt for Flat<'_> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let need = wide(buf.len());
        let have = self.len().unwrap_or_default().saturating_sub(offset);
        if have < need {
            return Err(Error::Truncated {
                what: "the flattened dump",
                at: At::File(offset),
                need,
                have,
            });
        }
        let first = self
            .extents
            .partition_point(|extent| extent.end() <= offset);
        let mut extents = self.extents.get(first..).unwrap_or_default().iter();
        let (mut rest, mut here) = (buf, offset);
        while !rest.is_empty() {
            let extent = extents.next();
            // What was never written is a gap in the file, which reads as zeros.
            let gap = extent.map_or(u64::MAX, |extent| extent.offset.saturating_sub(here));
            let (zeros, later) = rest.split_at_mut(index(gap).min(rest.len()));
            zeros.fill(0);
            here = here.saturating_add(wide(zeros.len()));
            let Some(extent) = extent else { return Ok(()) };
            let inside = here.saturating_sub(extent.offset);
            let run = index(extent.len.saturating_sub(inside));
            let (now, later) = later.split_at_mut(run.min(later.len()));
            self.file.read_at(extent.at.saturating_add(inside), now)?;
            here = here.saturating_add(wide(now.len()));
            rest = later;
        }
        Ok(())
    }

    fn len(&self) -> Option<u64> {
        Some(self.extents.last().map_or(0, Extent::end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    struct Slice(Vec<u8>);

    impl ReadAt for Slice {
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
            let have = self.0.get(index(offset)..).unwrap_or_default();
            let short = Error::Truncated {
                what: "file",
                at: At::File(offset),
                need: wide(buf.len()),
                have: wide(have.len()),
            };
            buf.copy_from_slice(have.get(..buf.len()).ok_or(short)?);
            Ok(())
        }

        fn len(&self) -> Option<u64> {
            Some(wide(self.0.len()))
        }
    }

    fn stream(records: &[(u64, &[u8])], ended: bool) -> Slice {
        let mut file = b"makedumpfile\0\0\0\0".to_vec();
        file.extend([0, 0, 0, 0, 0, 0, 0, 1]); // type
        file.extend([0, 0, 0, 0, 0, 0, 0, 1]); // version
        file.resize(4096, 0);
        for (offset, bytes) in records {
            file.extend(offset.to_be_bytes());
            file.extend((bytes.len() as u64).to_be_bytes());
            file.extend(*bytes);
        }
        if ended {
            file.extend([0xff; 16]);
        }
        Slice(file)
    }

    fn whole(file: &Slice) -> Vec<u8> {
        let flat = Flat::open(file).unwrap();
        let mut out = vec![0x55; index(flat.len().unwrap())];
        flat.read_at(0, &mut out).unwrap();
        // The same a byte at a time.
        for (at, &byte) in out.iter().enumerate() {
            let mut one = [0];
            flat.read_at(wide(at), &mut one).unwrap();
            assert_eq!(one, [byte], "byte {at}");
        }
        out
    }

    #[test]
    fn records_are_put_in_order_and_gaps_are_zero() {
        let file = stream(&[(6, b"ghi"), (0, b"abc"), (3, b"d")], true);
        assert_eq!(whole(&file), b"abcd\0\0ghi");
        assert!(Flat::open(&file).unwrap().is_complete());
    }

    #[test]
    fn the_later_record_wins_whatever_the_overlap() {
        let records: [(u64, &[u8]); 6] = [
            (0, b"aaaaaaaaaa"),
            (2, b"bbb"),
            (4, b"cc"),
            (0, b"d"),
            (8, b"eeeee"),
            (9, b""),
        ];
        assert_eq!(whole(&stream(&records, true)), b"dabbccaaeeeee");
        let records: [(u64, &[u8]); 3] = [(3, b"x"), (2, b"yyy"), (0, b"zzzzzz")];
        assert_eq!(whole(&stream(&records, true)), b"zzzzzz");
    }

    #[test]
    fn overlaps_in_any_order_equal_a_file_that_was_written_so() {
        let mut random = 1_u64;
        for _ in 0..50 {
            let mut expected = Vec::new();
            let mut records = Vec::new();
            for n in 0..20_u8 {
                random = random
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                let (at, len) = ((random >> 33) % 60, (random >> 50) % 12 + 1);
                let (start, end) = (index(at), index(at + len));
                if expected.len() < end {
                    expected.resize(end, 0);
                }
                expected[start..end].fill(b'a' + n);
                records.push((at, vec![b'a' + n; index(len)]));
            }
            let records: Vec<(u64, &[u8])> = records
                .iter()
                .map(|(at, bytes)| (*at, &bytes[..]))
                .collect();
            assert_eq!(whole(&stream(&records, true)), expected);
        }
    }

    #[test]
    fn a_cut_stream_is_what_it_is_up_to_there() {
        let file = stream(&[(0, b"abc"), (3, b"def")], false);
        assert!(!Flat::open(&file).unwrap().is_complete());
        assert_eq!(whole(&file), b"abcdef");
        let mut cut = file;
        cut.0.truncate(4096 + 19 + 18);
        let flat = Flat::open(&cut).unwrap();
        let mut buf = [0; 3];
        assert_eq!(flat.read_at(0, &mut buf), Ok(()));
        assert!(
            flat.read_at(3, &mut buf).is_err(),
            "the record's bytes are cut"
        );
        assert!(flat.read_at(4, &mut buf).is_err(), "beyond the end");
    }

    #[test]
    fn random_record_headers_do_no_harm() {
        let mut random = 7_u64;
        for _ in 0..300 {
            let records: Vec<(u64, Vec<u8>)> =
                (0..20).map(|n| (n * 50, vec![n as u8; 60])).collect();
            let records: Vec<(u64, &[u8])> = records.iter().map(|(at, b)| (*at, &b[..])).collect();
            let mut file = stream(&records, true);
            for _ in 0..3 {
                random = random
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                let record = (random >> 40) as usize % 20;
                let byte = (random >> 33) as usize % 16;
                file.0[4096 + record * 76 + byte] = (random >> 24) as u8;
            }
            let Ok(flat) = Flat::open(&file) else {
                continue;
            };
            let mut last_end = 0;
            for extent in &flat.extents {
                assert!(
                    extent.offset >= last_end && extent.len > 0,
                    "sorted and disjoint"
                );
                last_end = extent.end();
                let _ = flat.read_at(extent.offset, &mut [0; 100]);
            }
        }
    }

    #[test]
    fn absurd_headers_are_refused() {
        assert!(Flat::open(&stream(&[], false)).is_err(), "no record");
        assert!(!Flat::is(&Slice(b"makedumpfile".to_vec())));
        let mut other = stream(&[(0, b"abc")], true);
        other.0[31] = 2;
        assert!(matches!(Flat::open(&other), Err(Error::Unsupported { .. })));
        let mut huge = stream(&[(0, b"abc")], true);
        huge.0[4096 + 8] = 0x80;
        assert!(matches!(Flat::open(&huge), Err(Error::Invalid { .. })));
    }
}
