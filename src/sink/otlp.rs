//! OpenTelemetry: OTLP/HTTP with JSON bodies, posted to `/v1/logs`.
//!
//! ```text
//! {"resourceLogs":[{"resource":{"attributes":[{"key":"host.name","value":{"stringValue":"node17"}},...]},
//!   "scopeLogs":[{"scope":{"name":"crashdmesg"},"logRecords":[
//!     {"timeUnixNano":"...","severityNumber":18,"severityText":"crit","body":{"stringValue":"..."},"attributes":[...]}]}]}]}
//! ```
//!
//! The JSON mapping of `opentelemetry/proto/logs/v1/logs.proto`: 64-bit numbers are strings. A collector may take a
//! part and say so with status 200: `partialSuccess.rejectedLogRecords`.

use super::batch::{Context, Format, LEVELS};
use super::json::Json;
use super::text::{json, json_pair, line};
use super::{Entry, Failure, http};

/// OTLP's log format.
pub const FORMAT: Format = Format {
    path: "/v1/logs",
    content_type: "application/json",
    open,
    entry,
    close: |_, out| out.extend(b"]}]}]}"),
    check,
};

/// Syslog levels in OpenTelemetry's numbers, by the table in its logs data model.
const SEVERITY: [u8; 8] = [21, 19, 18, 17, 13, 10, 9, 5];

fn open(context: &mut Context<'_>, out: &mut Vec<u8>) {
    let meta = context.meta;
    out.extend(b"{\"resourceLogs\":[{\"resource\":{\"attributes\":[");
    attribute("service.name", "crashdmesg", out);
    attribute("host.name", &context.host, out);
    attribute("host.id", &meta.machine_id, out);
    attribute("host.mac", &meta.mac, out);
    attribute("host.arch", &meta.machine, out);
    attribute("os.type", "linux", out);
    attribute("os.version", &meta.release, out);
    attribute("crash.report_id", &meta.report_id, out);
    attribute("crash.signature", &meta.signature, out);
    attribute("crash.boot_id", &meta.boot_id, out);
    attribute("crash.kind", &meta.kind, out);
    out.extend(b"]},\"scopeLogs\":[{\"scope\":{\"name\":\"crashdmesg\"},\"logRecords\":[");
}

fn entry(_: &mut Context<'_>, entry: &Entry<'_>, out: &mut Vec<u8>) {
    if out.last() == Some(&b'}') {
        out.push(b',');
    }
    let level = usize::from(entry.level & 7);
    out.extend(format!("{{\"timeUnixNano\":\"{}\"", entry.wall_ns).as_bytes());
    out.extend(format!(",\"severityNumber\":{}", SEVERITY[level]).as_bytes());
    json_pair("severityText", LEVELS[level], out);
    out.extend(b",\"body\":{\"stringValue\":");
    json(entry.text, out);
    out.extend(b"},\"attributes\":[");
    match entry.record {
        Some(record) => {
            attribute("crash.entry", "record", out);
            number("log.seq", record.seq, out);
            number("log.syslog.facility", record.facility.map(u64::from), out);
            number("log.monotonic_ns", record.ts_ns, out);
            attribute("log.caller", entry.caller, out);
            attribute("log.subsystem", &line(record.subsystem), out);
            attribute("log.device", &line(record.device), out);
        }
        None => attribute("crash.entry", "summary", out),
    }
    out.extend(b"]}");
}

/// Adds an attribute unless its value is empty.
fn attribute(key: &str, value: &str, out: &mut Vec<u8>) {
    if value.is_empty() {
        return;
    }
    start(key, out);
    out.extend(b"\"stringValue\":");
    json(value, out);
    out.extend(b"}}");
}

/// Adds an attribute if there is a number.
fn number(key: &str, value: Option<u64>, out: &mut Vec<u8>) {
    let Some(value) = value else {
        return;
    };
    start(key, out);
    // int64 is signed, and a string in JSON.
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    out.extend(format!("\"intValue\":\"{value}\"}}}}").as_bytes());
}

fn start(key: &str, out: &mut Vec<u8>) {
    if out.last() != Some(&b'[') {
        out.push(b',');
    }
    out.extend(b"{\"key\":");
    json(key, out);
    out.extend(b",\"value\":{");
}

fn check(response: &http::Response) -> Result<(), Failure> {
    let mut rejected = 0;
    let mut why = String::new();
    // An empty body is an empty message: nothing was rejected.
    if response.body.trim_ascii().is_empty() {
        return Ok(());
    }
    let whole = Json::new(&response.body).walk(&mut |path, value| match path {
        [
            "partialSuccess" | "partial_success",
            "rejectedLogRecords" | "rejected_log_records",
        ] => {
            rejected = value.parse().unwrap_or(1u64);
        }
        [
            "partialSuccess" | "partial_success",
            "errorMessage" | "error_message",
        ] => {
            why = value.into();
        }
        _ => {}
    });
    if whole.is_none() {
        return Err(Failure::lasting("the answer is not OTLP's JSON"));
    }
    if rejected > 0 {
        let why = line(why.as_bytes());
        return Err(Failure::lasting(format!(
            "{rejected} records were rejected: {why}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::batch::tests::{answer, encode};
    use super::*;

    #[test]
    fn a_record_has_time_severity_body_and_attributes() {
        let text = String::from_utf8(encode(&FORMAT)).unwrap();
        assert!(text.contains(
            "{\"timeUnixNano\":\"1795289014999997000\",\"severityNumber\":21,\"severityText\":\"emerg\",\
             \"body\":{\"stringValue\":\"record 0\"},\"attributes\":["
        ));
        assert!(text.contains("{\"key\":\"log.seq\",\"value\":{\"intValue\":\"0\"}}"));
        let mut count = 0;
        Json::new(text.as_bytes())
            .walk(&mut |path, _| count += usize::from(path.last() == Some(&"timeUnixNano")))
            .unwrap();
        assert_eq!(count, 5);
    }

    #[test]
    fn a_partial_success_is_a_failure() {
        for good in [
            "{}",
            "",
            " {\"partialSuccess\":{}}",
            "{\"partialSuccess\":{\"rejectedLogRecords\":\"0\"}}",
        ] {
            check(&answer(good)).unwrap();
        }
        for bad in [
            "{\"partialSuccess\":{\"rejectedLogRecords\":\"3\",\"errorMessage\":\"old\"}}",
            "{\"partialSuccess\" : {\"rejectedLogRecords\" : 1}}",
            "<html>",
            "{\"partialSuccess\":{\"rejectedLogRecords\":",
        ] {
            check(&answer(bad)).unwrap_err();
        }
    }
}
