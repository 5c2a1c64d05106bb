//! The file systems that PID 1 needs: the kernel gives it an empty root and nothing else.

use std::io;

use crate::sys::mount::{MS_DATA_ONLY, attach};

/// `MS_NOSUID | MS_NOEXEC`: device nodes are what it is for.
const MS_DEVICES: u32 = 2 | 8;

const MOUNTS: &[(&str, &str, u32)] = &[
    ("proc", "/proc", MS_DATA_ONLY),
    ("sysfs", "/sys", MS_DATA_ONLY),
    ("devtmpfs", "/dev", MS_DEVICES),
];

/// Mounts what is not mounted yet; returns a line for each that could not be.
pub fn mount_all() -> Vec<String> {
    let failures = MOUNTS.iter().filter_map(|(fstype, target, flags)| {
        let _ = std::fs::create_dir(target);
        match attach(fstype, target, fstype, *flags, None) {
            Err(error) if error.kind() != io::ErrorKind::ResourceBusy => {
                Some(format!("mount {target}: {error}"))
            }
            _ => None,
        }
    });
    failures.collect()
}
