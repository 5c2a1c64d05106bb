//! `--rehearse`: a clearly marked report through the configuration and code that a crash would use, without a crash.
//!
//! ```text
//! /dev/kmsg of this kernel, or a dump --> marked report --> the same plan, sinks, retries and deadlines --> what each answered
//! ```
//!
//! A read of `/dev/kmsg` gives one record, `6,339,5140900,-,caller=T1;text\n SUBSYSTEM=acpi\n DEVICE=+acpi:PNP0A03:00\n`: the
//! priority, the sequence number, microseconds since boot, flags; the text with `\xNN` for what is not printable, and
//! the dictionary. Specified in the kernel's `Documentation/ABI/testing/dev-kmsg`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{SystemTime, UNIX_EPOCH};

use crashdmesg::printk::Caller;
use crashdmesg::render::redact::Redactor;

use crate::config::Config;
use crate::extract::{Dump, Exit, Failure};
use crate::report::{self, DumpReport};
use crate::sink::{Meta, Part, Record, Report};

/// What every rehearsed report says first, and where the reason of a crash would stand.
const MARK: &str = "REHEARSAL: this machine has not crashed";
/// `O_NONBLOCK`: the end of the log is an error then, not a wait.
const O_NONBLOCK: i32 = 0o4000;
/// Longest record of `/dev/kmsg` (`CONSOLE_EXT_LOG_MAX` and `PRINTKRB_RECORD_MAX` are less).
const RECORD_MAX: usize = 8192;
/// More than the largest log (`log_buf_len` ends at 2^31, but not on a machine that is well).
const RECORDS_MAX: usize = 1 << 20;

/// Sends a rehearsal made of this kernel's own log.
///
/// # Errors
/// `/dev/kmsg` cannot be read, or a target is no URL of ours.
pub fn live(config: &Config, say: &mut dyn FnMut(&str)) -> Result<Exit, Failure> {
    let records = read_kmsg().map_err(|error| Failure {
        exit: Exit::Unreadable,
        message: format!("/dev/kmsg: {error}"),
    })?;
    say(&format!(
        "{MARK}; sending its log of {} records",
        records.len()
    ));
    let report = Live {
        meta: live_meta(config, &records),
        records,
    };
    report::send_to(&report, &every_target(config), say)
}

/// Sends a rehearsal made of a dump.
///
/// # Errors
/// A target is no URL of ours.
pub fn of_dump(
    dump: &Dump<'_>,
    config: &Config,
    say: &mut dyn FnMut(&str),
) -> Result<Exit, Failure> {
    let inner = DumpReport::new(dump, config);
    let meta = marked(inner.meta().clone());
    say(&format!("{MARK}; sending the report of a dump"));
    report::send_to(&Marked { inner, meta }, &every_target(config), say)
}

/// The configuration with the fallback targets among the others: each has to answer.
fn every_target(config: &Config) -> Config {
    let mut config = config.clone();
    config.send.append(&mut config.fallback);
    config
}

fn marked(meta: Meta) -> Meta {
    Meta {
        panic: MARK.into(),
        kind: "rehearsal".into(),
        signature: "rehearsal".into(),
        ..meta
    }
}

/// The report of a dump under the mark.
struct Marked<'d> {
    inner: DumpReport<'d>,
    meta: Meta,
}

impl Report for Marked<'_> {
    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn redactor(&self) -> Redactor {
        self.inner.redactor()
    }

    fn write(&self, part: Part, out: &mut dyn io::Write) -> io::Result<()> {
        writeln!(out, "{MARK}")?;
        self.inner.write(part, out)
    }

    fn records(&self, each: &mut dyn FnMut(&Record<'_>) -> io::Result<()>) -> io::Result<()> {
        each(&record(5, MARK.as_bytes()))?;
        self.inner.records(each)
    }
}

/// A record with nothing but a level and a text.
pub fn record(level: u8, text: &[u8]) -> Record<'_> {
    Record {
        seq: None,
        ts_ns: Some(0),
        level: Some(level),
        facility: Some(0),
        continues: false,
        caller: None,
        text,
        subsystem: b"",
        device: b"",
    }
}

/// The log of this kernel.
struct Live {
    meta: Meta,
    records: Vec<Kmsg>,
}

impl Report for Live {
    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn write(&self, part: Part, out: &mut dyn io::Write) -> io::Result<()> {
        writeln!(out, "{MARK}")?;
        if part != Part::Log {
            writeln!(out, "RELEASE: {}", self.meta.release)?;
            writeln!(out, "NODENAME: {}", self.meta.host)?;
        }
        if part != Part::Summary {
            for record in &self.records {
                let us = record.ts_ns / 1000;
                let (s, us) = (us / 1_000_000, us % 1_000_000);
                writeln!(out, "[{s:5}.{us:06}] {}", record.text)?;
            }
        }
        Ok(())
    }

    fn records(&self, each: &mut dyn FnMut(&Record<'_>) -> io::Result<()>) -> io::Result<()> {
        each(&record(5, MARK.as_bytes()))?;
        for kmsg in &self.records {
            each(&kmsg.record())?;
        }
        Ok(())
    }
}

fn live_meta(config: &Config, records: &[Kmsg]) -> Meta {
    let read = |path: &str| {
        fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    let host = read("/proc/sys/kernel/hostname");
    let (host, domain) = host.split_once('.').unwrap_or((&host, ""));
    marked(Meta {
        host: config.host.clone().unwrap_or_else(|| host.to_owned()),
        domain: domain.to_owned(),
        machine_id: config.machine_id.clone().unwrap_or_default(),
        boot_id: read("/proc/sys/kernel/random/boot_id").replace('-', ""),
        crash_time: Some(now),
        last_ts_ns: records.last().map_or(0, |record| record.ts_ns),
        release: read("/proc/sys/kernel/osrelease"),
        machine: std::env::consts::ARCH.to_owned(),
        report_id: format!("rehearsal-{now}"),
        ..Meta::default()
    })
}

/// One record of `/dev/kmsg`, without its dictionary.
#[derive(Debug, PartialEq, Eq)]
pub struct Kmsg {
    priority: u32,
    seq: u64,
    /// Nanoseconds since boot.
    pub ts_ns: u64,
    caller: Option<Caller>,
    /// The message.
    pub text: String,
}

impl Kmsg {
    /// The record as sinks take it.
    pub fn record(&self) -> Record<'_> {
        Record {
            seq: Some(self.seq),
            ts_ns: Some(self.ts_ns),
            facility: u16::try_from(self.priority >> 3).ok(),
            caller: self.caller,
            ..record(self.priority as u8 & 7, self.text.as_bytes())
        }
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let all = String::from_utf8_lossy(bytes);
        let (prefix, rest) = all.split_once(';')?;
        let mut fields = prefix.split(',');
        let (priority, seq, us) = (fields.next()?, fields.next()?, fields.next()?);
        let caller = fields.find_map(|field| field.strip_prefix("caller="));
        Some(Kmsg {
            priority: priority.parse().ok()?,
            seq: seq.parse().ok()?,
            ts_ns: us.parse::<u64>().ok()?.checked_mul(1000)?,
            caller: caller.and_then(parse_caller),
            text: rest.split('\n').next().unwrap_or_default().to_owned(),
        })
    }
}

/// `T1` or `C0`.
fn parse_caller(text: &str) -> Option<Caller> {
    let number = |rest: &str| rest.parse().ok();
    match text.split_at_checked(1)? {
        ("T", pid) => Some(Caller::Task(number(pid)?)),
        ("C", cpu) => Some(Caller::Cpu(number(cpu)?)),
        _ => None,
    }
}

/// Every record that this kernel's log has now.
///
/// # Errors
/// `/dev/kmsg` cannot be read.
pub fn read_kmsg() -> io::Result<Vec<Kmsg>> {
    let mut kmsg: File = OpenOptions::new()
        .read(true)
        .custom_flags(O_NONBLOCK)
        .open("/dev/kmsg")?;
    let mut records = Vec::new();
    let mut buffer = [0; RECORD_MAX];
    while records.len() < RECORDS_MAX {
        match kmsg.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => records.extend(Kmsg::parse(&buffer[..len])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            // EPIPE: overwritten while we were reading; the next read goes on with the oldest there is.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) => return Err(error),
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_dev_kmsg_is_taken_apart() {
        let record =
            Kmsg::parse(b"30,339,5140900,-,caller=T1;a; text\\x0a\n SUBSYSTEM=acpi\n DEVICE=x\n");
        let expected = Kmsg {
            priority: 30,
            seq: 339,
            ts_ns: 5_140_900_000,
            caller: Some(Caller::Task(1)),
            text: "a; text\\x0a".into(),
        };
        assert_eq!(record, Some(expected));
        assert_eq!(
            Kmsg::parse(b"6,1,2,-;x").map(|record| record.caller),
            Some(None)
        );
        for broken in [
            &b""[..],
            b"6,1,2",
            b"6,x,2,-;t",
            b"6,1,99999999999999999999;t",
        ] {
            assert_eq!(Kmsg::parse(broken), None);
        }
    }
}
