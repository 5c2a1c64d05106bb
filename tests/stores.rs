//! What log databases get over HTTP, judged by strict readers of their formats, and what they answer.

mod data;
mod json;
mod program;
mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use json::Json;
use program::is_installed;
use support::stub::{Request, answer, http};
use support::{Scratch, assert_same, expect, expect_failure, log_lines, send, send_with};

fn dump() -> Option<PathBuf> {
    data::dump("b61-odd")
}

/// Sends to a stub that answers this, and returns what it got.
fn requests(dump: &Path, scheme: &str, status: &str, body: &str) -> Vec<Request> {
    let text = answer(status, body);
    let (port, seen) = http(move |_| text.clone());
    expect(
        &send(dump, &[&format!("{scheme}://127.0.0.1:{port}")]),
        "stored",
    );
    let seen = seen.lock().unwrap();
    let most = if scheme.starts_with("loki") { 1 } else { 2 };
    assert!(
        seen.len() >= most,
        "a log of this size takes several batches"
    );
    assert!(
        seen.iter()
            .all(|r| r.method == "POST" && r.body.len() < 200_000)
    );
    seen.clone()
}

fn parse(body: &[u8]) -> Json {
    let text = std::str::from_utf8(body).unwrap();
    Json::parse(text).unwrap_or_else(|error| panic!("{error}: {text:.300}"))
}

#[track_caller]
fn string<'j>(json: &'j Json, path: &[&str]) -> &'j str {
    let mut at = json;
    for key in path {
        at = at
            .get(key)
            .unwrap_or_else(|| panic!("{path:?} in {json:?}"));
    }
    match at {
        Json::String(text) => text,
        other => panic!("{path:?} is {other:?}"),
    }
}

#[track_caller]
fn array<'j>(json: &'j Json, key: &str) -> &'j [Json] {
    match json.get(key) {
        Some(Json::Array(all)) => all,
        other => panic!("{key} is {other:?}"),
    }
}

/// Nanoseconds of a time stamp that is a string of digits, near the crash.
#[track_caller]
fn time(text: &str) -> u64 {
    let ns: u64 = text.parse().unwrap();
    let crash = 1_795_290_194_000_000_000;
    assert!((crash - 30_000_000_000..=crash).contains(&ns), "{ns}");
    ns
}

/// The lines of entries in the order of their receipt; the first entry is the summary.
fn assert_entries(dump: &Path, entries: &[String]) {
    assert!(entries[0].starts_with("crashdmesg ") && entries[0].contains("\nPANIC: "));
    let lines: Vec<&str> = entries[1..].iter().flat_map(|e| e.split('\n')).collect();
    assert_same(&lines, &log_lines(dump));
}

#[test]
fn loki_gets_streams_of_lines_with_labels() {
    let Some(dump) = dump() else {
        return;
    };
    let requests = requests(&dump, "loki+http", "204 No Content", "");
    let mut entries = Vec::new();
    for request in &requests {
        assert_eq!(request.path, "/loki/api/v1/push");
        assert_eq!(request.header("content-type"), Some("application/json"));
        for stream in array(&parse(&request.body), "streams") {
            let Some(Json::Object(labels)) = stream.get("stream") else {
                panic!("no labels");
            };
            for (name, value) in labels {
                let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                assert!(name.chars().all(word) && matches!(value, Json::String(_)));
            }
            assert_eq!(string(stream, &["stream", "host"]), "node17");
            let mut last = 0;
            for value in array(stream, "values") {
                let Json::Array(pair) = value else {
                    panic!("{value:?}");
                };
                let [Json::String(at), Json::String(line)] = &pair[..] else {
                    panic!("{pair:?}");
                };
                assert!(time(at) > 0 && !at.is_empty());
                last = last.max(time(at));
                entries.push(line.clone());
            }
        }
    }
    assert_entries(&dump, &entries);
}

#[test]
fn elasticsearch_gets_pairs_of_lines_with_an_id_each() {
    let Some(dump) = dump() else {
        return;
    };
    let all_new = "{\"took\":1,\"errors\":false,\"items\":[{\"create\":{\"status\":201}}]}";
    let requests = requests(&dump, "elasticsearch+http", "200 OK", all_new);
    let (mut entries, mut ids) = (Vec::new(), Vec::new());
    for request in &requests {
        assert_eq!(request.path, "/_bulk");
        assert_eq!(request.header("content-type"), Some("application/x-ndjson"));
        let text = std::str::from_utf8(&request.body).unwrap();
        assert!(text.ends_with('\n'));
        let lines: Vec<&str> = text.lines().collect();
        for pair in lines.chunks(2) {
            let (action, source) = (parse(pair[0].as_bytes()), parse(pair[1].as_bytes()));
            assert_eq!(string(&action, &["create", "_index"]), "crashdmesg");
            ids.push(string(&action, &["create", "_id"]).to_owned());
            let at = string(&source, &["@timestamp"]);
            assert!(
                at.starts_with("2026-11-21T19:4") && at.ends_with('Z'),
                "{at}"
            );
            assert_eq!(string(&source, &["host", "name"]), "node17");
            assert!(!string(&source, &["log", "level"]).is_empty());
            entries.push(string(&source, &["message"]).to_owned());
        }
    }
    assert_entries(&dump, &entries);
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count, "every id is unique");
}

#[test]
fn otlp_bodies_follow_the_protobuf_schema() {
    let Some(dump) = dump().filter(|_| is_installed("protoc")) else {
        return;
    };
    let python = "/usr/bin/python3";
    let imports = Command::new(python)
        .args(["-c", "import google.protobuf"])
        .stderr(Stdio::null())
        .status();
    if !imports.is_ok_and(|status| status.success()) {
        println!("SKIPPED: python3-protobuf is not installed");
        return;
    }
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/otlp");
    let scratch = Scratch::new("otlp");
    let mut protoc = Command::new("protoc");
    protoc.arg("-I").arg(&schema);
    protoc.arg(format!("--python_out={}", scratch.display()));
    protoc.args(["common.proto", "logs.proto"]);
    assert!(protoc.status().unwrap().success());
    let mut entries = Vec::new();
    for request in requests(&dump, "otlp+http", "200 OK", "{\"partialSuccess\":{}}") {
        assert_eq!(request.path, "/v1/logs");
        assert_eq!(request.header("content-type"), Some("application/json"));
        let mut check = Command::new(python)
            .arg(schema.join("check.py"))
            .arg(&*scratch)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = check.stdin.take().unwrap();
        input.write_all(&request.body).unwrap();
        drop(input);
        let output = check.wait_with_output().unwrap();
        assert!(output.status.success());
        for line in std::str::from_utf8(&output.stdout).unwrap().lines() {
            let Json::String(body) = parse(line.as_bytes()) else {
                panic!("{line}");
            };
            entries.push(body);
        }
    }
    assert_entries(&dump, &entries);
}

#[test]
fn a_refused_entry_is_a_failure_whatever_the_status() {
    let Some(dump) = dump() else {
        return;
    };
    for (scheme, status, body, why) in [
        (
            "elasticsearch+http",
            "200 OK",
            "{\"errors\":true,\"items\":[{\"create\":{\"status\":400,\"error\":{\"reason\":\"mapper\"}}}]}",
            "refused with status 400: mapper",
        ),
        (
            "elasticsearch+http",
            "200 OK",
            "{}",
            "does not tell of errors",
        ),
        (
            "otlp+http",
            "200 OK",
            "{\"partialSuccess\":{\"rejectedLogRecords\":\"2\",\"errorMessage\":\"full\"}}",
            "2 records were rejected: full",
        ),
        ("otlp+http", "200 OK", "<html>", "not OTLP"),
        (
            "loki+http",
            "400 Bad Request",
            "entry too far behind",
            "HTTP status 400: entry too far behind",
        ),
        (
            "journal+http",
            "415 Unsupported Media Type",
            "",
            "HTTP status 415",
        ),
    ] {
        let text = answer(status, body);
        let (port, seen) = http(move |_| text.clone());
        let output = send_with(
            &dump,
            &[&format!("{scheme}://127.0.0.1:{port}")],
            &["--timeout", "3", "--retries", "0"],
        );
        expect_failure(&output, why);
        assert_eq!(
            seen.lock().unwrap().len(),
            1,
            "nothing more after a refusal"
        );
    }
}

#[test]
fn a_server_that_is_busy_is_asked_again() {
    let Some(dump) = dump() else {
        return;
    };
    for scheme in ["http", "loki+http"] {
        let tries = std::sync::atomic::AtomicU32::new(0);
        let (port, seen) =
            http(
                move |_| match tries.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                    0 => answer("429 Too Many Requests", "slow down"),
                    1 => answer("503 Service Unavailable", ""),
                    _ => answer("200 OK", ""),
                },
            );
        let url = format!("{scheme}://127.0.0.1:{port}");
        let output = send_with(&dump, &[&url], &["--timeout", "10", "--retries", "3"]);
        expect(&output, "stored");
        assert!(output.stderr.contains("3 attempts"), "{}", output.stderr);
        assert!(seen.lock().unwrap().len() >= 3);
    }
}

#[test]
fn headers_and_passwords_of_a_url_reach_the_server_and_nobody_else() {
    let Some(dump) = dump() else {
        return;
    };
    let (port, seen) = http(|_| answer("201 Created", ""));
    let url = format!(
        "http://user:pass%20word@127.0.0.1:{port}/in?token=t1#method=post&header=X-Scope-OrgID:%20ops"
    );
    let output = send(&dump, &[&url]);
    expect(&output, "stored");
    assert!(!output.stderr.contains("pass") && !output.stderr.contains("t1"));
    let request = seen.lock().unwrap()[0].clone();
    assert_eq!((&*request.method, &*request.path), ("POST", "/in?token=t1"));
    assert_eq!(
        request.header("authorization"),
        Some("Basic dXNlcjpwYXNzIHdvcmQ=")
    );
    assert_eq!(request.header("x-scope-orgid"), Some("ops"));
    assert_eq!(request.body, support::report(&dump).into_bytes());
}
