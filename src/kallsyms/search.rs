//! Finding kallsyms when VMCOREINFO does not tell where it is: kernels before 6.0.
//!
//! ```text
//! kallsyms_offsets | kallsyms_relative_base | kallsyms_num_syms | kallsyms_names | kallsyms_markers |
//! (or kallsyms_addresses, no base)            kallsyms_token_table | kallsyms_token_index
//! ```
//!
//! Every object is aligned to a word. All digits and letters occur in names, so that tokens 0x30 to 0x39 are the strings
//! "0" to "9": twenty bytes to search for. A hit counts when the 256 strings around it lie where the index behind them
//! says. From there the tables are read backwards, each checked against the next. The tables are the last part of
//! `.rodata`, so the search goes down from the lowest variable that VMCOREINFO names, and is bounded.

use alloc::vec;
use alloc::vec::Vec;

use super::{Encoding, Tables};
use crate::addr::VirtAddr;
use crate::bytes::{index, wide};
use crate::error::{Error, Result};
use crate::kernel::{Kernel, Window};
use crate::limits;

/// Tokens 0x30 to 0x39.
const DIGITS: &[u8; 20] = b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\0";
/// Bytes that are searched at a time.
const PIECE: u64 = 64 << 10;

/// Finds the tables.
///
/// # Errors
/// `Missing` when the bounded search does not.
pub(super) fn find(kernel: &Kernel<'_>) -> Result<Tables> {
    let missing = Error::Missing {
        key: "kallsyms_names",
    };
    let stext = kernel.info().symbol("_stext")?;
    let data = lowest_variable(kernel, stext).ok_or(missing)?;
    let len = data.offset_from(stext).unwrap_or(0);
    let len = len.min(limits::KALLSYMS_SEARCH_LEN);
    let mut buf = Vec::new();
    let mut done = 0;
    while done < len {
        let size = PIECE.min(len.saturating_sub(done));
        let start = data.wrapping_sub(done).wrapping_sub(size);
        done = done.saturating_add(size);
        read_what_is_there(kernel, start, index(size), &mut buf);
        // One byte first: this passes over megabytes.
        let zeros = buf.iter().enumerate().filter(|&(_, &byte)| byte == b'0');
        for (inside, _) in zeros {
            if !buf
                .get(inside..)
                .is_some_and(|rest| rest.starts_with(DIGITS))
            {
                continue;
            }
            let hit = start.wrapping_add(wide(inside));
            if let Some(tables) = tables_around(kernel, hit) {
                return Ok(tables);
            }
        }
    }
    Err(missing)
}

/// The lowest address above the text that VMCOREINFO names: something in `.data`.
fn lowest_variable(kernel: &Kernel<'_>, stext: VirtAddr) -> Option<VirtAddr> {
    /// No kernel image is larger.
    const IMAGE: u64 = 1 << 30;
    let lines = kernel.info().lines();
    let addresses = lines.filter_map(|(key, value)| {
        let addr = u64::from_str_radix(value.trim(), 16).ok()?;
        let distance = addr.checked_sub(stext.0)?;
        (key.starts_with("SYMBOL(") && (1..IMAGE).contains(&distance)).then_some(addr)
    });
    addresses.min().map(VirtAddr)
}

/// Fills `buf` with `size` bytes from `start` and the first bytes behind them; pages that are missing become zeros.
fn read_what_is_there(kernel: &Kernel<'_>, start: VirtAddr, size: usize, buf: &mut Vec<u8>) {
    buf.clear();
    buf.resize(size.saturating_add(DIGITS.len()), 0);
    if kernel.read_at(start, buf).is_ok() {
        return;
    }
    buf.fill(0);
    let pages = buf.chunks_mut(index(limits::PAGE));
    for (page, number) in pages.zip(0_u64..) {
        let at = start.wrapping_add(number.wrapping_mul(limits::PAGE));
        if kernel.read_at(at, page).is_err() {
            page.fill(0);
        }
    }
}

/// The tables whose token 0x30 starts at `hit`, if they are there.
fn tables_around(kernel: &Kernel<'_>, hit: VirtAddr) -> Option<Tables> {
    let (token_table, token_index) = token_tables(kernel, hit)?;
    let (markers, last) = markers_before(kernel, token_table)?;
    let blocks = wide(markers.count);
    let word = wide(kernel.word_size().size());
    // The names end at the markers, and the last block, which starts at the last marker, holds 1 to 256 names.
    let latest = markers.start.wrapping_sub(last);
    let mut back = 0;
    while back < 256 * 128 {
        let names = VirtAddr(latest.0.wrapping_sub(back) & !word.wrapping_sub(1));
        back = back.saturating_add(word);
        let at = names.wrapping_sub(word);
        let count = kernel.read_u32(at).ok()?;
        let least = blocks.saturating_sub(1).saturating_mul(256);
        let fits = u64::from(count) > least && u64::from(count) <= least.saturating_add(256);
        let names_len = markers.start.offset_from(names)?;
        if fits && first_block_len(kernel, names, names_len) == Some(markers.second) {
            return Some(Tables {
                count,
                names,
                names_len,
                token_table,
                token_index,
                addresses: addresses_before(kernel, at, count),
            });
        }
    }
    None
}

/// The token table and its index, when the index agrees with the strings.
fn token_tables(kernel: &Kernel<'_>, hit: VirtAddr) -> Option<(VirtAddr, VirtAddr)> {
    const BEFORE: u64 = 4 << 10;
    let mut raw = vec![0; index(BEFORE)];
    kernel.read_at(hit.wrapping_sub(BEFORE), &mut raw).ok()?;
    // 0x30 strings end before the hit, and what precedes them ends with a zero too: padding, or a small number.
    let nuls = raw.iter().enumerate().rev().filter(|&(_, &byte)| byte == 0);
    let (before, _) = nuls.map(|(at, _)| (at, ())).nth(0x30)?;
    let back = BEFORE.checked_sub(wide(before))?.checked_sub(1)?;
    let table = hit.wrapping_sub(back);

    let mut strings = Window::new(kernel, table, 16 << 10);
    let mut starts = Vec::with_capacity(256);
    let mut at = 0;
    while starts.len() < 256 {
        starts.push(u16::try_from(at).ok()?);
        while *strings.get(at, 1).ok()?.first()? != 0 {
            at = at.saturating_add(1);
        }
        at = at.saturating_add(1);
    }
    let word = wide(kernel.word_size().size());
    let token_index = VirtAddr(table.wrapping_add(at).0.checked_next_multiple_of(word)?);
    let mut raw = [0; 512];
    kernel.read_at(token_index, &mut raw).ok()?;
    let found = raw.chunks_exact(2);
    let same = found.zip(&starts);
    let mut same = same.map(|(two, &start)| kernel.endian().u16(two, 0) == Some(start));
    same.all(|same| same).then_some((table, token_index))
}

/// `kallsyms_markers`.
struct Markers {
    start: VirtAddr,
    count: usize,
    /// The second entry: bytes of the first 256 names.
    second: u64,
}

/// The markers that end at `end`, and the last of them. They rise from 0, so backwards they fall down to it.
fn markers_before(kernel: &Kernel<'_>, end: VirtAddr) -> Option<(Markers, u64)> {
    // u32 since 4.20, words before.
    [4, wide(kernel.word_size().size())]
        .iter()
        .find_map(|&size| {
            // An odd number of u32 is padded to a word.
            [0, size].iter().find_map(|&padding| {
                let mut at = end.wrapping_sub(padding);
                let mut values: Vec<u64> = Vec::new();
                let most = limits::KALLSYMS / 256;
                for _ in 0..=most {
                    at = at.wrapping_sub(size);
                    let value = if size == 8 {
                        kernel.read_u64(at)
                    } else {
                        kernel.read_u32(at).map(u64::from)
                    };
                    let value = value.ok()?;
                    if values.last().is_some_and(|&later| later <= value) {
                        return None;
                    }
                    values.push(value);
                    if value == 0 {
                        break;
                    }
                }
                let last = values.first().copied()?;
                let second = values.iter().rev().nth(1).copied()?;
                let count = values.len();
                let complete = values.last() == Some(&0) && count > 16;
                complete.then_some((
                    Markers {
                        start: at,
                        count,
                        second,
                    },
                    last,
                ))
            })
        })
}

/// Bytes that the first 256 names take. Lengths of two bytes came after the tables were exported.
fn first_block_len(kernel: &Kernel<'_>, names: VirtAddr, len: u64) -> Option<u64> {
    let mut window = Window::new(kernel, names, len);
    let mut at = 0_u64;
    for _ in 0..256 {
        let len = window.get(at, 1).ok()?.first().copied()?;
        at = at.saturating_add(1).saturating_add(u64::from(len));
    }
    Some(at)
}

/// What may precede `kallsyms_num_syms`, which is at `at`.
fn addresses_before(kernel: &Kernel<'_>, at: VirtAddr, count: u32) -> Vec<(VirtAddr, Encoding)> {
    let word = wide(kernel.word_size().size());
    let mut candidates = Vec::new();
    let base_at = at.wrapping_sub(word);
    if let Ok(base) = kernel.read_word(base_at) {
        let bytes = u64::from(count).saturating_mul(4);
        let bytes = bytes.checked_next_multiple_of(word).unwrap_or(bytes);
        let table = base_at.wrapping_sub(bytes);
        candidates.push((table, Encoding::AbsolutePerCpu(base)));
        candidates.push((table, Encoding::Relative(base)));
    }
    let bytes = u64::from(count).saturating_mul(word);
    candidates.push((at.wrapping_sub(bytes), Encoding::Absolute));
    candidates
}
