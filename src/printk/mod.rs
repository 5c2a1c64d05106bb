//! The kernel log: from virtual memory to entries, one at a time.
//!
//! | generation | kernels | VMCOREINFO exports | file |
//! |---|---|---|---|
//! | plain byte ring | before 3.5 | `log_buf`, `log_end` | `text` |
//! | structured records | 3.5 to 5.9 | `log_first_idx`, `log_next_idx` | `records` |
//! | lockless ring | 5.10 on | `prb` | `lockless` |
//!
//! What `printk()` took and had not yet put there is [`pending`]: it is found by symbols, which VMCOREINFO does not export.
//!
//! The generation is chosen by what VMCOREINFO exports, never by version. An entry lends one buffer of its reader, so
//! a log of 64 MiB costs what one of 128 KiB costs. Damage is data ([`Entry::Lost`]), not control flow: a torn
//! descriptor must not end the log.

use crate::bytes::Endian;
use crate::error::{Error, Result};
use crate::kernel::Kernel;

mod hole;
mod lockless;
pub mod pending;
mod records;
mod text;

/// Where the log is and how it is laid out; a few addresses.
#[derive(Clone, Copy, Debug)]
pub enum Log {
    /// `struct printk_ringbuffer`.
    Lockless(lockless::Ring),
    /// `struct printk_log`, `struct log` before 3.11.
    Records(records::Buffer),
    /// Characters.
    Text(text::Buffer),
}

/// Who called `printk`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A task, by its pid.
    Task(u32),
    /// A CPU in interrupt context.
    Cpu(u32),
}

impl Caller {
    /// Set in `caller_id` when the rest of it is a CPU number.
    const CPU: u32 = 1 << 31;

    /// The `caller_id` that the kernel wrote.
    pub fn id(self) -> u32 {
        match self {
            Caller::Task(pid) => pid,
            Caller::Cpu(cpu) => cpu | Self::CPU,
        }
    }

    fn from_id(id: u32) -> Self {
        if id & Self::CPU == 0 {
            Caller::Task(id)
        } else {
            Caller::Cpu(id & !Self::CPU)
        }
    }
}

/// `LOG_CONT`: the record continues the one before.
const LOG_CONT: u8 = 8;

/// One record. Everything that a generation does not have, or that is damaged, is `None` or empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its sequence number; exported from 5.10 on.
    pub seq: Option<u64>,
    /// Nanoseconds since boot, by the local clock of the CPU that logged.
    pub ts_ns: Option<u64>,
    /// 0 (emerg) to 7 (debug).
    pub level: Option<u8>,
    /// Its syslog facility: 0 kern, 1 user, ...
    pub facility: Option<u16>,
    /// True when it continues the record before (`LOG_CONT`).
    pub continues: bool,
    /// Who logged it; recorded from 5.10 on, from 5.1 on where the kernel was configured so.
    pub caller: Option<Caller>,
    /// The message without its final newline. Newlines may stand inside, and bytes that are not UTF-8.
    pub text: &'a [u8],
    /// `SUBSYSTEM=` of the device dictionary.
    pub subsystem: &'a [u8],
    /// `DEVICE=` of the device dictionary, such as `+pci:0000:00:03.0`.
    pub device: &'a [u8],
}

/// A place where the log has, or should have, something that is no complete record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost<'a> {
    /// What is known of it.
    pub what: LostKind,
    /// Text that was found in its place, to be taken with caution.
    pub salvage: &'a [u8],
    /// Of an unfinished record what is certain: a line that was complete and was being continued.
    pub begun: Option<Record<'a>>,
}

/// Why there is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostKind {
    /// A CPU had not finished writing it when the machine died.
    Unfinished {
        /// The descriptor's id.
        id: u64,
    },
    /// The kernel had no room for its text, or threw it away before it was read.
    Dropped {
        /// The descriptor's id.
        id: u64,
    },
    /// The oldest line is cut: newer text overwrote its start.
    CutLine {
        /// Bytes that are left of it.
        len: u64,
    },
    /// It is damaged or not in the dump.
    Damaged {
        /// The descriptor's id, or where in the buffer it starts.
        id: u64,
        /// What is wrong.
        why: Error,
    },
}

impl LostKind {
    fn with(self, salvage: &[u8]) -> Lost<'_> {
        Lost {
            what: self,
            salvage,
            begun: None,
        }
    }
}

/// What the log holds at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A record.
    Record(Record<'a>),
    /// None, and why.
    Lost(Lost<'a>),
}

impl<'a> Entry<'a> {
    fn damaged(id: u64, why: Error) -> Self {
        Entry::Lost(LostKind::Damaged { id, why }.with(&[]))
    }

    /// The record, if it is one.
    pub fn record(&self) -> Option<&Record<'a>> {
        match self {
            Entry::Record(record) => Some(record),
            Entry::Lost(_) => None,
        }
    }
}

impl Log {
    /// Finds the log of `kernel`.
    ///
    /// # Errors
    /// `Missing` when VMCOREINFO exports none of the three generations, else what is wrong with the one it does.
    pub fn locate(kernel: &Kernel<'_>) -> Result<Self> {
        let info = kernel.info();
        if info.symbol("prb").is_ok() {
            return lockless::Ring::locate(kernel).map(Log::Lockless);
        }
        if info.symbol("log_first_idx").is_ok() {
            return records::Buffer::locate(kernel).map(Log::Records);
        }
        if info.symbol("log_buf").is_ok() {
            return text::Buffer::locate(kernel).map(Log::Text);
        }
        Err(Error::Missing {
            key: "SYMBOL(prb), SYMBOL(log_buf)",
        })
    }

    /// The entries, oldest first.
    pub fn entries<'k>(&self, kernel: &'k Kernel<'k>) -> Entries<'k> {
        match *self {
            Log::Lockless(ring) => Entries::Lockless(ring.entries(kernel)),
            Log::Records(buffer) => Entries::Records(buffer.entries(kernel)),
            Log::Text(buffer) => Entries::Text(buffer.entries(kernel)),
        }
    }

    /// Bytes that the buffer can hold.
    pub fn size(&self) -> u64 {
        match self {
            Log::Lockless(ring) => ring.text_size(),
            Log::Records(buffer) => buffer.size(),
            Log::Text(buffer) => buffer.size(),
        }
    }
}

/// A pass over the log; each entry borrows the reader's buffers until the next.
#[allow(
    clippy::large_enum_variant,
    reason = "one of these is alive at a time, on the stack"
)]
pub enum Entries<'k> {
    /// See [`Log::Lockless`].
    Lockless(lockless::Walk<'k>),
    /// See [`Log::Records`].
    Records(records::Walk<'k>),
    /// See [`Log::Text`].
    Text(text::Walk<'k>),
}

impl Entries<'_> {
    /// The next entry, `None` at the end.
    #[allow(
        clippy::should_implement_trait,
        reason = "an entry borrows the reader, which an Iterator cannot say"
    )]
    pub fn next(&mut self) -> Option<Entry<'_>> {
        match self {
            Entries::Lockless(walk) => walk.next(),
            Entries::Records(walk) => walk.next(),
            Entries::Text(walk) => walk.next(),
        }
    }
}

/// Splits the byte that holds `flags:5` and `level:3`, in the order of the crashed kernel's bit fields.
fn flags_and_level(endian: Endian, byte: u8) -> (u8, u8) {
    match endian {
        Endian::Little => (byte & 0x1f, byte >> 5),
        Endian::Big => (byte >> 3, byte & 7),
    }
}

/// `bytes` up to the first NUL.
fn until_nul(bytes: &[u8]) -> &[u8] {
    let end = bytes
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(bytes.len());
    bytes.get(..end).unwrap_or_default()
}
