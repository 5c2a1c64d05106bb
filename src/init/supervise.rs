//! Steps as children: whatever a step does, PID 1 goes on when it ends or when its time is over.
//!
//! Each step is this same program started again with `--step NAME`. It may crash, hang in the kernel where not even
//! SIGKILL reaches it, or be killed for its memory; the supervisor waits, feeds the watchdog, notes how low the memory
//! gets, and takes the children that end. When a step is over, everything it left behind is killed: by init everybody,
//! inside a distribution's own environment the step's process group.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::memory::LowWater;
use super::progress::Progress;
use super::watchdog::Watchdog;
use crate::deadline::Deadline;
use crate::sys::process::{ChildSignal, End, kill_everybody_else, kill_group, reap};

/// How often the supervisor looks around when nothing happens.
const TICK: Duration = Duration::from_millis(100);
/// For a killed child to go; one that hangs in the kernel does not.
const KILL_LIMIT: Duration = Duration::from_secs(1);
/// Ourselves, and where we are when /proc is not mounted.
const PROGRAMS: [&str; 2] = ["/proc/self/exe", "/init"];

/// How a step ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It said so itself.
    Exited(u8),
    /// A signal ended it.
    Killed(u8),
    /// The kernel killed it for its memory.
    OutOfMemory,
    /// Its time was over.
    TimedOut,
    /// It could not be started.
    NotStarted(String),
}

impl Outcome {
    /// What to say about it.
    pub fn text(&self) -> String {
        match self {
            Outcome::Exited(code) => format!("ended with code {code}"),
            Outcome::Killed(signal) => format!("killed by signal {signal}"),
            Outcome::OutOfMemory => "killed, out of memory".to_owned(),
            Outcome::TimedOut => "time is over".to_owned(),
            Outcome::NotStarted(why) => format!("cannot be started: {why}"),
        }
    }
}

/// Whether all other processes are steps, and what they started.
fn is_alone() -> bool {
    std::process::id() == 1
}

/// The parent of all steps.
pub struct Supervisor {
    signal: Option<ChildSignal>,
    /// The hardware watchdog.
    pub watchdog: Watchdog,
    /// How low the memory got.
    pub memory: LowWater,
}

impl Supervisor {
    /// Gets ready to have children.
    pub fn new() -> Self {
        Supervisor {
            signal: ChildSignal::block().ok(),
            watchdog: Watchdog::none(),
            memory: LowWater::default(),
        }
    }

    /// Runs one step of this program until it ends or its time is over.
    pub fn run(&mut self, step: &[&str], limit: Deadline, progress: &Progress) -> Outcome {
        let before = super::memory::oom_kills();
        let mut why = String::new();
        // Only where the machine is ours is /init this program.
        let programs = if is_alone() {
            &PROGRAMS[..]
        } else {
            &PROGRAMS[..1]
        };
        for program in programs {
            let mut command = Command::new(program);
            command
                .arg("--step")
                .args(step)
                .stdin(Stdio::null())
                .stdout(Stdio::null());
            if let Some(console) = progress.console() {
                command.stderr(console);
            }
            if !is_alone() {
                command.process_group(0);
            }
            match command.spawn() {
                Ok(child) => return self.wait_for(child.id(), limit, before),
                Err(error) => why = error.to_string(),
            }
        }
        Outcome::NotStarted(why)
    }

    fn wait_for(&mut self, child: u32, limit: Deadline, oom_kills_before: u64) -> Outcome {
        let end = loop {
            match self.look_around(child) {
                Some(end) => break Some(end),
                None if limit.passed() => break None,
                None => self.sleep(limit.left().min(TICK)),
            }
        };
        // The step, if its time is over, and whatever it started and left behind: nothing of it has a reason to live.
        let _ = if is_alone() {
            kill_everybody_else()
        } else {
            kill_group(child)
        };
        match end {
            Some(End::Code(code)) => return Outcome::Exited(code),
            Some(End::Signal(9)) if super::memory::oom_kills() > oom_kills_before => {
                return Outcome::OutOfMemory;
            }
            Some(End::Signal(signal)) => return Outcome::Killed(signal),
            None => {}
        }
        let patience = Deadline::after(KILL_LIMIT);
        while self.look_around(child).is_none() && !patience.passed() {
            self.sleep(patience.left().min(TICK));
        }
        Outcome::TimedOut
    }

    /// Takes all children that have ended; the result is about the one that is waited for.
    fn look_around(&mut self, child: u32) -> Option<End> {
        self.watchdog.feed_if_due();
        self.memory.sample();
        std::iter::from_fn(reap).fold(
            None,
            |found, (pid, end)| if pid == child { Some(end) } else { found },
        )
    }

    /// Sleeps until a child ends or the time is over, feeding nobody.
    pub fn sleep(&self, limit: Duration) {
        match &self.signal {
            Some(signal) => signal.wait(limit),
            None => std::thread::sleep(limit.min(Duration::from_millis(10))),
        }
    }
}
