//! Page decoders of kdump-compressed dumps: one page in, one page out, no state and no window kept.
//!
//! | flag of `page_desc` | format | file |
//! |---|---|---|
//! | 0x1 | zlib stream, RFC 1950 and 1951 | `inflate` |
//! | 0x2 | LZO1X block | `lzo` |
//! | 0x4 | Snappy block | `snappy` |
//! | 0x20 | zstd frames, RFC 8878 | `zstd` |
//!
//! Everything is decoded straight into the page, which is also the window; nothing is allocated. Each step of a loop
//! takes input or makes output, so that any input ends. A decoder does not know where its page stands, so an error
//! of its own is only the reason.

pub mod inflate;
pub mod lzo;
pub mod snappy;
pub mod zstd;

/// The results of decoders: an error is the reason, in words that follow "page cannot be decompressed,".
pub type Result<T> = core::result::Result<T, &'static str>;

const INPUT_ENDS: &str = "its data end early";
const PAGE_FULL: &str = "it has more than a page";
const DISTANCE: &str = "it copies from before its start";

/// The page as far as it is decoded.
struct Output<'a> {
    page: &'a mut [u8],
    len: usize,
}

impl<'a> Output<'a> {
    fn new(page: &'a mut [u8]) -> Self {
        Output { page, len: 0 }
    }

    /// Bytes that are left of the page.
    fn room(&self) -> usize {
        self.page.len().saturating_sub(self.len)
    }

    /// Makes room for `len` more bytes.
    fn extend(&mut self, len: usize) -> Result<&mut [u8]> {
        let start = self.len;
        let end = start.checked_add(len).ok_or(PAGE_FULL)?;
        let room = self.page.get_mut(start..end).ok_or(PAGE_FULL)?;
        self.len = end;
        Ok(room)
    }

    #[inline]
    fn push(&mut self, byte: u8) -> Result<()> {
        *self.page.get_mut(self.len).ok_or(PAGE_FULL)? = byte;
        self.len = self.len.saturating_add(1);
        Ok(())
    }

    fn literals(&mut self, bytes: &[u8]) -> Result<()> {
        self.extend(bytes.len())?.copy_from_slice(bytes);
        Ok(())
    }

    /// Repeats `len` bytes from `distance` back. When they overlap, what is copied first is copied again.
    fn copy(&mut self, distance: usize, len: usize) -> Result<()> {
        let from = self.len.checked_sub(distance).ok_or(DISTANCE)?;
        if distance == 0 {
            return Err(DISTANCE);
        }
        let mut at = self.len;
        self.extend(len)?;
        while at < self.len {
            // All that stands between `from` and `at` is a whole number of repetitions.
            let run = at.saturating_sub(from).min(self.len.saturating_sub(at));
            self.page.copy_within(from..from.saturating_add(run), at);
            at = at.saturating_add(run);
        }
        Ok(())
    }
}

/// Takes `len` bytes off the front of `input`.
fn take<'a>(input: &mut &'a [u8], len: usize) -> Result<&'a [u8]> {
    let (head, rest) = input.split_at_checked(len).ok_or(INPUT_ENDS)?;
    *input = rest;
    Ok(head)
}

/// Takes one byte off the front of `input`.
fn byte(input: &mut &[u8]) -> Result<usize> {
    let (&first, rest) = input.split_first().ok_or(INPUT_ENDS)?;
    *input = rest;
    Ok(usize::from(first))
}

/// Takes a little-endian number of `len` bytes off the front of `input`.
fn little(input: &mut &[u8], len: usize) -> Result<usize> {
    let bytes = take(input, len)?;
    Ok(bytes
        .iter()
        .rev()
        .fold(0, |value, &byte| value << 8 | usize::from(byte)))
}
