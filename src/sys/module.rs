//! finit_module(2): loads a driver from an open file.
//!
//! Neither glibc nor musl exports a wrapper, so this goes through syscall(2) with the number of each architecture
//! (`arch/*/kernel/syscalls/syscall.tbl`, `include/uapi/asm-generic/unistd.h`; in the kernel since v3.8).

use std::ffi::{c_int, c_long};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use super::c_string;

/// The file is compressed and the kernel unpacks it (`MODULE_INIT_COMPRESSED_FILE`, since v5.17).
const COMPRESSED_FILE: c_int = 4;

/// The system call's number; 0 where it is not known.
const FINIT_MODULE: c_long = if cfg!(all(target_arch = "x86_64", target_pointer_width = "64")) {
    313
} else if cfg!(target_arch = "x86") {
    350
} else if cfg!(target_arch = "arm") {
    379
} else if cfg!(any(target_arch = "powerpc", target_arch = "powerpc64")) {
    353
} else if cfg!(target_arch = "s390x") {
    344
} else if cfg!(target_arch = "mips") {
    4348
} else if cfg!(target_arch = "mips64") {
    5307
} else if cfg!(any(target_arch = "sparc", target_arch = "sparc64")) {
    342
} else if cfg!(target_arch = "m68k") {
    348
} else if cfg!(any(
    target_arch = "aarch64",
    target_arch = "riscv32",
    target_arch = "riscv64",
    target_arch = "loongarch64",
    target_arch = "hexagon",
    target_arch = "csky"
)) {
    273
} else {
    0
};

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
}

/// Loads the module in `file` with `parameters`, as modprobe would give them.
///
/// # Errors
/// The kernel's: `EEXIST` when it is loaded already, `ENOENT` when a symbol of another module is missing, `ENOEXEC`
/// when it was built for another kernel.
pub fn load(file: &File, parameters: &str, compressed: bool) -> io::Result<()> {
    if FINIT_MODULE == 0 {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let parameters = c_string(parameters)?;
    let flags = if compressed { COMPRESSED_FILE } else { 0 };
    // SAFETY: finit_module takes a descriptor, a NUL-terminated string that outlives the call, and an integer.
    let returned = unsafe { syscall(FINIT_MODULE, file.as_raw_fd(), parameters.as_ptr(), flags) };
    if returned < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_module_is_refused_by_the_kernel() {
        let file = File::open("/proc/self/exe").unwrap();
        // Without privileges EPERM, with them ENOEXEC: either way the call reached the kernel.
        let code = load(&file, "", false).unwrap_err().raw_os_error().unwrap();
        assert!([1, 8, 22, 38].contains(&code), "errno {code}");
    }
}
