//! The worker: the one process of the capture kernel that reads the dump and talks to collectors.
//!
//! It is the first that the kernel kills when memory runs out, and it may crash on a dump like no other: the supervisor
//! then starts it again with less to do. Its exit code tells what was achieved.

use std::path::PathBuf;

use super::memory::peak_resident_kib;
use super::progress::Progress;
use crate::cli::Options;
use crate::config::{self, Config};
use crate::extract::{Exit, with_dump};
use crate::sink::Part;

/// The first to go when memory is short; a child inherits it.
const OOM_SCORE_ADJ: &str = "1000";
/// The dump of a capture kernel.
pub const VMCORE: &str = "/proc/vmcore";

/// Delivers the report of /proc/vmcore, at most `part` of it, within `seconds`.
pub fn run(part: Part, seconds: u64, progress: &mut Progress) -> Exit {
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ);
    let config = config::of_capture_kernel().config();
    let config = Config {
        report: config.report.min(part),
        deadline: std::time::Duration::from_secs(seconds),
        ..config
    };
    let options = Options {
        dumps: vec![PathBuf::from(VMCORE)],
        ..Options::default()
    };
    let mut say = |line: &str| progress.say(&format!("report: {line}"));
    let exit = with_dump(&options, |dump| {
        crate::report::send(dump, &options, &config, &mut say)
    });
    let exit = exit.unwrap_or_else(|failure| {
        say(&failure.message);
        failure.exit
    });
    if let Some(peak) = peak_resident_kib() {
        say(&format!("the worker needed {peak} KiB at most"));
    }
    exit
}
