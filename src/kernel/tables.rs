//! Page tables: the walk down a radix tree, which is the same on every architecture.
//!
//! | one field of the address | picks | in |
//! |---|---|---|
//! | the highest bits of the width | an entry of the root | the top level |
//! | ... | an entry of the table found above | the levels below |
//! | the bits below the last level's shift | a byte | the page |
//!
//! What an architecture adds is the geometry ([`Level`]) and what the bits of an entry mean ([`Entry`]). A walk takes at
//! most one step per level, so that tables which point to themselves end like any other.

use alloc::vec::Vec;

use super::Mapping;
use crate::addr::{PhysAddr, VirtAddr};
use crate::error::{Error, Result};

/// Reads the entry of a table that stands at a physical address, in the width and byte order of the architecture.
pub(super) type ReadEntry<'a> = &'a dyn Fn(PhysAddr) -> Result<u64>;

/// One level of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Level {
    /// Counted from the pages up: 1 is the last.
    pub(super) number: u8,
    /// An entry spans `1 << shift` bytes.
    pub(super) shift: u32,
    /// A table has `1 << bits` entries.
    pub(super) bits: u32,
}

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// Nothing is mapped.
    Absent,
    /// The next table is there.
    Table(u64),
    /// Memory as large as the entry spans starts there; bits below that do not count.
    Page(u64),
    /// Memory of `1 << shift` bytes starts there, more or less than the entry spans.
    Sized {
        /// The first byte.
        base: u64,
        /// A log2.
        shift: u32,
    },
}

/// The levels, highest first, of tables that each fill a page, where addresses have `width` bits.
pub(super) fn uniform(page_shift: u32, bits: u32, width: u32) -> Vec<Level> {
    let mut levels = Vec::new();
    let mut shift = page_shift;
    let mut number = 1;
    while shift < width && bits != 0 && number <= 5 {
        let left = width.saturating_sub(shift);
        let level = Level {
            number,
            shift,
            bits: bits.min(left),
        };
        levels.insert(0, level);
        shift = shift.saturating_add(bits);
        number = number.saturating_add(1);
    }
    levels
}

/// Walks from the table at `root` down `levels`, whose entries are `entry_len` bytes long.
///
/// # Errors
/// `NotMapped` with the level whose entry said so, or what reading an entry gave.
pub(super) fn walk(
    addr: VirtAddr,
    root: PhysAddr,
    levels: &[Level],
    entry_len: u64,
    read: ReadEntry<'_>,
    decode: &dyn Fn(Level, u64) -> Entry,
) -> Result<Mapping> {
    let mut table = root;
    for &level in levels {
        let slot = (addr.0 >> level.shift) & low_bits(level.bits);
        let value = read(table.wrapping_add(slot.wrapping_mul(entry_len)))?;
        let (base, shift) = match decode(level, value) {
            Entry::Absent => {
                let level = level.number;
                return Err(Error::NotMapped { addr, level });
            }
            Entry::Table(next) => {
                table = PhysAddr(next);
                continue;
            }
            Entry::Page(base) => (base, level.shift),
            Entry::Sized { base, shift } => (base, shift),
        };
        let inside = addr.0 & low_bits(shift);
        let size = low_bits(shift).wrapping_add(1);
        return Ok(Mapping {
            paddr: PhysAddr((base & !low_bits(shift)) | inside),
            len: size.wrapping_sub(inside),
        });
    }
    // Only a last level whose entries point further gets here.
    Err(Error::NotMapped { addr, level: 0 })
}

/// A mask of the lowest `count` bits.
pub(super) const fn low_bits(count: u32) -> u64 {
    match u64::MAX.checked_shl(count) {
        Some(high) => !high,
        None => u64::MAX,
    }
}

/// Synthetic tables for the tests of the architectures.
#[cfg(test)]
pub(super) mod synthetic {
    use super::*;
    use crate::vmcoreinfo::VmcoreInfo;

    /// Tables as (physical address, entry); anything else is not in the dump.
    pub(in crate::kernel) fn tables(
        entries: &[(u64, u64)],
    ) -> impl Fn(PhysAddr) -> Result<u64> + '_ {
        move |at| {
            let found = entries.iter().find(|entry| entry.0 == at.0);
            found
                .map(|entry| entry.1)
                .ok_or(Error::NotInDump { addr: at })
        }
    }

    /// A note of these lines.
    pub(in crate::kernel) fn info(lines: &str) -> VmcoreInfo {
        VmcoreInfo::parse(alloc::string::String::from(lines).into()).unwrap()
    }

    /// A mapping as a walk gives it.
    #[allow(
        clippy::unnecessary_wraps,
        reason = "to be compared with what a walk gives"
    )]
    pub(in crate::kernel) fn maps(paddr: u64, len: u64) -> Result<Mapping> {
        Ok(Mapping {
            paddr: PhysAddr(paddr),
            len,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::synthetic::{maps, tables};
    use super::*;

    /// Bit 0 says present, bit 1 page; the rest is an address.
    fn decode(level: Level, value: u64) -> Entry {
        match value & 3 {
            1 if level.number > 1 => Entry::Table(value & !3),
            1 | 3 => Entry::Page(value),
            2 => Entry::Sized {
                base: value,
                shift: 16,
            },
            _ => Entry::Absent,
        }
    }

    #[test]
    fn the_top_level_takes_what_bits_are_left() {
        let level = |number, shift, bits| Level {
            number,
            shift,
            bits,
        };
        assert_eq!(
            uniform(12, 9, 32),
            [level(3, 30, 2), level(2, 21, 9), level(1, 12, 9)]
        );
        assert_eq!(uniform(12, 10, 32), [level(2, 22, 10), level(1, 12, 10)]);
        assert_eq!(
            uniform(14, 11, 47),
            [level(3, 36, 11), level(2, 25, 11), level(1, 14, 11)]
        );
        assert_eq!(uniform(12, 9, 57).len(), 5);
        assert!(uniform(12, 9, 0).is_empty());
        assert_eq!(uniform(12, 9, u32::MAX).len(), 5);
    }

    #[test]
    fn pages_of_every_level_and_other_sizes_are_found() {
        let levels = uniform(12, 9, 39);
        let entries = [
            (0x1000, 0x2001),
            (0x1008, 0x8000_0003),
            (0x2000, 0x3001),
            (0x3008, 0x0070_5003),
            (0x3010, 0x0080_0002),
        ];
        let read = tables(&entries);
        let walk = |addr| walk(VirtAddr(addr), PhysAddr(0x1000), &levels, 8, &read, &decode);
        assert_eq!(walk(0x1234), maps(0x0070_5234, 0x1000 - 0x234));
        assert_eq!(
            walk(0x4000_0010),
            maps(0x8000_0010, 0x4000_0000 - 0x10),
            "a large page"
        );
        assert_eq!(
            walk(0x2010),
            maps(0x0080_2010, 0xdff0),
            "larger than its entry"
        );
    }

    #[test]
    fn a_missing_table_an_absent_entry_and_a_table_of_itself_end_the_walk() {
        let levels = uniform(12, 9, 39);
        let addr = VirtAddr(0);
        let walk = |entries: &[(u64, u64)], last: &dyn Fn(Level, u64) -> Entry| {
            walk(addr, PhysAddr(0x1000), &levels, 8, &tables(entries), last)
        };
        let hole = Error::NotInDump {
            addr: PhysAddr(0x2000),
        };
        assert_eq!(walk(&[(0x1000, 0x2001)], &decode), Err(hole));
        let absent = walk(&[(0x1000, 0x2001), (0x2000, 0)], &decode);
        assert_eq!(absent, Err(Error::NotMapped { addr, level: 2 }));
        let itself = walk(&[(0x1000, 0x1001)], &|_, value| Entry::Table(value & !3));
        assert_eq!(itself, Err(Error::NotMapped { addr, level: 0 }));
    }
}
