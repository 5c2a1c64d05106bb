//! ORC: the kernel's own tables of how to get from any instruction to the caller.
//!
//! ```text
//! __start_orc_unwind_ip   i32 per entry: the instruction, relative to the i32 itself; sorted
//! __start_orc_unwind      6 bytes per entry: sp_offset i16 | bp_offset i16 | flags u16
//! ```
//!
//! x86_64 since 4.14, `arch/x86/include/asm/orc_types.h`; modules bring tables of their own. The meaning of the flags
//! changed three times:
//!
//! | version | kernels | bits 0-3, 4-7 | type | end of stack | signal |
//! |---|---|---|---|---|---|
//! | 1 | 4.14 to 6.2 | sp_reg, bp_reg | bits 8-9: call 0, regs 1, partial 2 | bit 10 | types above 0 |
//! | 2 | 6.3 | the same | the same | bit 11 | bit 10 |
//! | 3 | 6.4 to 7.0 | the same | bits 8-10: undefined 0, end 1, call 2, regs 3, partial 4 | a type | bit 11 |
//! | 4 | 7.1 on | registers have new numbers | as 3 | a type | bit 11 |
//!
//! Kernels are patched by their distributors, so what most entries look like decides, not the release: nearly all are
//! calls relative to the stack pointer.

use alloc::vec::Vec;
use core::cell::RefCell;

use super::symbols::Code;
use crate::addr::VirtAddr;
use crate::bytes::index;
use crate::error::{Error, Result};
use crate::kallsyms::modules::ModuleOrc;
use crate::kernel::Kernel;
use crate::limits;

/// Bytes of an entry.
const ENTRY: u64 = 6;

/// A register that an entry refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reg {
    Undefined,
    PrevSp,
    Ax,
    Dx,
    Di,
    Bp,
    Sp,
    R10,
    R13,
    BpIndirect,
    SpIndirect,
}

/// What a frame looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing is known.
    Undefined,
    /// There is no caller.
    End,
    /// A return address.
    Call,
    /// A whole `struct pt_regs`.
    Regs,
    /// The five words that the processor pushed.
    RegsPartial,
}

/// An entry, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) sp: Reg,
    pub(super) sp_offset: i16,
    pub(super) bp: Reg,
    pub(super) bp_offset: i16,
    pub(super) kind: Kind,
    /// The caller was interrupted rather than calling, so that its address is exact.
    pub(super) signal: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V1,
    V2,
    V3,
    V4,
}

/// One pair of tables.
#[derive(Clone, Copy, Debug)]
struct Table {
    ips: VirtAddr,
    entries: VirtAddr,
    count: u32,
}

/// The tables of the kernel and its modules.
pub(super) struct Orc<'a> {
    kernel: &'a Kernel<'a>,
    table: Table,
    version: Version,
    recent: RefCell<Vec<(VirtAddr, Option<Entry>)>>,
}

impl<'a> Orc<'a> {
    /// The kernel's tables, whose bounds are `__start_orc_unwind_ip`, `__stop_orc_unwind_ip` and `__start_orc_unwind`.
    /// `header` is the hash that tells about the layout, where there is one.
    pub(super) fn new(
        kernel: &'a Kernel<'a>,
        ips: VirtAddr,
        ips_end: VirtAddr,
        entries: VirtAddr,
        header: Option<[u8; 4]>,
    ) -> Result<Self> {
        let len = ips_end.offset_from(ips).unwrap_or(0);
        let count = u32::try_from(len / 4).unwrap_or(0);
        if count == 0 || count > limits::ORC_ENTRIES {
            return Err(Error::Limit {
                what: "the number of ORC entries",
                value: len / 4,
                max: u64::from(limits::ORC_ENTRIES),
            });
        }
        let mut orc = Orc {
            kernel,
            table: Table {
                ips,
                entries,
                count,
            },
            version: Version::V3,
            recent: RefCell::default(),
        };
        orc.version = orc.guess(header)?;
        Ok(orc)
    }

    /// The layout that makes most of a sample of entries calls relative to the stack pointer.
    fn guess(&self, header: Option<[u8; 4]>) -> Result<Version> {
        const SAMPLE: u32 = 64;
        let mut votes = [0_u32; 3];
        let step = (self.table.count / SAMPLE).max(1);
        for number in (0..SAMPLE).map(|n| n.saturating_mul(step)) {
            let Ok((_, _, flags)) =
                self.raw(self.table, number.min(self.table.count.saturating_sub(1)))
            else {
                continue;
            };
            let vote = match (flags & 0xf, flags >> 8 & 7) {
                (5, 0) => 0,
                (5, 2) => 1,
                (3, 2) => 2,
                _ => continue,
            };
            if let Some(count) = votes.get_mut(vote) {
                *count = count.saturating_add(1);
            }
        }
        /// The hash of 6.3's layout, which differs from the one before in two bits that few entries have.
        const HASH_6_3: [u8; 4] = [0xdb, 0x84, 0xae, 0xd4];
        let most = votes.iter().max().copied().unwrap_or(0);
        match votes {
            _ if most == 0 => Err(Error::Unsupported {
                what: "an ORC layout with hash",
                value: u64::from(header.map_or(0, u32::from_be_bytes)),
            }),
            [old, ..] if old == most && header == Some(HASH_6_3) => Ok(Version::V2),
            [old, ..] if old == most => Ok(Version::V1),
            [_, current, _] if current == most => Ok(Version::V3),
            _ => Ok(Version::V4),
        }
    }

    /// Offsets and flags of an entry.
    fn raw(&self, table: Table, number: u32) -> Result<(i16, i16, u16)> {
        let mut raw = [0; 6];
        let at = table
            .entries
            .wrapping_add(u64::from(number).wrapping_mul(ENTRY));
        self.kernel.read_at(at, &mut raw)?;
        let [a, b, c, d, e, f] = raw;
        let endian = self.kernel.endian();
        let half = |low, high| endian.u16(&[low, high], 0).unwrap_or_default();
        Ok((
            half(a, b).cast_signed(),
            half(c, d).cast_signed(),
            half(e, f),
        ))
    }

    /// The instruction of an entry.
    fn ip(&self, table: Table, number: u32) -> Result<VirtAddr> {
        let at = table.ips.wrapping_add(u64::from(number).wrapping_mul(4));
        let distance = i64::from(self.kernel.read_u32(at)?.cast_signed());
        Ok(at.wrapping_add(distance.cast_unsigned()))
    }

    /// The entry for the instruction at `addr`: the last one that is not behind it. `None` when no table covers it.
    pub(super) fn find(&self, code: &Code<'_>, addr: VirtAddr) -> Option<Entry> {
        if let Some((_, entry)) = self.recent.borrow().iter().find(|(at, _)| *at == addr) {
            return *entry;
        }
        let table = if code.is_kernel_text(addr) {
            Some(self.table)
        } else {
            code.module(addr)
                .and_then(|module| module.orc)
                .map(Table::from)
        };
        let entry = table.and_then(|table| self.search(table, addr).ok().flatten());
        let mut recent = self.recent.borrow_mut();
        if recent.len() >= limits::RECENT_PLACES {
            recent.remove(0);
        }
        recent.push((addr, entry));
        entry
    }

    fn search(&self, table: Table, addr: VirtAddr) -> Result<Option<Entry>> {
        let (mut low, mut high) = (0, table.count.min(limits::ORC_ENTRIES));
        while low < high {
            let middle = low.midpoint(high);
            if self.ip(table, middle)? > addr {
                high = middle;
            } else {
                low = middle.saturating_add(1);
            }
        }
        let Some(number) = low.checked_sub(1) else {
            return Ok(None);
        };
        let (sp_offset, bp_offset, flags) = self.raw(table, number)?;
        Ok(self.version.decode(sp_offset, bp_offset, flags))
    }
}

impl From<ModuleOrc> for Table {
    fn from(orc: ModuleOrc) -> Self {
        Table {
            ips: orc.ips,
            entries: orc.entries,
            count: orc.count,
        }
    }
}

impl Version {
    /// The entry with these fields; `None` when a field has no meaning.
    fn decode(self, sp_offset: i16, bp_offset: i16, flags: u16) -> Option<Entry> {
        let sp = self.register(flags & 0xf)?;
        let bp = self.register(flags >> 4 & 0xf)?;
        let bit = |bit: u16| flags >> bit & 1 != 0;
        let (kind, signal) = match self {
            Version::V1 | Version::V2 => {
                let (end, signal) = if self == Version::V1 {
                    (bit(10), flags >> 8 & 3 != 0)
                } else {
                    (bit(11), bit(10))
                };
                let kind = match (sp, flags >> 8 & 3) {
                    (Reg::Undefined, _) if end => Kind::End,
                    (Reg::Undefined, _) => Kind::Undefined,
                    (_, 0) => Kind::Call,
                    (_, 1) => Kind::Regs,
                    (_, 2) => Kind::RegsPartial,
                    _ => return None,
                };
                (kind, signal)
            }
            Version::V3 | Version::V4 => {
                let kind = match flags >> 8 & 7 {
                    0 => Kind::Undefined,
                    1 => Kind::End,
                    2 => Kind::Call,
                    3 => Kind::Regs,
                    4 => Kind::RegsPartial,
                    _ => return None,
                };
                (kind, bit(11))
            }
        };
        Some(Entry {
            sp,
            sp_offset,
            bp,
            bp_offset,
            kind,
            signal,
        })
    }

    fn register(self, number: u16) -> Option<Reg> {
        use Reg::*;
        const OLD: [Reg; 11] = [
            Undefined, PrevSp, Dx, Di, Bp, Sp, R10, R13, BpIndirect, SpIndirect, Ax,
        ];
        const NEW: [Reg; 11] = [
            Undefined, Ax, Dx, Sp, Bp, Di, R10, R13, PrevSp, SpIndirect, BpIndirect,
        ];
        let numbers = if self == Version::V4 { NEW } else { OLD };
        numbers.get(index(u64::from(number))).copied()
    }
}

/// The entry that the kernel assumes where it has none: code with frame pointers, as BPF programs and trampolines are.
pub(super) const FRAME_POINTER_ENTRY: Entry = Entry {
    sp: Reg::Bp,
    sp_offset: 16,
    bp: Reg::PrevSp,
    bp_offset: -16,
    kind: Kind::Call,
    signal: false,
};

/// The entry for a call to nowhere: the return address is on top of the stack.
pub(super) const BAD_CALL_ENTRY: Entry = Entry {
    sp: Reg::Sp,
    sp_offset: 8,
    bp: Reg::Undefined,
    bp_offset: 0,
    kind: Kind::Call,
    signal: false,
};
