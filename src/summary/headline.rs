//! What the first lines of a report say beside their kind.
//!
//! ```text
//! BUG: unable to handle page fault for address: ffffdead00000000      address
//! Internal error: Oops: 0000000096000046 [#1] SMP                     error code, decoded
//! watchdog: BUG: soft lockup - CPU#2 stuck for 8s! [comm:112]         CPU, task
//! WARNING: CPU: 1 PID: 0 at lib/refcount.c:28 func+0x1/0x2            CPU, place in the source, function
//! BUG: KASAN: slab-out-of-bounds in func+0x1/0x2                      what, function
//! ```

use super::fault::Access;
use super::frame::Place;
use super::kind::Kind;
use super::report::{Report, Task, put};
use super::words::{after, decimal, decimal_after, hex, hex_after, keep};

impl Report {
    pub(super) fn headline_fields(&mut self, text: &str, kind: Kind, at: usize) {
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
    pub(super) fn die_code(&mut self, text: &str, kind: Kind, at: usize) {
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
            _ if arm && (page_fault || self.is_fault()) => Access::arm(code),
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
