//! Finite State Entropy: the coding of zstd's sequences and of its Huffman tables.
//!
//! A table of 2^log states; each stands for a symbol and says how many bits to read and what to add to them for the next
//! state. It is built from probabilities: a symbol has as many states as its probability, spread over the table.
//! Specified in RFC 8878, section 4.1.

use super::bits::{Backward, Forward};
use super::place;
use crate::dump::codec::Result;

/// Symbols of the largest alphabet: code lengths of Huffman tables and all codes of sequences have fewer.
const SYMBOLS: usize = 256;
const BAD_TABLE: &str = "a table's probabilities do not add up";

#[derive(Clone, Copy)]
struct State {
    symbol: u8,
    bits: u8,
    base: u16,
}

/// A decoding table of up to `SIZE` states.
pub(super) struct Table<const SIZE: usize> {
    states: [State; SIZE],
    /// Log2 of the states in use.
    log: u32,
}

impl<const SIZE: usize> Table<SIZE> {
    pub(super) const EMPTY: Self = Table {
        states: [State {
            symbol: 0,
            bits: 0,
            base: 0,
        }; SIZE],
        log: 0,
    };

    /// Makes the table whose only state stands for `symbol` and reads nothing.
    pub(super) fn repeat(&mut self, symbol: u8) {
        self.log = 0;
        if let Some(state) = self.states.first_mut() {
            *state = State {
                symbol,
                bits: 0,
                base: 0,
            };
        }
    }

    /// Makes the table that a description at the start of `input` tells, for symbols below `symbols`.
    pub(super) fn read(&mut self, input: &mut &[u8], symbols: usize) -> Result<()> {
        let mut bits = Forward::new(input);
        let log = u32::try_from(bits.peek(4))
            .unwrap_or_default()
            .saturating_add(5);
        bits.skip(4);
        if 1_usize.wrapping_shl(log) > SIZE {
            return Err("a table is larger than it may be");
        }
        let mut probabilities = [0; SYMBOLS];
        let mut left = 1_usize.wrapping_shl(log);
        let mut count = 0_usize;
        while left > 0 {
            let value = probability(&mut bits, left);
            let slot = probabilities.get_mut(count).filter(|_| count < symbols);
            *slot.ok_or(BAD_TABLE)? = value;
            count = count.saturating_add(1);
            left = left
                .checked_sub(place(value.unsigned_abs().into()))
                .ok_or(BAD_TABLE)?;
            if value == 0 {
                count = count.saturating_add(zeros(&mut bits)?);
            }
        }
        *input = bits.rest()?;
        self.build(probabilities.get(..count).unwrap_or_default(), log)
    }

    /// Makes the table of 2^`log` states for `probabilities`; -1 stands for "less than one".
    pub(super) fn build(&mut self, probabilities: &[i16], log: u32) -> Result<()> {
        let size = 1_usize.wrapping_shl(log);
        let states = self.states.get_mut(..size).ok_or(BAD_TABLE)?;
        // Symbols of less than one have one state each, at the end.
        let mut end = size;
        for (symbol, _) in (0_u8..=255).zip(probabilities).filter(|&(_, &p)| p == -1) {
            end = end.checked_sub(1).ok_or(BAD_TABLE)?;
            states.get_mut(end).ok_or(BAD_TABLE)?.symbol = symbol;
        }
        let step = (size >> 1).saturating_add(size >> 3).saturating_add(3);
        let mut at = 0_usize;
        for (symbol, &probability) in (0_u8..=255).zip(probabilities) {
            for _ in 0..probability.max(0) {
                states.get_mut(at).ok_or(BAD_TABLE)?.symbol = symbol;
                // At least one state is not at the end while there are states to give, so this finds it.
                at = at.wrapping_add(step) & size.wrapping_sub(1);
                while at >= end && end > 0 {
                    at = at.wrapping_add(step) & size.wrapping_sub(1);
                }
            }
        }
        let mut next = [0_u16; SYMBOLS];
        for (slot, &probability) in next.iter_mut().zip(probabilities) {
            *slot = probability.unsigned_abs();
        }
        for state in states {
            let Some(count) = next.get_mut(usize::from(state.symbol)) else {
                return Err(BAD_TABLE);
            };
            let bits = log.saturating_sub(count.checked_ilog2().ok_or(BAD_TABLE)?);
            let base = place(u32::from(*count))
                .wrapping_shl(bits)
                .wrapping_sub(size);
            state.bits = u8::try_from(bits).unwrap_or_default();
            state.base = u16::try_from(base).map_err(|_| BAD_TABLE)?;
            *count = count.saturating_add(1);
        }
        self.log = log;
        Ok(())
    }

    /// The first state of a stream.
    pub(super) fn start(&self, bits: &mut Backward<'_>) -> Result<usize> {
        bits.take(self.log)
    }

    /// The symbol that `state` stands for.
    #[inline]
    pub(super) fn symbol(&self, state: usize) -> u8 {
        self.states.get(state).map_or(0, |state| state.symbol)
    }

    /// The state after `state`, or `None` at the end of the stream.
    #[inline]
    pub(super) fn next(&self, state: usize, bits: &mut Backward<'_>) -> Option<usize> {
        let state = self.states.get(state)?;
        let low = bits.try_take(u32::from(state.bits))?;
        Some(usize::from(state.base).saturating_add(low))
    }
}

/// After a zero, two bits at a time say how many more zeros follow; 3 says that it goes on.
fn zeros(bits: &mut Forward<'_>) -> Result<usize> {
    let mut count = 0_usize;
    while count <= SYMBOLS {
        let more = bits.peek(2);
        bits.skip(2);
        count = count.saturating_add(more);
        if more < 3 {
            return Ok(count);
        }
    }
    Err(BAD_TABLE)
}

/// A probability of at most `left`, coded in as few bits as that needs: low values of it take one bit less.
fn probability(bits: &mut Forward<'_>, left: usize) -> i16 {
    let most = left.saturating_add(1);
    let wide = most.checked_ilog2().unwrap_or_default().saturating_add(1);
    let narrow = wide.saturating_sub(1);
    let low_mask = 1_usize.wrapping_shl(narrow).wrapping_sub(1);
    let short_codes = 1_usize
        .wrapping_shl(wide)
        .wrapping_sub(1)
        .saturating_sub(most);
    let value = bits.peek(wide);
    let low = value & low_mask;
    let value = if low < short_codes {
        bits.skip(narrow);
        low
    } else {
        bits.skip(wide);
        if value > low_mask {
            value.saturating_sub(short_codes)
        } else {
            value
        }
    };
    i16::try_from(value).unwrap_or(i16::MAX).saturating_sub(1)
}
