//! The program on fixtures, as its users and their scripts meet it: stdout, stderr, exit codes.

mod build;
mod data;
mod json;
mod program;

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use build::lockless::{Age, EndRule, Layout, Ring};
use build::{Crash, Machine, Message, elf, expect};
use json::Json;
use program::{Output, crashdmesg, run};

/// 2026-11-21 19:23:35 UTC.
const CRASH_TIME: u64 = 1_795_289_015;

/// A dump in a file, gone when dropped.
struct Dump(PathBuf);

impl Drop for Dump {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Dump {
    fn of(bytes: impl AsRef<[u8]>) -> Self {
        let path = data::scratch_file("cli.vmcore");
        fs::write(&path, bytes).unwrap();
        Dump(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    /// Runs the program on this dump and demands that all is well.
    fn shown(&self, args: &[&str]) -> String {
        let output = run(crashdmesg(args).arg(&self.0));
        assert_eq!(output.code, Some(0), "{args:?}: {}", output.stderr);
        assert_eq!(output.stderr, "", "{args:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

/// Messages of every sort, the last one at 10 s.
fn messages() -> Vec<Message> {
    let message = |ts_ms: u64, level, facility, caller, text: &str| Message {
        level,
        facility,
        caller,
        ..Message::new(ts_ms * 1_000_000, text)
    };
    let cpu = |n: u32| 1 << 31 | n;
    let mut messages = vec![
        message(0, 5, 0, 0, "Linux version 6.99.0-synthetic"),
        message(1500, 6, 0, 1, "information"),
        message(1500, 4, 1, 4_000_000, "a warning from user space"),
        message(2000, 3, 3, cpu(0), "an error\nof two lines"),
        message(2001, 7, 0, cpu(511), "debug \u{e9}\t\"quoted\" \\ \x1b[31m"),
        message(10_000, 0, 0, 77, "Kernel panic - not syncing: test"),
    ];
    messages[1].subsystem = "pci".into();
    messages[1].device = "+pci:0000:00:03.0".into();
    messages
}

fn crash_with(messages: &[Message]) -> Crash {
    let mut ring = Ring::new(Machine::X86_64, 8, 13, EndRule::Exact);
    for message in messages {
        ring.store(message);
    }
    let mut crash = Crash::new(Machine::X86_64);
    Layout::of(&ring.machine, Age::LastFinalized).place(&ring, &mut crash);
    crash.key(format_args!(
        "BUILD-ID=0123456789abcdef0123456789abcdef01234567"
    ));
    crash.key(format_args!("CRASHTIME={CRASH_TIME}"));
    crash
}

fn dump() -> Dump {
    Dump::of(elf::Options::default().write(&crash_with(&messages())))
}

/// The expected log of a fixture in the form of `--log`: no `<N>` in front, and what is no text escaped.
///
/// This is all that the reference logs differ by: they hold the raw bytes of each record, byte rings with their levels,
/// and `o34.log` ends with an empty line that is not in the ring.
fn normalised(name: &str, levels: bool) -> Vec<u8> {
    let log = data::expected_log(name);
    let mut out = Vec::new();
    for line in log
        .strip_suffix(b"\n")
        .unwrap()
        .split(|&byte| byte == b'\n')
    {
        let end = line
            .iter()
            .position(|&byte| byte == b'>')
            .filter(|_| line.starts_with(b"<"));
        let start = if levels {
            0
        } else {
            end.map_or(0, |end| end + 1)
        };
        out.extend(expect::printable(&line[start..]));
        out.push(b'\n');
    }
    if name == "o34" {
        assert!(out.ends_with(b"\n\n"));
        out.pop();
    }
    out
}

fn assert_equal_lines(found: &[u8], expected: &[u8], what: &str) {
    let lines = |log: &[u8]| -> Vec<String> {
        log.split(|&byte| byte == b'\n')
            .map(|line| line.escape_ascii().to_string())
            .collect()
    };
    for (n, (found, expected)) in lines(found).iter().zip(lines(expected)).enumerate() {
        assert_eq!(*found, expected, "{what}: line {n}");
    }
    assert_eq!(found.len(), expected.len(), "{what}: bytes in all");
}

#[test]
fn the_log_of_every_real_dump_is_the_expected_one_byte_for_byte() {
    for name in data::NAMES {
        let Some(dump) = data::dump(name) else { return };
        let output = run(crashdmesg(["--log"]).arg(&dump));
        assert_eq!((output.code, &*output.stderr), (Some(0), ""), "{name}");
        assert_equal_lines(&output.stdout, &normalised(name, false), name);
    }
}

#[test]
fn raw_is_what_a_byte_ring_holds() {
    let Some(dump) = data::dump("o34") else {
        return;
    };
    let output = run(crashdmesg(["--log", "--raw"]).arg(&dump));
    assert_equal_lines(&output.stdout, &normalised("o34", true), "o34 --raw");
}

#[test]
fn the_log_repeats_the_prefix_and_escapes_what_is_no_text() {
    let expected = "\
[    0.000000] Linux version 6.99.0-synthetic
[    1.500000] information
[    1.500000] a warning from user space
[    2.000000] an error
[    2.000000] of two lines
[    2.001000] debug \u{e9}\t\"quoted\" \\ \\x1b[31m
[   10.000000] Kernel panic - not syncing: test
";
    assert_eq!(dump().shown(&["--log"]), expected);
}

#[test]
fn the_default_is_the_report_and_then_the_log() {
    let dump = dump();
    let (report, log) = (dump.shown(&[]), dump.shown(&["--log"]));
    assert!(report.ends_with(&log), "{report}");
    let header = &report[..report.len() - log.len()];
    assert!(header.contains("6.99.0-synthetic"), "{header}");
    let summary = dump.shown(&["--summary"]);
    assert!(
        summary.contains("6.99.0-synthetic") && !summary.contains("[    1.500000] information")
    );
}

#[test]
fn raw_decode_and_caller_stand_in_front() {
    let dump = dump();
    let lines = |args: &[&str]| -> Vec<String> {
        let log = dump.shown(&[&["--log"], args].concat());
        log.lines().map(String::from).collect()
    };
    assert_eq!(
        lines(&["-r"])[2],
        "<12>[    1.500000] a warning from user space"
    );
    assert_eq!(
        lines(&["--raw"])[3..5],
        [
            "<27>[    2.000000] an error",
            "<27>[    2.000000] of two lines"
        ]
    );
    assert_eq!(
        lines(&["-x"])[2],
        "user  :warn  : [    1.500000] a warning from user space"
    );
    assert_eq!(
        lines(&["--decode"])[6],
        "kern  :emerg : [   10.000000] Kernel panic - not syncing: test"
    );
    let callers = lines(&["--caller"]);
    for (line, caller) in [
        (0, "    T0"),
        (1, "    T1"),
        (2, "T4000000"),
        (3, "    C0"),
        (5, "  C511"),
        (6, "   T77"),
    ] {
        assert!(
            callers[line][14..].starts_with(&format!("[{caller}] ")),
            "{}",
            callers[line]
        );
    }
}

#[test]
fn levels_and_facilities_filter() {
    let dump = dump();
    let texts = |args: &[&str]| -> Vec<String> {
        let log = dump.shown(&[&["--log", "-t"], args].concat());
        log.lines()
            .map(|line| line.split(' ').next_back().unwrap().to_owned())
            .collect()
    };
    assert_eq!(texts(&["-l", "err"]), ["error", "lines"]);
    assert_eq!(texts(&["--level", "emerg,warn"]), ["space", "test"]);
    assert_eq!(texts(&["--level=err+"]), ["error", "lines", "test"]);
    assert_eq!(texts(&["-l", "+info"]), ["information", "\\x1b[31m"]);
    assert_eq!(texts(&["-f", "user"]), ["space"]);
    assert_eq!(
        texts(&["--facility", "daemon,user"]),
        ["space", "error", "lines"]
    );
    assert_eq!(texts(&["-k", "-l", "info"]), ["information"]);
    assert_eq!(texts(&["-u"]), ["space", "error", "lines"]);
    assert_eq!(texts(&["-l", "crit"]), Vec::<String>::new());
}

#[test]
fn every_time_format_counts_back_from_the_crash() {
    let dump = dump();
    // The last message came at 10 s and the crash at 19:23:35, so the machine was started at 19:23:25.
    for (format, first, second, last) in [
        (
            "raw",
            "[    0.000000] ",
            "[    1.500000] ",
            "[   10.000000] ",
        ),
        (
            "ctime",
            "[Sat Nov 21 19:23:25 2026] ",
            "[Sat Nov 21 19:23:26 2026] ",
            "[Sat Nov 21 19:23:35 2026] ",
        ),
        (
            "iso",
            "2026-11-21T19:23:25,000000+00:00 ",
            "2026-11-21T19:23:26,500000+00:00 ",
            "2026-11-21T19:23:35,000000+00:00 ",
        ),
        (
            "delta",
            "[    0.000000 <    0.000000>] ",
            "[    1.500000 <    1.500000>] ",
            "[   10.000000 <    7.999000>] ",
        ),
        (
            "reltime",
            "[Nov21 19:23] ",
            "[  +1.500000] ",
            "[  +7.999000] ",
        ),
        ("notime", "", "", ""),
    ] {
        let log = dump.shown(&["--log", "--time-format", format]);
        let lines: Vec<&str> = log.lines().collect();
        let prefixes = [
            lines[0].strip_suffix("Linux version 6.99.0-synthetic"),
            lines[1].strip_suffix("information"),
            lines[6].strip_suffix("Kernel panic - not syncing: test"),
        ];
        assert_eq!(
            prefixes,
            [Some(first), Some(second), Some(last)],
            "{format}"
        );
    }
    for (short, long) in [
        ("-T", "ctime"),
        ("-d", "delta"),
        ("-e", "reltime"),
        ("-t", "notime"),
    ] {
        assert_eq!(
            dump.shown(&["--log", short]),
            dump.shown(&["--log", "--time-format", long])
        );
    }
}

#[test]
fn without_a_crash_time_no_date_is_made_up() {
    let mut crash = crash_with(&messages());
    crash.info = crash.info.replace(&format!("CRASHTIME={CRASH_TIME}\n"), "");
    let dump = Dump::of(elf::Options::default().write(&crash));
    let output = run(crashdmesg(["--log", "-T"]).arg(&dump.0));
    let log = String::from_utf8(output.stdout).unwrap();
    assert!(log.contains("[    1.500000] information\n"), "{log}");
    assert_eq!(
        (output.code, output.stderr.matches('\n').count()),
        (Some(0), 1),
        "{}",
        output.stderr
    );
    assert!(output.stderr.contains("CRASHTIME"), "{}", output.stderr);
}

/// Both JSON forms as lists of records.
fn records(dump: &Dump, args: &[&str]) -> [Vec<Json>; 2] {
    let document = dump.shown(&[&["--log", "--json"], args].concat());
    let document = Json::parse(&document).unwrap_or_else(|error| panic!("{error}\n{document}"));
    let lines = dump.shown(&[&["--log", "--json-lines"], args].concat());
    let lines: Vec<Json> = lines
        .lines()
        .map(|line| Json::parse(line).unwrap())
        .collect();
    [document.get("dmesg").unwrap().elements().to_vec(), lines]
}

#[test]
fn json_has_the_names_of_dmesg_and_the_text_of_the_log() {
    let dump = dump();
    let [document, lines] = records(&dump, &[]);
    assert_eq!(document, lines);
    let expected = messages();
    assert_eq!(document.len(), expected.len());
    for (record, message) in document.iter().zip(&expected) {
        let number = |key| record.get(key).and_then(Json::as_number);
        let string = |key| record.get(key).and_then(Json::as_str);
        assert_eq!(
            number("pri"),
            Some(f64::from(message.facility * 8 + message.level))
        );
        assert_eq!(number("time"), Some(message.ts_ns as f64 / 1e9));
        let id = message.caller & !(1 << 31);
        let kind = if message.caller == id { 'T' } else { 'C' };
        assert_eq!(string("caller"), Some(&*format!("{kind}{id}")));
        let text = String::from_utf8(message.text.clone()).unwrap();
        assert_eq!(string("msg"), Some(&*text));
        let or_none = |text| Some(text).filter(|text: &&str| !text.is_empty());
        assert_eq!(string("subsystem"), or_none(&message.subsystem));
        assert_eq!(string("device"), or_none(&message.device));
    }
    let [document, _] = records(&dump, &["-x", "-l", "err"]);
    assert_eq!(document.len(), 1);
    assert_eq!(
        document[0].get("fac").and_then(Json::as_str),
        Some("daemon")
    );
    assert_eq!(document[0].get("pri").and_then(Json::as_str), Some("err"));
    let [none, _] = records(&dump, &["-l", "crit"]);
    assert_eq!(none, []);
}

#[test]
fn json_of_every_real_dump_is_json() {
    for name in data::NAMES {
        let Some(dump) = data::dump(name) else { return };
        let output = run(crashdmesg(["--log", "--json"]).arg(&dump));
        let text = String::from_utf8(output.stdout).unwrap();
        let document = Json::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let lines = data::expected_log(name)
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count();
        let records = document.get("dmesg").unwrap().elements().len();
        assert!(
            records <= lines && records > lines / 2,
            "{name}: {records} of {lines}"
        );
    }
}

#[test]
fn facts_are_printed_alone() {
    let dump = dump();
    assert_eq!(dump.shown(&["--osrelease"]), "6.99.0-synthetic\n");
    assert_eq!(
        dump.shown(&["--build-id"]),
        "0123456789abcdef0123456789abcdef01234567\n"
    );
    assert_eq!(dump.shown(&["--vmcoreinfo"]), crash_with(&messages()).info);
}

#[test]
fn the_output_file_is_for_the_owner_alone_and_a_dash_is_stdout() {
    let dump = dump();
    let log = dump.shown(&["--log"]);
    let file = Dump(data::scratch_file("cli.log"));
    assert_eq!(dump.shown(&["--log", "-o", file.path()]), "");
    assert_eq!(fs::read_to_string(&file.0).unwrap(), log);
    assert_eq!(
        fs::metadata(&file.0).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(dump.shown(&["--log", "--output=-"]), log);
}

#[test]
fn colours_come_on_request_and_never_into_a_pipe() {
    let dump = dump();
    let escape = |log: &str| log.contains('\x1b');
    assert!(!escape(&dump.shown(&["--log"])));
    assert!(!escape(&dump.shown(&["--log", "--color=auto"])));
    assert!(escape(&dump.shown(&["--log", "--color=always"])));
    assert!(!escape(&dump.shown(&["--log", "-L", "--color=never"])));
}

#[test]
fn words_of_a_record_that_was_being_written_are_said_beside_the_log() {
    let mut ring = Ring::new(Machine::X86_64, 8, 13, EndRule::Exact);
    ring.store(&Message::new(1_000_000, "whole"));
    ring.store_open(&Message::new(
        2_000_000,
        "BUG: half a line \x1b of 10.1.2.3",
    ));
    let slot = ring.slot(ring.head_id);
    ring.descs[slot].state_var = ring.state_var(ring.head_id, build::lockless::RESERVED);
    ring.store(&Message::new(3_000_000, "after"));
    let mut crash = Crash::new(Machine::X86_64);
    Layout::of(&ring.machine, Age::LastFinalized).place(&ring, &mut crash);
    let dump = Dump::of(elf::Options::default().write(&crash));
    let output = run(crashdmesg(["--log"]).arg(&dump.0));
    assert_eq!(output.code, Some(0));
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "[    0.001000] whole\n[    0.003000] after\n"
    );
    let said: Vec<&str> = output.stderr.lines().collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].ends_with("1 records were not finished when the machine died"));
    assert!(said[1].starts_with("crashdmesg: "), "{said:?}");
    assert!(
        said[1].ends_with(": last words, unfinished: BUG: half a line"),
        "{said:?}"
    );
    let redacted = run(crashdmesg(["--log", "--redact"]).arg(&dump.0)).stderr;
    assert!(!redacted.contains("10.1.2.3"), "{redacted}");
    let report = run(crashdmesg(["--summary"]).arg(&dump.0)).stdout;
    let report = String::from_utf8(report).unwrap();
    assert!(
        report.contains("\nlast words, unfinished: BUG: half a line\n"),
        "{report}"
    );
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let messages: Vec<Message> = (0..250).map(|n| Message::new(n, "s".repeat(20))).collect();
    let crash = crash_with(&messages);
    let dump = Dump::of(elf::Options::default().write(&crash));
    // More than any pipe holds, by printing the same dump's log as JSON with everything.
    for args in [&["--log"][..], &["--log", "--json"], &[]] {
        let mut command = crashdmesg(args);
        command
            .arg(&dump.0)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        drop(child.stdout.take());
        let mut said = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        let status = child.wait().unwrap();
        assert_eq!(said, "", "{args:?}");
        assert!(status.success(), "{args:?}: {status}");
    }
}

#[test]
fn a_full_device_is_said_in_one_line() {
    let dump = dump();
    let output = run(crashdmesg(["--log", "-o", "/dev/full"]).arg(&dump.0));
    assert_one_line(&output, 1, "/dev/full", "--log -o /dev/full");
    let output = run(crashdmesg(["--log", "-o", "/nonexistent/dir/log"]).arg(&dump.0));
    assert_one_line(&output, 1, "/nonexistent/dir/log", "no such directory");
}

/// Demands nothing on stdout, one line on stderr that names the program and `about`, and this exit code.
fn assert_one_line(output: &Output, code: i32, about: &str, what: &str) {
    assert_eq!(output.code, Some(code), "{what}: {}", output.stderr);
    assert_eq!(output.stdout, b"", "{what}");
    assert!(
        output.stderr.starts_with("crashdmesg: "),
        "{what}: {}",
        output.stderr
    );
    assert!(output.stderr.contains(about), "{what}: {}", output.stderr);
    assert_eq!(
        output.stderr.matches('\n').count(),
        1,
        "{what}: {}",
        output.stderr
    );
    assert!(output.stderr.ends_with('\n'), "{what}");
}

#[test]
fn what_cannot_be_read_is_said_in_one_line_with_exit_code_1() {
    let directory = data::scratch();
    for path in [Path::new("/nonexistent/vmcore"), directory] {
        let output = run(crashdmesg(["--log"]).arg(path));
        assert_one_line(&output, 1, path.to_str().unwrap(), "unreadable");
    }
    // Address 0 is never mapped: reading it is an error even for root.
    let output = run(&mut crashdmesg(["--log", "/proc/self/mem"]));
    assert_one_line(&output, 1, "/proc/self/mem", "a read error");
}

#[test]
fn what_is_no_dump_with_a_log_is_said_in_one_line_with_exit_code_3() {
    let good = elf::Options::default().write(&crash_with(&messages()));
    let mut executable = good.clone();
    executable[16] = 2;
    let no_info = elf::Options {
        no_vmcoreinfo: true,
        ..elf::Options::default()
    };
    let mut no_log = crash_with(&messages());
    no_log.info = no_log
        .info
        .replace("(prb)", "(nothing)")
        .replace("(printk_rb_static)", "(more)");
    let cases: [(&str, Vec<u8>); 9] = [
        ("empty", Vec::new()),
        ("one byte", vec![0x7f]),
        (
            "text",
            b"This is no crash dump, although it is long enough for a header or two.\n".repeat(9),
        ),
        ("zeros", vec![0; 8192]),
        ("the ELF header alone", good[..64].to_vec()),
        ("a cut ELF header", good[..40].to_vec()),
        ("an executable", executable),
        (
            "without VMCOREINFO",
            no_info.write(&crash_with(&messages())),
        ),
        ("without a log", elf::Options::default().write(&no_log)),
    ];
    for (what, bytes) in cases {
        let dump = Dump::of(bytes);
        for args in [&["--log"][..], &["--log", "--json"]] {
            let output = run(crashdmesg(args).arg(&dump.0));
            assert_one_line(&output, 3, dump.path(), what);
        }
    }
    let output = run(crashdmesg(["--log"]).arg(std::env::current_exe().unwrap()));
    assert_one_line(&output, 3, "e_type", "a program");
}

#[test]
fn wrong_usage_is_said_in_one_line_with_exit_code_2() {
    for args in [
        &["--lgo"][..],
        &["-y"],
        &["--log=x"],
        &["--level"],
        &["-l", "loud"],
        &["-f", "nobody"],
        &["--time-format", "stardate"],
        &["--color=pink"],
    ] {
        let output = run(&mut crashdmesg(args));
        assert_one_line(
            &output,
            2,
            args[0].split('=').next().unwrap(),
            &format!("{args:?}"),
        );
    }
}

#[test]
fn a_log_with_a_hole_is_printed_and_the_hole_is_told_with_exit_code_4() {
    let mut ring = Ring::new(Machine::X86_64, 8, 14, EndRule::Exact);
    for n in 0..200 {
        ring.store(&Message::numbered(n));
    }
    let mut crash = Crash::new(Machine::X86_64);
    let placed = Layout::of(&ring.machine, Age::First).place(&ring, &mut crash);
    let page = (placed.infos + 4096) & !4095;
    crash.leave_out(page, 4096);
    // What is beside the missing page is there, record by record.
    let gone = |slot: &u64| {
        let start = placed.infos + slot * placed.info_size;
        start < page + 4096 && start + placed.info_size > page
    };
    let left = 200 - (0..200).filter(gone).count();
    let dump = Dump::of(elf::Options::default().write(&crash));
    let output = run(crashdmesg(["--log"]).arg(&dump.0));
    assert_eq!(output.code, Some(4), "{}", output.stderr);
    assert_eq!(output.stderr.matches('\n').count(), 1, "{}", output.stderr);
    assert!(output.stderr.contains(dump.path()), "{}", output.stderr);
    let lines = output.stdout.split(|&byte| byte == b'\n').count() - 1;
    assert_eq!(lines, left);
}

#[test]
fn help_and_version_go_to_stdout() {
    for args in ["--help", "-h", "--version", "-V"] {
        let output = run(&mut crashdmesg([args]));
        assert_eq!((output.code, &*output.stderr), (Some(0), ""));
        assert!(output.stdout.starts_with(b"Usage: ") || output.stdout.starts_with(b"crashdmesg "));
    }
}

#[test]
fn redaction_leaves_no_kernel_address_in_any_form_of_output() {
    let Some(dump) = data::dump("o34") else {
        return;
    };
    let kernel_address = |text: &str| {
        text.split(|c: char| !c.is_ascii_alphanumeric())
            .any(|word| {
                word.len() == 16 && word.starts_with("ffff") && !word.starts_with("fffffffff")
            })
    };
    for args in [
        ["--log", "--redact"],
        ["--summary", "--redact"],
        ["--json", "--redact"],
        ["--json-lines", "--redact"],
    ] {
        let output = run(crashdmesg(args).arg(&dump));
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.code, Some(0), "{args:?}: {}", output.stderr);
        assert!(!kernel_address(&text), "{args:?}");
    }
    let plain = run(crashdmesg(["--log"]).arg(&dump)).stdout;
    let plain = String::from_utf8(plain).unwrap();
    assert!(
        kernel_address(&plain),
        "nothing there that could be redacted"
    );
}
