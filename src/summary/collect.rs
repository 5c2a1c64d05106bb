//! The whole summary: what the log says, what memory says, and what the log itself is like.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::words::keep;
use super::{Excerpt, Line, Signature, TextScan, TextSummary, report_id};
use crate::bytes::wide;
use crate::dump::Vmcore;
use crate::error::{Error, Result};
use crate::facts::Facts;
use crate::kernel::Kernel;
use crate::limits;
use crate::printk::pending::Pending;
use crate::printk::{Caller, Entry, Log, Lost, LostKind, Record};

/// What is known of the crash.
#[derive(Clone, Debug)]
pub struct Summary {
    /// From the text of the log.
    pub text: TextSummary,
    /// From memory.
    pub facts: Facts,
    /// Of the log itself.
    pub log: LogState,
    /// The fingerprint of the crash.
    pub signature: Signature,
    /// `OSRELEASE` of VMCOREINFO.
    pub release: String,
    /// `BUILD-ID` of VMCOREINFO.
    pub build_id: Option<String>,
    /// The identity of the report: the same whenever the same crash of the same machine is reported, from the capture
    /// kernel or from a saved dump.
    pub report_id: String,
}

/// How much of the log is there.
#[derive(Clone, Debug, Default)]
pub struct LogState {
    /// Records.
    pub records: u64,
    /// Sequence numbers of the first and the last of them.
    pub seqs: Option<(u64, u64)>,
    /// The latest time of a record, in nanoseconds since boot.
    pub last_ts_ns: Option<u64>,
    /// Records that a CPU had not finished when the machine died.
    pub unfinished: u64,
    /// What was already written of them: at most [`limits::SALVAGE_LINES`].
    pub last_words: Vec<Excerpt>,
    /// Records whose text the kernel had no room for.
    pub dropped: u64,
    /// Lines whose start was overwritten.
    pub cut: u64,
    /// Records that are damaged or not in the dump.
    pub damaged: u64,
    /// Where the first of these is, and what is wrong with it.
    pub first_damage: Option<(u64, Error)>,
    /// Text of damaged records, without a time: at most [`limits::SALVAGE_LINES`].
    pub salvage: Vec<String>,
    /// Why there is no log at all.
    pub error: Option<Error>,
}

impl Summary {
    /// Collects everything; what cannot be had is listed in its place.
    pub fn collect(vmcore: &Vmcore<'_>, kernel: &Kernel<'_>, log: &Result<Log>) -> Self {
        Self::with_facts(kernel, log, Facts::collect(vmcore, kernel))
    }

    /// Collects what the log and VMCOREINFO say, and nothing from the rest of memory.
    pub fn collect_from_log(kernel: &Kernel<'_>, log: &Result<Log>) -> Self {
        let crash_time = kernel.info().crash_time();
        Self::with_facts(
            kernel,
            log,
            Facts {
                crash_time,
                ..Facts::default()
            },
        )
    }

    fn with_facts(kernel: &Kernel<'_>, log: &Result<Log>, facts: Facts) -> Self {
        let (mut text, state) = scan(kernel, log, &facts.pending);
        if facts.panic_cpu.is_some() {
            text.panicked_in_memory(facts.panic_message.as_deref());
        }
        let signature = text.signature(&unwound(&facts));
        let info = kernel.info();
        let release = String::from(info.osrelease().unwrap_or_default());
        let build_id = info.value("BUILD-ID").map(String::from);
        let report_id = identity(kernel, &state);
        Summary {
            text,
            facts,
            log: state,
            signature,
            release,
            build_id,
            report_id,
        }
    }

    /// Why the reason is the reason, and where its line stands when that is not in the log.
    pub fn why(&self) -> String {
        let reason = self.text.headline();
        let pending = reason.is_some_and(|line| line.seq > self.log.last_seq());
        let place = if pending {
            ", in text that was not yet in the log"
        } else {
            ""
        };
        format!("{}{place}", self.text.why)
    }

    /// The line that crash shows as PANIC: the panic line, or that of the oops which started the capture kernel.
    pub fn panic_line(&self) -> Option<String> {
        const PANIC: &str = "Kernel panic - not syncing: ";
        if let Some((_, line)) = self.text.panic_message() {
            return Some(line.text.clone());
        }
        let reason = self.text.reason.as_ref();
        let oops = reason.and_then(|reason| reason.line(reason.die_count.as_ref()?));
        let line = oops
            .or_else(|| self.text.headline())
            .map(|line| line.text.clone());
        line.or_else(|| {
            self.facts
                .panic_message
                .as_ref()
                .map(|message| format!("{PANIC}{message}"))
        })
    }
}

/// Host, boot and time of the crash as one short text. Only what any worker finds in the dump counts, so that a report
/// that had to be made smaller is still the same report. The boot is told by the addresses in VMCOREINFO, which KASLR
/// makes anew each time.
fn identity(kernel: &Kernel<'_>, log: &LogState) -> String {
    /// `new_utsname.nodename` behind sysname, 65 bytes each.
    const NODENAME: u64 = 65;
    let info = kernel.info();
    let names = info.symbol("init_uts_ns").map(|names| {
        let name = info.offset("uts_namespace.name").unwrap_or(0);
        names.wrapping_add(name.wrapping_add(NODENAME))
    });
    let nodename = names
        .and_then(|addr| kernel.read_cstr(addr, 65))
        .unwrap_or_default();
    let nodename = String::from_utf8_lossy(&nodename);
    let addresses = String::from_utf8_lossy(info.text());
    let last = format!("{}", log.last_ts_ns.unwrap_or(0));
    report_id(
        &[&nodename, &addresses, &last],
        None,
        info.crash_time().unwrap_or(0),
    )
}

/// The functions on the stack of the CPU that panicked, innermost first.
fn unwound(facts: &Facts) -> Vec<&str> {
    let trace = facts
        .panicked()
        .and_then(|cpu| facts.traces.get(cpu.trace?));
    let frames = trace
        .map(|trace| trace.frames.as_slice())
        .unwrap_or_default();
    let reliable = frames.iter().filter(|frame| frame.trust.is_reliable());
    reliable
        .filter_map(|frame| Some(frame.symbol.as_ref()?.name.as_str()))
        .collect()
}

/// One pass over the log and what was to follow it.
fn scan(kernel: &Kernel<'_>, log: &Result<Log>, pending: &[Pending]) -> (TextSummary, LogState) {
    let mut scan = TextScan::new();
    let mut state = LogState::default();
    match log {
        Ok(log) => {
            let mut entries = log.entries(kernel);
            while let Some(entry) = entries.next() {
                match entry {
                    Entry::Record(record) => {
                        state.records = state.records.saturating_add(1);
                        let seq = record.seq.unwrap_or(state.records);
                        state.seqs = record
                            .seq
                            .map(|seq| (state.seqs.map_or(seq, |(first, _)| first), seq));
                        state.last_ts_ns = state.last_ts_ns.max(record.ts_ns);
                        scan.feed(&line(&record, seq));
                    }
                    Entry::Lost(lost) => {
                        state.lose(&lost);
                        if let Some(begun) = &lost.begun {
                            scan.feed(&line(begun, begun.seq.unwrap_or(state.records)));
                        }
                    }
                }
            }
        }
        Err(error) => state.error = Some(*error),
    }
    let lines = pending
        .iter()
        .flat_map(|pending| pending.lines().map(move |line| (pending, line)));
    for (seq, (pending, line)) in (state.last_seq().saturating_add(1)..).zip(lines) {
        scan.feed(&Line {
            seq,
            ts_ns: pending.ts_ns,
            level: line.level,
            facility: Some(0),
            caller: pending.place.cpu().map(|cpu| Caller::Cpu(cpu).id()),
            text: &line.text,
        });
    }
    (scan.finish(), state)
}

/// What the summary needs of a record.
fn line<'a>(record: &Record<'a>, seq: u64) -> Line<'a> {
    Line {
        seq,
        ts_ns: record.ts_ns,
        level: record.level,
        facility: record
            .facility
            .and_then(|facility| u8::try_from(facility).ok()),
        caller: record.caller.map(Caller::id),
        text: record.text,
    }
}

impl LogState {
    /// The number of the last record.
    pub fn last_seq(&self) -> u64 {
        self.seqs.map_or(self.records, |(_, last)| last)
    }

    /// True when nothing is missing that was there at the crash.
    pub fn is_complete(&self) -> bool {
        self.losses().next().is_none()
    }

    /// What is missing, a line a reason.
    pub fn losses(&self) -> impl Iterator<Item = String> {
        let damaged = self.first_damage.map(|(id, why)| {
            let rest = if self.damaged == 1 { "" } else { ", the first" };
            format!(
                "{} records cannot be read{rest} at {id:#x}: {why}",
                self.damaged
            )
        });
        let count = |count: u64, what: &str| (count != 0).then(|| format!("{count} {what}"));
        let others = [
            count(
                self.unfinished,
                "records were not finished when the machine died",
            ),
            count(
                self.dropped,
                "records lost their text before the crash: the ring had no room for it",
            ),
            count(self.cut, "line is cut: newer text overwrote its start"),
        ];
        damaged.into_iter().chain(others.into_iter().flatten())
    }

    /// Counts what is no record.
    pub fn lose(&mut self, lost: &Lost<'_>) {
        /// Bytes of a text that are kept; the kernel's own limit is 2048.
        const TEXT: usize = 2048;
        let salvage = || keep(&String::from_utf8_lossy(lost.salvage), TEXT);
        let count = match lost.what {
            LostKind::Unfinished { .. } => {
                if !lost.salvage.is_empty() && wide(self.last_words.len()) < limits::SALVAGE_LINES {
                    self.last_words.push(Excerpt {
                        seq: lost.begun.and_then(|record| record.seq).unwrap_or(0),
                        ts_ns: lost.begun.and_then(|record| record.ts_ns),
                        text: salvage(),
                    });
                }
                &mut self.unfinished
            }
            LostKind::Dropped { .. } => &mut self.dropped,
            LostKind::CutLine { .. } => &mut self.cut,
            LostKind::Damaged { id, why } => {
                self.first_damage.get_or_insert((id, why));
                if !lost.salvage.is_empty() && wide(self.salvage.len()) < limits::SALVAGE_LINES {
                    self.salvage.push(salvage());
                }
                &mut self.damaged
            }
        };
        *count = count.saturating_add(1);
    }
}
