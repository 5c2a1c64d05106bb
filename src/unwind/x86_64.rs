//! x86_64: from frame to frame by ORC, and over its holes by frame pointers and by scanning.
//!
//! The rules of `arch/x86/kernel/unwind_orc.c`, as equations:
//!
//! ```text
//! call       cfa = sp + off, or bp + off, ...   pc = [cfa - 8]    sp = cfa         bp = [cfa + bp_off]
//! regs       pt_regs at cfa                     pc = [cfa + 128]  sp = [cfa + 152] all registers
//! partial    iret frame at cfa                  pc = [cfa]        sp = [cfa + 24]
//! ```
//!
//! The registers of a CPU that called `panic` were saved inside of `__crash_kexec`, which the kernel builds without ORC
//! data: its caller is the word on the stack that points behind a call of it.

use super::orc::{BAD_CALL_ENTRY, Entry, FRAME_POINTER_ENTRY, Kind, Orc, Reg};
use super::scan::{self, Call};
use super::symbols::Code;
use super::{End, Stacks, Trust};
use crate::addr::VirtAddr;
use crate::bytes::index;
use crate::error::{At, Error, Result};
use crate::kernel::Kernel;

/// Offsets in `struct pt_regs`; the words of `NT_PRSTATUS` have the same order.
mod pt_regs {
    pub(super) const R13: u64 = 16;
    pub(super) const BP: u64 = 32;
    pub(super) const R10: u64 = 56;
    pub(super) const AX: u64 = 80;
    pub(super) const DX: u64 = 96;
    pub(super) const DI: u64 = 112;
    pub(super) const IP: u64 = 128;
    pub(super) const CS: u64 = 136;
    pub(super) const SP: u64 = 152;
}

/// Bytes of stack that are scanned for a way over a hole.
const SCAN_LEN: u64 = 4 << 10;

/// The registers of a frame, as far as they are known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct State {
    pub(super) pc: VirtAddr,
    pub(super) sp: VirtAddr,
    bp: u64,
    /// Registers that a call does not preserve are known only in the frame that was interrupted.
    scratch: Option<Scratch>,
    /// `pc` is where the frame stands, not where a call returns to.
    pub(super) exact: bool,
    pub(super) trust: Option<Trust>,
    /// Set when the frame was in user mode.
    user: bool,
}

#[derive(Clone, Copy, Debug)]
struct Scratch {
    ax: u64,
    dx: u64,
    di: u64,
    r10: u64,
    r13: u64,
}

impl State {
    /// The frame that these registers are of, `word` reading them by their offsets in `struct pt_regs`.
    fn from_words(word: &dyn Fn(u64) -> Result<u64>) -> Result<Self> {
        Ok(State {
            pc: VirtAddr(word(pt_regs::IP)?),
            sp: VirtAddr(word(pt_regs::SP)?),
            bp: word(pt_regs::BP)?,
            scratch: Some(Scratch {
                ax: word(pt_regs::AX)?,
                dx: word(pt_regs::DX)?,
                di: word(pt_regs::DI)?,
                r10: word(pt_regs::R10)?,
                r13: word(pt_regs::R13)?,
            }),
            exact: true,
            trust: Some(Trust::Registers),
            user: word(pt_regs::CS)? & 3 != 0,
        })
    }

    /// The frame of the registers in an `NT_PRSTATUS` note.
    pub(super) fn from_note(regs: &[u64]) -> Result<Self> {
        Self::from_words(&|offset| {
            let value = regs.get(index(offset / 8)).copied();
            value.ok_or(Error::Missing { key: "pr_reg" })
        })
    }

    /// The frame of a task that sleeps: `thread.sp` points at a `struct inactive_task_frame` of `size` bytes, whose
    /// last words are `bp` and `ret_addr`.
    pub(super) fn sleeping(kernel: &Kernel<'_>, sp: VirtAddr, size: u64) -> Result<Self> {
        let end = sp.wrapping_add(size);
        Ok(State {
            pc: VirtAddr(kernel.read_word(end.wrapping_sub(8))?),
            sp: end,
            bp: kernel.read_word(end.wrapping_sub(16))?,
            trust: Some(Trust::Registers),
            ..State::default()
        })
    }

    /// The user's registers, when the frame was in user mode.
    pub(super) fn user(&self) -> Option<End> {
        self.user.then_some(End::User {
            pc: self.pc,
            sp: self.sp,
        })
    }
}

/// What steps need.
pub(super) struct Unwinder<'a> {
    pub(super) kernel: &'a Kernel<'a>,
    pub(super) code: &'a Code<'a>,
    pub(super) orc: Option<&'a Orc<'a>>,
    /// Before 5.12 an indirect stack pointer was read at its offset, since then the offset is added to what is read.
    pub(super) offset_before_indirection: bool,
}

impl Unwinder<'_> {
    fn word(&self, at: u64) -> Result<u64> {
        self.kernel.read_u64(VirtAddr(at))
    }

    /// The caller of a frame, or why there is none.
    pub(super) fn step(&self, state: &State, stacks: &Stacks) -> core::result::Result<State, End> {
        let (entry, trust) = self.entry(state);
        let next = match entry.kind {
            Kind::End => return Err(End::Complete),
            Kind::Undefined => self.over_hole(state, stacks),
            _ => self.follow(state, &entry, trust),
        };
        let stuck =
            |next: &State| !next.user && next.sp <= state.sp && stacks.same(state.sp, next.sp);
        let next = match next {
            // A frame that leads nowhere: perhaps the stack pointer is right, and the frame is not set up yet.
            Ok(next) if !next.user && (stuck(&next) || !self.plausible(&next)) => self
                .repair_bp(state, &entry, stacks)
                .or_else(|_| self.over_hole(state, stacks)),
            Err(_) => self.over_hole(state, stacks),
            next => next,
        };
        let next = next.map_err(End::Broken)?;
        if next.pc.0 == 0 && !next.user {
            // The registers at the end of a kernel thread's stack, which never was in user space.
            return Err(End::Complete);
        }
        if stuck(&next) {
            return Err(End::Broken(Error::Invalid {
                what: "the stack pointer",
                at: At::Virt(state.sp),
                value: next.sp.0,
                why: "does not rise",
            }));
        }
        Ok(next)
    }

    /// The entry for a frame, and how much a frame found by it is worth.
    fn entry(&self, state: &State) -> (Entry, Trust) {
        let nowhere = state.exact && !self.code.is_text(state.pc);
        if nowhere
            && self
                .word(state.sp.0)
                .is_ok_and(|pc| self.is_return(VirtAddr(pc)))
        {
            // A call through a bad pointer.
            return (BAD_CALL_ENTRY, Trust::Call);
        }
        let at = state.pc.wrapping_sub(u64::from(!state.exact));
        match self.orc.and_then(|orc| orc.find(self.code, at)) {
            Some(entry) => (entry, Trust::Orc),
            None => (FRAME_POINTER_ENTRY, Trust::FramePointer),
        }
    }

    /// The value of a register that an entry refers to.
    fn register(&self, state: &State, reg: Reg) -> Result<u64> {
        let scratch = state.scratch.ok_or(Error::Missing {
            key: "a register that ORC refers to",
        });
        Ok(match reg {
            Reg::Sp | Reg::SpIndirect => state.sp.0,
            Reg::Bp | Reg::BpIndirect => state.bp,
            Reg::Ax => scratch?.ax,
            Reg::Dx => scratch?.dx,
            Reg::Di => scratch?.di,
            Reg::R10 => scratch?.r10,
            Reg::R13 => scratch?.r13,
            Reg::Undefined | Reg::PrevSp => {
                return Err(Error::Unsupported {
                    what: "an ORC entry for sp with register",
                    value: 0,
                });
            }
        })
    }

    /// The canonical frame address: the stack pointer of the caller.
    fn cfa(&self, state: &State, entry: &Entry) -> Result<u64> {
        let base = self.register(state, entry.sp)?;
        let offset = i64::from(entry.sp_offset).cast_unsigned();
        match entry.sp {
            Reg::SpIndirect if !self.offset_before_indirection => {
                Ok(self.word(base)?.wrapping_add(offset))
            }
            Reg::SpIndirect | Reg::BpIndirect => self.word(base.wrapping_add(offset)),
            Reg::Sp | Reg::Bp => Ok(base.wrapping_add(offset)),
            _ => Ok(base),
        }
    }

    /// Applies an entry.
    fn follow(&self, state: &State, entry: &Entry, trust: Trust) -> Result<State> {
        let cfa = self.cfa(state, entry)?;
        let mut next = match entry.kind {
            Kind::Regs => return State::from_words(&|offset| self.word(cfa.wrapping_add(offset))),
            Kind::RegsPartial => State {
                pc: VirtAddr(self.word(cfa)?),
                sp: VirtAddr(self.word(cfa.wrapping_add(24))?),
                user: self.word(cfa.wrapping_add(8))? & 3 != 0,
                exact: true,
                trust: Some(Trust::Registers),
                ..*state
            },
            _ => State {
                pc: VirtAddr(self.word(cfa.wrapping_sub(8))?),
                sp: VirtAddr(cfa),
                bp: state.bp,
                scratch: None,
                exact: entry.signal,
                trust: Some(trust),
                user: false,
            },
        };
        let offset = i64::from(entry.bp_offset).cast_unsigned();
        match entry.bp {
            Reg::PrevSp => next.bp = self.word(cfa.wrapping_add(offset))?,
            Reg::Bp => next.bp = self.word(state.bp.wrapping_add(offset))?,
            _ => {}
        }
        Ok(next)
    }

    /// True when a frame can be one: it is in the text, and behind a call unless it was interrupted.
    fn plausible(&self, next: &State) -> bool {
        if next.exact {
            return true;
        }
        match next.trust {
            // What the kernel's tables say is believed as far as the kernel itself would.
            Some(Trust::Orc) if self.code.is_text(next.pc.wrapping_sub(1)) => true,
            // Generated code, a BPF program say, is in no table but keeps frame pointers.
            Some(Trust::Orc) => self
                .follow(next, &FRAME_POINTER_ENTRY, Trust::FramePointer)
                .is_ok_and(|caller| self.is_return(caller.pc)),
            _ => scan::call_before(self.kernel, self.code, next.pc).is_some(),
        }
    }

    /// Finds the caller of a frame that nothing describes: the word on the stack that points behind a call of its
    /// function, or, failing that, behind any call.
    fn over_hole(&self, state: &State, stacks: &Stacks) -> Result<State> {
        let limit = state.sp.wrapping_add(SCAN_LEN);
        let end = stacks.end_of(state.sp).map_or(limit, |end| end.min(limit));
        let function = self.code.function(state.pc);
        let calls_it =
            |call| matches!((call, function), (Call::Direct(to), Some(start)) if to == start);
        let scan = |accept| scan::find(self.kernel, self.code, state.sp, end, accept);
        let (found, trust) = match scan(&calls_it) {
            Some(found) => (found, Trust::Call),
            None => {
                let missing = Error::Missing {
                    key: "a return address on the stack",
                };
                (scan(&|_| true).ok_or(missing)?, Trust::Scan)
            }
        };
        let mut next = State {
            pc: found.pc,
            sp: found.slot.wrapping_add(8),
            bp: state.bp,
            trust: Some(trust),
            ..State::default()
        };
        self.find_bp(&mut next, state.sp, stacks);
        Ok(next)
    }

    /// A function that nothing describes may have changed bp after saving it on the stack between `from` and the
    /// frame of its caller. When the caller needs bp, the saved one is the one by which it is described rightly.
    fn find_bp(&self, next: &mut State, from: VirtAddr, stacks: &Stacks) {
        let (entry, _) = self.entry(next);
        let leads_on = |bp: u64| {
            let state = State { bp, ..*next };
            self.follow(&state, &entry, Trust::Orc)
                .is_ok_and(|caller| self.is_return(caller.pc))
        };
        if entry.sp != Reg::Bp || leads_on(next.bp) {
            return;
        }
        let mut slot = next.sp.wrapping_sub(16);
        while slot >= from {
            if let Ok(bp) = self.word(slot.0)
                && stacks.same(VirtAddr(bp), next.sp)
                && leads_on(bp)
            {
                next.bp = bp;
                return;
            }
            slot = slot.wrapping_sub(8);
        }
    }

    fn is_return(&self, pc: VirtAddr) -> bool {
        scan::call_before(self.kernel, self.code, pc).is_some()
    }

    /// A frame that is described by a bp that is not the right one.
    fn repair_bp(&self, state: &State, entry: &Entry, stacks: &Stacks) -> Result<State> {
        let broken = Error::Invalid {
            what: "the frame pointer",
            at: At::Virt(state.sp),
            value: state.bp,
            why: "does not lead to a caller",
        };
        if entry.sp != Reg::Bp {
            return Err(broken);
        }
        let mut repaired = *state;
        self.find_bp(&mut repaired, state.sp.wrapping_sub(512), stacks);
        let next = self.follow(&repaired, entry, Trust::Scan)?;
        if self.is_return(next.pc) {
            Ok(next)
        } else {
            Err(broken)
        }
    }
}
