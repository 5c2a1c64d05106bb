//! Records as lines, by the conventions of `dmesg(1)`.
//!
//! ```text
//! <6>kern  :info  : [    0.000000][    T0] Linux version ...
//! raw  decode         time          caller   text, the prefix repeated on every line of it
//! ```

use core::fmt;

use super::date::Date;
use super::{FACILITIES, LEVELS, escape, json};
use crate::printk::{Caller, Record};

/// How the time of a record is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeFormat {
    /// `[    1.234567]`: seconds since boot.
    #[default]
    Raw,
    /// `[Sat Nov 21 19:23:35 2026]`.
    Ctime,
    /// `2026-11-21T19:23:35,123456+00:00`.
    Iso,
    /// `[    1.234567 <    0.000012>]`: with the time since the record before.
    Delta,
    /// `[Nov21 19:23]`, then `[  +0.000012]` within the same minute.
    Reltime,
    /// Nothing.
    Notime,
}

/// What a line shows besides its text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// The time.
    pub time: TimeFormat,
    /// `<N>` in front, as the kernel's own reader has it.
    pub raw: bool,
    /// Facility and level by name.
    pub decode: bool,
    /// Who logged it.
    pub caller: bool,
    /// Colours for a terminal.
    pub color: bool,
    /// Nanoseconds since 1970 at boot, by which wall-clock times are made: crash time less the last record's time.
    pub boot_time_ns: u64,
}

/// Writes records as lines; remembers the time of the last for the relative formats.
#[derive(Clone, Debug)]
pub struct LineWriter {
    style: Style,
    previous_ns: Option<u64>,
    minute: Option<u64>,
}

const NS: u64 = 1_000_000_000;

impl LineWriter {
    /// A writer of lines in this style.
    pub fn new(style: Style) -> Self {
        LineWriter {
            style,
            previous_ns: None,
            minute: None,
        }
    }

    /// Writes one record, each of its lines with the prefix and a newline.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write(&mut self, out: &mut dyn fmt::Write, record: &Record<'_>) -> fmt::Result {
        let minute = record.ts_ns.map(|ts| self.wall_ns(ts) / (60 * NS));
        match escape::plain(record.text) {
            // Nearly every record: one line that needs no closer look.
            Some(text) if !self.style.color => {
                self.write_prefix(out, record, minute)?;
                out.write_str(text)?;
                out.write_char('\n')?;
            }
            _ => {
                for line in record.text.split(|&byte| byte == b'\n') {
                    self.write_prefix(out, record, minute)?;
                    self.write_text(out, record, line)?;
                    out.write_char('\n')?;
                }
            }
        }
        self.previous_ns = record.ts_ns.or(self.previous_ns);
        self.minute = minute.or(self.minute);
        Ok(())
    }

    fn wall_ns(&self, ts_ns: u64) -> u64 {
        self.style.boot_time_ns.saturating_add(ts_ns)
    }

    fn write_prefix(
        &self,
        out: &mut dyn fmt::Write,
        record: &Record<'_>,
        minute: Option<u64>,
    ) -> fmt::Result {
        let style = &self.style;
        if let (true, Some(level)) = (style.raw, record.level) {
            write!(out, "<{}>", priority(record.facility.unwrap_or(0), level))?;
        }
        if let (true, Some(level)) = (style.decode, record.level) {
            let facility = FACILITIES
                .get(usize::from(record.facility.unwrap_or(0)))
                .copied();
            let level = LEVELS.get(usize::from(level)).copied();
            write!(
                out,
                "{:<6}:{:<6}: ",
                facility.unwrap_or("?"),
                level.unwrap_or("?")
            )?;
        }
        let time = record.ts_ns.filter(|_| style.time != TimeFormat::Notime);
        if let Some(ts_ns) = time {
            self.paint(out, "\x1b[32m")?;
            self.write_time(out, ts_ns, minute)?;
            self.paint(out, "\x1b[0m")?;
        }
        let caller = record.caller.filter(|_| style.caller);
        if let Some(caller) = caller {
            write_caller(out, caller)?;
        }
        if time.is_some() || caller.is_some() {
            out.write_char(' ')
        } else {
            Ok(())
        }
    }

    fn write_time(&self, out: &mut dyn fmt::Write, ts_ns: u64, minute: Option<u64>) -> fmt::Result {
        let wall = self.wall_ns(ts_ns);
        let date = || Date::from_unix(wall / NS);
        let since = ts_ns.saturating_sub(self.previous_ns.unwrap_or(ts_ns));
        match self.style.time {
            TimeFormat::Raw => {
                out.write_char('[')?;
                write_seconds(out, ts_ns)?;
                out.write_char(']')
            }
            TimeFormat::Delta => {
                out.write_char('[')?;
                write_seconds(out, ts_ns)?;
                write!(out, " <{:5}.{:06}>]", since / NS, since % NS / 1000)
            }
            TimeFormat::Ctime => {
                let d = date();
                let (weekday, month) = (d.weekday_name(), d.month_name());
                write!(
                    out,
                    "[{weekday} {month} {:2} {:02}:{:02}:{:02} {}]",
                    d.day, d.hour, d.minute, d.second, d.year
                )
            }
            TimeFormat::Iso => {
                write_iso(out, &date(), ',', wall % NS / 1000)?;
                out.write_str("+00:00")
            }
            TimeFormat::Reltime if self.minute == minute => {
                // `[%+*.6f]`: four characters before the point.
                let mut text = Backwards::new();
                text.push(b']');
                text.number(since % NS / 1000, 6, b'0');
                text.push(b'.');
                text.number(since / NS, 1, b' ');
                text.push(b'+');
                text.fill(12, b' ');
                text.push(b'[');
                out.write_str(text.as_str())
            }
            TimeFormat::Reltime => {
                let d = date();
                write!(
                    out,
                    "[{}{:02} {:02}:{:02}]",
                    d.month_name(),
                    d.day,
                    d.hour,
                    d.minute
                )
            }
            TimeFormat::Notime => Ok(()),
        }
    }

    fn write_text(
        &self,
        out: &mut dyn fmt::Write,
        record: &Record<'_>,
        line: &[u8],
    ) -> fmt::Result {
        let color = match record.level {
            Some(0..=2) => "\x1b[1;31m",
            Some(3) => "\x1b[31m",
            Some(4) => "\x1b[1m",
            _ => "",
        };
        self.paint(out, color)?;
        escape::write_text(out, line)?;
        self.paint(out, if color.is_empty() { "" } else { "\x1b[0m" })
    }

    fn paint(&self, out: &mut dyn fmt::Write, code: &str) -> fmt::Result {
        if self.style.color {
            out.write_str(code)
        } else {
            Ok(())
        }
    }
}

/// Text with numbers in it, made from its end. The formatting machinery costs several times as much, and this runs for
/// every line of a log.
struct Backwards {
    buf: [u8; 32],
    start: usize,
}

impl Backwards {
    fn new() -> Self {
        let buf = [b' '; 32];
        Backwards {
            start: buf.len(),
            buf,
        }
    }

    fn push(&mut self, byte: u8) {
        self.start = self.start.saturating_sub(1);
        if let Some(place) = self.buf.get_mut(self.start) {
            *place = byte;
        }
    }

    /// Puts a decimal in front, filled up to `width`.
    fn number(&mut self, mut value: u64, width: usize, fill: u8) {
        let end = self.start;
        loop {
            let digit = u8::try_from(value % 10).unwrap_or(0);
            self.push(b'0'.wrapping_add(digit));
            value /= 10;
            if value == 0 {
                break;
            }
        }
        let filled = self.buf.len().saturating_sub(end).saturating_add(width);
        self.fill(filled, fill);
    }

    /// Fills up to `len` bytes in all.
    fn fill(&mut self, len: usize, fill: u8) {
        while self.buf.len().saturating_sub(self.start) < len && self.start != 0 {
            self.push(fill);
        }
    }

    fn as_str(&self) -> &str {
        let bytes = self.buf.get(self.start..).unwrap_or_default();
        str::from_utf8(bytes).unwrap_or_default()
    }
}

/// `%5lu.%06lu`: seconds and microseconds.
pub(super) fn write_seconds(out: &mut dyn fmt::Write, ns: u64) -> fmt::Result {
    let mut text = Backwards::new();
    text.number(ns % NS / 1000, 6, b'0');
    text.push(b'.');
    text.number(ns / NS, 5, b' ');
    out.write_str(text.as_str())
}

/// Seconds with microseconds, as a number of JSON.
pub(super) fn write_seconds_number(out: &mut dyn fmt::Write, ns: u64) -> fmt::Result {
    write!(out, "{}.{:06}", ns / NS, ns % NS / 1000)
}

/// `2026-11-21T19:23:35`, and microseconds behind `point`.
fn write_iso(out: &mut dyn fmt::Write, d: &Date, point: char, micros: u64) -> fmt::Result {
    write!(
        out,
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        d.year, d.month, d.day, d.hour, d.minute, d.second
    )?;
    write!(out, "{point}{micros:06}")
}

/// `[%6s]` of `T123` or `C0`, as a kernel with `CONFIG_PRINTK_CALLER` prints it.
fn write_caller(out: &mut dyn fmt::Write, caller: Caller) -> fmt::Result {
    let (kind, id) = match caller {
        Caller::Task(pid) => (b'T', pid),
        Caller::Cpu(cpu) => (b'C', cpu),
    };
    let mut text = Backwards::new();
    text.push(b']');
    text.number(u64::from(id), 1, b' ');
    text.push(kind);
    text.fill(7, b' ');
    text.push(b'[');
    out.write_str(text.as_str())
}

/// Facility times 8 plus level.
fn priority(facility: u16, level: u8) -> u32 {
    (u32::from(facility) << 3) | u32::from(level)
}

/// Writes one record as a JSON object with `dmesg --json`'s names (`pri` or `fac` and `pri`, `time`, `caller`, `msg`)
/// and what only a dump knows: `seq`, `subsystem`, `device`, `cont`.
///
/// # Errors
/// Those of `out`.
pub fn write_json(out: &mut dyn fmt::Write, record: &Record<'_>, decode: bool) -> fmt::Result {
    let mut object = json::Object::new(out)?;
    if let Some(level) = record.level {
        let facility = record.facility.unwrap_or(0);
        if decode {
            let name = FACILITIES
                .get(usize::from(facility))
                .copied()
                .unwrap_or("?");
            object.string("fac", name.as_bytes())?;
            let name = LEVELS.get(usize::from(level)).copied().unwrap_or("?");
            object.string("pri", name.as_bytes())?;
        } else {
            object.raw("pri", format_args!("{}", priority(facility, level)))?;
        }
    }
    if let Some(ts) = record.ts_ns {
        write_seconds_number(object.key("time")?, ts)?;
    }
    match record.caller {
        Some(Caller::Task(pid)) => object.raw("caller", format_args!("\"T{pid}\""))?,
        Some(Caller::Cpu(cpu)) => object.raw("caller", format_args!("\"C{cpu}\""))?,
        None => {}
    }
    if let Some(seq) = record.seq {
        object.raw("seq", format_args!("{seq}"))?;
    }
    if record.continues {
        object.raw("cont", format_args!("true"))?;
    }
    for (key, value) in [("subsystem", record.subsystem), ("device", record.device)] {
        if !value.is_empty() {
            object.string(key, value)?;
        }
    }
    object.string("msg", record.text)?;
    object.end()
}

#[cfg(test)]
mod tests {
    use alloc::string::String;
    use alloc::vec::Vec;

    use super::*;

    const BOOT: u64 = 1_795_289_015 * NS;

    fn record(ts_ns: u64, text: &[u8]) -> Record<'_> {
        Record {
            seq: Some(7),
            ts_ns: Some(ts_ns),
            level: Some(6),
            facility: Some(1),
            continues: false,
            caller: Some(Caller::Task(1)),
            text,
            subsystem: b"pci",
            device: b"",
        }
    }

    fn lines(style: Style, records: &[Record<'_>]) -> Vec<String> {
        let mut out = String::new();
        let mut writer = LineWriter::new(style);
        records
            .iter()
            .for_each(|record| writer.write(&mut out, record).unwrap());
        out.lines().map(String::from).collect()
    }

    #[test]
    fn the_prefix_stands_on_every_line_of_a_record() {
        let style = Style::default();
        assert_eq!(
            lines(style, &[record(1_002_003_999, b"a\n\nb")]),
            ["[    1.002003] a", "[    1.002003] ", "[    1.002003] b"]
        );
        assert_eq!(
            lines(style, &[record(123_456 * NS, b"")]),
            ["[123456.000000] "]
        );
    }

    #[test]
    fn caller_priority_and_names_stand_where_the_kernel_and_dmesg_put_them() {
        let caller = Style {
            caller: true,
            raw: true,
            ..Style::default()
        };
        assert_eq!(
            lines(caller, &[record(0, b"x")]),
            ["<14>[    0.000000][    T1] x"]
        );
        let decode = Style {
            decode: true,
            ..Style::default()
        };
        assert_eq!(
            lines(decode, &[record(0, b"x")]),
            ["user  :info  : [    0.000000] x"]
        );
    }

    #[test]
    fn every_time_format_is_that_of_dmesg() {
        let records = [
            record(0, b"x"),
            record(1_500_000_000, b"y"),
            record(61 * NS, b"z"),
        ];
        let shown = |time| {
            lines(
                Style {
                    time,
                    boot_time_ns: BOOT,
                    ..Style::default()
                },
                &records,
            )
        };
        assert_eq!(shown(TimeFormat::Ctime)[1], "[Sat Nov 21 19:23:36 2026] y");
        assert_eq!(
            shown(TimeFormat::Iso)[1],
            "2026-11-21T19:23:36,500000+00:00 y"
        );
        assert_eq!(
            shown(TimeFormat::Delta),
            [
                "[    0.000000 <    0.000000>] x",
                "[    1.500000 <    1.500000>] y",
                "[   61.000000 <   59.500000>] z"
            ]
        );
        assert_eq!(
            shown(TimeFormat::Reltime),
            ["[Nov21 19:23] x", "[  +1.500000] y", "[Nov21 19:24] z"]
        );
        assert_eq!(shown(TimeFormat::Notime), ["x", "y", "z"]);
    }

    #[test]
    fn json_has_dmesgs_names() {
        let mut out = String::new();
        write_json(&mut out, &record(1_500_000_000, b"x"), false).unwrap();
        assert_eq!(
            out,
            r#"{"pri":14,"time":1.500000,"caller":"T1","seq":7,"subsystem":"pci","msg":"x"}"#
        );
    }
}
