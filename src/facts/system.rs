//! Facts of the whole machine: names, times, memory, load, taint.

use alloc::format;
use alloc::string::String;

use super::{Context, Uts, text};
use crate::addr::VirtAddr;
use crate::bytes::{index, wide};
use crate::error::{At, Error, Result};

/// Bytes of a field of `struct new_utsname`.
const UTS_FIELD: usize = 65;

/// The six names of `init_uts_ns`.
pub(super) fn uts(context: &Context<'_>) -> Result<Uts> {
    let at = context.symbol("init_uts_ns")?;
    // The names were preceded by a reference count until 5.11; VMCOREINFO does not always tell.
    let mut raw = [0; 6 * UTS_FIELD];
    let offset = [0, 4, 8, 16].into_iter().find(|&offset| {
        let read = context.kernel.read_at(at.wrapping_add(offset), &mut raw);
        read.is_ok() && raw.starts_with(b"Linux\0")
    });
    if offset.is_none() {
        context.kernel.read_at(at, &mut raw)?;
        return Err(Error::Invalid {
            what: "init_uts_ns.name.sysname",
            at: At::Virt(at),
            value: raw.first().copied().map_or(0, u64::from),
            why: "does not start \"Linux\"",
        });
    }
    let mut fields = raw.chunks_exact(UTS_FIELD).map(text);
    let mut next = || fields.next().unwrap_or_default();
    Ok(Uts {
        sysname: next(),
        nodename: next(),
        release: next(),
        version: next(),
        machine: next(),
        domainname: next(),
    })
}

/// The timekeeper, which is inside of something that was renamed twice.
fn timekeeper(context: &Context<'_>) -> Result<VirtAddr> {
    let seconds = context.offset("timekeeper.xtime_sec")?;
    if let Ok(addr) = context.symbol("timekeeper_data") {
        // Since 6.17 an array of struct tk_data.
        return Ok(addr.wrapping_add(context.offset("tk_data.timekeeper")?));
    }
    let core = context
        .symbol("tk_core")
        .or_else(|_| context.symbol("timekeeper"))?;
    if let Ok(offset) = context.offset("tk_data.timekeeper") {
        return Ok(core.wrapping_add(offset));
    }
    // Before 6.13 `tk_core` was a structure without a name: a sequence count, whose size depends on the configuration,
    // and the timekeeper, which is recognised by its time.
    let crash_time = context.kernel.info().crash_time();
    let plausible = |offset: &u64| {
        let at = core.wrapping_add(*offset).wrapping_add(seconds);
        let time = context.kernel.read_u64(at).unwrap_or(0);
        crash_time.is_some_and(|crash| crash.abs_diff(time) < 3600)
    };
    let offset = [8, 0, 16, 24, 32, 40, 48, 56, 64]
        .into_iter()
        .find(plausible);
    Ok(core.wrapping_add(offset.unwrap_or(8)))
}

/// Seconds since 1970 by the timekeeper.
pub(super) fn wall_time(context: &Context<'_>) -> Result<u64> {
    let at = timekeeper(context)?.wrapping_add(context.offset("timekeeper.xtime_sec")?);
    context.kernel.read_u64(at)
}

/// Nanoseconds since boot, time in suspend included, when the timekeeper was last updated.
pub(super) fn uptime(context: &Context<'_>) -> Result<u64> {
    let keeper = timekeeper(context)?;
    let member = |path| Ok(keeper.wrapping_add(context.offset(path)?));
    let kernel = context.kernel;
    let base = kernel.read_u64(member("timekeeper.tkr_mono.base")?)?;
    let boot = kernel.read_u64(member("timekeeper.offs_boot")?)?;
    // Since 6.15 what the last update left beyond the base is kept apart.
    let rest = match member("timekeeper.coarse_nsec") {
        Ok(at) => u64::from(kernel.read_u32(at)?),
        Err(_) => {
            let shifted = kernel.read_u64(member("timekeeper.tkr_mono.xtime_nsec")?)?;
            let shift = kernel.read_u32(member("timekeeper.tkr_mono.shift")?)?;
            shifted.checked_shr(shift).unwrap_or(0)
        }
    };
    let uptime = base.wrapping_add(boot).wrapping_add(rest);
    /// A hundred years.
    const MOST_NS: u64 = 100 * 366 * 86400 * 1_000_000_000;
    if uptime == 0 || uptime > MOST_NS {
        return Err(Error::Invalid {
            what: "timekeeper.tkr_mono.base",
            at: At::Virt(keeper),
            value: uptime,
            why: "is no uptime",
        });
    }
    Ok(uptime)
}

/// The boot id, as `/proc/sys/kernel/random/boot_id` gives it.
pub(super) fn boot_id(context: &Context<'_>) -> Result<String> {
    let at = context.symbol("sysctl_bootid")?;
    let mut raw = [0; 16];
    context.kernel.read_at(at, &mut raw)?;
    let id = u128::from_be_bytes(raw);
    if id == 0 {
        return Err(Error::Invalid {
            what: "sysctl_bootid",
            at: At::Virt(at),
            value: 0,
            why: "it is made when first read, and nothing has read it",
        });
    }
    let hex = format!("{id:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    Ok(format!(
        "{}-{}-{}-{}-{}",
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32)
    ))
}

/// The kernel's command line.
pub(super) fn command_line(context: &Context<'_>) -> Result<String> {
    let pointer = context.symbol("saved_command_line")?;
    let at = context.kernel.read_ptr(pointer, "saved_command_line")?;
    Ok(text(&context.kernel.read_cstr(at, 4096)?))
}

/// What the firmware calls the machine, as in "Hardware name:".
pub(super) fn hardware(context: &Context<'_>) -> Result<String> {
    let at = context.symbol("dump_stack_arch_desc_str")?;
    let name = text(&context.kernel.read_cstr(at, 128)?);
    if name.is_empty() {
        return Err(Error::Missing {
            key: "a hardware name",
        });
    }
    Ok(name)
}

/// The three load averages in hundredths, rounded as `/proc/loadavg` does.
pub(super) fn load_average(context: &Context<'_>) -> Result<[u64; 3]> {
    let at = context.symbol("avenrun")?;
    let size = wide(context.kernel.word_size().size());
    let mut load = [0; 3];
    for (value, number) in load.iter_mut().zip(0_u64..) {
        let fixed = context
            .kernel
            .read_word(at.wrapping_add(number.wrapping_mul(size)))?;
        // FIXED_1 is 2048; half of a hundredth is added.
        *value = fixed.saturating_add(10).saturating_mul(100) >> 11;
    }
    Ok(load)
}

/// The mask of taints.
pub(super) fn taint(context: &Context<'_>) -> Result<u64> {
    context.kernel.read_word(context.symbol("tainted_mask")?)
}

/// The processor's speed in kHz, where the kernel keeps one (x86).
pub(super) fn cpu_khz(context: &Context<'_>) -> Result<u32> {
    context.kernel.read_u32(context.symbol("cpu_khz")?)
}

/// Bytes of memory that is present in all nodes, what is reserved included.
pub(super) fn memory_present(context: &Context<'_>) -> Result<u64> {
    let present = context.offset("pglist_data.node_present_pages")?;
    let kernel = context.kernel;
    let pages = if let Ok(node) = context.symbol("contig_page_data") {
        kernel.read_word(node.wrapping_add(present))?
    } else {
        let table = context.symbol("node_data")?;
        let size = wide(kernel.word_size().size());
        let extent = context
            .kallsyms
            .as_ref()
            .map_or(0, |symbols| symbols.extent(table));
        let mut pages = 0_u64;
        // MAX_NUMNODES is at most 1 << 10.
        for number in 0..extent.checked_div(size).unwrap_or(0).min(1024) {
            let node = kernel.read_word(table.wrapping_add(number.wrapping_mul(size)))?;
            if node != 0 {
                let more = kernel.read_word(VirtAddr(node).wrapping_add(present))?;
                pages = pages.saturating_add(more);
            }
        }
        pages
    };
    Ok(pages.saturating_mul(kernel.info().page_size()))
}

/// Bytes of memory that the kernel manages.
pub(super) fn memory_total(context: &Context<'_>) -> Result<u64> {
    let at = context
        .symbol("_totalram_pages")
        .or_else(|_| context.symbol("totalram_pages"))?;
    let pages = context.kernel.read_word(at)?;
    Ok(pages.saturating_mul(context.kernel.info().page_size()))
}

/// Bytes of free memory, but for what single CPUs have not yet accounted for.
pub(super) fn memory_free(context: &Context<'_>) -> Result<u64> {
    // NR_FREE_PAGES is the first item of `enum zone_stat_item`.
    let at = context
        .symbol("vm_zone_stat")
        .or_else(|_| context.symbol("vm_stat"))?;
    let pages = context.kernel.read_word(at)?;
    Ok(pages.saturating_mul(context.kernel.info().page_size()))
}

/// What `panic` was called with: it formats its message into a static buffer of 1024 bytes, which is there even when
/// the log is not.
pub(super) fn panic_message(context: &Context<'_>) -> Result<String> {
    const LEN: u64 = 1024;
    let missing = Error::Missing {
        key: "panic's buffer",
    };
    let symbols = context.kallsyms.as_ref().ok_or(missing)?;
    for &at in symbols.static_buffers() {
        if symbols.extent(at) != LEN {
            continue;
        }
        let message = context.kernel.read_cstr(at, index(LEN))?;
        let printable = |&byte: &u8| byte >= b' ' || byte == b'\n' || byte == b'\t';
        if !message.is_empty() && message.iter().all(printable) {
            return Ok(text(&message));
        }
    }
    Err(missing)
}
