//! A hardware watchdog: armed or taken over, fed while there is progress, left running when the machine reboots.
//!
//! The crashed kernel may have armed it, and then somebody has to feed it now; if nobody did, it is armed here, so that
//! a capture kernel that hangs as a whole resets the machine too. The same interface for every hardware, specified in
//! the kernel's `Documentation/watchdog/watchdog-api.rst`.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::time::{Duration, Instant};

use crate::config;
use crate::sys::watchdog::set_timeout;

const DEVICES: [&str; 2] = ["/dev/watchdog0", "/dev/watchdog"];
/// Long enough for the slowest step between two feeds, short enough that nobody walks to the machine.
const TIMEOUT_S: u16 = 60;
/// The supervisor wakes up ten times a second; a watchdog is fed once in five, or more often if it is impatient.
const FEED_INTERVAL: Duration = Duration::from_secs(5);

/// The watchdog, if there is one.
pub struct Watchdog {
    device: Option<File>,
    interval: Duration,
    fed: Instant,
}

impl Watchdog {
    /// No watchdog yet.
    pub fn none() -> Self {
        Watchdog {
            device: None,
            interval: FEED_INTERVAL,
            fed: Instant::now(),
        }
    }

    /// Opens the configured one, which starts it; returns what there is to say.
    pub fn open(&mut self, wanted: &config::Watchdog) -> Option<String> {
        let configured;
        let paths: &[&str] = match wanted {
            _ if self.device.is_some() => &[],
            config::Watchdog::Off => &[],
            config::Watchdog::Auto => &DEVICES,
            config::Watchdog::Path(path) => {
                configured = [path.as_str()];
                &configured
            }
        };
        let mut failure = None;
        for path in paths {
            match OpenOptions::new().write(true).open(path) {
                Ok(device) => return Some(self.take(device, path)),
                Err(error)
                    if error.kind() == std::io::ErrorKind::NotFound && DEVICES.contains(path) => {}
                Err(error) => failure = Some(format!("watchdog: {path}: {error}")),
            }
        }
        failure
    }

    fn take(&mut self, device: File, path: &str) -> String {
        let timeout = set_timeout(&device, TIMEOUT_S);
        // Hardware with a time of its own is fed often enough for the shortest that is built.
        let seconds = timeout.as_ref().map_or(4, |seconds| *seconds);
        self.interval = FEED_INTERVAL.min(Duration::from_secs(seconds.into()) / 4);
        self.device = Some(device);
        self.feed();
        match timeout {
            Ok(seconds) => {
                format!("watchdog: {path} resets the machine after {seconds} s without us")
            }
            Err(_) => format!("watchdog: {path} is fed"),
        }
    }

    /// Feeds it if it is time.
    pub fn feed_if_due(&mut self) {
        if self.fed.elapsed() >= self.interval {
            self.feed();
        }
    }

    fn feed(&mut self) {
        self.fed = Instant::now();
        if let Some(device) = &mut self.device {
            // A write that fails cannot be mended; the watchdog will do what it is for.
            let _ = device.write_all(b".");
        }
    }

    /// Stops it, for a machine that is to stay on without us.
    pub fn stop(&mut self) {
        if let Some(mut device) = self.device.take() {
            let _ = device.write_all(b"V");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_that_is_off_is_not_looked_for() {
        assert_eq!(Watchdog::none().open(&config::Watchdog::Off), None);
    }

    #[test]
    fn a_configured_watchdog_that_is_missing_is_told() {
        let text = Watchdog::none()
            .open(&config::Watchdog::Path("/nonexistent".to_owned()))
            .unwrap();
        assert!(text.contains("/nonexistent"), "{text}");
    }

    #[test]
    fn it_is_stopped_by_the_magic_letter_written_last() {
        let path = std::env::temp_dir().join(format!("crashdmesg-watchdog-{}", std::process::id()));
        File::create(&path).unwrap();
        let mut watchdog = Watchdog::none();
        watchdog
            .open(&config::Watchdog::Path(path.display().to_string()))
            .unwrap();
        watchdog.stop();
        assert_eq!(std::fs::read(&path).unwrap(), b".V");
        std::fs::remove_file(&path).unwrap();
    }
}
