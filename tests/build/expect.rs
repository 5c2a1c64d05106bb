//! What must come out: the log as text, made from what was written and not from the dump.

use super::Message;

/// A message that the ring still holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its sequence number, of rings that store one.
    pub seq: Option<u64>,
    /// What was written.
    pub message: Message,
}

/// The log as `--log` prints it: the time before every line of a record, what no terminal should get as `\xNN`.
pub fn log<'a>(kept: impl IntoIterator<Item = &'a Kept>) -> Vec<u8> {
    let mut out = Vec::new();
    for Kept { message, .. } in kept {
        let us = message.ts_ns / 1000;
        for line in message.text.split(|&byte| byte == b'\n') {
            out.extend(format!("[{:5}.{:06}] ", us / 1_000_000, us % 1_000_000).bytes());
            out.extend(printable(line));
            out.push(b'\n');
        }
    }
    out
}

/// Valid UTF-8 as it is; control characters but the tab, and bytes that are no UTF-8, as `\xNN`.
pub fn printable(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let hex = |out: &mut Vec<u8>, bytes: &[u8]| {
        for byte in bytes {
            out.extend(format!("\\x{byte:02x}").bytes());
        }
    };
    for chunk in text.utf8_chunks() {
        for c in chunk.valid().chars() {
            let mut raw = [0; 4];
            let raw = c.encode_utf8(&mut raw).as_bytes();
            if c.is_control() && c != '\t' {
                hex(&mut out, raw);
            } else {
                out.extend(raw);
            }
        }
        hex(&mut out, chunk.invalid());
    }
    out
}
