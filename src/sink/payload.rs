//! What one target gets: the report or its records, and what was tried before.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use crashdmesg::printk::Caller;

use super::name;
use super::text::{Count, printable};
use super::{Failure, Meta, Part, Reason, Record, Report};

/// Longest summary sent as a record of its own.
const SUMMARY_LEN: usize = 64 << 10;

/// Level of the summary: critical.
const SUMMARY_LEVEL: u8 = 2;

/// Level of a record that has none of its own (`MESSAGE_LOGLEVEL_DEFAULT`): warning.
const DEFAULT_LEVEL: u8 = 4;

/// Stands before what was tried before, at the end of the text.
pub const TRAILER: &str = "---- delivery ----";

/// The report as one target gets it.
pub struct Payload<'a> {
    report: &'a dyn Report,
    /// How much of it.
    pub part: Part,
    trailer: &'a str,
    /// Wall clock in nanoseconds since 1970 at the last record.
    end_ns: u64,
    /// Bytes of text handed to the protocol.
    pub written: Cell<u64>,
}

/// What survives from one attempt to the next.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attempt {
    /// 0 for the first.
    pub number: u32,
    /// Entries that the receiver has acknowledged: they are not sent again.
    pub done: u64,
}

/// One entry for a receiver that keeps entries: the summary or a record of the log.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    /// Position among the entries, the summary first.
    pub index: u64,
    /// The record, unless this is the summary.
    pub record: Option<&'a Record<'a>>,
    /// Wall clock in nanoseconds since 1970.
    pub wall_ns: u64,
    /// Level, 0 to 7; what the kernel takes for text without one, when the log does not tell.
    pub level: u8,
    /// Who logged it, as `T1` or `C0`; empty when unknown.
    pub caller: &'a str,
    /// Printable; may hold several lines.
    pub text: &'a str,
}

impl<'a> Payload<'a> {
    /// `trailer` tells what was tried before, a line each.
    pub fn new(report: &'a dyn Report, part: Part, trailer: &'a str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |now| now.as_secs());
        let crash = report.meta().crash_time.unwrap_or(now);
        Payload {
            report,
            part,
            trailer,
            end_ns: crash.saturating_mul(1_000_000_000),
            written: Cell::new(0),
        }
    }

    /// What identifies the crash.
    pub fn meta(&self) -> &'a Meta {
        self.report.meta()
    }

    /// The machine's name.
    pub fn host(&self) -> String {
        name::host(self.meta())
    }

    /// Writes the text.
    ///
    /// # Errors
    /// The first error of `out`.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut out = Counted {
            out,
            count: &self.written,
        };
        self.write_to(&mut out)
    }

    fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        self.report.write(self.part, out)?;
        if !self.trailer.is_empty() {
            write!(out, "{TRAILER}\n{}", self.trailer)?;
        }
        Ok(())
    }

    /// Writes the log and then the summary, for a medium that keeps the end.
    ///
    /// # Errors
    /// The first error of `out`.
    pub fn write_summary_last(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut out = Counted {
            out,
            count: &self.written,
        };
        if self.part != Part::Summary {
            self.report.write(Part::Log, &mut out)?;
        }
        if self.part != Part::Log {
            self.report.write(Part::Summary, &mut out)?;
        }
        Ok(())
    }

    /// Length of the text, by writing it to nowhere.
    pub fn len(&self) -> u64 {
        let mut count = Count::default();
        let _ = self.write_to(&mut count);
        count.0
    }

    /// Hands over the summary, unless only the log is wanted, and then every record, unless only the summary is.
    ///
    /// # Errors
    /// The first failure of `each`.
    pub fn entries(
        &self,
        each: &mut dyn FnMut(&Entry<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut index = 0;
        if self.part != Part::Log {
            let text = self.summary();
            each(&Entry {
                index,
                record: None,
                wall_ns: self.end_ns,
                level: SUMMARY_LEVEL,
                caller: "",
                text: &text,
            })?;
            index += 1;
        }
        if self.part == Part::Summary {
            return Ok(());
        }
        let last_ts = self.meta().last_ts_ns;
        let mut text = String::new();
        let mut caller = String::new();
        let mut failed = Ok(());
        let read = self.report.records(&mut |record| {
            text.clear();
            printable(record.text, &mut text);
            caller.clear();
            // A string takes whatever is written.
            let _ = match record.caller {
                Some(Caller::Task(pid)) => write!(caller, "T{pid}"),
                Some(Caller::Cpu(cpu)) => write!(caller, "C{cpu}"),
                None => Ok(()),
            };
            let ts_ns = record.ts_ns.unwrap_or(last_ts);
            let entry = Entry {
                index,
                record: Some(record),
                // CRASHTIME tells when the last record was printed, to the second.
                wall_ns: self.end_ns.saturating_sub(last_ts.saturating_sub(ts_ns)),
                level: record.level.unwrap_or(DEFAULT_LEVEL) & 7,
                caller: &caller,
                text: &text,
            };
            index += 1;
            self.written.set(self.written.get() + text.len() as u64);
            failed = each(&entry);
            // Any error stops the walk; the reason itself stays in `failed`.
            match failed {
                Ok(()) => Ok(()),
                Err(_) => Err(io::ErrorKind::Other.into()),
            }
        });
        failed?;
        read.reason("read the log")
    }

    /// The summary and the delivery record as printable text.
    fn summary(&self) -> String {
        let mut bytes = Vec::new();
        let mut out = Head(&mut bytes);
        let _ = self.report.write(Part::Summary, &mut out);
        let _ = out.write_all(self.trailer.as_bytes());
        let mut text = String::new();
        printable(&bytes, &mut text);
        text.truncate(text.trim_end().len());
        text
    }
}

/// Counts what is passed on.
struct Counted<'a> {
    out: &'a mut dyn Write,
    count: &'a Cell<u64>,
}

impl Write for Counted<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let len = self.out.write(buf)?;
        self.count.set(self.count.get() + len as u64);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Keeps the start of what is written.
struct Head<'a>(&'a mut Vec<u8>);

impl Write for Head<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let room = SUMMARY_LEN.saturating_sub(self.0.len());
        self.0.extend(buf.iter().take(room));
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A report of `records` records, the last of them hostile.
    pub struct Fake {
        pub meta: Meta,
        pub records: u64,
    }

    pub const HOSTILE: &[u8] = b"evil\x1b[2J\r\n<0>1 - forged\n\xff\"}\\";

    pub fn fake(records: u64) -> Fake {
        Fake {
            meta: Meta {
                host: "node17".into(),
                mac: "52:54:00:12:34:56".into(),
                boot_id: "0123456789abcdef0123456789abcdef".into(),
                machine_id: "fedcba9876543210fedcba9876543210".into(),
                crash_time: Some(1_795_289_015),
                last_ts_ns: 1000 * (records + 1),
                release: "6.1.0-50-amd64".into(),
                machine: "x86_64".into(),
                panic: "sysrq triggered crash".into(),
                kind: "sysrq".into(),
                signature: "c1-0123".into(),
                report_id: "r-77".into(),
                ..Meta::default()
            },
            records,
        }
    }

    impl Report for Fake {
        fn meta(&self) -> &Meta {
            &self.meta
        }

        fn write(&self, part: Part, out: &mut dyn Write) -> io::Result<()> {
            if part != Part::Log {
                write!(
                    out,
                    "panic: {}\nhost: {}\n",
                    self.meta.panic, self.meta.host
                )?;
            }
            if part != Part::Summary {
                self.records(&mut |r| {
                    let mut text = String::new();
                    printable(r.text, &mut text);
                    writeln!(out, "[{:5}.{:06}] {text}", 0, r.ts_ns.unwrap_or(0) / 1000)
                })?;
            }
            Ok(())
        }

        fn records(&self, each: &mut dyn FnMut(&Record<'_>) -> io::Result<()>) -> io::Result<()> {
            for i in 0..self.records {
                let text = format!("record {i}");
                each(&Record {
                    seq: Some(i),
                    ts_ns: Some(1000 * (i + 1)),
                    level: Some((i % 8) as u8),
                    facility: Some(0),
                    continues: false,
                    caller: Some(Caller::Task(1)),
                    text: text.as_bytes(),
                    subsystem: b"",
                    device: b"",
                })?;
            }
            each(&Record {
                seq: Some(self.records),
                ts_ns: Some(self.meta.last_ts_ns),
                level: Some(3),
                facility: None,
                continues: false,
                caller: None,
                text: HOSTILE,
                subsystem: b"pci",
                device: b"+pci:0000:00:1f.2",
            })
        }
    }

    #[test]
    fn the_summary_comes_first_and_the_last_record_at_the_crash_time() {
        let fake = fake(3);
        let payload = Payload::new(&fake, Part::Full, "udp://a: unknown\n");
        let mut seen = Vec::new();
        payload
            .entries(&mut |e| {
                seen.push((
                    e.index,
                    e.record.and_then(|r| r.seq),
                    e.wall_ns,
                    e.text.to_string(),
                ));
                Ok(())
            })
            .unwrap();
        assert_eq!(seen.len(), 5);
        assert!(seen[0].3.contains("panic: sysrq") && seen[0].3.ends_with("unknown"));
        assert_eq!(seen[1].1, Some(0));
        assert_eq!(seen[4].2, 1_795_289_015_000_000_000);
        assert_eq!(seen[3].2, 1_795_289_014_999_999_000);
        assert_eq!(seen[4].3, "evil\\x1b[2J\\x0d\n<0>1 - forged\n\\xff\"}\\");
    }

    #[test]
    fn the_length_is_that_of_the_text() {
        let fake = fake(100);
        for part in [Part::Summary, Part::Log, Part::Full] {
            let payload = Payload::new(&fake, part, "tried\n");
            let mut text = Vec::new();
            payload.write(&mut text).unwrap();
            assert_eq!(payload.len(), text.len() as u64);
        }
    }

    #[test]
    fn a_failure_stops_the_walk_and_is_handed_on() {
        let fake = fake(100);
        let mut count = 0;
        let failure = Payload::new(&fake, Part::Full, "")
            .entries(&mut |_| {
                count += 1;
                if count == 7 {
                    return Err(Failure::lasting("no more"));
                }
                Ok(())
            })
            .unwrap_err();
        assert_eq!(
            (count, failure.why.as_str(), failure.again),
            (7, "no more", false)
        );
    }
}
