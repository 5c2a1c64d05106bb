//! Real kernel logs and what the summary must say about them.
//!
//! Each `tests/data/panics/NAME.txt` begins with lines `# key: value` and then holds an excerpt of a log. The keys are
//! `origin` (kernel, architecture), `kind`, and any of `why`, `headline`, `message`, `cpu`, `pid`, `comm`, `ip`,
//! `address`, `access`, `error`, `taint`, `release`, `hardware`, `first`, `trace` (names of the first reliable frames),
//! `signature`, `warnings`, `subject`, `detail`, `modules`, `workqueue`. A value of `-` means that there must be none.

use std::fs;
use std::path::Path;

use crashdmesg::summary::{Line, TextScan, TextSummary};

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

#[test]
fn every_log_is_summarised_as_its_header_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/panics");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let mut wrong = Vec::new();
    for path in &files {
        let text = fs::read_to_string(path).unwrap();
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
    assert!(files.len() > 1, "no logs");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
