//! SMTP: the report as a mail, to a relay that takes mail from this network without a login.
//!
//! ```text
//! smtp://relay:25/root@example.org?from=crash@example.org
//! <- 220   -> EHLO node17   <- 250   -> MAIL FROM:<...>   -> RCPT TO:<...>   -> DATA   <- 354
//! -> headers, text in lines of at most 990 bytes, dots at the start of a line doubled, "."   <- 250 queued
//! ```
//!
//! RFC 5321, 5322. The subject is host and panic line; the message id is that of the report, so that a retry can be
//! recognised. There is no STARTTLS and no login.

use std::io::{self, BufWriter, Write};

use super::connect::Stream;
use super::text::{base64, head, line};
use super::url::{Url, decode};
use super::{Attempt, Delivered, Failure, Meta, Outcome, Payload, Reason, name};
use crate::deadline::Deadline;

/// SMTP's port.
const PORT: u16 = 25;

/// Longest line of a mail is 998 bytes.
const LINE_LEN: usize = 990;

/// Longest line of a reply, and most lines.
const REPLY_LEN: usize = 1024;
const REPLY_LINES: usize = 100;

/// Sends a command, or only listens for the greeting, and demands a reply of this class.
fn step(out: &mut BufWriter<Stream>, command: &str, class: u8, what: &str) -> Result<(), Failure> {
    let mut send = || {
        out.write_all(command.as_bytes())?;
        out.flush()
    };
    send().reason("send")?;
    for _ in 0..REPLY_LINES {
        let reply = out.get_mut().line(REPLY_LEN).reason("read the reply")?;
        let is_last = reply.get(3) != Some(&b'-');
        if !is_last {
            continue;
        }
        return match reply.first() {
            Some(first) if *first == b'0' + class => Ok(()),
            first => Err(Failure {
                why: format!("{what}: {}", line(head_bytes(&reply))),
                again: first == Some(&b'4'),
            }),
        };
    }
    Err(Failure::lasting("a reply without end"))
}

fn head_bytes(bytes: &[u8]) -> &[u8] {
    bytes.get(..bytes.len().min(200)).unwrap_or(&[])
}

/// Writes text as the body of a mail: CR LF line ends, long lines cut, dots at the start of a line doubled.
struct Body<'a> {
    out: &'a mut dyn Write,
    /// Bytes in this line so far.
    column: usize,
}

impl Write for Body<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        for &byte in buf {
            let continues = byte & 0xc0 == 0x80;
            if self.column >= LINE_LEN && byte != b'\n' && !continues {
                self.out.write_all(b"\r\n")?;
                self.column = 0;
            }
            match byte {
                b'\n' => {
                    self.out.write_all(b"\r\n")?;
                    self.column = 0;
                    continue;
                }
                // Alone it would end a line for some servers.
                b'\r' | 0 => continue,
                b'.' if self.column == 0 => self.out.write_all(b"..")?,
                _ => self.out.write_all(&[byte])?,
            }
            self.column += 1;
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The headers of the mail.
fn headers(from: &str, to: &str, meta: &Meta) -> String {
    let subject = format!(
        "{} crashed: {}",
        line(name::host(meta).as_bytes()),
        head(&line(meta.panic.as_bytes()), 120)
    );
    let subject = if subject.is_ascii() {
        subject
    } else {
        // An encoded word of RFC 2047 has at most 75 bytes.
        format!("=?UTF-8?B?{}?=", base64(head(&subject, 45).as_bytes()))
    };
    let id = name::safe(&meta.report_id);
    let host = name::safe(&name::host(meta));
    format!(
        "From: crashdmesg <{from}>\r\nTo: <{to}>\r\nSubject: {subject}\r\nMessage-ID: <{id}.crashdmesg@{host}>\r\n\
         Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Content-Transfer-Encoding: 8bit\r\n\r\n"
    )
}

/// The address that the path names.
fn recipient(url: &Url) -> Result<String, String> {
    let to = decode(url.path.trim_start_matches('/'))?;
    if address(&to) {
        Ok(to)
    } else {
        Err(format!(
            "\"{to}\" is no mail address: smtp://RELAY/NAME@DOMAIN"
        ))
    }
}

fn address(text: &str) -> bool {
    let safe = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.@:[]".contains(&b);
    !text.is_empty() && text.len() < 320 && text.bytes().all(safe)
}

/// Checks the addresses.
///
/// # Errors
/// One line.
pub fn check(url: &Url) -> Result<(), String> {
    recipient(url)?;
    match url.option("from") {
        Some(from) if !address(from) => Err(format!("option from: \"{from}\" is no mail address")),
        _ => Ok(()),
    }
}

/// `smtp://relay/root@example.org`.
pub fn send(url: &Url, payload: &Payload<'_>, _: &mut Attempt, deadline: Deadline) -> Delivered {
    let to = recipient(url).map_err(Failure::lasting)?;
    let host = name::safe(&payload.host());
    let from = match url.option("from") {
        Some(from) => from.to_string(),
        None => format!("crashdmesg@{host}"),
    };
    let mut out = BufWriter::new(Stream::open(url, PORT, deadline)?);
    step(&mut out, "", 2, "greeting")?;
    step(&mut out, &format!("EHLO {host}\r\n"), 2, "EHLO")?;
    step(&mut out, &format!("MAIL FROM:<{from}>\r\n"), 2, "sender")?;
    step(&mut out, &format!("RCPT TO:<{to}>\r\n"), 2, "recipient")?;
    step(&mut out, "DATA\r\n", 3, "DATA")?;
    let mut write = || {
        out.write_all(headers(&from, &to, payload.meta()).as_bytes())?;
        let mut body = Body {
            out: &mut out,
            column: 0,
        };
        payload.write(&mut body)?;
        match body.column {
            0 => Ok(()),
            _ => out.write_all(b"\r\n"),
        }
    };
    write().reason("send")?;
    step(&mut out, ".\r\n", 2, "mail")?;
    // It is queued; whether the good-bye succeeds changes nothing.
    let _ = step(&mut out, "QUIT\r\n", 2, "QUIT");
    Ok(Outcome::Stored)
}

#[cfg(test)]
mod tests {
    use super::super::payload::tests::fake;
    use super::*;

    fn body(text: &str) -> String {
        let mut out = Vec::new();
        let mut body = Body {
            out: &mut out,
            column: 0,
        };
        for piece in text.as_bytes().chunks(7) {
            body.write_all(piece).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn no_text_ends_the_mail_early() {
        assert_eq!(body("a\n.\n..b\r\n.c"), "a\r\n..\r\n...b\r\n..c");
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let text = body(&"\u{20ac}".repeat(1000));
        assert!(text.split("\r\n").all(|line| line.len() <= 998));
        assert_eq!(text.replace("\r\n", ""), "\u{20ac}".repeat(1000));
    }

    #[test]
    fn the_log_cannot_add_a_header() {
        let mut meta = fake(1).meta;
        meta.panic = "bad\r\nBcc: evil@example.org\u{1b}".into();
        let text = headers("a@b", "c@d", &meta);
        assert!(!text.contains("\nBcc") && !text.contains('\u{1b}'));
        assert!(text.contains("Subject: node17 crashed: bad"));
        meta.panic = "\u{20ac}".repeat(100);
        assert!(headers("a@b", "c@d", &meta).is_ascii());
    }

    #[test]
    fn addresses_are_checked_when_configured() {
        let url = |path: &str| Url {
            path: path.into(),
            ..Url::default()
        };
        check(&url("/root@example.org")).unwrap();
        for bad in ["", "/", "/a>b@c", "/a b@c"] {
            check(&url(bad)).unwrap_err();
        }
    }
}
