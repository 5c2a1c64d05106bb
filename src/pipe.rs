//! A dump that comes through a pipe: `ssh host cat core | crashdmesg -`.
//!
//! A dump wants to be read anywhere, a pipe only goes on. So the pipe is read no further than needed, and what has
//! passed is kept in memory up to a limit: the first half of it for good, since headers, descriptors and (in ELF
//! files) the kernel image come first, and the other half for what passed last. Blocks of zeros cost nothing. Reading
//! back what is gone is an error, and a hole for those above.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, Read};

use crashdmesg::dump::ReadAt;
use crashdmesg::error::{At, Error, Result};

use crate::progress::Progress;

const BLOCK: usize = 64 << 10;
/// What is kept without `--pipe-memory`, if half of the free memory is not less.
const DEFAULT_LIMIT: u64 = 1 << 30;

/// The pipe and what is kept of it.
pub struct PipeAt {
    state: RefCell<State>,
    limit: u64,
}

struct State {
    pipe: File,
    /// Bytes that were read from the pipe.
    done: u64,
    /// True when there are no more.
    ended: bool,
    /// By number; a block of zeros is empty.
    blocks: HashMap<u64, Box<[u8]>>,
    /// Bytes in `blocks`.
    kept: u64,
    /// Blocks of the second half, in the order in which they came.
    window: VecDeque<u64>,
    progress: Progress,
}

impl PipeAt {
    /// Keeps at most `limit` bytes of what comes out of `pipe`.
    pub fn new(pipe: File, limit: Option<u64>) -> Self {
        let limit = limit.unwrap_or_else(default_limit).max(4 * BLOCK as u64);
        PipeAt {
            state: RefCell::new(State {
                pipe,
                done: 0,
                ended: false,
                blocks: HashMap::new(),
                kept: 0,
                window: VecDeque::new(),
                progress: Progress::new("reading the pipe"),
            }),
            limit,
        }
    }
}

/// The default, or half of what the system can give without swapping.
fn default_limit() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.map_or(DEFAULT_LIMIT, |kib| DEFAULT_LIMIT.min(kib << 9))
}

impl State {
    /// Reads on until `end` bytes have come, or the pipe ends.
    fn read_to(&mut self, end: u64, limit: u64) -> io::Result<()> {
        while self.done < end && !self.ended {
            let mut block = vec![0; BLOCK];
            let mut len = 0;
            while len < BLOCK {
                match self.pipe.read(&mut block[len..]) {
                    Ok(0) => {
                        self.ended = true;
                        break;
                    }
                    Ok(n) => len += n,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            block.truncate(len);
            self.keep(block, limit);
            self.progress.at(self.done, 0);
        }
        Ok(())
    }

    /// Keeps the next block, and lets go of older ones for it.
    fn keep(&mut self, block: Vec<u8>, limit: u64) {
        let number = self.done / BLOCK as u64;
        self.done += block.len() as u64;
        if block.len() == BLOCK && block.iter().all(|&byte| byte == 0) {
            self.blocks.insert(number, Box::default());
            return;
        }
        self.kept += block.len() as u64;
        if self.kept > limit / 2 {
            self.window.push_back(number);
        }
        self.blocks.insert(number, block.into());
        while self.kept > limit
            && let Some(oldest) = self.window.pop_front()
        {
            let gone = self.blocks.remove(&oldest);
            self.kept -= gone.map_or(0, |block| block.len() as u64);
        }
    }

    /// Copies from block `number` to `buf`; false when it is gone.
    fn copy(&self, number: u64, inside: usize, buf: &mut [u8]) -> bool {
        match self.blocks.get(&number) {
            Some(zeros) if zeros.is_empty() => buf.fill(0),
            Some(block) => match block.get(inside..inside + buf.len()) {
                Some(bytes) => buf.copy_from_slice(bytes),
                None => return false,
            },
            None => return false,
        }
        true
    }
}

impl ReadAt for PipeAt {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let mut state = self.state.borrow_mut();
        let need = buf.len() as u64;
        let end = offset.saturating_add(need);
        state.read_to(end, self.limit).map_err(|error| Error::Io {
            at: offset,
            len: buf.len(),
            errno: error.raw_os_error().unwrap_or(0),
        })?;
        if state.done < end {
            return Err(Error::Truncated {
                what: "the pipe",
                at: At::File(offset),
                need,
                have: state.done.saturating_sub(offset),
            });
        }
        let (mut at, mut rest) = (offset, buf);
        while !rest.is_empty() {
            let inside = (at % BLOCK as u64) as usize;
            let len = (BLOCK - inside).min(rest.len());
            let (now, later) = rest.split_at_mut(len);
            if !state.copy(at / BLOCK as u64, inside, now) {
                return Err(Error::Limit {
                    what: "what must be kept of the pipe (save the dump to a file, or see --pipe-memory)",
                    value: state.done,
                    max: self.limit,
                });
            }
            at += len as u64;
            rest = later;
        }
        Ok(())
    }

    fn len(&self) -> Option<u64> {
        let state = self.state.borrow();
        state.ended.then_some(state.done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::OwnedFd;

    /// A pipe through which `blocks` blocks come; block `n` is full of `n`.
    fn pipe(blocks: u8) -> File {
        let (reader, mut writer) = io::pipe().unwrap();
        std::thread::spawn(move || {
            for n in 0..blocks {
                if writer.write_all(&[n; BLOCK]).is_err() {
                    return;
                }
            }
        });
        File::from(OwnedFd::from(reader))
    }

    #[test]
    fn the_first_half_and_the_last_of_the_rest_can_be_read_back() {
        let at = PipeAt::new(pipe(40), Some(8 * BLOCK as u64));
        let mut buf = [0; 4];
        at.read_at(30 * BLOCK as u64 - 2, &mut buf).unwrap();
        assert_eq!(buf, [29, 29, 30, 30]);
        assert_eq!(at.len(), None);
        for (block, there) in [
            (0, true),
            (4, true),
            (5, false),
            (26, false),
            (27, true),
            (30, true),
        ] {
            let read = at.read_at(block * BLOCK as u64 + 1, &mut buf);
            assert_eq!(read.is_ok(), there, "block {block}");
            assert!(!there || buf == [block as u8; 4], "block {block}");
        }
        let beyond = at.read_at(40 * BLOCK as u64 - 1, &mut buf);
        assert!(matches!(beyond, Err(Error::Truncated { have: 1, .. })));
        assert_eq!(at.len(), Some(40 * BLOCK as u64));
    }

    #[test]
    fn no_more_is_read_than_needed() {
        let at = PipeAt::new(pipe(255), None);
        at.read_at(0, &mut [0; 100]).unwrap();
        assert_eq!(at.state.borrow().done, BLOCK as u64);
    }
}
