//! Lines of progress: to the kernel log and the console, each with the time since the capture kernel started.
//!
//! ```text
//! crashdmesg: 1.42 s: network: eth0 (52:54:00:12:34:56) 10.0.2.15/24 via 10.0.2.2
//! ```
//!
//! A line written to /dev/kmsg reaches *every* console the kernel has, the BMC's screen and the serial port alike, but
//! only when `loglevel=` lets it through. When it does not, the line goes to /dev/console, without ever waiting for
//! it: a serial port with its flow control off hook must not hold up a reboot.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use crate::deadline::Deadline;

/// `KERN_NOTICE`: above the chatter of drivers, and what a default `loglevel=` shows.
const LEVEL: u32 = 5;
/// What `devkmsg_write()` takes, less a little: it refuses longer lines.
const LINE_LEN_MAX: usize = 900;
/// For a console that is busy.
const CONSOLE_LIMIT: Duration = Duration::from_millis(500);

/// Says what happens.
pub struct Progress {
    console: Option<File>,
    /// Whether there is a kernel log of our own to write to.
    kmsg: bool,
}

impl Progress {
    /// Finds out where to. Both places may be missing; then nobody hears, and nothing fails. In a container, the log
    /// and the console belong to the host: stderr is ours.
    pub fn open() -> Self {
        if !super::is_initial_pid_namespace() {
            let stderr = std::io::stderr().as_fd().try_clone_to_owned();
            return Progress {
                console: stderr.ok().map(File::from),
                kmsg: false,
            };
        }
        let mut options = OpenOptions::new();
        let console = options
            .write(true)
            .custom_flags(crate::sys::O_NONBLOCK)
            .open("/dev/console");
        Progress {
            console: console.ok(),
            kmsg: true,
        }
    }

    /// Says nothing to nobody.
    #[cfg(test)]
    pub fn silent() -> Self {
        Progress {
            console: None,
            kmsg: false,
        }
    }

    /// Says one line.
    pub fn say(&mut self, text: &str) {
        self.line(&format!("crashdmesg: {} s: {text}", uptime()));
    }

    /// Shows a line of the report.
    pub fn show(&mut self, text: &str) {
        self.line(&format!("crashdmesg| {text}"));
    }

    fn line(&mut self, line: &str) {
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        let line: String = line.chars().map(plain).take(LINE_LEN_MAX).collect();
        let shown = self.kmsg && to_kmsg(&line).is_ok() && kernel_shows_it();
        if !shown {
            self.print(&format!("{line}\r\n"));
        }
    }

    /// Prints on the console alone, giving up when it does not take the text.
    fn print(&mut self, text: &str) {
        let Some(console) = &mut self.console else {
            return;
        };
        let deadline = Deadline::after(CONSOLE_LIMIT);
        let mut rest = text.as_bytes();
        while !rest.is_empty() && !deadline.passed() {
            match console.write(rest) {
                Ok(len) => rest = rest.get(len..).unwrap_or_default(),
                Err(_) => deadline.sleep(Duration::from_millis(5)),
            }
        }
    }

    /// The console, for a child's messages.
    pub fn console(&self) -> Option<File> {
        self.console
            .as_ref()
            .and_then(|console| console.try_clone().ok())
    }
}

/// Opens it for each line: the kernel counts lines per open file, and drops those after the tenth.
fn to_kmsg(line: &str) -> std::io::Result<()> {
    let mut kmsg = OpenOptions::new().write(true).open("/dev/kmsg")?;
    kmsg.write_all(format!("<{LEVEL}>{line}\n").as_bytes())
}

/// Whether the kernel prints lines of our level on its consoles: the first number in there is its threshold.
fn kernel_shows_it() -> bool {
    let levels = std::fs::read_to_string("/proc/sys/kernel/printk").unwrap_or_default();
    let threshold = levels
        .split_whitespace()
        .next()
        .and_then(|word| word.parse::<u32>().ok());
    threshold.is_some_and(|threshold| threshold > LEVEL)
}

/// Seconds since the capture kernel started, as the kernel writes them.
pub fn uptime() -> String {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("?").to_owned()
}
