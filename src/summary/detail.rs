//! The lines after the first: registers, fault details and the call trace.
//!
//! The shapes of all architectures differ in their words only, so one table of first words serves them all.

use super::fault::Access;
use super::frame::{Frame, Place, Section};
use super::kind::Kind;
use super::report::{Excerpt, Found, LINE, Report, put};
use super::words::{after, cut, decimal, decimal_after, hex, hex_after, keep};

/// Lines without anything of a trace after which the trace is over.
const MISSES: u32 = 24;

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
        // Arm until 6.10 and riscv after the registers of an oops print their frames without a first line.
        if self.frames.is_empty() && (is_bare_frame(trimmed) || Frame::callee(trimmed).is_some()) {
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
}

/// True for `[<ffffffff803bcb84>] func+0x4/0x38`.
fn is_bare_frame(text: &str) -> bool {
    let place = Some(text)
        .filter(|text| text.starts_with("[<"))
        .and_then(Place::parse);
    place.is_some_and(|place| place.size.is_some())
}
