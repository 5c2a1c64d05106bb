//! The report of a dump as the sinks see it: parts of text, records, and what names them.

use std::fmt;
use std::io;

use crashdmesg::printk::{Caller, Entry};
use crashdmesg::render::log::{LineWriter, Style};

use crate::cli::Options;
use crate::config::Config;
use crate::deadline::Deadline;
use crate::extract::{Dump, Exit, Failure};
use crate::sink::delivery::{Plan, Verdict, deliver, gasp, verdict};
use crate::sink::{Meta, Part, Record, Report, Target};

/// Delivers the report of a dump to the targets of `config`; `say` gets a line a step.
///
/// # Errors
/// A target that is no URL of ours.
pub fn send(
    dump: &Dump<'_>,
    _options: &Options,
    config: &Config,
    say: &mut dyn FnMut(&str),
) -> Result<Exit, Failure> {
    let target = |url: &String| {
        Target::parse(url).map_err(|why| Failure {
            exit: Exit::Usage,
            message: format!("{url}: {why}"),
        })
    };
    let targets = |urls: &[String]| urls.iter().map(target).collect::<Result<Vec<_>, _>>();
    let plan = Plan {
        send: targets(&config.send)?,
        fallback: targets(&config.fallback)?,
        part: config.report,
        timeout: config.timeout,
        retries: config.retries,
    };
    let report = DumpReport::new(dump, config);
    let deadline = Deadline::after(config.deadline);
    gasp(&plan, report.meta(), deadline, say);
    let deliveries = deliver(&plan, &report, deadline, say);
    Ok(match verdict(&deliveries) {
        Verdict::Delivered | Verdict::Unacknowledged => Exit::Done,
        Verdict::Failed => Exit::NotDelivered,
    })
}

/// A dump with what its report is called.
struct DumpReport<'d> {
    dump: &'d Dump<'d>,
    meta: Meta,
}

impl<'d> DumpReport<'d> {
    fn new(dump: &'d Dump<'d>, config: &Config) -> Self {
        let info = dump.kernel.info();
        let meta = Meta {
            host: config.host.clone().unwrap_or_default(),
            crash_time: info.crash_time(),
            last_ts_ns: dump.last_ts_ns(),
            release: info.osrelease().unwrap_or_default().to_owned(),
            ..Meta::default()
        };
        DumpReport { dump, meta }
    }
}

impl Report for DumpReport<'_> {
    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn write(&self, part: Part, out: &mut dyn io::Write) -> io::Result<()> {
        let mut out = Text {
            out,
            result: Ok(()),
        };
        let _ = match part {
            Part::Summary => self.dump.write_summary(&mut out),
            Part::Log => self.dump.write_log(&mut out),
            Part::Full => self
                .dump
                .write_summary(&mut out)
                .and_then(|()| self.dump.write_log(&mut out)),
        };
        out.result
    }

    fn records(&self, each: &mut dyn FnMut(&Record<'_>) -> io::Result<()>) -> io::Result<()> {
        let Ok(log) = &self.dump.log else {
            return Ok(());
        };
        let mut entries = log.entries(&self.dump.kernel);
        let mut count = 0;
        while let Some(entry) = entries.next() {
            let Entry::Record(record) = entry else {
                continue;
            };
            let caller = match record.caller {
                Some(Caller::Task(pid)) => format!("T{pid}"),
                Some(Caller::Cpu(cpu)) => format!("C{cpu}"),
                None => String::new(),
            };
            each(&Record {
                seq: record.seq.unwrap_or(count),
                ts_ns: record.ts_ns.unwrap_or(0),
                level: record.level.unwrap_or(6),
                facility: record.facility.unwrap_or(0).into(),
                caller: &caller,
                text: record.text,
                subsystem: record.subsystem,
                device: record.device,
            })?;
            count += 1;
        }
        Ok(())
    }
}

impl Dump<'_> {
    /// Writes the report without the log.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_summary(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let info = self.kernel.info();
        writeln!(out, "RELEASE: {}", info.osrelease().unwrap_or("?"))
    }

    /// Writes the log as plain lines.
    fn write_log(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let log = match &self.log {
            Ok(log) => log,
            Err(error) => return writeln!(out, "no log: {error}"),
        };
        let mut lines = LineWriter::new(Style::default());
        let mut entries = log.entries(&self.kernel);
        while let Some(entry) = entries.next() {
            entry
                .record()
                .map_or(Ok(()), |record| lines.write(out, record))?;
        }
        Ok(())
    }

    /// The time of the newest record in nanoseconds since boot: the moment of the crash by the log's clock.
    pub fn last_ts_ns(&self) -> u64 {
        let Ok(log) = &self.log else {
            return 0;
        };
        let mut last = 0;
        let mut entries = log.entries(&self.kernel);
        while let Some(entry) = entries.next() {
            last = entry
                .record()
                .and_then(|record| record.ts_ns)
                .unwrap_or(0)
                .max(last);
        }
        last
    }
}

/// Text into an [`io::Write`], with the error kept that [`fmt::Error`] cannot carry.
struct Text<'w> {
    out: &'w mut dyn io::Write,
    result: io::Result<()>,
}

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.out.write_all(text.as_bytes()).map_err(|error| {
            self.result = Err(error);
            fmt::Error
        })
    }
}
