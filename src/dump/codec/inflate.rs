//! zlib: the streams of `makedumpfile -c`, one a page.
//!
//! | CMF FLG | deflate blocks | Adler-32 of the page, big-endian |
//!
//! Specified in RFC 1950 (the wrapping) and RFC 1951 (deflate). A block is stored, or coded with the fixed or with its
//! own two Huffman codes. Codes up to [`FAST_BITS`] are found by one look into a table, longer ones by counting.

use super::{INPUT_ENDS, Output, Result, take};
use crate::bytes::{Endian, index};

const LENGTH_BASE: [u16; 29] = [
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131,
    163, 195, 227, 258,
];
const LENGTH_BITS: [u8; 29] = [
    0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0,
];
const DISTANCE_BASE: [u16; 30] = [
    1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537,
    2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577,
];
/// The order in which a block tells the lengths of the codes for code lengths.
const LENGTH_ORDER: [u8; 19] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];
const MAX_BITS: usize = 15;
const FAST_BITS: u32 = 9;
const END_OF_BLOCK: u16 = 256;
const BAD_CODE: &str = "it has a code that stands for nothing";
const BAD_LENGTHS: &str = "its code lengths make no code";

/// Decodes the zlib stream `input` into `page` and returns how many bytes it made.
///
/// # Errors
/// The reason, when `input` is no zlib stream, holds more than `page` takes, or its checksum is wrong.
pub fn decompress(input: &[u8], page: &mut [u8]) -> Result<usize> {
    let mut input = input;
    let header = take(&mut input, 2)?;
    let check = Endian::Big.u16(header, 0).unwrap_or_default();
    let [cmf, flags] = check.to_be_bytes();
    if cmf & 0x0f != 8 || check.checked_rem(31) != Some(0) || flags & 0x20 != 0 {
        return Err("it has no zlib header");
    }
    let mut bits = Bits {
        input,
        at: 0,
        hold: 0,
        count: 0,
    };
    let mut out = Output::new(page);
    loop {
        let last = bits.take(1)?;
        match bits.take(2)? {
            0 => stored(&mut bits, &mut out)?,
            1 => {
                let mut lengths = [8; 288];
                for (symbol, length) in lengths.iter_mut().enumerate().skip(144) {
                    *length = match symbol {
                        ..256 => 9,
                        256..280 => 7,
                        _ => 8,
                    };
                }
                coded(&mut bits, &mut out, &lengths, &[5; 32])?;
            }
            2 => dynamic(&mut bits, &mut out)?,
            _ => return Err("it has a block of no known type"),
        }
        if last == 1 {
            break;
        }
    }
    let sum = Endian::Big.u32(bits.bytes(4)?, 0);
    if sum != Some(adler32(out.page.get(..out.len).unwrap_or_default())) {
        return Err("its checksum is wrong");
    }
    Ok(out.len)
}

/// The bits of a stream, lowest first.
struct Bits<'a> {
    input: &'a [u8],
    /// The first byte of `input` that is not counted in `count`.
    at: usize,
    /// The next `count` bits; what is above them is either zero or the bits that follow.
    hold: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    /// Makes at least 48 bits ready, fewer only at the end of the input.
    #[inline]
    fn refill(&mut self) {
        if self.count >= 48 {
            return;
        }
        if let Some(word) = Endian::Little.u64(self.input, self.at) {
            let bytes = 63_u32.saturating_sub(self.count) >> 3;
            self.hold |= word.wrapping_shl(self.count);
            self.at = self.at.saturating_add(index(u64::from(bytes)));
            self.count = self.count.saturating_add(bytes << 3);
            return;
        }
        while self.count < 56
            && let Some(&byte) = self.input.get(self.at)
        {
            self.hold |= u64::from(byte).wrapping_shl(self.count);
            self.at = self.at.saturating_add(1);
            self.count = self.count.saturating_add(8);
        }
    }

    /// Passes over `len` bits that were looked at.
    #[inline]
    fn skip(&mut self, len: u32) -> Result<()> {
        self.count = self.count.checked_sub(len).ok_or(INPUT_ENDS)?;
        self.hold = self.hold.wrapping_shr(len);
        Ok(())
    }

    /// Takes a number of up to 16 bits that are ready.
    #[inline]
    fn ready(&mut self, len: u32) -> Result<usize> {
        let mask = 1_u64.wrapping_shl(len).wrapping_sub(1);
        let value = index(self.hold & mask);
        self.skip(len)?;
        Ok(value)
    }

    /// Takes a number of up to 16 bits.
    fn take(&mut self, len: u32) -> Result<usize> {
        self.refill();
        self.ready(len)
    }

    /// Takes `len` bytes that start at the next whole one.
    fn bytes(&mut self, len: usize) -> Result<&'a [u8]> {
        let unread = index(u64::from(self.count >> 3));
        let start = self.at.saturating_sub(unread);
        let end = start.saturating_add(len);
        let bytes = self.input.get(start..end).ok_or(INPUT_ENDS)?;
        (self.at, self.hold, self.count) = (end, 0, 0);
        Ok(bytes)
    }
}

/// A canonical Huffman code.
struct Code {
    /// By the next [`FAST_BITS`] bits: the symbol, then 4 bits of code length; 0 when the code is longer.
    fast: [u16; 1 << FAST_BITS],
    /// How many codes have each length.
    counts: [u16; MAX_BITS + 1],
    /// The symbols in the order of their codes.
    symbols: [u16; 288],
}

impl Code {
    /// The code in which symbol `n` has `lengths[n]` bits, 0 for none.
    ///
    /// As in zlib, a code must be complete, but for one of a single symbol, or of none that is never used.
    fn new(lengths: &[u8]) -> Result<Self> {
        let mut code = Code {
            fast: [0; 1 << FAST_BITS],
            counts: [0; MAX_BITS + 1],
            symbols: [0; 288],
        };
        for &length in lengths {
            let count = code
                .counts
                .get_mut(usize::from(length))
                .ok_or(BAD_LENGTHS)?;
            *count = count.saturating_add(1);
        }
        let mut left = 1_u32;
        let mut start = 0_u16;
        let mut starts = [0_u16; MAX_BITS + 1];
        // The first code of each length, and where its symbol stands.
        let mut first = 0_u32;
        let mut firsts = [0_u32; MAX_BITS + 1];
        let slots = starts.iter_mut().zip(&mut firsts);
        for ((slot, slot_first), &count) in slots.zip(&code.counts).skip(1) {
            left = (left << 1)
                .checked_sub(u32::from(count))
                .ok_or(BAD_LENGTHS)?;
            first <<= 1;
            (*slot, *slot_first) = (start, first);
            start = start.saturating_add(count);
            first = first.saturating_add(u32::from(count));
        }
        let single = code.counts.iter().skip(2).all(|&count| count == 0);
        if left != 0 && !single {
            return Err(BAD_LENGTHS);
        }
        for (symbol, &length) in (0_u16..).zip(lengths).filter(|&(_, &length)| length != 0) {
            let length = usize::from(length);
            let (Some(start), Some(first)) = (starts.get_mut(length), firsts.get_mut(length))
            else {
                return Err(BAD_LENGTHS);
            };
            if let Some(slot) = code.symbols.get_mut(usize::from(*start)) {
                *slot = symbol;
            }
            code.add_fast(*first, length, symbol);
            *start = start.saturating_add(1);
            *first = first.saturating_add(1);
        }
        Ok(code)
    }

    /// Fills the places of `fast` whose low bits are the code `bits`, which a stream holds highest bit first.
    fn add_fast(&mut self, bits: u32, length: usize, symbol: u16) {
        let len = u32::try_from(length).unwrap_or_default();
        if len > FAST_BITS {
            return;
        }
        let reversed = bits.reverse_bits().wrapping_shr(32_u32.saturating_sub(len));
        let entry = symbol << 4 | u16::try_from(length).unwrap_or_default();
        let step = 1_usize.wrapping_shl(len);
        let places = self.fast.iter_mut().skip(index(u64::from(reversed)));
        places.step_by(step).for_each(|place| *place = entry);
    }

    /// Takes a symbol of up to 15 bits that are ready.
    #[inline]
    fn symbol(&self, bits: &mut Bits<'_>) -> Result<u16> {
        let place = index(bits.hold & ((1 << FAST_BITS) - 1));
        match self.fast.get(place) {
            Some(&entry) if entry != 0 => {
                bits.skip(u32::from(entry & 15))?;
                Ok(entry >> 4)
            }
            _ => self.long_symbol(bits),
        }
    }

    fn long_symbol(&self, bits: &mut Bits<'_>) -> Result<u16> {
        let (mut code, mut first, mut start, mut rest) = (0_u32, 0_u32, 0_u32, bits.hold);
        for (length, &count) in (1..).zip(self.counts.iter().skip(1)) {
            code = code << 1 | u32::from(rest & 1 != 0);
            rest >>= 1;
            first <<= 1;
            let place = code.wrapping_sub(first);
            if place < u32::from(count) {
                bits.skip(length)?;
                let place = index(u64::from(start.saturating_add(place)));
                return self.symbols.get(place).copied().ok_or(BAD_CODE);
            }
            start = start.saturating_add(u32::from(count));
            first = first.saturating_add(u32::from(count));
        }
        Err(BAD_CODE)
    }
}

/// A block that is not compressed: its length, the same inverted, and the bytes.
fn stored(bits: &mut Bits<'_>, out: &mut Output<'_>) -> Result<()> {
    let header = bits.bytes(4)?;
    let len = Endian::Little.u16(header, 0).unwrap_or_default();
    if Endian::Little.u16(header, 2) != Some(!len) {
        return Err("a stored block's length is wrong");
    }
    out.literals(bits.bytes(usize::from(len))?)
}

/// A block that tells its codes: as code lengths, run-length coded, in a Huffman code of their own.
fn dynamic(bits: &mut Bits<'_>, out: &mut Output<'_>) -> Result<()> {
    let literals = bits.take(5)?.saturating_add(257);
    let distances = bits.take(5)?.saturating_add(1);
    let told = bits.take(4)?.saturating_add(4);
    let mut order = [0; 19];
    for &place in LENGTH_ORDER.iter().take(told) {
        let length = u8::try_from(bits.take(3)?).unwrap_or_default();
        if let Some(slot) = order.get_mut(usize::from(place)) {
            *slot = length;
        }
    }
    let code = Code::new(&order)?;
    let mut lengths = [0; 286 + 30];
    let all = literals.saturating_add(distances);
    if literals > 286 || distances > 30 {
        return Err(BAD_LENGTHS);
    }
    let mut done = 0;
    while done < all {
        bits.refill();
        let symbol = code.symbol(bits)?;
        let previous = done.checked_sub(1).and_then(|last| lengths.get(last));
        let (length, times) = match symbol {
            16 => (
                previous.copied().ok_or(BAD_LENGTHS)?,
                bits.ready(2)?.saturating_add(3),
            ),
            17 => (0, bits.ready(3)?.saturating_add(3)),
            18 => (0, bits.ready(7)?.saturating_add(11)),
            _ => (u8::try_from(symbol).unwrap_or_default(), 1),
        };
        let end = done.saturating_add(times);
        if end > all {
            return Err(BAD_LENGTHS);
        }
        lengths.get_mut(done..end).ok_or(BAD_LENGTHS)?.fill(length);
        done = end;
    }
    let (of_literals, rest) = lengths.split_at_checked(literals).ok_or(BAD_LENGTHS)?;
    if of_literals.get(usize::from(END_OF_BLOCK)) == Some(&0) {
        return Err("it has a block without an end");
    }
    coded(
        bits,
        out,
        of_literals,
        rest.get(..distances).unwrap_or_default(),
    )
}

/// The symbols of a block: literals, and copies with their distances.
fn coded(
    bits: &mut Bits<'_>,
    out: &mut Output<'_>,
    literals: &[u8],
    distances: &[u8],
) -> Result<()> {
    let literals = Code::new(literals)?;
    let distances = Code::new(distances)?;
    loop {
        // A length and a distance with their extra bits take 48 bits at most.
        bits.refill();
        let symbol = literals.symbol(bits)?;
        if let Ok(byte) = u8::try_from(symbol) {
            out.push(byte)?;
            continue;
        }
        if symbol == END_OF_BLOCK {
            return Ok(());
        }
        let place = usize::from(symbol).wrapping_sub(257);
        let &base = LENGTH_BASE.get(place).ok_or(BAD_CODE)?;
        let &extra = LENGTH_BITS.get(place).ok_or(BAD_CODE)?;
        let len = usize::from(base).saturating_add(bits.ready(u32::from(extra))?);
        let symbol = distances.symbol(bits)?;
        let &base = DISTANCE_BASE.get(usize::from(symbol)).ok_or(BAD_CODE)?;
        let extra = u32::from(symbol >> 1).saturating_sub(1);
        let distance = usize::from(base).saturating_add(bits.ready(extra)?);
        out.copy(distance, len)?;
    }
}

/// The checksum of RFC 1950: two sums modulo 65521, the second one of the first's values.
fn adler32(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1_u32, 0_u32);
    // The most bytes after which the second sum still fits 32 bits.
    for chunk in bytes.chunks(5552) {
        for &byte in chunk {
            a = a.wrapping_add(u32::from(byte));
            b = b.wrapping_add(a);
        }
        a = a.checked_rem(65521).unwrap_or_default();
        b = b.checked_rem(65521).unwrap_or_default();
    }
    b << 16 | a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_block_is_copied() {
        // header, last block of type 0, LEN, NLEN, data, Adler-32
        let packed = [
            0x78, 0x01, 0x01, 0x03, 0x00, 0xfc, 0xff, 0x61, 0x62, 0x63, 0x02, 0x4d, 0x01, 0x27,
        ];
        let mut page = [0; 4];
        assert_eq!(decompress(&packed, &mut page), Ok(3));
        assert_eq!(&page, b"abc\0");
        assert_eq!(
            decompress(&packed, &mut page[..2]),
            Err(super::super::PAGE_FULL)
        );
    }

    #[test]
    fn a_copy_may_overlap_what_it_makes() {
        // Fixed codes: a literal, a copy from one byte back, a literal.
        let packed = [
            0x78, 0x01, 0x4b, 0x4c, 0x84, 0x82, 0x24, 0x00, 0x14, 0xe2, 0x03, 0xcc,
        ];
        let mut page = [0; 10];
        assert_eq!(decompress(&packed, &mut page), Ok(10));
        assert_eq!(&page, b"aaaaaaaaab");
    }

    #[test]
    fn the_checksum_counts() {
        let mut packed = [
            0x78, 0x01, 0x4b, 0x4c, 0x84, 0x82, 0x24, 0x00, 0x14, 0xe2, 0x03, 0xcc,
        ];
        packed[11] ^= 1;
        assert_eq!(
            decompress(&packed, &mut [0; 10]),
            Err("its checksum is wrong")
        );
        assert_eq!(decompress(&packed[..11], &mut [0; 10]), Err(INPUT_ENDS));
    }

    #[test]
    fn a_distance_before_the_page_is_refused() {
        // Fixed codes: length 3 (7 bits 0000001), distance 1 (5 bits 00000) as the very first symbol.
        let packed = [0x78, 0x01, 0b0000_0011, 0b0000_0010, 0, 0, 0, 0, 0];
        assert_eq!(
            decompress(&packed, &mut [0; 10]),
            Err(super::super::DISTANCE)
        );
    }

    #[test]
    fn code_lengths_that_make_no_code_are_refused() {
        assert!(Code::new(&[1, 1, 1]).is_err(), "too many");
        assert!(Code::new(&[2, 2, 2]).is_err(), "too few");
        assert!(Code::new(&[1]).is_ok(), "a single one");
        assert!(Code::new(&[1, 2, 2]).is_ok());
    }
}
