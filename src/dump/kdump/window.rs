//! A stretch of one of a dump's files that is kept in memory, because what is read next is close by.

use alloc::vec::Vec;

use crate::bytes::{index, wide};
use crate::dump::ReadAt;
use crate::error::Result;

/// The stretch: which file, from where.
pub(super) struct Window {
    part: usize,
    at: u64,
    buf: Vec<u8>,
    /// Where the last answer ended.
    end: u64,
}

impl Window {
    pub(super) fn new() -> Self {
        Window {
            part: usize::MAX,
            at: 0,
            buf: Vec::new(),
            end: 0,
        }
    }

    /// True when `at` of file `part` is where the last answer ended.
    pub(super) fn ends_at(&self, part: usize, at: u64) -> bool {
        self.part == part && self.end == at
    }

    /// The `len` bytes at `at` of `source`, which is file `part`. When they have to be read, `ahead` bytes are, if the
    /// file has that many.
    pub(super) fn get(
        &mut self,
        part: usize,
        source: &dyn ReadAt,
        at: u64,
        len: usize,
        ahead: usize,
    ) -> Result<&[u8]> {
        let inside = at.checked_sub(self.at).map(index);
        let hit = inside
            .filter(|inside| self.part == part && inside.saturating_add(len) <= self.buf.len());
        let inside = match hit {
            Some(inside) => inside,
            None => {
                self.fill(part, source, at, len, ahead)?;
                0
            }
        };
        self.end = at.saturating_add(wide(len));
        Ok(self
            .buf
            .get(inside..inside.saturating_add(len))
            .unwrap_or_default())
    }

    fn fill(
        &mut self,
        part: usize,
        source: &dyn ReadAt,
        at: u64,
        len: usize,
        ahead: usize,
    ) -> Result<()> {
        (self.part, self.at) = (part, at);
        let left = source.len().map(|all| index(all.saturating_sub(at)));
        let ahead = ahead.min(left.unwrap_or(len)).max(len);
        self.buf.resize(ahead, 0);
        let mut read = source.read_at(at, &mut self.buf);
        if read.is_err() && ahead > len {
            self.buf.truncate(len);
            read = source.read_at(at, &mut self.buf);
        }
        if read.is_err() {
            self.buf.clear();
        }
        read
    }
}
