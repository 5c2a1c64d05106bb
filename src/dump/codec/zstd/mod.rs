//! zstd: the frames of `makedumpfile -z`, one a page.
//!
//! | magic | frame header | block header, block | ... | low half of XXH64 of the content, if announced |
//!
//! Specified in RFC 8878. A block is stored, one repeated byte, or compressed: literals (`literals`), then sequences
//! (`sequences`) that say how many literals to take and what to repeat after them. The tables of one block may be used
//! again by the next, so they live as long as the frame. Dictionaries are not handled: nobody compresses pages with them.

use super::{Output, Result, little, take};
use crate::bytes::{Endian, index, wide};

mod bits;
mod fse;
mod literals;
mod sequences;
mod xxh64;

const MAGIC: u32 = 0xfd2f_b528;
/// The lowest of sixteen magic numbers of frames that are to be skipped.
const SKIPPABLE: u32 = 0x184d_2a50;

/// Decodes the frames in `input` into `page` and returns how many bytes they made.
///
/// # Errors
/// The reason, when `input` holds no zstd frames, more than `page` takes, or a checksum is wrong.
pub fn decompress(input: &[u8], page: &mut [u8]) -> Result<usize> {
    let mut input = input;
    let mut out = Output::new(page);
    loop {
        let magic = Endian::Little
            .u32(take(&mut input, 4)?, 0)
            .unwrap_or_default();
        match magic {
            MAGIC => frame(&mut input, &mut out)?,
            _ if magic & !15 == SKIPPABLE => {
                let len = little(&mut input, 4)?;
                take(&mut input, len)?;
            }
            _ => return Err("it has no zstd magic number"),
        }
        if input.is_empty() {
            return Ok(out.len);
        }
    }
}

/// What one block leaves to the next.
struct Tables {
    huffman: literals::Huffman,
    sequences: sequences::Codes,
}

fn frame(input: &mut &[u8], out: &mut Output<'_>) -> Result<()> {
    let start = out.len;
    let descriptor = little(input, 1)?;
    let single_segment = descriptor & 0x20 != 0;
    if descriptor & 8 != 0 {
        return Err("its frame header has a reserved bit set");
    }
    if !single_segment {
        // The window's size. The page is the window here, and no distance may reach out of it.
        take(input, 1)?;
    }
    let dictionary = match descriptor & 3 {
        3 => little(input, 4)?,
        len => little(input, len)?,
    };
    if dictionary != 0 {
        return Err("it needs a dictionary");
    }
    let size = match (descriptor >> 6, single_segment) {
        (0, false) => None,
        (0, true) => Some(wide(little(input, 1)?)),
        (1, _) => Some(wide(little(input, 2)?).saturating_add(256)),
        (2, _) => Some(wide(little(input, 4)?)),
        _ => Endian::Little.u64(take(input, 8)?, 0),
    };
    blocks(input, out, start)?;
    let made = out.page.get(start..out.len).unwrap_or_default();
    if size.is_some_and(|size| size != wide(made.len())) {
        return Err("its size is not what it says");
    }
    if descriptor & 4 != 0 {
        let sum = Endian::Little.u32(take(input, 4)?, 0).map(u64::from);
        if sum != Some(xxh64::sum(made) & 0xffff_ffff) {
            return Err("its checksum is wrong");
        }
    }
    Ok(())
}

fn blocks(input: &mut &[u8], out: &mut Output<'_>, start: usize) -> Result<()> {
    let mut tables = Tables {
        huffman: literals::Huffman::NONE,
        sequences: sequences::Codes::NEW,
    };
    loop {
        let header = little(input, 3)?;
        let size = header >> 3;
        match header >> 1 & 3 {
            0 => out.literals(take(input, size)?)?,
            1 => {
                let byte = take(input, 1)?.first().copied().unwrap_or_default();
                out.extend(size)?.fill(byte);
            }
            2 => {
                let mut block = take(input, size)?;
                let literals = tables.huffman.literals(&mut block, out)?;
                tables.sequences.run(block, out, start, literals)?;
            }
            _ => return Err("it has a block of no known type"),
        }
        if header & 1 != 0 {
            return Ok(());
        }
    }
}

/// `usize` of a table's number.
fn place(value: u32) -> usize {
    index(u64::from(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACKED: [u8; 43] = [
        0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x68, 0x15, 0x01, 0x00, 0x82, 0xc1, 0x04, 0x09, 0xe0, 0xe9,
        0x7b, 0xcb, 0x94, 0x16, 0x00, 0x33, 0x02, 0x7b, 0x55, 0x81, 0x7c, 0x21, 0x33, 0x12, 0x5b,
        0x41, 0x04, 0x00, 0x13, 0x4a, 0x1a, 0xc8, 0xae, 0x8b, 0x78, 0xe2, 0x72, 0x01,
    ];

    #[test]
    fn a_compressed_block_is_decoded() {
        let text = b"abcdefghabcdefghhgfedcbaaaaaaaaaaaaaaaaabbbbbbbbccccddeaaaaaaaaaaaaaaaabbbbbbbbccccddeaaaaaaaaaaaaaaaabbbbbbbbccccdde";
        let mut page = [0; 117];
        assert_eq!(decompress(&PACKED, &mut page), Ok(text.len()));
        assert_eq!(&page, text);
        for len in 0..PACKED.len() {
            assert!(
                decompress(&PACKED[..len], &mut page).is_err(),
                "cut at {len}"
            );
        }
        for len in 0..text.len() {
            assert!(
                decompress(&PACKED, &mut page[..len]).is_err(),
                "a page of {len}"
            );
        }
    }

    #[test]
    fn stored_and_repeated_blocks_and_the_checksum_are_read() {
        let mut packed = [
            0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x68, 0x19, 0x00, 0x00, 0x61, 0x62, 0x63, 0x99, 0x09,
            0x77, 0xad,
        ];
        let mut page = [0; 16];
        assert_eq!(decompress(&packed, &mut page), Ok(3));
        assert_eq!(&page[..3], b"abc");
        packed[15] ^= 1;
        assert_eq!(decompress(&packed, &mut page), Err("its checksum is wrong"));
        // A single segment of 16 bytes: one block of 16 times 'x'.
        let repeated = [
            0x28,
            0xb5,
            0x2f,
            0xfd,
            0x20,
            16,
            16 << 3 | 1 << 1 | 1,
            0,
            0,
            b'x',
        ];
        assert_eq!(decompress(&repeated, &mut page), Ok(16));
        assert_eq!(page, [b'x'; 16]);
    }

    #[test]
    fn what_is_missing_or_reserved_is_refused() {
        let frame = |descriptor, block: u8| {
            let head = [0x28, 0xb5, 0x2f, 0xfd, descriptor, 1, block, 0, 0, b'x'];
            decompress(&head, &mut [0; 8])
        };
        assert_eq!(frame(0x20, 8 | 1), Ok(1));
        assert!(frame(0x28, 8 | 1).is_err(), "a reserved bit");
        assert!(frame(0x20, 8 | 7).is_err(), "a block of type 3");
        assert!(frame(0x20, 8).is_err(), "no last block");
        assert_eq!(frame(0x21, 8 | 1), Err("it needs a dictionary"));
        // A compressed block: literals in the table before the first (type 3), then sequences of the same kind.
        let treeless = [
            0x28,
            0xb5,
            0x2f,
            0xfd,
            0x20,
            1,
            5 << 3 | 5,
            0,
            0,
            3,
            0,
            0,
            0,
            0,
        ];
        assert!(decompress(&treeless, &mut [0; 8]).is_err());
        let repeat = [
            0x28,
            0xb5,
            0x2f,
            0xfd,
            0x20,
            4,
            5 << 3 | 5,
            0,
            0,
            8,
            b'x',
            1,
            0xfc,
            1,
        ];
        assert_eq!(
            decompress(&repeat, &mut [0; 8]),
            Err("it uses a table of sequences before the first")
        );
    }
}
