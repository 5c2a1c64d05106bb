//! The sequences of a zstd block: so many literals, then so many bytes from so far back.
//!
//! | number | modes | tables of literal lengths, offsets, match lengths | bit stream, read backward |
//!
//! Each of the three numbers is a code from an FSE table plus extra bits. A table is predefined, one repeated code, new,
//! or the last one. Offsets 1 to 3 mean one of the last three distances. Specified in RFC 8878, section 3.1.1.3.2 and
//! appendix A.

use super::bits::Backward;
use super::fse::Table;
use crate::dump::codec::{DISTANCE, INPUT_ENDS, Output, PAGE_FULL, Result, byte, little};

const LITERAL_LENGTHS: [i16; 36] = [
    4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1,
    -1, -1, -1, -1,
];
const OFFSETS: [i16; 29] = [
    1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1,
];
const MATCH_LENGTHS: [i16; 53] = [
    1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
];
/// Extra bits of literal length codes from 16 on; those before stand for themselves.
const LITERAL_BITS: [u8; 20] = [
    1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
];
/// Extra bits of match length codes from 32 on; those before stand for themselves, plus 3.
const MATCH_BITS: [u8; 21] = [
    1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16,
];
/// The highest offset code: 2^31 and more, far beyond any page.
const MAX_OFFSET_CODE: u8 = 31;
const BAD_CODE: &str = "it has a code that stands for nothing";

/// The tables and distances that one block leaves to the next.
pub(super) struct Codes {
    literal_lengths: Kind<512>,
    offsets: Kind<256>,
    match_lengths: Kind<512>,
    /// The last three distances, the last one first.
    distances: [usize; 3],
}

/// One of the three tables, and whether there was one.
struct Kind<const SIZE: usize> {
    table: Table<SIZE>,
    known: bool,
}

impl<const SIZE: usize> Kind<SIZE> {
    const NEW: Self = Kind {
        table: Table::EMPTY,
        known: false,
    };

    /// Makes the table ready that `mode` asks for.
    fn prepare(
        &mut self,
        mode: usize,
        input: &mut &[u8],
        predefined: &[i16],
        log: u32,
        symbols: usize,
    ) -> Result<()> {
        match mode & 3 {
            0 => self.table.build(predefined, log)?,
            1 => match u8::try_from(byte(input)?) {
                Ok(symbol) if usize::from(symbol) < symbols => self.table.repeat(symbol),
                _ => return Err(BAD_CODE),
            },
            2 => self.table.read(input, symbols)?,
            _ if self.known => {}
            _ => return Err("it uses a table of sequences before the first"),
        }
        self.known = true;
        Ok(())
    }
}

impl Codes {
    pub(super) const NEW: Self = Codes {
        literal_lengths: Kind::NEW,
        offsets: Kind::NEW,
        match_lengths: Kind::NEW,
        distances: [1, 4, 8],
    };

    /// Runs the sequences of `block`, taking literals from the end of the page, where they start at `literals`. No
    /// distance may reach before `start`, where the frame's output does.
    pub(super) fn run(
        &mut self,
        block: &[u8],
        out: &mut Output<'_>,
        start: usize,
        literals: usize,
    ) -> Result<()> {
        let mut block = block;
        let mut literals = literals;
        let count = match byte(&mut block)? {
            255 => little(&mut block, 2)?.saturating_add(0x7f00),
            high @ 128.. => (high & 127) << 8 | byte(&mut block)?,
            low => low,
        };
        if count > 0 {
            let modes = byte(&mut block)?;
            if modes & 3 != 0 {
                return Err("its sequences have a reserved bit set");
            }
            let input = &mut block;
            self.literal_lengths
                .prepare(modes >> 6, input, &LITERAL_LENGTHS, 6, 36)?;
            self.offsets.prepare(modes >> 4, input, &OFFSETS, 5, 32)?;
            self.match_lengths
                .prepare(modes >> 2, input, &MATCH_LENGTHS, 6, 53)?;
            self.sequences(count, block, out, start, &mut literals)?;
        } else if !block.is_empty() {
            return Err("bytes follow its literals");
        }
        let rest = out.page.len().saturating_sub(literals);
        take_literals(out, &mut literals, rest)
    }

    fn sequences(
        &mut self,
        count: usize,
        stream: &[u8],
        out: &mut Output<'_>,
        start: usize,
        literals: &mut usize,
    ) -> Result<()> {
        let bits = &mut Backward::new(stream)?;
        let mut literal_state = self.literal_lengths.table.start(bits)?;
        let mut offset_state = self.offsets.table.start(bits)?;
        let mut match_state = self.match_lengths.table.start(bits)?;
        for left in (0..count).rev() {
            let code = self.offsets.table.symbol(offset_state).min(MAX_OFFSET_CODE);
            let offset = 1_usize.wrapping_shl(code.into()) | bits.take(code.into())?;
            let code = self.match_lengths.table.symbol(match_state);
            let match_len = number(bits, code, 32, &MATCH_BITS)?.saturating_add(3);
            let code = self.literal_lengths.table.symbol(literal_state);
            let literal_len = number(bits, code, 16, &LITERAL_BITS)?;
            let distance = self.distance(offset, literal_len)?;
            take_literals(out, literals, literal_len)?;
            if distance > out.len.saturating_sub(start) {
                return Err(DISTANCE);
            }
            // Copying over literals that are still to be taken would spoil them.
            if match_len > literals.saturating_sub(out.len) {
                return Err(PAGE_FULL);
            }
            out.copy(distance, match_len)?;
            if left > 0 {
                let ends = INPUT_ENDS;
                literal_state = self
                    .literal_lengths
                    .table
                    .next(literal_state, bits)
                    .ok_or(ends)?;
                match_state = self
                    .match_lengths
                    .table
                    .next(match_state, bits)
                    .ok_or(ends)?;
                offset_state = self.offsets.table.next(offset_state, bits).ok_or(ends)?;
            }
        }
        if bits.is_empty() {
            Ok(())
        } else {
            Err("its sequences are too long")
        }
    }

    /// The distance that `offset` means, which becomes the last one. Without literals before it the small ones mean the
    /// second and third last distance, and one less than the last.
    fn distance(&mut self, offset: usize, literal_len: usize) -> Result<usize> {
        let [first, second, third] = self.distances;
        let shift = usize::from(literal_len == 0);
        let (distance, order) = match offset.saturating_add(shift) {
            _ if offset > 3 => (offset.saturating_sub(3), [first, second]),
            1 => return Ok(first),
            2 => (second, [first, third]),
            3 => (third, [first, second]),
            _ => (first.saturating_sub(1), [first, second]),
        };
        if distance == 0 {
            return Err(DISTANCE);
        }
        let [second, third] = order;
        self.distances = [distance, second, third];
        Ok(distance)
    }
}

/// The number that `code` stands for: itself below `plain`, from there on a base and extra bits.
fn number(bits: &mut Backward<'_>, code: u8, plain: u8, extra: &[u8]) -> Result<usize> {
    let Some(place) = code.checked_sub(plain) else {
        return Ok(code.into());
    };
    let place = usize::from(place);
    let &width = extra.get(place).ok_or(BAD_CODE)?;
    let below = extra.iter().take(place);
    let base = below.fold(usize::from(plain), |base, &bits| {
        base.saturating_add(1_usize.wrapping_shl(bits.into()))
    });
    Ok(base.saturating_add(bits.take(width.into())?))
}

/// Moves `len` literals from the end of the page to where the output is.
fn take_literals(out: &mut Output<'_>, literals: &mut usize, len: usize) -> Result<()> {
    let end = literals.saturating_add(len);
    if end > out.page.len() {
        return Err("it takes more literals than it has");
    }
    let target = out.len;
    out.extend(len)?;
    out.page.copy_within(*literals..end, target);
    *literals = end;
    Ok(())
}
