//! A writer of synthetic crash dumps.
//!
//! It makes what a kernel would have left behind: physical memory, page tables, VMCOREINFO, an ELF core around them, and
//! in that memory a printk ring of any generation, filled by a simulation of the kernel's *writer*. No layout constant
//! and no line of code is shared with the reader under test, so a wrong offset cannot cancel out, and what should be
//! read back is known from what was written.
//!
//! ```text
//! Message --> lockless::Ring | records::Ring | bytes::Ring --place()--> Crash --> elf::Options::write() --> a dump
//!                    `--> expect: the text that must come out
//! ```

// Every test program uses its own part of this module.
#![allow(dead_code)]

pub mod bytes;
pub mod crash;
pub mod elf;
pub mod expect;
pub mod lockless;
pub mod pending;
pub mod records;
pub mod rng;
pub mod tables;

pub use crash::{Crash, Machine};
pub use rng::Rng;

/// What is handed to printk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Nanoseconds since boot.
    pub ts_ns: u64,
    /// The log level, 0 to 7.
    pub level: u8,
    /// The facility: 0 kern, 1 user.
    pub facility: u8,
    /// Bit 31 set: a CPU; else a PID.
    pub caller: u32,
    /// The other half of the caller, of kernels that record both.
    pub caller2: u32,
    /// The name of the task, of kernels that record it.
    pub comm: String,
    /// The text without its final newline.
    pub text: Vec<u8>,
    /// `SUBSYSTEM=` of the device dictionary.
    pub subsystem: String,
    /// `DEVICE=` of the device dictionary.
    pub device: String,
}

impl Message {
    /// A message of the kernel itself.
    pub fn new(ts_ns: u64, text: impl Into<Vec<u8>>) -> Self {
        Message {
            ts_ns,
            level: 6,
            caller: 1,
            text: text.into(),
            ..Message::default()
        }
    }

    /// The n-th of a series of plain messages, one a millisecond.
    pub fn numbered(n: u64) -> Self {
        Message::new(n * 1_000_000, format!("message {n}"))
    }

    /// A message as odd as kernels write them: any length, several lines, bytes that are no text, any caller.
    pub fn random(rng: &mut Rng, ts_ns: u64, max_len: u64) -> Self {
        let len = match rng.below(10) {
            0 => 0,
            1 => rng.below(max_len + 1),
            _ => rng.below(max_len.min(100) + 1),
        };
        let odd = rng.below(8) == 0;
        let mut text = Vec::new();
        while (text.len() as u64) < len {
            match rng.below(if odd { 12 } else { 5 }) {
                0 => text.push(b' '),
                1..=6 => text.push(b'a' + rng.below(26) as u8),
                7 => text.push(b'\n'),
                8 => text.push(rng.below(256) as u8),
                9 => text.extend("é€🐧".bytes()),
                10 => text.push(b'\\'),
                _ => text.extend(b"[    1.000000] "),
            }
        }
        text.truncate(len as usize);
        let pid = rng.below(1 << 22) as u32;
        let cpu = 1 << 31 | rng.below(512) as u32;
        let in_task = rng.below(2) == 0;
        let mut message = Message {
            ts_ns,
            level: rng.below(8) as u8,
            facility: rng.below(24) as u8,
            caller: if in_task { pid } else { cpu },
            caller2: if in_task { cpu } else { pid },
            comm: format!("task-{}", rng.below(100)),
            text,
            ..Message::default()
        };
        if rng.below(4) == 0 {
            message.subsystem = "pci".into();
            message.device = format!("+pci:0000:00:{:02x}.0", rng.below(32));
        }
        message
    }
}
