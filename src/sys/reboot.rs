//! reboot(2): the last call of every capture kernel.
//!
//! glibc and musl both pass the two magic numbers themselves; the command is the argument. Specified in reboot(2) and
//! `include/uapi/linux/reboot.h`.

use std::ffi::c_int;
use std::io;

use super::check;

/// What reboot(2) is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Start the machine again through its firmware (`LINUX_REBOOT_CMD_RESTART`).
    Restart,
    /// Switch it off (`LINUX_REBOOT_CMD_POWER_OFF`).
    PowerOff,
    /// Stop it and leave it on (`LINUX_REBOOT_CMD_HALT`).
    Halt,
}

unsafe extern "C" {
    safe fn sync();
    safe fn reboot(command: c_int) -> c_int;
}

/// Asks the kernel to write what it holds back to disks; may block on a disk that does not answer.
pub fn sync_disks() {
    sync();
}

/// Restarts, switches off or halts the machine; returns only when the kernel refuses.
///
/// # Errors
/// `EPERM` without `CAP_SYS_BOOT`.
pub fn machine(command: Command) -> io::Result<()> {
    let number: u32 = match command {
        Command::Restart => 0x0123_4567,
        Command::PowerOff => 0x4321_fedc,
        Command::Halt => 0xcdef_0123,
    };
    check(reboot(number.cast_signed())).map(drop)
}
