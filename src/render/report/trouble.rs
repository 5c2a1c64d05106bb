//! Signs of trouble before the reason, what had not reached the log, the modules, and what could not be read.

use alloc::string::String;
use core::fmt::{self, Write};

use super::{escape, log, text_field, write_excerpt, write_line, write_title};
use crate::bytes::wide;
use crate::summary::{Summary, Taint};

/// Signs of trouble before the reason.
pub(super) fn write_signs(out: &mut dyn Write, summary: &Summary) -> fmt::Result {
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

/// What `printk()` took and that is not in the log behind the report.
pub(super) fn write_pending(out: &mut dyn Write, summary: &Summary) -> fmt::Result {
    for pending in &summary.facts.pending {
        let (name, len) = (pending.place.name(), pending.len);
        match pending.place.cpu() {
            Some(cpu) => write_title(
                out,
                format_args!("not yet in the log: {name} of CPU {cpu}, {len} bytes"),
            )?,
            None => write_title(
                out,
                format_args!("not yet in the log: {name}, an unfinished line of {len} bytes"),
            )?,
        }
        for line in pending.lines() {
            if let Some(ts_ns) = pending.ts_ns {
                out.write_char('[')?;
                log::write_seconds(out, ts_ns)?;
                out.write_str("] ")?;
            }
            escape::write_text(out, &line.text)?;
            out.write_char('\n')?;
        }
        let rest = len.saturating_sub(wide(pending.text.len()));
        if rest != 0 {
            writeln!(out, "  ... and {rest} bytes more")?;
        }
        if pending.lost != 0 {
            writeln!(
                out,
                "  ... and {} messages for which there was no room",
                pending.lost
            )?;
        }
    }
    Ok(())
}

pub(super) fn write_modules(out: &mut dyn Write, summary: &Summary) -> fmt::Result {
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
pub(super) fn write_gaps(out: &mut dyn Write, summary: &Summary) -> fmt::Result {
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
    for words in &log.last_words {
        out.write_str("last words, unfinished: ")?;
        write_excerpt(out, words)?;
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
