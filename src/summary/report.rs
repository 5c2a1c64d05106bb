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
//! The shapes of all architectures differ in their words only, so one table of first words serves them all.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

use super::events::Class;
use super::fault::Access;
use super::frame::{Frame, Place, Section};
use super::kind::Kind;
use super::taint::Taint;
use super::words::{after, cut, decimal, decimal_after, hex, hex_after, keep};

/// Most frames kept of one trace.
const FRAMES: usize = 64;

/// Most bytes of text kept of one report.
const BYTES: usize = 6 << 10;

/// Longest line kept as evidence.
pub(super) const LINE: usize = 240;

/// Lines without anything of a trace after which the trace is over.
const MISSES: u32 = 24;

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
    teid: Option<u64>,
    section: Section,
    misses: u32,
    bytes: usize,
}

/// What the first words of a detail line introduce.
#[derive(Clone, Copy)]
enum Detail {
    Identity,
    OldIdentity,
    Process,
    PowerTask,
    Hardware,
    Workqueue,
    Ip,
    IpAgain,
    CsIp,
    Psw,
    Lr,
    PageFault,
    Esr,
    Cause,
    Failing,
    Faulting,
    Cr2,
    Mips,
    Estat,
    BadAddr,
    Kasan,
    Size,
    Trace,
    TraceEnd,
    End,
    Skip,
}

use Detail as D;

const DETAILS: &[(&str, Detail)] = &[
    ("CPU: ", D::Identity),
    ("CPU ", D::Identity),
    ("Pid: ", D::OldIdentity),
    ("Process ", D::Process),
    ("Process: ", D::Process),
    ("TASK = ", D::PowerTask),
    ("Hardware name: ", D::Hardware),
    ("Workqueue: ", D::Workqueue),
    ("RIP: ", D::CsIp),
    ("EIP: ", D::CsIp),
    ("EIP is at ", D::Ip),
    ("RIP  [<", D::IpAgain),
    ("IP: ", D::Ip),
    ("IP is at ", D::Ip),
    ("PC is at ", D::Ip),
    ("LR is at ", D::Lr),
    ("pc : ", D::Ip),
    ("pc ", D::Ip),
    ("lr : ", D::Lr),
    ("epc", D::Ip),
    ("ra ", D::Lr),
    ("ra: ", D::Lr),
    ("ERA: ", D::Ip),
    ("era", D::Ip),
    ("NIP ", D::Ip),
    ("NIP: ", D::Ip),
    ("LR ", D::Lr),
    ("Krnl PSW : ", D::Psw),
    ("#PF: error_code(", D::PageFault),
    ("ESR = ", D::Esr),
    ("status: ", D::Cause),
    ("Failing address: ", D::Failing),
    ("Faulting instruction address: ", D::Faulting),
    ("CR2: ", D::Cr2),
    ("Cause : ", D::Mips),
    ("ESTAT: ", D::Estat),
    ("BadVA : ", D::BadAddr),
    ("BADV: ", D::BadAddr),
    ("KASAN: ", D::Kasan),
    ("Read of size ", D::Size),
    ("Write of size ", D::Size),
    ("Call Trace:", D::Trace),
    ("Call trace:", D::Trace),
    ("Backtrace:", D::Trace),
    ("Allocated by ", D::TraceEnd),
    ("Freed by ", D::TraceEnd),
    ("Last potentially ", D::TraceEnd),
    ("The buggy address ", D::TraceEnd),
    ("Uninit was ", D::TraceEnd),
    ("SMP: stopping ", D::TraceEnd),
    ("Kernel Offset: ", D::TraceEnd),
    ("Last Breaking-Event-Address", D::TraceEnd),
    ("====", D::TraceEnd),
    ("---[ end trace ", D::End),
    ("Code: ", D::Skip),
    ("RSP: ", D::Skip),
    ("RAX: ", D::Skip),
    ("RDX: ", D::Skip),
    ("RBP: ", D::Skip),
    ("R10: ", D::Skip),
    ("R13: ", D::Skip),
    ("RBX: ", D::Skip),
    ("RCX: ", D::Skip),
    ("ORIG_RAX: ", D::Skip),
    ("EAX: ", D::Skip),
    ("ESI: ", D::Skip),
    ("DS: ", D::Skip),
];

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

    fn headline_fields(&mut self, text: &str, kind: Kind, at: usize) {
        match kind {
            Kind::NullDeref | Kind::PagingRequest | Kind::ExternalAbort => {
                self.fault_headline(text, at);
            }
            Kind::PanicOnWarn => self.warning_headline(text, at),
            Kind::SoftLockup => {
                put(&mut self.cpu, decimal_after(text, "CPU#"), at);
                let task = text
                    .rsplit_once('[')
                    .and_then(|(_, task)| Task::parse(task, ']'));
                put(&mut self.subject, task, at);
            }
            Kind::HungTask => {
                let task = after(text, "INFO: task ").and_then(|task| {
                    let (task, _) = task.split_once(" blocked ")?;
                    Task::parse(task, '\0')
                });
                put(&mut self.subject, task, at);
            }
            Kind::HardLockup => {
                let cpu = decimal_after(text, "on cpu ").or_else(|| decimal_after(text, "CPU "));
                put(&mut self.cpu, cpu, at);
                let place = after(text, "LOCKUP @ ").and_then(Place::parse);
                put(&mut self.ip, place, at);
            }
            Kind::Kasan | Kind::Kfence | Kind::Kcsan | Kind::Kmsan | Kind::Ubsan => {
                let what = after(text, "BUG: ").unwrap_or(text);
                let what = what.split_once(": ").map_or(what, |(_, what)| what);
                if let Some((detail, place)) = what.split_once(" in ") {
                    put(&mut self.detail, Some(keep(detail, 80)), at);
                    put(&mut self.ip, Place::parse(place), at);
                }
            }
            Kind::Bug => {
                let place = after(text, "BUG at ").map(|place| place.trim_end_matches('!'));
                put(&mut self.detail, place.map(|place| keep(place, 120)), at);
            }
            _ => {}
        }
    }

    fn fault_headline(&mut self, text: &str, at: usize) {
        put(
            &mut self.cpu,
            text.strip_prefix("CPU ").and_then(decimal),
            at,
        );
        let address = [
            "address: ",
            "address ",
            " at 0x",
            "dereference at ",
            "request at ",
        ]
        .iter()
        .find_map(|words| hex_after(text, words));
        put(&mut self.address, address, at);
    }

    /// `Oops: 0002 [#1]`, `Internal error: Oops: 96000005 [#1]`, `Oops: 0038 ilc:2 [#1]`: the code stands before the count.
    fn die_code(&mut self, text: &str, kind: Kind, at: usize) {
        let Some((before, _)) = text.split_once("[#") else {
            return;
        };
        if before.contains("sig: ") {
            return;
        }
        let s390 = before.contains(" ilc:");
        let before = before.split(" ilc:").next().unwrap_or_default().trim_end();
        let code = before.rsplit([' ', ':']).next().unwrap_or_default();
        if code.len() > 16 || !code.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return;
        }
        let Some(code) = hex(code) else { return };
        put(&mut self.error_code, Some(code), at);
        let arm = text.contains("Internal error");
        let page_fault = before.contains("Oops: ") && kind == Kind::Oops;
        let access = match code {
            _ if s390 => Access::s390(code, self.teid),
            // Bit 25 of an arm64 syndrome, the instruction's length, is set for every abort.
            _ if arm && code & (1 << 25) != 0 => Access::arm64(code),
            _ if arm && (page_fault || self.kind == Kind::ExternalAbort) => Access::arm(code),
            _ if page_fault => Access::x86(code),
            _ => None,
        };
        if s390 || self.access.is_none() {
            self.set_access(access, at);
        }
    }

    fn warning_headline(&mut self, text: &str, at: usize) {
        let cpu = decimal_after(text, "CPU: ").or_else(|| decimal_after(text, "CPU#"));
        put(&mut self.cpu, cpu, at);
        let Some((_, place)) = text.split_once(" at ") else {
            return;
        };
        let new = text.rsplit_once(", CPU#");
        if let Some((before, task)) = new {
            let task = after(task, ": ").and_then(|task| task.rsplit_once('/'));
            if let Some((comm, pid)) = task {
                put(&mut self.comm, Some(keep(comm, 16)), at);
                put(&mut self.pid, decimal(pid), at);
            }
            let file = before.split_once(" at ").map_or(before, |(file, _)| file);
            let file = after(file, "WARNING: ").unwrap_or(file);
            put(&mut self.detail, Some(keep(file, 120)), at);
            put(&mut self.ip, Place::parse(place), at);
            return;
        }
        let (file, place) = place.split_once(' ').unwrap_or((place, ""));
        put(&mut self.detail, Some(keep(file, 120)), at);
        put(&mut self.ip, Place::parse(place), at);
    }

    /// Takes a line that may belong to the report; answers whether it does.
    pub(super) fn detail(&mut self, line: &Excerpt, text: &str) -> bool {
        let trimmed = text.trim_start();
        let known = DETAILS
            .iter()
            .find_map(|&(words, detail)| Some((detail, trimmed.strip_prefix(words)?)));
        if let Some((detail, rest)) = known {
            self.misses = 0;
            return self.apply(detail, line, rest);
        }
        if trimmed.contains("DSISR: ") {
            self.powerpc(line, trimmed);
            return true;
        }
        // Arm prints its frames without a first line, until 6.10.
        if self.frames.is_empty() && Frame::callee(trimmed).is_some() {
            self.in_trace = true;
        }
        self.in_trace && self.trace_line(trimmed)
    }

    fn trace_line(&mut self, text: &str) -> bool {
        let mut rest = text;
        let mut tagged = false;
        while let Some((section, after)) = Section::parse(rest) {
            (self.section, rest, tagged) = (section, after, true);
        }
        match Frame::parse(rest, self.section) {
            Some(frame) => {
                if self.frames.is_empty() {
                    self.push(Frame::callee(rest));
                }
                self.push(Some(frame));
                self.misses = 0;
                true
            }
            None => {
                self.misses = self.misses.saturating_add(1);
                self.in_trace &= self.misses < MISSES;
                tagged
            }
        }
    }

    fn push(&mut self, frame: Option<Frame>) {
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

    fn apply(&mut self, detail: Detail, line: &Excerpt, rest: &str) -> bool {
        match detail {
            D::Identity => return self.identity(line, rest),
            D::OldIdentity => self.old_identity(line, rest),
            D::Process => {
                let task = rest.split_once(" (pid: ");
                if let Some((comm, pid)) = task.filter(|_| self.pid.is_none()) {
                    let at = self.evidence(line);
                    put(&mut self.comm, Some(keep(comm, 16)), at);
                    put(&mut self.pid, decimal(pid), at);
                }
            }
            D::PowerTask => {
                let at = self.evidence(line);
                put(&mut self.pid, decimal_after(rest, "["), at);
                let comm = after(rest, "] '").and_then(|comm| comm.split_once('\''));
                put(&mut self.comm, comm.map(|(comm, _)| keep(comm, 16)), at);
                put(&mut self.cpu, decimal_after(rest, "CPU: "), at);
            }
            D::Hardware => {
                let at = self.evidence(line);
                put(&mut self.hardware, Some(keep(rest, 200)), at);
            }
            D::Workqueue => {
                let at = self.evidence(line);
                put(&mut self.workqueue, Some(keep(rest, 120)), at);
            }
            D::Ip => self.place(line, rest, false),
            D::CsIp => self.cs_ip(line, rest),
            D::IpAgain => {
                if self.ip.is_none() && self.frames.is_empty() {
                    self.place(line, cut(&line.text, LINE).trim_start_matches("RIP"), false);
                }
            }
            D::Psw => {
                let symbol = rest.split_once(" (").map_or("", |(_, symbol)| symbol);
                let address = rest.split_ascii_whitespace().nth(1).and_then(hex);
                let mut place = Place::parse(symbol).unwrap_or_default();
                place.address = place.address.or(address);
                self.set_ip(line, Some(place));
            }
            D::Lr => self.place(line, rest, true),
            D::Trace => {
                // A second trace of a report (the stack of another task, of the last free) is not its own.
                self.in_trace = self.frames.is_empty();
                if self.in_trace {
                    self.section = Section::Task;
                    self.trace_line(rest);
                }
            }
            D::TraceEnd => self.in_trace = false,
            D::End => {
                self.in_trace = false;
                self.ended = true;
            }
            D::Skip => {}
            _ => self.fault_detail(detail, line, rest),
        }
        true
    }

    fn fault_detail(&mut self, detail: Detail, line: &Excerpt, rest: &str) {
        let first = hex(rest);
        let faults = matches!(
            self.kind,
            Kind::NullDeref | Kind::PagingRequest | Kind::Oops
        );
        // The register holds the address of some earlier fault when this one is of another kind.
        if matches!(detail, D::Cr2) && (!faults || self.address.is_some()) {
            return;
        }
        let at = self.evidence(line);
        match detail {
            D::PageFault => {
                self.error_code = first.map(|value| Found { value, line: at });
                self.set_access(first.and_then(Access::x86), at);
            }
            D::Esr => {
                put(&mut self.error_code, first, at);
                self.set_access(first.and_then(Access::arm64), at);
            }
            D::Cause => {
                let cause = hex_after(rest, "cause: ");
                put(&mut self.error_code, cause, at);
                self.set_access(cause.and_then(Access::riscv), at);
                if self.access.is_some() {
                    put(&mut self.address, hex_after(rest, "badaddr: "), at);
                }
            }
            D::Failing => {
                let teid = hex_after(rest, "TEID: ");
                put(&mut self.address, first, at);
                self.teid = teid;
            }
            D::Faulting => {
                let place = Place {
                    address: first,
                    ..Place::default()
                };
                put(&mut self.ip, Some(place), at);
            }
            D::Mips => {
                let code = after(rest, "ExcCode ").and_then(hex);
                self.set_access(code.and_then(Access::mips), at);
            }
            D::Estat => {
                self.marks_before_kexec = true;
                self.set_access(hex_after(rest, "ECode=").and_then(Access::loongarch), at);
            }
            D::Cr2 | D::BadAddr => put(&mut self.address, first, at),
            D::Kasan => put(&mut self.detail, Some(keep(rest, 80)), at),
            D::Size => put(&mut self.address, hex_after(rest, "addr "), at),
            _ => {}
        }
    }

    fn set_access(&mut self, access: Option<Access>, at: usize) {
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

    fn powerpc(&mut self, line: &Excerpt, text: &str) {
        let at = self.evidence(line);
        self.marks_before_kexec = true;
        let dsisr = hex_after(text, "DSISR: ");
        put(&mut self.error_code, dsisr, at);
        self.set_access(dsisr.and_then(Access::powerpc), at);
        put(&mut self.address, hex_after(text, "DAR: "), at);
    }

    fn set_ip(&mut self, line: &Excerpt, place: Option<Place>) {
        let better = |old: &Found<Place>| old.value.is_unnamed();
        let Some(value) = place else { return };
        if self.in_trace && !self.frames.is_empty() {
            if !value.is_unnamed() {
                let section = self.section;
                self.push(Some(Frame {
                    place: value,
                    doubtful: false,
                    interrupted: true,
                    section,
                }));
            }
            return;
        }
        if self.frames.is_empty()
            && (self.ip.is_none() || self.ip.as_ref().is_some_and(better) && !value.is_unnamed())
        {
            let line = self.evidence(line);
            self.ip = Some(Found { value, line });
        }
    }

    /// `func+0x1/0x2`, `[<addr>] func`, `addr func` after the name of a register.
    fn place(&mut self, line: &Excerpt, rest: &str, link: bool) {
        if line.text.trim_start().starts_with("NIP") {
            self.marks_before_kexec = true;
        }
        let rest = rest.trim_start_matches([' ', ':', '\t']);
        let (word, tail) = rest.split_once(' ').unwrap_or((rest, ""));
        let bare = word.len() >= 8 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        let place = if bare {
            let mut place = Place::parse(tail).unwrap_or_default();
            place.address = hex(word);
            Some(place)
        } else {
            Place::parse(rest)
        };
        if !link {
            self.set_ip(line, place);
        } else if !self.in_trace
            && let Some(place) = place
            && (self.lr.is_none() || !place.is_unnamed())
        {
            let at = self.evidence(line);
            self.lr = Some(Found {
                value: place,
                line: at,
            });
        }
    }

    /// `RIP: 0010:func+0x1/0x2`, `RIP: 0010:[<addr>] [<addr>] func`, `EIP: func`, `EIP: 0060:[<addr>] EFLAGS: ... CPU: 0`.
    fn cs_ip(&mut self, line: &Excerpt, rest: &str) {
        let segment = rest.split_once(':').filter(|(segment, _)| {
            segment.len() == 4 && segment.bytes().all(|byte| byte.is_ascii_hexdigit())
        });
        let (segment, place) = segment.unwrap_or(("", rest));
        // The two low bits of the code segment are the privilege level: 3 is user mode.
        let user = hex(segment).is_some_and(|segment| segment & 3 == 3);
        let again = segment.is_empty() && rest.contains(" RSP: ");
        if user || again {
            return;
        }
        let place = Place::parse(place).or_else(|| {
            let (address, _) = place.split_once("EFLAGS")?;
            Place::parse(address)
        });
        let user32 = segment.is_empty() && place.as_ref().is_some_and(Place::is_unnamed);
        if !(user32 && (self.in_trace || !self.frames.is_empty())) {
            self.set_ip(line, place);
        }
    }

    /// `0 UID: 0 PID: 1 Comm: init Kdump: loaded Tainted: G  W  6.1.0 #1 ...`.
    fn identity(&mut self, line: &Excerpt, rest: &str) -> bool {
        let Some(cpu) = decimal(rest) else {
            return false;
        };
        let bare = rest.trim().bytes().all(|byte| byte.is_ascii_digit());
        let arm = rest.contains("ainted") && !rest.contains("PID: ");
        if !bare && !arm && !rest.contains("Comm: ") {
            return false;
        }
        if self.pid.is_some() && self.release.is_some() {
            // The backtrace of another CPU without its own headline.
            return true;
        }
        let at = self.evidence(line);
        // A stall that another CPU found is about that CPU: the identity line is of the stalled one.
        put(&mut self.cpu, Some(cpu), at);
        put(&mut self.uid, decimal_after(rest, "UID: "), at);
        let after_pid = after(rest, "PID: ");
        let pid = after_pid
            .and_then(decimal)
            .map(|value| Found { value, line: at });
        self.pid = pid.or(self.pid.take());
        if let Some(task) = after(rest, "Comm: ") {
            self.comm_and_rest(task, at);
        } else if arm {
            self.taint_and_release(
                rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' '),
                at,
            );
        }
        true
    }

    /// `1, comm: init Not tainted 3.4-4.0 #2 QEMU Standard PC`.
    fn old_identity(&mut self, line: &Excerpt, rest: &str) {
        let at = self.evidence(line);
        put(&mut self.pid, decimal(rest), at);
        if let Some(task) = after(rest, "comm: ") {
            self.comm_and_rest(task, at);
        }
    }

    /// The name, which may hold spaces, ends where one of three fixed phrases begins.
    fn comm_and_rest(&mut self, task: &str, at: usize) {
        let ends = [" Kdump: ", " Tainted: ", " Not tainted"];
        let end = ends.iter().filter_map(|words| task.find(words)).min();
        let (comm, rest) = task
            .split_at_checked(end.unwrap_or(task.len()))
            .unwrap_or((task, ""));
        self.comm = Some(Found {
            value: keep(comm, 16),
            line: at,
        });
        if rest.starts_with(" Kdump: loaded") {
            put(&mut self.kdump_loaded, Some(true), at);
        }
        self.taint_and_release(rest, at);
    }

    fn taint_and_release(&mut self, rest: &str, at: usize) {
        let (taint, rest) = if let Some(rest) = after(rest, "Tainted: ") {
            (Taint::parse(rest), rest)
        } else if let Some(rest) = after(rest, "Not tainted") {
            (Taint::default(), rest)
        } else {
            return;
        };
        put(&mut self.taint, Some(taint), at);
        let mut words = rest.split_ascii_whitespace();
        let release = words.find(|word| {
            let word = word.trim_start_matches('(');
            word.bytes()
                .next()
                .is_some_and(|byte| byte.is_ascii_digit())
        });
        let release = release.map(|word| keep(word.trim_start_matches('('), 64));
        put(&mut self.release, release, at);
        // Before 3.10 the machine stood at the end of this line.
        let old = self
            .lines
            .get(at)
            .is_some_and(|line| line.text.starts_with("Pid: "));
        if old && let Some(rest) = after(rest, " #") {
            let machine = after(rest, " ").unwrap_or_default();
            let machine = Some(keep(machine, 200)).filter(|machine| !machine.is_empty());
            put(&mut self.hardware, machine, at);
        }
    }
}

/// Sets a field that is not set yet.
fn put<T>(field: &mut Option<Found<T>>, value: Option<T>, line: usize) {
    if field.is_none() {
        *field = value.map(|value| Found { value, line });
    }
}

impl Task {
    /// Reads `comm:pid` up to `end`; the name may hold colons.
    fn parse(text: &str, end: char) -> Option<Self> {
        let text = text.split_once(end).map_or(text, |(task, _)| task);
        let (comm, pid) = text.rsplit_once(':')?;
        Some(Task {
            comm: keep(comm, 16),
            pid: pid.parse().ok()?,
        })
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
