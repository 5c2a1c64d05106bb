//! Text on its way out: escapes, time stamps and writers that count or stop.
//!
//! Every byte of the log is hostile. It is made printable here once ([`printable`]); a JSON string is escaped by
//! [`json`]. No sink writes text of the crashed kernel in any other way, so none can be made to start a record, a
//! header or a terminal escape sequence of the log's choice.

use std::fmt;
use std::io::{self, Write};

use crashdmesg::render::date::Date;
use crashdmesg::render::escape::write_with;
use crashdmesg::render::json::write_string;

/// Appends `bytes` as valid UTF-8: tabs and newlines stay, other control characters and invalid bytes become `\xNN`.
pub fn printable(bytes: &[u8], out: &mut String) {
    let special = |c: char| c.is_control() && c != '\t' && c != '\n';
    // A string takes whatever is written.
    let _ = write_with(out, bytes, &special, &|out, piece| {
        piece
            .iter()
            .try_for_each(|byte| write!(out, "\\x{byte:02x}"))
    });
}

/// `bytes` made printable on a single line: tabs and newlines become spaces.
pub fn line(bytes: &[u8]) -> String {
    let mut out = String::new();
    printable(bytes, &mut out);
    out.replace(['\n', '\t'], " ").trim().to_string()
}

/// The start of `text` in at most `len` bytes, cut between characters.
pub fn head(text: &str, len: usize) -> &str {
    let mut len = len.min(text.len());
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    &text[..len]
}

/// Appends `text` as a JSON string with its quotes.
pub fn json(text: &str, out: &mut Vec<u8>) {
    struct Bytes<'a>(&'a mut Vec<u8>);
    impl fmt::Write for Bytes<'_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.extend(text.as_bytes());
            Ok(())
        }
    }
    let _ = write_string(&mut Bytes(out), text.as_bytes());
}

/// Appends `"key":"value"`, after a comma when something stands before it in the object.
pub fn json_pair(key: &str, value: &str, out: &mut Vec<u8>) {
    if !matches!(out.last(), Some(b'{' | b'[')) {
        out.push(b',');
    }
    json(key, out);
    out.push(b':');
    json(value, out);
}

/// RFC 3339 with microseconds, UTC.
pub fn rfc3339(ns: u64) -> String {
    let date = Date::from_unix(ns / 1_000_000_000);
    let Date {
        year, month, day, ..
    } = date;
    let (hour, minute, second) = (date.hour, date.minute, date.second);
    let us = ns / 1000 % 1_000_000;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{us:06}Z")
}

/// Base64 with padding (RFC 4648).
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let word = three
            .iter()
            .fold(0u32, |word, &b| word << 8 | u32::from(b))
            .wrapping_shl(8 * (3 - three.len() as u32));
        for i in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * i) & 63) as usize];
            out.push(if i as usize > three.len() {
                '='
            } else {
                char::from(digit)
            });
        }
    }
    out
}

/// Counts what is written and drops it.
#[derive(Default)]
pub struct Count(pub u64);

impl Write for Count {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0 += buf.len() as u64;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Passes on exactly as many bytes as were announced, whatever is written.
pub struct Exactly<'a> {
    /// Where they go.
    pub out: &'a mut dyn Write,
    /// How many are still to come.
    pub left: u64,
}

impl Write for Exactly<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let len = usize::try_from(self.left).map_or(buf.len(), |left| left.min(buf.len()));
        if len == 0 {
            // More than was announced would be read as the next request; it is dropped.
            return Ok(buf.len());
        }
        let written = self.out.write(&buf[..len])?;
        self.left -= written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_and_invalid_bytes_become_visible() {
        let mut out = String::new();
        printable(
            b"a\x1b[31m\r\x00\tb\n\xff\xc2\x9bz\xe2\x82\xac\x7f",
            &mut out,
        );
        assert_eq!(
            out,
            "a\\x1b[31m\\x0d\\x00\tb\n\\xff\\xc2\\x9bz\u{20ac}\\x7f"
        );
        assert_eq!(line(b" a\nb\tc "), "a b c");
    }

    #[test]
    fn a_json_string_escapes_what_it_must() {
        let mut out = b"{".to_vec();
        json_pair("k\"", "a\\\n\t\u{1}\u{20ac}", &mut out);
        json_pair("l", "", &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"k\\\"\":\"a\\\\\\n\\t\\u0001\u{20ac}\",\"l\":\"\""
        );
    }

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(
            rfc3339(1_795_289_041_123_456_789),
            "2026-11-21T19:24:01.123456Z"
        );
        assert_eq!(
            rfc3339(951_782_400_000_000_000),
            "2000-02-29T00:00:00.000000Z"
        );
        assert_eq!(
            rfc3339(4_107_542_399_000_000_000),
            "2100-02-28T23:59:59.000000Z"
        );
    }

    #[test]
    fn base64_pads_to_four() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }

    #[test]
    fn no_more_than_announced_is_passed_on() {
        let mut sink = Vec::new();
        let mut out = Exactly {
            out: &mut sink,
            left: 3,
        };
        out.write_all(b"abcd").unwrap();
        out.write_all(b"e").unwrap();
        assert_eq!(out.left, 0);
        assert_eq!(sink, b"abc");
    }
}
