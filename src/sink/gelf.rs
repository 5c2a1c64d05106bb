//! GELF, the format of Graylog: a JSON object a record, in datagrams or over TCP.
//!
//! ```text
//! {"version":"1.1","host":"node17","short_message":"...","timestamp":1795289015.000000,"level":2,"_signature":"..."}
//! ```
//!
//! Over TCP a zero byte ends a message. A datagram that is too large goes in chunks: `1e 0f`, 8 bytes of message id, the
//! chunk's number and their count, at most 128.

use std::io::{BufWriter, Write};

use super::connect::{Datagrams, Stream};
use super::text::{head, json_pair, line};
use super::url::Url;
use super::{Attempt, Delivered, Entry, Meta, Outcome, Payload, Reason, name};
use crate::deadline::Deadline;

/// Graylog's port.
const PORT: u16 = 12201;

/// Most chunks of a message.
const CHUNKS: usize = 128;

fn message(host: &str, meta: &Meta, entry: &Entry<'_>) -> Vec<u8> {
    let mut out = b"{".to_vec();
    json_pair("version", "1.1", &mut out);
    json_pair("host", host, &mut out);
    // The short message must not be empty.
    let (first, rest) = entry.text.split_once('\n').unwrap_or((entry.text, ""));
    let short = if first.is_empty() { " " } else { first };
    json_pair("short_message", short, &mut out);
    if !rest.is_empty() {
        json_pair("full_message", entry.text, &mut out);
    }
    let (seconds, micros) = (
        entry.wall_ns / 1_000_000_000,
        entry.wall_ns / 1000 % 1_000_000,
    );
    let _ = write!(
        out,
        ",\"timestamp\":{seconds}.{micros:06},\"level\":{}",
        entry.level
    );
    if let Some(seq) = entry.record.and_then(|r| r.seq) {
        let _ = write!(out, ",\"_seq\":{seq}");
    }
    let device = entry.record.map(|r| line(r.device)).unwrap_or_default();
    for (key, value) in [
        ("_application", "crashdmesg"),
        ("_report_id", &meta.report_id),
        ("_signature", &meta.signature),
        ("_boot_id", &meta.boot_id),
        ("_machine_id", &meta.machine_id),
        ("_caller", entry.caller),
        ("_device", &device),
    ] {
        if !value.is_empty() {
            json_pair(key, value, &mut out);
        }
    }
    out.push(b'}');
    out
}

/// `gelf://host:12201`.
pub fn udp(url: &Url, payload: &Payload<'_>, deadline: Deadline) -> Delivered {
    let host = payload.host();
    let mut out = Datagrams::open(url, PORT, deadline)?;
    payload.entries(&mut |entry| {
        let message = message(&host, payload.meta(), entry);
        if message.len() <= Datagrams::LEN {
            return out.send(&message).reason("send");
        }
        // The id need only differ between messages that are under way at the same time from one address.
        let id = entry.wall_ns.rotate_left(32) ^ entry.index;
        let room = Datagrams::LEN - 12;
        let count = message.len().div_ceil(room).min(CHUNKS);
        for (number, piece) in message.chunks(room).take(CHUNKS).enumerate() {
            let mut chunk = vec![0x1e, 0x0f];
            chunk.extend(id.to_be_bytes());
            chunk.extend([number as u8, count as u8]);
            chunk.extend(piece);
            out.send(&chunk).reason("send")?;
        }
        Ok(())
    })?;
    out.finish().reason("send")?;
    Ok(Outcome::Unknown)
}

/// The dying gasp as one message.
pub fn gasp(url: &Url, meta: &Meta, text: &str, deadline: Deadline) -> Delivered {
    let entry = Entry {
        index: 0,
        record: None,
        wall_ns: meta.crash_time.unwrap_or(0).saturating_mul(1_000_000_000),
        level: 2,
        caller: "",
        text: head(text, 800),
    };
    let mut out = Datagrams::open(url, PORT, deadline)?;
    out.send(&message(&name::host(meta), meta, &entry))
        .reason("send")?;
    Ok(Outcome::Unknown)
}

/// `gelf+tcp://host:12201`.
pub fn tcp(url: &Url, payload: &Payload<'_>, _: &mut Attempt, deadline: Deadline) -> Delivered {
    let host = payload.host();
    let mut out = BufWriter::new(Stream::open(url, PORT, deadline)?);
    payload.entries(&mut |entry| {
        let mut message = message(&host, payload.meta(), entry);
        message.push(0);
        out.write_all(&message).reason("send")
    })?;
    out.flush().reason("send")?;
    let (stream, _) = out.into_parts();
    stream.finish().reason("close")?;
    Ok(Outcome::Sent)
}

#[cfg(test)]
mod tests {
    use super::super::Part;
    use super::super::json::Json;
    use super::super::payload::tests::fake;
    use super::*;

    #[test]
    fn a_message_is_one_object_with_the_required_fields() {
        let fake = fake(1);
        let payload = Payload::new(&fake, Part::Full, "");
        let mut seen = Vec::new();
        payload
            .entries(&mut |entry| {
                let message = message("node17", payload.meta(), entry);
                let whole = Json::new(&message).walk(&mut |path, value| {
                    seen.push(format!("{}={value}", path.join("/")));
                });
                assert!(whole.is_some());
                Ok(())
            })
            .unwrap();
        for want in [
            "version=1.1",
            "short_message=record 0",
            "timestamp=1795289014.999999",
            "level=3",
            "_seq=0",
            "_machine_id=fedcba9876543210fedcba9876543210",
            "full_message=evil\\x1b[2J\\x0d <0>1 - forged \\xff\"}\\",
        ] {
            assert!(seen.iter().any(|s| s == want), "{want} {seen:?}");
        }
    }
}
