//! The real dumps beside this file, unpacked where cargo lets tests write.

// Every test program uses its own part of this module.
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Every fixture; README.md says what each is good for.
pub const NAMES: &[&str] = &[
    "a61-arm64",
    "a61-armhf",
    "a61-armhf-lpae",
    "a61-i386",
    "a61-i386-pae",
    "a61-mips64el",
    "a61-mipsel",
    "a61-ppc64el",
    "a61-ppc64el-hash",
    "a61-s390x",
    "a612-arm64-16k",
    "a612-riscv64",
    "a612-riscv64-qemu",
    "a612-s390x",
    "a72-arm64",
    "a72-arm64-48bit",
    "b510-amd64",
    "b61-odd",
    "b61-wrap128k",
    "e73-fit",
    "m61-amd64",
    "o34",
    "o419",
    "q-elf-vmci",
    "s72-amd64",
    "t612-amd64",
];

/// Where tests put files of their own.
pub fn scratch() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// A name in [`scratch`] that nothing else uses.
pub fn scratch_file(name: &str) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    scratch().join(format!("{}-{count}-{name}", std::process::id()))
}

fn beside(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

/// The unpacked dump `name`; `None`, said aloud, where `xz` is not installed.
pub fn dump(name: &str) -> Option<PathBuf> {
    let packed = beside(&format!("{name}.vmcore.xz"));
    let unpacked = scratch().join(format!("{name}.vmcore"));
    let fresh = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified());
    if let (Ok(new), Ok(old)) = (fresh(&unpacked), fresh(&packed))
        && new >= old
    {
        return Some(unpacked);
    }
    let output = Command::new("xz")
        .arg("-dc")
        .arg(&packed)
        .stderr(Stdio::inherit())
        .output();
    let Ok(output) = output else {
        println!("SKIPPED: xz is not installed: {name} cannot be unpacked");
        return None;
    };
    assert!(output.status.success(), "xz -dc {}", packed.display());
    // Tests run side by side: the name must never stand for half a file.
    let half = scratch_file(name);
    fs::write(&half, output.stdout).unwrap();
    fs::rename(&half, &unpacked).unwrap();
    Some(unpacked)
}

/// The log that dump `name` holds: the raw text of each record, the time before every line.
pub fn expected_log(name: &str) -> Vec<u8> {
    fs::read(beside(&format!("{name}.log"))).unwrap()
}
