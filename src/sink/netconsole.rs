//! netconsole's extended format: datagrams as the kernel's own netconsole sends them, for receivers like netconsd.
//!
//! ```text
//! 2,417,10041983,-;Kernel panic - not syncing\n SUBSYSTEM=pci\n DEVICE=+pci:0000:00:1f.2\n
//! PREFIX,SEQ,MICROSECONDS,FLAG[,caller=T1][,ncfrag=OFFSET/TOTAL];TEXT\n KEY=VALUE\n
//! ```
//!
//! Specified in the kernel's `Documentation/networking/netconsole.rst` and `ABI/testing/dev-kmsg`: PREFIX is facility * 8 +
//! level, non-printable bytes and backslashes are `\xNN`. A message that does not fit 1000 bytes goes in pieces, each
//! with its offset and the total. The dying gasp is a plain line, as in the basic format.

use super::connect::Datagrams;
use super::url::Url;
use super::{Delivered, Outcome, Part, Payload, Reason, Record, raw};
use crate::deadline::Deadline;

/// netconsole's port.
const PORT: u16 = 6666;

/// `MAX_PRINT_CHUNK`: what the kernel puts into a datagram, and receivers expect at most.
const LEN: usize = 1000;

/// Longest message of `/dev/kmsg`, which receivers put together again.
const MESSAGE_LEN: usize = 8192;

/// `netconsole://host:6666`.
pub fn send(url: &Url, payload: &Payload<'_>, deadline: Deadline) -> Delivered {
    if payload.part == Part::Summary {
        return raw::udp(url, payload, deadline);
    }
    let mut out = Datagrams::open(url, PORT, deadline)?;
    let release = match url.switch("release") {
        true => format!("{},", super::name::safe(&payload.meta().release)),
        false => String::new(),
    };
    payload.entries(&mut |entry| {
        let Some(record) = entry.record else {
            return Ok(());
        };
        let head = format!(
            "{release}{}",
            head(record, entry.index, entry.level, entry.caller)
        );
        let body = body(record);
        datagrams(&head, &body, &mut |bytes| out.send(bytes)).reason("send")
    })?;
    out.finish().reason("send")?;
    Ok(Outcome::Unknown)
}

/// The fields before the semicolon.
fn head(record: &Record<'_>, index: u64, level: u8, caller: &str) -> String {
    let prefix = u32::from(record.facility.unwrap_or(0)) * 8 + u32::from(level);
    let seq = record.seq.unwrap_or(index);
    let us = record.ts_ns.unwrap_or(0) / 1000;
    let flag = if record.continues { 'c' } else { '-' };
    let mut head = format!("{prefix},{seq},{us},{flag}");
    if !caller.is_empty() {
        head += ",caller=";
        head += caller;
    }
    head
}

/// The text and the device dictionary, escaped.
fn body(record: &Record<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    escape(record.text, &mut out);
    out.push(b'\n');
    for (key, value) in [
        (" SUBSYSTEM=", record.subsystem),
        (" DEVICE=", record.device),
    ] {
        if !value.is_empty() {
            out.extend(key.as_bytes());
            escape(value, &mut out);
            out.push(b'\n');
        }
    }
    out.truncate(MESSAGE_LEN);
    out
}

/// The kernel's `append_char` for `/dev/kmsg`.
fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for &b in bytes {
        if (b' '..127).contains(&b) && b != b'\\' {
            out.push(b);
        } else {
            out.extend(format!("\\x{b:02x}").as_bytes());
        }
    }
}

/// Hands over one datagram, or as many as the message needs.
fn datagrams(
    head: &str,
    body: &[u8],
    each: &mut dyn FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<()> {
    if head.len() + 1 + body.len() <= LEN {
        return each(&[head.as_bytes(), b";", body].concat());
    }
    let room = LEN - head.len() - ",ncfrag=0000/0000;".len();
    for (i, piece) in body.chunks(room).enumerate() {
        let fragment = format!("{head},ncfrag={}/{};", i * room, body.len());
        each(&[fragment.as_bytes(), piece].concat())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crashdmesg::printk::Caller;

    fn record(text: &[u8]) -> Record<'_> {
        Record {
            seq: Some(417),
            ts_ns: Some(10_041_983_123),
            level: Some(2),
            facility: Some(0),
            continues: false,
            caller: Some(Caller::Task(1)),
            text,
            subsystem: b"",
            device: b"",
        }
    }

    fn all(record: &Record<'_>) -> Vec<String> {
        let mut out = Vec::new();
        let head = head(record, 0, 2, "T1");
        datagrams(&head, &body(record), &mut |bytes| {
            out.push(String::from_utf8(bytes.to_vec()).unwrap());
            Ok(())
        })
        .unwrap();
        out
    }

    #[test]
    fn a_short_record_is_one_datagram_with_its_dictionary() {
        let mut record = record(b"a\nb\\\xc3\xa9");
        record.device = b"+pci:x";
        assert_eq!(
            all(&record),
            ["2,417,10041983,-,caller=T1;a\\x0ab\\x5c\\xc3\\xa9\n DEVICE=+pci:x\n"]
        );
    }

    #[test]
    fn a_long_record_goes_in_fragments_that_fit_together() {
        let text: Vec<u8> = (0..5000).map(|i| b'a' + (i % 26) as u8).collect();
        let parts = all(&record(&text));
        let mut whole = String::new();
        for part in &parts {
            assert!(part.len() <= LEN);
            let (head, body) = part.split_once(';').unwrap();
            assert_eq!(
                head,
                format!("2,417,10041983,-,caller=T1,ncfrag={}/5001", whole.len())
            );
            whole += body;
        }
        assert_eq!(whole.as_bytes(), [text.as_slice(), b"\n"].concat());
        assert!(parts.len() > 4);
    }

    #[test]
    fn a_message_never_outgrows_what_receivers_put_together() {
        let parts = all(&record(&[0xff; 60_000]));
        assert!(parts.iter().all(|p| p.len() <= LEN));
        assert!(parts.iter().map(String::len).sum::<usize>() < 10_000);
    }
}
