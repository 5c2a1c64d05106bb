//! Character devices: the console and `/dev/pmsg0`.
//!
//! A serial console may be stopped by flow control for ever, so it is opened non-blocking and written until the deadline.
//! `/dev/pmsg0` is a ring in memory that survives a warm reboot; it keeps the end of what is written, so the summary goes last.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, LineWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use super::file::Timed;
use super::url::Url;
use super::{Delivered, Outcome, Payload, Reason};
use crate::deadline::Deadline;

const O_NONBLOCK: i32 = if cfg!(any(target_arch = "mips", target_arch = "mips64")) {
    0o200
} else {
    0o4000
};

/// The capture kernel's console.
const CONSOLE: &str = "/dev/console";

/// The user space part of pstore.
const PMSG: &str = "/dev/pmsg0";

/// Writes to a terminal that may not take anything.
struct Patient {
    out: std::fs::File,
    deadline: Deadline,
    /// Pause after each line, for people who watch.
    pause: Duration,
}

impl Write for Patient {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let len = buf
            .iter()
            .position(|&b| b == b'\n')
            .map_or(buf.len(), |at| at + 1);
        loop {
            self.deadline.timeout()?;
            match self.out.write(&buf[..len]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.deadline.sleep(Duration::from_millis(5));
                }
                Ok(written) => {
                    if !self.pause.is_zero() && buf[..written].ends_with(b"\n") {
                        self.deadline.sleep(self.pause);
                    }
                    return Ok(written);
                }
                other => return other,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Checks the options.
///
/// # Errors
/// One line.
pub fn check(url: &Url) -> Result<(), String> {
    url.number("rate", (1, 1000)).map(drop)
}

/// `console:`, or `console:/dev/ttyS0?rate=20` with at most 20 lines a second.
pub fn console(url: &Url, payload: &Payload<'_>, deadline: Deadline) -> Delivered {
    let path = if url.path.is_empty() {
        CONSOLE
    } else {
        &url.path
    };
    let step = format!("write {path}");
    let out = OpenOptions::new()
        .write(true)
        .custom_flags(O_NONBLOCK)
        .open(path)
        .reason(&step)?;
    let rate = url.number("rate", (1, 1000)).ok().flatten();
    let pause = rate.map_or(Duration::ZERO, |rate| {
        Duration::from_millis(1000 / rate.max(1))
    });
    let mut out = LineWriter::new(Patient {
        out,
        deadline,
        pause,
    });
    payload.write(&mut out).reason(&step)?;
    out.flush().reason(&step)?;
    Ok(Outcome::Sent)
}

/// `pmsg:`.
pub fn pmsg(url: &Url, payload: &Payload<'_>, deadline: Deadline) -> Delivered {
    let path = if url.path.is_empty() { PMSG } else { &url.path };
    let step = format!("write {path}");
    let device = OpenOptions::new().write(true).open(path).reason(&step)?;
    let mut out = BufWriter::with_capacity(
        1024,
        Timed {
            out: device,
            deadline,
        },
    );
    payload
        .write_summary_last(&mut out)
        .and_then(|()| out.flush())
        .reason(&step)?;
    Ok(Outcome::Stored)
}

#[cfg(test)]
mod tests {
    use super::super::Part;
    use super::super::payload::tests::fake;
    use super::*;

    #[test]
    fn what_survives_in_a_ring_is_the_summary() {
        let path = std::env::temp_dir().join(format!("crashdmesg-pmsg-{}", std::process::id()));
        std::fs::write(&path, b"").unwrap();
        let url = Url {
            path: path.display().to_string(),
            ..Url::default()
        };
        let fake = fake(3);
        let soon = Deadline::after(Duration::from_secs(5));
        pmsg(&url, &Payload::new(&fake, Part::Full, ""), soon).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.ends_with("panic: sysrq triggered crash\nhost: node17\n"));
        assert!(text.starts_with("[    0.000001] record 0\n"));
        std::fs::remove_file(path).unwrap();
    }
}
