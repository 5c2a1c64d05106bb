//! A window that slides over an array of the crashed kernel, so that a pass over it costs few reads and one buffer.

use alloc::vec::Vec;

use super::Kernel;
use crate::addr::VirtAddr;
use crate::bytes::{index, wide};
use crate::error::{Error, Result};
use crate::limits;

/// Reads an array of the crashed kernel in pieces of [`limits::WINDOW_LEN`] bytes, best in rising order.
pub struct Window<'k> {
    kernel: &'k Kernel<'k>,
    start: VirtAddr,
    len: u64,
    buf: Vec<u8>,
    /// Where in the array `buf` starts.
    at: u64,
}

impl<'k> Window<'k> {
    /// A window over the `len` bytes at `start`.
    pub fn new(kernel: &'k Kernel<'k>, start: VirtAddr, len: u64) -> Self {
        Window {
            kernel,
            start,
            len,
            buf: Vec::new(),
            at: 0,
        }
    }

    /// The `len` bytes at `offset` of the array.
    ///
    /// # Errors
    /// `Limit` when they are not all inside the array, else what reading the dump gave. What is missing does not
    /// spoil its neighbours: after a failed read ahead, only what was asked for is read.
    pub fn get(&mut self, offset: u64, len: usize) -> Result<&[u8]> {
        let end = offset.saturating_add(wide(len));
        if end > self.len {
            return Err(Error::Limit {
                what: "an offset into an array",
                value: end,
                max: self.len,
            });
        }
        let inside = offset.checked_sub(self.at).map(index);
        let hit = inside.filter(|inside| inside.saturating_add(len) <= self.buf.len());
        let inside = match hit {
            Some(inside) => inside,
            None => {
                self.fill(offset, len)?;
                0
            }
        };
        Ok(self
            .buf
            .get(inside..inside.saturating_add(len))
            .unwrap_or_default())
    }

    fn fill(&mut self, offset: u64, len: usize) -> Result<()> {
        let addr = self.start.wrapping_add(offset);
        let ahead = limits::WINDOW_LEN
            .min(self.len.saturating_sub(offset))
            .max(wide(len));
        self.at = offset;
        self.buf.resize(index(ahead), 0);
        if self.kernel.read_at(addr, &mut self.buf).is_ok() {
            return Ok(());
        }
        self.buf.resize(len, 0);
        let read = self.kernel.read_at(addr, &mut self.buf);
        if read.is_err() {
            self.buf.clear();
        }
        read
    }
}
