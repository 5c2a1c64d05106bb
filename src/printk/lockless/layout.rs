//! Where the members of the ring's structures are, as VMCOREINFO tells.

use crate::bytes::index;
use crate::error::{Error, Result};
use crate::limits;
use crate::vmcoreinfo::VmcoreInfo;

/// Sizes and offsets of the structures that are read for each record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) desc: usize,
    pub(super) state_var: usize,
    pub(super) begin: usize,
    pub(super) next: usize,
    pub(super) info: usize,
    pub(super) seq: usize,
    pub(super) ts_nsec: usize,
    pub(super) text_len: usize,
    pub(super) caller_id: usize,
    pub(super) subsystem: usize,
    pub(super) subsystem_len: usize,
    pub(super) device: usize,
    pub(super) device_len: usize,
}

impl Layout {
    pub(super) fn new(info: &VmcoreInfo) -> Result<Self> {
        let lpos = info.offset("prb_desc.text_blk_lpos")?;
        let dev_info = info.offset("printk_info.dev_info")?;
        let counter = info.offset("atomic_long_t.counter").unwrap_or(0);
        let at = |base: u64, offset: u64| index(base.saturating_add(offset));
        Ok(Layout {
            desc: structure(info, "prb_desc")?,
            state_var: at(info.offset("prb_desc.state_var")?, counter),
            begin: at(lpos, info.offset("prb_data_blk_lpos.begin")?),
            next: at(lpos, info.offset("prb_data_blk_lpos.next")?),
            info: structure(info, "printk_info")?,
            seq: index(info.offset("printk_info.seq")?),
            ts_nsec: index(info.offset("printk_info.ts_nsec")?),
            text_len: index(info.offset("printk_info.text_len")?),
            caller_id: index(info.offset("printk_info.caller_id")?),
            subsystem: at(dev_info, info.offset("dev_printk_info.subsystem")?),
            subsystem_len: index(info.length("printk_info_subsystem").unwrap_or(0)),
            device: at(dev_info, info.offset("dev_printk_info.device")?),
            device_len: index(info.length("printk_info_device").unwrap_or(0)),
        })
    }

    /// Offset of `facility`, and one behind it of the byte with flags and level. VMCOREINFO does not export them, but
    /// they fill the gap between `text_len` and `caller_id` in every kernel so far.
    pub(super) fn facility(&self) -> Option<usize> {
        let behind = self.text_len.checked_add(4)?;
        (self.caller_id == behind).then(|| behind.wrapping_sub(2))
    }
}

/// `SIZE(name)`, bounded.
fn structure(info: &VmcoreInfo, name: &'static str) -> Result<usize> {
    let value = info.size(name)?;
    if value == 0 || value > limits::STRUCT_LEN {
        return Err(Error::Limit {
            what: name,
            value,
            max: limits::STRUCT_LEN,
        });
    }
    Ok(index(value))
}
