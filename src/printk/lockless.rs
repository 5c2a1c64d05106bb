//! The lockless ring of Linux 5.10 and later: `struct printk_ringbuffer`, `kernel/printk/printk_ringbuffer.{h,c}`.
//!
//! ```text
//! prb -> printk_ringbuffer -> desc_ring:      descs[1 << count_bits], infos[1 << count_bits], tail_id ..= head_id
//!                          -> text_data_ring: data[1 << size_bits], blocks of | id (one word) | text ... | padding |
//! ```
//!
//! A descriptor has an id and a state in one word, and the logical positions (lpos: free-running, the low `size_bits`
//! are the index) where its block begins and where the next one does. Id `n` lives in slot `n mod count`; a slot whose
//! id is another belongs to another generation. Ids are no sequence numbers: those stand in `printk_info.seq`.
//!
//! Which ids are alive is told by `tail_id` and `head_id`. When these are damaged the generation of the ids found in
//! the slots tells it as well; see [`Span::from_slots`].

use super::hole::Hole;
use super::{Caller, Entry, LOG_CONT, Lost, LostKind, Record, flags_and_level, until_nul};
use crate::addr::VirtAddr;
use crate::bytes::{Endian, Word, index, wide};
use crate::error::{At, Error, Result};
use crate::kernel::{Kernel, Window};
use crate::limits;
use crate::vmcoreinfo::VmcoreInfo;

/// States of a descriptor, the two top bits of `state_var`.
const RESERVED: u64 = 0;
const COMMITTED: u64 = 1;
const FINALIZED: u64 = 2;

/// Both positions of a block that was never stored since there was no room for it (`FAILED_LPOS`).
const FAILED_LPOS: u64 = 1;
/// Both positions of a record without text (`EMPTY_LINE_LPOS`, `NO_LPOS` before 6.x).
const NO_LPOS: u64 = 3;

/// Where the ring is and how it is laid out.
#[derive(Clone, Copy, Debug)]
pub struct Ring {
    layout: Layout,
    endian: Endian,
    word: Word,
    count_bits: u32,
    size_bits: u32,
    descs: VirtAddr,
    infos: VirtAddr,
    data: VirtAddr,
    span: Span,
    /// True when the numbers of records stand in step with the slots, as in all kernels so far.
    seq_in_step: bool,
}

/// The ids that are alive: `count` of them from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    first: u64,
    count: u64,
    /// True when tail and head told it, so that each of these ids has its descriptor; else some may never have been.
    exact: bool,
}

/// Sizes and offsets of the structures that are read for each record.
#[derive(Clone, Copy, Debug)]
struct Layout {
    desc: usize,
    state_var: usize,
    begin: usize,
    next: usize,
    info: usize,
    seq: usize,
    ts_nsec: usize,
    text_len: usize,
    caller_id: usize,
    subsystem: usize,
    subsystem_len: usize,
    device: usize,
    device_len: usize,
}

impl Layout {
    fn new(info: &VmcoreInfo) -> Result<Self> {
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
    fn facility(&self) -> Option<usize> {
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

impl Ring {
    /// Reads the ring that `prb` points to, or the static one when that pointer or what it points to is damaged.
    pub(super) fn locate(kernel: &Kernel<'_>) -> Result<Self> {
        let info = kernel.info();
        let current = info
            .symbol("prb")
            .and_then(|prb| kernel.read_ptr(prb, "prb"));
        current
            .and_then(|ring| Self::at(kernel, ring))
            .or_else(|error| {
                let fallback = info.symbol("printk_rb_static").map_err(|_| error)?;
                Self::at(kernel, fallback).map_err(|_| error)
            })
    }

    fn at(kernel: &Kernel<'_>, ring: VirtAddr) -> Result<Self> {
        let info = kernel.info();
        let field = |parts: &[&'static str]| {
            let offsets = parts.iter().map(|&part| info.offset(part));
            offsets
                .sum::<Result<u64>>()
                .map(|offset| ring.wrapping_add(offset))
        };
        let count_bits_at = field(&["printk_ringbuffer.desc_ring", "prb_desc_ring.count_bits"])?;
        let size_bits_at = field(&[
            "printk_ringbuffer.text_data_ring",
            "prb_data_ring.size_bits",
        ])?;
        let pointer = |parts: &[&'static str], what| kernel.read_ptr(field(parts)?, what);
        let descs = pointer(
            &["printk_ringbuffer.desc_ring", "prb_desc_ring.descs"],
            "prb_desc_ring.descs",
        )?;
        let infos = pointer(
            &["printk_ringbuffer.desc_ring", "prb_desc_ring.infos"],
            "prb_desc_ring.infos",
        )?;
        let data = pointer(
            &["printk_ringbuffer.text_data_ring", "prb_data_ring.data"],
            "prb_data_ring.data",
        )?;
        let count_bits = kernel.read_u32(count_bits_at)?;
        let size_bits = kernel.read_u32(size_bits_at)?;
        let counter = info.offset("atomic_long_t.counter").unwrap_or(0);
        let id = |name| -> Result<u64> {
            let at = field(&["printk_ringbuffer.desc_ring", name])?;
            kernel.read_word(at.wrapping_add(counter))
        };
        let (tail, head) = (id("prb_desc_ring.tail_id")?, id("prb_desc_ring.head_id")?);
        let layout = Layout::new(info)?;
        let of_sizes = |(count_bits, size_bits)| {
            let mut ring = Ring {
                layout,
                endian: kernel.endian(),
                word: kernel.word_size(),
                count_bits,
                size_bits,
                descs,
                infos,
                data,
                span: Span {
                    first: 0,
                    count: 0,
                    exact: false,
                },
                seq_in_step: false,
            };
            let mask = ring.id_mask();
            ring.span = ring.span(kernel, tail & mask, head & mask);
            ring.seq_in_step = ring.seq_in_step(kernel);
            ring
        };
        match sizes((count_bits, count_bits_at), (size_bits, size_bits_at))? {
            [Some(only), None, None] => Ok(of_sizes(only)),
            several => {
                let rings = several.into_iter().flatten().map(of_sizes);
                // Of equals the last is taken, hence from the least likely on.
                let best = rings.rev().max_by_key(|ring| ring.sound_records(kernel));
                best.ok_or(Error::Missing { key: "prb" })
            }
        }
    }

    /// How many of the newest records hold together under these sizes.
    fn sound_records(&self, kernel: &Kernel<'_>) -> u32 {
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

    /// Bytes of text the ring can hold.
    pub(super) fn text_size(&self) -> u64 {
        1 << self.size_bits
    }

    fn count(&self) -> u64 {
        1 << self.count_bits
    }

    fn id_mask(&self) -> u64 {
        u64::MAX >> 66_u32.saturating_sub(self.word.bits())
    }

    fn slot(&self, id: u64) -> u64 {
        id & self.count().wrapping_sub(1)
    }

    fn state_and_id(&self, state_var: u64) -> (u64, u64) {
        (
            state_var >> self.word.bits().saturating_sub(2),
            state_var & self.id_mask(),
        )
    }

    fn descs<'k>(&self, kernel: &'k Kernel<'k>) -> Window<'k> {
        Window::new(
            kernel,
            self.descs,
            self.count().saturating_mul(wide(self.layout.desc)),
        )
    }

    /// The `state_var` of the slot that `id` lives in.
    fn state_var(&self, descs: &mut Window<'_>, id: u64) -> Result<u64> {
        let offset = self.slot(id).saturating_mul(wide(self.layout.desc));
        let raw = descs.get(offset, self.layout.desc)?;
        self.endian
            .word(self.word, raw, self.layout.state_var)
            .ok_or(Error::Missing {
                key: "prb_desc.state_var",
            })
    }

    /// The ids that are alive, from `tail` and `head` if the descriptors bear them out.
    fn span(&self, kernel: &Kernel<'_>, tail: u64, head: u64) -> Span {
        // A few descriptors far apart: read alone, not through a window.
        let holds = |id: u64| {
            let offset = self.slot(id).saturating_mul(wide(self.layout.desc));
            let at = self
                .descs
                .wrapping_add(offset.saturating_add(wide(self.layout.state_var)));
            let (state, found) = self.state_and_id(kernel.read_word(at).ok()?);
            Some((found == id, state))
        };
        let mask = self.id_mask();
        let full = self.count();
        let live = head.wrapping_sub(tail) & mask;
        // A descriptor that cannot be read neither confirms nor refutes anything.
        let before = tail.wrapping_sub(1) & mask;
        let after = head.wrapping_add(1) & mask;
        let older = live < full.wrapping_sub(1)
            && matches!(holds(before), Some((true, COMMITTED | FINALIZED)));
        let newer = matches!(holds(after), Some((true, COMMITTED | FINALIZED)));
        // A CPU that dies in desc_reserve() leaves the newest descriptor with its old id.
        let known = holds(head).is_none_or(|(same, _)| same)
            || matches!(holds(head.wrapping_sub(1) & mask), Some((true, _)));
        if live < full && known && !newer {
            let tail_is_good = holds(tail).is_none_or(|(same, _)| same) && !older;
            // Unseen, both may be wrong, and then a wrong million of records would be told of.
            let is_seen = holds(tail).or_else(|| holds(head)).is_some() || live < 1 << 16;
            let first = if tail_is_good {
                tail
            } else {
                after.wrapping_sub(full) & mask
            };
            return Span {
                first,
                count: (after.wrapping_sub(first)) & mask,
                exact: tail_is_good && is_seen,
            };
        }
        Span::from_slots(self, kernel).unwrap_or(Span {
            first: tail,
            count: full,
            exact: false,
        })
    }

    pub(super) fn entries<'k>(&self, kernel: &'k Kernel<'k>) -> Walk<'k> {
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
}

impl Span {
    /// Finds the ids that are alive by looking at every slot: the slots up to that of the newest id hold one generation
    /// (`id / count`), the ones behind it the generation before. The pair of neighbouring generations that most slots
    /// belong to wins, so that a few damaged ids do not matter.
    fn from_slots(ring: &Ring, kernel: &Kernel<'_>) -> Option<Self> {
        /// Candidates for the newest generation that are counted; damage rarely repeats itself.
        const CANDIDATES: usize = 32;
        let mut found: [(u64, u64); CANDIDATES] = [(0, 0); CANDIDATES];
        let generations = ring.id_mask() >> ring.count_bits;
        ring.for_each_slot(kernel, |_, id| {
            let generation = id >> ring.count_bits;
            let known = found
                .iter_mut()
                .find(|entry| entry.1 == 0 || entry.0 == generation);
            if let Some(entry) = known {
                *entry = (generation, entry.1.saturating_add(1));
            }
        });
        let votes = |generation: u64| {
            found
                .iter()
                .find(|entry| entry.0 == generation)
                .map_or(0, |entry| entry.1)
        };
        let candidates = found.iter().filter(|entry| entry.1 != 0);
        let (newest, _) = candidates.max_by_key(|entry| {
            entry
                .1
                .saturating_add(votes(entry.0.wrapping_sub(1) & generations))
        })?;
        let mut head = 0;
        ring.for_each_slot(kernel, |_, id| {
            if id >> ring.count_bits == *newest {
                head = id;
            }
        });
        let first = head.wrapping_add(1).wrapping_sub(ring.count()) & ring.id_mask();
        Some(Span {
            first,
            count: ring.count(),
            exact: false,
        })
    }
}

impl Ring {
    /// Calls `each` with slot and id of every descriptor that holds a finished record in the slot of its id.
    fn for_each_slot(&self, kernel: &Kernel<'_>, mut each: impl FnMut(u64, u64)) {
        let mut descs = self.descs(kernel);
        let mut hole = Hole::default();
        let mut slot = 0;
        while slot < self.count() {
            let step = match self.state_var(&mut descs, slot) {
                Ok(state_var) => {
                    let (state, id) = self.state_and_id(state_var);
                    if matches!(state, COMMITTED | FINALIZED) && self.slot(id) == slot {
                        each(slot, id);
                    }
                    hole = Hole::default();
                    1
                }
                Err(_) => self.rest_of_hole(slot, &mut hole),
            };
            slot = slot.saturating_add(step);
        }
    }

    /// Looks whether the newest infos have numbers that go with their slots: slot `n` is used by the records
    /// `n + count * lap`. A page that reads as zeros, or random bytes, then show.
    fn seq_in_step(&self, kernel: &Kernel<'_>) -> bool {
        /// Infos that are looked at; one that goes with its slot is enough.
        const SAMPLE: u64 = 16;
        let newest = self.span.first.wrapping_add(self.span.count);
        (1..=SAMPLE.min(self.span.count)).any(|back| {
            let slot = self.slot(newest.wrapping_sub(back));
            let offset = slot.saturating_mul(wide(self.layout.info));
            let at = self
                .infos
                .wrapping_add(offset.saturating_add(wide(self.layout.seq)));
            kernel
                .read_u64(at)
                .is_ok_and(|seq| seq != 0 && self.slot(seq) == slot)
        })
    }

    /// True unless the number of `record` shows that its info is not that of `id`.
    fn is_of_slot(&self, record: &Record<'_>, id: u64) -> bool {
        let seq_slot = record.seq.map(|seq| self.slot(seq));
        !self.seq_in_step || seq_slot.is_none_or(|slot| slot == self.slot(id))
    }

    /// How many descriptors start in the page in which that of `id` starts, itself and the ones behind it: when it
    /// cannot be read, neither can they. More than that in a wide hole.
    fn rest_of_hole(&self, id: u64, hole: &mut Hole) -> u64 {
        let slot = self.slot(id);
        let len = wide(self.layout.desc).max(1);
        let at = self.descs.wrapping_add(slot.saturating_mul(len));
        let room = limits::PAGE.saturating_sub(at.0 & limits::PAGE.saturating_sub(1));
        let more = hole.step().saturating_sub(1);
        let room = room.saturating_add(more.saturating_mul(limits::PAGE));
        let to_end = self.count().saturating_sub(slot);
        room.div_ceil(len).min(to_end).max(1)
    }
}

/// The sizes that the two rings may have, the likeliest first. The kernel makes `size_bits` five more than `count_bits`
/// (`PRB_AVGBITS`), so either may be told by the other; one answer alone is certain.
fn sizes(count: (u32, VirtAddr), size: (u32, VirtAddr)) -> Result<[Option<(u32, u32)>; 3]> {
    const AVERAGE_BITS: u32 = 5;
    let count_is_good = (1..=limits::PRB_COUNT_BITS).contains(&count.0);
    let size_is_good = (4..=limits::PRB_SIZE_BITS).contains(&size.0);
    let as_told = (count.0, size.0);
    let by_count = (count.0, count.0.saturating_add(AVERAGE_BITS));
    let by_size = (size.0.saturating_sub(AVERAGE_BITS).max(1), size.0);
    match (count_is_good, size_is_good) {
        (true, true) if as_told == by_count => Ok([Some(as_told), None, None]),
        (true, true) => Ok([Some(as_told), Some(by_count), Some(by_size)]),
        (true, false) => Ok([Some(by_count), None, None]),
        (false, true) => Ok([Some(by_size), None, None]),
        (false, false) => Err(Error::Invalid {
            what: "prb_desc_ring.count_bits",
            at: At::Virt(count.1),
            value: u64::from(count.0),
            why: "no size of a ring, nor is prb_data_ring.size_bits",
        }),
    }
}

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
    pub(super) fn next(&mut self) -> Option<Entry<'_>> {
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
            return Entry::Lost(Lost {
                what: LostKind::Unfinished { id },
                salvage: &[],
            });
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
            let what = LostKind::Unfinished { id };
            return Entry::Lost(Lost {
                what,
                salvage: self.salvage(id, desc),
            });
        }
        let block = match self.block(id, desc) {
            Ok(Some(block)) => block,
            Ok(None) if desc.begin == NO_LPOS => Block { start: 0, len: 0 },
            Ok(None) => {
                return Entry::Lost(Lost {
                    what: LostKind::Dropped { id },
                    salvage: &[],
                });
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
                return Entry::Lost(Lost {
                    what: LostKind::Damaged { id, why },
                    salvage: until_nul(text),
                });
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
            return Entry::Lost(Lost {
                what: LostKind::Damaged { id, why },
                salvage: until_nul(text),
            });
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
            len: len.wrapping_sub(id_len),
        }))
    }

    /// What a CPU had written of a record when the machine died.
    fn salvage(&mut self, id: u64, desc: &Desc) -> &[u8] {
        let Ok(Some(block)) = self.block(id, desc) else {
            return &[];
        };
        let text = self
            .data
            .get(block.start, index(block.len))
            .unwrap_or_default();
        let printable = |&byte: &u8| byte >= b' ' || byte == b'\t' || byte == b'\n';
        let end = text
            .iter()
            .position(|byte| !printable(byte))
            .unwrap_or(text.len());
        text.get(..end).unwrap_or_default()
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
