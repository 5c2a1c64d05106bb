//! A file as [`ReadAt`]: positioned reads, with a few small blocks kept for headers and notes.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crashdmesg::dump::ReadAt;
use crashdmesg::error::{At, Error, Result};

/// Reads shorter than this go through a block: headers are read field by field, and each read of `/proc/vmcore` maps
/// and unmaps a page.
const SMALL: usize = 512;
const BLOCK: usize = 4096;
const BLOCKS: usize = 4;

/// An open dump file: `/proc/vmcore`, a regular file or a block device.
pub struct FileAt {
    file: File,
    len: Option<u64>,
    blocks: RefCell<Blocks>,
}

#[derive(Default)]
struct Blocks {
    kept: Vec<(u64, Vec<u8>)>,
    next: usize,
}

impl FileAt {
    /// Reads from `file`, which must be seekable.
    ///
    /// # Errors
    /// What the system says, and that a directory is no dump.
    pub fn new(file: File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        // A block device and some files of /proc tell no size.
        let len = Some(metadata.len()).filter(|&len| metadata.is_file() && len != 0);
        let empty =
            metadata.is_file() && metadata.len() == 0 && file.read_at(&mut [0], 0).ok() == Some(0);
        Ok(FileAt {
            file,
            len: if empty { Some(0) } else { len },
            blocks: RefCell::default(),
        })
    }

    /// Reads as much of `buf` as there is.
    fn read_some(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self
                .file
                .read_at(&mut buf[done..], offset.saturating_add(done as u64))
            {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let errno = error.raw_os_error().unwrap_or(0);
                    return Err(Error::Io {
                        at: offset.saturating_add(done as u64),
                        len: buf.len() - done,
                        errno,
                    });
                }
            }
        }
        Ok(done)
    }

    /// Copies `buf` out of the block that holds it; false when it is not all in there.
    fn read_small(&self, offset: u64, buf: &mut [u8]) -> bool {
        let start = offset - offset % BLOCK as u64;
        let inside = (offset - start) as usize;
        if inside + buf.len() > BLOCK {
            return false;
        }
        let mut blocks = self.blocks.borrow_mut();
        let found = blocks.kept.iter().position(|(at, _)| *at == start);
        let slot = match found {
            Some(slot) => slot,
            None => {
                let mut data = vec![0; BLOCK];
                let Ok(len) = self.read_some(start, &mut data) else {
                    return false;
                };
                data.truncate(len);
                blocks.keep(start, data)
            }
        };
        match blocks.kept[slot].1.get(inside..inside + buf.len()) {
            Some(data) => buf.copy_from_slice(data),
            None => return false,
        }
        true
    }
}

impl Blocks {
    fn keep(&mut self, start: u64, data: Vec<u8>) -> usize {
        if self.kept.len() < BLOCKS {
            self.kept.push((start, data));
            return self.kept.len() - 1;
        }
        let slot = self.next % BLOCKS;
        self.next += 1;
        self.kept[slot] = (start, data);
        slot
    }
}

impl ReadAt for FileAt {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        if buf.len() <= SMALL && self.read_small(offset, buf) {
            return Ok(());
        }
        let have = self.read_some(offset, buf)?;
        if have < buf.len() {
            let (need, have) = (buf.len() as u64, have as u64);
            return Err(Error::Truncated {
                what: "the file",
                at: At::File(offset),
                need,
                have,
            });
        }
        Ok(())
    }

    fn len(&self) -> Option<u64> {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_near_the_end_of_a_file_are_whole_or_truncated() {
        let path = std::env::temp_dir().join(format!("crashdmesg-file-{}", std::process::id()));
        std::fs::write(&path, vec![7; BLOCK + 10]).unwrap();
        let file = FileAt::new(File::open(&path).unwrap()).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(file.len(), Some(BLOCK as u64 + 10));
        let mut buf = [0; 8];
        file.read_at(BLOCK as u64 + 2, &mut buf).unwrap();
        assert_eq!(buf, [7; 8]);
        file.read_at(BLOCK as u64 - 4, &mut buf).unwrap();
        let cut = file.read_at(BLOCK as u64 + 4, &mut buf).unwrap_err();
        assert!(matches!(
            cut,
            Error::Truncated {
                need: 8,
                have: 6,
                ..
            }
        ));
        assert!(file.read_at(u64::MAX - 3, &mut buf).is_err());
    }
}
