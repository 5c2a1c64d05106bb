//! mount(2) and umount2(2), for the pseudo file systems that PID 1 needs and for network file systems.

use std::ffi::{c_char, c_int, c_ulong, c_void};
use std::io;
use std::ptr;

use super::{c_string, check};

/// No set-user-id programs, no device nodes, no programs at all (`MS_NOSUID | MS_NODEV | MS_NOEXEC`).
pub const MS_DATA_ONLY: u32 = 2 | 4 | 8;

/// Detach now, clean up when the last user is gone (`MNT_DETACH`).
pub const MNT_DETACH: i32 = 2;

unsafe extern "C" {
    fn mount(
        source: *const c_char,
        target: *const c_char,
        fstype: *const c_char,
        flags: c_ulong,
        data: *const c_void,
    ) -> c_int;
    fn umount2(target: *const c_char, flags: c_int) -> c_int;
}

/// Mounts `source` of type `fstype` on `target`; `data` holds the file system's own options.
///
/// # Errors
/// The kernel's; `EBUSY` when the same file system is already there.
pub fn attach(
    source: &str,
    target: &str,
    fstype: &str,
    flags: u32,
    data: Option<&str>,
) -> io::Result<()> {
    let (source, target, fstype) = (c_string(source)?, c_string(target)?, c_string(fstype)?);
    let data = data.map(c_string).transpose()?;
    let data = data
        .as_ref()
        .map_or(ptr::null(), |text| text.as_ptr().cast::<c_void>());
    // SAFETY: four NUL-terminated strings that live until the end of this function; `data` may be null.
    let returned = unsafe {
        mount(
            source.as_ptr(),
            target.as_ptr(),
            fstype.as_ptr(),
            flags.into(),
            data,
        )
    };
    check(returned).map(drop)
}

/// Unmounts what is mounted on `target`.
///
/// # Errors
/// The kernel's.
pub fn detach(target: &str, flags: i32) -> io::Result<()> {
    let target = c_string(target)?;
    // SAFETY: a NUL-terminated string that lives until the end of this function.
    check(unsafe { umount2(target.as_ptr(), flags) }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_that_is_not_there_is_an_error() {
        assert!(attach("none", "/nonexistent/point", "tmpfs", MS_DATA_ONLY, None).is_err());
        assert!(detach("/nonexistent/point", MNT_DETACH).is_err());
    }

    #[test]
    fn a_nul_byte_is_refused_before_the_kernel_sees_it() {
        let error = attach("a\0b", "/", "tmpfs", 0, None).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
