//! Running the program as its users do, with a time limit, and measuring what it takes.

// Every test program uses its own part of this module.
#![allow(dead_code)]

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long any run may take; a debug build on a busy machine is slow.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a run gave.
#[derive(Debug)]
pub struct Output {
    /// The exit code, `None` when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
    pub elapsed: Duration,
}

/// What a run took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Most memory that was resident at once, in KiB.
    pub peak_kib: u64,
    /// Bytes that read system calls gave.
    pub read: u64,
    /// System calls, when they were counted.
    pub syscalls: u64,
    /// Nanoseconds on a CPU, which unlike the time of day does not depend on what else runs here.
    pub cpu_ns: u64,
}

/// The program under test with these arguments.
pub fn crashdmesg<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crashdmesg"));
    command.args(args);
    command
}

/// True when `name` can be run here; says aloud when not.
pub fn is_installed(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/sbin"].map(Into::into);
    let found = std::env::split_paths(&path)
        .chain(sbin)
        .any(|dir| dir.join(name).is_file());
    if !found {
        println!("SKIPPED: {name} is not installed");
    }
    found
}

/// Runs `command` to its end, at most [`DEADLINE`].
pub fn run(command: &mut Command) -> Output {
    let begin = Instant::now();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let out = thread::spawn(move || drain(&mut out));
    let err = thread::spawn(move || drain(&mut err));
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if begin.elapsed() > DEADLINE => {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("{command:?} ran for more than {DEADLINE:?}");
            }
            None => thread::sleep(Duration::from_millis(1)),
        }
    };
    Output {
        code: status.code(),
        signal: status.signal(),
        stdout: out.join().unwrap(),
        stderr: String::from_utf8_lossy(&err.join().unwrap()).into_owned(),
        elapsed: begin.elapsed(),
    }
}

fn drain(from: &mut impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    from.read_to_end(&mut all).unwrap();
    all
}

unsafe extern "C" {
    fn ptrace(request: i64, pid: i32, addr: usize, data: usize) -> i64;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
}

const PTRACE_TRACEME: i64 = 0;
const PTRACE_CONT: i64 = 7;
const PTRACE_SYSCALL: i64 = 24;
const PTRACE_SETOPTIONS: i64 = 0x4200;
const PTRACE_O_TRACESYSGOOD: usize = 1;
const PTRACE_O_TRACEEXIT: usize = 1 << 6;
const PTRACE_O_EXITKILL: usize = 1 << 20;
const PTRACE_EVENT_EXIT: i32 = 6;
const SIGTRAP: i32 = 5;

/// Runs `command` and stops it just before its end, when the kernel still knows what it took. (The maximum that `wait4`
/// tells counts the process that started it, which is larger.) `None`, said aloud, where tracing is not allowed.
///
/// Its outputs stay as the caller has set them. System calls are counted on request, which makes each of them slow.
pub fn measure(command: &mut Command, count_syscalls: bool) -> Option<(ExitStatus, Cost)> {
    // SAFETY: ptrace with PTRACE_TRACEME takes no pointers and is safe to call between fork and exec.
    unsafe {
        command.pre_exec(|| match ptrace(PTRACE_TRACEME, 0, 0, 0) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let child = match command.stdin(Stdio::null()).spawn() {
        Ok(child) => child,
        Err(error) => {
            println!("SKIPPED: {command:?} cannot be traced: {error}");
            return None;
        }
    };
    let pid = child.id() as i32;
    let mut cost = Cost::default();
    let mut stops = 0;
    let go_on = if count_syscalls {
        PTRACE_SYSCALL
    } else {
        PTRACE_CONT
    };
    let options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXIT | PTRACE_O_EXITKILL;
    let mut is_first = true;
    loop {
        let mut status = 0;
        // SAFETY: `status` outlives the call and `pid` is our child, which nothing else waits for.
        assert_eq!(unsafe { waitpid(pid, &mut status, 0) }, pid);
        if status & 0xff != 0x7f {
            cost.syscalls = stops / 2;
            return Some((ExitStatus::from_raw(status), cost));
        }
        let (signal, event) = (status >> 8 & 0xff, status >> 16);
        if is_first {
            is_first = false;
            // SAFETY: no pointers.
            unsafe { ptrace(PTRACE_SETOPTIONS, pid, 0, options) };
        }
        if event == PTRACE_EVENT_EXIT {
            cost.peak_kib = number(&format!("/proc/{pid}/status"), "VmHWM:");
            cost.read = number(&format!("/proc/{pid}/io"), "rchar:");
            cost.cpu_ns = number(&format!("/proc/{pid}/schedstat"), "");
        }
        let is_syscall = signal == SIGTRAP | 0x80;
        stops += u64::from(is_syscall);
        let pass_on = if is_syscall || signal == SIGTRAP {
            0
        } else {
            signal
        };
        // SAFETY: no pointers.
        unsafe { ptrace(go_on, pid, 0, pass_on as usize) };
    }
}

/// The number behind `key` in a file of `/proc`.
fn number(path: &str, key: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let digits = line.unwrap_or_else(|| panic!("{key} in {path}")).trim();
    digits.split(' ').next().unwrap().parse().unwrap()
}
