//! The report when there is none: why the crash could not be read, and the capture kernel's own log.
//!
//! A capture kernel that comes up without a dump, or whose worker dies again and again, must not end in silence: the
//! collectors learn the reason, and whoever looks into it has the log of the kernel that failed.

use std::io;

use crate::rehearse::{Kmsg, read_kmsg};
use crate::sink::{Meta, Part, Record, Report};

/// A report about a report that could not be made.
pub struct Notice {
    meta: Meta,
    /// The log as it was when the report was made: every reading of it must be the same.
    log: Vec<Kmsg>,
}

impl Notice {
    /// Makes it out of the reason.
    pub fn new(why: &str, host: &str) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        // In a container, the log is the host's and none of our business.
        let log = match super::is_initial_pid_namespace() {
            true => read_kmsg().unwrap_or_default(),
            false => Vec::new(),
        };
        let meta = Meta {
            host: host.to_owned(),
            mac: crate::net::mac_in_use(),
            crash_time: now.ok().map(|now| now.as_secs()),
            last_ts_ns: log.last().map_or(0, |record| record.ts_ns),
            release: release.trim().to_owned(),
            panic: format!("no report of the crash: {why}"),
            kind: "capture-failed".to_owned(),
            signature: "capture-failed".to_owned(),
            ..Meta::default()
        };
        Notice { meta, log }
    }
}

impl Report for Notice {
    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn write(&self, part: Part, out: &mut dyn io::Write) -> io::Result<()> {
        if part != Part::Log {
            let meta = &self.meta;
            writeln!(out, "{} could not report a crash\n", crate::cli::VERSION)?;
            writeln!(out, "PANIC: {}\nKIND: {}", meta.panic, meta.kind)?;
            writeln!(out, "HOST: {}\nMAC: {}", meta.host, meta.mac)?;
            writeln!(out, "CAPTURE KERNEL: {}\n", meta.release)?;
        }
        if part != Part::Summary {
            writeln!(out, "---- log of the capture kernel")?;
            for record in &self.log {
                let micros = record.ts_ns / 1000;
                let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
                writeln!(out, "[{seconds:5}.{micros:06}] {}", record.text)?;
            }
        }
        Ok(())
    }

    fn records(&self, each: &mut dyn FnMut(&Record<'_>) -> io::Result<()>) -> io::Result<()> {
        self.log
            .iter()
            .try_for_each(|record| each(&record.record()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_the_same_every_time() {
        let notice = Notice::new("no /proc/vmcore", "node17");
        let write = || {
            let mut text = Vec::new();
            notice.write(Part::Full, &mut text).unwrap();
            text
        };
        let text = write();
        assert_eq!(text, write());
        assert!(
            String::from_utf8_lossy(&text)
                .contains("PANIC: no report of the crash: no /proc/vmcore")
        );
    }
}
