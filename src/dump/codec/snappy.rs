//! Snappy: the raw block format of `makedumpfile -p`, without framing and checksum.
//!
//! | size, 7 bits a byte, low bits first | tag, operands | tag, operands | ...
//!
//! | low bits of the tag | what |
//! |---|---|
//! | 0 | literals: their number less one in the tag, or in 1 to 4 bytes when it says 60 to 63 |
//! | 1 | 4 to 11 bytes from up to 2 KiB back |
//! | 2, 3 | 1 to 64 bytes from a distance of two or four bytes |
//!
//! Specified in `format_description.txt` of Snappy.

use super::{Output, Result, byte, little, take};

/// Decodes the block `input` into `page` and returns how many bytes it made.
///
/// # Errors
/// The reason, when `input` is no Snappy block or holds more than `page` takes.
pub fn decompress(input: &[u8], page: &mut [u8]) -> Result<usize> {
    let mut input = input;
    let mut size = 0;
    let mut shift = 0;
    loop {
        let part = byte(&mut input)?;
        size |= (part & 0x7f) << shift;
        if part & 0x80 == 0 {
            break;
        }
        shift = if shift < 28 {
            7_u32.saturating_add(shift)
        } else {
            return Err("its size has too many bytes");
        };
    }
    let mut out = Output::new(page);
    while !input.is_empty() {
        let tag = byte(&mut input)?;
        let high = tag >> 2;
        match tag & 3 {
            0 => {
                let less_one = match high {
                    60.. => little(&mut input, high.saturating_sub(59))?,
                    _ => high,
                };
                out.literals(take(&mut input, less_one.saturating_add(1))?)?;
            }
            1 => {
                let distance = (tag & 0xe0) << 3 | byte(&mut input)?;
                out.copy(distance, (high & 7).saturating_add(4))?;
            }
            wide => {
                let distance = little(&mut input, if wide == 2 { 2 } else { 4 })?;
                out.copy(distance, high.saturating_add(1))?;
            }
        }
    }
    if out.len != size {
        return Err("its size is not what it says");
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_copies_of_all_widths_are_decoded() {
        // size 16; "ab"; 4 from 2 back; 3 from 1 back; 2 from 9 back; "z" with a length of one byte; 4 from 1 back
        let packed = [
            16,
            1 << 2,
            b'a',
            b'b',
            1,
            2,
            2 | 2 << 2,
            1,
            0,
            3 | 1 << 2,
            9,
            0,
            0,
            0,
            60 << 2,
            0,
            b'z',
            1,
            1,
        ];
        let mut page = [0; 16];
        assert_eq!(decompress(&packed, &mut page), Ok(16));
        assert_eq!(&page, b"abababbbbabzzzzz");
    }

    #[test]
    fn wrong_sizes_and_distances_are_refused() {
        let page = &mut [0; 8];
        assert!(decompress(&[2, 0, b'a'], page).is_err(), "too little");
        assert!(decompress(&[0, 0, b'a'], page).is_err(), "too much");
        assert!(
            decompress(&[5, 0, b'a', 1, 2], page).is_err(),
            "before the start"
        );
        assert!(decompress(&[5, 0, b'a', 1, 0], page).is_err(), "distance 0");
        assert!(
            decompress(&[0xff; 9], page).is_err(),
            "a size without an end"
        );
    }
}
