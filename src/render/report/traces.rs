//! What CPUs and blocked tasks were doing: their backtraces from memory.

use core::fmt::{self, Write};

use super::{NS, write_line, write_title};
use crate::bytes::wide;
use crate::facts::{Cpu, Facts, Task};
use crate::unwind::{End, Stack, Trace, Trust};

/// What every CPU was doing, the one that panicked first.
pub(super) fn write_cpus(out: &mut dyn Write, facts: &Facts) -> fmt::Result {
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
pub(super) fn write_blocked(out: &mut dyn Write, facts: &Facts) -> fmt::Result {
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
