//! What reading a log costs, measured against the peers in the same run, as a table that the README quotes:
//!
//! ```sh
//! cargo test --release --test bench -- --ignored --nocapture
//! ```
//!
//! Times are on the CPU, the best of five runs that write into a file; compare them with each other, as the machine is
//! whatever it is. Memory is the peak of what was resident, read just before a process ends. makedumpfile maps the dump,
//! so what it reads is not counted.

#[path = "../build/mod.rs"]
mod build;
#[path = "../data/mod.rs"]
mod data;
#[path = "../program/mod.rs"]
mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use build::lockless::{Age, EndRule, Layout, Ring};
use build::tables::Tables;
use build::{Crash, Machine, Message, Rng, elf};
use program::{Cost, crashdmesg, is_installed, measure};

/// A dump with a wrapped ring of `1 << size_bits` bytes, full of records of about 100 characters.
fn dump(size_bits: u32, name: &str) -> (PathBuf, usize) {
    let path = data::scratch_file(name);
    let mut rng = Rng::new(16);
    let mut ring = Ring::new(Machine::X86_64, size_bits - 5, size_bits, EndRule::Strict);
    for n in 0..(1_u64 << size_bits) / 64 {
        let text = format!("driver {n}: {}", "a line of the log ".repeat(5));
        let len = 60 + rng.below(70) as usize;
        ring.store(&Message::new(n * 50_000, &text[..len.min(text.len())]));
    }
    let mut crash = Crash::new(Machine::X86_64);
    crash.add_memory_map();
    Layout::of(&ring.machine, Age::LastFinalized).place(&ring, &mut crash);
    Tables {
        huge: true,
        ..Tables::SMALL
    }
    .add(&mut crash);
    fs::write(&path, elf::Options::default().write(&crash)).unwrap();
    (path, ring.kept().len())
}

/// What the cheapest of a few runs costs; `None` when the program is not here or refuses the dump. It writes into a file.
fn best(make: &dyn Fn() -> Command) -> Option<Cost> {
    let name = make().get_program().to_string_lossy().into_owned();
    if !name.contains('/') && !is_installed(&name) {
        return None;
    }
    let out = data::scratch_file("bench.out");
    let run = |count_syscalls| {
        let mut command = make();
        let stdout = fs::File::create(&out).unwrap();
        command.stdout(stdout).stderr(Stdio::null());
        let (status, cost) = measure(&mut command, count_syscalls)?;
        if !status.success() {
            println!("SKIPPED: {name} cannot read this dump");
        }
        Some(cost).filter(|_| status.success())
    };
    let mut best = run(false)?;
    for _ in 0..4 {
        best.cpu_ns = best.cpu_ns.min(run(false)?.cpu_ns);
    }
    best.syscalls = run(true)?.syscalls;
    let _ = fs::remove_file(out);
    Some(best)
}

fn row(what: &str, cost: Option<Cost>) {
    if let Some(cost) = cost {
        println!(
            "| {what} | {:.1} ms | {} KiB | {} KiB | {} |",
            cost.cpu_ns as f64 / 1e6,
            cost.peak_kib,
            cost.read / 1024,
            cost.syscalls
        );
    }
}

/// Prints a row for each program and returns ours and vmcore-dmesg's.
fn compare(dump: &Path) -> [Option<Cost>; 2] {
    println!("| program | CPU time | peak memory | read | system calls |");
    println!("|---|---|---|---|---|");
    let ours = best(&|| crashdmesg(["--log".as_ref(), dump.as_os_str()]));
    row("crashdmesg --log", ours);
    let report = best(&|| crashdmesg([dump]));
    row("crashdmesg", report);
    let vmcore_dmesg = best(&|| {
        let mut command = Command::new("vmcore-dmesg");
        command.arg(dump);
        command
    });
    row("vmcore-dmesg", vmcore_dmesg);
    let text = data::scratch_file("bench.txt");
    row(
        "makedumpfile --dump-dmesg",
        best(&|| {
            let _ = fs::remove_file(&text);
            let mut command = Command::new("makedumpfile");
            command.arg("--dump-dmesg").arg(dump).arg(&text);
            command
        }),
    );
    let _ = fs::remove_file(text);
    [ours, vmcore_dmesg]
}

#[test]
#[ignore = "needs a release build and a quiet machine: see the head of this file"]
fn a_log_of_16_mib() {
    let (dump, records) = dump(24, "bench-16m.vmcore");
    println!("\n16 MiB wrapped log, {records} records:\n");
    let [ours, peer] = compare(&dump);
    fs::remove_file(dump).unwrap();
    assert!(records > 120_000, "{records}");
    let cost = ours.unwrap();
    assert!(
        cfg!(debug_assertions) || cost.peak_kib <= 2048,
        "{} KiB",
        cost.peak_kib
    );
    if let Some(theirs) = peer {
        let ratio = theirs.cpu_ns as f64 / cost.cpu_ns as f64;
        println!("\nvmcore-dmesg takes {ratio:.1} times as long");
        assert!(cfg!(debug_assertions) || ratio >= 5.0, "{ratio}");
    }
}

#[test]
#[ignore = "needs a release build and a quiet machine: see the head of this file"]
fn a_log_of_128_kib() {
    let (dump, records) = dump(17, "bench-128k.vmcore");
    println!("\n128 KiB wrapped log, {records} records:\n");
    compare(&dump);
    fs::remove_file(dump).unwrap();
}

/// Reads `dump` into a file, and demands few system calls and few bytes.
fn assert_frugal(dump: &Path, what: &str) {
    let out = data::scratch_file("frugal.log");
    let mut command = crashdmesg(["--log", "-o"]);
    command.arg(&out).arg(dump);
    let Some((status, cost)) = measure(&mut command, true) else {
        return;
    };
    fs::remove_file(out).unwrap();
    assert!(status.success(), "{what}: {status}");
    assert!(
        cost.syscalls < 100,
        "{what}: {} system calls",
        cost.syscalls
    );
    assert!(cost.read <= 1 << 20, "{what}: {} bytes read", cost.read);
    println!(
        "{what}: {} system calls, {} bytes read",
        cost.syscalls, cost.read
    );
}

#[test]
fn a_log_of_128_kib_takes_less_than_100_system_calls_and_1_mib() {
    let (synthetic, _) = dump(17, "frugal.vmcore");
    assert_frugal(&synthetic, "a synthetic dump");
    fs::remove_file(synthetic).unwrap();
    for name in ["b61-wrap128k", "e73-fit", "b61-odd", "s72-amd64", "o419"] {
        if let Some(dump) = data::dump(name) {
            assert_frugal(&dump, name);
        }
    }
}
