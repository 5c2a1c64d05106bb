//! The bitmap of stored page frames, read in place.
//!
//! Bit `n` is bit `n % 8` of byte `n / 8`, lowest first. The number of set bits before one is its *rank*. To find it
//! without counting from the start, the counts at every [`WINDOW`] bytes are kept as far as they are known: 8 bytes for
//! 32768 frames, 128 MiB of 4 KiB pages. They are made when first needed.

use alloc::vec;
use alloc::vec::Vec;

use super::window::Window;
use crate::bytes::{Endian, index, wide};
use crate::dump::ReadAt;
use crate::error::Result;
use crate::limits;

/// Bytes of bitmap that are read and counted together.
const WINDOW: u64 = 4096;

/// The bitmap of one file.
pub(super) struct Bitmap {
    /// Where it is in the file, and its bytes.
    at: u64,
    len: u64,
    /// The frame whose rank is 0.
    first: u64,
    /// The rank of `first` if counted from frame 0.
    base: Option<u64>,
    /// How many windows one of `counts` spans: 1 but for absurd amounts of memory.
    step: u64,
    /// Set bits before window `n * step`.
    counts: Vec<u64>,
    window: Window,
    /// Set bits before byte `.1` of window `.0`, from the last question.
    last: (u64, usize, u64),
}

impl Bitmap {
    /// The bitmap of `len` bytes at `at`, in which ranks count from frame `first` on.
    pub(super) fn new(at: u64, len: u64, first: u64) -> Self {
        let windows = len.div_ceil(WINDOW);
        Bitmap {
            at,
            len,
            first,
            base: (first == 0).then_some(0),
            step: windows.div_ceil(limits::BITMAP_COUNTS).max(1),
            counts: vec![0],
            window: Window::new(),
            last: (u64::MAX, 0, 0),
        }
    }

    /// The rank of frame `pfn`, `None` when it is not stored.
    pub(super) fn rank(&mut self, source: &dyn ReadAt, pfn: u64) -> Result<Option<u64>> {
        if self.base.is_none() {
            self.base = Some(self.count(source, self.first)?.1);
        }
        let (stored, count) = self.count(source, pfn)?;
        Ok(count
            .checked_sub(self.base.unwrap_or_default())
            .filter(|_| stored))
    }

    /// How many frames are stored from the first on and before `end`.
    pub(super) fn total(&mut self, source: &dyn ReadAt, end: u64) -> Result<u64> {
        let Some(last) = end.min(self.len.saturating_mul(8)).checked_sub(1) else {
            return Ok(0);
        };
        let (stored, before) = self.count(source, last)?;
        let first = self.count(source, self.first)?.1;
        Ok(before.saturating_add(stored.into()).saturating_sub(first))
    }

    /// The first run of stored frames from `from` on and before `end`: where it starts and how many they are.
    pub(super) fn next_run(
        &mut self,
        source: &dyn ReadAt,
        from: u64,
        end: u64,
    ) -> Option<(u64, u64)> {
        let end = end.min(self.len.saturating_mul(8));
        let start = self.find(source, from, end, true)?;
        let after = self.find(source, start, end, false).unwrap_or(end);
        Some((start, after.saturating_sub(start)))
    }

    /// The first frame from `from` on and before `end` that is stored, or that is not.
    fn find(&mut self, source: &dyn ReadAt, from: u64, end: u64, stored: bool) -> Option<u64> {
        let mut byte_at = from / 8;
        // Frames before `from` in its byte do not count.
        let mut mask = 0xff_u8.wrapping_shl(u32::try_from(from % 8).ok()?);
        while byte_at < end.div_ceil(8) {
            let window = byte_at / WINDOW;
            let inside = index(byte_at % WINDOW);
            let bytes = self.window(source, window).ok()?;
            let flip = if stored { 0 } else { 0xff };
            for &byte in bytes.get(inside..)? {
                let bits = (byte ^ flip) & mask;
                if bits != 0 {
                    let found = byte_at
                        .checked_mul(8)?
                        .checked_add(bits.trailing_zeros().into())?;
                    return (found < end).then_some(found);
                }
                mask = 0xff;
                byte_at = byte_at.checked_add(1)?;
            }
        }
        None
    }

    /// Whether frame `pfn` is stored, and how many are before it.
    fn count(&mut self, source: &dyn ReadAt, pfn: u64) -> Result<(bool, u64)> {
        let byte_at = pfn / 8;
        if byte_at >= self.len {
            return Ok((false, 0));
        }
        let number = byte_at / WINDOW;
        let inside = index(byte_at % WINDOW);
        let (mut from, mut count) = match self.last {
            (last, from, count) if last == number && from <= inside => (from, count),
            _ => (0, self.count_before(source, number)?),
        };
        let bytes = self.window(source, number)?;
        count = count.saturating_add(ones(bytes.get(from..inside).unwrap_or_default()));
        from = inside;
        let byte = bytes.get(inside).copied().unwrap_or_default();
        self.last = (number, from, count);
        let bit = 1_u8.wrapping_shl(u32::try_from(pfn % 8).unwrap_or_default());
        let before = (byte & bit.wrapping_sub(1)).count_ones();
        Ok((byte & bit != 0, count.saturating_add(before.into())))
    }

    /// Set bits before window `number`.
    fn count_before(&mut self, source: &dyn ReadAt, number: u64) -> Result<u64> {
        let group = number.checked_div(self.step).unwrap_or_default();
        loop {
            let known = wide(self.counts.len()).saturating_sub(1).min(group);
            let mut count = self.counts.get(index(known)).copied().unwrap_or_default();
            let start = known.saturating_mul(self.step);
            let end = start.saturating_add(self.step);
            for window in start..end.min(number) {
                count = count.saturating_add(ones(self.window(source, window)?));
            }
            if known == group {
                return Ok(count);
            }
            self.counts.push(count);
        }
    }

    fn window(&mut self, source: &dyn ReadAt, number: u64) -> Result<&[u8]> {
        let start = number.saturating_mul(WINDOW);
        let len = index(self.len.saturating_sub(start).min(WINDOW));
        self.window
            .get(0, source, self.at.saturating_add(start), len, len)
    }
}

/// Set bits in `bytes`.
fn ones(bytes: &[u8]) -> u64 {
    let words = bytes.chunks_exact(8);
    let rest: u32 = words.remainder().iter().map(|byte| byte.count_ones()).sum();
    let words = words.map(|word| Endian::Little.u64(word, 0).unwrap_or_default());
    let ones: u32 = words.map(u64::count_ones).sum();
    u64::from(ones.saturating_add(rest))
}
