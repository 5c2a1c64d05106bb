//! The system calls that std has no word for: the only unsafe code of crashdmesg.
//!
//! | file        | calls                                                        | for                                   |
//! | ----------- | ------------------------------------------------------------ | ------------------------------------- |
//! | `mount.rs`  | mount(2)                                                     | /proc, /sys, /dev; NFS targets        |
//! | `process.rs`| sigprocmask, sigtimedwait, waitpid, kill                     | a supervisor that waits with a limit  |
//! | `reboot.rs` | sync, reboot(2)                                              | the final action                      |
//! | `module.rs` | finit_module(2)                                              | drivers of the capture kernel         |
//! | `socket.rs` | socket, bind, setsockopt, poll, ioctl(SIOCOUTQ)              | netlink, packet sockets; a clean end  |
//! | `watchdog.rs`| ioctl(WDIOC_SETTIMEOUT)                                     | a hardware watchdog                   |
//! | `code.rs`   | madvise(MADV_DONTNEED) on the program's own code             | resident memory                       |
//! | `startup.rs`| mount, open before Rust's runtime starts                     | an image without /dev/null            |
//!
//! The C functions are declared here by hand, so that there is no dependency on a crate of bindings; numbers and
//! structures are those of the kernel's generic ABI, with the exceptions named where they matter. Every function that
//! leaves this folder is safe to call with any argument and says what went wrong in an `io::Error`.

use std::ffi::{CString, c_int};
use std::io;

pub mod code;
pub mod module;
pub mod mount;
pub mod process;
pub mod reboot;
pub mod socket;
mod startup;
pub mod watchdog;

/// "Do not wait" of open(2) (`O_NONBLOCK`), numbered by each architecture's own history.
pub const O_NONBLOCK: i32 = if cfg!(any(target_arch = "mips", target_arch = "mips64")) {
    0o200
} else if cfg!(any(target_arch = "sparc", target_arch = "sparc64")) {
    0x4000
} else {
    0o4000
};

/// The result of a C function that returns -1 and sets `errno`.
fn check(returned: c_int) -> io::Result<c_int> {
    if returned < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(returned)
    }
}

/// `text` with a NUL behind it; a NUL inside is refused, not cut.
fn c_string(text: &str) -> io::Result<CString> {
    CString::new(text).map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "NUL byte in a string for the kernel",
        )
    })
}
