//! Reading numbers out of bytes that nobody vouches for.
//!
//! Every number of a dump passes through here: this is the only file with `from_le_bytes`, and the only one that
//! converts between `u64` and `usize`. A [`Bytes`] cursor reads fields in order and names the one that was cut;
//! [`Endian`]'s readers pick a field out of a record by its offset and answer `None` outside of it.

use crate::error::{At, Error, Result};

/// The byte order of the crashed machine, never that of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endian {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

/// The size of `unsigned long` and of pointers in the crashed kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Four bytes.
    W32,
    /// Eight bytes.
    W64,
}

impl Word {
    /// Bytes in a word.
    pub const fn size(self) -> usize {
        match self {
            Word::W32 => 4,
            Word::W64 => 8,
        }
    }

    /// Bits in a word.
    pub const fn bits(self) -> u32 {
        match self {
            Word::W32 => 32,
            Word::W64 => 64,
        }
    }

    /// `value` modulo the word size.
    pub const fn wrap(self, value: u64) -> u64 {
        match self {
            Word::W32 => value & 0xffff_ffff,
            Word::W64 => value,
        }
    }
}

/// A length or an index of this machine as a number of the dump's kind.
#[allow(
    clippy::as_conversions,
    reason = "usize has at most 64 bits wherever std exists"
)]
pub const fn wide(len: usize) -> u64 {
    len as u64
}

/// A number of the dump as an index of this machine; one that does not fit becomes `usize::MAX`, which no slice has.
pub fn index(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

impl Endian {
    /// The `N` bytes at `offset` of `bytes`.
    fn array<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
        bytes.get(offset..offset.checked_add(N)?)?.try_into().ok()
    }

    /// The `u16` at `offset` of `bytes`, `None` when it is not wholly inside.
    pub fn u16(self, bytes: &[u8], offset: usize) -> Option<u16> {
        let raw = Self::array(bytes, offset)?;
        Some(match self {
            Endian::Little => u16::from_le_bytes(raw),
            Endian::Big => u16::from_be_bytes(raw),
        })
    }

    /// The `u32` at `offset` of `bytes`, `None` when it is not wholly inside.
    pub fn u32(self, bytes: &[u8], offset: usize) -> Option<u32> {
        let raw = Self::array(bytes, offset)?;
        Some(match self {
            Endian::Little => u32::from_le_bytes(raw),
            Endian::Big => u32::from_be_bytes(raw),
        })
    }

    /// The `u64` at `offset` of `bytes`, `None` when it is not wholly inside.
    pub fn u64(self, bytes: &[u8], offset: usize) -> Option<u64> {
        let raw = Self::array(bytes, offset)?;
        Some(match self {
            Endian::Little => u64::from_le_bytes(raw),
            Endian::Big => u64::from_be_bytes(raw),
        })
    }

    /// The `i32` at `offset` of `bytes`, `None` when it is not wholly inside.
    pub fn i32(self, bytes: &[u8], offset: usize) -> Option<i32> {
        self.u32(bytes, offset).map(u32::cast_signed)
    }

    /// The `unsigned long` at `offset` of `bytes`, `None` when it is not wholly inside.
    pub fn word(self, word: Word, bytes: &[u8], offset: usize) -> Option<u64> {
        match word {
            Word::W32 => self.u32(bytes, offset).map(u64::from),
            Word::W64 => self.u64(bytes, offset),
        }
    }
}

/// A cursor over bytes: reads fields in order and says which one was cut.
#[derive(Clone, Debug)]
pub struct Bytes<'a> {
    rest: &'a [u8],
    endian: Endian,
    at: At,
}

impl<'a> Bytes<'a> {
    /// A cursor over `data`, whose first byte is at `at`.
    pub fn new(data: &'a [u8], endian: Endian, at: At) -> Self {
        Bytes {
            rest: data,
            endian,
            at,
        }
    }

    /// Where the next byte is.
    pub fn at(&self) -> At {
        self.at
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// True when everything has been read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Reads `len` bytes, the field `what`.
    ///
    /// # Errors
    /// `Truncated` when fewer are left; the cursor then stays.
    pub fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8]> {
        let Some((head, rest)) = self.rest.split_at_checked(len) else {
            return Err(Error::Truncated {
                what,
                at: self.at,
                need: wide(len),
                have: wide(self.rest.len()),
            });
        };
        self.rest = rest;
        self.at = self.at.plus(wide(len));
        Ok(head)
    }

    /// Reads a `u8`, the field `what`.
    ///
    /// # Errors
    /// `Truncated` when it is cut.
    pub fn u8(&mut self, what: &'static str) -> Result<u8> {
        Ok(self.take(1, what)?.first().copied().unwrap_or_default())
    }

    /// Reads a `u16`, the field `what`.
    ///
    /// # Errors
    /// `Truncated` when it is cut.
    pub fn u16(&mut self, what: &'static str) -> Result<u16> {
        Ok(self.endian.u16(self.take(2, what)?, 0).unwrap_or_default())
    }

    /// Reads a `u32`, the field `what`.
    ///
    /// # Errors
    /// `Truncated` when it is cut.
    pub fn u32(&mut self, what: &'static str) -> Result<u32> {
        Ok(self.endian.u32(self.take(4, what)?, 0).unwrap_or_default())
    }

    /// Reads a `u64`, the field `what`.
    ///
    /// # Errors
    /// `Truncated` when it is cut.
    pub fn u64(&mut self, what: &'static str) -> Result<u64> {
        Ok(self.endian.u64(self.take(8, what)?, 0).unwrap_or_default())
    }

    /// Reads an `unsigned long` of the crashed kernel, the field `what`.
    ///
    /// # Errors
    /// `Truncated` when it is cut.
    pub fn word(&mut self, word: Word, what: &'static str) -> Result<u64> {
        Ok(self
            .endian
            .word(word, self.take(word.size(), what)?, 0)
            .unwrap_or_default())
    }
}

impl At {
    /// The place `bytes` further on.
    #[must_use]
    pub fn plus(self, bytes: u64) -> Self {
        match self {
            At::File(offset) => At::File(offset.wrapping_add(bytes)),
            At::Phys(addr) => At::Phys(addr.wrapping_add(bytes)),
            At::Virt(addr) => At::Virt(addr.wrapping_add(bytes)),
            At::Line(line) => At::Line(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_fields_in_either_byte_order() {
        let data = [1, 2, 3, 4, 5, 6, 7];
        let mut little = Bytes::new(&data, Endian::Little, At::File(0x10));
        assert_eq!(
            (little.u8("a"), little.u16("b"), little.u32("c")),
            (Ok(1), Ok(0x0302), Ok(0x0706_0504))
        );
        let mut big = Bytes::new(&data, Endian::Big, At::File(0x10));
        assert_eq!(
            (big.u8("a"), big.u16("b"), big.u32("c")),
            (Ok(1), Ok(0x0203), Ok(0x0405_0607))
        );
        assert_eq!(big.at(), At::File(0x17));
    }

    #[test]
    fn a_cut_field_is_named_with_its_place() {
        let mut input = Bytes::new(&[0; 6], Endian::Little, At::File(0x100));
        assert_eq!(input.u32("n_namesz"), Ok(0));
        let cut = Error::Truncated {
            what: "n_descsz",
            at: At::File(0x104),
            need: 4,
            have: 2,
        };
        assert_eq!(input.u32("n_descsz"), Err(cut));
        assert_eq!(input.rest().len(), 2);
    }

    #[test]
    fn a_field_outside_its_record_is_none() {
        assert_eq!(Endian::Little.u32(&[0; 6], 3), None);
        assert_eq!(Endian::Little.u32(&[0; 6], usize::MAX), None);
    }
}
