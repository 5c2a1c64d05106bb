//! The report as one JSON object; the schema is `report.schema.json` beside this file.
//!
//! Fields that are not known are left out. `from_log` names those whose value was read from the text of the log rather
//! than from memory, `gaps` what could not be read and why. Bytes that are no UTF-8 stand as `\xNN` in the text.

use alloc::vec::Vec;
use core::fmt::{self, Write};

use super::json::{Object, write_array, write_string};
use super::log::write_seconds_number;
use super::report::{About, FORMAT, state_name};
use crate::facts::{Facts, Task};
use crate::summary::{Excerpt, Frame, LogState, Report, Section, Summary, Taint};
use crate::unwind::End;

/// Writes the report without the log.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut dyn Write, summary: &Summary, about: &About<'_>) -> fmt::Result {
    let mut object = Object::new(out)?;
    object.raw("format", format_args!("{FORMAT}"))?;
    object.string("program", about.program.as_bytes())?;
    write_reason_fields(&mut object, summary)?;
    let mut from_log = FromLog::default();
    write_system(&mut object, summary, about, &mut from_log)?;
    write_panicked(&mut object, summary, &mut from_log)?;
    if let Some(reason) = &summary.text.reason {
        write_report(object.key("reason")?, reason)?;
    }
    if let Some(panic) = &summary.text.panic {
        write_report(object.key("panic_report")?, panic)?;
    }
    write_array(
        object.key("trace")?,
        summary.text.trace(),
        &mut |out, frame| write_text_frame(out, frame),
    )?;
    write_tasks(&mut object, &summary.facts)?;
    write_signs(&mut object, summary)?;
    write_pending(&mut object, &summary.facts)?;
    write_modules(&mut object, summary, &mut from_log)?;
    write_log_state(object.key("log")?, &summary.log)?;
    write_array(object.key("gaps")?, &summary.facts.gaps, &mut |out, gap| {
        let mut object = Object::new(out)?;
        object.string("what", gap.what.as_bytes())?;
        object.display("why", &gap.why)?;
        object.end()
    })?;
    write_array(
        object.key("from_log")?,
        from_log.names(),
        &mut |out, name| write_string(out, name.as_bytes()),
    )?;
    object.end()
}

/// The names of fields that came from the log.
#[derive(Default)]
struct FromLog {
    names: [&'static str; 8],
    count: usize,
}

impl FromLog {
    fn add(&mut self, name: &'static str) {
        if let Some(slot) = self.names.get_mut(self.count) {
            *slot = name;
            self.count = self.count.saturating_add(1);
        }
    }

    fn names(&self) -> &[&'static str] {
        self.names.get(..self.count).unwrap_or_default()
    }
}

fn write_reason_fields(object: &mut Object<'_>, summary: &Summary) -> fmt::Result {
    if let Some(panic) = summary.panic_line() {
        object.string("panic", panic.as_bytes())?;
    }
    object.string("kind", summary.text.kind.name().as_bytes())?;
    object.string("how", summary.text.kind.how().as_bytes())?;
    object.string("why", summary.why().as_bytes())?;
    object.display("signature", &summary.signature)?;
    object.string("report_id", summary.report_id.as_bytes())
}

fn write_system(
    object: &mut Object<'_>,
    summary: &Summary,
    about: &About<'_>,
    from_log: &mut FromLog,
) -> fmt::Result {
    let (facts, text) = (&summary.facts, &summary.text);
    let uts = facts.uts.as_ref();
    object.optional("host", about.host)?;
    object.optional("machine_id", about.machine_id)?;
    object.optional("mac", about.mac)?;
    object.optional("nodename", uts.map(|uts| uts.nodename.as_str()))?;
    object.optional("domainname", uts.map(|uts| uts.domainname.as_str()))?;
    let exported = Some(summary.release.as_str()).filter(|release| !release.is_empty());
    object.optional("release", uts.map(|uts| uts.release.as_str()).or(exported))?;
    object.optional("version", uts.map(|uts| uts.version.as_str()))?;
    object.optional("machine", uts.map(|uts| uts.machine.as_str()))?;
    object.number("cpu_khz", facts.cpu_khz.map(u64::from))?;
    object.number("crash_time", facts.crash_time)?;
    object.number("uptime_ns", facts.uptime_ns.or(summary.log.last_ts_ns))?;
    if facts.uptime_ns.is_none() && summary.log.last_ts_ns.is_some() {
        from_log.add("uptime_ns");
    }
    object.number("cpus", facts.cpus_online.map(u64::from))?;
    if let Some(averages) = &facts.load_average {
        write_array(
            object.key("load_average")?,
            averages,
            &mut |out, hundredths| write!(out, "{}.{:02}", hundredths / 100, hundredths % 100),
        )?;
    }
    object.number("tasks", facts.tasks)?;
    object.number("memory", facts.memory_present)?;
    object.number("memory_total", facts.memory_total)?;
    object.number("memory_free", facts.memory_free)?;
    let hardware = facts.hardware.as_deref().filter(|name| !name.is_empty());
    if hardware.is_none() && text.hardware().is_some() {
        from_log.add("hardware");
    }
    object.optional(
        "hardware",
        hardware.or(text.hardware().map(|(name, _)| name.as_str())),
    )?;
    match (facts.taint, text.taint()) {
        (Some(mask), _) => write_taint(object.key("taint")?, &Taint::from_mask(mask))?,
        (None, Some((taint, _))) => {
            from_log.add("taint");
            write_taint(object.key("taint")?, taint)?;
        }
        (None, None) => {}
    }
    object.optional("build_id", summary.build_id.as_deref())?;
    object.optional("boot_id", facts.boot_id.as_deref())?;
    object.optional("command_line", facts.command_line.as_deref())
}

fn write_taint(out: &mut dyn Write, taint: &Taint) -> fmt::Result {
    let mut object = Object::new(out)?;
    object.string("letters", taint.letters().as_bytes())?;
    let mut meanings = taint.meanings();
    let meanings = core::iter::from_fn(|| meanings.next());
    write_array(
        object.key("meanings")?,
        meanings,
        &mut |out, (_, meaning)| write_string(out, meaning.as_bytes()),
    )?;
    object.end()
}

/// The task and the CPU that panicked.
fn write_panicked(
    object: &mut Object<'_>,
    summary: &Summary,
    from_log: &mut FromLog,
) -> fmt::Result {
    let (facts, text) = (&summary.facts, &summary.text);
    let panicked = facts.panicked();
    if let Some(task) = panicked.and_then(|cpu| cpu.task.as_ref()) {
        write_task(object.key("task")?, task)?;
    } else if text.pid().is_some() || text.comm().is_some() {
        from_log.add("task");
        let mut task = Object::new(object.key("task")?)?;
        task.number("pid", text.pid().map(|(&pid, _)| pid.into()))?;
        task.optional("comm", text.comm().map(|(comm, _)| comm.as_str()))?;
        task.end()?;
    }
    if panicked.is_none() && text.cpu().is_some() {
        from_log.add("cpu");
    }
    let cpu = panicked
        .map(|cpu| cpu.number)
        .or(text.cpu().map(|(&cpu, _)| cpu));
    object.number("cpu", cpu.map(u64::from))
}

fn write_task(out: &mut dyn Write, task: &Task) -> fmt::Result {
    let mut object = Object::new(out)?;
    object.raw("pid", format_args!("{}", task.pid))?;
    if let Some(ppid) = task.ppid {
        object.raw("ppid", format_args!("{ppid}"))?;
    }
    object.string("comm", task.comm.as_bytes())?;
    object.raw("address", format_args!("\"{:#x}\"", task.addr.0))?;
    object.string("state", state_name(task).as_bytes())?;
    object.number("cpu", task.cpu.map(u64::from))?;
    object.end()
}

fn write_excerpt(out: &mut dyn Write, excerpt: &Excerpt) -> fmt::Result {
    let mut object = Object::new(out)?;
    object.number("seq", Some(excerpt.seq))?;
    if let Some(ts_ns) = excerpt.ts_ns {
        write_seconds_number(object.key("time")?, ts_ns)?;
    }
    object.string("msg", excerpt.text.as_bytes())?;
    object.end()
}

/// A report of the log with what it comes to.
fn write_report(out: &mut dyn Write, report: &Report) -> fmt::Result {
    let mut object = Object::new(out)?;
    object.string("kind", report.kind.name().as_bytes())?;
    write_array(object.key("lines")?, &report.lines, &mut |out, line| {
        write_excerpt(out, line)
    })?;
    object.number(
        "error_code",
        report.error_code.as_ref().map(|found| found.value),
    )?;
    if let Some(access) = &report.access {
        object.display("access", &access.value)?;
    }
    if let Some(address) = &report.address {
        object.raw("address", format_args!("\"{:#x}\"", address.value))?;
    }
    if let Some(ip) = &report.ip {
        object.display("ip", &ip.value)?;
    }
    if let Some(task) = &report.subject {
        let mut subject = Object::new(object.key("subject")?)?;
        subject.string("comm", task.value.comm.as_bytes())?;
        subject.number("pid", Some(task.value.pid.into()))?;
        subject.end()?;
    }
    object.optional(
        "message",
        report.message.as_ref().map(|found| found.value.as_str()),
    )?;
    object.end()
}

fn write_text_frame(out: &mut dyn Write, frame: &Frame) -> fmt::Result {
    let place = &frame.place;
    let mut object = Object::new(out)?;
    if let Some(address) = place.address {
        object.raw("address", format_args!("\"{address:#x}\""))?;
    }
    object.optional(
        "symbol",
        Some(place.symbol.as_str()).filter(|symbol| !symbol.is_empty()),
    )?;
    object.number("offset", place.offset)?;
    object.number("size", place.size)?;
    object.optional("module", place.module.as_deref())?;
    if frame.doubtful {
        object.raw("doubtful", format_args!("true"))?;
    }
    let stack = match frame.section {
        Section::Task => None,
        Section::Irq => Some("irq"),
        Section::Nmi => Some("nmi"),
        Section::Exception => Some("exception"),
    };
    object.optional("stack", stack)?;
    object.end()
}

/// What every CPU was doing, and who was blocked.
fn write_tasks(object: &mut Object<'_>, facts: &Facts) -> fmt::Result {
    write_array(object.key("cpu_states")?, &facts.cpus, &mut |out, cpu| {
        let mut object = Object::new(out)?;
        object.number("cpu", Some(cpu.number.into()))?;
        if let Some(task) = &cpu.task {
            write_task(object.key("task")?, task)?;
        }
        if let Some(off) = cpu.irqs_off {
            object.raw("irqs_off", format_args!("{off}"))?;
        }
        write_backtrace(&mut object, facts, cpu.trace)?;
        object.end()
    })?;
    object.number("blocked_count", facts.blocked_count)?;
    write_array(
        object.key("blocked")?,
        &facts.blocked,
        &mut |out, blocked| {
            let mut object = Object::new(out)?;
            write_task(object.key("task")?, &blocked.task)?;
            object.number("blocked_ns", blocked.blocked_ns)?;
            write_backtrace(&mut object, facts, blocked.trace)?;
            object.end()
        },
    )
}

fn write_backtrace(object: &mut Object<'_>, facts: &Facts, kept: Option<usize>) -> fmt::Result {
    let Some(trace) = kept.and_then(|kept| facts.traces.get(kept)) else {
        return Ok(());
    };
    let mut backtrace = Object::new(object.key("backtrace")?)?;
    write_array(
        backtrace.key("frames")?,
        &trace.frames,
        &mut |out, frame| {
            let mut object = Object::new(out)?;
            object.raw("address", format_args!("\"{:#x}\"", frame.pc.0))?;
            object.raw("sp", format_args!("\"{:#x}\"", frame.sp.0))?;
            if let Some(symbol) = &frame.symbol {
                object.string("symbol", symbol.name.as_bytes())?;
                object.number("offset", Some(symbol.offset))?;
                object.number("size", Some(symbol.size))?;
            }
            object.optional("module", frame.module.as_deref())?;
            object.string("stack", frame.stack.name().as_bytes())?;
            object.string("trust", frame.trust.name().as_bytes())?;
            object.end()
        },
    )?;
    match trace.end {
        End::Complete => backtrace.string("end", b"complete")?,
        End::User { .. } => backtrace.string("end", b"user space")?,
        End::Broken(why) => backtrace.display("end", &why)?,
    }
    backtrace.end()
}

fn write_signs(object: &mut Object<'_>, summary: &Summary) -> fmt::Result {
    let text = &summary.text;
    if let Some(first) = &text.first_sign {
        write_excerpt(object.key("first_sign")?, first)?;
    }
    object.number("sign_count", Some(text.sign_count))?;
    write_array(object.key("signs")?, &text.signs, &mut |out, sign| {
        write_excerpt(out, sign)
    })?;
    object.number("warning_count", Some(text.warning_count))?;
    write_array(object.key("warnings")?, &text.warnings, &mut |out, sign| {
        write_excerpt(out, sign)
    })
}

/// What `printk()` took and that is not in the log; nothing where all is.
fn write_pending(object: &mut Object<'_>, facts: &Facts) -> fmt::Result {
    if facts.pending.is_empty() {
        return Ok(());
    }
    write_array(
        object.key("pending")?,
        &facts.pending,
        &mut |out, pending| {
            let mut object = Object::new(out)?;
            object.string("buffer", pending.place.name().as_bytes())?;
            object.number("cpu", pending.place.cpu().map(u64::from))?;
            object.number("bytes", Some(pending.len))?;
            object.number("lost", Some(pending.lost.into()).filter(|&lost| lost != 0))?;
            if let Some(ts_ns) = pending.ts_ns {
                write_seconds_number(object.key("time")?, ts_ns)?;
            }
            write_array(object.key("lines")?, pending.lines(), &mut |out, line| {
                let mut object = Object::new(out)?;
                object.number("pri", line.level.map(u64::from))?;
                object.string("msg", &line.text)?;
                object.end()
            })?;
            object.end()
        },
    )
}

fn write_modules(
    object: &mut Object<'_>,
    summary: &Summary,
    from_log: &mut FromLog,
) -> fmt::Result {
    let named = |out: &mut dyn Write, name: &str, letters: &str| {
        let mut object = Object::new(out)?;
        object.string("name", name.as_bytes())?;
        object.string("taints", letters.as_bytes())?;
        object.end()
    };
    match (&summary.facts.modules, &summary.text.modules) {
        (Some(modules), _) => write_array(object.key("modules")?, modules, &mut |out, module| {
            named(out, &module.name, Taint::from_mask(module.taints).letters())
        }),
        (None, Some(modules)) => {
            from_log.add("modules");
            write_array(object.key("modules")?, modules.iter(), &mut |out,
                                                                      (
                name,
                letters,
            )| {
                named(out, name, letters)
            })
        }
        (None, None) => Ok(()),
    }
}

fn write_log_state(out: &mut dyn Write, log: &LogState) -> fmt::Result {
    let mut object = Object::new(out)?;
    object.number("records", Some(log.records))?;
    object.number("first_seq", log.seqs.map(|(first, _)| first))?;
    object.number("last_seq", log.seqs.map(|(_, last)| last))?;
    object.number("unfinished", Some(log.unfinished))?;
    if !log.last_words.is_empty() {
        let words = log.last_words.iter().map(|words| words.text.as_str());
        object.string(
            "last_words",
            words.collect::<Vec<_>>().join("\n").as_bytes(),
        )?;
    }
    object.number("dropped", Some(log.dropped))?;
    object.number("cut", Some(log.cut))?;
    object.number("damaged", Some(log.damaged))?;
    if let Some((id, why)) = &log.first_damage {
        object.raw("damage_at", format_args!("\"{id:#x}\""))?;
        object.display("damage", why)?;
    }
    write_array(object.key("salvage")?, &log.salvage, &mut |out, text| {
        write_string(out, text.as_bytes())
    })?;
    if let Some(error) = &log.error {
        object.display("error", error)?;
    }
    object.end()
}
