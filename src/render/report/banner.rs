//! The banner: what crash(8) shows first, `LABEL: value` a line.

use core::fmt::{self, Write};

use super::values::{Bytes, CrashDate, Hundredths, Uptime};
use super::{About, FROM_LOG, field, text_field, write_line};
use crate::facts::Task;
use crate::summary::{Summary, Taint};

pub(super) fn write_reason_fields(out: &mut dyn Write, summary: &Summary) -> fmt::Result {
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
        field(out, "WHY", format_args!("{}", summary.why()))?;
    }
    field(out, "SIGNATURE", format_args!("{}", summary.signature))?;
    text_field(out, "REPORT ID", &summary.report_id, "")
}

pub(super) fn write_system(
    out: &mut dyn Write,
    summary: &Summary,
    about: &About<'_>,
) -> fmt::Result {
    let facts = &summary.facts;
    out.write_char('\n')?;
    if let Some(host) = about.host {
        text_field(out, "HOST", host, "  (configured)")?;
    }
    if let Some(id) = about.machine_id {
        text_field(out, "MACHINE ID", id, "")?;
    }
    if let Some(mac) = about.mac {
        text_field(out, "MAC", mac, "")?;
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
pub(super) fn write_panicked(out: &mut dyn Write, summary: &Summary) -> fmt::Result {
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
pub(in crate::render) fn state_name(task: &Task) -> &'static str {
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
