//! The 256 pieces that names are made of: `kallsyms_token_table` and `kallsyms_token_index`.

use alloc::vec;
use alloc::vec::Vec;

use crate::addr::VirtAddr;
use crate::bytes::{index, wide};
use crate::error::{At, Error, Result};
use crate::kernel::Kernel;
use crate::limits;

/// The pieces.
pub(super) struct Tokens {
    text: Vec<u8>,
    /// Start and length of each piece in `text`.
    pieces: Vec<(u16, u16)>,
}

impl Tokens {
    /// Reads the table whose pieces start where `token_index` says.
    ///
    /// # Errors
    /// `Invalid` when the index does not rise or a piece does not end where the next starts.
    pub(super) fn read(
        kernel: &Kernel<'_>,
        table: VirtAddr,
        token_index: VirtAddr,
    ) -> Result<Self> {
        let mut raw = vec![0; 512];
        kernel.read_at(token_index, &mut raw)?;
        let starts: Vec<u16> = raw
            .chunks_exact(2)
            .map(|two| kernel.endian().u16(two, 0).unwrap_or_default())
            .collect();
        let last = starts.last().copied().unwrap_or_default();
        let tail = table.wrapping_add(u64::from(last));
        let tail = kernel.read_cstr(tail, limits::SYMBOL_LEN)?;
        let mut text = vec![0; usize::from(last)];
        kernel.read_at(table, &mut text)?;
        text.extend(tail);
        text.push(0);
        let end = u16::try_from(text.len()).unwrap_or(u16::MAX);
        let ends = starts.iter().copied().skip(1).chain([end]);
        let mut pieces = Vec::new();
        for (&start, end) in starts.iter().zip(ends) {
            let nul = usize::from(end).checked_sub(1).and_then(|at| text.get(at));
            let len = end.checked_sub(start).and_then(|len| len.checked_sub(1));
            let (Some(0), Some(len)) = (nul, len) else {
                return Err(Error::Invalid {
                    what: "kallsyms_token_index",
                    at: At::Virt(token_index.wrapping_add(wide(pieces.len()).wrapping_mul(2))),
                    value: u64::from(start),
                    why: "is not where a token starts",
                });
            };
            pieces.push((start, len));
        }
        Ok(Tokens { text, pieces })
    }

    fn piece(&self, token: u8) -> &[u8] {
        let Some(&(start, len)) = self.pieces.get(usize::from(token)) else {
            return &[];
        };
        let end = index(u64::from(start).saturating_add(u64::from(len)));
        self.text.get(usize::from(start)..end).unwrap_or_default()
    }

    /// Characters of a packed name, type letter included.
    pub(super) fn expanded_len(&self, packed: &[u8]) -> usize {
        let lens = packed.iter().map(|&token| {
            let piece = self.pieces.get(usize::from(token));
            piece.map_or(0, |&(_, len)| usize::from(len))
        });
        lens.fold(0, usize::saturating_add)
    }

    /// The first character of a packed name, behind the type letter.
    pub(super) fn first(&self, packed: &[u8]) -> u8 {
        let mut pieces = packed.iter().take(2).flat_map(|&token| self.piece(token));
        pieces.nth(1).copied().unwrap_or(0)
    }

    /// Appends the characters of a packed name, at most [`limits::SYMBOL_LEN`] of them.
    pub(super) fn expand(&self, packed: &[u8], text: &mut Vec<u8>) {
        for &token in packed {
            if text.len() > limits::SYMBOL_LEN {
                break;
            }
            text.extend_from_slice(self.piece(token));
        }
    }
}
