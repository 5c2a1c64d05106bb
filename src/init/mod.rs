//! PID 1 of the capture kernel: from its first instruction to the reboot, whatever fails in between.
//!
//! ```text
//! mounts --> configuration --> [modules] --> watchdog --> [network] --> [worker] --> final action
//!                                                          the worker again with less, when it died
//! ```
//!
//! What stands in brackets is a child with a deadline of its own ([`supervise`]); the supervisor itself reads the
//! configuration and pseudo files of the kernel, and never a byte of the dump or of the network. The deadlines of all
//! steps lie within one, after which the final action comes. A line of progress tells each step (see `progress`).

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

mod delivered;
mod finish;
mod hook;
mod memory;
mod modules;
mod mounts;
mod notice;
mod progress;
mod supervise;
mod watchdog;
mod worker;

use crate::config::{self, Config, FinalAction};
use crate::deadline::Deadline;
use crate::extract::Exit;
use crate::net;
use crate::sink::Target;
use progress::Progress;
use supervise::{Outcome, Supervisor};
use worker::Attempt;

/// The dump of a capture kernel.
pub const VMCORE: &str = "/proc/vmcore";
/// The option by which the supervisor starts a step of itself; not for users.
const STEP: &str = "--step";
/// For all drivers together.
const MODULES_LIMIT: Duration = Duration::from_secs(60);
/// Kept of the overall deadline for the last words and the final action.
const RESERVE: Duration = Duration::from_secs(3);
/// What the worker itself keeps of its time, so that it ends before it is killed.
const WORKER_RESERVE: Duration = Duration::from_secs(2);

/// Whether the kernel started this process as init: it is PID 1 and nobody gave it anything to do. In a container, the
/// same program with arguments is PID 1 too.
pub fn is_init() -> bool {
    let is_order = |arg: OsString| {
        let arg = arg.as_encoded_bytes();
        arg.starts_with(b"-") || arg.contains(&b'/')
    };
    std::process::id() == 1 && !std::env::args_os().skip(1).any(is_order)
}

/// The step of the capture kernel that the arguments ask for, done; `None` when they ask for something else.
pub fn step(mut args: impl Iterator<Item = OsString>) -> Option<u8> {
    if args.next()? != STEP {
        return None;
    }
    let words: Vec<String> = args.filter_map(|arg| arg.into_string().ok()).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut progress = Progress::open();
    Some(match words[..] {
        ["modules"] => {
            modules::load_all(&mut |line| progress.say(line));
            0
        }
        ["hook", ref seconds @ ..] => {
            let seconds = seconds.first().and_then(|text| text.parse().ok());
            hook::run(seconds, &mut progress) as u8
        }
        ["network", seconds] => network(seconds.parse().unwrap_or(60), &mut progress),
        ["worker", attempt, seconds, ref why @ ..] => {
            let attempt = Attempt::parse(attempt).unwrap_or(Attempt::Notice);
            let why = why.first().unwrap_or(&"unknown");
            worker::run(attempt, seconds.parse().unwrap_or(60), why, &mut progress) as u8
        }
        _ => Exit::Usage as u8,
    })
}

/// The configuration; what is wrong in it is told, and left out.
fn configuration(progress: &mut Progress) -> Config {
    let settings = config::of_capture_kernel();
    settings
        .issues()
        .iter()
        .for_each(|issue| progress.say(&format!("configuration: ignored: {issue}")));
    settings.config()
}

fn network(seconds: u64, progress: &mut Progress) -> u8 {
    let mut config = config::of_capture_kernel().config();
    config.net_timeout = Duration::from_secs(seconds);
    let ready = start_network(&config, &mut |line| progress.say(line));
    u8::from(!ready)
}

/// Brings the network up as configured, and tells how that went. Without it, targets on this machine remain.
pub fn start_network(config: &Config, say: &mut dyn FnMut(&str)) -> bool {
    let deadline = Deadline::after(config.net_timeout);
    let result = net::bring_up(config, &addresses(config), deadline, &mut |line| {
        say(&format!("network: {line}"));
    });
    if let Err(why) = &result {
        say(&format!("network: not ready: {why}"));
    }
    result.is_ok()
}

/// The targets that were configured by address.
pub fn addresses(config: &Config) -> Vec<std::net::IpAddr> {
    let urls = config.send.iter().chain(&config.fallback);
    let targets = urls.filter_map(|url| Target::parse(url).ok());
    targets
        .filter_map(|target| config::ip::address(target.host()?).ok())
        .collect()
}

/// Whether any target is on another machine.
fn needs_network(config: &Config) -> bool {
    let urls = config.send.iter().chain(&config.fallback);
    // A target that cannot be read may need it, for all that is known.
    let mut targets =
        urls.map(|url| Target::parse(url).map_or(true, |target| target.host().is_some()));
    config.network.unwrap_or_else(|| targets.any(|needs| needs))
}

/// Whether this is not inside a container, where the machine's own levers would be within reach.
fn is_initial_pid_namespace() -> bool {
    // PROC_PID_INIT_INO of include/linux/proc_ns.h; a kernel without namespaces has no such link.
    let link = std::fs::read_link("/proc/self/ns/pid");
    link.map_or(true, |link| link == Path::new("pid:[4026531836]"))
}

/// Runs as init. Never returns.
pub fn run() -> ! {
    std::panic::set_hook(Box::new(|info| {
        Progress::open().say(&format!("internal error: {info}"));
        finish::emergency();
    }));
    let failures = mounts::mount_all();
    let mut progress = Progress::open();
    progress.say(&format!(
        "{} is init of the capture kernel",
        crate::cli::VERSION
    ));
    failures.iter().for_each(|line| progress.say(line));

    let config = configuration(&mut progress);
    arm_kernel();

    let found = net::Before::take();
    let mut supervisor = Supervisor::new();
    let platform = Platform::look();
    let action = config.final_action.unwrap_or(platform.final_action());
    if platform == Platform::FadumpIdle {
        progress.say("no dump, and this kernel is not a capture kernel");
    } else {
        capture(&config, &mut supervisor, &mut progress);
    }
    progress.say(&supervisor.memory.text());
    if action == FinalAction::Continue {
        found.restore();
    }
    finish::finish(action, &config.next_init, &mut supervisor, &mut progress)
}

/// Makes the kernel reboot by itself if it panics, PID 1's death included.
fn arm_kernel() {
    if !is_initial_pid_namespace() {
        return;
    }
    let unset =
        std::fs::read_to_string("/proc/sys/kernel/panic").is_ok_and(|text| text.trim() == "0");
    if unset {
        let _ = std::fs::write("/proc/sys/kernel/panic", "10");
    }
    let _ = std::fs::write("/proc/sys/kernel/panic_on_oops", "1");
}

/// What kind of boot this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Platform {
    /// A capture kernel.
    Kdump,
    /// POWER's firmware-assisted dump: the production kernel, booting with a dump to save.
    FadumpDump,
    /// The same machine, booting without one.
    FadumpIdle,
}

impl Platform {
    fn look() -> Self {
        let enabled = ["/sys/kernel/fadump/enabled", "/sys/kernel/fadump_enabled"];
        let fadump = enabled
            .iter()
            .any(|path| std::fs::read_to_string(path).is_ok_and(|text| text.trim() == "1"));
        match (fadump && !has_elfcorehdr(), Path::new(VMCORE).exists()) {
            (false, _) => Platform::Kdump,
            (true, true) => Platform::FadumpDump,
            (true, false) => Platform::FadumpIdle,
        }
    }

    /// A production kernel that boots must not be rebooted because an old dump was found.
    fn final_action(self) -> FinalAction {
        match self {
            Platform::Kdump => FinalAction::Reboot,
            Platform::FadumpDump | Platform::FadumpIdle => FinalAction::Continue,
        }
    }
}

/// Whether a loader said on the kernel command line where the dump is.
fn has_elfcorehdr() -> bool {
    let line = std::fs::read("/proc/cmdline").unwrap_or_default();
    let line = String::from_utf8_lossy(&line);
    config::cmdline::parameters(&line).any(|(name, _)| name == "elfcorehdr")
}

/// Everything between the configuration and the final action.
fn capture(config: &Config, supervisor: &mut Supervisor, progress: &mut Progress) {
    let overall = Deadline::after(config.deadline.saturating_sub(RESERVE));
    // The driver of a watchdog may be a module, and one that runs already may not wait for it.
    let opened = is_initial_pid_namespace()
        .then(|| supervisor.watchdog.open(&config.watchdog))
        .flatten();
    opened.iter().for_each(|line| progress.say(line));
    let outcome = supervisor.run(&["modules"], overall.within(MODULES_LIMIT), progress);
    tell("modules", &outcome, progress);
    let opened = is_initial_pid_namespace()
        .then(|| supervisor.watchdog.open(&config.watchdog))
        .flatten();
    opened.iter().for_each(|line| progress.say(line));

    connect_and_deliver(config, supervisor, overall, progress);
    if overall.passed() {
        progress.say(&format!(
            "the deadline of {} s is over",
            config.deadline.as_secs()
        ));
    }
}

/// Says how a step ended that did not come to its own end.
fn tell(name: &str, outcome: &Outcome, progress: &mut Progress) {
    if !matches!(outcome, Outcome::Exited(_)) {
        progress.say(&format!("{name}: {}", outcome.text()));
    }
}

/// The network, if a target needs it, and the report; whether a target has that.
fn connect_and_deliver(
    config: &Config,
    supervisor: &mut Supervisor,
    overall: Deadline,
    progress: &mut Progress,
) -> bool {
    if needs_network(config) {
        // Local targets and the last words want some of a short time, too.
        let most = config.net_timeout.min(overall.left() * 3 / 5);
        let limit = overall.within(most);
        let outcome = supervisor.run(
            &["network", &seconds(limit)],
            overall.within(most + WORKER_RESERVE),
            progress,
        );
        tell("network", &outcome, progress);
    }
    deliver(supervisor, overall, progress)
}

/// Runs the worker, and again with less when it did not come to its end by itself; whether a target has the report.
fn deliver(supervisor: &mut Supervisor, overall: Deadline, progress: &mut Progress) -> bool {
    let mut why = String::new();
    for attempt in Attempt::ALL {
        if overall.passed() {
            return delivered::any();
        }
        // Each attempt leaves the next ones a part of the time; the last one may take what is left.
        let last = attempt == Attempt::Notice;
        let share = if last {
            overall.left()
        } else {
            overall.left() * 3 / 5
        };
        let limit = overall.within(share);
        let own = limit
            .left()
            .saturating_sub(WORKER_RESERVE)
            .max(limit.left() / 2);
        let step = [
            "worker",
            attempt.name(),
            &seconds(Deadline::after(own)),
            &why,
        ];
        match supervisor.run(&step, limit, progress) {
            Outcome::Exited(code) => {
                let delivered = code == Exit::Done as u8 || delivered::any();
                progress.say(match code {
                    _ if delivered => "report: delivered",
                    code if code == Exit::Unreadable as u8 => {
                        "report: none, the collectors know why"
                    }
                    _ => "report: NOT delivered",
                });
                return delivered || code == Exit::Unreadable as u8;
            }
            outcome => {
                why = format!("worker ({}) {}", attempt.name(), outcome.text());
                progress.say(&why);
            }
        }
    }
    progress.say(match delivered::any() {
        true => "report: delivered, not to all targets",
        false => "report: NOT delivered",
    });
    delivered::any()
}

/// What is left until a deadline, in whole seconds, for an argument.
fn seconds(deadline: Deadline) -> String {
    deadline.left().as_millis().div_ceil(1000).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(send: &[&str]) -> Config {
        Config {
            send: send.iter().map(|url| (*url).to_owned()).collect(),
            ..Config::default()
        }
    }

    #[test]
    fn the_network_is_needed_for_targets_on_other_machines() {
        assert!(needs_network(&config(&["tcp://10.0.2.2:99"])));
        assert!(!needs_network(&config(&[])));
        assert!(needs_network(&Config {
            network: Some(true),
            ..Config::default()
        }));
    }

    #[test]
    fn targets_by_address_are_what_readiness_is_measured_by() {
        let found = addresses(&config(&[
            "tcp://log.example:99",
            "udp://10.0.2.2:5",
            "tcp://[fe80::1]:9",
        ]));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn only_the_internal_option_starts_a_step() {
        assert_eq!(step(["/proc/vmcore".into()].into_iter()), None);
        assert_eq!(step([].into_iter()), None);
        assert_eq!(
            step(["--step".into(), "nonsense".into()].into_iter()),
            Some(Exit::Usage as u8)
        );
    }
}
