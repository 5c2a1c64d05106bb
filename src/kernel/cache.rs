//! A few pages of physical memory, so that reading a structure field by field costs one read of the dump.
//!
//! Direct mapped: page `n` can only be in slot `n mod slots`. A page that cannot be read whole (the edge of a segment)
//! is not cached; the bytes that were wanted are then read alone.

use alloc::vec;
use alloc::vec::Vec;

use crate::addr::PhysAddr;
use crate::bytes::{index, wide};
use crate::dump::PhysMem;
use crate::error::Result;
use crate::limits::PAGE;

/// The cache.
pub(super) struct PageCache {
    slots: Vec<Slot>,
}

#[derive(Clone, Default)]
struct Slot {
    page: Option<u64>,
    data: Vec<u8>,
}

impl PageCache {
    pub(super) fn new(slots: usize) -> Self {
        PageCache {
            slots: vec![Slot::default(); slots],
        }
    }

    /// Fills `buf` from `addr` of `mem`; a page or more is read past the cache.
    pub(super) fn read(&mut self, mem: &dyn PhysMem, addr: PhysAddr, buf: &mut [u8]) -> Result<()> {
        if wide(buf.len()) >= PAGE {
            return mem.read_phys(addr, buf);
        }
        let mut at = addr;
        let mut rest = buf;
        while !rest.is_empty() {
            let inside = at.0 & PAGE.wrapping_sub(1);
            let len = index(PAGE.saturating_sub(inside)).min(rest.len());
            let (now, later) = rest.split_at_mut(len);
            self.read_in_page(mem, at, index(inside), now)?;
            at = at.wrapping_add(wide(now.len()));
            rest = later;
        }
        Ok(())
    }

    fn read_in_page(
        &mut self,
        mem: &dyn PhysMem,
        at: PhysAddr,
        inside: usize,
        buf: &mut [u8],
    ) -> Result<()> {
        let page = at.0 & !PAGE.wrapping_sub(1);
        let number = (page / PAGE)
            .checked_rem(wide(self.slots.len()))
            .unwrap_or_default();
        let Some(slot) = self.slots.get_mut(index(number)) else {
            return mem.read_phys(at, buf);
        };
        if slot.page != Some(page) {
            slot.page = None;
            slot.data.resize(index(PAGE), 0);
            if mem.read_phys(PhysAddr(page), &mut slot.data).is_err() {
                return mem.read_phys(at, buf);
            }
            slot.page = Some(page);
        }
        let end = inside.saturating_add(buf.len());
        buf.copy_from_slice(slot.data.get(inside..end).unwrap_or_default());
        Ok(())
    }
}
