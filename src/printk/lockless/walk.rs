//! A pass over the ring: from ids to records, one at a time.

use super::super::hole::Hole;
use super::super::{Caller, Entry, LOG_CONT, Lost, LostKind, Record, flags_and_level, until_nul};
use super::{COMMITTED, FAILED_LPOS, FINALIZED, NO_LPOS, RESERVED, Ring};
use crate::bytes::{index, wide};
use crate::error::{At, Error, Result};
use crate::kernel::{Kernel, Window};
use crate::limits;

/// A pass over the ring.
pub struct Walk<'k> {
    ring: Ring,
    descs: Window<'k>,
    infos: Window<'k>,
    data: Window<'k>,
    /// Ids that have been looked at.
    done: u64,
    /// Ids that follow whose descriptors are known to be unreadable, and why.
    unreadable: Option<(u64, Error)>,
    hole: Hole,
}

impl Ring {
    pub(in crate::printk) fn entries<'k>(&self, kernel: &'k Kernel<'k>) -> Walk<'k> {
        let infos_len = self.count().saturating_mul(wide(self.layout.info));
        Walk {
            ring: *self,
            descs: self.descs(kernel),
            infos: Window::new(kernel, self.infos, infos_len),
            data: Window::new(kernel, self.data, self.text_size()),
            done: 0,
            unreadable: None,
            hole: Hole::default(),
        }
    }

    /// How many of the newest records hold together under these sizes.
    pub(super) fn sound_records(&self, kernel: &Kernel<'_>) -> u32 {
        /// Records that are looked at.
        const SAMPLE: u64 = 64;
        let mut walk = self.entries(kernel);
        walk.done = self.span.count.saturating_sub(SAMPLE);
        let mut sound = 0_u32;
        while let Some(entry) = walk.next() {
            sound = sound.saturating_add(u32::from(matches!(entry, Entry::Record(_))));
        }
        sound
    }

    /// True unless the number of `record` shows that its info is not that of `id`.
    fn is_of_slot(&self, record: &Record<'_>, id: u64) -> bool {
        let seq_slot = record.seq.map(|seq| self.slot(seq));
        !self.seq_in_step || seq_slot.is_none_or(|slot| slot == self.slot(id))
    }
}

/// What the slot of an id holds.
enum Slot {
    /// Its descriptor.
    Taken(Desc),
    /// A descriptor that was recycled, or never was.
    Free,
    /// Something else, where its descriptor must be.
    Other(u64),
}

/// A descriptor of the wanted generation.
struct Desc {
    state: u64,
    begin: u64,
    next: u64,
}

/// Where the text of a block is.
struct Block {
    start: u64,
    len: u64,
}

impl Walk<'_> {
    pub(in crate::printk) fn next(&mut self) -> Option<Entry<'_>> {
        let mask = self.ring.id_mask();
        while self.done < self.ring.span.count {
            let id = self.ring.span.first.wrapping_add(self.done) & mask;
            self.done = self.done.saturating_add(1);
            if let Some((count, why)) = self.unreadable.filter(|&(count, _)| count != 0) {
                self.unreadable = Some((count.saturating_sub(1), why));
                return Some(Entry::damaged(id, why));
            }
            let desc = self.desc(id);
            if desc.is_ok() {
                self.hole = Hole::default();
            }
            match desc {
                Ok(Slot::Free) => {}
                Ok(Slot::Taken(desc)) => return Some(self.entry(id, &desc)),
                Ok(Slot::Other(state_var)) => return Some(self.other(id, state_var)),
                Err(why) => {
                    let hole = self.ring.rest_of_hole(id, &mut self.hole);
                    let others = hole.saturating_sub(1);
                    if self.ring.span.exact {
                        self.unreadable = Some((others, why));
                    } else {
                        // Nobody knows whether there are records in the hole: it counts as one.
                        self.done = self.done.saturating_add(others);
                    }
                    return Some(Entry::damaged(id, why));
                }
            }
        }
        None
    }

    /// Tells what another id means in the slot of one that must have had it.
    fn other(&self, id: u64, state_var: u64) -> Entry<'static> {
        /// CPUs that may have been between taking an id and writing its descriptor.
        const WRITERS: u64 = 64;
        let (_, found) = self.ring.state_and_id(state_var);
        let before = id.wrapping_sub(self.ring.count()) & self.ring.id_mask();
        let to_head = self.ring.span.count.saturating_sub(self.done);
        if to_head < WRITERS && (found == before || state_var == 0) {
            return Entry::Lost(LostKind::Unfinished { id }.with(&[]));
        }
        let offset = self
            .ring
            .slot(id)
            .saturating_mul(wide(self.ring.layout.desc));
        Entry::damaged(
            id,
            Error::Invalid {
                what: "prb_desc.state_var",
                at: At::Virt(self.ring.descs.wrapping_add(offset)),
                value: state_var,
                why: "not the id of this descriptor",
            },
        )
    }

    /// What the slot of `id` holds.
    fn desc(&mut self, id: u64) -> Result<Slot> {
        let layout = &self.ring.layout;
        let word = |raw: &[u8], offset| {
            self.ring
                .endian
                .word(self.ring.word, raw, offset)
                .ok_or(Error::Missing { key: "prb_desc" })
        };
        let raw = self.descs.get(
            self.ring.slot(id).saturating_mul(wide(layout.desc)),
            layout.desc,
        )?;
        let state_var = word(raw, layout.state_var)?;
        let (state, found) = self.ring.state_and_id(state_var);
        if found != id && self.ring.span.exact {
            return Ok(Slot::Other(state_var));
        }
        if found != id || !matches!(state, RESERVED | COMMITTED | FINALIZED) {
            return Ok(Slot::Free);
        }
        Ok(Slot::Taken(Desc {
            state,
            begin: word(raw, layout.begin)?,
            next: word(raw, layout.next)?,
        }))
    }

    fn entry(&mut self, id: u64, desc: &Desc) -> Entry<'_> {
        if desc.state == RESERVED {
            return self.unfinished(id, desc);
        }
        let block = match self.block(id, desc) {
            Ok(Some(block)) => block,
            Ok(None) if desc.begin == NO_LPOS => Block { start: 0, len: 0 },
            Ok(None) => {
                return Entry::Lost(LostKind::Dropped { id }.with(&[]));
            }
            Err(why) => return Entry::damaged(id, why),
        };
        let layout = &self.ring.layout;
        let raw = match self.infos.get(
            self.ring.slot(id).saturating_mul(wide(layout.info)),
            layout.info,
        ) {
            Ok(raw) => raw,
            Err(why) => {
                let text = self
                    .data
                    .get(block.start, index(block.len))
                    .unwrap_or_default();
                return Entry::Lost(LostKind::Damaged { id, why }.with(until_nul(text)));
            }
        };
        let mut record = self.ring.info(raw);
        let text_len = self
            .ring
            .endian
            .u16(raw, layout.text_len)
            .map_or(0, u64::from);
        let text_len = if self.ring.is_of_slot(&record, id) {
            text_len
        } else {
            u64::MAX
        };
        let text = match self.data.get(block.start, index(text_len.min(block.len))) {
            Ok(text) => text,
            Err(why) => return Entry::damaged(id, why),
        };
        if text_len == u64::MAX {
            let offset = self.ring.slot(id).saturating_mul(wide(layout.info));
            let why = Error::Invalid {
                what: "printk_info.seq",
                at: At::Virt(self.ring.infos.wrapping_add(offset)),
                value: record.seq.unwrap_or_default(),
                why: "not the number of this record",
            };
            return Entry::Lost(LostKind::Damaged { id, why }.with(until_nul(text)));
        }
        record.text = text;
        Entry::Record(record)
    }

    /// Where the text of a block is, `None` when there is no block.
    fn block(&mut self, id: u64, desc: &Desc) -> Result<Option<Block>> {
        let ring = &self.ring;
        let id_len = wide(ring.word.size());
        if desc.begin & 1 == 1 && desc.next & 1 == 1 {
            return match desc.begin {
                FAILED_LPOS | NO_LPOS => Ok(None),
                value => Err(Error::Invalid {
                    what: "prb_data_blk_lpos.begin",
                    at: At::Virt(ring.descs),
                    value,
                    why: "an odd position of no meaning",
                }),
            };
        }
        let size = ring.text_size();
        // Since Linux kernel commit 67e1b0052f6b ("printk_ringbuffer: don't needlessly wrap data blocks around"), a
        // block may end exactly at the end of the ring, so that `next` has index 0. Comparing indexes would call this
        // block wrapped and read its text from the start of the ring; what counts is the lap of its last byte.
        let last = ring.word.wrap(desc.next.wrapping_sub(1));
        let wraps = desc.begin >> ring.size_bits != last >> ring.size_bits;
        let room = ring.word.wrap(desc.next.wrapping_sub(desc.begin));
        let (start, len) = if wraps {
            (0, desc.next & size.wrapping_sub(1))
        } else {
            (desc.begin & size.wrapping_sub(1), room)
        };
        let aligned = (desc.begin | desc.next) & id_len.wrapping_sub(1) == 0;
        // The unused rest of a lap counts for the block that wrapped, so that may take up to twice the ring.
        if !aligned || len < id_len || len > size || room > size.saturating_mul(2) {
            return Err(Error::Invalid {
                what: "prb_data_blk_lpos.next",
                at: At::Virt(ring.descs),
                value: desc.next,
                why: "not the end of a block",
            });
        }
        let raw = self.data.get(start, ring.word.size())?;
        let found = ring.endian.word(ring.word, raw, 0).unwrap_or_default();
        if found != id {
            return Err(Error::Invalid {
                what: "prb_data_block.id",
                at: At::Virt(ring.data.wrapping_add(start)),
                value: found,
                why: "the id of another record: the text was overwritten",
            });
        }
        Ok(Some(Block {
            start: start.wrapping_add(id_len),
            // A damaged position must not make a buffer of the whole ring.
            len: len.wrapping_sub(id_len).min(limits::RECORD_LEN),
        }))
    }

    /// What a CPU had written of a record when the machine died.
    fn unfinished(&mut self, id: u64, desc: &Desc) -> Entry<'_> {
        let what = LostKind::Unfinished { id };
        let Ok(Some(block)) = self.block(id, desc) else {
            return Entry::Lost(what.with(&[]));
        };
        let ring = &self.ring;
        let at = ring.slot(id).saturating_mul(wide(ring.layout.info));
        let info = self.infos.get(at, ring.layout.info).unwrap_or_default();
        let text = self.data.get(block.start, index(block.len));
        let text = text.unwrap_or_default();
        let printable = |&byte: &u8| byte >= b' ' || byte == b'\t' || byte == b'\n';
        let end = text.iter().position(|byte| !printable(byte));
        let salvage = text.get(..end.unwrap_or(text.len())).unwrap_or_default();
        // The length is cleared with the reservation, set when the text is whole, and stays while a line is continued.
        let len = ring.endian.u16(info, ring.layout.text_len).unwrap_or(0);
        let begun = Some(ring.info(info))
            .filter(|record| len != 0 && ring.is_of_slot(record, id))
            .and_then(|record| {
                let text = salvage.get(..usize::from(len))?;
                Some(Record { text, ..record })
            });
        let lost = what.with(salvage);
        Entry::Lost(Lost { begun, ..lost })
    }
}

impl Ring {
    /// Everything that a `printk_info` says of its record.
    fn info<'a>(&self, raw: &'a [u8]) -> Record<'a> {
        let layout = &self.layout;
        let string = |offset: usize, len: usize| {
            raw.get(offset..offset.saturating_add(len))
                .map(until_nul)
                .unwrap_or_default()
        };
        let facility = layout.facility();
        let byte = |offset: Option<usize>| raw.get(offset?).copied();
        let flags_level = byte(facility.map(|offset| offset.wrapping_add(1)));
        let (flags, level) = flags_level
            .map(|byte| flags_and_level(self.endian, byte))
            .unzip();
        Record {
            seq: self.endian.u64(raw, layout.seq),
            ts_ns: self.endian.u64(raw, layout.ts_nsec),
            level,
            facility: byte(facility).map(u16::from),
            continues: flags.is_some_and(|flags| flags & LOG_CONT != 0),
            caller: self.endian.u32(raw, layout.caller_id).map(Caller::from_id),
            text: &[],
            subsystem: string(layout.subsystem, layout.subsystem_len),
            device: string(layout.device, layout.device_len),
        }
    }
}
