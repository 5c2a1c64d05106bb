//! MQTT 3.1.1: the text as one message, acknowledged (QoS 1) and kept by the broker as the last of its topic.
//!
//! ```text
//! -> CONNECT 10 len 00 04 MQTT 04 flags keep-alive client-id [user password]   <- CONNACK 20 02 00 code
//! -> PUBLISH 33 len topic 00 01 text                                           <- PUBACK  40 02 00 01
//! -> DISCONNECT e0 00
//! ```
//!
//! The path is the topic, `crash/%h` unless given. The message is retained: whoever subscribes later gets the last crash
//! of each host.

use std::io::{self, BufWriter, Read, Write};

use super::connect::Stream;
use super::text::{Exactly, head};
use super::url::{Url, decode};
use super::{Attempt, Delivered, Failure, Outcome, Payload, Reason, name};
use crate::deadline::Deadline;

/// MQTT's port.
const PORT: u16 = 1883;

/// The topic when the URL has no path.
const TOPIC: &str = "crash/%h";

/// Longest packet: what four digits of seven bits can tell.
const PACKET_LEN: u64 = (1 << 28) - 1;

/// A string with its length in front.
fn string(text: &str, out: &mut Vec<u8>) {
    let text = head(text, usize::from(u16::MAX));
    out.extend((text.len() as u16).to_be_bytes());
    out.extend(text.as_bytes());
}

/// The length of a packet, seven bits a byte.
fn length(mut len: u64, out: &mut Vec<u8>) {
    loop {
        let digit = (len & 0x7f) as u8;
        len >>= 7;
        out.push(digit | u8::from(len > 0) << 7);
        if len == 0 {
            break;
        }
    }
}

fn connect(url: &Url, payload: &Payload<'_>) -> Vec<u8> {
    let user = !url.user.is_empty();
    let password = url.password.as_deref().filter(|_| user);
    let mut body = b"\0\x04MQTT\x04".to_vec();
    // A clean session; no keep-alive, as the deadline bounds the connection.
    body.push(0x02 | u8::from(user) << 7 | u8::from(password.is_some()) << 6);
    body.extend([0, 0]);
    let id = format!("crashdmesg-{}", name::safe(&payload.meta().report_id));
    string(&id, &mut body);
    if user {
        string(&url.user, &mut body);
    }
    if let Some(password) = password {
        string(password, &mut body);
    }
    let mut packet = vec![0x10];
    length(body.len() as u64, &mut packet);
    packet.append(&mut body);
    packet
}

/// Reads an answer of this kind, always four bytes.
fn answer(stream: &mut Stream, kind: u8) -> Result<[u8; 2], Failure> {
    let mut packet = [0; 4];
    stream.read_exact(&mut packet).reason("read the answer")?;
    match packet {
        [first, 2, a, b] if first == kind => Ok([a, b]),
        _ => Err(Failure::lasting("the answer is not MQTT's")),
    }
}

/// `mqtt://user:password@host:1883/topic`.
pub fn send(url: &Url, payload: &Payload<'_>, _: &mut Attempt, deadline: Deadline) -> Delivered {
    let path = match url.path.trim_start_matches('/') {
        "" => TOPIC,
        path => path,
    };
    let topic = decode(&name::fill(path, payload.meta())).map_err(Failure::lasting)?;
    let mut stream = Stream::open(url, PORT, deadline)?;
    stream.write_all(&connect(url, payload)).reason("send")?;
    match answer(&mut stream, 0x20)? {
        [_, 0] => {}
        [_, code @ (4 | 5)] => {
            let why = format!("not authorised (code {code})");
            return Err(Failure::lasting(why));
        }
        [_, code] => return Err(Failure::passing(format!("refused (code {code})"))),
    }
    let mut variable = Vec::new();
    string(&topic, &mut variable);
    variable.extend([0, 1]);
    let len = payload.len();
    let total = len + variable.len() as u64;
    if total > PACKET_LEN {
        return Err(Failure::lasting("too long for a message"));
    }
    let mut packet = vec![0x33];
    length(total, &mut packet);
    packet.append(&mut variable);
    let mut out = BufWriter::new(stream);
    let mut write = || {
        out.write_all(&packet)?;
        let mut body = Exactly {
            out: &mut out,
            left: len,
        };
        payload.write(&mut body)?;
        if body.left != 0 {
            return Err(io::Error::other("the report became shorter"));
        }
        out.flush()
    };
    write().reason("send")?;
    let (mut stream, _) = out.into_parts();
    if answer(&mut stream, 0x40)? != [0, 1] {
        return Err(Failure::lasting("another message was acknowledged"));
    }
    // It is stored; whether the good-bye succeeds changes nothing.
    let _ = stream.write_all(&[0xe0, 0]);
    Ok(Outcome::Stored)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_in_groups_of_seven_bits() {
        for (len, want) in [
            (0, &[0][..]),
            (127, &[0x7f]),
            (128, &[0x80, 1]),
            (16_384, &[0x80, 0x80, 1]),
            (PACKET_LEN, &[0xff, 0xff, 0xff, 0x7f]),
        ] {
            let mut out = Vec::new();
            length(len, &mut out);
            assert_eq!(out, want);
        }
    }
}
