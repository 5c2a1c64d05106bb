//! The literals of a zstd block: stored, one repeated byte, or Huffman-coded in one or four streams.
//!
//! | type, sizes | Huffman table, if new | lengths of three streams, if four | streams |
//!
//! They are decoded to the end of the page, from where the sequences take them: what is written from the front never
//! reaches literals that are still to be taken, or the block would not fit the page. So no buffer is needed.
//! Specified in RFC 8878, sections 3.1.1.3.1 and 4.2.

use super::bits::Backward;
use super::fse::Table;
use super::place;
use crate::dump::codec::{INPUT_ENDS, Output, PAGE_FULL, Result, byte, little, take};

/// The longest code of a Huffman table.
const MAX_BITS: u32 = 11;
const BAD_TABLE: &str = "a Huffman table's weights do not add up";

/// A Huffman table: by the next bits of the stream, the symbol and 4 bits of code length.
pub(super) struct Huffman {
    entries: [u16; 1 << MAX_BITS],
    /// Bits to look at; 0 before the first table.
    bits: u32,
}

impl Huffman {
    pub(super) const NONE: Self = Huffman {
        entries: [0; 1 << MAX_BITS],
        bits: 0,
    };

    /// Decodes the literals at the start of `block` to the end of the page of `out`, and returns where they start.
    pub(super) fn literals(&mut self, block: &mut &[u8], out: &mut Output<'_>) -> Result<usize> {
        let &first = block.first().ok_or(INPUT_ENDS)?;
        let (kind, format) = (first & 3, first >> 2 & 3);
        if kind < 2 {
            let size = match format {
                1 => little(block, 2)? >> 4,
                3 => little(block, 3)? >> 4,
                _ => byte(block)? >> 3,
            };
            let (start, target) = tail(out, size)?;
            if kind == 0 {
                target.copy_from_slice(take(block, size)?);
            } else {
                target.fill(take(block, 1)?.first().copied().unwrap_or_default());
            }
            return Ok(start);
        }
        let (len, width) = match format {
            0 | 1 => (3, 10),
            2 => (4, 14),
            _ => (5, 18),
        };
        let mut header = 0_u64;
        for (shift, &byte) in (0_u32..).step_by(8).zip(take(block, len)?) {
            header |= u64::from(byte).wrapping_shl(shift);
        }
        let mask = 1_u64.wrapping_shl(width).wrapping_sub(1);
        let size = crate::bytes::index(header >> 4 & mask);
        let packed = header.wrapping_shr(width.saturating_add(4)) & mask;
        let mut packed = take(block, crate::bytes::index(packed))?;
        if kind == 2 {
            self.read(&mut packed)?;
        } else if self.bits == 0 {
            return Err("it uses a Huffman table before the first");
        }
        let (start, mut target) = tail(out, size)?;
        if format == 0 {
            self.stream(packed, target)?;
            return Ok(start);
        }
        let lengths = [
            little(&mut packed, 2)?,
            little(&mut packed, 2)?,
            little(&mut packed, 2)?,
        ];
        let quarter = size.div_ceil(4);
        for len in lengths {
            let (now, later) = target.split_at_mut_checked(quarter).ok_or(PAGE_FULL)?;
            self.stream(take(&mut packed, len)?, now)?;
            target = later;
        }
        self.stream(packed, target)?;
        Ok(start)
    }

    /// Decodes one stream, which fills `target` and ends with it.
    fn stream(&self, stream: &[u8], target: &mut [u8]) -> Result<()> {
        let mut bits = Backward::new(stream)?;
        for slot in target {
            let &entry = self.entries.get(bits.peek(self.bits)).ok_or(BAD_TABLE)?;
            bits.take(u32::from(entry & 15))?;
            *slot = u8::try_from(entry >> 4).unwrap_or_default();
        }
        if bits.is_empty() {
            Ok(())
        } else {
            Err("a stream of literals is too long")
        }
    }

    /// Reads a table description: the weights of all symbols but the last, FSE-coded or 4 bits each.
    fn read(&mut self, input: &mut &[u8]) -> Result<()> {
        let mut weights = [0_u8; 256];
        let header = byte(input)?;
        let count = match header.checked_sub(127) {
            Some(count) => {
                let packed = take(input, count.div_ceil(2))?;
                for (pair, &byte) in weights.chunks_mut(2).zip(packed) {
                    pair.copy_from_slice(&[byte >> 4, byte & 15]);
                }
                count
            }
            None => coded_weights(take(input, header)?, &mut weights)?,
        };
        self.build(&mut weights, count)
    }

    /// Builds the table. A symbol of weight `w` has 2^(w-1) entries, 0 none; the last symbol's weight makes the sum a
    /// power of two.
    fn build(&mut self, weights: &mut [u8; 256], count: usize) -> Result<()> {
        // An odd number of packed weights has one too many read.
        weights.get_mut(count..).ok_or(BAD_TABLE)?.fill(0);
        let entries = |weight: u8| 1_u32.wrapping_shl(weight.into()) >> 1;
        if weights.iter().any(|&weight| u32::from(weight) > MAX_BITS) {
            return Err(BAD_TABLE);
        }
        let sum = weights
            .iter()
            .fold(0_u32, |sum, &weight| sum.saturating_add(entries(weight)));
        let bits = sum.checked_ilog2().ok_or(BAD_TABLE)?.saturating_add(1);
        let rest = 1_u32.wrapping_shl(bits).saturating_sub(sum);
        if bits > MAX_BITS || !rest.is_power_of_two() {
            return Err(BAD_TABLE);
        }
        let last = rest.ilog2().saturating_add(1);
        *weights.get_mut(count).ok_or(BAD_TABLE)? = u8::try_from(last).unwrap_or_default();
        let mut at = 0_usize;
        for weight in 1..=u8::try_from(bits).unwrap_or_default() {
            let len = u16::try_from(bits).unwrap_or_default().saturating_add(1);
            let len = len.saturating_sub(u16::from(weight));
            for (symbol, _) in (0_u16..).zip(weights.iter()).filter(|&(_, &w)| w == weight) {
                let end = at.saturating_add(place(entries(weight)));
                self.entries
                    .get_mut(at..end)
                    .ok_or(BAD_TABLE)?
                    .fill(symbol << 4 | len);
                at = end;
            }
        }
        self.bits = bits;
        Ok(())
    }
}

/// The last `size` bytes of the page, and where they start.
fn tail<'o>(out: &'o mut Output<'_>, size: usize) -> Result<(usize, &'o mut [u8])> {
    if size > out.room() {
        return Err(PAGE_FULL);
    }
    let start = out.page.len().saturating_sub(size);
    Ok((start, out.page.get_mut(start..).ok_or(PAGE_FULL)?))
}

/// Decodes weights from two FSE states that take turns, until the stream cannot feed one.
fn coded_weights(input: &[u8], weights: &mut [u8; 256]) -> Result<usize> {
    let mut input = input;
    let mut table = Table::<64>::EMPTY;
    table.read(&mut input, 256)?;
    let mut bits = Backward::new(input)?;
    let mut this = table.start(&mut bits)?;
    let mut other = table.start(&mut bits)?;
    // The last weight is not told, so there are 255 at most.
    for count in 0_usize..254 {
        let slot = weights.get_mut(count..count.saturating_add(2));
        if let Some([now, next]) = slot {
            (*now, *next) = (table.symbol(this), table.symbol(other));
        }
        match table.next(this, &mut bits) {
            Some(state) => (this, other) = (other, state),
            None => return Ok(count.saturating_add(2)),
        }
    }
    Err(BAD_TABLE)
}
