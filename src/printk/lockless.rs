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

use crate::addr::VirtAddr;
use crate::bytes::{Endian, Word, wide};
use crate::error::{At, Error, Result};
use crate::kernel::{Kernel, Window};
use crate::limits;

mod layout;
mod span;
mod walk;

use layout::Layout;
use span::Span;
pub use walk::Walk;

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
