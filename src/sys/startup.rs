//! What must be there before Rust's runtime starts: /dev/null.
//!
//! The kernel opens /dev/console for PID 1. Where it cannot (no console driver, no such node in the image), descriptors
//! 0 to 2 are closed; Rust's runtime then opens /dev/null in their place and *aborts* when there is none, before `main`:
//! a kernel panic of the capture kernel, and nothing captured. So PID 1 makes the node itself, from a constructor that
//! the C library runs first. devtmpfs, mounted later, hides it again.

use std::ffi::{c_char, c_int, c_uint};

/// `S_IFCHR | 0666`, and `makedev(1, 3)`.
const CHARACTER_DEVICE_RW: c_uint = 0o020_666;
const DEV_NULL: u64 = 0x103;

unsafe extern "C" {
    safe fn getpid() -> c_int;
    fn mkdir(path: *const c_char, mode: c_uint) -> c_int;
    fn mknod(path: *const c_char, mode: c_uint, device: u64) -> c_int;
}

extern "C" fn make_dev_null() {
    if getpid() != 1 {
        return;
    }
    // SAFETY: NUL-terminated literals and integers. Both calls may fail, most often with EEXIST: then there is nothing
    // to do. Nothing of Rust's runtime is used.
    unsafe {
        mkdir(c"/dev".as_ptr(), 0o755);
        mknod(c"/dev/null".as_ptr(), CHARACTER_DEVICE_RW, DEV_NULL);
    }
}

// SAFETY: the section holds pointers to functions that take and return nothing the C library relies on.
#[unsafe(link_section = ".init_array")]
#[used]
static MAKE_DEV_NULL: extern "C" fn() = make_dev_null;
