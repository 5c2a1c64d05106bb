//! LZO1X: the block format of `makedumpfile -l`, with no header and no checksum.
//!
//! | instruction byte | copies |
//! |---|---|
//! | 0..15 | literals, or 2 to 3 bytes from close by: what it means depends on what came before |
//! | 16..31 | 3 bytes and more from 16 KiB to 48 KiB back; distance 16384 ends the block |
//! | 32..63 | 3 bytes and more from up to 16 KiB back |
//! | 64..255 | 3 to 8 bytes from up to 2 KiB back |
//!
//! The lowest two bits of a copy's last instruction byte but one tell how many literals (0 to 3) follow it.
//! Specified by use: see `Documentation/staging/lzo.rst` of Linux, without its run-length extension, which dumps do
//! not use.

use super::{INPUT_ENDS, Output, Result, byte, little, take};

/// Literals just copied: what an instruction below 16 means depends on it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    Few,
    Run,
}

/// Decodes the block `input` into `page` and returns how many bytes it made.
///
/// # Errors
/// The reason, when `input` is no LZO1X block or holds more than `page` takes.
pub fn decompress(input: &[u8], page: &mut [u8]) -> Result<usize> {
    let mut input = input;
    let mut out = Output::new(page);
    let mut before = Before::Nothing;
    let &first = input.first().ok_or(INPUT_ENDS)?;
    if first > 17 {
        let run = byte(&mut input)?.saturating_sub(17);
        out.literals(take(&mut input, run)?)?;
        before = after(run);
    }
    loop {
        let code = byte(&mut input)?;
        let (distance, len, literals) = match code {
            0..16 if before == Before::Nothing => {
                let run = length(&mut input, code, 15, 3)?;
                out.literals(take(&mut input, run)?)?;
                before = Before::Run;
                continue;
            }
            0..16 => {
                let distance = (byte(&mut input)? << 2).saturating_add(code >> 2);
                if before == Before::Run {
                    (distance.saturating_add(2049), 3, code & 3)
                } else {
                    (distance.saturating_add(1), 2, code & 3)
                }
            }
            16..32 => {
                let len = length(&mut input, code & 7, 7, 2)?;
                let low = little(&mut input, 2)?;
                let distance = ((code & 8) << 11).saturating_add(low >> 2);
                if distance == 0 {
                    return if input.is_empty() {
                        Ok(out.len)
                    } else {
                        Err("bytes follow its end")
                    };
                }
                (distance.saturating_add(16384), len, low & 3)
            }
            32..64 => {
                let len = length(&mut input, code & 31, 31, 2)?;
                let low = little(&mut input, 2)?;
                ((low >> 2).saturating_add(1), len, low & 3)
            }
            _ => {
                let high = byte(&mut input)? << 3;
                let distance = high.saturating_add(code >> 2 & 7).saturating_add(1);
                (distance, (code >> 5).saturating_add(1), code & 3)
            }
        };
        out.copy(distance, len)?;
        out.literals(take(&mut input, literals)?)?;
        before = after(literals);
    }
}

fn after(literals: usize) -> Before {
    match literals {
        0 => Before::Nothing,
        1..4 => Before::Few,
        _ => Before::Run,
    }
}

/// A length that starts in `field` of an instruction: 0 there means that it goes on in bytes of its own, above `most`.
fn length(input: &mut &[u8], field: usize, most: usize, add: usize) -> Result<usize> {
    if field != 0 {
        return Ok(field.saturating_add(add));
    }
    let mut len = most;
    loop {
        match byte(input)? {
            0 => len = len.saturating_add(255),
            last => return Ok(len.saturating_add(last).saturating_add(add)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_instruction_is_decoded() {
        let packed = [
            0x19, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0xfc, 0x00, 0x05, 0x68, 0x67,
            0x66, 0x65, 0x64, 0x63, 0x62, 0x61, 0x2e, 0x01, 0x00, 0x62, 0xc1, 0x00, 0x63, 0x43,
            0x00, 0x64, 0x64, 0x65, 0x20, 0x1d, 0x78, 0x00, 0x11, 0x00, 0x00,
        ];
        let text = b"abcdefghabcdefghhgfedcbaaaaaaaaaaaaaaaaabbbbbbbbccccddeaaaaaaaaaaaaaaaabbbbbbbbccccddeaaaaaaaaaaaaaaaabbbbbbbbccccdde";
        let mut page = [0; 128];
        assert_eq!(decompress(&packed, &mut page), Ok(text.len()));
        assert_eq!(&page[..text.len()], text);
        for len in 0..packed.len() {
            assert!(
                decompress(&packed[..len], &mut page).is_err(),
                "cut at {len}"
            );
        }
    }

    #[test]
    fn a_copy_from_before_the_page_is_refused() {
        // One literal, then 3 bytes from 2 back.
        let packed = [18, b'a', 64 | 1 << 2, 0, 17, 0, 0];
        assert_eq!(
            decompress(&packed, &mut [0; 16]),
            Err(super::super::DISTANCE)
        );
    }

    #[test]
    fn a_length_that_never_ends_ends_with_the_input() {
        assert_eq!(decompress(&[0; 64], &mut [0; 16]), Err(INPUT_ENDS));
    }
}
