//! CPUs: which there are, what ran on each, and the registers it had.
//!
//! A per-CPU variable of CPU n is at the symbol's value plus `__per_cpu_offset[n]`. The registers that a CPU saved at
//! the crash are in its own `crash_notes` buffer, which tells whose they are; the notes of the dump are the same
//! buffers without those of CPUs that saved nothing, so they serve only where the buffers cannot be read.

use alloc::vec::Vec;

use super::Context;
use super::tasks::{read_past_cache, word_at};
use crate::addr::VirtAddr;
use crate::bytes::{index, wide};
use crate::dump::Prstatus;
use crate::error::{At, Error, Result};
use crate::limits;

/// Numbers of the CPUs in a mask such as `__cpu_online_mask`.
fn mask(context: &Context<'_>, name: &'static str, count: u32) -> Result<Vec<u32>> {
    let at = context.symbol(name)?;
    let word = context.kernel.word_size();
    let size = wide(word.size());
    let mut numbers = Vec::new();
    let mut bits = 0_u64;
    for number in 0..count {
        let bit = number & word.bits().wrapping_sub(1);
        if bit == 0 {
            let place = u64::from(number / 8) & !size.wrapping_sub(1);
            bits = context.kernel.read_word(at.wrapping_add(place))?;
        }
        if bits.checked_shr(bit).unwrap_or(0) & 1 != 0 {
            numbers.push(number);
        }
    }
    Ok(numbers)
}

/// How many CPU numbers the kernel has given out.
pub(super) fn count(context: &Context<'_>) -> Result<u32> {
    let at = context.symbol("nr_cpu_ids")?;
    let count = context.kernel.read_u32(at)?;
    if !(1..=limits::CPUS).contains(&count) {
        return Err(Error::Invalid {
            what: "nr_cpu_ids",
            at: At::Virt(at),
            value: u64::from(count),
            why: "is no number of CPUs",
        });
    }
    Ok(count)
}

/// Numbers of the CPUs that were online.
pub(super) fn online(context: &Context<'_>) -> Result<Vec<u32>> {
    mask(context, "__cpu_online_mask", count(context)?)
}

/// Numbers of the CPUs that have per-CPU variables.
pub(super) fn possible(context: &Context<'_>) -> Vec<u32> {
    // Kernels for one CPU have no such number.
    let count = count(context).unwrap_or(1);
    mask(context, "__cpu_possible_mask", count).unwrap_or_else(|_| (0..count).collect())
}

/// The CPU that panicked; `None` when none did.
pub(super) fn panicked(context: &Context<'_>) -> Result<Option<u32>> {
    let read = |name| {
        let value = context.kernel.read_u32(context.symbol(name)?)?;
        Ok(u32::try_from(value.cast_signed()).ok())
    };
    // Since 7.0 the dump may be made on another CPU than the one that panicked.
    if let Ok(Some(cpu)) = read("panic_redirect_cpu") {
        return Ok(Some(cpu));
    }
    let cpu = read("panic_cpu").or_else(|_| read("crashing_cpu"))?;
    Ok(cpu.filter(|&cpu| cpu < limits::CPUS))
}

/// The registers that each CPU saved, by its number, and whether their pids are pids. `notes` are those of the dump.
pub(super) fn registers(
    context: &Context<'_>,
    notes: &[Result<Prstatus>],
    hypervisor: bool,
    online: &[u32],
) -> (Vec<(u32, Prstatus)>, bool) {
    let count = count(context).unwrap_or(0);
    let own = (0..count).filter_map(|cpu| Some((cpu, saved(context, cpu).ok()??)));
    let own: Vec<(u32, Prstatus)> = own.collect();
    if !own.is_empty() {
        return (own, true);
    }
    // As many notes as CPUs were online are theirs, in order. Else count: hypervisors write one for each CPU.
    let ordered = online.len() == notes.len() && !hypervisor;
    let numbered = notes.iter().zip(0_u32..).filter_map(|(note, number)| {
        let cpu = if ordered {
            online.get(index(u64::from(number))).copied()?
        } else {
            number
        };
        Some((cpu, note.clone().ok()?))
    });
    (numbered.collect(), !hypervisor)
}

/// What a CPU saved in its `crash_notes` buffer; `None` when it saved nothing.
fn saved(context: &Context<'_>, cpu: u32) -> Result<Option<Prstatus>> {
    let kernel = context.kernel;
    let pointer = context.symbol("crash_notes")?;
    let notes = kernel.read_ptr(pointer, "crash_notes")?;
    let at = notes.wrapping_add(context.per_cpu_offset(cpu)?);
    let mut header = [0; 20];
    read_past_cache(kernel, at, &mut header)?;
    let word = |offset| kernel.endian().u32(&header, offset).unwrap_or_default();
    let (name_len, len, kind) = (word(0), word(4), word(8));
    if (name_len, kind) != (5, 1) || header.get(12..16) != Some(b"CORE") {
        return Ok(None);
    }
    let len = u64::from(len).min(limits::PRSTATUS_LEN);
    let mut desc = alloc::vec![0; index(len)];
    let at = at.wrapping_add(wide(header.len()));
    read_past_cache(kernel, at, &mut desc)?;
    Prstatus::parse(&desc, kernel.abi(), At::Virt(at)).map(Some)
}

/// The task that ran on a CPU.
pub(super) fn current(context: &Context<'_>, cpu: u32) -> Result<VirtAddr> {
    let rq = context.per_cpu("runqueues", cpu)?;
    let at = rq.wrapping_add(context.offset("rq.curr")?);
    match word_at(context.kernel, at)? {
        0 => Err(Error::Invalid {
            what: "rq.curr",
            at: At::Virt(at),
            value: 0,
            why: "a null pointer",
        }),
        task => Ok(VirtAddr(task)),
    }
}
