//! The same dumps through this program, `vmcore-dmesg` (kexec-tools) and `makedumpfile --dump-dmesg`.
//!
//! What the three print of a record differs by habit, see [`normalise`]; what they say about which records there are
//! must not. Where the peers are known to be wrong the dumps avoid it: blocks that end exactly at the end of the ring
//! ([`EndRule::Exact`]) and, for makedumpfile, dumps without the page tables and the memory map that it insists on.

mod build;
mod data;
mod program;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use build::lockless::{Age, EndRule, Layout, Ring};
use build::tables::Tables;
use build::{Crash, Machine, Message, Rng, bytes, elf, expect, records};
use program::{crashdmesg, is_installed, run};

/// What is left when habits are taken away.
///
/// | | data-less record | embedded newline | other bytes than ASCII text | caller column |
/// |---|---|---|---|---|
/// | crashdmesg --log | prefix alone | prefix repeated | UTF-8 as is, else `\xNN` | no |
/// | vmcore-dmesg | prefix alone | as is | `\xNN`, white space as is | no |
/// | makedumpfile | skipped | indented | `\xNN`, sign-extended where `char` is signed | when exported |
///
/// So: the caller column goes; a prefix that only repeats the one of the line before goes, and so does the indentation
/// that stands in its place; lines that are empty then go; and each byte that is no printable ASCII becomes `\xNN`.
/// The phantom empty record that vmcore-dmesg prints where structured records wrap goes with the empty lines.
fn normalise(log: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    let mut last = "";
    let ascii = to_ascii(log);
    for line in ascii.split('\n') {
        let (prefix, text) = split_prefix(line);
        let text = without_caller(text).trim_start_matches(' ').trim_end();
        let shown = if prefix == last { "" } else { prefix };
        if !prefix.is_empty() {
            last = prefix;
        }
        if !text.is_empty() {
            lines.push(format!("{shown}{text}"));
        }
    }
    lines
}

/// Printable ASCII and newlines stay, every other byte becomes `\xNN`, and so does makedumpfile's `\xffffffNN`.
fn to_ascii(log: &[u8]) -> String {
    let mut out = String::new();
    for &byte in log {
        match byte {
            b'\n' | b' '..=b'~' => out.push(char::from(byte)),
            _ => out += &format!("\\x{byte:02x}"),
        }
    }
    out.replace("\\xffffff", "\\x")
}

/// Splits `[seconds.micros] ` off a line.
fn split_prefix(line: &str) -> (&str, &str) {
    let end = line.find("] ").map_or(0, |end| end + 2);
    let (prefix, text) = line.split_at(end);
    let inner = prefix
        .strip_prefix('[')
        .unwrap_or("x")
        .trim_end_matches("] ");
    let is_time = inner
        .trim_start()
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_time { (prefix, text) } else { ("", line) }
}

/// Takes makedumpfile's `[   T123] ` off a text.
fn without_caller(text: &str) -> &str {
    let caller = || {
        let (inside, rest) = text.strip_prefix('[')?.split_once("] ")?;
        let number = inside.trim_start().strip_prefix(['T', 'C'])?;
        number
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then_some(rest)
    };
    caller().unwrap_or(text)
}

fn ours(dump: &Path) -> Vec<u8> {
    let output = run(&mut crashdmesg(["--log".as_ref(), dump.as_os_str()]));
    assert_eq!(
        output.code,
        Some(0),
        "{}: {}",
        dump.display(),
        output.stderr
    );
    output.stdout
}

fn vmcore_dmesg(dump: &Path) -> Option<Vec<u8>> {
    if !is_installed("vmcore-dmesg") {
        return None;
    }
    let output = run(Command::new("vmcore-dmesg").arg(dump).env("PATH", path()));
    (output.code == Some(0)).then_some(output.stdout)
}

fn makedumpfile(dump: &Path) -> Option<Vec<u8>> {
    if !is_installed("makedumpfile") {
        return None;
    }
    let text = data::scratch_file("makedumpfile.txt");
    let mut command = Command::new("makedumpfile");
    let output = run(command
        .arg("--dump-dmesg")
        .arg(dump)
        .arg(&text)
        .env("PATH", path()));
    let log = fs::read(&text);
    let _ = fs::remove_file(&text);
    (output.code == Some(0)).then(|| log.unwrap())
}

fn path() -> String {
    std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin"
}

/// Compares two logs line by line, so that a difference is shown as the line it is.
fn assert_same(ours: &[u8], theirs: &[u8], what: &str) {
    let (ours, theirs) = (normalise(ours), normalise(theirs));
    for (n, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        assert_eq!(ours, theirs, "{what}: line {n}");
    }
    assert_eq!(ours.len(), theirs.len(), "{what}: number of lines");
}

#[test]
fn real_dumps_read_the_same_as_by_vmcore_dmesg() {
    let mut compared = 0;
    for name in data::NAMES {
        // A block that ends exactly at the end of the ring, where vmcore-dmesg prints the next record's text.
        if *name == "e73-fit" {
            continue;
        }
        let Some(dump) = data::dump(name) else { return };
        // vmcore-dmesg gives up on QEMU's dumps, whose program headers have no virtual addresses.
        if let Some(theirs) = vmcore_dmesg(&dump) {
            assert_same(&ours(&dump), &without_levels(&theirs), name);
            compared += 1;
        }
    }
    assert!(compared >= 9 || !is_installed("vmcore-dmesg"), "{compared}");
}

/// A dump of one generation, with what makedumpfile asks for, and the log that was written to it.
fn synthetic(machine: Machine, generation: u32, rng: &mut Rng) -> (PathBuf, Vec<u8>) {
    let release = [
        "2.6.32-synthetic",
        "4.19.0-synthetic",
        "5.10.0-synthetic",
        "6.12.0-synthetic",
    ];
    let mut crash = Crash::with_release(machine, release[generation as usize]);
    let mut messages = Vec::new();
    for n in 0..1500 {
        let mut message = Message::random(rng, 5_000_000_000 + n * 1_234_567, 400);
        // Where the prefix is not repeated, a line of a text that looks like one cannot be told from it.
        message.text.retain(|&byte| byte != b'[');
        messages.push(message);
    }
    let log = match generation {
        0 => {
            let mut ring = bytes::Ring::new(32768);
            messages
                .iter()
                .take(150)
                .for_each(|message| ring.print(message));
            ring.place(&mut crash);
            byte_ring_log(&ring)
        }
        1 => {
            let layout = records::Layout::of(&machine, "printk_log", false);
            let mut ring = records::Ring::new(machine, layout, 32768);
            messages.iter().for_each(|message| ring.store(message));
            ring.place(&mut crash);
            expect::log(&ring.kept())
        }
        _ => {
            let mut ring = Ring::new(machine, 10, 15, EndRule::Strict);
            for message in &messages {
                ring.store(message);
            }
            let age = if generation == 2 {
                Age::First
            } else {
                Age::LastFinalized
            };
            Layout::of(&machine, age).place(&ring, &mut crash);
            expect::log(&ring.kept())
        }
    };
    if machine.e_machine == Machine::X86_64.e_machine {
        crash.add_memory_map();
        Tables::SMALL.add(&mut crash);
    }
    let dump = data::scratch_file("differential.vmcore");
    fs::write(&dump, elf::Options::default().write(&crash)).unwrap();
    (dump, log)
}

/// The text of a byte ring as `--log` prints it: without the level.
fn byte_ring_log(ring: &bytes::Ring) -> Vec<u8> {
    let mut log = Vec::new();
    for line in ring.whole_lines() {
        let end = line.iter().position(|&byte| byte == b'>').unwrap() + 1;
        log.extend(expect::printable(&line[end..]));
        log.push(b'\n');
    }
    log
}

/// Takes `<N>` off every line: the peers print byte rings as they are.
fn without_levels(log: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in log.split_inclusive(|&byte| byte == b'\n') {
        let level = line
            .starts_with(b"<")
            .then(|| line.iter().position(|&byte| byte == b'>'));
        out.extend(&line[level.flatten().map_or(0, |end| end + 1)..]);
    }
    out
}

#[test]
fn synthetic_dumps_read_as_written_and_the_same_as_by_both_peers() {
    let mut rng = Rng::new(0xd1ff);
    let (mut by_vmcore_dmesg, mut by_makedumpfile) = (0, 0);
    for machine in [
        Machine::X86_64,
        Machine::X86_64_KASLR,
        Machine::I386_PAE,
        Machine::PPC64,
        Machine::ARM,
    ] {
        for generation in 0..4 {
            let (dump, log) = synthetic(machine, generation, &mut rng);
            let what = format!("{machine:?}, generation {generation}");
            let ours = ours(&dump);
            let diff = ours
                .split(|&byte| byte == b'\n')
                .zip(log.split(|&byte| byte == b'\n'));
            for (ours, written) in diff {
                assert_eq!(
                    ours.escape_ascii().to_string(),
                    written.escape_ascii().to_string(),
                    "{what}"
                );
            }
            assert_eq!(ours.len(), log.len(), "{what}");
            if let Some(theirs) = vmcore_dmesg(&dump) {
                assert_same(
                    &ours,
                    &without_levels(&theirs),
                    &format!("{what}, vmcore-dmesg"),
                );
                by_vmcore_dmesg += 1;
            }
            if let Some(theirs) = makedumpfile(&dump) {
                assert_same(
                    &ours,
                    &without_levels(&theirs),
                    &format!("{what}, makedumpfile"),
                );
                by_makedumpfile += 1;
            }
            fs::remove_file(dump).unwrap();
        }
    }
    // A peer that refuses everything would make this test pass unseen.
    assert!(
        by_vmcore_dmesg == 20 || !is_installed("vmcore-dmesg"),
        "{by_vmcore_dmesg}"
    );
    assert!(
        by_makedumpfile >= 6 || !is_installed("makedumpfile"),
        "{by_makedumpfile}"
    );
}

#[test]
fn the_normalisation_takes_away_habits_only() {
    let ours = "[    1.000000] two\n[    1.000000] lines \\x01 \u{e9}\n[    2.000000] \n[    3.000000] x\n";
    let vmcore_dmesg =
        "[    1.000000] two\nlines \\x01 \\xc3\\xa9\n[    2.000000] \n[    3.000000] x\n";
    let makedumpfile = "[    1.000000] [    T1] two\n               lines \\x01 \\xffffffc3\\xffffffa9\n[    3.000000] [    C0] x\n";
    let expected = [
        "[    1.000000] two",
        "lines \\x01 \\xc3\\xa9",
        "[    3.000000] x",
    ];
    for log in [ours, vmcore_dmesg, makedumpfile] {
        assert_eq!(normalise(log.as_bytes()), expected);
    }
    assert_ne!(
        normalise(b"[    1.000000] a\n"),
        normalise(b"[    1.000001] a\n")
    );
    assert_ne!(
        normalise(b"[    1.000000] a\n"),
        normalise(b"[    1.000000] b\n")
    );
}
