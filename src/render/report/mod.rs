//! The report as text, to be read from the top.
//!
//! ```text
//! title          what this is
//! banner         LABEL: value, in the names and forms of crash(8)
//! reason         the lines that tell why, decoded
//! call trace     as the kernel printed it
//! backtraces     of every CPU and of blocked tasks, from memory
//! signs, what had not reached the log, modules, what could not be read
//! ```
//!
//! Every field is optional. A value that was read from the text of the log rather than from memory says so.

use core::fmt::{self, Write};

use super::{escape, log};
use crate::summary::{Excerpt, Summary};

mod banner;
mod reason;
mod traces;
mod trouble;
mod values;

pub(super) use banner::state_name;

/// The version of the text's form; it changes when scripts that read it might.
pub const FORMAT: u32 = 1;

/// What the report cannot know from the dump.
#[derive(Clone, Copy, Debug, Default)]
pub struct About<'a> {
    /// The program and its version.
    pub program: &'a str,
    /// A name for the machine that is better than the one in its memory.
    pub host: Option<&'a str>,
    /// A pseudonym of its machine id.
    pub machine_id: Option<&'a str>,
    /// The hardware address of the interface that it is reported by.
    pub mac: Option<&'a str>,
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
    banner::write_reason_fields(out, summary)?;
    banner::write_system(out, summary, about)?;
    banner::write_panicked(out, summary)?;
    reason::write_reason(out, summary)?;
    reason::write_trace(out, summary)?;
    traces::write_cpus(out, &summary.facts)?;
    traces::write_blocked(out, &summary.facts)?;
    trouble::write_signs(out, summary)?;
    trouble::write_pending(out, summary)?;
    trouble::write_modules(out, summary)?;
    trouble::write_gaps(out, summary)
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

/// `[    1.234567] text`.
///
/// # Errors
/// Those of `out`.
pub fn write_excerpt(out: &mut dyn Write, excerpt: &Excerpt) -> fmt::Result {
    if let Some(ts_ns) = excerpt.ts_ns {
        out.write_char('[')?;
        log::write_seconds(out, ts_ns)?;
        out.write_str("] ")?;
    }
    write_line(out, &excerpt.text)?;
    out.write_char('\n')
}
