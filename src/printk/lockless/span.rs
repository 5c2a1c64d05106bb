//! Which ids are alive: what `tail_id` and `head_id` say if the descriptors bear it out, else what the descriptors say.

use super::super::hole::Hole;
use super::{COMMITTED, FINALIZED, Ring};
use crate::bytes::wide;
use crate::kernel::Kernel;
use crate::limits;

/// The ids that are alive: `count` of them from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: u64,
    pub(super) count: u64,
    /// True when tail and head told it, so that each of these ids has its descriptor; else some may never have been.
    pub(super) exact: bool,
}

impl Ring {
    /// The ids that are alive, from `tail` and `head` if the descriptors bear them out.
    pub(super) fn span(&self, kernel: &Kernel<'_>, tail: u64, head: u64) -> Span {
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
    pub(super) fn seq_in_step(&self, kernel: &Kernel<'_>) -> bool {
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

    /// How many descriptors start in the page in which that of `id` starts, itself and the ones behind it: when it
    /// cannot be read, neither can they. More than that in a wide hole.
    pub(super) fn rest_of_hole(&self, id: u64, hole: &mut Hole) -> u64 {
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
