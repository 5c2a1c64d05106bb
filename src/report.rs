//! The report of a dump as the sinks see it: parts of text, records, and what names them.

use std::fmt;
use std::io;
use std::path::Path;

use crashdmesg::facts::Uts;
use crashdmesg::render::log::{LineWriter, Style};
use crashdmesg::render::redact::Redactor;
use crashdmesg::render::report::{self as render, About};
use crashdmesg::summary::Summary;

use crate::cli::VERSION;
use crate::config::Config;
use crate::deadline::Deadline;
use crate::extract::{Dump, Exit, Failure};
use crate::init::VMCORE;
use crate::redacted::Redacted;
use crate::sink::delivery::{Plan, Verdict, deliver, gasp, verdict};
use crate::sink::{Meta, Part, Record, Report};

/// Delivers the report of a dump to the targets of `config`; `say` gets a line a step.
///
/// # Errors
/// A target that is no URL of ours.
pub fn send(dump: &Dump<'_>, config: &Config, say: &mut dyn FnMut(&str)) -> Result<Exit, Failure> {
    send_to(&DumpReport::new(dump, config), config, say)
}

/// Delivers any report to the targets of `config`.
///
/// # Errors
/// A target that is no URL of ours.
pub fn send_to(
    report: &dyn Report,
    config: &Config,
    say: &mut dyn FnMut(&str),
) -> Result<Exit, Failure> {
    let report = &Redacted::new(report, config);
    let plan = plan(config, say)?;
    let deadline = Deadline::after(config.deadline);
    gasp(&plan, report.meta(), deadline, say);
    let deliveries = deliver(&plan, report, deadline, say);
    Ok(match verdict(&deliveries) {
        Verdict::Delivered | Verdict::Unacknowledged => Exit::Done,
        Verdict::Failed => Exit::NotDelivered,
    })
}

/// The plan of a configuration; a target that cannot be used is said and left out, unless none is left.
fn plan(config: &Config, say: &mut dyn FnMut(&str)) -> Result<Plan, Failure> {
    let mut config = config.clone();
    loop {
        let message = match Plan::new(&config) {
            Ok(plan) => return Ok(plan),
            Err(message) => message,
        };
        let alone = |url: &String, config: &Config| {
            let (send, fallback) = (vec![url.clone()], Vec::new());
            let config = Config {
                send,
                fallback,
                ..config.clone()
            };
            Plan::new(&config).is_ok()
        };
        let all = config.clone();
        config.send.retain(|url| alone(url, &all));
        config.fallback.retain(|url| alone(url, &all));
        if config.send.is_empty() && config.fallback.is_empty() {
            let exit = Exit::Usage;
            return Err(Failure { exit, message });
        }
        say(&message);
    }
}

/// A dump with its summary and what the report is called.
pub struct DumpReport<'d> {
    dump: &'d Dump<'d>,
    summary: Summary,
    host: Option<String>,
    meta: Meta,
}

impl<'d> DumpReport<'d> {
    /// Names it.
    pub fn new(dump: &'d Dump<'d>, config: &Config) -> Self {
        Self::with_summary(dump, dump.summary(), config)
    }

    /// The report without what must be dug out of the crashed kernel's memory: for when digging killed a worker.
    pub fn from_log(dump: &'d Dump<'d>, config: &Config) -> Self {
        let summary = Summary::collect_from_log(&dump.kernel, &dump.log);
        Self::with_summary(dump, summary, config)
    }

    fn with_summary(dump: &'d Dump<'d>, summary: Summary, config: &Config) -> Self {
        let meta = meta(dump, &summary, config);
        DumpReport {
            dump,
            summary,
            host: config.host.clone(),
            meta,
        }
    }

    fn about(&self) -> About<'_> {
        About {
            program: VERSION,
            host: self.host.as_deref(),
            machine_id: Some(&*self.meta.machine_id).filter(|id| !id.is_empty()),
            mac: Some(&*self.meta.mac).filter(|mac| !mac.is_empty()),
        }
    }
}

/// What names the report and labels its records.
fn meta(dump: &Dump<'_>, summary: &Summary, config: &Config) -> Meta {
    let facts = &summary.facts;
    let uts = facts.uts.as_ref();
    let name = |field: fn(&Uts) -> &String| uts.map(field).cloned().unwrap_or_default();
    let known = |name: String| {
        if name == "(none)" {
            String::new()
        } else {
            name
        }
    };
    Meta {
        host: config
            .host
            .clone()
            .unwrap_or_else(|| known(name(|uts| &uts.nodename))),
        domain: known(name(|uts| &uts.domainname)),
        mac: if dump.path == Path::new(VMCORE) {
            crate::net::mac_in_use()
        } else {
            String::new()
        },
        boot_id: facts
            .boot_id
            .as_deref()
            .unwrap_or_default()
            .replace('-', ""),
        machine_id: config.machine_id.clone().unwrap_or_default(),
        crash_time: facts.crash_time,
        last_ts_ns: summary.log.last_ts_ns.unwrap_or(0),
        release: summary.release.clone(),
        machine: name(|uts| &uts.machine),
        panic: summary.panic_line().unwrap_or_default(),
        kind: summary.text.kind.name().to_owned(),
        signature: summary.signature.to_string(),
        report_id: summary.report_id.clone(),
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
        let summary = |out: &mut Text<'_>| render::write(out, &self.summary, &self.about());
        let log = |out: &mut Text<'_>| self.dump.write_log(out);
        let _ = match part {
            Part::Summary => summary(&mut out),
            Part::Log => log(&mut out),
            Part::Full => summary(&mut out)
                .and_then(|()| write_log_title(&mut out, &self.summary))
                .and_then(|()| log(&mut out)),
        };
        out.result
    }

    fn records(&self, each: &mut dyn FnMut(&Record<'_>) -> io::Result<()>) -> io::Result<()> {
        let Ok(log) = &self.dump.log else {
            return Ok(());
        };
        let mut entries = log.entries(&self.dump.kernel);
        while let Some(entry) = entries.next() {
            entry.record().map_or(Ok(()), &mut *each)?;
        }
        Ok(())
    }

    fn redactor(&self) -> Redactor {
        Redactor::new(&self.dump.kernel)
    }
}

/// The line between report and log.
///
/// # Errors
/// Those of `out`.
pub fn write_log_title(out: &mut dyn fmt::Write, summary: &Summary) -> fmt::Result {
    let log = &summary.log;
    let state = if log.is_complete() {
        "complete"
    } else {
        "incomplete"
    };
    let mut state = String::from(state);
    let pending: u64 = summary.facts.pending.iter().map(|text| text.len).sum();
    if pending != 0 {
        state += &format!("; {pending} bytes had not reached it, see above");
    }
    match log.seqs {
        Some((first, last)) => {
            let records = log.records;
            render::write_title(
                out,
                format_args!("log: {records} records, {first} to {last}, {state}"),
            )
        }
        None => render::write_title(out, format_args!("log: {} records, {state}", log.records)),
    }
}

impl Dump<'_> {
    /// What is known of the crash.
    pub fn summary(&self) -> Summary {
        Summary::collect(self.vmcore, &self.kernel, &self.log)
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
