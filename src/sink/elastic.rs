//! Elasticsearch and OpenSearch: pairs of lines, posted to `/_bulk`.
//!
//! ```text
//! {"create":{"_index":"crashdmesg","_id":"REPORT-SEQ"}}\n
//! {"@timestamp":"2026-11-21T19:24:01.123456Z","message":"...","host":{"name":"node17"},...}\n
//! ```
//!
//! Field names are those of the Elastic Common Schema. Status 200 tells only that the request was read: every item has a
//! status of its own. The `_id` makes a retry harmless: what is there already answers 409, which is as good as 201.

use std::io::Write;

use super::batch::{Context, Format, LEVELS};
use super::json::Json;
use super::text::{json, json_pair, line, rfc3339};
use super::{Entry, Failure, http, name};

/// The bulk format; VictoriaLogs takes it at `/insert/elasticsearch/_bulk`.
pub const FORMAT: Format = Format {
    path: "/_bulk",
    content_type: "application/x-ndjson",
    open: |_, _| (),
    entry,
    close: |_, _| (),
    check,
};

/// The index unless the URL has an `index` option.
const INDEX: &str = "crashdmesg";

fn entry(context: &mut Context<'_>, entry: &Entry<'_>, out: &mut Vec<u8>) {
    let meta = context.meta;
    let index = context.url.option("index").unwrap_or(INDEX);
    out.extend(b"{\"create\":{");
    json_pair("_index", index, out);
    let report = name::safe(&meta.report_id);
    match entry.record {
        Some(record) => {
            // Before 5.10 records have no number; their position does as well.
            let seq = record.seq.unwrap_or(entry.index);
            json_pair("_id", &format!("{report}-{seq}"), out);
        }
        None => json_pair("_id", &format!("{report}-summary"), out),
    }
    out.extend(b"}}\n{");
    json_pair("@timestamp", &rfc3339(entry.wall_ns), out);
    json_pair("message", entry.text, out);
    for (object, key, value) in [
        ("host", "name", context.host.as_str()),
        ("log", "level", LEVELS[usize::from(entry.level & 7)]),
        ("event", "id", &meta.report_id),
        ("service", "name", "crashdmesg"),
    ] {
        out.push(b',');
        json(object, out);
        out.extend(b":{");
        json_pair(key, value, out);
        if object == "host" {
            for (key, value) in [("domain", &meta.domain), ("id", &meta.machine_id)] {
                if !value.is_empty() {
                    json_pair(key, value, out);
                }
            }
        }
        out.push(b'}');
    }
    out.extend(b",\"crash\":{");
    for (key, value) in [
        ("signature", &meta.signature),
        ("kind", &meta.kind),
        ("boot_id", &meta.boot_id),
        ("release", &meta.release),
    ] {
        if !value.is_empty() {
            json_pair(key, value, out);
        }
    }
    match entry.record {
        Some(record) => {
            for (key, value) in [
                ("seq", record.seq),
                ("monotonic_ns", record.ts_ns),
                ("facility", record.facility.map(u64::from)),
            ] {
                if let Some(value) = value {
                    let comma = if out.ends_with(b"{") { "" } else { "," };
                    let _ = write!(out, "{comma}\"{key}\":{value}");
                }
            }
            for (key, value) in [
                ("caller", entry.caller),
                ("subsystem", &line(record.subsystem)),
                ("device", &line(record.device)),
            ] {
                if !value.is_empty() {
                    json_pair(key, value, out);
                }
            }
        }
        None => json_pair("entry", "summary", out),
    }
    out.extend(b"}}\n");
}

fn check(response: &http::Response) -> Result<(), Failure> {
    let mut errors = None;
    let mut items = 0;
    let mut bad = None;
    let mut why = String::new();
    let whole = Json::new(&response.body).walk(&mut |path, value| match path {
        ["errors"] => errors = Some(value == "true"),
        ["items", _, _, "status"] => {
            items += 1;
            let status = value.parse().unwrap_or(0u16);
            if !matches!(status, 200..=299 | 409) && bad.is_none() {
                bad = Some(status);
            }
        }
        ["items", _, _, "error", "reason"] if why.is_empty() => why = line(value.as_bytes()),
        _ => {}
    });
    match (errors, bad) {
        (None, _) => Err(Failure::passing("the answer does not tell of errors")),
        (Some(false), None) => Ok(()),
        // Every item that is not new was there before; but only when all of them were seen.
        (Some(true), None) if whole.is_some() && items > 0 => Ok(()),
        (_, bad) => {
            let status = bad.unwrap_or(0);
            Err(Failure {
                why: format!("an item was refused with status {status}: {why}"),
                again: matches!(status, 429 | 500..=599),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::tests::{answer, encode};
    use super::*;

    #[test]
    fn an_entry_is_two_lines_of_json_with_an_id_of_its_own() {
        let text = String::from_utf8(encode(&FORMAT)).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 10);
        assert_eq!(
            lines[2],
            "{\"create\":{\"_index\":\"crashdmesg\",\"_id\":\"r-77-0\"}}"
        );
        for line in lines {
            Json::new(line.as_bytes()).walk(&mut |_, _| ()).unwrap();
        }
        assert!(text.contains("\"_id\":\"r-77-summary\""));
    }

    #[test]
    fn status_200_alone_is_not_stored() {
        for good in [
            "{\"took\":3,\"errors\":false,\"items\":[{\"create\":{\"status\":201}}]}",
            "{\"errors\":true,\"items\":[{\"create\":{\"status\":201}},{\"create\":{\"status\":409}}]}",
        ] {
            check(&answer(good)).unwrap();
        }
        for (bad, again) in [
            ("{}", true),
            ("", true),
            ("{\"items\":[\"errors\",false]}", true),
            (
                "{\"errors\":true,\"items\":[{\"create\":{\"status\":400,\"error\":{\"reason\":\"x\"}}}]}",
                false,
            ),
            (
                "{\"errors\":true,\"items\":[{\"create\":{\"status\":429}}]}",
                true,
            ),
            ("{\"errors\":true,\"items\":[]}", false),
            (
                "{\"errors\":true,\"items\":[{\"create\":{\"status\":409}}",
                false,
            ),
        ] {
            assert_eq!(check(&answer(bad)).unwrap_err().again, again, "{bad}");
        }
    }
}
