//! Bit streams of zstd, in both directions.
//!
//! Table descriptions are read forward, lowest bit first. Symbols are read backward from the end, highest bit first:
//! they start below the highest set bit of the last byte, and end exactly with the first byte.

use crate::bytes::{Endian, index};
use crate::dump::codec::{INPUT_ENDS, Result};

/// The 64 bits that start in byte `at`; missing bytes are zero.
fn word(bytes: &[u8], at: usize) -> u64 {
    Endian::Little.u64(bytes, at).unwrap_or_else(|| {
        let rest = bytes.get(at..).unwrap_or_default();
        let bytes = rest.iter().rev();
        bytes.fold(0, |value, &byte| value << 8 | u64::from(byte))
    })
}

fn low_bits(value: u64, count: u32) -> usize {
    index(value & 1_u64.wrapping_shl(count).wrapping_sub(1))
}

/// A stream of bits read from the end.
pub(super) struct Backward<'a> {
    bytes: &'a [u8],
    /// Bits before the place that is read next.
    left: usize,
}

impl<'a> Backward<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self> {
        let last = bytes.last().copied().unwrap_or_default();
        // The highest set bit of the last byte marks the end and is not data.
        let marked = last.checked_ilog2().ok_or("a bit stream has no end mark")?;
        let before = bytes.len().saturating_sub(1);
        let left = before.checked_mul(8).ok_or(INPUT_ENDS)?;
        let left = left.saturating_add(index(u64::from(marked)));
        Ok(Backward { bytes, left })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// The next `count` bits (up to 32), or `None` when there are fewer.
    #[inline]
    pub(super) fn try_take(&mut self, count: u32) -> Option<usize> {
        self.left = self.left.checked_sub(super::place(count))?;
        let shift = u32::try_from(self.left & 7).unwrap_or_default();
        Some(low_bits(word(self.bytes, self.left >> 3) >> shift, count))
    }

    /// The next `count` bits (up to 32).
    #[inline]
    pub(super) fn take(&mut self, count: u32) -> Result<usize> {
        self.try_take(count).ok_or(INPUT_ENDS)
    }

    /// The next `count` bits (up to 32) without passing them, with zeros for those beyond the end.
    #[inline]
    pub(super) fn peek(&self, count: u32) -> usize {
        match self.left.checked_sub(super::place(count)) {
            Some(left) => {
                let shift = u32::try_from(left & 7).unwrap_or_default();
                low_bits(word(self.bytes, left >> 3) >> shift, count)
            }
            None => {
                let have = u32::try_from(self.left).unwrap_or_default();
                low_bits(word(self.bytes, 0), have).wrapping_shl(count.wrapping_sub(have))
            }
        }
    }
}

/// A stream of bits read from the start.
pub(super) struct Forward<'a> {
    bytes: &'a [u8],
    /// The bit that is read next.
    at: usize,
}

impl<'a> Forward<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Forward { bytes, at: 0 }
    }

    /// The next `count` bits (up to 32) without passing them, with zeros for those beyond the end.
    pub(super) fn peek(&self, count: u32) -> usize {
        let shift = u32::try_from(self.at & 7).unwrap_or_default();
        low_bits(word(self.bytes, self.at >> 3) >> shift, count)
    }

    /// Passes `count` bits.
    pub(super) fn skip(&mut self, count: u32) {
        self.at = self.at.saturating_add(super::place(count));
    }

    /// What follows the byte in which the last bit read stands.
    pub(super) fn rest(self) -> Result<&'a [u8]> {
        self.bytes.get(self.at.div_ceil(8)..).ok_or(INPUT_ENDS)
    }
}
