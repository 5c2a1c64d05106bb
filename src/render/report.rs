//! The report as text, to be read from the top.
//!
//! ```text
//! title          what this is
//! banner         LABEL: value, in the names and forms of crash(8)
//! reason         the lines that tell why, decoded
//! call trace     as the kernel printed it
//! backtraces     of every CPU and of blocked tasks, from memory
//! signs, modules, what could not be read
//! ```
//!
//! Every field is optional. A value that was read from the text of the log rather than from memory says so.

use alloc::string::String;
use core::fmt::{self, Write};

use super::date::Date;
use super::{escape, log};
use crate::bytes::wide;
use crate::facts::{Cpu, Facts, Task};
use crate::summary::{Access, Excerpt, Frame, Report, Section, Summary, Taint};
use crate::unwind::{End, Stack, Trace, Trust};

/// The version of the text's form; it changes when scripts that read it might.
pub const FORMAT: u32 = 1;

/// What the report cannot know from the dump.
#[derive(Clone, Copy, Debug, Default)]
pub struct About<'a> {
    /// The program and its version.
    pub program: &'a str,
    /// A name for the machine that is better than the one in its memory.
    pub host: Option<&'a str>,
}

/// Stands behind a value that was not read from memory.
const FROM_LOG: &str = "  (from the log)";
const NS: u64 = 1_000_000_000;

/// Writes the report without the log.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut dyn Write, summary: &Summary, about: &About<'_>) -> fmt::Result {
    writeln!(out, "{} report, format {FORMAT}\n", about.program)?;
    write_reason_fields(out, summary)?;
    write_system(out, summary, about)?;
    write_panicked(out, summary)?;
    write_reason(out, summary)?;
    write_trace(out, summary)?;
    write_cpus(out, &summary.facts)?;
    write_blocked(out, &summary.facts)?;
    write_signs(out, summary)?;
    write_modules(out, summary)?;
    write_gaps(out, summary)
}

/// `---- title ----` between empty lines: where a section begins.
///
/// # Errors
/// Those of `out`.
pub fn write_title(out: &mut dyn Write, title: fmt::Arguments<'_>) -> fmt::Result {
    writeln!(out, "\n---- {title} ----")
}

/// `LABEL: value`.
fn field(out: &mut dyn Write, label: &str, value: fmt::Arguments<'_>) -> fmt::Result {
    writeln!(out, "{label}: {value}")
}

/// `LABEL: value` with a text out of memory, on one line.
fn text_field(out: &mut dyn Write, label: &str, value: &str, origin: &str) -> fmt::Result {
    write!(out, "{label}: ")?;
    write_line(out, value)?;
    writeln!(out, "{origin}")
}

/// A text out of memory on one line.
fn write_line(out: &mut dyn Write, text: &str) -> fmt::Result {
    escape::write_text(out, text.as_bytes())
}

fn write_reason_fields(out: &mut dyn Write, summary: &Summary) -> fmt::Result {
    if let Some(panic) = summary.panic_line() {
        out.write_str("PANIC: \"")?;
        write_line(out, &panic)?;
        out.write_str("\"\n")?;
    }
    field(
        out,
        "KIND",
        format_args!("{}: {}", summary.text.kind.name(), summary.text.kind.how()),
    )?;
    if summary.log.error.is_none() {
        field(out, "WHY", format_args!("{}", summary.text.why))?;
    }
    field(out, "SIGNATURE", format_args!("{}", summary.signature))?;
    text_field(out, "REPORT ID", &summary.report_id, "")
}

fn write_system(out: &mut dyn Write, summary: &Summary, about: &About<'_>) -> fmt::Result {
    let facts = &summary.facts;
    out.write_char('\n')?;
    if let Some(host) = about.host {
        text_field(out, "HOST", host, "  (configured)")?;
    }
    if let Some(uts) = &facts.uts {
        text_field(out, "NODENAME", &uts.nodename, "")?;
        if !matches!(uts.domainname.as_str(), "" | "(none)") {
            text_field(out, "DOMAINNAME", &uts.domainname, "")?;
        }
    }
    match (&facts.uts, summary.text.release()) {
        (Some(uts), _) => text_field(out, "RELEASE", &uts.release, "")?,
        (None, _) if !summary.release.is_empty() => {
            text_field(out, "RELEASE", &summary.release, "  (from VMCOREINFO)")?;
        }
        (None, Some((release, _))) => text_field(out, "RELEASE", release, FROM_LOG)?,
        (None, None) => {}
    }
    if let Some(uts) = &facts.uts {
        text_field(out, "VERSION", &uts.version, "")?;
        write!(out, "MACHINE: ")?;
        write_line(out, &uts.machine)?;
        match facts.cpu_khz {
            Some(khz) => writeln!(out, "  ({} Mhz)", khz / 1000)?,
            None => out.write_char('\n')?,
        }
    }
    if let Some(seconds) = facts.crash_time {
        field(out, "DATE", format_args!("{}", CrashDate(seconds)))?;
    }
    match (facts.uptime_ns, summary.log.last_ts_ns) {
        (Some(ns), _) => field(out, "UPTIME", format_args!("{}", Uptime(ns)))?,
        (None, Some(ns)) => field(out, "UPTIME", format_args!("{}{FROM_LOG}", Uptime(ns)))?,
        (None, None) => {}
    }
    match (facts.cpus_online, facts.cpus_offline.unwrap_or(0)) {
        (Some(count), 0) => field(out, "CPUS", format_args!("{count}"))?,
        // As crash counts: up to the highest CPU that was online.
        (Some(count), offline) => {
            let all = count.saturating_add(offline);
            field(out, "CPUS", format_args!("{all} [OFFLINE: {offline}]"))?;
        }
        (None, _) => {}
    }
    if let Some([one, five, fifteen]) = facts.load_average {
        let (one, five, fifteen) = (Hundredths(one), Hundredths(five), Hundredths(fifteen));
        field(
            out,
            "LOAD AVERAGE",
            format_args!("{one}, {five}, {fifteen}"),
        )?;
    }
    if let Some(count) = facts.tasks {
        field(out, "TASKS", format_args!("{count}"))?;
    }
    if let Some(bytes) = facts.memory_present {
        field(out, "MEMORY", format_args!("{}", Bytes(bytes)))?;
    }
    if let (Some(free), Some(total)) = (facts.memory_free, facts.memory_total) {
        field(
            out,
            "MEMORY FREE",
            format_args!("{} of {}", Bytes(free), Bytes(total)),
        )?;
    }
    match (&facts.hardware, summary.text.hardware()) {
        (Some(name), _) if !name.is_empty() => text_field(out, "HARDWARE", name, "")?,
        (_, Some((name, _))) => text_field(out, "HARDWARE", name, FROM_LOG)?,
        _ => {}
    }
    match (facts.taint, summary.text.taint()) {
        (Some(mask), _) => field(out, "TAINT", format_args!("{}", Taint::from_mask(mask)))?,
        (None, Some((taint, _))) => field(out, "TAINT", format_args!("{taint}{FROM_LOG}"))?,
        (None, None) => {}
    }
    if let Some(id) = &summary.build_id {
        text_field(out, "BUILD-ID", id, "")?;
    }
    if let Some(id) = &facts.boot_id {
        text_field(out, "BOOT ID", id, "")?;
    }
    facts
        .command_line
        .as_ref()
        .map_or(Ok(()), |line| text_field(out, "COMMAND LINE", line, ""))
}

/// The task and the CPU that panicked.
fn write_panicked(out: &mut dyn Write, summary: &Summary) -> fmt::Result {
    out.write_char('\n')?;
    let panicked = summary.facts.panicked();
    if let Some((cpu, task)) = panicked.and_then(|cpu| Some((cpu, cpu.task.as_ref()?))) {
        field(out, "PID", format_args!("{}", task.pid))?;
        out.write_str("COMMAND: \"")?;
        write_line(out, &task.comm)?;
        out.write_str("\"\n")?;
        field(out, "TASK", format_args!("{:x}", task.addr.0))?;
        field(out, "CPU", format_args!("{}", cpu.number))?;
        let how = if summary.facts.panic_cpu.is_some() {
            "PANIC"
        } else {
            "ACTIVE"
        };
        return field(out, "STATE", format_args!("{} ({how})", state_name(task)));
    }
    if let Some((pid, _)) = summary.text.pid() {
        field(out, "PID", format_args!("{pid}{FROM_LOG}"))?;
    }
    if let Some((comm, _)) = summary.text.comm() {
        out.write_str("COMMAND: \"")?;
        write_line(out, comm)?;
        writeln!(out, "\"{FROM_LOG}")?;
    }
    match (panicked, summary.text.cpu()) {
        (Some(cpu), _) => field(out, "CPU", format_args!("{}", cpu.number)),
        (None, Some((cpu, _))) => field(out, "CPU", format_args!("{cpu}{FROM_LOG}")),
        (None, None) => Ok(()),
    }
}

/// The state of a task by the kernel's name for it.
pub(super) fn state_name(task: &Task) -> &'static str {
    match task.state {
        'R' => "TASK_RUNNING",
        'S' => "TASK_INTERRUPTIBLE",
        'D' => "TASK_UNINTERRUPTIBLE",
        'I' => "TASK_IDLE",
        'T' => "TASK_STOPPED",
        't' => "TASK_TRACED",
        'P' => "TASK_PARKED",
        'Z' => "EXIT_ZOMBIE",
        'X' => "EXIT_DEAD",
        _ => "unknown",
    }
}

/// What led to the panic, as the log tells it.
fn write_reason(out: &mut dyn Write, summary: &Summary) -> fmt::Result {
    let text = &summary.text;
    let reports = || text.reason.iter().chain(&text.panic);
    if reports().next().is_none() {
        return Ok(());
    }
    write_title(out, format_args!("reason"))?;
    for report in reports() {
        report
            .lines
            .iter()
            .try_for_each(|line| write_excerpt(out, line))?;
        write_decoded(out, report)?;
    }
    if let Some((from, to, _)) = &text.redirect {
        writeln!(out, "  CPU {from} panicked and handed over to CPU {to}")?;
    }
    if let Some((queue, _)) = text.workqueue() {
        text_field(out, "  workqueue", queue, "")?;
    }
    Ok(())
}

/// What the fields of a report come to.
fn write_decoded(out: &mut dyn Write, report: &Report) -> fmt::Result {
    let access: Option<&Access> = report.access.as_ref().map(|found| &found.value);
    if let Some(access) = access {
        write!(out, "  = {access}")?;
        if let Some(address) = &report.address {
            write!(out, ", address {:016x}", address.value)?;
        }
        out.write_char('\n')?;
    }
    if let Some(ip) = &report.ip {
        writeln!(out, "  at {}", ip.value)?;
    }
    if let Some(task) = &report.subject {
        out.write_str("  about task ")?;
        write_line(out, &task.value.comm)?;
        writeln!(out, " (pid {})", task.value.pid)?;
    }
    Ok(())
}

/// `[    1.234567] text`.
fn write_excerpt(out: &mut dyn Write, excerpt: &Excerpt) -> fmt::Result {
    if let Some(ts_ns) = excerpt.ts_ns {
        out.write_char('[')?;
        log::write_seconds(out, ts_ns)?;
        out.write_str("] ")?;
    }
    write_line(out, &excerpt.text)?;
    out.write_char('\n')
}

/// The call traces that the kernel printed: of the CPU that panicked, and of what led to it where that is another one.
fn write_trace(out: &mut dyn Write, summary: &Summary) -> fmt::Result {
    let text = &summary.text;
    for report in text.panic.iter().chain(&text.reason) {
        if report.frames.is_empty() {
            continue;
        }
        let of = match &report.subject {
            Some(task) => task.value.comm.as_str(),
            None if report.is_panic() => "panic",
            None => report.kind.name(),
        };
        out.write_str("\n---- call trace of ")?;
        write_line(out, of)?;
        out.write_str(", from the log ----\n")?;
        write_frames(out, &report.frames)?;
        if report.frames_lost != 0 {
            writeln!(out, "  ... and {} more", report.frames_lost)?;
        }
    }
    Ok(())
}

fn write_frames(out: &mut dyn Write, frames: &[Frame]) -> fmt::Result {
    let mut section = Section::Task;
    for frame in frames {
        if frame.section != section {
            section = frame.section;
            writeln!(out, " <{}>", section_name(section))?;
        }
        write_text_frame(out, frame)?;
    }
    Ok(())
}

fn section_name(section: Section) -> &'static str {
    match section {
        Section::Task => "TASK",
        Section::Irq => "IRQ",
        Section::Nmi => "NMI",
        Section::Exception => "exception",
    }
}

fn write_text_frame(out: &mut dyn Write, frame: &Frame) -> fmt::Result {
    writeln!(
        out,
        "  {}{}",
        if frame.doubtful { "? " } else { "" },
        frame.place
    )
}

/// What every CPU was doing, the one that panicked first.
fn write_cpus(out: &mut dyn Write, facts: &Facts) -> fmt::Result {
    if facts.cpus.is_empty() {
        return Ok(());
    }
    write_title(out, format_args!("CPUs, frames by ORC unless marked"))?;
    let panicked = |cpu: &&Cpu| facts.panic_cpu == Some(cpu.number);
    let first = facts.cpus.iter().filter(panicked);
    let cpus = first.chain(facts.cpus.iter().filter(|cpu| !panicked(cpu)));
    write_traced(out, facts, cpus, &|cpu| cpu.trace, &|out, cpu| {
        write_cpu(out, facts, cpu)
    })
}

fn write_cpu(out: &mut dyn Write, facts: &Facts, cpu: &Cpu) -> fmt::Result {
    match &cpu.task {
        Some(task) => write_task(out, task, Some(cpu.number))?,
        None => write!(out, "CPU: {}", cpu.number)?,
    }
    if facts.panic_cpu == Some(cpu.number) {
        out.write_str("  (panicked)")?;
    }
    if cpu.irqs_off == Some(true) {
        out.write_str("  (interrupts off)")?;
    }
    out.write_char('\n')
}

/// Writes each owner of a backtrace, and the trace behind the last of those that share it.
fn write_traced<'t, T: 't>(
    out: &mut dyn Write,
    facts: &Facts,
    owners: impl Iterator<Item = &'t T> + Clone,
    trace: &dyn Fn(&T) -> Option<usize>,
    write: &dyn Fn(&mut dyn Write, &T) -> fmt::Result,
) -> fmt::Result {
    for (place, owner) in owners.clone().enumerate() {
        let Some(kept) = trace(owner) else {
            write(out, owner)?;
            continue;
        };
        let shared = |other: &&T| trace(other) == Some(kept);
        if owners.clone().take(place).any(|other| shared(&other)) {
            continue;
        }
        owners
            .clone()
            .filter(shared)
            .try_for_each(|other| write(out, other))?;
        facts
            .traces
            .get(kept)
            .map_or(Ok(()), |trace| write_backtrace(out, trace))?;
    }
    Ok(())
}

/// ` #0 [stack pointer] function+0xoffset/0xsize [module]`, as crash has it, with the stacks as the kernel marks them.
fn write_backtrace(out: &mut dyn Write, trace: &Trace) -> fmt::Result {
    let mut stack = Stack::Task;
    for (number, frame) in trace.frames.iter().enumerate() {
        if frame.stack != stack {
            stack = frame.stack;
            writeln!(out, "    <{}>", stack.name())?;
        }
        let doubt = if frame.trust.is_reliable() { "" } else { "? " };
        write!(
            out,
            "{:>3} [{:016x}] {doubt}{frame}",
            Number(number),
            frame.sp.0
        )?;
        match frame.trust {
            Trust::Orc => out.write_char('\n')?,
            other => writeln!(out, "  ({})", other.name().replace('_', " "))?,
        }
    }
    match trace.end {
        End::Complete => Ok(()),
        End::User { pc, sp } => writeln!(out, "    user space: pc {:016x}  sp {:016x}", pc.0, sp.0),
        End::Broken(why) => writeln!(out, "    ends here: {why}"),
    }
}

/// `#12`, right-aligned.
struct Number(usize);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pad = if self.0 < 10 { " " } else { "" };
        write!(f, "{pad}#{}", self.0)
    }
}

/// `PID: 1  TASK: ffff...  CPU: 0  COMMAND: "init"`, as crash heads a backtrace.
fn write_task(out: &mut dyn Write, task: &Task, cpu: Option<u32>) -> fmt::Result {
    write!(
        out,
        "PID: {:<8} TASK: {:016x}  CPU: ",
        task.pid, task.addr.0
    )?;
    match cpu.or(task.cpu) {
        Some(cpu) => write!(out, "{cpu:<4}")?,
        None => out.write_str("?   ")?,
    }
    out.write_str(" COMMAND: \"")?;
    write_line(out, &task.comm)?;
    out.write_char('"')
}

/// Tasks in uninterruptible sleep.
fn write_blocked(out: &mut dyn Write, facts: &Facts) -> fmt::Result {
    let Some(count) = facts.blocked_count.filter(|&count| count != 0) else {
        return Ok(());
    };
    write_title(out, format_args!("tasks in uninterruptible sleep: {count}"))?;
    write_traced(
        out,
        facts,
        facts.blocked.iter(),
        &|blocked| blocked.trace,
        &|out, blocked| {
            write_task(out, &blocked.task, None)?;
            if let Some(ns) = blocked.blocked_ns {
                write!(out, "  blocked for {} s", ns / NS)?;
            }
            out.write_char('\n')
        },
    )?;
    match count.checked_sub(wide(facts.blocked.len())) {
        None | Some(0) => Ok(()),
        Some(more) => writeln!(out, "and {more} more"),
    }
}

/// Signs of trouble before the reason.
fn write_signs(out: &mut dyn Write, summary: &Summary) -> fmt::Result {
    let text = &summary.text;
    let Some(first) = &text.first_sign else {
        return Ok(());
    };
    write_title(
        out,
        format_args!(
            "signs of trouble before: {}, of them {} warnings",
            text.sign_count, text.warning_count
        ),
    )?;
    write_excerpt(out, first)?;
    let later = text
        .signs
        .iter()
        .chain(&text.warnings)
        .filter(|sign| sign.seq > first.seq);
    let mut shown = first.seq;
    for sign in later {
        if sign.seq > shown {
            write_excerpt(out, sign)?;
            shown = sign.seq;
        }
    }
    Ok(())
}

fn write_modules(out: &mut dyn Write, summary: &Summary) -> fmt::Result {
    match (&summary.facts.modules, &summary.text.modules) {
        (Some(modules), _) => {
            write_title(out, format_args!("modules: {}", modules.len()))?;
            for module in modules {
                write_line(out, &module.name)?;
                let letters = Taint::from_mask(module.taints);
                let change = module.change.map_or(String::new(), String::from);
                let letters = letters.letters().trim_start_matches('G');
                if !letters.is_empty() || !change.is_empty() {
                    write!(out, "({letters}{change})")?;
                }
                out.write_char(' ')?;
            }
            if let Some(name) = summary
                .text
                .modules
                .as_ref()
                .and_then(|modules| modules.last_unloaded())
            {
                out.write_str("[last unloaded: ")?;
                write_line(out, name)?;
                out.write_str("]")?;
            }
            out.write_char('\n')
        }
        (None, Some(modules)) => {
            write_title(out, format_args!("modules, from the log"))?;
            write_line(out, &modules.line.text)?;
            out.write_char('\n')
        }
        (None, None) => Ok(()),
    }
}

/// What is missing from this report, and why.
fn write_gaps(out: &mut dyn Write, summary: &Summary) -> fmt::Result {
    let log = &summary.log;
    let nothing = summary.facts.gaps.is_empty() && log.error.is_none() && log.is_complete();
    if nothing {
        return Ok(());
    }
    write_title(out, format_args!("what could not be read"))?;
    if let Some(error) = log.error {
        writeln!(out, "the log: {error}")?;
    }
    for line in log.losses() {
        writeln!(out, "the log: {line}")?;
    }
    if let Some(words) = &log.last_words {
        text_field(out, "last words, unfinished", words, "")?;
    }
    for text in &log.salvage {
        text_field(out, "without its time", text, "")?;
    }
    // What fails for the same reason stands on one line.
    let gaps = &summary.facts.gaps;
    for (place, gap) in gaps.iter().enumerate() {
        let before = gaps.get(..place).unwrap_or_default();
        if before.iter().any(|other| other.why == gap.why) {
            continue;
        }
        out.write_str(gap.what)?;
        let alike = gaps
            .iter()
            .skip(place.saturating_add(1))
            .filter(|other| other.why == gap.why);
        for other in alike {
            write!(out, ", {}", other.what)?;
        }
        writeln!(out, ": {}", gap.why)?;
    }
    Ok(())
}

/// `Sat Nov 21 19:35:18 UTC 2026`.
struct CrashDate(u64);

impl fmt::Display for CrashDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let d = Date::from_unix(self.0);
        let (weekday, month) = (d.weekday_name(), d.month_name());
        write!(
            f,
            "{weekday} {month} {:2} {:02}:{:02}:{:02} UTC {}",
            d.day, d.hour, d.minute, d.second, d.year
        )
    }
}

/// `00:15:34`, with `2 days, ` in front.
struct Uptime(u64);

impl fmt::Display for Uptime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / NS;
        let days = seconds / 86_400;
        if days != 0 {
            write!(f, "{days} days, ")?;
        }
        write!(
            f,
            "{:02}:{:02}:{:02}",
            seconds % 86_400 / 3600,
            seconds % 3600 / 60,
            seconds % 60
        )
    }
}

/// A number of hundredths: `0.07`.
struct Hundredths(u64);

impl fmt::Display for Hundredths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

/// Bytes as crash writes them: `319.5 MB`, `2 GB`; an even number has no decimal.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 3] = [(1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB")];
        let unit = UNITS.iter().find(|(size, _)| self.0 >= *size);
        let &(size, name) = unit.unwrap_or(&(1, "bytes"));
        let tenths = self
            .0
            .saturating_mul(10)
            .saturating_add(size / 2)
            .checked_div(size)
            .unwrap_or(0);
        match tenths % 10 {
            0 => write!(f, "{} {name}", tenths / 10),
            tenth => write!(f, "{}.{tenth} {name}", tenths / 10),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn values_have_the_forms_of_crash() {
        assert_eq!(
            CrashDate(1_795_289_718).to_string(),
            "Sat Nov 21 19:35:18 UTC 2026"
        );
        assert_eq!(Uptime(934 * NS).to_string(), "00:15:34");
        assert_eq!(
            Uptime((3 * 86_400 + 61) * NS).to_string(),
            "3 days, 00:01:01"
        );
        assert_eq!(Hundredths(107).to_string(), "1.07");
        assert_eq!(Bytes(335_020_032).to_string(), "319.5 MB");
        assert_eq!(Bytes(2 << 30).to_string(), "2 GB");
    }
}
