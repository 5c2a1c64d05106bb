//! Backtraces: from the registers of a CPU or the saved ones of a sleeping task to its callers.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::addr::VirtAddr;
use crate::error::Error;
use crate::kallsyms::Symbol;

/// How a frame was found, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trust {
    /// From saved registers: those of the CPU at the crash, or those that an exception or interrupt saved.
    Registers,
    /// By the kernel's ORC tables.
    Orc,
    /// By the chain of frame pointers.
    FramePointer,
    /// Found on the stack behind a call instruction: probably a caller, possibly a leftover.
    Scan,
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
    /// That of another exception: double fault, debug, machine check.
    Exception,
    /// Unknown.
    Other,
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
