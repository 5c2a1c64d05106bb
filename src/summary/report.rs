//! One report of the kernel: a headline and the lines that belong to it.
//!
//! ```text
//! BUG: kernel NULL pointer dereference, address: 0000000000000000      headline: kind, address
//! #PF: error_code(0x0002) - not-present page                           access
//! Oops: 0002 [#1] PREEMPT SMP NOPTI                                    die line: count, error code
//! CPU: 3 PID: 112 Comm: insmod Kdump: loaded Tainted: G   OE   6.1.0   identity
//! RIP: 0010:zcrash_do_null+0xc/0x17 [zcrash]                           ip
//! Call Trace:                                                          frames
//!  zcrash_init+0x280/0x1000 [zcrash]
//! ---[ end trace 0000000000000000 ]---                                 the kernel went on
//! ```
//!
//! `headline.rs` reads the first lines, `detail.rs` the others, `identity.rs` the one that says who and where.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

use super::events::Class;
use super::fault::Access;
use super::frame::{Frame, Place, Section};
use super::kind::Kind;
use super::taint::Taint;
use super::words::{hex_after, keep};

/// Most frames kept of one trace.
const FRAMES: usize = 64;

/// Most bytes of text kept of one report.
const BYTES: usize = 6 << 10;

/// Longest line kept as evidence.
pub(super) const LINE: usize = 240;

/// A line of the log that something was learnt from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Excerpt {
    /// The sequence number of its record.
    pub seq: u64,
    /// Its time since boot in nanoseconds.
    pub ts_ns: Option<u64>,
    /// Its text, cut at 240 bytes.
    pub text: String,
}

/// A value and the line of its report that it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<T> {
    /// The value.
    pub value: T,
    /// Index into [`Report::lines`].
    pub line: usize,
}

/// A task as the kernel names it in a headline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Task {
    /// Its name, up to 15 bytes, possibly with spaces.
    pub comm: String,
    /// Its process id.
    pub pid: u32,
}

/// A report: every field optional, each with its line.
#[derive(Clone, Debug)]
pub struct Report {
    /// What kind of crash it tells of.
    pub kind: Kind,
    /// The lines its fields came from, the headline first.
    pub lines: Vec<Excerpt>,
    /// The number in `[#1]`.
    pub die_count: Option<Found<u32>>,
    /// The error code of the exception, in the architecture's own form.
    pub error_code: Option<Found<u64>>,
    /// The error code decoded.
    pub access: Option<Found<Access>>,
    /// The address that was accessed.
    pub address: Option<Found<u64>>,
    /// The CPU.
    pub cpu: Option<Found<u32>>,
    /// The user id of the task.
    pub uid: Option<Found<u32>>,
    /// The process id of the task.
    pub pid: Option<Found<u32>>,
    /// The name of the task.
    pub comm: Option<Found<String>>,
    /// The taint letters.
    pub taint: Option<Found<Taint>>,
    /// True when a capture kernel was loaded (5.10 and later say so).
    pub kdump_loaded: Option<Found<bool>>,
    /// The kernel's release.
    pub release: Option<Found<String>>,
    /// The machine.
    pub hardware: Option<Found<String>>,
    /// The work item that was running.
    pub workqueue: Option<Found<String>>,
    /// Where the CPU was: RIP, pc, NIP, epc, PSW.
    pub ip: Option<Found<Place>>,
    /// Where it would have returned to, on architectures with a link register.
    pub lr: Option<Found<Place>>,
    /// The task the report is about, where it is not the one that printed it.
    pub subject: Option<Found<Task>>,
    /// What a sanitizer or an assertion says: `slab-out-of-bounds`, `mm/slub.c:123`.
    pub detail: Option<Found<String>>,
    /// The message of a warning or an assertion.
    pub message: Option<Found<String>>,
    /// The call trace, innermost first.
    pub frames: Vec<Frame>,
    /// Frames that were not kept.
    pub frames_lost: u32,
    /// True when an end marker followed: the kernel went on.
    pub ended: bool,
    pub(super) id: u32,
    pub(super) class: Class,
    pub(super) caller: Option<u32>,
    pub(super) last: Excerpt,
    /// True on architectures that print the end marker before they start the capture kernel.
    pub(super) marks_before_kexec: bool,
    pub(super) in_trace: bool,
    /// The translation-exception identification of s390, which the die line's code gives its meaning.
    pub(super) teid: Option<u64>,
    pub(super) section: Section,
    pub(super) misses: u32,
    bytes: usize,
}

impl Report {
    pub(super) fn new(id: u32, kind: Kind, class: Class, caller: Option<u32>) -> Self {
        Report {
            kind,
            lines: Vec::new(),
            die_count: None,
            error_code: None,
            access: None,
            address: None,
            cpu: None,
            uid: None,
            pid: None,
            comm: None,
            taint: None,
            kdump_loaded: None,
            release: None,
            hardware: None,
            workqueue: None,
            ip: None,
            lr: None,
            subject: None,
            detail: None,
            message: None,
            frames: Vec::new(),
            frames_lost: 0,
            ended: false,
            id,
            class,
            caller,
            last: Excerpt::default(),
            marks_before_kexec: false,
            in_trace: false,
            teid: None,
            section: Section::Task,
            misses: 0,
            bytes: 0,
        }
    }

    /// The headline.
    pub fn head(&self) -> Option<&Excerpt> {
        self.lines.first()
    }

    /// The line a field came from.
    pub fn line<T>(&self, found: &Found<T>) -> Option<&Excerpt> {
        self.lines.get(found.line)
    }

    /// Takes the message of a panic, and the end of init that some of them tell.
    pub(super) fn panicked(&mut self, message: &str) {
        let found = |value| Some(Found { value, line: 0 });
        self.message = found(keep(message, LINE));
        if let Some(code) = hex_after(message, "exitcode=") {
            let mut end = String::new();
            // Writing to a string does not fail.
            let _ = match code & 0x7f {
                0 => write!(end, "init exited with status {}", (code >> 8) & 0xff),
                signal => write!(end, "init was killed by signal {signal}"),
            };
            self.detail = found(end);
        }
    }

    /// True for an access to a bad address.
    pub(super) fn is_fault(&self) -> bool {
        matches!(
            self.kind,
            Kind::NullDeref | Kind::PagingRequest | Kind::ExternalAbort
        )
    }

    /// True before anything but the headline and fault details were seen.
    pub(super) fn is_fresh(&self) -> bool {
        self.pid.is_none() && self.frames.is_empty() && !self.ended && !self.in_trace
    }

    /// Takes a headline: the first one, or a later one of the same report.
    pub(super) fn headline(&mut self, line: &Excerpt, kind: Kind, die_count: Option<u32>) {
        if kind.rank() > self.kind.rank() {
            self.kind = kind;
        }
        let at = self.evidence(line);
        if let Some(count) = die_count {
            self.die_count.get_or_insert(Found {
                value: count,
                line: at,
            });
        }
        self.headline_fields(&line.text, kind, at);
        self.die_code(&line.text, kind, at);
    }

    pub(super) fn push(&mut self, frame: Option<Frame>) {
        let Some(frame) = frame else { return };
        let cost = frame.place.symbol.len().saturating_add(16);
        if self.frames.len() >= FRAMES || self.bytes.saturating_add(cost) > BYTES {
            self.frames_lost = self.frames_lost.saturating_add(1);
            return;
        }
        self.bytes = self.bytes.saturating_add(cost);
        self.frames.push(frame);
    }

    /// Keeps a line as evidence and answers its index.
    pub(super) fn evidence(&mut self, line: &Excerpt) -> usize {
        let last = self.lines.len().saturating_sub(1);
        let same = self.lines.last().is_some_and(|kept| kept == line);
        let cost = line.text.len().saturating_add(32);
        if same || self.bytes.saturating_add(cost) > BYTES && !self.lines.is_empty() {
            return last;
        }
        self.bytes = self.bytes.saturating_add(cost);
        self.lines.push(line.clone());
        self.lines.len().saturating_sub(1)
    }

    pub(super) fn set_access(&mut self, access: Option<Access>, at: usize) {
        if let Some(value) = access {
            self.access = Some(Found { value, line: at });
        }
    }

    /// Calls a bad address in the first page what the kernels do that look: a NULL pointer.
    pub(super) fn zero_page(&mut self) {
        let low = self
            .address
            .as_ref()
            .is_some_and(|found| found.value < 4096);
        if low && self.kind == Kind::PagingRequest {
            self.kind = Kind::NullDeref;
        }
    }
}

/// Sets a field that is not set yet.
pub(super) fn put<T>(field: &mut Option<Found<T>>, value: Option<T>, line: usize) {
    if field.is_none() {
        *field = value.map(|value| Found { value, line });
    }
}

impl fmt::Display for Task {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} (pid {})", self.comm, self.pid)
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(ts_ns) = self.ts_ns {
            let (seconds, rest) = (ts_ns / 1_000_000_000, ts_ns % 1_000_000_000);
            write!(out, "[{seconds:5}.{:06}] ", rest / 1000)?;
        }
        out.write_str(&self.text)
    }
}
