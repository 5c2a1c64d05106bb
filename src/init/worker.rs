//! The worker: the one process of the capture kernel that reads the dump and talks to collectors.
//!
//! It is the first that the kernel kills when memory runs out, and it may crash on a dump like no other: the supervisor
//! then starts it again with less to do. Its exit code tells what was achieved.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use super::memory::peak_resident_kib;
use super::notice::Notice;
use super::progress::Progress;
use super::{VMCORE, delivered};
use crate::cli::Options;
use crate::config::{self, Config};
use crate::extract::{Exit, Failure, with_dump};
use crate::redacted::Redacted;
use crate::report::{self, DumpReport};
use crate::sink::{Part, Report};

/// The first to go when memory is short; a child inherits it.
const OOM_SCORE_ADJ: &str = "1000";

/// What one worker attempts: less from one to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Everything that can be dug out of the dump.
    Full,
    /// The log, and what it says by itself.
    Log,
    /// Only the summary of that.
    Summary,
    /// Nothing of the dump: that there is no report, and why.
    Notice,
}

impl Attempt {
    /// All of them, in their order.
    pub const ALL: [Attempt; 4] = [
        Attempt::Full,
        Attempt::Log,
        Attempt::Summary,
        Attempt::Notice,
    ];

    /// Its name, for the step's argument and for messages.
    pub fn name(self) -> &'static str {
        match self {
            Attempt::Full => "full",
            Attempt::Log => "log",
            Attempt::Summary => "summary",
            Attempt::Notice => "notice",
        }
    }

    /// The attempt of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Attempt::ALL
            .into_iter()
            .find(|attempt| attempt.name() == name)
    }
}

/// Makes one attempt within `seconds`. `why` is what became of the attempts before, for the one that has only that to
/// report.
pub fn run(attempt: Attempt, seconds: u64, why: &str, progress: &mut Progress) -> Exit {
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ);
    let config = config::of_capture_kernel().config();
    let config = Config {
        deadline: Duration::from_secs(seconds),
        ..delivered::without(config)
    };
    if config.send.is_empty() && delivered::any() {
        return Exit::Done;
    }
    let exit = match attempt {
        Attempt::Notice => notice(why, &config, progress),
        _ => deliver(attempt, &config, progress).unwrap_or_else(|failure| {
            progress.say(&format!("report: {}", failure.message));
            notice(&failure.message, &config, progress)
        }),
    };
    if let Some(peak) = peak_resident_kib() {
        progress.say(&format!("report: the worker needed {peak} KiB at most"));
    }
    exit
}

/// Delivers the report of /proc/vmcore, then shows its beginning on the console.
fn deliver(attempt: Attempt, config: &Config, progress: &mut Progress) -> Result<Exit, Failure> {
    let options = Options {
        dumps: vec![PathBuf::from(VMCORE)],
        ..Options::default()
    };
    let part = match attempt {
        Attempt::Full => config.report,
        Attempt::Log => Part::Log,
        Attempt::Summary | Attempt::Notice => Part::Summary,
    };
    let lines = config.console_lines;
    let config = Config {
        report: part,
        host: match attempt {
            Attempt::Full => config.host.clone(),
            _ => host(config),
        },
        ..config.clone()
    };
    with_dump(&options, |dump| {
        let report = match attempt {
            Attempt::Full => DumpReport::new(dump, &config),
            _ => DumpReport::from_log(dump, &config),
        };
        let exit = report::send_to(&report, &config, &mut |line| say(line, &config, progress))?;
        show(&Redacted::new(&report, &config), lines, progress);
        Ok(exit)
    })
}

/// Says a line of the delivery, and notes the target that has the report now.
fn say(line: &str, config: &Config, progress: &mut Progress) {
    delivered::note(line, config);
    progress.say(&format!("report: {line}"));
}

fn notice(why: &str, config: &Config, progress: &mut Progress) -> Exit {
    let notice = Notice::new(why, &host(config).unwrap_or_default());
    let exit = report::send_to(&notice, config, &mut |line| say(line, config, progress));
    show(
        &Redacted::new(&notice, config),
        config.console_lines,
        progress,
    );
    // Delivered or not, it is not what was wanted.
    exit.map_or(Exit::NotDelivered, |exit| {
        if exit == Exit::Done {
            Exit::Unreadable
        } else {
            exit
        }
    })
}

/// The name of the crashed host when its memory is not asked: configured, or what DHCP called us.
fn host(config: &Config) -> Option<String> {
    let own = || {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
        let name = name.trim();
        (!matches!(name, "" | "(none)" | "localhost")).then(|| name.to_owned())
    };
    config.host.clone().or_else(own)
}

/// Shows the summary's first lines, so that the log of a serial port or a BMC ends with the reason of the crash.
fn show(report: &dyn Report, lines: u32, progress: &mut Progress) {
    let mut out = ConsoleLines {
        progress,
        line: Vec::new(),
        left: lines,
    };
    let _ = report.write(Part::Summary, &mut out);
}

/// Text to the console, line by line, until enough was said.
struct ConsoleLines<'p> {
    progress: &'p mut Progress,
    line: Vec<u8>,
    left: u32,
}

impl Write for ConsoleLines<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for byte in bytes {
            if self.left == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            if *byte == b'\n' {
                self.progress.show(&String::from_utf8_lossy(&self.line));
                self.line.clear();
                self.left -= 1;
            } else if self.line.len() < 1024 {
                self.line.push(*byte);
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_are_found_by_their_names() {
        for attempt in Attempt::ALL {
            assert_eq!(Attempt::parse(attempt.name()), Some(attempt));
        }
        assert_eq!(Attempt::parse("everything"), None);
    }

    #[test]
    fn the_console_gets_no_more_lines_than_it_should() {
        let mut progress = Progress::silent();
        let mut out = ConsoleLines {
            progress: &mut progress,
            line: Vec::new(),
            left: 2,
        };
        assert!(out.write_all(b"a\nb\n").is_ok());
        assert!(out.write_all(b"c").is_err());
    }
}
