//! Frame chains of the architectures that keep them: arm64, riscv64, loongarch64, ppc64, s390x, and x86 without ORC.
//!
//! | | caller's frame | return address |
//! |---|---|---|
//! | x86 | `[bp]` | `[bp + word]` |
//! | arm64 | `[fp]` | `[fp + 8]`, without its authentication code |
//! | riscv64, loongarch64 | `[fp - 16]` | `[fp - 8]` |
//! | ppc64 | `[r1]` | `[caller's r1 + 16]` |
//! | s390x | `[r15 + 152]` | `[that + 136]` (packed stack: the back chain is the frame's last word) |
//!
//! Each architecture's `arch/*/kernel/stacktrace.c`. An exception that the chain does not cross by itself has left
//! `struct pt_regs`: on arm64 since 6.13 behind a record of zeros and a type, on s390x behind a back chain of zero.

use super::End;
use crate::addr::VirtAddr;
use crate::dump::Machine;
use crate::error::{At, Error, Result};
use crate::kernel::Kernel;

/// Two frames that are further apart are on different stacks, in whatever order those are.
const STACK_LEN: u64 = 16 << 10;
/// Most changes to a lower stack: a task's, an interrupt's, an exception's.
const MOST_SWITCHES: u8 = 4;

/// A frame of the chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) pc: VirtAddr,
    /// The stack pointer, or where it is not known the frame pointer.
    pub(super) sp: VirtAddr,
    /// What leads to the caller: a frame pointer, or the stack pointer where that is the chain.
    pub(super) frame: VirtAddr,
    /// A return address that is still in a register.
    pub(super) link: Option<VirtAddr>,
    /// `pc` is where the frame stands, not where a call returns to.
    pub(super) exact: bool,
    /// Changes to a lower stack so far.
    pub(super) switches: u8,
}

/// How the chain goes on.
pub(super) enum Step {
    Caller(Chain),
    End(End),
}

impl Chain {
    /// The frame of the registers in an `NT_PRSTATUS` note.
    pub(super) fn from_note(machine: Machine, regs: &[u64]) -> Result<Self> {
        let reg = |number: usize| {
            let value = regs.get(number).copied().map(VirtAddr);
            value.ok_or(Error::Missing { key: "pr_reg" })
        };
        let (pc, sp, frame, link) = match machine {
            Machine::X86_64 => (16, 19, 4, None),
            Machine::I386 => (12, 15, 5, None),
            Machine::Aarch64 => (32, 31, 29, Some(30)),
            Machine::Riscv => (0, 2, 8, Some(1)),
            Machine::Loongarch => (33, 3, 22, Some(1)),
            Machine::Ppc64 => (32, 1, 1, Some(36)),
            Machine::S390 => (1, 17, 17, Some(16)),
            _ => return Err(unsupported()),
        };
        Ok(Chain {
            pc: reg(pc)?,
            sp: reg(sp)?,
            frame: reg(frame)?,
            link: link.map(reg).transpose()?,
            exact: true,
            switches: 0,
        })
    }

    /// The frame of the caller. `stackframe` is where `struct pt_regs` has its frame record (arm64).
    pub(super) fn step(&self, kernel: &Kernel<'_>, stackframe: Option<u64>) -> Result<Step> {
        if is_user(kernel, self.frame) {
            return Ok(Step::End(End::Complete));
        }
        let at = |base: VirtAddr, offset: u64| kernel.read_word(base.wrapping_add(offset));
        let before = |offset: u64| kernel.read_word(self.frame.wrapping_sub(offset));
        let (frame, pc) = match kernel.abi().machine {
            Machine::X86_64 | Machine::I386 => {
                let size = u64::from(kernel.word_size().bits() / 8);
                (at(self.frame, 0)?, at(self.frame, size)?)
            }
            Machine::Aarch64 => (at(self.frame, 0)?, at(self.frame, 8)?),
            Machine::Riscv | Machine::Loongarch => (before(16)?, before(8)?),
            Machine::Ppc64 => {
                let frame = at(self.frame, 0)?;
                if is_user(kernel, VirtAddr(frame)) {
                    return Ok(Step::End(End::Complete));
                }
                (frame, at(VirtAddr(frame), 16)?)
            }
            Machine::S390 => match at(self.frame, 152)? {
                0 => return self.over_exception(kernel, self.frame.wrapping_add(160)),
                frame => (frame, at(VirtAddr(frame), 136)?),
            },
            _ => return Err(unsupported()),
        };
        if kernel.abi().machine == Machine::Aarch64 && (frame, pc) == (0, 0) {
            /// `FRAME_META_TYPE_PT_REGS`.
            const PT_REGS: u64 = 2;
            return match (at(self.frame, 16), stackframe) {
                (Ok(PT_REGS), Some(offset)) => {
                    self.over_exception(kernel, self.frame.wrapping_sub(offset))
                }
                _ => Ok(Step::End(End::Complete)),
            };
        }
        self.caller(Chain {
            pc: VirtAddr(plain_code(kernel, pc)),
            sp: self.frame,
            frame: VirtAddr(frame),
            ..Chain::default()
        })
        .map(Step::Caller)
    }

    /// Takes a caller unless its frame goes in circles.
    fn caller(&self, mut next: Chain) -> Result<Chain> {
        next.switches = self.switches;
        if next.frame.0 != 0 && next.frame <= self.frame {
            let down = self.frame.0.wrapping_sub(next.frame.0);
            if down < STACK_LEN || self.switches >= MOST_SWITCHES {
                return Err(Error::Invalid {
                    what: "the frame pointer",
                    at: At::Virt(self.frame),
                    value: next.frame.0,
                    why: "does not rise",
                });
            }
            next.switches = self.switches.saturating_add(1);
        }
        Ok(next)
    }

    /// The frame that was interrupted, whose registers are at `regs`.
    fn over_exception(&self, kernel: &Kernel<'_>, regs: VirtAddr) -> Result<Step> {
        let word = |offset| kernel.read_word(regs.wrapping_add(offset));
        let (pc, sp, frame, user) = if kernel.abi().machine == Machine::S390 {
            // psw.mask, psw.addr, then r0 to r15; the mask has the problem state.
            let sp = word(24 + 15 * 8)?;
            (word(16)?, sp, sp, word(8)? & 1 << 48 != 0)
        } else {
            // x0 to x30, sp, pc, pstate; mode 0 is EL0.
            (word(256)?, word(248)?, word(29 * 8)?, word(264)? & 0xf == 0)
        };
        let (pc, sp) = (VirtAddr(plain_code(kernel, pc)), VirtAddr(sp));
        if user {
            return Ok(Step::End(End::User { pc, sp }));
        }
        if pc.0 == 0 {
            return Ok(Step::End(End::Complete));
        }
        self.caller(Chain {
            pc,
            sp,
            frame: VirtAddr(frame),
            exact: true,
            ..Chain::default()
        })
        .map(Step::Caller)
    }
}

/// True for a frame pointer that is none of the kernel's: zero at the end of a chain, or what user space had there.
fn is_user(kernel: &Kernel<'_>, frame: VirtAddr) -> bool {
    match kernel.abi().machine {
        Machine::I386 => {
            // The kernel's part starts at 0xc0000000, or with other splits lower.
            let stext = kernel.info().symbol("_stext");
            frame.0 < stext.map_or(0xc000_0000, |stext| stext.0 & 0xc000_0000)
        }
        // Kernel and user have address spaces of their own.
        Machine::S390 => frame.0 == 0,
        _ => frame.0 >> 63 == 0,
    }
}

/// A code address without arm64's pointer authentication code.
fn plain_code(kernel: &Kernel<'_>, pc: u64) -> u64 {
    match kernel.info().number("KERNELPACMASK") {
        Ok(mask) if pc >> 55 & 1 != 0 => pc | mask,
        Ok(mask) => pc & !mask,
        Err(_) => pc,
    }
}

fn unsupported() -> Error {
    Error::Unsupported {
        what: "unwinding of machine",
        value: 0,
    }
}
