//! The plain byte ring of kernels before 3.5: `log_buf`, `kernel/printk.c`.
//!
//! `log_end` counts all characters ever written; the ring holds the last `log_buf_len` of them. Each line starts with
//! `<N>` (facility times 8 plus level) and, where the kernel was told to, `[%5lu.%06lu] `. When the ring has wrapped
//! its first line has lost its start and is reported as such. `logged_chars` is ignored: it forgets what `dmesg -c`
//! cleared.

use super::hole::Hole;
use super::{Entry, LostKind, Record};
use crate::addr::VirtAddr;
use crate::bytes::{index, wide};
use crate::error::Result;
use crate::kernel::{Kernel, Window, to_page_end};
use crate::limits;

/// Where the ring is, and what of it is alive.
#[derive(Clone, Copy, Debug)]
pub struct Buffer {
    addr: VirtAddr,
    len: u64,
    /// Index of the oldest character.
    first: u64,
    /// Characters that are there.
    count: u64,
    /// True when older ones were overwritten.
    wrapped: bool,
    /// True when the length is not known: the log then goes on up to the first blank.
    to_first_blank: bool,
}

impl Buffer {
    pub(super) fn locate(kernel: &Kernel<'_>) -> Result<Self> {
        let info = kernel.info();
        let addr = kernel.read_ptr(info.symbol("log_buf")?, "log_buf")?;
        let len = info
            .symbol("log_buf_len")
            .and_then(|at| kernel.read_u32(at))
            .map_or(0, u64::from);
        if !len.is_power_of_two() || !(256..=limits::LOG_BUF_LEN).contains(&len) {
            return Ok(Buffer {
                addr,
                len: limits::LOG_BUF_GUESS,
                first: 0,
                count: limits::LOG_BUF_GUESS,
                wrapped: true,
                to_first_blank: true,
            });
        }
        // Without the count every character is looked at, from wherever: better a log in two halves than none.
        let end = info.symbol("log_end").and_then(|at| kernel.read_u32(at));
        let end = end.map_or(len, u64::from);
        let next = end & len.wrapping_sub(1);
        // The counter has 32 bits: a small one may have wrapped itself, and then the next place is not blank.
        let overwritten = || {
            kernel
                .read_u8(addr.wrapping_add(next))
                .is_ok_and(|byte| byte != 0)
        };
        let wrapped = end > len || (end < len && overwritten());
        let full = wrapped || end == len;
        let (first, count) = if full { (next, len) } else { (0, end) };
        Ok(Buffer {
            addr,
            len,
            first,
            count,
            wrapped,
            to_first_blank: false,
        })
    }

    /// Bytes the buffer can hold.
    pub(super) fn size(&self) -> u64 {
        self.len
    }

    pub(super) fn entries<'k>(&self, kernel: &'k Kernel<'k>) -> Walk<'k> {
        let data = Window::new(kernel, self.addr, self.len);
        Walk {
            buffer: *self,
            data,
            done: 0,
            line: alloc::vec::Vec::new(),
            hole: Hole::default(),
        }
    }
}

/// A pass over the ring, line by line.
pub struct Walk<'k> {
    buffer: Buffer,
    data: Window<'k>,
    /// Characters that have been taken.
    done: u64,
    line: alloc::vec::Vec<u8>,
    hole: Hole,
}

/// Characters looked at in one go.
const PIECE: u64 = 256;

impl Walk<'_> {
    pub(super) fn next(&mut self) -> Option<Entry<'_>> {
        let mut start = self.done;
        loop {
            if self.done >= self.buffer.count {
                return None;
            }
            if let Err(why) = self.take_line() {
                self.skip_hole();
                return Some(Entry::damaged(start, why));
            }
            self.hole = Hole::default();
            if let Some(blank) = self.line.iter().position(|&byte| byte == 0)
                && self.buffer.to_first_blank
            {
                self.line.truncate(blank);
                self.done = self.buffer.count;
            }
            // What was never written is blank; it is met when the count is wrong.
            let blank = self.line.iter().take_while(|&&byte| byte == 0).count();
            if blank == 0 && !(self.line.is_empty() && self.buffer.to_first_blank) {
                break;
            }
            self.line.drain(..blank);
            if !self.line.is_empty() {
                break;
            }
            start = self.done;
        }
        let cut = self.buffer.wrapped && start == 0;
        let record = parse(&self.line);
        // A line that starts with its level was overwritten up to its very start: nothing of it is gone.
        if cut && record.level.is_none() {
            let what = LostKind::CutLine {
                len: wide(self.line.len()),
            };
            return Some(Entry::Lost(what.with(&self.line)));
        }
        Some(Entry::Record(record))
    }

    /// Takes characters up to a newline into `line`; what of a line could be read before an error counts as a line.
    fn take_line(&mut self) -> Result<()> {
        self.line.clear();
        while self.done < self.buffer.count && wide(self.line.len()) < limits::RECORD_LEN {
            let at = self.buffer.first.wrapping_add(self.done) & self.buffer.len.wrapping_sub(1);
            let len = PIECE
                .min(self.buffer.len.saturating_sub(at))
                .min(self.buffer.count.saturating_sub(self.done));
            // Not across a page boundary, so that a missing page takes nothing of its neighbour with it.
            let len = len.min(to_page_end(self.buffer.addr.wrapping_add(at).0));
            let piece = match self.data.get(at, index(len)) {
                Ok(piece) => piece,
                Err(_) if !self.line.is_empty() => return Ok(()),
                Err(why) => return Err(why),
            };
            let newline = piece.iter().position(|&byte| byte == b'\n');
            let text = piece
                .get(..newline.unwrap_or(piece.len()))
                .unwrap_or_default();
            self.line.extend_from_slice(text);
            self.done = self.done.saturating_add(wide(text.len()));
            if newline.is_some() {
                self.done = self.done.saturating_add(1);
                break;
            }
        }
        Ok(())
    }

    fn skip_hole(&mut self) {
        let at = self.buffer.first.wrapping_add(self.done) & self.buffer.len.wrapping_sub(1);
        let to_end = self.buffer.len.saturating_sub(at);
        let more = self.hole.step().saturating_sub(1);
        let step = to_page_end(self.buffer.addr.wrapping_add(at).0)
            .saturating_add(more.saturating_mul(limits::PAGE))
            .min(to_end);
        self.done = self.done.saturating_add(step);
    }
}

/// Takes `<N>` and `[seconds.micros] ` off a line.
fn parse(line: &[u8]) -> Record<'_> {
    let (priority, rest) =
        take_priority(line).map_or((None, line), |(priority, rest)| (Some(priority), rest));
    let (ts_ns, text) = take_time(rest).map_or((None, rest), |(ts_ns, text)| (Some(ts_ns), text));
    Record {
        seq: None,
        ts_ns,
        level: priority.and_then(|priority| u8::try_from(priority & 7).ok()),
        facility: priority.map(|priority| priority >> 3),
        continues: priority.is_none(),
        caller: None,
        text,
        subsystem: &[],
        device: &[],
    }
}

/// `<N>` with one to three digits.
fn take_priority(line: &[u8]) -> Option<(u16, &[u8])> {
    let rest = line.strip_prefix(b"<")?;
    let end = rest
        .iter()
        .position(|&byte| byte == b'>')
        .filter(|end| (1..=3).contains(end))?;
    let digits = str::from_utf8(rest.get(..end)?).ok()?;
    let number = digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok())??;
    Some((number, rest.get(end.saturating_add(1)..)?))
}

/// `[%5lu.%06lu] `, as nanoseconds.
fn take_time(line: &[u8]) -> Option<(u64, &[u8])> {
    let rest = line.strip_prefix(b"[")?;
    let end = rest
        .iter()
        .position(|&byte| byte == b']')
        .filter(|&end| end < 32)?;
    let number = str::from_utf8(rest.get(..end)?).ok()?;
    let (seconds, micros) = number.trim_start_matches(' ').split_once('.')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if micros.len() != 6 || !digits(seconds) || !digits(micros) {
        return None;
    }
    let micros = seconds
        .parse::<u64>()
        .ok()?
        .checked_mul(1_000_000)?
        .checked_add(micros.parse().ok()?)?;
    let text = rest.get(end.saturating_add(1)..)?;
    Some((micros.checked_mul(1000)?, text.strip_prefix(b" ")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priority_and_time_are_taken_off_a_line() {
        let record = parse(b"<30>[   12.000345] text");
        assert_eq!(
            (record.level, record.facility, record.ts_ns),
            (Some(6), Some(3), Some(12_000_345_000))
        );
        assert_eq!(record.text, b"text");
    }

    #[test]
    fn what_only_looks_like_a_prefix_stays_text() {
        for line in [
            "<1234>x",
            "<>x",
            "<a>x",
            "[ 1.5] x",
            "[    1.000000]x",
            "<+1>x",
        ] {
            assert_eq!(parse(line.as_bytes()).text, line.as_bytes(), "{line}");
        }
    }
}
