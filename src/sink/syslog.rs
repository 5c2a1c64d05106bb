//! Syslog: one message per line of the report, over UDP or TCP.
//!
//! ```text
//! <2>1 2026-11-21T19:24:01.123456Z node17 crashdmesg - KERNEL [crash@32473 id="..." sig="..." seq="417"] text
//! ```
//!
//! RFC 5424 messages, in datagrams (RFC 5426) or over TCP by octet counting (RFC 6587, section 3.4.1). A record of
//! several lines becomes several messages with the same `seq`, as a newline inside a message is escaped by some
//! receivers and ends the message at others. Facility and level are those of the record; the time is the crashed
//! kernel's. 32473 is the enterprise number for examples (RFC 5612), which nobody else uses.

use std::io::{BufWriter, Write};

use super::connect::{Datagrams, Stream};
use super::text::{head, rfc3339};
use super::url::Url;
use super::{Attempt, Delivered, Entry, Failure, Meta, Outcome, Payload, Reason, name};
use crate::deadline::Deadline;

/// The port of syslog over UDP, and customary over TCP.
const PORT: u16 = 514;

/// Longest message over a stream: the smallest limit among the usual receivers (rsyslog, 8 KiB).
const MESSAGE_LEN: usize = 8000;

/// What is the same in every message of a report.
pub struct Header {
    host: String,
    /// The start of the structured data, without its closing bracket.
    data: String,
}

impl Header {
    /// Of this crash.
    pub fn new(meta: &Meta) -> Self {
        let mut data = String::from("[crash@32473");
        parameter("id", &meta.report_id, &mut data);
        parameter("sig", &meta.signature, &mut data);
        parameter("boot", &meta.boot_id, &mut data);
        parameter("machine", &meta.machine_id, &mut data);
        Header {
            host: name::safe(&name::host(meta)),
            data,
        }
    }

    /// A message up to its text.
    fn start(&self, priority: u32, wall_ns: u64, kind: &str, more: &[(&str, &str)]) -> String {
        let Header { host, data } = self;
        let time = rfc3339(wall_ns);
        let mut out = format!("<{priority}>1 {time} {host} crashdmesg - {kind} {data}");
        for (name, value) in more {
            parameter(name, value, &mut out);
        }
        out.push_str("] ");
        out
    }

    /// Hands over the messages of one entry, none longer than `max`.
    ///
    /// # Errors
    /// The first failure of `each`.
    pub fn messages(
        &self,
        entry: &Entry<'_>,
        max: usize,
        each: &mut dyn FnMut(&str) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (seq, facility, kind);
        let mut more = [
            ("seq", ""),
            ("caller", ""),
            ("subsystem", ""),
            ("device", ""),
        ];
        let (subsystem, device);
        match entry.record {
            Some(record) => {
                seq = record.seq.map(|seq| seq.to_string()).unwrap_or_default();
                subsystem = super::text::line(record.subsystem);
                device = super::text::line(record.device);
                more = [
                    ("seq", &seq),
                    ("caller", entry.caller),
                    ("subsystem", &subsystem),
                    ("device", &device),
                ];
                facility = u32::from(record.facility.unwrap_or(0).min(23));
                kind = "KERNEL";
            }
            None => {
                facility = 0;
                kind = "REPORT";
            }
        }
        let priority = facility * 8 + u32::from(entry.level);
        let mut message = self.start(priority, entry.wall_ns, kind, &more);
        let start = message.len();
        let room = max.saturating_sub(start).max(64);
        for line in entry.text.split('\n') {
            let mut rest = line;
            loop {
                let piece = head(rest, room);
                message.truncate(start);
                message.push_str(piece);
                each(&message)?;
                rest = &rest[piece.len()..];
                if rest.is_empty() {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// Appends ` name="value"` unless the value is empty; RFC 5424, section 6.3.3 has the escapes.
fn parameter(name: &str, value: &str, out: &mut String) {
    if value.is_empty() {
        return;
    }
    out.push(' ');
    out.push_str(name);
    out.push_str("=\"");
    for c in value.chars().take(128) {
        match c {
            '"' | '\\' | ']' => out.extend(['\\', c]),
            _ if c.is_control() => out.push('?'),
            _ => out.push(c),
        }
    }
    out.push('"');
}

/// `syslog://host:514`: a datagram a message.
pub fn udp(url: &Url, payload: &Payload<'_>, deadline: Deadline) -> Delivered {
    let header = Header::new(payload.meta());
    let mut out = Datagrams::open(url, PORT, deadline)?;
    payload.entries(&mut |entry| {
        header.messages(entry, Datagrams::LEN, &mut |message| {
            out.send(message.as_bytes()).reason("send")
        })
    })?;
    out.finish().reason("send")?;
    Ok(Outcome::Unknown)
}

/// The dying gasp as one message.
pub fn gasp(url: &Url, meta: &Meta, text: &str, deadline: Deadline) -> Delivered {
    let wall_ns = meta.crash_time.unwrap_or(0).saturating_mul(1_000_000_000);
    let message = Header::new(meta).start(2, wall_ns, "PANIC", &[]) + text;
    let mut out = Datagrams::open(url, PORT, deadline)?;
    out.send(head(&message, Datagrams::LEN).as_bytes())
        .reason("send")?;
    Ok(Outcome::Unknown)
}

/// `syslog+tcp://host:514`: counted octets.
pub fn tcp(url: &Url, payload: &Payload<'_>, _: &mut Attempt, deadline: Deadline) -> Delivered {
    let header = Header::new(payload.meta());
    let mut out = BufWriter::new(Stream::open(url, PORT, deadline)?);
    payload.entries(&mut |entry| {
        header.messages(entry, MESSAGE_LEN, &mut |message| {
            write!(out, "{} {message}", message.len()).reason("send")
        })
    })?;
    out.flush().reason("send")?;
    let (stream, _) = out.into_parts();
    stream.finish().reason("close")?;
    Ok(Outcome::Sent)
}

#[cfg(test)]
mod tests {
    use super::super::payload::tests::fake;
    use super::super::{Part, Payload};
    use super::*;

    fn messages(max: usize) -> Vec<String> {
        let mut fake = fake(2);
        fake.meta.signature = "c1\"]\\x".into();
        let header = Header::new(&fake.meta);
        let mut out = Vec::new();
        Payload::new(&fake, Part::Full, "")
            .entries(&mut |entry| {
                header.messages(entry, max, &mut |m| {
                    out.push(m.to_string());
                    Ok(())
                })
            })
            .unwrap();
        out
    }

    #[test]
    fn a_record_becomes_a_message_with_its_level_time_and_number() {
        let all = messages(1200);
        assert_eq!(
            all[2],
            "<0>1 2026-11-21T19:23:34.999998Z node17 crashdmesg - KERNEL \
             [crash@32473 id=\"r-77\" sig=\"c1\\\"\\]\\\\x\" boot=\"0123456789abcdef0123456789abcdef\" \
             machine=\"fedcba9876543210fedcba9876543210\" seq=\"0\" caller=\"T1\"] record 0"
        );
        assert!(all[0].starts_with("<2>1 ") && all[0].contains(" REPORT [crash@"));
    }

    #[test]
    fn no_line_of_a_record_can_pose_as_a_message() {
        let all = messages(1200);
        assert_eq!(all.len(), 2 + 2 + 3);
        for message in &all {
            assert!(!message.bytes().any(|b| b.is_ascii_control()), "{message}");
            assert!(message.contains("[crash@32473 "));
        }
        assert!(all[5].ends_with("] <0>1 - forged"));
    }

    #[test]
    fn a_long_line_is_cut_into_messages() {
        let all = messages(250);
        assert!(all.iter().all(|m| m.len() <= 250));
        let fake = fake(0);
        let header = Header::new(&fake.meta);
        let text = "\u{20ac}".repeat(1000);
        let entry = Entry {
            index: 0,
            record: None,
            wall_ns: 0,
            level: 2,
            caller: "",
            text: &text,
        };
        let mut whole = String::new();
        header
            .messages(&entry, 500, &mut |m| {
                assert!(m.len() <= 500);
                whole.push_str(m.rsplit("] ").next().unwrap());
                Ok(())
            })
            .unwrap();
        assert_eq!(whole, text);
    }
}
