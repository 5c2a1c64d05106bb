//! Text that was not yet in the log when the machine died: it must be in the report and nowhere else.

mod build;
mod data;
mod json;
mod program;
mod reading;

use std::fs;

use build::lockless::{self, EndRule, Layout, Ring};
use build::pending::{Age, Cont, name_per_cpu, place_cont, place_cpus, write_seq_buf};
use build::{Crash, Machine, Message, Rng, elf, records};
use crashdmesg::dump::{ReadAt, Vmcore};
use crashdmesg::kernel::Kernel;
use crashdmesg::printk::Log;
use crashdmesg::printk::pending::Place;
use crashdmesg::summary::{Kind, Summary};
use crashdmesg::vmcoreinfo::VmcoreInfo;
use json::Json;
use program::{crashdmesg, run};
use reading::Slice;

const MACHINES: &[Machine] = &[
    Machine::X86_64,
    Machine::X86_64_KASLR,
    Machine::I386,
    Machine::ARM,
    Machine::PPC,
    Machine::PPC64,
    Machine::S390,
];

/// What a hard lockup leaves where the lock of the log is held.
const LOCKUP: &[u8] = b"\x010NMI watchdog: \x01cWatchdog detected hard LOCKUP on cpu 1\n\
    \x014CPU: 1 PID: 77 Comm: stuck Not tainted 5.4.0 #1\n\
    \x014RIP: 0010:spin_forever+0x10/0x20\n\
    \x010Kernel panic - not syncing: Hard LOCKUP\n";

/// Where the buffers are in the per-CPU areas.
const NMI: u64 = 0x100;
const SAFE: u64 = 0x2100;
const AREA: u64 = 0x4200;

/// A kernel with structured records and `cpus` CPUs.
fn crash_with(machine: Machine, callers: bool, cpus: u64) -> (Crash, Vec<u64>) {
    let layout = records::Layout::of(&machine, "printk_log", callers);
    let mut ring = records::Ring::new(machine, layout, 4096);
    for n in 0..10 {
        ring.store(&Message::numbered(n));
    }
    let mut crash = Crash::new(machine);
    ring.place(&mut crash);
    let areas = place_cpus(&mut crash, cpus, AREA);
    name_per_cpu(&mut crash, "nmi_print_seq", NMI);
    name_per_cpu(&mut crash, "safe_print_seq", SAFE);
    (crash, areas)
}

fn summary(crash: &Crash) -> Summary {
    let file = elf::Options::default().write(crash);
    let slice = Slice(&file);
    let sources: [&dyn ReadAt; 1] = [&slice];
    let vmcore = Vmcore::open(&sources).unwrap();
    let info = VmcoreInfo::parse(vmcore.vmcoreinfo().unwrap()).unwrap();
    let kernel = Kernel::new(&vmcore, info);
    Summary::collect(&vmcore, &kernel, &Log::locate(&kernel))
}

fn texts(summary: &Summary) -> Vec<(Place, Vec<String>)> {
    let pending = summary.facts.pending.iter().map(|pending| {
        let lines = pending.lines();
        let lines = lines.map(|line| String::from_utf8_lossy(&line.text).into_owned());
        (pending.place, lines.collect())
    });
    pending.collect()
}

fn gap(summary: &Summary) -> Option<String> {
    let mut gaps = summary.facts.gaps.iter();
    let gap = gaps.find(|gap| gap.what == "text that was not yet in the log");
    gap.map(|gap| gap.why.to_string())
}

#[test]
fn a_hard_lockup_that_is_only_in_a_cpus_buffer_is_the_reason() {
    for &machine in MACHINES {
        for age in [Age::Nmi, Age::Safe, Age::IrqWait] {
            let (mut crash, areas) = crash_with(machine, false, 3);
            write_seq_buf(&mut crash, areas[1] + NMI, age, 2, LOCKUP);
            write_seq_buf(
                &mut crash,
                areas[2] + SAFE,
                age,
                0,
                b"\x013inside of printk\n",
            );
            let summary = summary(&crash);
            let texts = texts(&summary);
            assert_eq!(texts.len(), 2, "{machine:?} {age:?} {:?}", gap(&summary));
            assert_eq!(texts[0].0, Place::Nmi(1));
            assert_eq!(
                texts[0].1[0],
                "NMI watchdog: Watchdog detected hard LOCKUP on cpu 1"
            );
            assert_eq!(texts[1], (Place::Safe(2), vec!["inside of printk".into()]));
            let lost = if age == Age::Nmi { 0 } else { 2 };
            assert_eq!(summary.facts.pending[0].lost, lost, "{machine:?} {age:?}");
            assert_eq!(summary.text.kind, Kind::HardLockup);
            assert_eq!(
                summary.panic_line().as_deref(),
                Some("Kernel panic - not syncing: Hard LOCKUP")
            );
            assert_eq!(summary.text.cpu().map(|(&cpu, _)| cpu), Some(1));
            assert!(summary.why().ends_with("that was not yet in the log"));
            assert_eq!(summary.log.records, 10);
            assert_eq!(gap(&summary), None);
        }
    }
}

#[test]
fn the_buffers_stayed_when_the_ring_became_lockless() {
    let mut ring = Ring::new(Machine::X86_64, 6, 12, EndRule::Strict);
    for n in 0..100 {
        ring.store(&Message::numbered(n));
    }
    let mut crash = Crash::new(Machine::X86_64);
    Layout::of(&ring.machine, lockless::Age::First).place(&ring, &mut crash);
    let areas = place_cpus(&mut crash, 2, AREA);
    name_per_cpu(&mut crash, "nmi_print_seq", NMI);
    write_seq_buf(&mut crash, areas[1] + NMI, Age::IrqWait, 0, LOCKUP);
    // The name may be another variable's; there are no unfinished lines but those in the ring.
    let cont = crash.place_in_image(1064, 32);
    crash.write_word(cont + 992, 4);
    crash.key(format_args!("SYMBOL(cont)={cont:x}"));
    let summary = summary(&crash);
    assert_eq!(texts(&summary).len(), 1);
    assert_eq!(summary.text.kind, Kind::HardLockup);
    assert!(summary.why().ends_with("that was not yet in the log"));
    assert_eq!(gap(&summary), None);
}

#[test]
fn a_real_panic_in_an_nmi_that_no_reader_of_the_log_shows_is_in_the_report() {
    let Some(dump) = data::dump("f510-nmi") else {
        return;
    };
    let shown = |arg| {
        let output = run(crashdmesg([arg]).arg(&dump));
        assert_eq!((output.code, &*output.stderr), (Some(0), ""));
        String::from_utf8(output.stdout).unwrap()
    };
    let log = shown("--log");
    assert!(log.contains("hammering the log") && !log.contains("Kernel panic"));
    let report = shown("--summary");
    for line in [
        "PANIC: \"Kernel panic - not syncing: NMI: Not continuing\"",
        "KIND: nmi: a non-maskable interrupt, with a panic configured for it",
        "WHY: the panic message says so, in text that was not yet in the log",
        "---- not yet in the log: nmi_print_seq of CPU 0, 2189 bytes ----",
        "Uhhuh. NMI received for unknown reason 21 on CPU 0.",
        " vprintk_store+0x46/0x210",
    ] {
        assert!(
            report.lines().any(|found| found == line),
            "{line}\n{report}"
        );
    }
    assert_eq!(report.matches("not yet in the log: ").count(), 1);
    let whole = String::from_utf8(run(&mut crashdmesg([&dump])).stdout).unwrap();
    let title = whole.lines().find(|line| line.starts_with("---- log: "));
    let title = title.unwrap();
    assert!(
        title.ends_with(", complete; 2189 bytes had not reached it, see above ----"),
        "{title}"
    );
}

#[test]
fn an_unfinished_line_is_told_with_its_time_and_one_that_is_in_the_log_is_not() {
    for &machine in MACHINES {
        for (old, callers) in [
            (None, false),
            (None, true),
            (Some((0, false)), false),
            (Some((5, false)), false),
            (Some((5, true)), false),
        ] {
            let (mut crash, _) = crash_with(machine, callers, 1);
            let cont = Cont {
                text: b"ata1: link is slow to respond, please be",
                ts_ns: 9_500_000,
                level: 4,
                old,
                callers,
            };
            place_cont(&mut crash, &cont);
            let summary = summary(&crash);
            let flushed = old.is_some_and(|(_, flushed)| flushed);
            let found = summary.facts.pending.first();
            assert_eq!(
                found.is_none(),
                flushed,
                "{machine:?} {cont:?} {:?}",
                gap(&summary)
            );
            let Some(found) = found else { continue };
            assert_eq!(found.text, cont.text);
            assert_eq!(found.ts_ns, Some(cont.ts_ns), "{machine:?} {cont:?}");
            assert_eq!(found.lines().next().unwrap().level, Some(4));
        }
    }
}

#[test]
fn where_nothing_waits_the_report_says_nothing_of_it() {
    for &machine in MACHINES {
        let (mut crash, areas) = crash_with(machine, false, 4);
        for area in areas {
            write_seq_buf(&mut crash, area + NMI, Age::Safe, 0, b"");
        }
        let summary = summary(&crash);
        assert_eq!((texts(&summary), gap(&summary)), (vec![], None));
        assert!(!summary.why().contains("not yet"));
    }
}

#[test]
fn at_most_32_kib_are_kept_and_what_the_panicking_cpu_said_is_among_them() {
    let (mut crash, areas) = crash_with(Machine::X86_64, false, 40);
    for (cpu, area) in areas.iter().enumerate() {
        let text = format!("\x014backtrace of CPU {cpu}\n").repeat(330);
        write_seq_buf(&mut crash, area + NMI, Age::Safe, 0, text.as_bytes());
    }
    crash.variable("panic_cpu", 4, 33);
    let summary = summary(&crash);
    let pending = &summary.facts.pending;
    assert_eq!(pending.len(), 40);
    let kept: usize = pending.iter().map(|pending| pending.text.len()).sum();
    assert_eq!(kept, 32 << 10);
    assert_eq!(pending[33].text.len() as u64, pending[33].len);
    assert_eq!(pending[39].text.len(), 0);
    assert!(pending[39].len > 7000);
}

#[test]
fn a_buffer_that_is_not_in_the_dump_is_a_gap_and_costs_no_other() {
    let (mut crash, areas) = crash_with(Machine::X86_64, false, 3);
    for area in &areas {
        write_seq_buf(&mut crash, area + NMI, Age::Safe, 0, b"\x016text\n");
    }
    crash.leave_out(areas[1], 4096);
    let found = summary(&crash);
    let places: Vec<Place> = found
        .facts
        .pending
        .iter()
        .map(|found| found.place)
        .collect();
    assert_eq!(places, [Place::Nmi(0), Place::Nmi(2)]);
    assert!(
        gap(&found).unwrap().contains("not in the dump"),
        "{:?}",
        gap(&found)
    );
}

#[test]
fn any_bytes_in_the_buffers_end_in_text_or_a_gap() {
    let mut rng = Rng::new(4_11);
    for round in 0..60 {
        let machine = rng.pick(MACHINES);
        let (mut crash, areas) = crash_with(machine, rng.below(2) == 0, 1 + rng.below(6));
        let cont = crash.place_in_image(1064, 32);
        crash.key(format_args!("SYMBOL(cont)={cont:x}"));
        let mut noise = |len: u64| -> Vec<u8> {
            let textual = rng.below(2) == 0;
            let byte = |rng: &mut Rng| match rng.below(if textual { 4 } else { 6 }) {
                0 => 1,
                1 => b'0' + rng.below(9) as u8,
                2 => b'\n',
                3 => b' ' + rng.below(90) as u8,
                4 => 0,
                _ => rng.below(256) as u8,
            };
            (0..len).map(|_| byte(&mut rng)).collect()
        };
        let (line, behind) = (noise(992), noise(40));
        crash.write(cont, &line);
        crash.write(cont + 992, &behind);
        if round % 3 == 0 {
            crash.write_word(cont + 992, round * 20);
        }
        for area in areas {
            let bytes = noise(AREA);
            crash.write(area, &bytes);
            for at in [NMI, SAFE] {
                let len = [0, 3, 8100, 8192, 8193, 1 << 17, u64::MAX >> 1];
                let len = len[bytes[at as usize] as usize % len.len()];
                crash.write_number(area + at, 4, len & 0xffff_ffff);
            }
        }
        let summary = summary(&crash);
        let kept: usize = summary
            .facts
            .pending
            .iter()
            .map(|found| found.text.len())
            .sum();
        assert!(kept <= 32 << 10, "{kept}");
        assert_eq!(summary.log.records, 10);
    }
}

#[test]
fn report_and_json_show_it_and_the_log_stays_as_it_is() {
    let (mut crash, areas) = crash_with(Machine::X86_64, false, 2);
    let path = data::scratch_file("pending.vmcore");
    let shown = |crash: &Crash, args: &[&str]| {
        fs::write(&path, elf::Options::default().write(crash)).unwrap();
        let output = run(crashdmesg(args).arg(&path));
        assert_eq!((output.code, &*output.stderr), (Some(0), ""), "{args:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let before = shown(&crash, &["--log"]);
    assert!(!shown(&crash, &["--summary"]).contains("not yet"));
    write_seq_buf(&mut crash, areas[1] + NMI, Age::Safe, 2, LOCKUP);
    let cont = Cont {
        text: b"half \x1b[31m",
        ts_ns: 9_500_000,
        level: 4,
        old: None,
        callers: false,
    };
    place_cont(&mut crash, &cont);
    assert_eq!(shown(&crash, &["--log"]), before);
    let report = shown(&crash, &["--summary"]);
    let section = "\n---- not yet in the log: cont, an unfinished line of 10 bytes ----\n\
        [    0.009500] half \\x1b[31m\n\
        \n---- not yet in the log: nmi_print_seq of CPU 1, 184 bytes ----\n\
        NMI watchdog: Watchdog detected hard LOCKUP on cpu 1\n\
        CPU: 1 PID: 77 Comm: stuck Not tainted 5.4.0 #1\n\
        RIP: 0010:spin_forever+0x10/0x20\n\
        Kernel panic - not syncing: Hard LOCKUP\n  \
          ... and 2 messages for which there was no room\n";
    assert!(report.contains(section), "{report}");
    assert!(report.contains("\nKIND: hard-lockup: "));
    let json = Json::parse(&shown(&crash, &["--summary", "--json"])).unwrap();
    let pending = json.get("pending").unwrap().elements();
    let text = |value: &Json, key: &str| value.get(key).unwrap().as_str().unwrap().to_owned();
    let number = |value: &Json, key: &str| value.get(key).and_then(Json::as_number);
    assert_eq!(text(&pending[0], "buffer"), "cont");
    assert_eq!(number(&pending[0], "time"), Some(0.0095));
    assert_eq!(number(&pending[0], "cpu"), None);
    assert_eq!(text(&pending[1], "buffer"), "nmi_print_seq");
    assert_eq!(number(&pending[1], "cpu"), Some(1.0));
    assert_eq!(number(&pending[1], "lost"), Some(2.0));
    let lines = pending[1].get("lines").unwrap().elements();
    assert_eq!(number(&lines[1], "pri"), Some(4.0));
    assert_eq!(
        text(&lines[3], "msg"),
        "Kernel panic - not syncing: Hard LOCKUP"
    );
    fs::remove_file(&path).unwrap();
}
