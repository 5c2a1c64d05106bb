//! Backtraces: from the registers of a CPU or the saved ones of a sleeping task to its callers.
//!
//! ```text
//! registers --ORC--> caller --ORC--> caller ... user space, or the end of the stack     x86_64
//!           --frame pointers--> caller ...                                              elsewhere
//!           --scan for a call--> caller                                                 where nothing else helps
//! ```
//!
//! Every frame says how it was found. A damaged stack ends its trace with a reason; no trace has more than
//! [`limits::FRAMES`] frames.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::addr::VirtAddr;
use crate::dump::Machine;
use crate::error::{Error, Result};
use crate::kallsyms::{Symbol, release_at_least};
use crate::kernel::Kernel;
use crate::limits;

mod frame_pointer;
mod orc;
mod scan;
mod symbols;
mod x86_64;

use frame_pointer::Chain;
use orc::Orc;
pub use symbols::Code;

/// How a frame was found, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trust {
    /// From saved registers: those of the CPU at the crash, or those that an exception or interrupt saved.
    Registers,
    /// By the kernel's ORC tables.
    Orc,
    /// By the chain of frame pointers.
    FramePointer,
    /// Found on the stack behind a call of the very function that the frame before is in.
    Call,
    /// Found on the stack behind a call instruction: probably a caller, possibly a leftover.
    Scan,
}

impl Trust {
    /// False for a frame that may be a leftover: the kernel marks such with a question mark.
    pub fn is_reliable(self) -> bool {
        self != Trust::Scan
    }

    /// One word for it.
    pub fn name(self) -> &'static str {
        match self {
            Trust::Registers => "registers",
            Trust::Orc => "orc",
            Trust::FramePointer => "frame_pointer",
            Trust::Call => "call",
            Trust::Scan => "scan",
        }
    }
}

/// The stack that a frame is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stack {
    /// The task's own.
    Task,
    /// That of hardware interrupts.
    Irq,
    /// That of non-maskable interrupts.
    Nmi,
    /// That of double faults.
    DoubleFault,
    /// That of debug exceptions.
    Debug,
    /// That of machine checks.
    MachineCheck,
    /// That of encrypted guests' communication exceptions.
    Vc,
    /// Unknown.
    Other,
}

impl Stack {
    /// What the kernel calls it in a call trace.
    pub fn name(self) -> &'static str {
        match self {
            Stack::Task => "TASK",
            Stack::Irq => "IRQ",
            Stack::Nmi => "NMI",
            Stack::DoubleFault => "#DF",
            Stack::Debug => "#DB",
            Stack::MachineCheck => "#MC",
            Stack::Vc => "#VC",
            Stack::Other => "unknown",
        }
    }
}

/// One frame of a backtrace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The address of the next instruction.
    pub pc: VirtAddr,
    /// The stack pointer there.
    pub sp: VirtAddr,
    /// How it was found.
    pub trust: Trust,
    /// The stack it is on.
    pub stack: Stack,
    /// What the address lies in.
    pub symbol: Option<Symbol>,
    /// The module it lies in.
    pub module: Option<String>,
}

impl fmt::Display for Frame {
    /// As the kernel prints it: `name+0xoff/0xsize [module]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.symbol {
            Some(symbol) => write!(f, "{}+{:#x}/{:#x}", symbol.name, symbol.offset, symbol.size)?,
            None => write!(f, "{}", self.pc)?,
        }
        match &self.module {
            Some(module) => write!(f, " [{module}]"),
            None => Ok(()),
        }
    }
}

/// Why a backtrace ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Where the stack does.
    Complete,
    /// In user space.
    User {
        /// The user's next instruction.
        pc: VirtAddr,
        /// The user's stack pointer.
        sp: VirtAddr,
    },
    /// For the reason given.
    Broken(Error),
}

/// A backtrace, the innermost frame first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The frames.
    pub frames: Vec<Frame>,
    /// Why there are no more.
    pub end: End,
}

impl Trace {
    /// True when the same code is in both, wherever their stacks are.
    pub fn is_like(&self, other: &Trace) -> bool {
        let mut pairs = self.frames.iter().zip(&other.frames);
        let user = |end| matches!(end, End::User { .. });
        self.frames.len() == other.frames.len()
            && pairs.all(|(one, two)| one.pc == two.pc && one.trust == two.trust)
            && (self.end == other.end || user(self.end) && user(other.end))
    }
}

/// The stacks that a CPU or task uses, each with its bounds.
#[derive(Clone, Debug, Default)]
pub struct Stacks {
    known: Vec<(Stack, VirtAddr, VirtAddr)>,
}

impl Stacks {
    /// Adds the stack between `start` and `end`.
    pub fn add(&mut self, stack: Stack, start: VirtAddr, end: VirtAddr) {
        self.known.push((stack, start, end));
    }

    fn bounds(&self, sp: VirtAddr) -> Option<&(Stack, VirtAddr, VirtAddr)> {
        // At its end a stack is empty, but it is still that stack.
        let inside = |&&(_, start, end): &&(Stack, VirtAddr, VirtAddr)| start < sp && sp <= end;
        self.known.iter().find(inside)
    }

    fn kind(&self, sp: VirtAddr) -> Stack {
        self.bounds(sp).map_or(Stack::Other, |&(kind, ..)| kind)
    }

    fn end_of(&self, sp: VirtAddr) -> Option<VirtAddr> {
        self.bounds(sp).map(|&(_, _, end)| end)
    }

    /// True when both are on the same known stack.
    fn same(&self, one: VirtAddr, two: VirtAddr) -> bool {
        let one = self.bounds(one);
        one.is_some() && one == self.bounds(two)
    }
}

/// Where the kernel's ORC tables are.
#[derive(Clone, Copy, Debug)]
pub struct OrcBounds {
    /// `__start_orc_unwind_ip`.
    pub ips: VirtAddr,
    /// `__stop_orc_unwind_ip`.
    pub ips_end: VirtAddr,
    /// `__start_orc_unwind`.
    pub entries: VirtAddr,
    /// The first bytes at `__start_orc_header`, where there is one.
    pub header: Option<[u8; 4]>,
}

/// Makes backtraces.
pub struct Unwinder<'a> {
    kernel: &'a Kernel<'a>,
    code: &'a Code<'a>,
    orc: Option<Orc<'a>>,
    /// Why there is no ORC, where there should be one.
    pub no_orc: Option<Error>,
}

impl<'a> Unwinder<'a> {
    /// An unwinder for this kernel; without ORC tables it follows frame pointers and scans.
    pub fn new(kernel: &'a Kernel<'a>, code: &'a Code<'a>, bounds: Result<OrcBounds>) -> Self {
        let mut unwinder = Unwinder {
            kernel,
            code,
            orc: None,
            no_orc: None,
        };
        if kernel.abi().machine == Machine::X86_64 {
            let orc = bounds.and_then(|b| Orc::new(kernel, b.ips, b.ips_end, b.entries, b.header));
            match orc {
                Ok(orc) => unwinder.orc = Some(orc),
                Err(error) => unwinder.no_orc = Some(error),
            }
        }
        unwinder
    }

    /// The backtrace of a CPU with these registers, as `NT_PRSTATUS` has them.
    ///
    /// # Errors
    /// `Missing` or `Unsupported` when not even the first frame can be told.
    pub fn running(&self, regs: &[u64], stacks: &Stacks) -> Result<Trace> {
        let machine = self.kernel.abi().machine;
        if machine == Machine::X86_64 {
            return Ok(self.x86_64(x86_64::State::from_note(regs)?, stacks));
        }
        Ok(self.chain(Chain::from_note(machine, regs)?, stacks))
    }

    /// The backtrace of an x86_64 task that sleeps, with `thread.sp` and the size of what that points at.
    ///
    /// # Errors
    /// What kept its stack from being read.
    pub fn sleeping(&self, sp: VirtAddr, frame_size: u64, stacks: &Stacks) -> Result<Trace> {
        let state = x86_64::State::sleeping(self.kernel, sp, frame_size)?;
        Ok(self.x86_64(state, stacks))
    }

    /// The backtrace of a sleeping task of another architecture, with its saved registers.
    pub fn sleeping_chain(
        &self,
        pc: VirtAddr,
        sp: VirtAddr,
        frame: VirtAddr,
        stacks: &Stacks,
    ) -> Trace {
        let chain = Chain {
            pc,
            sp,
            frame,
            link: None,
        };
        self.chain(chain, stacks)
    }

    fn frame(
        &self,
        pc: VirtAddr,
        sp: VirtAddr,
        exact: bool,
        trust: Trust,
        stacks: &Stacks,
    ) -> Frame {
        let place = self.code.place(pc, exact);
        Frame {
            pc,
            sp,
            trust,
            stack: stacks.kind(sp),
            symbol: place.symbol,
            module: place.module,
        }
    }

    fn x86_64(&self, mut state: x86_64::State, stacks: &Stacks) -> Trace {
        let steps = x86_64::Unwinder {
            kernel: self.kernel,
            code: self.code,
            orc: self.orc.as_ref(),
            offset_before_indirection: !release_at_least(self.kernel, 5, 12),
        };
        let mut frames = Vec::new();
        loop {
            if let Some(end) = state.user() {
                return Trace { frames, end };
            }
            let trust = state.trust.unwrap_or(Trust::Scan);
            frames.push(self.frame(state.pc, state.sp, state.exact, trust, stacks));
            if frames.len() >= limits::FRAMES {
                return too_long(frames);
            }
            match steps.step(&state, stacks) {
                Ok(next) => state = next,
                Err(end) => return Trace { frames, end },
            }
        }
    }

    fn chain(&self, mut chain: Chain, stacks: &Stacks) -> Trace {
        let mut frames: Vec<Frame> = Vec::new();
        let mut exact = true;
        loop {
            if !self.code.is_text(chain.pc.wrapping_sub(u64::from(!exact))) {
                let end = if chain.frame.0 == 0 || chain.pc.0 == 0 {
                    End::Complete
                } else if exact {
                    End::User {
                        pc: chain.pc,
                        sp: chain.sp,
                    }
                } else {
                    End::Broken(Error::Missing {
                        key: "a return address in the frame",
                    })
                };
                return Trace { frames, end };
            }
            let trust = if exact {
                Trust::Registers
            } else {
                Trust::FramePointer
            };
            frames.push(self.frame(chain.pc, chain.sp, exact, trust, stacks));
            if frames.len() >= limits::FRAMES {
                return too_long(frames);
            }
            let next = match chain.step(self.kernel) {
                Ok(next) => next,
                Err(_) if chain.frame.0 == 0 => {
                    return Trace {
                        frames,
                        end: End::Complete,
                    };
                }
                Err(error) => {
                    return Trace {
                        frames,
                        end: End::Broken(error),
                    };
                }
            };
            // A function that has not yet saved its return address has it in the link register.
            if let Some(link) = chain.link.take()
                && link != next.pc
                && self.code.is_text(link.wrapping_sub(1))
                && self.code.function(link) != self.code.function(chain.pc)
            {
                frames.push(self.frame(link, chain.sp, false, Trust::Scan, stacks));
            }
            chain = next;
            exact = false;
        }
    }
}

fn too_long(frames: Vec<Frame>) -> Trace {
    let max = crate::bytes::wide(limits::FRAMES);
    let end = End::Broken(Error::Limit {
        what: "the number of frames",
        value: max.saturating_add(1),
        max,
    });
    Trace { frames, end }
}
