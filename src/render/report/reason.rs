//! The reason and the call trace, as the log tells them.

use core::fmt::{self, Write};

use super::{text_field, write_excerpt, write_line, write_title};
use crate::summary::{Access, Frame, Report, Section, Summary};

/// What led to the panic, as the log tells it.
pub(super) fn write_reason(out: &mut dyn Write, summary: &Summary) -> fmt::Result {
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

/// The call traces that the kernel printed: of the CPU that panicked, and of what led to it where that is another one.
pub(super) fn write_trace(out: &mut dyn Write, summary: &Summary) -> fmt::Result {
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
