//! A partition or a disk without a file system: the report behind a header, to be fetched after the reboot.
//!
//! ```text
//! 0    magic "crashdmesg report\n" version "1\n"     then one KEY=VALUE a line, NUL to the end of the sector
//! 512  text, `length` bytes
//! ```
//!
//! The header is written last, after the text is on the medium, and tells its length and CRC-32: a text that was cut
//! short is never taken for a report. A medium that holds anything but zeros or an earlier report of ours is refused,
//! unless `force` says otherwise: whatever is there may be somebody's data.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::file::{Timed, path};
use super::text::line;
use super::url::Url;
use super::{Delivered, Failure, Outcome, Payload, Reason};
use crate::deadline::Deadline;

/// The start of the header.
const MAGIC: &[u8] = b"crashdmesg report\n1\n";

/// Length of the header: every sector size is a multiple or this.
const HEADER_LEN: usize = 512;

/// Super blocks, partition tables and their copies lie within this of the start or the end.
const EDGE: u64 = 128 << 10;

/// Fails with `EBUSY` when the device is mounted or otherwise in use (on a block device).
const O_EXCL: i32 = 0o200;

/// Names of what may be found, for the message: offset, bytes, name.
const KNOWN: &[(usize, &[u8], &str)] = &[
    (0, b"XFSB", "xfs"),
    (0, b"LUKS\xba\xbe", "LUKS"),
    (0, b"hsqs", "squashfs"),
    (3, b"NTFS    ", "NTFS"),
    (512, b"EFI PART", "a GPT"),
    (512, b"LABELONE", "LVM"),
    (0x438, b"\x53\xef", "ext2/3/4"),
    (4086, b"SWAPSPACE2", "swap space"),
    (0x1_0040, b"_BHRfS_M", "btrfs"),
    (510, b"\x55\xaa", "a boot sector or partition table"),
];

/// CRC-32 as in Ethernet and zlib, four bits at a time.
struct Crc(u32);

impl Write for Crc {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        for &byte in buf {
            self.0 ^= u32::from(byte);
            for _ in 0..2 {
                self.0 = self.0 >> 4 ^ NIBBLES[(self.0 & 15) as usize];
            }
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Crc {
    fn new() -> Self {
        Crc(u32::MAX)
    }

    fn value(&self) -> u32 {
        !self.0
    }
}

const NIBBLES: [u32; 16] = {
    let mut table = [0; 16];
    let mut i = 0;
    while i < 16 {
        let mut word = i as u32;
        let mut bit = 0;
        while bit < 4 {
            word = if word & 1 == 0 {
                word >> 1
            } else {
                word >> 1 ^ 0xedb8_8320
            };
            bit += 1;
        }
        table[i] = word;
        i += 1;
    }
    table
};

/// Both sums of one pass.
struct Measure {
    crc: Crc,
    len: u64,
}

impl Write for Measure {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.len += buf.len() as u64;
        self.crc.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `block:/dev/disk/by-partlabel/crash`.
pub fn send(url: &Url, payload: &Payload<'_>, deadline: Deadline) -> Delivered {
    let path = path(url, payload)?;
    let step = format!("write {}", path.display());
    let mut device = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(O_EXCL)
        .open(&path)
        .reason(&step)?;
    let size = device.seek(SeekFrom::End(0)).reason(&step)?;
    if !url.switch("force") {
        refuse_others(&mut device, size)
            .reason(&step)?
            .map_or(Ok(()), |what| {
                Err(Failure::lasting(format!(
                    "{} holds {what}; wipe it, or say force=yes",
                    path.display()
                )))
            })?;
    }
    write(device, size, payload, deadline)
        .reason(&step)
        .map(|()| Outcome::Stored)
}

fn write(mut device: File, size: u64, payload: &Payload<'_>, deadline: Deadline) -> io::Result<()> {
    // From here on there is no report, until all of the new one is there.
    device.seek(SeekFrom::Start(0))?;
    device.write_all(&[0; HEADER_LEN])?;
    let mut measure = Measure {
        crc: Crc::new(),
        len: 0,
    };
    let mut out = BufWriter::new(Both {
        device: Timed {
            out: &mut device,
            deadline,
        },
        measure: &mut measure,
        room: size.saturating_sub(HEADER_LEN as u64),
    });
    payload.write(&mut out)?;
    out.flush()?;
    drop(out);
    device.sync_all()?;
    let meta = payload.meta();
    let mut header = MAGIC.to_vec();
    header.extend(
        format!(
            "length={}\ncrc32={:08x}\n",
            measure.len,
            measure.crc.value()
        )
        .bytes(),
    );
    for (key, value) in [
        ("report", &meta.report_id),
        ("signature", &meta.signature),
        ("host", &meta.host),
    ] {
        header
            .extend(format!("{key}={}\n", super::text::head(&line(value.as_bytes()), 64)).bytes());
    }
    header.resize(HEADER_LEN, 0);
    device.seek(SeekFrom::Start(0))?;
    device.write_all(&header)?;
    device.sync_all()
}

/// Writes and measures at once, within the room there is.
struct Both<'a> {
    device: Timed<&'a mut File>,
    measure: &'a mut Measure,
    room: u64,
}

impl Write for Both<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if buf.len() as u64 > self.room.saturating_sub(self.measure.len) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let len = self.device.write(buf)?;
        self.measure.write(&buf[..len])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is on a medium that is neither blank nor ours.
fn refuse_others(device: &mut File, size: u64) -> io::Result<Option<&'static str>> {
    device.seek(SeekFrom::Start(0))?;
    let mut edge = Vec::new();
    Read::take(&mut *device, EDGE).read_to_end(&mut edge)?;
    if edge.starts_with(MAGIC) {
        return Ok(None);
    }
    for (offset, bytes, name) in KNOWN {
        if edge.get(*offset..).is_some_and(|at| at.starts_with(bytes)) {
            return Ok(Some(name));
        }
    }
    let blank = |edge: &[u8]| edge.iter().all(|&b| b == 0);
    if !blank(&edge) {
        return Ok(Some("data"));
    }
    device.seek(SeekFrom::Start(size.saturating_sub(EDGE)))?;
    edge.clear();
    Read::take(&mut *device, EDGE).read_to_end(&mut edge)?;
    Ok(if blank(&edge) {
        None
    } else {
        Some("data at its end")
    })
}

/// Longest report that is fetched.
const SAVED_LEN: u64 = 64 << 20;

/// The text of the report on a medium; `None` when the medium, or file, is not one of ours.
///
/// # Errors
/// It cannot be read, or the report is damaged.
pub fn read_saved(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    let step = format!("read {}", path.display());
    let mut device = File::open(path).reason(&step)?;
    let mut header = Vec::new();
    let head = Read::take(&mut device, HEADER_LEN as u64).read_to_end(&mut header);
    head.reason(&step)?;
    let Some(rest) = header.strip_prefix(MAGIC) else {
        return Ok(None);
    };
    let rest = rest.split(|&b| b == 0).next().unwrap_or(&[]);
    let rest = String::from_utf8_lossy(rest);
    let find = |key: &str| {
        let mut pairs = rest.lines().filter_map(|line| line.split_once('='));
        pairs.find(|(k, _)| *k == key).map(|(_, value)| value)
    };
    let len = find("length").and_then(|v| v.parse().ok());
    let crc = find("crc32").and_then(|v| u32::from_str_radix(v, 16).ok());
    let (Some(len @ 0..=SAVED_LEN), Some(crc)) = (len, crc) else {
        // Fetched before: nothing to fetch.
        return Ok(Some(Vec::new()));
    };
    let mut text = Vec::new();
    let read = Read::take(&mut device, len).read_to_end(&mut text);
    read.reason(&step)?;
    let mut sum = Crc::new();
    let _ = sum.write(&text);
    if text.len() as u64 != len || sum.value() != crc {
        return Err(Failure::lasting(format!(
            "{}: the report is damaged",
            path.display()
        )));
    }
    Ok(Some(text))
}

/// Marks the report on a medium as fetched: the medium is blank again for `send`.
///
/// # Errors
/// The system's.
pub fn forget_saved(path: &Path) -> Result<(), Failure> {
    let write = || {
        let mut device = OpenOptions::new().write(true).open(path)?;
        let mut header = MAGIC.to_vec();
        header.extend(b"state=fetched\n");
        header.resize(HEADER_LEN, 0);
        device.write_all(&header)?;
        device.sync_all()
    };
    write().reason(&format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::super::Part;
    use super::super::payload::tests::fake;
    use super::*;
    use std::fs;
    use std::path::PathBuf;
    use std::time::Duration;

    fn medium(name: &str, len: usize, at: usize, bytes: &[u8]) -> PathBuf {
        let name = format!("crashdmesg-block-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut content = vec![0; len];
        content[at..at + bytes.len()].copy_from_slice(bytes);
        fs::write(&path, content).unwrap();
        path
    }

    fn store(path: &Path, options: &[(String, String)]) -> Delivered {
        let url = Url {
            path: path.display().to_string(),
            options: options.to_vec(),
            ..Url::default()
        };
        let fake = fake(1000);
        let payload = Payload::new(&fake, Part::Full, "");
        send(&url, &payload, Deadline::after(Duration::from_secs(5)))
    }

    #[test]
    fn a_blank_medium_takes_a_report_again_and_again() {
        let path = medium("blank", 1 << 20, 0, b"");
        for _ in 0..2 {
            store(&path, &[]).unwrap();
            let text = read_saved(&path).unwrap().unwrap();
            assert!(text.starts_with(b"panic: sysrq"));
        }
        forget_saved(&path).unwrap();
        assert_eq!(read_saved(&path).unwrap(), Some(Vec::new()));
        store(&path, &[]).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), 1 << 20);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_medium_with_anything_else_is_refused() {
        for (i, (at, bytes, name)) in KNOWN.iter().enumerate() {
            let path = medium(&format!("k{i}"), 1 << 20, *at, bytes);
            let failure = store(&path, &[]).unwrap_err();
            assert!(
                failure.why.contains(name) && !failure.again,
                "{}",
                failure.why
            );
            fs::remove_file(path).unwrap();
        }
        for at in [0, 70_000, (1 << 20) - 4096] {
            let path = medium(&format!("a{at}"), 1 << 20, at, b"x");
            assert!(store(&path, &[]).unwrap_err().why.contains("holds data"));
            store(&path, &[("force".into(), "yes".into())]).unwrap();
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn a_medium_too_small_is_full_and_holds_no_report() {
        let path = medium("small", 8192, 0, b"");
        let failure = store(&path, &[]).unwrap_err();
        assert!(!failure.again, "{}", failure.why);
        assert_eq!(read_saved(&path).unwrap(), None);
        assert_eq!(fs::metadata(&path).unwrap().len(), 8192);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let path = medium("bit", 1 << 20, 0, b"");
        store(&path, &[]).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes[700] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(read_saved(&path).is_err_and(|f| f.why.contains("damaged")));
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn the_checksum_is_the_usual_one() {
        let mut crc = Crc::new();
        crc.write_all(b"123456789").unwrap();
        assert_eq!(crc.value(), 0xcbf4_3926);
    }
}
