//! Reports that were kept on the crashed machine, to be delivered after the reboot.
//!
//! A report that `file:`, `block:` or `pmsg:` has kept is its own text, and everything that a sink needs is read back from it:
//! the labels of the summary, then the log, whose lines become records again (without their levels, which the text does
//! not have). What was delivered is marked, so that it is not delivered twice.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::extract::{Exit, Failure};
use crate::report::send_to;
use crate::sink::{Meta, Part, Record, Report, TRAILER, block};

/// Longest text that is delivered.
const TEXT_LEN: u64 = 64 << 20;

/// What a delivered file is called.
const DONE: &str = "shipped";

/// Most files of a directory that are delivered in one go.
const FILES: usize = 1000;

/// Where pstore keeps what survived; its files can only be removed.
const PSTORE: &str = "/sys/fs/pstore";

/// Delivers every report that `paths` hold: files, directories of them, partitions.
///
/// # Errors
/// The first that cannot be read; those before it are delivered.
pub fn ship(
    paths: &[PathBuf],
    config: &Config,
    say: &mut dyn FnMut(&str),
) -> Result<Exit, Failure> {
    let mut worst = Exit::Done;
    for path in paths {
        for file in files(path).map_err(|error| unreadable(path, &error))? {
            let Some(saved) = Saved::read(&file)? else {
                say(&format!("{}: no report", file.display()));
                continue;
            };
            let exit = send_to(&saved, config, say)?;
            if exit == Exit::Done {
                mark(&file, saved.is_on_device).map_err(|error| unreadable(&file, &error))?;
                say(&format!("{}: delivered", file.display()));
            } else {
                worst = exit;
            }
        }
    }
    Ok(worst)
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure {
        exit: Exit::Unreadable,
        message: format!("{}: {error}", path.display()),
    }
}

/// The file itself, or what a directory and its directories hold and was not delivered yet, in order of their names.
fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut waiting = vec![path.to_path_buf()];
    while let Some(path) = waiting.pop() {
        if !fs::metadata(&path)?.is_dir() {
            found.push(path);
            continue;
        }
        for entry in fs::read_dir(&path)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let done = path.extension().is_some_and(|e| e == DONE);
            if !name.starts_with('.') && !done && !path.is_symlink() {
                waiting.push(path);
            }
        }
        if waiting.len() + found.len() > FILES {
            break;
        }
    }
    found.sort();
    Ok(found)
}

/// Remembers that a report was delivered.
fn mark(path: &Path, is_on_device: bool) -> io::Result<()> {
    if is_on_device {
        return block::forget_saved(path).map_err(|failure| io::Error::other(failure.why));
    }
    if path.starts_with(PSTORE) {
        return fs::remove_file(path);
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{DONE}"));
    fs::rename(path, name)
}

/// A report read back.
struct Saved {
    text: Vec<u8>,
    is_on_device: bool,
    /// Where the log starts in the text, behind its title.
    log: usize,
    /// Where the delivery record starts.
    end: usize,
    meta: Meta,
}

impl Saved {
    /// Reads one; `None` when the file holds something else.
    fn read(path: &Path) -> Result<Option<Self>, Failure> {
        let bad = |failure: crate::sink::Failure| unreadable(path, &failure.why);
        let (text, is_on_device) = match block::read_saved(path).map_err(bad)? {
            Some(text) => (text, true),
            None => {
                let mut text = Vec::new();
                let read = File::open(path).and_then(|f| f.take(TEXT_LEN).read_to_end(&mut text));
                read.map_err(|error| unreadable(path, &error))?;
                (text, false)
            }
        };
        Ok(Self::parse(text, is_on_device))
    }

    fn parse(text: Vec<u8>, is_on_device: bool) -> Option<Self> {
        if !text.starts_with(b"crashdmesg ") {
            return None;
        }
        let find = |from: usize, line: &str| {
            let mut lines = text.get(from..)?.windows(line.len());
            lines
                .position(|at| at == line.as_bytes())
                .map(|at| from + at)
        };
        let end = find(0, &format!("\n{TRAILER}\n")).map_or(text.len(), |at| at + 1);
        let title = find(0, "\n---- log: ").filter(|&at| at < end);
        let summary_end = title.unwrap_or(end);
        let log = title
            .and_then(|at| find(at + 1, "\n"))
            .map_or(end, |at| at + 1);
        let summary = String::from_utf8_lossy(text.get(..summary_end)?);
        let mut meta = labels(&summary);
        let mut saved = Saved {
            meta: Meta::default(),
            is_on_device,
            log,
            end,
            text: Vec::new(),
        };
        drop(summary);
        saved.text = text;
        let _ = saved.records(&mut |record| {
            meta.last_ts_ns = meta.last_ts_ns.max(record.ts_ns.unwrap_or(0));
            Ok(())
        });
        saved.meta = meta;
        Some(saved)
    }
}

/// The labels of a summary.
fn labels(summary: &str) -> Meta {
    let label = |name: &str| {
        let mut lines = summary.lines();
        let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        // Where a value comes from stands behind it, after two spaces.
        found
            .map(|value| value.split("  (").next().unwrap_or(value))
            .unwrap_or_default()
            .to_owned()
    };
    let host = match label("HOST") {
        host if host.is_empty() => label("NODENAME"),
        host => host,
    };
    Meta {
        host,
        crash_time: seconds(&label("DATE")),
        release: label("RELEASE"),
        machine: label("MACHINE"),
        panic: label("PANIC").trim_matches('"').to_owned(),
        kind: label("KIND").split(':').next().unwrap_or("").to_owned(),
        signature: label("SIGNATURE"),
        report_id: label("REPORT ID"),
        boot_id: label("BOOT ID").replace('-', ""),
        ..Meta::default()
    }
}

/// `Sat Nov 21 19:43:14 UTC 2026` as seconds since 1970.
fn seconds(date: &str) -> Option<u64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let words: Vec<&str> = date.split_whitespace().collect();
    let [_, month, day, clock, "UTC", year] = words[..] else {
        return None;
    };
    let month = u64::try_from(MONTHS.find(month)? / 3).ok()?;
    let year: u64 = year.parse().ok().filter(|y| (1970..10_000).contains(y))?;
    let day: u64 = day.parse().ok().filter(|d| (1..=31).contains(d))?;
    let mut parts = clock.splitn(3, ':').map(|part| part.parse::<u64>().ok());
    let (h, m, s) = (parts.next()??, parts.next()??, parts.next()??);
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334][month as usize];
    let leap_day = u64::from(is_leap && month > 1);
    let days = (year - 1970) * 365 + leaps(year - 1) - leaps(1969) + before + leap_day + day - 1;
    Some(days * 86_400 + h * 3600 + m * 60 + s)
}

/// `[    1.234567] text` as nanoseconds and the text.
fn record_line(line: &[u8]) -> Option<(u64, &[u8])> {
    let rest = line.strip_prefix(b"[")?;
    let close = rest.iter().position(|&b| b == b']')?;
    let time = std::str::from_utf8(rest.get(..close)?).ok()?;
    let (seconds, micros) = time.trim_start().split_once('.')?;
    let seconds: u64 = seconds.parse().ok()?;
    let micros: u64 = micros.parse().ok().filter(|m| *m < 1_000_000)?;
    let text = rest.get(close + 1..)?;
    let ns = seconds
        .checked_mul(1_000_000_000)?
        .checked_add(micros * 1000)?;
    Some((ns, text.strip_prefix(b" ").unwrap_or(text)))
}

impl Report for Saved {
    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn write(&self, part: Part, out: &mut dyn Write) -> io::Result<()> {
        let range = match part {
            // With the record of what was tried when it was kept.
            Part::Full => 0..self.text.len(),
            Part::Log => self.log..self.end,
            Part::Summary => 0..self.log,
        };
        out.write_all(self.text.get(range).unwrap_or(&[]))
    }

    fn records(&self, each: &mut dyn FnMut(&Record<'_>) -> io::Result<()>) -> io::Result<()> {
        let log = self.text.get(self.log..self.end).unwrap_or(&[]);
        let lines = log
            .strip_suffix(b"\n")
            .unwrap_or(log)
            .split(|&b| b == b'\n');
        for line in lines.filter(|_| !log.is_empty()) {
            let (ts_ns, text) = match record_line(line) {
                Some((ns, text)) => (Some(ns), text),
                None => (None, line),
            };
            each(&Record {
                seq: None,
                ts_ns,
                level: None,
                facility: None,
                continues: false,
                caller: None,
                text,
                subsystem: b"",
                device: b"",
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "crashdmesg 0.1.0 report, format 1\n\nPANIC: \"Oops\"\nKIND: null: a null pointer\n\
        SIGNATURE: c1-null-1\nREPORT ID: r1-2\n\nHOST: node17  (configured)\nRELEASE: 6.1.0\n\
        DATE: Sat Nov 21 19:43:14 UTC 2026\n\n---- log: 2 records, complete ----\n\
        [    0.000001] first\n[   12.345678] last\n---- delivery ----\nrelp://c failed\n";

    fn saved() -> Saved {
        Saved::parse(TEXT.as_bytes().to_vec(), false).unwrap()
    }

    fn written(part: Part) -> String {
        let mut out = Vec::new();
        saved().write(part, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_report_is_read_back_from_its_own_text() {
        let meta = saved().meta;
        assert_eq!((&*meta.host, &*meta.release), ("node17", "6.1.0"));
        assert_eq!((&*meta.kind, &*meta.panic), ("null", "Oops"));
        assert_eq!((&*meta.signature, &*meta.report_id), ("c1-null-1", "r1-2"));
        assert_eq!(meta.crash_time, Some(1_795_290_194));
        assert_eq!(meta.last_ts_ns, 12_345_678_000);
    }

    #[test]
    fn its_parts_are_told_apart() {
        assert_eq!(written(Part::Full), TEXT);
        assert_eq!(
            written(Part::Log),
            "[    0.000001] first\n[   12.345678] last\n"
        );
        assert!(written(Part::Summary).ends_with("complete ----\n"));
        let mut records = Vec::new();
        saved()
            .records(&mut |r| {
                records.push((r.ts_ns, String::from_utf8(r.text.to_vec()).unwrap()));
                Ok(())
            })
            .unwrap();
        assert_eq!(
            records,
            [
                (Some(1000), "first".to_owned()),
                (Some(12_345_678_000), "last".to_owned())
            ]
        );
    }

    #[test]
    fn what_is_no_report_is_none() {
        assert!(Saved::parse(b"hello".to_vec(), false).is_none());
        let bare = Saved::parse(b"crashdmesg 0.1.0 report".to_vec(), false).unwrap();
        assert!(
            bare.records(&mut |_| Err(io::ErrorKind::Other.into()))
                .is_ok()
        );
    }

    #[test]
    fn dates_are_read_back_as_they_are_written() {
        for (date, want) in [
            ("Thu Jan  1 00:00:00 UTC 1970", Some(0)),
            ("Tue Feb 29 12:00:01 UTC 2000", Some(951_825_601)),
            ("Mon Mar  1 00:00:00 UTC 2100", Some(4_107_542_400)),
            ("Sat Nov 21 19:43:14 2026", None),
            ("Sat Foo 21 19:43:14 UTC 2026", None),
        ] {
            assert_eq!(seconds(date), want, "{date}");
        }
    }
}
