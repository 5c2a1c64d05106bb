//! The summary of a crash from the text of its log alone.
//!
//! ```text
//! records -> TextScan::feed -> reports, signs, warnings        scan.rs: one pass, bounded memory
//!                                |  events.rs, events/rows.rs: what a first line says   report.rs: the lines that belong to it
//!            TextScan::finish -> the report that is the reason             choose.rs
//!                             -> TextSummary -> Signature                  signature.rs
//! ```
//!
//! Works for every kernel from 2.6.32 on and every architecture, with no symbols, no structure layouts and no memory
//! of the crashed machine but its log. Every value is optional and knows the line it came from. At most 64 KiB of text
//! are kept, however long the log is. Nothing here prints more than a value: laying out a report is `render`'s.

mod choose;
mod collect;
mod detail;
mod events;
mod fault;
mod frame;
mod headline;
mod identity;
mod kind;
mod panics;
mod report;
mod scan;
mod signature;
mod taint;
mod words;

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

pub use choose::Why;
pub use collect::{LogState, Summary};
pub use fault::{Access, Op};
pub use frame::{Frame, Place, Section};
pub use kind::Kind;
pub use report::{Excerpt, Found, Report, Task};
pub use scan::{Line, TextScan};
pub use signature::{Signature, function_name, report_id};
pub use taint::{Taint, meaning as taint_meaning};

/// What the log says about the crash.
#[derive(Clone, Debug)]
pub struct TextSummary {
    /// How the dump was created.
    pub kind: Kind,
    /// Why that was chosen.
    pub why: Why,
    /// The report that gave the kind: of the panic itself, or of what led to it.
    pub reason: Option<Report>,
    /// The panic line and what followed it, when that is not the reason.
    pub panic: Option<Report>,
    /// The first sign of trouble in the log, when something came before the reason.
    pub first_sign: Option<Excerpt>,
    /// The newest signs of trouble before the reason, oldest first.
    pub signs: VecDeque<Excerpt>,
    /// All signs of trouble.
    pub sign_count: u64,
    /// The first warnings (`WARNING: ...` with a trace), at most 16.
    pub warnings: Vec<Excerpt>,
    /// All warnings.
    pub warning_count: u64,
    /// The newest `Modules linked in:` with its line.
    pub modules: Option<Modules>,
    /// From which to which CPU the panic was moved (`panic_force_cpu=`).
    pub redirect: Option<(u32, u32, Excerpt)>,
}

/// A `Modules linked in:` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Modules {
    /// Where it stands.
    pub line: Excerpt,
    text: String,
}

impl Modules {
    /// Each module with the letters behind it: taints, `+` while loading, `-` while unloading.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let (names, _) = self.text.split_once('[').unwrap_or((&self.text, ""));
        let names = names.trim_start_matches("Modules linked in:");
        names
            .split_ascii_whitespace()
            .map(|name| match name.split_once('(') {
                Some((name, letters)) => (name, letters.trim_end_matches(')')),
                None => (name, ""),
            })
    }

    /// The module that was unloaded last.
    pub fn last_unloaded(&self) -> Option<&str> {
        let (_, name) = self.text.split_once("[last unloaded: ")?;
        name.split([']', '(', ' '])
            .next()
            .filter(|name| !name.is_empty())
    }
}

macro_rules! fields {
    ($($(#[$doc:meta])* $field:ident: $type:ty,)*) => {
        $($(#[$doc])*
        pub fn $field(&self) -> Option<(&$type, Option<&Excerpt>)> {
            let mut reports = self.panic.iter().chain(&self.reason);
            reports.find_map(|report| {
                let found = report.$field.as_ref()?;
                Some((&found.value, report.line(found)))
            })
        })*
    };
}

impl TextSummary {
    fields! {
        /// The CPU that panicked, and the line that says so.
        cpu: u32,
        /// The process id of the task that ran there.
        pid: u32,
        /// Its user id.
        uid: u32,
        /// Its name.
        comm: String,
        /// The taint letters at that time.
        taint: Taint,
        /// The release of the kernel.
        release: String,
        /// The machine.
        hardware: String,
        /// Whether a capture kernel was loaded.
        kdump_loaded: bool,
        /// The work item that was running.
        workqueue: String,
    }

    /// The message of the panic, without `Kernel panic - not syncing: `, and its line.
    pub fn panic_message(&self) -> Option<(&str, &Excerpt)> {
        let mut reports = self.panic.iter().chain(&self.reason);
        let panic = reports.find(|report| report.is_panic())?;
        let message = panic.message.as_ref()?;
        Some((&message.value, panic.lines.first()?))
    }

    /// The line that names the reason: the headline of the reason's report.
    pub fn headline(&self) -> Option<&Excerpt> {
        self.reason.as_ref()?.head()
    }

    /// The call trace of the CPU that panicked: of the panic where the kernel printed one there, else of the reason.
    pub fn trace(&self) -> &[Frame] {
        let mut reports = self.panic.iter().chain(&self.reason);
        let traced = reports.find(|report| !report.frames.is_empty());
        traced.map_or(&[], |report| &report.frames)
    }

    /// Takes what memory says where the log tells of no panic: that a CPU panicked, and perhaps with which message.
    pub fn panicked_in_memory(&mut self, message: Option<&str>) {
        if self.kind == Kind::None {
            (self.kind, self.why) = match message {
                Some(message) => (panics::panic_message(message).0, Why::MessageInMemory),
                None => (Kind::Panic, Why::PanicInMemory),
            };
        }
    }

    /// The fingerprint of the crash; `unwound` are functions found in memory, used when the log has none.
    pub fn signature(&self, unwound: &[&str]) -> Signature {
        Signature::of(self, unwound)
    }
}

impl Report {
    /// True for the report that begins with the panic line.
    pub fn is_panic(&self) -> bool {
        self.class == events::Class::Panic
    }
}

impl TextScan {
    /// Ends the pass and chooses the reason.
    pub fn finish(mut self) -> TextSummary {
        for report in &mut self.reports {
            report.zero_page();
        }
        let choice = choose::choose(&self);
        let mut take = |id: Option<u32>| {
            let place = self
                .reports
                .iter()
                .position(|report| Some(report.id) == id)?;
            Some(self.reports.swap_remove(place))
        };
        let reason = take(choice.reason);
        let panic = take(self.panic);
        let head = reason.iter().chain(&panic).filter_map(Report::head);
        let before = head.map(|line| line.seq).min().unwrap_or(u64::MAX);
        self.signs.retain(|sign| sign.seq < before);
        TextSummary {
            kind: choice.kind,
            why: choice.why,
            reason,
            panic,
            first_sign: self.first_sign.filter(|sign| sign.seq < before),
            signs: self.signs,
            sign_count: self.sign_count,
            warnings: self.warnings,
            warning_count: self.warning_count,
            modules: self.modules.map(|(line, text)| Modules { line, text }),
            redirect: self.redirect,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_told_with_their_letters() {
        let modules = Modules {
            line: Excerpt::default(),
            text: "Modules linked in: a b(OE+) c_d(-) [last unloaded: e]".into(),
        };
        let names: Vec<_> = modules.iter().collect();
        assert_eq!(names, [("a", ""), ("b", "OE+"), ("c_d", "-")]);
        assert_eq!(modules.last_unloaded(), Some("e"));
    }

    #[test]
    fn memory_tells_of_a_panic_only_where_the_log_does_not() {
        let mut empty = TextScan::new().finish();
        assert_eq!((empty.kind, empty.why), (Kind::None, Why::NoPanic));
        empty.panicked_in_memory(Some("softlockup: hung tasks"));
        assert_eq!(
            (empty.kind, empty.why),
            (Kind::SoftLockup, Why::MessageInMemory)
        );
        empty.panicked_in_memory(None);
        assert_eq!(empty.kind, Kind::SoftLockup);
        let mut silent = TextScan::new().finish();
        silent.panicked_in_memory(None);
        assert_eq!((silent.kind, silent.why), (Kind::Panic, Why::PanicInMemory));
    }
}
