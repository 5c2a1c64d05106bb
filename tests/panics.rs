//! Real kernel logs and what the summary must say about them.
//!
//! Each `tests/data/panics/NAME.txt` begins with lines `# key: value` and then holds an excerpt of a log. The keys are
//! `origin` (kernel, architecture), `kind`, and any of `why`, `headline`, `message`, `cpu`, `pid`, `comm`, `ip`,
//! `address`, `access`, `error`, `taint`, `release`, `hardware`, `first`, `trace` (names of the first reliable frames),
//! `signature`, `warnings`, `subject`, `detail`, `modules`, `workqueue`. A value of `-` means that there must be none.

use std::fs;
use std::path::{Path, PathBuf};

use crashdmesg::summary::{Kind, Line, Report, TextScan, TextSummary};

/// `[    1.234567] text` as the record it was; the caller column stays in the text.
fn record(seq: u64, line: &str) -> Line<'_> {
    let (mut facility, mut rest) = (None, line);
    if let Some((number, text)) = line.strip_prefix('<').and_then(|line| line.split_once('>'))
        && let Ok(number) = number.parse::<u8>()
    {
        (facility, rest) = (Some(number >> 3), text);
    }
    let mut ts_ns = None;
    if let Some((time, text)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'))
        && let Some((seconds, micros)) = time.trim().split_once('.')
        && let (Ok(seconds), Ok(micros)) = (seconds.parse::<u64>(), micros.parse::<u64>())
    {
        ts_ns = Some(seconds * 1_000_000_000 + micros * 1000);
        rest = text.strip_prefix(' ').unwrap_or(text);
    }
    Line {
        seq,
        ts_ns,
        level: None,
        facility,
        caller: None,
        text: rest.as_bytes(),
    }
}

fn summary_of(log: &str) -> TextSummary {
    let mut scan = TextScan::new();
    for (seq, line) in (1..).zip(log.lines()) {
        scan.feed(&record(seq, line));
    }
    scan.finish()
}

fn shown<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// The value of a key of the header, as text.
fn value(summary: &TextSummary, key: &str) -> String {
    let reason = summary.reason.as_ref();
    match key {
        "kind" => summary.kind.to_string(),
        "why" => format!("{:?}", summary.why),
        "headline" => shown(summary.headline().map(|line| &line.text)),
        "message" => shown(summary.panic_message().map(|(message, _)| message)),
        "cpu" => shown(summary.cpu().map(|(cpu, _)| cpu)),
        "pid" => shown(summary.pid().map(|(pid, _)| pid)),
        "uid" => shown(summary.uid().map(|(uid, _)| uid)),
        "comm" => shown(summary.comm().map(|(comm, _)| comm)),
        "taint" => shown(summary.taint().map(|(taint, _)| taint.letters())),
        "release" => shown(summary.release().map(|(release, _)| release)),
        "hardware" => shown(summary.hardware().map(|(hardware, _)| hardware)),
        "workqueue" => shown(summary.workqueue().map(|(name, _)| name)),
        "kdump" => shown(summary.kdump_loaded().map(|(loaded, _)| loaded)),
        "ip" => shown(reason.and_then(|report| Some(&report.ip.as_ref()?.value))),
        "address" => {
            shown(reason.and_then(|report| Some(format!("{:x}", report.address.as_ref()?.value))))
        }
        "error" => shown(
            reason.and_then(|report| Some(format!("{:x}", report.error_code.as_ref()?.value))),
        ),
        "access" => shown(reason.and_then(|report| Some(report.access.as_ref()?.value))),
        "subject" => shown(reason.and_then(|report| Some(&report.subject.as_ref()?.value))),
        "detail" => shown(reason.and_then(|report| Some(&report.detail.as_ref()?.value))),
        "first" => shown(summary.first_sign.as_ref().map(|line| &line.text)),
        "warnings" => summary.warning_count.to_string(),
        "signature" => summary.signature(&[]).to_string(),
        "modules" => shown(
            summary
                .modules
                .as_ref()
                .map(|modules| modules.iter().count()),
        ),
        "unloaded" => shown(
            summary
                .modules
                .as_ref()
                .and_then(|modules| modules.last_unloaded()),
        ),
        "trace" => {
            let frames = summary.trace().iter().filter(|frame| !frame.doubtful);
            let names: Vec<&str> = frames.map(|frame| frame.place.symbol.as_str()).collect();
            names.join(" ")
        }
        "origin" => String::new(),
        other => panic!("unknown key {other}"),
    }
}

/// The logs of the folder, by path.
fn logs() -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/panics");
    let paths = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut logs: Vec<_> = paths
        .filter(|path| path.extension().is_some_and(|kind| kind == "txt"))
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect();
    logs.sort();
    logs
}

#[test]
fn every_log_is_summarised_as_its_header_says() {
    let logs = logs();
    let mut wrong = Vec::new();
    for (path, text) in &logs {
        let (header, log): (Vec<&str>, Vec<&str>) =
            text.lines().partition(|line| line.starts_with("# "));
        let summary = summary_of(&log.join("\n"));
        for line in header {
            let (key, want) = line[2..]
                .split_once(": ")
                .unwrap_or_else(|| panic!("{path:?}: {line}"));
            let got = value(&summary, key);
            let right = match key {
                "origin" => true,
                "headline" | "first" | "message" | "hardware" if want != "-" => got.contains(want),
                "trace" => got == want || got.starts_with(&format!("{want} ")),
                "signature" => {
                    got == want
                        || want.ends_with('*') && got.starts_with(want.trim_end_matches('*'))
                }
                _ => got == want,
            };
            if !right {
                let name = path.file_name().unwrap().to_string_lossy();
                wrong.push(format!("{name}: {key}: want {want}, got {got}"));
            }
        }
    }
    assert!(logs.len() > 100, "{} logs", logs.len());
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
#[test]
fn every_kind_has_a_log() {
    let kinds: Vec<_> = logs()
        .iter()
        .filter_map(|(_, text)| {
            Some(
                text.lines()
                    .find_map(|line| line.strip_prefix("# kind: "))?
                    .to_owned(),
            )
        })
        .collect();
    let missing: Vec<_> = Kind::ALL
        .iter()
        .filter(|kind| !kinds.iter().any(|name| name == kind.name()))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Bytes of text that a summary holds.
fn weight(summary: &TextSummary) -> usize {
    let report = |report: &Report| {
        let lines: usize = report.lines.iter().map(|line| line.text.len()).sum();
        let frames: usize = report
            .frames
            .iter()
            .map(|frame| frame.place.symbol.len())
            .sum();
        lines + frames + report.frames.len() * 16
    };
    let lines = summary
        .signs
        .iter()
        .chain(&summary.warnings)
        .chain(&summary.first_sign);
    let modules = summary.modules.iter().flat_map(|modules| modules.iter());
    summary
        .reason
        .iter()
        .chain(&summary.panic)
        .map(report)
        .sum::<usize>()
        + lines.map(|line| line.text.len()).sum::<usize>()
        + modules
            .map(|(name, letters)| name.len() + letters.len())
            .sum::<usize>()
}

/// xorshift64*: the same damage on every run.
fn next(state: &mut u64) -> usize {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize
}

#[test]
fn damaged_logs_are_summarised_without_a_panic_and_in_bounds() {
    let mut state = 0x9e37_79b9_7f4a_7c15;
    for (path, text) in logs() {
        for round in 0..60 {
            let mut bytes = text.clone().into_bytes();
            for _ in 0..=round {
                let place = next(&mut state) % bytes.len();
                match round % 4 {
                    0 => bytes.truncate(place.max(1)),
                    1 => bytes[place] ^= 1 << (next(&mut state) % 8),
                    2 => bytes[place] = b"\n [<(:+#0x]>)"[next(&mut state) % 13],
                    _ => drop(bytes.remove(place)),
                }
                if bytes.len() < 2 {
                    break;
                }
            }
            let mut scan = TextScan::new();
            let mut whole = TextScan::new();
            for (seq, line) in (1..).zip(bytes.split(|&byte| byte == b'\n')) {
                let ts_ns = (!next(&mut state).is_multiple_of(8)).then_some(seq * 1_000_000);
                let caller = (round % 3 == 0).then_some((next(&mut state) % 3) as u32);
                scan.feed(&Line {
                    seq,
                    ts_ns,
                    caller,
                    text: line,
                    ..Line::default()
                });
            }
            whole.feed(&Line {
                text: &bytes,
                ..Line::default()
            });
            for summary in [scan.finish(), whole.finish()] {
                assert!(weight(&summary) < 64 << 10, "{path:?}");
                let shown = summary.signature(&[]).to_string();
                assert!(shown.starts_with("c1-") && shown.len() < 96, "{shown}");
            }
        }
    }
}

#[test]
fn a_long_log_of_reports_is_kept_in_bounds_and_its_end_is_right() {
    let mut text = String::new();
    for (path, log) in logs() {
        let panics = log.contains("Kernel panic") || path.ends_with("fake-panic-by-user.txt");
        if !panics {
            text += &log;
        }
    }
    let long = "x".repeat(60_000);
    let mut scan = TextScan::new();
    let mut seq = 0;
    for _ in 0..20 {
        for line in text.lines().chain([long.as_str(), "Call Trace:"]) {
            seq += 1;
            scan.feed(&Line {
                seq,
                ts_ns: Some(seq * 1_000_000),
                text: record(0, line).text,
                ..Line::default()
            });
        }
        for frame in 0..1000 {
            seq += 1;
            let line = format!(" {}_{frame}+0x1/0x2 [{}]", &long[..400], &long[..100]);
            scan.feed(&Line {
                seq,
                ts_ns: Some(seq * 1_000_000),
                text: line.as_bytes(),
                ..Line::default()
            });
        }
    }
    for line in [
        "sysrq: Trigger a crash",
        "Kernel panic - not syncing: sysrq triggered crash",
    ] {
        seq += 1;
        scan.feed(&Line {
            seq,
            ts_ns: Some((seq + 100_000) * 1_000_000),
            text: line.as_bytes(),
            ..Line::default()
        });
    }
    let summary = scan.finish();
    assert_eq!(summary.kind, Kind::Sysrq);
    assert_eq!(summary.warnings.len(), 16);
    assert!(summary.warning_count >= 20);
    assert!(weight(&summary) < 64 << 10);
}
