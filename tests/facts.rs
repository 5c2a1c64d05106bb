//! Facts and backtraces of real dumps, what they cost, and what is left of them when tables are damaged.

#[path = "data/mod.rs"]
mod data;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crashdmesg::dump::{ReadAt, Vmcore};
use crashdmesg::error::{At, Error, Result};
use crashdmesg::facts::{Facts, taint_letters};
use crashdmesg::kernel::Kernel;
use crashdmesg::unwind::{End, Trace};
use crashdmesg::vmcoreinfo::VmcoreInfo;

/// Counts what is allocated, so that the bound on memory is a test.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A dump in memory, with damage.
struct Damaged {
    bytes: Vec<u8>,
    read: Cell<u64>,
}

impl ReadAt for Damaged {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.read.set(self.read.get() + buf.len() as u64);
        let start = offset as usize;
        let found = self.bytes.get(start..start + buf.len());
        let found = found.ok_or(Error::Truncated {
            what: "the file",
            at: At::File(offset),
            need: buf.len() as u64,
            have: 0,
        })?;
        buf.copy_from_slice(found);
        Ok(())
    }

    fn len(&self) -> Option<u64> {
        Some(self.bytes.len() as u64)
    }
}

fn open(name: &str) -> Option<Damaged> {
    let bytes = fs::read(data::dump(name)?).unwrap();
    Some(Damaged {
        bytes,
        read: Cell::new(0),
    })
}

/// The facts of a dump and the bytes that were read for them.
fn facts(dump: &Damaged) -> (Facts, u64) {
    let sources: [&dyn ReadAt; 1] = [dump];
    let vmcore = Vmcore::open(&sources).unwrap();
    let info = VmcoreInfo::parse(vmcore.vmcoreinfo().unwrap()).unwrap();
    let kernel = Kernel::new(&vmcore, info);
    let before = dump.read.get();
    let facts = Facts::collect(&vmcore, &kernel);
    (facts, dump.read.get() - before)
}

fn lines(trace: &Trace) -> Vec<String> {
    let mut lines = Vec::new();
    let mut stack = "TASK";
    for frame in &trace.frames {
        if frame.stack.name() != stack {
            stack = frame.stack.name();
            lines.push(format!("<{stack}>"));
        }
        lines.push(format!("{frame} {}", frame.trust.name()));
    }
    lines
}

fn gaps(facts: &Facts) -> Vec<&'static str> {
    facts.gaps.iter().map(|gap| gap.what).collect()
}

#[test]
fn a_hung_task_beside_a_spinning_cpu_on_6_12_is_told_as_the_kernel_tells_it() {
    let Some(dump) = open("f612-hung") else {
        return;
    };
    let (facts, _) = facts(&dump);
    let uts = facts.uts.as_ref().unwrap();
    assert_eq!(uts.release, "6.12.111+deb12-cloud-amd64");
    assert_eq!(
        uts.version,
        "#1 SMP PREEMPT_DYNAMIC Debian 6.12.111-1~deb12u1 (2026-09-30)"
    );
    assert_eq!(
        (uts.machine.as_str(), uts.nodename.as_str()),
        ("x86_64", "(none)")
    );
    assert_eq!(facts.uptime_ns.map(|ns| ns / 1_000_000_000), Some(18));
    assert_eq!(facts.cpus_online, Some(3));
    assert_eq!(facts.load_average, Some([70, 15, 5]));
    assert_eq!(facts.tasks, Some(73));
    assert_eq!(facts.memory_present, Some(536_313_856));
    assert_eq!(facts.taint.map(taint_letters).as_deref(), Some("OE"));
    let command_line = facts.command_line.as_deref().unwrap();
    assert!(
        command_line.ends_with("crashkernel=192M panic=-1"),
        "{command_line}"
    );
    let modules = facts.modules.as_ref().unwrap().iter();
    let modules: Vec<String> = modules
        .map(|module| format!("{}({})", module.name, taint_letters(module.taints)))
        .collect();
    assert_eq!(modules, ["zcrash(OE)", "virtio_blk()", "virtio_mmio()"]);
    assert_eq!(
        facts.panic_message.as_deref(),
        Some("hung_task: blocked tasks")
    );

    let cpu = facts.panicked().unwrap();
    let task = cpu.task.as_ref().unwrap();
    assert_eq!(
        (task.pid, task.comm.as_str(), task.state),
        (40, "khungtaskd", 'R')
    );
    assert_eq!(cpu.irqs_off, Some(true));
    let trace = &facts.traces[cpu.trace.unwrap()];
    assert_eq!(
        lines(trace),
        [
            "__crash_kexec+0x11c/0x130 registers",
            "panic+0x2e6/0x3a0 call",
            "watchdog+0x2f2/0x5d0 orc",
            "kthread+0xd2/0x100 orc",
            "ret_from_fork+0x34/0x50 orc",
            "ret_from_fork_asm+0x1a/0x30 orc",
        ]
    );
    assert_eq!(trace.end, End::Complete);
    let blocked = &facts.blocked[0];
    assert_eq!(blocked.task.state, 'D');
    assert!(blocked.blocked_ns.unwrap() > 5_000_000_000);
    let all: Vec<String> = facts.traces.iter().flat_map(lines).collect();
    assert!(
        all.iter()
            .any(|line| line.starts_with("zcrash_spin+") && line.contains(" [zcrash] "))
    );
}

#[test]
fn an_nmi_on_7_3_is_followed_from_the_nmi_stack_into_what_it_interrupted() {
    let Some(dump) = open("f73-nmi") else {
        return;
    };
    let (facts, _) = facts(&dump);
    assert_eq!(facts.panic_message.as_deref(), Some("NMI: Not continuing"));
    assert_eq!(facts.tasks, Some(71));
    let cpu = facts.panicked().unwrap();
    assert_eq!(cpu.task.as_ref().unwrap().comm, "swapper/0");
    assert_eq!(
        lines(&facts.traces[cpu.trace.unwrap()]),
        [
            "<NMI>",
            "__crash_kexec+0x13d/0x150 registers",
            "vpanic+0x179/0x360 call",
            "nmi_panic.cold+0xb/0xb orc",
            "unknown_nmi_error+0x77/0xa0 orc",
            "exc_nmi+0x125/0x1a0 orc",
            "end_repeat_nmi+0xf/0x53 orc",
            "<TASK>",
            "pv_native_safe_halt+0xf/0x20 registers",
            "default_idle+0x9/0x20 orc",
            "default_idle_call+0x29/0xf0 orc",
            "do_idle+0x1dd/0x2c0 orc",
            "cpu_startup_entry+0x29/0x30 orc",
            "rest_init+0x112/0x120 orc",
            "start_kernel+0x875/0x880 orc",
            "x86_64_start_reservations+0x24/0x30 orc",
            "x86_64_start_kernel+0x12f/0x130 orc",
            "common_startup_64+0x13e/0x151 orc",
        ]
    );
    // The two idle CPUs stand at the same place: one trace for both.
    assert_eq!((facts.cpus.len(), facts.traces.len()), (3, 2));
}

/// Where in the dump these bytes are.
fn find(dump: &Damaged, bytes: &[u8]) -> usize {
    let found = dump
        .bytes
        .windows(bytes.len())
        .position(|window| window == bytes);
    found.unwrap()
}

const BTF_MAGIC: [u8; 8] = [0x9f, 0xeb, 1, 0, 24, 0, 0, 0];

#[test]
fn without_btf_there_are_still_names_and_backtraces_of_all_cpus() {
    let Some(mut dump) = open("f73-nmi") else {
        return;
    };
    let at = find(&dump, &BTF_MAGIC);
    dump.bytes[at] = 0;
    let (facts, _) = facts(&dump);
    assert!(gaps(&facts).contains(&"structure layouts (BTF)"));
    assert_eq!(facts.cpus_online, Some(3));
    assert_eq!(facts.load_average, Some([62, 14, 5]));
    let trace = &facts.traces[facts.panicked().unwrap().trace.unwrap()];
    assert_eq!(
        trace.frames.last().unwrap().to_string(),
        "common_startup_64+0x13e/0x151"
    );
    let modules = facts.modules.as_ref().unwrap();
    assert_eq!(modules.last().unwrap().name, "virtio_mmio");
}

#[test]
fn without_kallsyms_there_is_a_shorter_report_with_the_reasons() {
    let Some(mut dump) = open("f73-nmi") else {
        return;
    };
    let key = find(&dump, b"SYMBOL(kallsyms_names)");
    dump.bytes[key + 8] = b'K';
    let (facts, _) = facts(&dump);
    assert!(facts.uts.is_some());
    assert!(facts.crash_time.is_some());
    assert!(facts.traces.is_empty());
    for what in [
        "kernel symbols",
        "structure layouts (BTF)",
        "uptime",
        "tasks",
        "backtraces",
    ] {
        assert!(gaps(&facts).contains(&what), "{what}");
    }
}

#[test]
fn facts_take_at_most_16_mib_of_reading_and_2_mib_of_memory() {
    for name in ["f612-hung", "f73-nmi"] {
        let Some(dump) = open(name) else {
            return;
        };
        // Other tests allocate beside this one; the least of a few runs is its own.
        let mut least = usize::MAX;
        for _ in 0..5 {
            let before = NOW.load(Ordering::Relaxed);
            PEAK.store(before, Ordering::Relaxed);
            let (facts, read) = facts(&dump);
            least = least.min(PEAK.load(Ordering::Relaxed).saturating_sub(before));
            assert!(facts.panicked().is_some());
            assert!(read <= 16 << 20, "{name}: {read} bytes");
        }
        println!("{name}: {least} bytes of memory");
        assert!(least <= 2 << 20, "{name}: {least} bytes of memory");
    }
}

#[test]
fn damage_anywhere_shortens_the_report_and_no_more() {
    let Some(mut dump) = open("f612-hung") else {
        return;
    };
    let clean = dump.bytes.clone();
    let mut seed = 11_u64;
    let mut next = move || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(99);
        seed >> 24
    };
    for step in [40_960, 4096, 512] {
        for _ in 0..2 {
            dump.bytes.copy_from_slice(&clean);
            let mut at = 0x4000;
            while at < dump.bytes.len() {
                dump.bytes[at] = next() as u8;
                at += 1 + next() as usize % step;
            }
            dump.read.set(0);
            let start = Instant::now();
            let (facts, read) = facts(&dump);
            // A debug build on a busy machine; a release build needs a hundredth.
            assert!(start.elapsed() < Duration::from_secs(30));
            assert!(read <= 32 << 20, "{read} bytes");
            assert!(facts.traces.iter().all(|trace| trace.frames.len() <= 64));
        }
    }
}
