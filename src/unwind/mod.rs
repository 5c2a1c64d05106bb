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

use frame_pointer::{Chain, Step};
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
    /// Where `struct pt_regs` has its frame record (arm64).
    pub stackframe: Option<u64>,
}

impl<'a> Unwinder<'a> {
    /// An unwinder for this kernel; without ORC tables it follows frame pointers and scans.
    pub fn new(kernel: &'a Kernel<'a>, code: &'a Code<'a>, bounds: Result<OrcBounds>) -> Self {
        let mut unwinder = Unwinder {
            kernel,
            code,
            orc: None,
            no_orc: None,
            stackframe: None,
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
            ..Chain::default()
        };
        self.chain(chain, stacks)
    }

    /// What looks like return addresses on a task's stack, for a CPU that saved no registers: the outermost first
    /// found, so that what is on top of the stack now, and not what calls left behind, is kept. x86_64 only.
    ///
    /// # Errors
    /// `Missing` when there is nothing of the kind.
    pub fn leftovers(&self, stacks: &Stacks) -> Result<Trace> {
        let task = stacks.known.iter().find(|(kind, ..)| *kind == Stack::Task);
        let missing = Error::Missing {
            key: "the registers of a CPU",
        };
        let &(_, start, end) = task.ok_or(missing)?;
        if self.kernel.abi().machine != Machine::X86_64 {
            return Err(missing);
        }
        let mut frames = Vec::new();
        let mut slot = end.wrapping_sub(8);
        while slot >= start && frames.len() < limits::LEFTOVERS {
            let Ok(pc) = self.kernel.read_u64(slot) else {
                break;
            };
            let pc = VirtAddr(pc);
            if scan::call_before(self.kernel, self.code, pc).is_some() {
                let sp = slot.wrapping_add(8);
                frames.push(self.frame(pc, sp, false, Trust::Scan, stacks));
            }
            slot = slot.wrapping_sub(8);
        }
        if frames.is_empty() {
            return Err(missing);
        }
        frames.reverse();
        let end = End::Broken(missing);
        Ok(Trace { frames, end })
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
        loop {
            let Chain { pc, sp, exact, .. } = chain;
            if !self.code.is_text(pc.wrapping_sub(u64::from(!exact))) {
                let end = if exact && frames.is_empty() {
                    End::User { pc, sp }
                } else if chain.frame.0 == 0 || pc.0 == 0 {
                    End::Complete
                } else {
                    End::Broken(Error::Missing {
                        key: "a return address in the frame",
                    })
                };
                return Trace { frames, end };
            }
            let trust = if exact || frames.is_empty() {
                Trust::Registers
            } else {
                Trust::FramePointer
            };
            frames.push(self.frame(pc, sp, exact, trust, stacks));
            if frames.len() >= limits::FRAMES {
                return too_long(frames);
            }
            let next = match chain.step(self.kernel, self.stackframe) {
                Ok(Step::Caller(next)) => next,
                Ok(Step::End(end)) => return Trace { frames, end },
                Err(error) => {
                    let end = End::Broken(error);
                    return Trace { frames, end };
                }
            };
            // A function that has not yet saved its return address has it in the link register.
            if let Some(link) = chain.link.take()
                && link != next.pc
                && self.code.is_text(link.wrapping_sub(1))
                && self.code.function(link) != self.code.function(pc)
            {
                frames.push(self.frame(link, sp, false, Trust::Scan, stacks));
            }
            chain = next;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{BASE, Image};
    use crate::kallsyms::{Kallsyms, tests as tables};
    use alloc::string::ToString;
    use alloc::{format, vec};

    const IPS: u64 = BASE + 0x5_0000;
    const ENTRIES: u64 = BASE + 0x5_8000;
    const STACK: u64 = BASE + 0x7_0000;
    const STACK_END: u64 = STACK + 0x1000;
    /// Functions f0, f1, ... are 256 bytes apart.
    const fn f(number: u64) -> u64 {
        BASE + 0x100 * number
    }

    /// The flags of an ORC entry in one version.
    struct Layout {
        sp: u16,
        bp: u16,
        sp_indirect: u16,
        call: u16,
        regs: u16,
        partial: u16,
        end: u16,
        undefined: u16,
        /// Flag of entries whose frame was interrupted, and in version 1 implied.
        signal: u16,
    }

    const V1: Layout = Layout {
        sp: 5,
        bp: 4,
        sp_indirect: 9,
        call: 0,
        regs: 1 << 8 | 5,
        partial: 2 << 8 | 5,
        end: 1 << 10,
        undefined: 0,
        signal: 0,
    };
    const V3: Layout = Layout {
        sp: 5,
        bp: 4,
        sp_indirect: 9,
        call: 2 << 8,
        regs: 3 << 8 | 5,
        partial: 4 << 8 | 5,
        end: 1 << 8,
        undefined: 0,
        signal: 1 << 11,
    };
    const V4: Layout = Layout {
        sp: 3,
        bp: 4,
        sp_indirect: 9,
        call: 2 << 8,
        regs: 3 << 8 | 3,
        partial: 4 << 8 | 3,
        end: 1 << 8,
        undefined: 0,
        signal: 1 << 11,
    };

    /// A kernel of 40 functions. f9 has no ORC data, the first ends the stack; f20 and f21 are entered by exceptions, f22 is
    /// described by bp, f23 switches stacks; the others push nothing but their return addresses.
    fn image(layout: &Layout) -> Image {
        let mut image = Image::of(Machine::X86_64, 0x10_0000);
        image.symbol("_stext", BASE);
        let mut symbols = vec![(String::from("T_stext"), BASE)];
        for number in 0..40 {
            if number != 0 {
                symbols.push((format!("tf{number}"), f(number)));
            }
            let (flags, offset) = match number {
                0 => (layout.end, 0),
                9 => (layout.undefined, 0),
                20 => (layout.regs | layout.signal, 0),
                21 => (layout.partial | layout.signal, 0),
                22 => (layout.bp | layout.call | 1 << 4, 16),
                23 => (layout.sp_indirect | layout.call, 8),
                _ => (layout.sp | layout.call, 8),
            };
            let flags = if number == 22 && layout.sp == 3 {
                layout.bp | layout.call | 8 << 4
            } else {
                flags
            };
            let at = IPS + number * 4;
            image.put(at, &((f(number)).wrapping_sub(at) as u32).to_le_bytes());
            let at = ENTRIES + number * 6;
            image.put(at, &(offset as i16).to_le_bytes());
            image.put(at + 2, &(-16_i16).to_le_bytes());
            image.put(at + 4, &flags.to_le_bytes());
        }
        symbols.push((String::from("T_etext"), f(40)));
        tables::write(
            &mut image,
            BASE + 0x8_0000,
            &symbols,
            tables::Layout::PerCpu,
            true,
            true,
        );
        image
    }

    /// Makes `caller` call `callee`; answers where the call returns to.
    fn call(image: &mut Image, caller: u64, callee: u64) -> u64 {
        let back = f(caller) + 0x40 + callee;
        image.put(back - 5, &[0xe8]);
        image.put(
            back - 4,
            &(f(callee).wrapping_sub(back) as u32).to_le_bytes(),
        );
        back
    }

    fn trace(image: &Image, pc: u64, sp: u64, bp: u64) -> Trace {
        let kernel = image.kernel();
        let kallsyms = Kallsyms::locate(&kernel, &["_etext"]).unwrap();
        let code = Code::new(&kernel, &kallsyms, &[]);
        let bounds = OrcBounds {
            ips: VirtAddr(IPS),
            ips_end: VirtAddr(IPS + 160),
            entries: VirtAddr(ENTRIES),
            header: None,
        };
        let unwinder = Unwinder::new(&kernel, &code, Ok(bounds));
        assert_eq!(unwinder.no_orc, None);
        let mut stacks = Stacks::default();
        stacks.add(Stack::Task, VirtAddr(STACK), VirtAddr(STACK_END));
        let mut regs = vec![0; 27];
        (regs[16], regs[19], regs[4]) = (pc, sp, bp);
        unwinder.running(&regs, &stacks).unwrap()
    }

    /// A trace as words: the symbols, with a question mark on those that are not reliable.
    fn words(trace: &Trace) -> String {
        let names = trace.frames.iter().map(|frame| {
            let mark = if frame.trust.is_reliable() { "" } else { "?" };
            let name = frame.symbol.as_ref().map_or("-", |symbol| &symbol.name);
            format!("{mark}{name}")
        });
        names.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_orc_layout_is_told_from_its_entries_and_followed_to_the_end() {
        for layout in [V1, V3, V4] {
            let mut image = image(&layout);
            let one = call(&mut image, 2, 3);
            let two = call(&mut image, 0, 2);
            image.put(STACK + 0x800, &one.to_le_bytes());
            image.put(STACK + 0x808, &two.to_le_bytes());
            let trace = trace(&image, f(3) + 0x10, STACK + 0x800, 0);
            assert_eq!(words(&trace), "f3 f2 _stext");
            assert_eq!(trace.end, End::Complete);
            assert_eq!(trace.frames[1].to_string(), "f2+0x43/0x100");
            assert_eq!(trace.frames[1].trust, Trust::Orc);
            assert_eq!(trace.frames[1].stack, Stack::Task);
        }
    }

    #[test]
    fn a_function_without_orc_is_left_by_the_call_of_it_and_not_by_leftovers() {
        let mut image = image(&V3);
        let stale = call(&mut image, 5, 6);
        let own = f(9) + 0x30;
        let right = call(&mut image, 4, 9);
        let end = call(&mut image, 0, 4);
        for (slot, word) in [stale, own, right, end].into_iter().enumerate() {
            image.put(STACK + 0x800 + slot as u64 * 8, &word.to_le_bytes());
        }
        let trace = trace(&image, own, STACK + 0x800, 0);
        assert_eq!(words(&trace), "f9 f4 _stext");
        assert_eq!(trace.frames[1].trust, Trust::Call);
    }

    #[test]
    fn interrupted_frames_are_exact_and_user_space_ends_the_trace() {
        for layout in [V1, V3, V4] {
            let mut image = image(&layout);
            let handler = call(&mut image, 20, 3);
            image.put(STACK + 0x800, &handler.to_le_bytes());
            // struct pt_regs: f7 was interrupted at its very start.
            let regs = STACK + 0x808;
            image.put(regs + 128, &f(7).to_le_bytes());
            image.put(regs + 136, &0x10_u64.to_le_bytes());
            image.put(regs + 152, &(STACK + 0xa00).to_le_bytes());
            let entry = call(&mut image, 21, 7);
            image.put(STACK + 0xa00, &entry.to_le_bytes());
            // An iret frame of user space.
            image.put(STACK + 0xa08, &0x47_b7a0_u64.to_le_bytes());
            image.put(STACK + 0xa10, &0x33_u64.to_le_bytes());
            image.put(STACK + 0xa20, &0x7ffc_0000_u64.to_le_bytes());
            let trace = trace(&image, f(3) + 0x10, STACK + 0x800, 0);
            assert_eq!(words(&trace), "f3 f20 f7 f21");
            assert_eq!(trace.frames[2].to_string(), "f7+0x0/0x100");
            assert_eq!(trace.frames[2].trust, Trust::Registers);
            let (pc, sp) = (VirtAddr(0x47_b7a0), VirtAddr(0x7ffc_0000));
            assert_eq!(trace.end, End::User { pc, sp });
        }
    }

    #[test]
    fn frames_by_bp_and_switched_stacks_are_followed() {
        for layout in [V3, V4] {
            let mut image = image(&layout);
            let by_bp = call(&mut image, 22, 3);
            image.put(STACK + 0x800, &by_bp.to_le_bytes());
            let bp = STACK + 0x900;
            image.put(bp, &0_u64.to_le_bytes());
            let switched = call(&mut image, 23, 22);
            image.put(bp + 8, &switched.to_le_bytes());
            // The word on top of one stack leads to the other.
            image.put(bp + 16, &(STACK + 0xc00).to_le_bytes());
            let end = call(&mut image, 0, 23);
            image.put(STACK + 0xc00, &end.to_le_bytes());
            image.info = image.info.replace("6.1.0", "6.12.0");
            let trace = trace(&image, f(3) + 0x10, STACK + 0x800, bp);
            assert_eq!(words(&trace), "f3 f22 f23 _stext");
            assert_eq!(trace.end, End::Complete);
        }
    }

    #[test]
    fn a_call_to_nowhere_is_attributed_to_its_caller() {
        let mut image = image(&V3);
        let caller = f(5) + 0x40;
        image.put(caller - 2, &[0xff, 0xd0]);
        image.put(STACK + 0x800, &caller.to_le_bytes());
        let end = call(&mut image, 0, 5);
        image.put(STACK + 0x808, &end.to_le_bytes());
        let trace = trace(&image, 0, STACK + 0x800, 0);
        assert_eq!(words(&trace), "- f5 _stext");
        assert_eq!(trace.frames[0].to_string(), "0x0");
    }

    #[test]
    fn a_stack_that_was_overwritten_ends_the_trace_with_a_reason() {
        let image = image(&V3);
        let trace = trace(&image, f(3) + 0x10, STACK + 0x800, 0);
        assert_eq!(words(&trace), "f3");
        assert!(
            matches!(trace.end, End::Broken(Error::Missing { .. })),
            "{trace:?}"
        );
        let user = super::tests::trace(&image, 0x1000, 0x2000, 0);
        assert!(matches!(user.end, End::Broken(_)));
    }

    #[test]
    fn without_registers_the_outermost_return_addresses_of_the_stack_are_shown_as_guesses() {
        let mut image = image(&V3);
        let inner = call(&mut image, 4, 5);
        let outer = call(&mut image, 6, 4);
        image.put(STACK + 0xe00, &inner.to_le_bytes());
        image.put(STACK + 0xe08, &(f(5) + 3).to_le_bytes());
        image.put(STACK + 0xf00, &outer.to_le_bytes());
        let kernel = image.kernel();
        let kallsyms = Kallsyms::locate(&kernel, &["_etext"]).unwrap();
        let code = Code::new(&kernel, &kallsyms, &[]);
        let unwinder = Unwinder::new(&kernel, &code, Err(Error::Missing { key: "ORC" }));
        let mut stacks = Stacks::default();
        assert!(unwinder.leftovers(&stacks).is_err());
        stacks.add(Stack::Task, VirtAddr(STACK), VirtAddr(STACK_END));
        let trace = unwinder.leftovers(&stacks).unwrap();
        assert_eq!(words(&trace), "?f4 ?f6");
    }

    #[test]
    fn no_stack_makes_a_trace_without_end() {
        let mut image = image(&V3);
        // Endless recursion of f3, and stacks full of anything.
        let back = call(&mut image, 3, 3);
        for slot in 0..0x200 {
            image.put(STACK + slot * 8, &back.to_le_bytes());
        }
        let long = trace(&image, f(3), STACK, 0);
        assert_eq!(long.frames.len(), limits::FRAMES);
        assert!(matches!(long.end, End::Broken(Error::Limit { .. })));
        let mut seed = 3_u64;
        for _ in 0..200 {
            for slot in 0..0x200 {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(99);
                let word = match seed >> 60 {
                    0..6 => f(seed >> 40 & 31) + (seed >> 20 & 0xff),
                    6..12 => STACK + (seed >> 20 & 0xff8),
                    _ => seed,
                };
                image.put(STACK + slot * 8, &word.to_le_bytes());
            }
            let pc = f(seed >> 33 & 31) + 7;
            let trace = trace(&image, pc, STACK + 0x400, STACK + 0x500);
            assert!(trace.frames.len() <= limits::FRAMES);
        }
    }

    #[test]
    fn frame_chains_of_other_architectures_are_followed_until_they_stop_rising() {
        for (machine, pc, fp, before) in [
            (Machine::Aarch64, 32, 29, 0),
            (Machine::Riscv, 0, 8, 16),
            (Machine::Loongarch, 33, 22, 16),
        ] {
            let mut image = image(&V3);
            image.abi.machine = machine;
            let put = |image: &mut Image, frame: u64, next: u64, ret: u64| {
                image.put(frame - before, &next.to_le_bytes());
                image.put(frame - before + 8, &ret.to_le_bytes());
            };
            put(&mut image, STACK + 0x100, STACK + 0x200, f(4) + 4);
            put(&mut image, STACK + 0x200, STACK + 0x300, f(5) + 4);
            put(&mut image, STACK + 0x300, STACK + 0x300, f(6) + 4);
            let kernel = image.kernel();
            let kallsyms = Kallsyms::locate(&kernel, &["_etext"]).unwrap();
            let code = Code::new(&kernel, &kallsyms, &[]);
            let missing = Err(Error::Missing { key: "ORC" });
            let unwinder = Unwinder::new(&kernel, &code, missing);
            let mut regs = vec![0; 45];
            (regs[pc], regs[fp]) = (f(3), STACK + 0x100);
            let trace = unwinder.running(&regs, &Stacks::default()).unwrap();
            assert_eq!(words(&trace), "f3 f4 f5");
            assert!(matches!(trace.end, End::Broken(Error::Invalid { .. })));
        }
    }
}
