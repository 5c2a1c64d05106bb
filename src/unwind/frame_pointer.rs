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
//! Each architecture's `arch/*/kernel/stacktrace.c`. What interrupts and exceptions save is crossed where the chain
//! crosses it by itself, and else ends the trace.

use crate::addr::VirtAddr;
use crate::dump::Machine;
use crate::error::{At, Error, Result};
use crate::kernel::Kernel;

/// A frame of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) pc: VirtAddr,
    /// The stack pointer, or where it is not known the frame pointer.
    pub(super) sp: VirtAddr,
    /// What leads to the caller: a frame pointer, or the stack pointer where that is the chain.
    pub(super) frame: VirtAddr,
    /// A return address that is still in a register.
    pub(super) link: Option<VirtAddr>,
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
        })
    }

    /// The frame of the caller.
    pub(super) fn step(&self, kernel: &Kernel<'_>) -> Result<Self> {
        let word = kernel.word_size();
        let at = |base: VirtAddr, offset: u64| kernel.read_word(base.wrapping_add(offset));
        let before = |offset: u64| kernel.read_word(self.frame.wrapping_sub(offset));
        let (frame, pc) = match kernel.abi().machine {
            Machine::X86_64 | Machine::I386 => {
                let size = u64::from(word.bits() / 8);
                (at(self.frame, 0)?, at(self.frame, size)?)
            }
            Machine::Aarch64 => (at(self.frame, 0)?, at(self.frame, 8)?),
            Machine::Riscv | Machine::Loongarch => (before(16)?, before(8)?),
            Machine::Ppc64 => {
                let frame = at(self.frame, 0)?;
                (frame, at(VirtAddr(frame), 16)?)
            }
            Machine::S390 => {
                let frame = at(self.frame, 152)?;
                (frame, at(VirtAddr(frame), 136)?)
            }
            _ => return Err(unsupported()),
        };
        if frame != 0 && frame <= self.frame.0 {
            return Err(Error::Invalid {
                what: "the frame pointer",
                at: At::Virt(self.frame),
                value: frame,
                why: "does not rise",
            });
        }
        Ok(Chain {
            pc: VirtAddr(plain_code(kernel, pc)),
            sp: self.frame,
            frame: VirtAddr(frame),
            link: None,
        })
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
