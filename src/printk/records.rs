//! The structured records of Linux 3.5 to 5.9: `struct printk_log` (`struct log` before 3.11), `kernel/printk/printk.c`.
//!
//! ```text
//! log_buf: | header | text | dict | padding | header | ... | header with len 0 |
//!          ^ log_first_idx: oldest                          ^ go on at index 0
//! ```
//!
//! The header is `ts_nsec u64, len u16, text_len u16, dict_len u16, facility u8, flags:5 level:3` and, from 5.1 on
//! where configured, `caller_id u32`. `len` covers all of a record. The dictionary is `KEY=value` items with NULs
//! between. The writer always leaves room for one empty header at the end, which carries no message.

use super::hole::Hole;
use super::{Caller, Entry, LOG_CONT, Record, flags_and_level};
use crate::addr::VirtAddr;
use crate::bytes::{Endian, index, wide};
use crate::error::{At, Error, Result};
use crate::kernel::{Kernel, Window, to_page_end};
use crate::limits;

/// Records start at multiples of this: `LOG_ALIGN` is 4 where the machine reads unaligned words well, else 8.
const ALIGN: u64 = 4;
/// A record ends less than this behind its parts.
const PADDING: u64 = 8;

/// Where the buffer is and how its records are laid out.
#[derive(Clone, Copy, Debug)]
pub struct Buffer {
    endian: Endian,
    addr: VirtAddr,
    len: u64,
    first: u64,
    next: u64,
    layout: Layout,
}

/// Sizes and offsets of a header.
#[derive(Clone, Copy, Debug)]
struct Layout {
    header: usize,
    ts_nsec: usize,
    len: usize,
    text_len: usize,
    dict_len: usize,
    caller_id: Option<usize>,
}

impl Layout {
    fn new(info: &crate::vmcoreinfo::VmcoreInfo) -> Result<Self> {
        let offset = |new: &'static str, old: &'static str| {
            info.offset(new).or_else(|_| info.offset(old)).map(index)
        };
        let header = info.size("printk_log").or_else(|_| info.size("log"))?;
        if !(16..=limits::STRUCT_LEN).contains(&header) {
            return Err(Error::Limit {
                what: "SIZE(printk_log)",
                value: header,
                max: limits::STRUCT_LEN,
            });
        }
        Ok(Layout {
            header: index(header),
            ts_nsec: offset("printk_log.ts_nsec", "log.ts_nsec")?,
            len: offset("printk_log.len", "log.len")?,
            text_len: offset("printk_log.text_len", "log.text_len")?,
            dict_len: offset("printk_log.dict_len", "log.dict_len")?,
            caller_id: info.offset("printk_log.caller_id").ok().map(index),
        })
    }

    /// Offset of `facility`, and one behind it of flags and level: not exported, but always behind `dict_len`.
    fn facility(&self) -> usize {
        self.dict_len.saturating_add(2)
    }
}

impl Buffer {
    pub(super) fn locate(kernel: &Kernel<'_>) -> Result<Self> {
        let info = kernel.info();
        let addr = kernel.read_ptr(info.symbol("log_buf")?, "log_buf")?;
        // Without a sensible length the records themselves lead through the buffer.
        let len = info
            .symbol("log_buf_len")
            .and_then(|at| kernel.read_u32(at))
            .map_or(0, u64::from);
        let sensible = (256..=limits::LOG_BUF_LEN).contains(&len);
        let len = if sensible { len } else { limits::LOG_BUF_GUESS };
        // An index that cannot be read is as good as a wrong one.
        let index_of = |name| {
            let index = info.symbol(name).and_then(|at| kernel.read_u32(at));
            index.map_or(u64::MAX, u64::from)
        };
        let (first, next) = (index_of("log_first_idx"), index_of("log_next_idx"));
        Ok(Buffer {
            endian: kernel.endian(),
            addr,
            len,
            first,
            next,
            layout: Layout::new(info)?,
        })
    }

    /// Bytes the buffer can hold.
    pub(super) fn size(&self) -> u64 {
        self.len
    }

    pub(super) fn entries<'k>(&self, kernel: &'k Kernel<'k>) -> Walk<'k> {
        let sane = |index: u64| index < self.len && index & ALIGN.wrapping_sub(1) == 0;
        let known = |index: u64| Some(index).filter(|&index| sane(index));
        let (first, next) = (known(self.first), known(self.next));
        let mut walk = self.walk(kernel, first, next);
        if first.is_some() && !walk.starts_well() {
            walk = self.walk(kernel, None, next);
        }
        walk
    }

    /// A pass from the oldest record to the end of the newest, as far as either is known.
    fn walk<'k>(&self, kernel: &'k Kernel<'k>, first: Option<u64>, next: Option<u64>) -> Walk<'k> {
        let (at, end, second, beyond) = match (first, next) {
            (Some(first), Some(next)) if first <= next => {
                (first, next, None, Some((self.len, Some(first))))
            }
            (Some(first), Some(next)) => (first, self.len, Some(next), Some((first, None))),
            (Some(first), None) => (first, self.len, Some(first), None),
            // Without a start, what is behind the newest record is older than what is before it.
            (None, Some(next)) => (next, self.len, Some(next), None),
            (None, None) => (0, self.len, None, None),
        };
        Walk {
            buffer: *self,
            data: Window::new(kernel, self.addr, self.len),
            at,
            end,
            second,
            beyond,
        }
    }
}

/// A pass over the buffer: one stretch, or two when the buffer wrapped.
pub struct Walk<'k> {
    buffer: Buffer,
    data: Window<'k>,
    /// Where the next header is.
    at: u64,
    /// Where the stretch ends.
    end: u64,
    /// Where the stretch from index 0 ends that follows.
    second: Option<u64>,
    /// `end` and `second` for when a sound record reaches over `log_next_idx`, which must then be wrong.
    beyond: Option<(u64, Option<u64>)>,
}

/// The lengths in a header.
struct Header {
    len: u64,
    text_len: usize,
    dict_len: usize,
}

impl Walk<'_> {
    pub(super) fn next(&mut self) -> Option<Entry<'_>> {
        let at = self.next_header()?;
        let header = match self.header(at) {
            Err(_) if self.second.is_none() && self.reaches_beyond(at) => self.header(at),
            header => header,
        };
        match header {
            Ok(header) => {
                self.at = at.saturating_add(header.len);
                Some(self.record(at, &header))
            }
            Err(why) => {
                self.at = self.resume_after(at, why);
                Some(Entry::damaged(at, why))
            }
        }
    }

    /// Where the next record is: past the marker at the end of the buffer, not past the newest record.
    fn next_header(&mut self) -> Option<u64> {
        let header = wide(self.buffer.layout.header);
        loop {
            let at = self.at;
            let room = self.end.saturating_sub(at) >= header;
            let marker = self.second.is_some() && room && self.is_marker(at);
            if room && !marker {
                return Some(at);
            }
            (self.at, self.end) = (0, self.second.take()?);
        }
    }

    /// Whether there is a sound record at `at` that does not end before the last stretch does; moves that end if so.
    fn reaches_beyond(&mut self, at: u64) -> bool {
        let Some((end, second)) = self.beyond else {
            return false;
        };
        let old = core::mem::replace(&mut self.end, end);
        let sound = self
            .header(at)
            .is_ok_and(|header| self.goes_on(at.saturating_add(header.len)));
        if sound {
            (self.second, self.beyond) = (second, None);
        } else {
            self.end = old;
        }
        sound
    }

    /// False when something stands at the start that is no record.
    fn starts_well(&mut self) -> bool {
        let at = self.at;
        at == self.end
            || self.is_marker(at)
            || !matches!(self.header(at), Err(Error::Invalid { .. }))
            || self.reaches_beyond(at)
    }

    /// Whether the header at `at` is the empty one that says that the next record is at index 0.
    fn is_marker(&mut self, at: u64) -> bool {
        let raw = self.data.get(at, self.buffer.layout.header);
        raw.is_ok_and(|raw| raw.iter().all(|&byte| byte == 0))
    }

    /// Reads and checks the header at `at`.
    fn header(&mut self, at: u64) -> Result<Header> {
        let buffer = &self.buffer;
        let layout = &buffer.layout;
        let raw = self.data.get(at, layout.header)?;
        let half = |offset| {
            buffer
                .endian
                .u16(raw, offset)
                .ok_or(Error::Missing { key: "printk_log" })
        };
        let len = u64::from(half(layout.len)?);
        let (text_len, dict_len) = (
            usize::from(half(layout.text_len)?),
            usize::from(half(layout.dict_len)?),
        );
        let need = wide(
            layout
                .header
                .saturating_add(text_len)
                .saturating_add(dict_len),
        );
        let fits = len >= need && at.saturating_add(len) <= self.end;
        // Padding fills a record up to the alignment and no further.
        let tight = len.saturating_sub(need) < PADDING && len & ALIGN.wrapping_sub(1) == 0;
        if !fits || !tight {
            let at = At::Virt(buffer.addr.wrapping_add(at));
            return Err(Error::Invalid {
                what: "printk_log.len",
                at,
                value: len,
                why: "not the length of its parts",
            });
        }
        Ok(Header {
            len,
            text_len,
            dict_len,
        })
    }

    /// The place behind a damaged record from which the headers make sense again, or the end of the stretch.
    fn resume_after(&mut self, at: u64, why: Error) -> u64 {
        let mut candidate = at;
        let mut missing = !matches!(why, Error::Invalid { .. });
        let mut hole = Hole::default();
        loop {
            // What is not in the dump is not there for a whole page.
            let step = if missing {
                let more = hole.step().saturating_sub(1).saturating_mul(limits::PAGE);
                self.to_next_page(candidate).saturating_add(more)
            } else {
                hole = Hole::default();
                ALIGN
            };
            candidate = candidate.saturating_add(step);
            if candidate >= self.end {
                return self.end;
            }
            match self.header(candidate) {
                Ok(header) if self.goes_on(candidate.saturating_add(header.len)) => {
                    return candidate;
                }
                Ok(_) => missing = false,
                Err(error) => missing = !matches!(error, Error::Invalid { .. }),
            }
        }
    }

    fn to_next_page(&self, offset: u64) -> u64 {
        // The buffer is aligned to less than a page, so records keep their alignment.
        to_page_end(self.buffer.addr.wrapping_add(offset).0)
    }

    /// True when two more headers, or the end of the stretch, follow at `at`.
    fn goes_on(&mut self, at: u64) -> bool {
        let mut at = at;
        for _ in 0..2 {
            if at == self.end || self.is_marker(at) {
                return true;
            }
            match self.header(at) {
                Ok(header) => at = at.saturating_add(header.len),
                Err(_) => return false,
            }
        }
        true
    }

    fn record(&mut self, at: u64, header: &Header) -> Entry<'_> {
        let buffer = &self.buffer;
        let layout = &buffer.layout;
        let raw = match self.data.get(at, index(header.len)) {
            Ok(raw) => raw,
            Err(why) => return Entry::damaged(at, why),
        };
        let text_end = layout.header.saturating_add(header.text_len);
        let text = raw.get(layout.header..text_end).unwrap_or_default();
        let dict = raw
            .get(text_end..text_end.saturating_add(header.dict_len))
            .unwrap_or_default();
        let facility = raw.get(layout.facility()).copied();
        let flags_level = raw.get(layout.facility().saturating_add(1)).copied();
        let (flags, level) = flags_level
            .map(|byte| flags_and_level(buffer.endian, byte))
            .unzip();
        Entry::Record(Record {
            seq: None,
            ts_ns: buffer.endian.u64(raw, layout.ts_nsec),
            level,
            facility: facility.map(u16::from),
            continues: flags.is_some_and(|flags| flags & LOG_CONT != 0),
            caller: layout
                .caller_id
                .and_then(|offset| buffer.endian.u32(raw, offset))
                .map(Caller::from_id),
            text,
            subsystem: value_of(dict, b"SUBSYSTEM="),
            device: value_of(dict, b"DEVICE="),
        })
    }
}

/// The value of a key of the dictionary, empty without it.
fn value_of<'a>(dict: &'a [u8], key: &[u8]) -> &'a [u8] {
    dict.split(|&byte| byte == 0)
        .find_map(|item| item.strip_prefix(key))
        .unwrap_or_default()
}
