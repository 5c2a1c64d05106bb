//! The one ioctl of a hardware watchdog that a write cannot replace: how long it waits.
//!
//! Specified in the kernel's `Documentation/watchdog/watchdog-api.rst`: opening the device starts it, any byte written
//! feeds it, and a `V` written last before the close stops it, unless the driver was told never to stop.

use std::ffi::{c_int, c_ulong};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use super::check;

/// `_IOWR('W', 6, int)`; the direction bits of a read-and-write ioctl are the same on every architecture.
const WDIOC_SETTIMEOUT: c_ulong = 0xc004_5706;

unsafe extern "C" {
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
}

/// Asks for a reset after `seconds` without a feed; returns what the hardware made of it.
///
/// # Errors
/// `EOPNOTSUPP` or `EINVAL` when the hardware has a time of its own.
pub fn set_timeout(device: &File, seconds: u16) -> io::Result<u32> {
    let mut timeout = c_int::from(seconds);
    // SAFETY: this request reads and writes one C int, which lives until the call returns.
    check(unsafe { ioctl(device.as_raw_fd(), WDIOC_SETTIMEOUT, &raw mut timeout) })?;
    Ok(u32::try_from(timeout).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_watchdog_says_so() {
        assert!(set_timeout(&File::open("/dev/null").unwrap(), 30).is_err());
    }
}
