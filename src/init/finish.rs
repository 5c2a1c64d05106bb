//! The final action: every path of the capture kernel ends here.
//!
//! ```text
//! reboot(2) in a thread --10 s--> sysrq b --> hardware watchdog
//! ```
//!
//! reboot(2) runs the shutdown code of every driver and may hang in one; so it is called beside the main thread, which
//! then goes straight to the machine's reset through /proc/sysrq-trigger. When even that does nothing, the watchdog is
//! no longer fed.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::progress::Progress;
use super::supervise::Supervisor;
use crate::config::FinalAction;
use crate::deadline::Deadline;
use crate::sys::{process, reboot};

/// For drivers to shut down.
const REBOOT_LIMIT: Duration = Duration::from_secs(10);
/// For disks to take what was written.
const SYNC_LIMIT: Duration = Duration::from_secs(5);
const SHELL: &str = "/bin/sh";

/// Does it.
pub fn finish(
    action: FinalAction,
    next_init: &str,
    supervisor: &mut Supervisor,
    progress: &mut Progress,
) -> ! {
    match action {
        FinalAction::Shell => {
            supervisor.watchdog.stop();
            run_shell(supervisor, progress);
        }
        FinalAction::Continue => {
            progress.say(&format!("final action: going on with {next_init}"));
            supervisor.watchdog.stop();
            let error = Command::new(next_init).arg0(next_init).exec();
            progress.say(&format!("{next_init}: {error}; rebooting instead"));
        }
        FinalAction::PowerOff | FinalAction::Halt => supervisor.watchdog.stop(),
        FinalAction::Reboot => {}
    }
    let (command, sysrq) = match action {
        FinalAction::PowerOff => (reboot::Command::PowerOff, "o"),
        FinalAction::Halt => (reboot::Command::Halt, ""),
        _ => (reboot::Command::Restart, "b"),
    };
    progress.say(&format!(
        "final action: {}",
        if sysrq == "b" {
            "reboot"
        } else {
            action.name()
        }
    ));
    end(command, sysrq, progress)
}

fn end(command: reboot::Command, sysrq: &str, progress: &mut Progress) -> ! {
    beside(SYNC_LIMIT, reboot::sync_disks);
    beside(REBOOT_LIMIT, move || drop(reboot::machine(command)));
    progress.say("reboot(2) does not; trying sysrq");
    loop {
        trigger(sysrq);
        thread::sleep(Duration::from_secs(5));
    }
}

/// Writes one letter to /proc/sysrq-trigger; not from inside a container, where it would hit the host.
fn trigger(letter: &str) {
    if !letter.is_empty() && super::is_initial_pid_namespace() {
        let _ = fs::write("/proc/sysrq-trigger", letter);
    }
}

/// Runs something that may never come back, and comes back.
fn beside(limit: Duration, action: impl FnOnce() + Send + 'static) {
    let deadline = Deadline::after(limit);
    match thread::Builder::new().stack_size(64 * 1024).spawn(action) {
        Ok(thread) => {
            while !thread.is_finished() && !deadline.passed() {
                deadline.sleep(Duration::from_millis(1));
            }
        }
        // No memory for a thread: the caller's next means does not need one.
        Err(_) => deadline.sleep(Duration::from_millis(1)),
    }
}

/// Gives the console to a shell until it ends.
fn run_shell(supervisor: &Supervisor, progress: &mut Progress) {
    progress.say(&format!(
        "final action: {SHELL}; the machine reboots when it ends"
    ));
    let console = || {
        fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/console")
    };
    let mut command = Command::new(SHELL);
    if let (Ok(input), Ok(output), Ok(errors)) = (console(), console(), console()) {
        command.stdin(input).stdout(output).stderr(errors);
    }
    match command.spawn() {
        Ok(child) => loop {
            supervisor.sleep(Duration::from_secs(60));
            if std::iter::from_fn(process::reap).any(|(pid, _)| pid == child.id()) {
                return;
            }
        },
        Err(error) => progress.say(&format!("{SHELL}: {error}")),
    }
}

/// What a panic of the supervisor itself ends in: nothing but two system calls.
pub fn emergency() {
    let _ = reboot::machine(reboot::Command::Restart);
    trigger("b");
}
