//! One pass over the log: sorts its lines into reports, signs of trouble and warnings, in bounded memory.
//!
//! ```text
//! record -> lines -> headline? -> opens a report, or joins the one its CPU or task is printing
//!                 -> no        -> a detail of the report that its CPU or task is printing, or nothing
//! ```
//!
//! Two CPUs print at once, so each open report belongs to the caller of its first line, where the kernel records
//! callers (`CONFIG_PRINTK_CALLER`). Of the reports the newest are kept, and the first oops of the newest burst; what
//! they mean for each other is decided in `choose.rs` when the log has ended.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use super::events::{Class, Headline, Headlines};
use super::kind::Kind;
use super::report::{Excerpt, LINE, Report};
use super::words::{after, cut, decimal_after, keep};

/// Most reports kept.
const REPORTS: usize = 8;

/// Most reports that are being printed at once.
const OPEN: usize = 4;

/// Most warnings kept; all are counted.
const WARNINGS: usize = 16;

/// Most of the newest signs of trouble kept; all are counted.
const SIGNS: usize = 8;

/// Longest line looked at; `Modules linked in:` of a large server takes 4 KiB.
const LINE_MAX: usize = 8 << 10;

/// Most bytes kept of `Modules linked in:`.
const MODULES: usize = 6 << 10;

/// Time and lines after which an unfinished report takes no more lines.
const OPEN_NS: u64 = 5_000_000_000;
const OPEN_LINES: u64 = 400;

/// Two oopses further apart are not one burst.
const BURST_NS: u64 = 10_000_000_000;

/// A caller of `printk()` that is a CPU, not a task, has this bit (`kernel/printk/printk.c`).
const CALLER_IS_CPU: u32 = 0x8000_0000;

/// One record of the log, as far as the summary needs it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Line<'a> {
    /// The sequence number of the record, or the number of the line.
    pub seq: u64,
    /// Time since boot in nanoseconds.
    pub ts_ns: Option<u64>,
    /// `KERN_EMERG` 0 to `KERN_DEBUG` 7.
    pub level: Option<u8>,
    /// 0 for the kernel; what user space writes to `/dev/kmsg` has another one and is ignored.
    pub facility: Option<u8>,
    /// Who printed it: a thread id, or a CPU with bit 31 set.
    pub caller: Option<u32>,
    /// The text, without the prefix; may hold several lines and any bytes.
    pub text: &'a [u8],
}

/// The state of the pass.
pub struct TextScan {
    headlines: Headlines,
    pub(super) reports: Vec<Report>,
    open: Vec<u32>,
    next_id: u32,
    pub(super) panic: Option<u32>,
    pub(super) burst: Option<u32>,
    pub(super) first_sign: Option<Excerpt>,
    pub(super) signs: VecDeque<Excerpt>,
    pub(super) sign_count: u64,
    pub(super) warnings: Vec<Excerpt>,
    pub(super) warning_count: u64,
    pub(super) modules: Option<(Excerpt, String)>,
    modules_of: Option<Option<u32>>,
    cut_here: Option<Option<u32>>,
    cut_message: Option<Excerpt>,
    pub(super) leaving: Option<Excerpt>,
    pub(super) redirect: Option<(u32, u32, Excerpt)>,
    pub(super) lines: u64,
    pub(super) last_ts: Option<u64>,
}

impl Default for TextScan {
    fn default() -> Self {
        TextScan::new()
    }
}

impl TextScan {
    /// A pass that has seen nothing.
    pub fn new() -> Self {
        TextScan {
            headlines: Headlines::new(),
            reports: Vec::new(),
            open: Vec::new(),
            next_id: 0,
            panic: None,
            burst: None,
            first_sign: None,
            signs: VecDeque::new(),
            sign_count: 0,
            warnings: Vec::new(),
            warning_count: 0,
            modules: None,
            modules_of: None,
            cut_here: None,
            cut_message: None,
            leaving: None,
            redirect: None,
            lines: 0,
            last_ts: None,
        }
    }

    /// Takes the next record.
    pub fn feed(&mut self, line: &Line<'_>) {
        if line.facility.is_some_and(|facility| facility != 0) {
            return;
        }
        self.last_ts = line.ts_ns.or(self.last_ts);
        for text in line.text.split(|&byte| byte == b'\n') {
            self.lines = self.lines.wrapping_add(1);
            let (caller, text) = strip_caller(line.caller, text.trim_ascii_end());
            let text = text.get(..LINE_MAX).unwrap_or(text);
            let (row, die_count) = self.headlines.find(text);
            if row.is_none() && die_count.is_none() && self.is_idle() {
                continue;
            }
            let text = String::from_utf8_lossy(text);
            let excerpt = Excerpt {
                seq: line.seq,
                ts_ns: line.ts_ns,
                text: keep(&text, LINE),
            };
            self.line(caller, &text, &excerpt, row, die_count);
        }
    }

    /// True when a line without a headline means nothing.
    fn is_idle(&self) -> bool {
        self.open.is_empty() && self.cut_here.is_none()
    }

    fn line(
        &mut self,
        caller: Option<u32>,
        text: &str,
        line: &Excerpt,
        row: Option<&'static Headline>,
        die_count: Option<u32>,
    ) {
        let (kind, class) = match row {
            Some(row) => (row.kind, row.class),
            // A die message of words we do not know.
            None if die_count.is_some() && self.is_die(caller, text) => (Kind::Oops, Class::Oops),
            None => return self.detail(caller, text, line),
        };
        self.modules_of = None;
        match class {
            Class::Boundary => self.boundary(caller, text),
            Class::Backtrace => self.backtrace(caller),
            Class::Leaving => self.leaving = Some(line.clone()),
            Class::Sign => self.one_line_sign(text, line),
            Class::Panic => self.panic(caller, text, line),
            _ if self.panic.is_some() => self.close(caller),
            _ => self.headline(caller, line, kind, class, die_count),
        }
    }

    /// `[#1]` counts as a die message at the end of words, not in the middle of a sentence that quotes one.
    fn is_die(&self, caller: Option<u32>, text: &str) -> bool {
        let fresh = self.open_report(caller).is_some_and(Report::is_fresh);
        fresh || text.len() < 160 && text.contains(": ") || text.contains("[#1]:")
    }

    fn one_line_sign(&mut self, text: &str, line: &Excerpt) {
        if let Some(cpus) = after(text, "panic: Redirecting from CPU ") {
            let (from, to) = (decimal_after(cpus, ""), decimal_after(cpus, "to CPU "));
            if let (Some(from), Some(to)) = (from, to) {
                self.redirect = Some((from, to, line.clone()));
            }
            return;
        }
        // The end of a user process is trouble when it was init.
        if !text.contains("segfault at") || text.contains("[1]: ") {
            self.sign(line);
        }
    }

    fn sign(&mut self, line: &Excerpt) {
        if self.panic.is_some() {
            return;
        }
        let sign = Excerpt {
            text: keep(&line.text, 160),
            ..*line
        };
        self.sign_count = self.sign_count.wrapping_add(1);
        if self.first_sign.is_none() {
            self.first_sign = Some(sign.clone());
        }
        if self.signs.len() >= SIGNS {
            self.signs.pop_front();
        }
        self.signs.push_back(sign);
    }

    fn panic(&mut self, caller: Option<u32>, text: &str, line: &Excerpt) {
        self.close(caller);
        if self.panic.is_some() {
            return;
        }
        let id = self.open_new(caller, line, Kind::Panic, Class::Panic, None);
        self.panic = Some(id);
        let message = after(text, "Kernel panic - not syncing: ");
        let message = message.or_else(|| after(text, "Kernel panic: "));
        if let Some(report) = self.report_mut(id) {
            report.panicked(message.unwrap_or_default());
        }
    }

    fn headline(
        &mut self,
        caller: Option<u32>,
        line: &Excerpt,
        kind: Kind,
        class: Class,
        die_count: Option<u32>,
    ) {
        self.expire(line.ts_ns);
        let lines = self.lines;
        if let Some(id) = self.joined(caller, class, die_count) {
            // The report goes on: it is the newest of those being printed.
            self.open.retain(|&open| open != id);
            self.open.push(id);
            if let Some(report) = self.report_mut(id) {
                let grown = class != Class::Precursor && report.class != class;
                if grown {
                    report.class = class;
                }
                report.headline(line, kind, die_count);
                touch(report, line, lines);
                if grown {
                    self.opened(id, class, line);
                }
            }
            return;
        }
        if class != Class::Trigger {
            self.sign(line);
        }
        if caller.is_some() {
            self.close(caller);
        }
        let id = self.open_new(caller, line, kind, class, die_count);
        self.opened(id, class, line);
    }

    /// The open report that a headline belongs to. Without callers that may be one that another CPU's broke into.
    fn joined(&self, caller: Option<u32>, class: Class, die_count: Option<u32>) -> Option<u32> {
        let mut newest = self.open.iter().rev().filter_map(|&id| self.report(id));
        let same = |report: &&Report| caller.is_none() || report.caller == caller;
        let joined = newest.find(|report| same(report) && joins(report, class, die_count));
        joined.map(|report| report.id)
    }

    /// What the class of a report that began, or grew into that class, asks for.
    fn opened(&mut self, id: u32, class: Class, line: &Excerpt) {
        let message = self.cut_message.take();
        self.cut_here = None;
        if let (Some(report), Some(message)) = (self.report_mut(id), message) {
            let at = report.evidence(&message);
            let value = keep(&message.text, LINE);
            report.message = Some(super::report::Found { value, line: at });
        }
        if class == Class::Oops && self.burst != Some(id) && !self.is_burst(line.ts_ns) {
            self.burst = Some(id);
        }
        if class == Class::Warning {
            self.warning_count = self.warning_count.wrapping_add(1);
            if self.warnings.len() < WARNINGS {
                self.warnings.push(Excerpt {
                    text: keep(&line.text, 160),
                    ..*line
                });
            }
        }
    }

    /// True while the oopses before are too close for one at `ts_ns` to have a cause of its own.
    fn is_burst(&self, ts_ns: Option<u64>) -> bool {
        // The newest is the one that has just been opened. One that sysrq-c made has a cause of its own.
        let ends = |report: &&Report| matches!(report.class, Class::Oops | Class::Trigger);
        let Some(previous) = self.reports.iter().rev().filter(ends).nth(1) else {
            return false;
        };
        if previous.class == Class::Trigger {
            return false;
        }
        match (previous.last.ts_ns, ts_ns) {
            (Some(before), Some(now)) => now.saturating_sub(before) < BURST_NS,
            _ => self.lines.saturating_sub(previous.last.seq) < OPEN_LINES,
        }
    }

    fn open_new(
        &mut self,
        caller: Option<u32>,
        line: &Excerpt,
        kind: Kind,
        class: Class,
        die_count: Option<u32>,
    ) -> u32 {
        if self.reports.len() >= REPORTS {
            let kept = [self.panic, self.burst];
            let old = |report: &Report| !kept.contains(&Some(report.id));
            if let Some(place) = self.reports.iter().position(old) {
                let gone = self.reports.remove(place);
                self.open.retain(|&id| id != gone.id);
            }
        }
        self.next_id = self.next_id.wrapping_add(1);
        let mut report = Report::new(self.next_id, kind, class, caller);
        report.headline(line, kind, die_count);
        touch(&mut report, line, self.lines);
        self.reports.push(report);
        if self.open.len() >= OPEN {
            self.open.remove(0);
        }
        self.open.push(self.next_id);
        self.next_id
    }

    fn detail(&mut self, caller: Option<u32>, text: &str, line: &Excerpt) {
        if self.cut_here == Some(caller) && self.cut_message.is_none() && !text.is_empty() {
            self.cut_message = Some(line.clone());
            self.cut_here = None;
        }
        self.expire(line.ts_ns);
        if self.open.is_empty() {
            return;
        }
        let modules = text.trim_start();
        if modules.starts_with("Modules linked in:") {
            self.modules = Some((line.clone(), keep(modules, MODULES)));
            self.modules_of = Some(caller);
            return;
        }
        if self.modules_of == Some(caller) {
            if let Some((_, names)) = self.modules.as_mut().filter(|_| is_modules(text)) {
                let room = MODULES.saturating_sub(names.len());
                names.push(' ');
                names.push_str(cut(text, room));
                return;
            }
            self.modules_of = None;
        }
        let lines = self.lines;
        if let Some(report) = self.open_report_mut(caller) {
            let ended = report.ended;
            if report.detail(line, text) {
                touch(report, line, lines);
            }
            if report.ended && !ended {
                self.close(caller);
            }
        }
    }

    fn boundary(&mut self, caller: Option<u32>, text: &str) {
        if !text.contains("cut here") {
            return self.close(caller);
        }
        // What explains a BUG stands before its mark.
        let explains = |report: &Report| report.class == Class::Precursor && report.is_fresh();
        if !self.open_report(caller).is_some_and(explains) {
            self.close(caller);
        }
        self.cut_here = Some(caller);
        self.cut_message = None;
    }

    /// A stall that another CPU noticed has its trace in that CPU's backtrace.
    fn backtrace(&mut self, caller: Option<u32>) {
        self.close(caller);
        let now = self.last_ts;
        let stall = self.reports.last_mut().filter(|report| {
            let stall = matches!(
                report.kind,
                Kind::HardLockup | Kind::RcuStall | Kind::SoftLockup
            );
            stall && report.is_fresh() && !is_stale(report, now, 0)
        });
        if let Some(report) = stall {
            report.caller = caller;
            let id = report.id;
            self.open.retain(|&open| open != id);
            self.open.push(id);
        }
    }

    fn close(&mut self, caller: Option<u32>) {
        let reports = &self.reports;
        let same = |id: &u32| {
            let report = reports.iter().find(|report| report.id == *id);
            report.is_none_or(|report| caller.is_none() || report.caller == caller)
        };
        self.open.retain(|id| !same(id));
        self.modules_of = None;
    }

    /// Closes what has not been added to for long.
    fn expire(&mut self, now: Option<u64>) {
        let (reports, lines) = (&self.reports, self.lines);
        self.open.retain(|id| {
            let report = reports.iter().find(|report| report.id == *id);
            report.is_some_and(|report| !is_stale(report, now, lines))
        });
    }

    fn open_id(&self, caller: Option<u32>) -> Option<u32> {
        let mut newest = self.open.iter().rev().copied();
        newest.find(|&id| {
            let report = self.report(id);
            report.is_some_and(|report| report.caller == caller || caller.is_none())
        })
    }

    fn open_report(&self, caller: Option<u32>) -> Option<&Report> {
        self.report(self.open_id(caller)?)
    }

    fn open_report_mut(&mut self, caller: Option<u32>) -> Option<&mut Report> {
        let id = self.open_id(caller)?;
        self.report_mut(id)
    }

    pub(super) fn report(&self, id: u32) -> Option<&Report> {
        self.reports.iter().find(|report| report.id == id)
    }

    fn report_mut(&mut self, id: u32) -> Option<&mut Report> {
        self.reports.iter_mut().find(|report| report.id == id)
    }
}

/// Remembers the newest line of a report; `seq` counts lines here, not records.
fn touch(report: &mut Report, line: &Excerpt, lines: u64) {
    report.last.seq = lines;
    report.last.ts_ns = line.ts_ns;
}

fn is_stale(report: &Report, now: Option<u64>, lines: u64) -> bool {
    let quiet = match (report.last.ts_ns, now) {
        (Some(last), Some(now)) => now.saturating_sub(last),
        _ => 0,
    };
    quiet > OPEN_NS || lines.saturating_sub(report.last.seq) > OPEN_LINES
}

/// True when a headline belongs to the report its caller is printing.
fn joins(report: &Report, class: Class, die_count: Option<u32>) -> bool {
    let explains = report.class == Class::Precursor;
    report.is_fresh()
        && match class {
            Class::Oops => {
                let second = report.die_count.is_some();
                (explains || report.class == Class::Oops) && !(second && die_count.is_some())
            }
            Class::Warning => explains,
            Class::Precursor => report.class == Class::Warning,
            _ => false,
        }
}

/// Takes the caller column `[  T12] ` or `[    C0] ` off the text, where the log kept it there.
fn strip_caller(caller: Option<u32>, text: &[u8]) -> (Option<u32>, &[u8]) {
    let column = || {
        let inner = text.strip_prefix(b"[")?.trim_ascii_start();
        let (&kind, rest) = inner.split_first()?;
        let end = rest.iter().take(11).position(|&byte| byte == b']')?;
        let number: u32 = str::from_utf8(rest.get(..end)?).ok()?.parse().ok()?;
        let flag = match kind {
            b'T' => 0,
            b'C' => CALLER_IS_CPU,
            _ => return None,
        };
        let tail = rest.get(end.checked_add(1)?..)?;
        Some((number | flag, tail.strip_prefix(b" ").unwrap_or(tail)))
    };
    match column() {
        Some((column, text)) => (caller.or(Some(column)), text),
        None => (caller, text),
    }
}

/// True for a line of module names: what an old kernel continued `Modules linked in:` with.
fn is_modules(text: &str) -> bool {
    let is_name = |word: &str| {
        let name = word.split(['(', '[']).next().unwrap_or_default();
        name.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-]:".contains(&byte)
        })
    };
    text.starts_with(' ') && text.split_ascii_whitespace().all(is_name) && !text.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caller_column_is_taken_for_the_caller() {
        let tests: [(&[u8], Option<u32>, &[u8]); 6] = [
            (b"[   T12] text", Some(12), b"text"),
            (b"[    C3] text", Some(3 | CALLER_IS_CPU), b"text"),
            (b"[ffff] text", None, b"[ffff] text"),
            (b"[T99999999999] text", None, b"[T99999999999] text"),
            (b"[T1", None, b"[T1"),
            (b"", None, b""),
        ];
        for (text, caller, rest) in tests {
            assert_eq!(strip_caller(None, text), (caller, rest));
        }
        assert_eq!(strip_caller(Some(7), b"[   T12] a").0, Some(7));
    }

    #[test]
    fn an_old_kernels_modules_go_on_over_several_lines() {
        let mut scan = TextScan::new();
        let log = "Oops: 0002 [#1] SMP \nModules linked in: a b(O)\n c_d e [last unloaded: f]\nRIP: 0010:g+0x1/0x2";
        for (seq, text) in (1..).zip(log.lines()) {
            scan.feed(&Line {
                seq,
                text: text.as_bytes(),
                ..Line::default()
            });
        }
        let modules = scan.finish().modules.unwrap();
        let names: Vec<_> = modules.iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "b", "c_d", "e"]);
        assert_eq!(modules.last_unloaded(), Some("f"));
    }

    #[test]
    fn what_user_space_wrote_is_no_report() {
        let mut scan = TextScan::new();
        let mut line = Line {
            facility: Some(1),
            text: b"Kernel panic - not syncing: a joke",
            ..Line::default()
        };
        scan.feed(&line);
        assert!(scan.panic.is_none());
        line.facility = Some(0);
        scan.feed(&line);
        assert!(scan.panic.is_some());
    }
}
