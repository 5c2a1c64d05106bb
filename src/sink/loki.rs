//! Grafana Loki: streams of lines with labels, posted to `/loki/api/v1/push`.
//!
//! ```text
//! {"streams":[{"stream":{"job":"crashdmesg","host":"node17","level":"crit",...},
//!              "values":[["1795289015000000000","text"],...]},...]}
//! ```
//!
//! Labels choose a stream, so they hold what is the same for the whole report, and the level: a run of records of one
//! level is one element of `streams`. A time stamp is a string of nanoseconds. The same line twice at the same
//! time in the same stream is stored once, so a retry does not duplicate.

use super::Entry;
use super::batch::{self, Context, Format, LEVELS};
use super::text::{json, json_pair};

/// Loki's push format; VictoriaLogs takes it at `/insert/loki/api/v1/push`.
pub const FORMAT: Format = Format {
    path: "/loki/api/v1/push",
    content_type: "application/json",
    open: |_, out| out.extend(b"{\"streams\":["),
    entry,
    close: |_, out| out.extend(b"]}]}"),
    check: batch::any,
};

fn entry(context: &mut Context<'_>, entry: &Entry<'_>, out: &mut Vec<u8>) {
    if context.level == Some(entry.level) {
        out.push(b',');
    } else {
        if context.level.is_some() {
            out.extend(b"]},");
        }
        context.level = Some(entry.level);
        out.extend(b"{\"stream\":{");
        json_pair("job", "crashdmesg", out);
        json_pair("host", &context.host, out);
        json_pair("level", LEVELS[usize::from(entry.level & 7)], out);
        for (key, value) in [
            ("signature", &context.meta.signature),
            ("report_id", &context.meta.report_id),
            ("boot_id", &context.meta.boot_id),
        ] {
            if !value.is_empty() {
                json_pair(key, value, out);
            }
        }
        out.extend(b"},\"values\":[");
    }
    out.extend(format!("[\"{}\",", entry.wall_ns).as_bytes());
    json(entry.text, out);
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::super::batch::tests::encode;
    use super::*;

    #[test]
    fn records_of_one_level_share_a_stream() {
        let text = String::from_utf8(encode(&FORMAT)).unwrap();
        assert!(text.starts_with(
            "{\"streams\":[{\"stream\":{\"job\":\"crashdmesg\",\"host\":\"node17\",\"level\":\"crit\","
        ));
        assert!(text.contains("[\"1795289014999997000\",\"record 0\"]"));
        assert!(text.ends_with("forged\\n\\\\xff\\\"}\\\\\"]]}]}"), "{text}");
        // The summary and four records, each of another level than the one before.
        assert_eq!(text.matches("\"stream\":").count(), 5);
    }
}
