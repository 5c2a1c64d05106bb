//! Inside a distribution's own capture environment: the report leaves first, then that environment does what it is for.
//!
//! ```text
//! [network] --> [worker] --> the network as it was found --> exit code
//! ```
//!
//! The same steps, with the same deadlines, as when this program is init; but the machine is somebody else's: no driver is
//! loaded (the hook's script does that with modprobe), no watchdog is touched, nothing is rebooted, and only what was
//! started here is killed.

use std::time::Duration;

use super::progress::Progress;
use super::supervise::Supervisor;
use super::{RESERVE, configuration, connect_and_deliver};
use crate::deadline::Deadline;
use crate::extract::Exit;
use crate::net::Before;

/// Does it, in `seconds` where fewer are given than the configuration allows.
pub fn run(seconds: Option<u64>, progress: &mut Progress) -> Exit {
    let config = configuration(progress);
    let given = seconds.map_or(config.deadline, Duration::from_secs);
    let overall = Deadline::after(config.deadline.min(given).saturating_sub(RESERVE));

    let found = Before::take();
    let delivered = connect_and_deliver(&config, &mut Supervisor::new(), overall, progress);
    found.restore();
    if delivered {
        Exit::Done
    } else {
        Exit::NotDelivered
    }
}
