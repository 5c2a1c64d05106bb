//! A file on a mounted file system: complete under its name, or not there.
//!
//! Written under a temporary name, forced to the disk, renamed, and the rename forced to the disk. Files are 0600 and
//! directories 0700: a kernel log can hold secrets. When the disk is full the temporary file is removed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::url::{Url, decode};
use super::{Delivered, Failure, Outcome, Payload, Reason, name};
use crate::deadline::Deadline;

/// Stops writing when the time is over: a disk can be slow, and one that hangs is the supervisor's matter.
pub struct Timed<W> {
    /// Where it goes.
    pub out: W,
    /// Until when.
    pub deadline: Deadline,
}

impl<W: Write> Write for Timed<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.deadline.timeout()?;
        self.out.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The path of a URL with names filled in and escapes decoded.
///
/// # Errors
/// It has none, or is not absolute.
pub fn path(url: &Url, payload: &Payload<'_>) -> Result<PathBuf, Failure> {
    let path = decode(&name::fill(&url.path, payload.meta())).map_err(Failure::lasting)?;
    Ok(PathBuf::from(path))
}

/// Checks that the path is absolute.
///
/// # Errors
/// One line.
pub fn check(url: &Url) -> Result<(), String> {
    decode(&url.path)?;
    match url.path.strip_prefix('/') {
        Some(rest) if !rest.split('/').any(|part| part == "..") => Ok(()),
        _ => Err(format!("\"{}\" is not an absolute path", url.path)),
    }
}

/// `file:/var/crash/`.
pub fn send(url: &Url, payload: &Payload<'_>, deadline: Deadline) -> Delivered {
    store(&path(url, payload)?, payload, deadline)
}

/// Stores the text in a file of this path.
///
/// # Errors
/// No part of it is left behind.
pub fn store(path: &Path, payload: &Payload<'_>, deadline: Deadline) -> Delivered {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    let part = directory.join(format!(".{file}.part"));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .reason(&format!("make {}", directory.display()))?;
    if let Err(error) = write(&part, payload, deadline) {
        let _ = fs::remove_file(&part);
        return Err(error).reason(&format!("write {}", part.display()));
    }
    let renamed = fs::rename(&part, path).and_then(|()| File::open(directory)?.sync_all());
    renamed.reason(&format!("rename to {}", path.display()))?;
    Ok(Outcome::Stored)
}

fn write(path: &Path, payload: &Payload<'_>, deadline: Deadline) -> io::Result<()> {
    // Left by an attempt that was interrupted, or put there by somebody: never written through.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let mut out = BufWriter::new(Timed {
        out: file,
        deadline,
    });
    payload.write(&mut out)?;
    out.flush()?;
    out.get_ref().out.sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::Part;
    use super::super::payload::tests::fake;
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::Duration;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("crashdmesg-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        path
    }

    fn url(path: &Path) -> Url {
        Url {
            path: path.display().to_string(),
            ..Url::default()
        }
    }

    #[test]
    fn a_report_is_a_private_file_and_a_retry_replaces_it() {
        let base = directory("store");
        let fake = fake(10);
        let payload = Payload::new(&fake, Part::Full, "");
        let soon = Deadline::after(Duration::from_secs(5));
        // A link where the temporary file goes must not be followed.
        fs::create_dir(base.join("node17")).unwrap();
        let trap = base.join("trap");
        fs::write(&trap, "untouched").unwrap();
        symlink(&trap, base.join("node17/.20261121T192335Z.part")).unwrap();
        for _ in 0..2 {
            let outcome = send(&url(&base.join("%h/%t")), &payload, soon).unwrap();
            assert_eq!(outcome, Outcome::Stored);
        }
        let file = base.join("node17/20261121T192335Z");
        let mut text = Vec::new();
        payload.write(&mut text).unwrap();
        assert_eq!(fs::read(&file).unwrap(), text);
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(base.join("node17")).unwrap().count(), 1);
        assert_eq!(fs::read(&trap).unwrap(), b"untouched");
        fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn a_failure_leaves_nothing_behind() {
        let base = directory("late");
        let fake = fake(10);
        let payload = Payload::new(&fake, Part::Full, "");
        let late = Deadline::after(Duration::ZERO);
        send(&url(&base.join("x")), &payload, late).unwrap_err();
        assert_eq!(fs::read_dir(&base).unwrap().count(), 0);
        fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn only_an_absolute_path_without_detours_is_taken() {
        check(&url(Path::new("/var/crash/%h/"))).unwrap();
        for bad in ["", "crash", "/var/../etc"] {
            check(&url(Path::new(bad))).unwrap_err();
        }
    }
}
