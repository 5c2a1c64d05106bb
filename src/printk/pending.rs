//! Text that `printk()` took and that is not in the log: the kernel would have put it there a moment later.
//!
//! | variable | kernels | holds |
//! |---|---|---|
//! | `nmi_print_seq` of each CPU | 4.7 to 5.14 | what it printed in an NMI |
//! | `safe_print_seq` of each CPU | 4.11 to 5.14 | what it printed while it was inside of `printk()` |
//! | `cont` | 3.5 to 5.9 | a line that `pr_cont()` has begun and not ended |
//!
//! ```text
//! struct printk_safe_seq_buf (nmi_seq_buf before 4.11):  len u32 | message_lost u32 | irq_work | buffer ...
//! struct cont:  buf[992 or 976] | len size_t | [cons size_t] | owner or caller_id | ts_nsec u64 | level u8 | facility u8
//!               | flags u32 | [flushed]                       [ ]: before 4.10
//! ```
//!
//! `kernel/printk/printk_safe.c` (`nmi.c`), `kernel/printk/printk.c`. A buffer holds what was handed to `printk()`, levels
//! and all; an irq_work or a panic moves it to the log, line by line, and sets `len` to 0 at the end. A CPU that hangs
//! with interrupts disabled never does, and a panic does not while the lock of the log is held.

use alloc::vec::Vec;

use crate::addr::VirtAddr;
use crate::bytes::{Word, index, wide};
use crate::dump::Machine;
use crate::error::{At, Error, Result};
use crate::kernel::{Kernel, to_page_end};
use crate::limits;

/// Where text waits for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `nmi_print_seq` of a CPU.
    Nmi(u32),
    /// `safe_print_seq` of a CPU.
    Safe(u32),
    /// `cont`.
    Cont,
}

impl Place {
    /// The name of the variable.
    pub fn name(self) -> &'static str {
        match self {
            Place::Nmi(_) => "nmi_print_seq",
            Place::Safe(_) => "safe_print_seq",
            Place::Cont => "cont",
        }
    }

    /// The CPU whose it is.
    pub fn cpu(self) -> Option<u32> {
        match self {
            Place::Nmi(cpu) | Place::Safe(cpu) => Some(cpu),
            Place::Cont => None,
        }
    }
}

/// Text in one of these places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Where.
    pub place: Place,
    /// Bytes in all.
    pub len: u64,
    /// The first of them, as many as could be read and are kept.
    pub text: Vec<u8>,
    /// Messages for which there was no room any more.
    pub lost: u32,
    /// When the line was begun, in nanoseconds since boot; only `cont` has it.
    pub ts_ns: Option<u64>,
    /// The level of `cont`.
    level: Option<u8>,
}

/// A line as the log would have had it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PendingLine {
    /// 0 (emerg) to 7 (debug).
    pub level: Option<u8>,
    /// The text, without level and newline.
    pub text: Vec<u8>,
}

impl Pending {
    /// The lines, split as the kernel does when it moves them: at newlines, and at levels inside of a line.
    pub fn lines(&self) -> impl Iterator<Item = PendingLine> {
        let mut rest = self.text.as_slice();
        core::iter::from_fn(move || {
            let mut line = take_line(&mut rest)?;
            line.level = line.level.or(self.level);
            Some(line)
        })
    }

    /// Reads a `struct printk_safe_seq_buf`, whose member `buffer` is at that offset where known; `None` when nothing
    /// waits in it. `size` tells the bytes of the structure; at most `most` bytes of the text are kept.
    ///
    /// # Errors
    /// `Invalid` when it cannot be one, else what reading the dump gave.
    pub fn read_seq_buf(
        kernel: &Kernel<'_>,
        place: Place,
        at: VirtAddr,
        buffer: Option<u64>,
        size: &dyn Fn() -> u64,
        most: u64,
    ) -> Result<Option<Self>> {
        let mut start = [0; 80];
        let (head, _) = start.split_at_mut(8);
        kernel.read_at(at, head)?;
        let endian = kernel.endian();
        let number = |offset| endian.u32(&start, offset).unwrap_or_default();
        let (len, lost) = (u64::from(number(0)), number(4));
        // A count that nobody ever reached is something else.
        let lost = if lost < 1 << 24 { lost } else { 0 };
        if len == 0 && lost == 0 {
            return Ok(None);
        }
        let invalid = |what, why| {
            let at = At::Virt(at);
            Err(Error::Invalid {
                what,
                at,
                value: len,
                why,
            })
        };
        let size = size().min(limits::PRINTK_SAFE_LEN);
        // The first kernels counted all of a message that found room for its start only.
        if len > size.saturating_add(limits::RECORD_LEN) {
            // Up to 4.6 some architectures had text in its place, which they had moved to the log themselves.
            let word = start.first_chunk::<4>();
            let text = word.is_some_and(|word| word.is_ascii() && is_text(word));
            return if text {
                Ok(None)
            } else {
                invalid("printk_safe_seq_buf.len", "more than the buffer holds")
            };
        }
        let mut pending = Pending {
            place,
            len,
            text: Vec::new(),
            lost,
            ts_ns: None,
            level: None,
        };
        if len == 0 {
            return Ok(Some(pending));
        }
        let found = buffer.map_or_else(
            || {
                kernel.read_at(at, &mut start)?;
                Ok(find_buffer(&start, kernel.word_size(), len))
            },
            |offset| Ok(Some(offset)),
        )?;
        let Some(offset) = found else {
            return invalid("printk_safe_seq_buf.buffer", "bytes that are no text");
        };
        if (kernel.word_size(), offset) == (Word::W32, 16) {
            // Before 4.11 the count was elsewhere, and with words of 32 bits irq_work is in its place.
            pending.lost = 0;
        }
        pending.len = len.min(size.saturating_sub(offset));
        let from = at.wrapping_add(offset);
        pending.text = read_start(kernel, from, pending.len.min(most))?;
        Ok(Some(pending))
    }

    /// Reads `cont`; `None` when there is no line in it that is not in the log.
    ///
    /// # Errors
    /// `Invalid` when it cannot be it, else what reading the dump gave.
    pub fn read_cont(kernel: &Kernel<'_>, at: VirtAddr) -> Result<Option<Self>> {
        // LOG_LINE_MAX, which is less where the kernel prints callers; these then stand in the records as well.
        let callers = kernel.info().size("printk_log").is_ok_and(|len| len > 16);
        let room: u64 = if callers { 976 } else { 992 };
        let mut raw = [0; 1040];
        let least = room.saturating_add(32);
        let (start, rest) = raw.split_at_mut(index(least));
        kernel.read_at(at, start)?;
        // Only an old kernel's goes on behind that.
        if kernel.read_at(at.wrapping_add(least), rest).is_err() {
            rest.fill(0);
        }
        let (endian, word) = (kernel.endian(), kernel.word_size());
        let size = wide(word.size());
        let word_at = |offset: u64| endian.word(word, &raw, index(offset)).unwrap_or_default();
        let len = word_at(room);
        if len == 0 {
            return Ok(None);
        }
        let text = raw.get(..index(len.min(room))).unwrap_or_default();
        if len > room || !is_text(text) {
            let at = At::Virt(at);
            return Err(Error::Invalid {
                what: "cont.len",
                at,
                value: len,
                why: "not the length of a text",
            });
        }
        // Of the members that follow, `cons` went in 4.10; before, a small number and the address of a task follow.
        let align = match kernel.abi().machine {
            Machine::I386 => 4,
            _ => 8,
        };
        let behind = |words: u64| {
            let end = room.saturating_add(size.saturating_mul(words));
            end.checked_next_multiple_of(align).unwrap_or(end)
        };
        let cons = word_at(room.saturating_add(size));
        let owner = VirtAddr(word_at(room.saturating_add(size.saturating_mul(2))));
        let is_old = cons <= room && owner.0 != 0 && kernel.read_u8(owner).is_ok();
        let stamp = |offset: u64| {
            /// A hundred years.
            const MOST_NS: u64 = 100 * 366 * 86_400 * 1_000_000_000;
            let ts_ns = endian.u64(&raw, index(offset))?;
            let level = raw.get(index(offset.saturating_add(8))).copied()?;
            let facility = raw.get(index(offset.saturating_add(9))).copied()?;
            let sound = (1..MOST_NS).contains(&ts_ns) && level <= 7 && facility < 24;
            sound.then_some((ts_ns, level))
        };
        let old = stamp(behind(3)).filter(|_| is_old);
        let flushed = raw.get(index(behind(3).saturating_add(16))).copied();
        if old.is_some() && flushed != Some(0) {
            return Ok(None);
        }
        let (ts_ns, level) = old.or_else(|| stamp(behind(2))).unzip();
        Ok(Some(Pending {
            place: Place::Cont,
            len,
            text: text.to_vec(),
            lost: 0,
            ts_ns,
            level,
        }))
    }
}

/// True when these bytes may be text of a message: no control characters but those that messages have.
fn is_text(bytes: &[u8]) -> bool {
    let is_text = |&byte: &u8| byte >= b' ' || matches!(byte, SOH | b'\t' | b'\n' | b'\r' | 0x1b);
    bytes.iter().all(is_text)
}

/// Where `buffer` is, by what stands there: it depends on the size of `irq_work`, of which there are three.
fn find_buffer(start: &[u8], word: Word, len: u64) -> Option<u64> {
    let offsets: [usize; 4] = match word {
        Word::W64 => [32, 40, 48, 24],
        Word::W32 => [16, 20, 24, 28],
    };
    let text = |offset: usize| {
        let end = offset.saturating_add(index(len.min(16)));
        start.get(offset..end).unwrap_or_default()
    };
    let leveled = offsets.iter().find(|&&at| level(text(at)).is_some());
    let plain = |text: &[u8]| !text.is_empty() && is_text(text);
    let found = leveled.or_else(|| offsets.iter().find(|&&at| plain(text(at))));
    found.map(|&at| wide(at))
}

/// Reads `len` bytes, or as many as there are up to the first page that cannot be read.
fn read_start(kernel: &Kernel<'_>, at: VirtAddr, len: u64) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    while wide(text.len()) < len {
        let done = text.len();
        let from = at.wrapping_add(wide(done));
        let piece = to_page_end(from.0).min(len.saturating_sub(wide(done)));
        text.resize(done.saturating_add(index(piece)), 0);
        let read = kernel.read_at(from, text.get_mut(done..).unwrap_or_default());
        if let Err(why) = read {
            text.truncate(done);
            return if done == 0 { Err(why) } else { Ok(text) };
        }
    }
    Ok(text)
}

/// `KERN_SOH`: stands before a level.
const SOH: u8 = 1;

/// The level that a text starts with: `0` to `7`, `c` for the continuation of a line, `d` for none (before 4.10).
fn level(text: &[u8]) -> Option<u8> {
    match text {
        &[SOH, level @ (b'0'..=b'7' | b'c' | b'd'), ..] => Some(level),
        _ => None,
    }
}

/// Takes the next line off `rest`.
fn take_line(rest: &mut &[u8]) -> Option<PendingLine> {
    loop {
        if rest.is_empty() {
            return None;
        }
        let mut line = PendingLine::default();
        let mut continues = None;
        let mut ended = false;
        // The parts of the line: the first, and what continues it.
        loop {
            while let Some(found) = level(rest) {
                continues = Some(continues == Some(true) || found == b'c');
                if line.level.is_none() && found.is_ascii_digit() {
                    line.level = Some(found.wrapping_sub(b'0'));
                }
                *rest = rest.get(2..).unwrap_or_default();
            }
            let end = (0..rest.len()).find(|&at| {
                let from = rest.get(at..).unwrap_or_default();
                from.first() == Some(&b'\n') || level(from).is_some()
            });
            let (part, behind) = rest.split_at(end.unwrap_or(rest.len()));
            line.text.extend_from_slice(part);
            *rest = behind;
            if let Some(behind) = rest.strip_prefix(b"\n") {
                (*rest, ended) = (behind, true);
            }
            if ended || level(rest) != Some(b'c') {
                break;
            }
        }
        // A level without text is no line, and the end of a line that is elsewhere is none either.
        let nothing = match continues {
            None => false,
            Some(continues) => continues || !ended,
        };
        if !(line.text.is_empty() && nothing) {
            return Some(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::String;

    use super::*;
    use crate::image::{BASE, Image};

    /// A buffer as the kernel lays it out, `offset` bytes in front of the text.
    fn seq_buf(len: u32, lost: u32, offset: usize, text: &[u8]) -> Image {
        let mut image = Image::new(256 << 10);
        image.put(BASE, &len.to_le_bytes());
        image.put(BASE + 4, &lost.to_le_bytes());
        image.put(BASE + offset as u64, text);
        image
    }

    fn read(image: &Image, buffer: Option<u64>) -> Result<Option<Pending>> {
        let size = || 8192;
        Pending::read_seq_buf(
            &image.kernel(),
            Place::Nmi(3),
            VirtAddr(BASE),
            buffer,
            &size,
            1 << 20,
        )
    }

    fn lines(text: &[u8]) -> Vec<String> {
        let pending = Pending {
            place: Place::Nmi(0),
            len: text.len() as u64,
            text: text.to_vec(),
            lost: 0,
            ts_ns: None,
            level: None,
        };
        let lines = pending.lines().map(|line| {
            let level = line.level.map_or('-', |level| char::from(b'0' + level));
            format!("{level}{}", String::from_utf8_lossy(&line.text))
        });
        lines.collect()
    }

    #[test]
    fn lines_have_their_levels_and_end_where_the_kernel_ends_them() {
        let tests: [(&[u8], &[&str]); 12] = [
            (b"\x010first\n\x014second\n", &["0first", "4second"]),
            (b"no level\nnor here\n", &["-no level", "-nor here"]),
            (b"\x016cut", &["6cut"]),
            (b"\x016one\x014two\n", &["6one", "4two"]),
            (b"\x016a\x01c b\x01c c\n\x016d\n", &["6a b c", "6d"]),
            (b"\x01cmore of a line\n", &["-more of a line"]),
            (b"\x014\x01c\x016x\n", &["4x"]),
            (b"\x01d\x016x\n", &["6x"]),
            (b"\x016\n\n", &["6", "-"]),
            // A level alone, or the end of a line that is elsewhere, is no line.
            (b"\x016\x01c\n\x014", &[]),
            (b"a\x01", &["-a\x01"]),
            (b"\x01\x019\n", &["-\x01\x019"]),
        ];
        for (text, expected) in tests {
            assert_eq!(lines(text), expected, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn any_bytes_are_split_without_losing_one_that_is_text() {
        let mut seed = 7_u64;
        for len in 0..2000_usize {
            let mut text = Vec::new();
            while text.len() < len % 60 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(9);
                text.push(b"\x01\x01\n6c4 ab\0\xff"[(seed >> 33) as usize % 11]);
            }
            let mut plain = Vec::new();
            let mut rest = text.as_slice();
            while let Some(&byte) = rest.first() {
                let skip = if level(rest).is_some() { 2 } else { 1 };
                if skip == 1 && byte != b'\n' {
                    plain.push(byte);
                }
                rest = &rest[skip..];
            }
            let mut rest = text.as_slice();
            let found: Vec<u8> = core::iter::from_fn(|| take_line(&mut rest))
                .flat_map(|line| line.text)
                .collect();
            assert_eq!(found, plain, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn a_buffer_is_read_in_each_size_of_irq_work() {
        const TEXT: &[u8] = b"\x010Watchdog detected hard LOCKUP on cpu 3\n";
        for offset in [32, 40, 48] {
            let image = seq_buf(TEXT.len() as u32, 2, offset, TEXT);
            let pending = read(&image, None).unwrap().unwrap();
            assert_eq!((pending.lost, pending.place), (2, Place::Nmi(3)));
            assert_eq!(pending.text, TEXT, "{offset}");
            assert_eq!(read(&image, Some(offset as u64)).unwrap(), Some(pending));
        }
        let unmarked = seq_buf(5, 0, 40, b"text\n");
        assert_eq!(read(&unmarked, None).unwrap().unwrap().text, b"text\n");
        assert_eq!(read(&seq_buf(0, 0, 32, TEXT), None), Ok(None));
        let full = read(&seq_buf(0, 4, 32, b""), None).unwrap().unwrap();
        assert_eq!((full.len, full.lost), (0, 4));
    }

    #[test]
    fn a_message_that_was_cut_at_the_end_of_the_buffer_is_counted_to_there() {
        let image = seq_buf(8300, 0, 32, &[b'x'; 8300]);
        let pending = read(&image, None).unwrap().unwrap();
        assert_eq!((pending.len, pending.text.len()), (8192 - 32, 8192 - 32));
    }

    #[test]
    fn text_is_found_by_its_level_before_anything_else_that_looks_like_text() {
        // A pointer in irq_work may look like text.
        let mut start = *b"........8421........\x014Uhhuh. NMI received for unknown reason";
        start[..16].fill(0);
        assert_eq!(find_buffer(&start, Word::W32, 30), Some(20));
        start[20] = b'x';
        assert_eq!(find_buffer(&start, Word::W32, 4), Some(16));
        assert_eq!(find_buffer(&[0; 80], Word::W64, 1), None);
        assert_eq!(find_buffer(&[], Word::W64, 1), None);
    }

    #[test]
    fn lengths_and_bytes_that_cannot_be_are_errors_and_old_text_is_not() {
        for len in [8193 + (64 << 10), 1 << 20, u32::MAX] {
            let found = read(&seq_buf(len, 0, 32, b"\x016x\n"), None);
            assert!(matches!(found, Err(Error::Invalid { .. })), "{found:?}");
        }
        let found = read(&seq_buf(9, 0, 32, b"\0\x02\x03"), None);
        assert!(matches!(found, Err(Error::Invalid { .. })), "{found:?}");
        let old = read(
            &seq_buf(u32::from_le_bytes(*b"\x016NM"), 0, 4, b"I back"),
            None,
        );
        assert_eq!(old, Ok(None));
        let missing = Image::new(0);
        assert!(read(&missing, None).is_err());
    }

    #[test]
    fn text_ends_at_the_first_page_that_is_missing_and_at_the_bound() {
        let mut image = seq_buf(8000, 0, 40, &[b'x'; 8000]);
        image.bytes.truncate(4096);
        let pending = read(&image, Some(40)).unwrap().unwrap();
        assert_eq!((pending.len, pending.text.len()), (8000, 4096 - 40));
        let (image, size) = (seq_buf(8000, 0, 40, &[b'x'; 8000]), || u64::MAX);
        let read = |most| {
            let at = VirtAddr(BASE);
            Pending::read_seq_buf(&image.kernel(), Place::Safe(0), at, None, &size, most)
        };
        assert_eq!(read(100).unwrap().unwrap().text.len(), 100);
        assert_eq!(read(0).unwrap().unwrap().text.len(), 0);
    }

    /// `cont` with the members that stand behind `len`.
    fn cont(room: u64, len: u64, text: &[u8], behind: &[u64]) -> Image {
        let mut image = Image::new(64 << 10);
        image.put(BASE, text);
        image.put(BASE + room, &len.to_le_bytes());
        for (number, word) in (1..).zip(behind) {
            image.put(BASE + room + 8 * number, &word.to_le_bytes());
        }
        image
    }

    fn read_cont(image: &Image) -> Result<Option<Pending>> {
        Pending::read_cont(&image.kernel(), VirtAddr(BASE))
    }

    #[test]
    fn an_unfinished_line_is_read_in_each_layout() {
        const OWNER: u64 = BASE + 0x100;
        const TS_NS: u64 = 12_345_678_901;
        // Level 4, facility 0, flags LOG_PREFIX.
        const LEVEL: u64 = 4 << 32 | 4;
        for (room, behind) in [
            (992, &[0, OWNER, TS_NS, LEVEL, 0][..]),
            (992, &[7, OWNER, TS_NS, LEVEL, 0]),
            (992, &[OWNER, TS_NS, LEVEL]),
            (992, &[123, TS_NS, LEVEL]),
            (976, &[1 << 31, TS_NS, LEVEL]),
        ] {
            let mut image = cont(room, 11, b"half a line and more of an older one", behind);
            if room == 976 {
                image.info += "SIZE(printk_log)=24\n";
            }
            let pending = read_cont(&image).unwrap().unwrap();
            assert_eq!(pending.ts_ns, Some(TS_NS), "{behind:x?}");
            let expected = PendingLine {
                level: Some(4),
                text: b"half a line".to_vec(),
            };
            assert_eq!(pending.lines().collect::<Vec<_>>(), [expected]);
        }
        // Before 4.10 a line stays here after it was logged, until the console has it.
        let flushed = cont(992, 4, b"line", &[2, OWNER, TS_NS, LEVEL, 1]);
        assert_eq!(read_cont(&flushed), Ok(None));
        assert_eq!(
            read_cont(&cont(992, 0, b"old", &[OWNER, TS_NS, LEVEL])),
            Ok(None)
        );
    }

    #[test]
    fn what_is_no_unfinished_line_is_not_shown_as_one() {
        for image in [
            cont(992, 993, &[b'x'; 992], &[]),
            cont(992, u64::MAX, b"text", &[]),
            cont(992, 4, b"te\0t", &[]),
        ] {
            let found = read_cont(&image);
            assert!(matches!(found, Err(Error::Invalid { .. })), "{found:?}");
        }
        let odd = read_cont(&cont(992, 4, b"text", &[u64::MAX; 5]));
        assert_eq!(odd.unwrap().unwrap().ts_ns, None);
        // It may be the last thing in the dump.
        let mut last = cont(992, 4, b"text", &[1, 5, 4]);
        last.bytes.truncate(1024);
        assert_eq!(read_cont(&last).unwrap().unwrap().ts_ns, Some(5));
        last.bytes.truncate(1020);
        assert!(read_cont(&last).is_err());
    }
}
