//! The writer of the lockless ring, kernels from 5.10: descriptors, infos beside them, and a ring of text blocks.
//!
//! ```text
//! descs[id % count]: state_var = state|id, begin, next      text ring: ... | id | text .. pad | id | text ... |
//! infos[id % count]: seq, ts_nsec, text_len, ...            lpos:          ^begin             ^next = begin of the next
//! ```
//!
//! This follows what one CPU at a time does: reserve, fill, commit, and extend the last record. Descriptors and blocks
//! are recycled from the tail as the kernel does, so that a wrapped ring comes out with the reusable descriptors,
//! relocated blocks and stale bytes of a real one.

use super::expect::Kept;
use super::{Machine, Message};

pub mod layout;
pub use layout::{Age, Layout};

/// `begin` and `next` of a record whose text did not fit.
pub const FAILED_LPOS: u64 = 1;
/// `begin` and `next` of a record without text.
pub const EMPTY_LINE_LPOS: u64 = 3;

/// The states of a descriptor.
pub const RESERVED: u64 = 0;
pub const COMMITTED: u64 = 1;
pub const FINALIZED: u64 = 2;
pub const REUSABLE: u64 = 3;

/// Which blocks are moved to the start of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndRule {
    /// Those that reach the end of the ring.
    Strict,
    /// Those that reach beyond it (Linux kernel commit 67e1b0052f6b).
    Exact,
}

/// A descriptor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Desc {
    pub state_var: u64,
    pub begin: u64,
    pub next: u64,
}

/// What stands beside a descriptor.
#[derive(Clone, Debug, Default)]
pub struct Info {
    pub seq: u64,
    pub text_len: u16,
    pub flags: u8,
    /// Whose `text` counts only for the simulation.
    pub message: Message,
}

/// `struct printk_ringbuffer` and all it points to. Everything is public: damage is done by writing to it.
#[derive(Clone)]
pub struct Ring {
    pub word_bits: u32,
    pub count_bits: u32,
    pub size_bits: u32,
    pub rule: EndRule,
    pub descs: Vec<Desc>,
    pub infos: Vec<Info>,
    pub data: Vec<u8>,
    pub head_id: u64,
    pub tail_id: u64,
    pub head_lpos: u64,
    pub tail_lpos: u64,
    pub fail: u64,
    pub machine: Machine,
}

/// Space for a record that is being written.
#[derive(Clone, Copy, Debug)]
pub struct Open {
    pub id: u64,
    /// False when the text did not fit: the record stays without.
    pub has_room: bool,
}

impl Ring {
    /// An empty ring as the kernel sets it up.
    pub fn new(machine: Machine, count_bits: u32, size_bits: u32, rule: EndRule) -> Self {
        let first = u64::from(((1_u32 << count_bits) + 1).wrapping_neg());
        Self::starting_at(
            machine,
            count_bits,
            size_bits,
            rule,
            first,
            (1_u64 << size_bits).wrapping_neg(),
        )
    }

    /// An empty ring whose counters have come as far as `id` and `lpos`.
    pub fn starting_at(
        machine: Machine,
        count_bits: u32,
        size_bits: u32,
        rule: EndRule,
        id: u64,
        lpos: u64,
    ) -> Self {
        let count = 1_usize << count_bits;
        let mut ring = Ring {
            word_bits: machine.bits,
            count_bits,
            size_bits,
            rule,
            descs: vec![Desc::default(); count],
            infos: vec![Info::default(); count],
            data: vec![0; 1 << size_bits],
            head_id: 0,
            tail_id: 0,
            head_lpos: 0,
            tail_lpos: 0,
            fail: 0,
            machine,
        };
        let id = id & ring.id_mask();
        // The first id falls on the last slot, which is there to be recycled.
        assert_eq!(ring.slot(id), count - 1);
        ring.descs[count - 1] = Desc {
            state_var: ring.state_var(id, REUSABLE),
            begin: FAILED_LPOS,
            next: FAILED_LPOS,
        };
        ring.infos[0].seq = (count as u64).wrapping_neg();
        (ring.head_id, ring.tail_id) = (id, id);
        ring.head_lpos = lpos & ring.word_mask();
        ring.tail_lpos = ring.head_lpos;
        ring
    }

    pub fn word_mask(&self) -> u64 {
        u64::MAX >> (64 - self.word_bits)
    }

    pub fn id_mask(&self) -> u64 {
        self.word_mask() >> 2
    }

    pub fn state_var(&self, id: u64, state: u64) -> u64 {
        state << (self.word_bits - 2) | id
    }

    /// The index of the descriptor for `id`.
    pub fn slot(&self, id: u64) -> usize {
        (id & ((1 << self.count_bits) - 1)) as usize
    }

    fn word(&self) -> u64 {
        u64::from(self.word_bits / 8)
    }

    fn size(&self) -> u64 {
        1 << self.size_bits
    }

    fn wrap(&self, lpos: u64) -> u64 {
        lpos & self.word_mask()
    }

    fn wraps(&self, lpos: u64) -> u64 {
        lpos >> self.size_bits
    }

    fn index(&self, lpos: u64) -> usize {
        (lpos & (self.size() - 1)) as usize
    }

    /// The state of the descriptor that `id` should be in, `None` when its slot holds another.
    pub fn state(&self, id: u64) -> Option<u64> {
        let state_var = self.descs[self.slot(id)].state_var;
        (state_var & self.id_mask() == id).then(|| state_var >> (self.word_bits - 2))
    }

    fn set_state(&mut self, id: u64, state: u64) {
        let slot = self.slot(id);
        self.descs[slot].state_var = self.state_var(id, state);
    }

    fn id_before(&self, id: u64, count: u64) -> u64 {
        id.wrapping_sub(count) & self.id_mask()
    }

    /// Makes room for a record of `len` bytes of text; `None` when the ring cannot take one.
    pub fn reserve(&mut self, len: u64) -> Option<Open> {
        let blk_size = self.block_size(len);
        if len != 0 && blk_size > self.largest_block() {
            return None;
        }
        let Some(id) = self.reserve_desc() else {
            self.fail += 1;
            return None;
        };
        let slot = self.slot(id);
        let seq = match self.infos[slot].seq {
            0 if slot != 0 => slot as u64,
            seq => seq.wrapping_add(self.descs.len() as u64),
        };
        self.infos[slot] = Info {
            seq,
            ..Info::default()
        };
        if seq != 0 {
            self.finalize(self.id_before(id, 1));
        }
        let room = self.reserve_block(id, len);
        let (begin, next) = room.unwrap_or((FAILED_LPOS, FAILED_LPOS));
        self.descs[slot].begin = begin;
        self.descs[slot].next = next;
        if room.is_none() {
            self.set_state(id, COMMITTED);
        }
        Some(Open {
            id,
            has_room: room.is_some(),
        })
    }

    fn largest_block(&self) -> u64 {
        match self.rule {
            EndRule::Strict => self.size() - self.word(),
            EndRule::Exact => self.size() / 2,
        }
    }

    fn reserve_desc(&mut self) -> Option<u64> {
        let id = (self.head_id + 1) & self.id_mask();
        if self.id_before(id, self.descs.len() as u64) == self.tail_id && !self.push_desc_tail() {
            return None;
        }
        self.head_id = id;
        self.set_state(id, RESERVED);
        Some(id)
    }

    fn push_desc_tail(&mut self) -> bool {
        let tail = self.tail_id;
        match self.state(tail) {
            Some(FINALIZED) => self.set_state(tail, REUSABLE),
            Some(REUSABLE) => {}
            _ => return false,
        }
        let next = self.descs[self.slot(tail)].next;
        if !self.push_data_tail(next) {
            return false;
        }
        let second = (tail + 1) & self.id_mask();
        match self.state(second) {
            Some(FINALIZED | REUSABLE) => self.tail_id = second,
            _ => return false,
        }
        true
    }

    fn block_size(&self, len: u64) -> u64 {
        (len + self.word()).next_multiple_of(self.word())
    }

    /// The end of a block of `size` bytes that is to start at `begin`.
    fn next_lpos(&self, begin: u64, size: u64) -> u64 {
        let next = self.wrap(begin.wrapping_add(size));
        let last = match self.rule {
            EndRule::Strict => next,
            EndRule::Exact => self.wrap(next.wrapping_sub(1)),
        };
        if self.wraps(begin) == self.wraps(last) {
            next
        } else {
            // Nothing of the block stays before the end of the ring.
            self.wrap((next & !(self.size() - 1)).wrapping_add(size))
        }
    }

    /// True when the text of this block stands at the start of the ring.
    pub fn is_wrapped(&self, begin: u64, next: u64) -> bool {
        let last = match self.rule {
            EndRule::Strict => next,
            EndRule::Exact => self.wrap(next.wrapping_sub(1)),
        };
        self.wraps(begin) != self.wraps(last)
    }

    fn reserve_block(&mut self, id: u64, len: u64) -> Option<(u64, u64)> {
        if len == 0 {
            return Some((EMPTY_LINE_LPOS, EMPTY_LINE_LPOS));
        }
        let begin = self.head_lpos;
        let next = self.next_lpos(begin, self.block_size(len));
        if !self.push_data_tail(self.wrap(next.wrapping_sub(self.size()))) {
            return None;
        }
        self.head_lpos = next;
        self.write_block_id(begin, id);
        if self.is_wrapped(begin, next) {
            self.write_block_id(0, id);
        }
        Some((begin, next))
    }

    fn write_block_id(&mut self, lpos: u64, id: u64) {
        let at = self.index(lpos);
        let raw = self.machine.raw(id, self.word());
        self.data[at..at + raw.len()].copy_from_slice(&raw);
    }

    fn block_id(&self, lpos: u64) -> u64 {
        let at = self.index(lpos);
        let mut raw = self.data[at..at + self.word() as usize].to_vec();
        if !self.machine.big_endian {
            raw.reverse();
        }
        raw.iter().fold(0, |id, &byte| id << 8 | u64::from(byte))
    }

    /// Recycles blocks until the tail has come to `lpos`.
    fn push_data_tail(&mut self, lpos: u64) -> bool {
        if lpos & 1 == 1 {
            return true;
        }
        let is_before = |ring: &Self, tail: u64| {
            ring.wrap(lpos.wrapping_sub(tail)).wrapping_sub(1) < ring.size()
        };
        let mut tail = self.tail_lpos;
        while is_before(self, tail) {
            let id = self.block_id(tail);
            let desc = self.descs[self.slot(id)];
            match self.state(id) {
                Some(FINALIZED) if desc.begin == tail => self.set_state(id, REUSABLE),
                Some(REUSABLE) if desc.begin == tail => {}
                _ => return false,
            }
            tail = desc.next;
        }
        self.tail_lpos = tail;
        true
    }

    /// Where the text of a record with a block stands.
    pub fn text_at(&self, id: u64) -> usize {
        let desc = self.descs[self.slot(id)];
        let start = if self.is_wrapped(desc.begin, desc.next) {
            0
        } else {
            self.index(desc.begin)
        };
        start + self.word() as usize
    }

    /// Fills a reserved record; it stays reserved.
    pub fn fill(&mut self, open: Open, message: &Message, flags: u8) {
        let slot = self.slot(open.id);
        if open.has_room {
            if !message.text.is_empty() {
                let at = self.text_at(open.id);
                self.data[at..at + message.text.len()].copy_from_slice(&message.text);
            }
            let info = &mut self.infos[slot];
            info.text_len = message.text.len() as u16;
            info.flags = flags;
            info.message = message.clone();
        }
    }

    /// Commits a record, which may then be extended while it is the last.
    pub fn commit(&mut self, open: Open) {
        self.set_state(open.id, COMMITTED);
        if self.head_id != open.id {
            self.finalize(open.id);
        }
    }

    /// Makes a committed record final.
    pub fn finalize(&mut self, id: u64) {
        if self.state(id) == Some(COMMITTED) {
            self.set_state(id, FINALIZED);
        }
    }

    /// Writes a complete message. False when it was not stored, or stored without its text.
    pub fn store(&mut self, message: &Message) -> bool {
        self.store_in(message, message.text.len() as u64)
    }

    /// The same with `len` bytes reserved, of which the text may be shorter.
    pub fn store_in(&mut self, message: &Message, len: u64) -> bool {
        let Some(open) = self.reserve(len) else {
            return false;
        };
        self.fill(open, message, 2); // LOG_NEWLINE
        self.commit(open);
        if open.has_room {
            self.finalize(open.id);
        }
        open.has_room
    }

    /// Writes a message whose line is not complete.
    pub fn store_open(&mut self, message: &Message) -> bool {
        let Some(open) = self.reserve(message.text.len() as u64) else {
            return false;
        };
        self.fill(open, message, 0);
        self.commit(open);
        open.has_room
    }

    /// LOG_CONT: adds text to the last record if it is of the same caller and still open.
    pub fn extend(&mut self, caller: u32, more: &[u8], newline: bool) -> bool {
        let id = self.head_id;
        let slot = self.slot(id);
        let old = self.infos[slot].message.text.clone();
        let has_block = self.descs[slot].begin & 1 == 0;
        if self.state(id) != Some(COMMITTED)
            || self.infos[slot].message.caller != caller
            || !has_block
        {
            return false;
        }
        let (begin, old_next) = (self.descs[slot].begin, self.descs[slot].next);
        let size = self.block_size((old.len() + more.len()) as u64);
        if size > self.largest_block() {
            return false;
        }
        let next = self.next_lpos(begin, size);
        // A block never shrinks.
        if self.wrap(self.head_lpos.wrapping_sub(next)) >= self.size() {
            if !self.push_data_tail(self.wrap(next.wrapping_sub(self.size()))) {
                return false;
            }
            self.head_lpos = next;
            if self.is_wrapped(begin, next) {
                let (start, len) = (
                    self.index(begin),
                    self.block_size(old.len() as u64) as usize,
                );
                if !self.is_wrapped(begin, old_next) {
                    self.data.copy_within(start..start + len, 0);
                }
                self.write_block_id(0, id);
            }
            self.descs[slot].next = next;
        }
        let at = self.text_at(id) + old.len();
        self.data[at..at + more.len()].copy_from_slice(more);
        let info = &mut self.infos[slot];
        info.message.text.extend(more);
        info.text_len = info.message.text.len() as u16;
        if newline {
            info.flags |= 2;
            self.set_state(id, FINALIZED);
        }
        true
    }

    /// What a reader must find: the records that are complete and were not recycled, oldest first.
    pub fn kept(&self) -> Vec<Kept> {
        let mut kept = Vec::new();
        for (slot, desc) in self.descs.iter().enumerate() {
            let state = desc.state_var >> (self.word_bits - 2);
            let failed = desc.begin == FAILED_LPOS;
            if (state == COMMITTED || state == FINALIZED) && !failed {
                let info = &self.infos[slot];
                kept.push(Kept {
                    seq: Some(info.seq),
                    message: info.message.clone(),
                });
            }
        }
        kept.sort_by_key(|kept| kept.seq);
        kept
    }
}
