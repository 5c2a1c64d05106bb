//! Which report is the reason of the crash.
//!
//! | the log has | the reason is |
//! |---|---|
//! | a panic line that says why | its message |
//! | a panic line that says `Fatal exception` and the like | the first oops of the burst before it |
//! | a panic line that says `panic_on_warn set` | the warning before it |
//! | a panic line that says `softlockup`, `hung_task`, `RCU Stall`, ... | its message, with the report before it |
//! | no panic line, an oops without an end marker | the first oops of that burst: with a capture kernel loaded and panic_on_oops set the log stops there |
//! | one of these in `sysrq_handle_crash` | sysrq: before 5.0 it crashed by a NULL write |
//! | no panic line, and every oops was survived | nothing: the kernel was alive |

use core::fmt;

use super::events::Class;
use super::kind::Kind;
use super::panics::{Source, panic_message};
use super::report::Report;
use super::scan::TextScan;

/// Reports further apart than this have nothing to do with each other.
const NEAR_NS: u64 = 30_000_000_000;

/// The same in lines, for logs without times.
const NEAR_LINES: u64 = 1000;

/// An unfinished oops that so much log follows did not end the kernel: its end was lost.
const SURVIVED_NS: u64 = 60_000_000_000;

/// Lines that may still follow the end marker of an oops that started the capture kernel.
const TAIL_LINES: u64 = 8;

/// Why a report was taken for the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No line tells of the end of the kernel.
    NoPanic,
    /// The panic message says it.
    PanicMessage,
    /// The panic message names the kind, a report before it tells more.
    ReportBeforePanic,
    /// The panic message is one of any oops; the oops before it is the reason.
    OopsBeforePanic,
    /// The panic message is one of any warning; the warning before it is the reason.
    WarningBeforePanic,
    /// There is no panic line; the log ends in an oops.
    OopsAtEnd,
    /// The log ends in several oopses; the first of them is the reason.
    FirstOops,
    /// The fault is the one by which sysrq-c crashes old kernels.
    SysrqFault,
    /// Sysrq-c is among the last lines, and nothing after it.
    SysrqAtEnd,
    /// The log does not tell; the message was found in memory.
    MessageInMemory,
    /// The log does not tell; memory says that a CPU panicked.
    PanicInMemory,
}

impl fmt::Display for Why {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Why::NoPanic => "no panic line, and no oops that ended the log",
            Why::PanicMessage => "the panic message says so",
            Why::ReportBeforePanic => "the panic message, and the report before it",
            Why::OopsBeforePanic => {
                "the oops before the panic line, whose message is a general one"
            }
            Why::WarningBeforePanic => {
                "the report before the panic line, which panic_on_warn made fatal"
            }
            Why::OopsAtEnd => {
                "the log ends in this oops, as when panic_on_oops starts the capture kernel"
            }
            Why::FirstOops => "the first oops of the last burst; those after it are consequences",
            Why::SysrqFault => "sysrq-c, which kernels before 5.0 carry out by a NULL write",
            Why::SysrqAtEnd => "sysrq-c is the last thing in the log",
            Why::MessageInMemory => "the panic message in memory; the log does not have it",
            Why::PanicInMemory => "a CPU panicked; the log does not say why",
        })
    }
}

/// The reason's report (its id), its kind, and why.
pub(super) struct Choice {
    pub reason: Option<u32>,
    pub kind: Kind,
    pub why: Why,
}

/// Chooses when the log has ended.
pub(super) fn choose(scan: &TextScan) -> Choice {
    let panic = scan.panic.and_then(|id| scan.report(id));
    let mut choice = match panic {
        Some(panic) => with_panic(scan, panic),
        None => without_panic(scan),
    };
    let reason = choice.reason.and_then(|id| scan.report(id));
    if reason.is_some_and(|reason| is_sysrq_fault(scan, reason)) {
        choice.kind = Kind::Sysrq;
        choice.why = Why::SysrqFault;
    }
    choice
}

fn with_panic(scan: &TextScan, panic: &Report) -> Choice {
    let message = panic.message.as_ref().map_or("", |found| &found.value);
    let (kind, source) = panic_message(message);
    let before = |report: &&Report| report.id != panic.id && is_near(report, panic);
    let own = Choice {
        reason: Some(panic.id),
        kind,
        why: Why::PanicMessage,
    };
    let found = match source {
        Source::Message => return own,
        Source::SameKind => same_kind(scan, panic, kind),
        Source::Oops => oops(scan).filter(before),
        Source::OopsOfTask => {
            let of_init = |report: &&Report| report.pid.as_ref().is_some_and(|pid| pid.value == 1);
            oops(scan).filter(before).filter(of_init)
        }
        Source::Complaint => {
            let complains = |report: &&Report| {
                matches!(
                    report.class,
                    Class::Warning | Class::Complaint | Class::Precursor
                )
            };
            let mut newest = scan.reports.iter().rev().filter(before).filter(complains);
            let same_caller = |report: &&Report| report.caller == panic.caller;
            let all = newest.clone().next();
            newest.find(same_caller).or(all)
        }
    };
    let Some(found) = found else { return own };
    let (kind, why) = match source {
        Source::SameKind => (kind, Why::ReportBeforePanic),
        Source::Complaint => (found.kind, Why::WarningBeforePanic),
        _ if Some(found.id) == scan.burst && is_followed(scan, found) => {
            (found.kind, Why::FirstOops)
        }
        _ => (found.kind, Why::OopsBeforePanic),
    };
    Choice {
        reason: Some(found.id),
        kind,
        why,
    }
}

/// The newest report of the kind before the panic: of the panicking CPU if there is one.
fn same_kind<'s>(scan: &'s TextScan, panic: &Report, kind: Kind) -> Option<&'s Report> {
    let same = |report: &&Report| report.id != panic.id && report.kind == kind;
    let mut newest = scan.reports.iter().rev().filter(same);
    let cpu = panic.cpu.as_ref().map(|cpu| cpu.value);
    let all = newest.clone().find(|report| is_near(report, panic))?;
    if kind == Kind::HungTask {
        // One look at all tasks reports several; the first is the one that has waited longest.
        let together = |report: &&Report| {
            let (first, last) = (report.last.ts_ns, all.last.ts_ns);
            first
                .zip(last)
                .is_some_and(|(first, last)| last.saturating_sub(first) < 2_000_000_000)
        };
        return newest.rfind(together).or(Some(all));
    }
    let here = |report: &&Report| {
        report.cpu.as_ref().map(|cpu| cpu.value) == cpu && is_near(report, panic)
    };
    newest.find(here).or(Some(all))
}

/// The first oops of the newest burst.
fn oops(scan: &TextScan) -> Option<&Report> {
    let newest = scan
        .reports
        .iter()
        .rev()
        .find(|report| report.class == Class::Oops)?;
    scan.burst.and_then(|id| scan.report(id)).or(Some(newest))
}

/// True when other oopses follow this one.
fn is_followed(scan: &TextScan, report: &Report) -> bool {
    let mut oopses = scan
        .reports
        .iter()
        .filter(|other| other.class == Class::Oops);
    oopses.any(|other| other.id > report.id)
}

fn is_near(report: &Report, other: &Report) -> bool {
    match (report.last.ts_ns, other.last.ts_ns) {
        (Some(before), Some(now)) => now.saturating_sub(before) < NEAR_NS,
        _ => other.last.seq.saturating_sub(report.last.seq) < NEAR_LINES,
    }
}

fn without_panic(scan: &TextScan) -> Choice {
    let newest = scan
        .reports
        .iter()
        .rev()
        .find(|report| report.class == Class::Oops);
    if let Some(newest) = newest.filter(|newest| ended_kernel(scan, newest)) {
        let first = oops(scan).unwrap_or(newest);
        let why = if first.id == newest.id {
            Why::OopsAtEnd
        } else {
            Why::FirstOops
        };
        return Choice {
            reason: Some(first.id),
            kind: first.kind,
            why,
        };
    }
    let trigger = scan
        .reports
        .iter()
        .rev()
        .find(|report| report.class == Class::Trigger);
    if let Some(trigger) = trigger.filter(|trigger| since(scan, trigger).1 < TAIL_LINES) {
        return Choice {
            reason: Some(trigger.id),
            kind: Kind::Sysrq,
            why: Why::SysrqAtEnd,
        };
    }
    Choice {
        reason: None,
        kind: Kind::None,
        why: Why::NoPanic,
    }
}

/// Nanoseconds and lines from the last line of a report to the end of the log.
fn since(scan: &TextScan, report: &Report) -> (u64, u64) {
    let time = report.last.ts_ns.zip(scan.last_ts);
    let time = time.map_or(0, |(last, end)| end.saturating_sub(last));
    (time, scan.lines.saturating_sub(report.last.seq))
}

/// True when the log stops in an oops, or right behind it where the end marker comes before the capture kernel.
fn ended_kernel(scan: &TextScan, report: &Report) -> bool {
    let (time, lines) = since(scan, report);
    if time > SURVIVED_NS {
        return false;
    }
    let left = scan.leaving.is_some();
    !report.ended || left || report.marks_before_kexec && lines < TAIL_LINES
}

/// True when the crash is what `sysrq_handle_crash` does on purpose.
fn is_sysrq_fault(scan: &TextScan, reason: &Report) -> bool {
    if reason.class != Class::Oops {
        return false;
    }
    let trigger = scan
        .reports
        .iter()
        .rev()
        .find(|report| report.class == Class::Trigger);
    let ip = reason.ip.iter().map(|found| &found.value);
    let mut places = ip.chain(reason.frames.iter().take(6).map(|frame| &frame.place));
    let handler = places.any(|place| place.symbol.starts_with("sysrq_handle_crash"));
    let at_once = trigger.is_some_and(|trigger| {
        let (before, after) = (trigger.last.seq, reason.last.seq);
        trigger.id < reason.id && after.saturating_sub(before) < 120 && is_near(trigger, reason)
    });
    handler
        || at_once
            && reason.kind == Kind::NullDeref
            && reason.ip.as_ref().is_none_or(|ip| ip.value.is_unnamed())
}
