//! Signals and children: what a supervisor needs to wait for its children *with a limit*.
//!
//! `SIGCHLD` is blocked once and then taken with sigtimedwait(2), which returns when a child ended or the time is over:
//! no handler, no race between looking and sleeping, and it works on every kernel (pidfd does not).

use std::ffi::{c_int, c_long, c_ulong, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::time::Duration;

use super::check;

/// `SIGCHLD`, and `SIG_BLOCK` of sigprocmask(2): MIPS and SPARC number them their own way.
const SIGCHLD: c_int = if cfg!(any(target_arch = "mips", target_arch = "mips64")) {
    18
} else if cfg!(any(target_arch = "sparc", target_arch = "sparc64")) {
    20
} else {
    17
};
const SIG_BLOCK: c_int = if cfg!(any(
    target_arch = "mips",
    target_arch = "mips64",
    target_arch = "sparc",
    target_arch = "sparc64"
)) {
    1
} else {
    0
};
const SIGKILL: c_int = 9;
const WNOHANG: c_int = 1;

/// `sigset_t` of glibc and musl: 1,024 bits.
type SigSet = [c_ulong; 1024 / c_ulong::BITS as usize];

#[repr(C)]
struct Timespec {
    tv_sec: c_long,
    tv_nsec: c_long,
}

unsafe extern "C" {
    fn sigemptyset(set: *mut SigSet) -> c_int;
    fn sigaddset(set: *mut SigSet, signal: c_int) -> c_int;
    fn sigprocmask(how: c_int, set: *const SigSet, old: *mut SigSet) -> c_int;
    fn sigtimedwait(set: *const SigSet, info: *mut c_void, timeout: *const Timespec) -> c_int;
    fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    safe fn kill(pid: c_int, signal: c_int) -> c_int;
}

/// Waits for the ends of children. Blocks `SIGCHLD` for as long as the process lives.
pub struct ChildSignal {
    set: SigSet,
}

impl ChildSignal {
    /// Blocks `SIGCHLD`. Children started by std get an empty signal mask, as they should.
    ///
    /// # Errors
    /// The kernel's.
    pub fn block() -> io::Result<Self> {
        let mut set = MaybeUninit::<SigSet>::zeroed();
        // SAFETY: all three get a pointer to a set of the size the C library expects; zero bytes are a valid set, so
        // `assume_init` holds whatever the calls return.
        unsafe {
            check(sigemptyset(set.as_mut_ptr()))?;
            check(sigaddset(set.as_mut_ptr(), SIGCHLD))?;
            check(sigprocmask(SIG_BLOCK, set.as_ptr(), ptr::null_mut()))?;
            Ok(ChildSignal {
                set: set.assume_init(),
            })
        }
    }

    /// Sleeps until a child ended or `limit` is over.
    pub fn wait(&self, limit: Duration) {
        let seconds = c_long::try_from(limit.as_secs()).unwrap_or(c_long::MAX);
        let timeout = Timespec {
            tv_sec: seconds,
            tv_nsec: i32::try_from(limit.subsec_nanos()).unwrap_or(0).into(),
        };
        // SAFETY: the set was initialised by `block`, the timeout lives until the call returns, no information is
        // asked for. Interruption and time-out are both a reason to look at the children again.
        unsafe { sigtimedwait(&raw const self.set, ptr::null_mut(), &raw const timeout) };
    }
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It exited with this code.
    Code(u8),
    /// This signal killed it.
    Signal(u8),
}

/// Takes one child that has ended, whoever started it; `None` when there is none now.
pub fn reap() -> Option<(u32, End)> {
    let mut status: c_int = 0;
    // SAFETY: `status` is a C int that lives until the call returns.
    let pid = unsafe { waitpid(-1, &raw mut status, WNOHANG) };
    let pid = u32::try_from(pid).ok().filter(|pid| *pid != 0)?;
    Some((pid, decode(status)))
}

/// The wait status: the low seven bits are the signal, the next byte is the exit code.
fn decode(status: c_int) -> End {
    let [low, code, ..] = status.to_le_bytes();
    match low & 0x7f {
        0 => End::Code(code),
        signal => End::Signal(signal),
    }
}

/// Kills the process group that `leader` leads.
///
/// # Errors
/// `ESRCH` when nobody is left in it.
pub fn kill_group(leader: u32) -> io::Result<()> {
    // 0 and 1 would mean "my own group" and "everybody".
    let pid = c_int::try_from(leader)
        .ok()
        .filter(|pid| *pid > 1)
        .ok_or(io::ErrorKind::InvalidInput)?;
    check(kill(-pid, SIGKILL)).map(drop)
}

/// Kills every process but this one. For init alone, whose machine it is.
///
/// # Errors
/// `EPERM` for everybody else; `ESRCH` when nobody is left.
pub fn kill_everybody_else() -> io::Result<()> {
    if std::process::id() != 1 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    check(kill(-1, SIGKILL)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_status_words_are_read_as_posix_lays_them_out() {
        assert_eq!(decode(0), End::Code(0));
        assert_eq!(decode(0x0300), End::Code(3));
        assert_eq!(decode(9), End::Signal(9));
        assert_eq!(decode(0x8b), End::Signal(11));
    }

    #[test]
    fn everybody_and_oneself_cannot_be_killed_as_a_group() {
        assert!(kill_group(0).is_err());
        assert!(kill_group(1).is_err());
        assert!(kill_everybody_else().is_err());
    }
}
