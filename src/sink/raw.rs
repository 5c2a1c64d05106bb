//! The text as it is, over TCP or in datagrams.
//!
//! TCP tells that the peer has read everything up to the end when it closes in turn, not that anything was kept.
//! With `?ack` the receiver answers with the SHA-256 of what it has stored, in hexadecimal, at the start of a line:
//! `sha256sum` does.

use std::io::{self, BufWriter, Write};

use super::connect::{Datagrams, Stream};
use super::sha256::Sha256;
use super::url::Url;
use super::{Attempt, Delivered, Failure, Outcome, Payload, Reason};
use crate::deadline::Deadline;

/// Used when the URL names none: the one that netconsole made customary for kernel text.
const PORT: u16 = 6666;

/// Hashes what passes through.
struct Hashing<W> {
    out: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let len = self.out.write(buf)?;
        self.hash.update(&buf[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// `tcp://host:6666`.
pub fn tcp(url: &Url, payload: &Payload<'_>, _: &mut Attempt, deadline: Deadline) -> Delivered {
    let mut out = Hashing {
        out: BufWriter::new(Stream::open(url, PORT, deadline)?),
        hash: Sha256::new(),
    };
    payload.write(&mut out).reason("send")?;
    out.flush().reason("send")?;
    let (mut stream, _) = out.out.into_parts();
    if !url.switch("ack") {
        stream.finish().reason("close")?;
        return Ok(Outcome::Sent);
    }
    stream.end().reason("close")?;
    let answer = stream.line(1024).reason("read the acknowledgement")?;
    let want = out.hash.hex();
    if answer.to_ascii_lowercase().starts_with(want.as_bytes()) {
        return Ok(Outcome::Stored);
    }
    let answer = super::text::line(&answer);
    Err(Failure::passing(format!(
        "acknowledged something else: \"{answer}\""
    )))
}

/// `udp://host:6666`: whole lines, as many as fit a datagram.
pub fn udp(url: &Url, payload: &Payload<'_>, deadline: Deadline) -> Delivered {
    let mut lines = Lines {
        out: Datagrams::open(url, PORT, deadline)?,
        waiting: Vec::with_capacity(2 * Datagrams::LEN),
    };
    payload.write(&mut lines).reason("send")?;
    lines.flush().reason("send")?;
    lines.out.finish().reason("send")?;
    Ok(Outcome::Unknown)
}

/// The dying gasp as one line.
pub fn gasp(url: &Url, text: &str, deadline: Deadline) -> Delivered {
    let mut out = Datagrams::open(url, PORT, deadline)?;
    out.send(format!("{text}\n").as_bytes()).reason("send")?;
    Ok(Outcome::Unknown)
}

/// Cuts text into datagrams at line ends.
struct Lines {
    out: Datagrams,
    waiting: Vec<u8>,
}

impl Lines {
    /// Sends the longest run of whole lines that fits, or a piece of a line too long to.
    fn send_some(&mut self) -> io::Result<()> {
        let fits = self.waiting.len().min(Datagrams::LEN);
        let lines = self.waiting[..fits].iter().rposition(|&b| b == b'\n');
        let len = match lines {
            Some(at) => at + 1,
            // Not in the middle of a character.
            None => (fits.saturating_sub(3)..=fits)
                .rev()
                .find(|&at| self.waiting.get(at).is_none_or(|b| b & 0xc0 != 0x80))
                .unwrap_or(fits),
        };
        self.out.send(&self.waiting[..len])?;
        self.waiting.drain(..len);
        Ok(())
    }
}

impl Write for Lines {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let len = buf.len().min(Datagrams::LEN);
        self.waiting.extend(&buf[..len]);
        while self.waiting.len() > Datagrams::LEN {
            self.send_some()?;
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.waiting.is_empty() {
            self.send_some()?;
        }
        Ok(())
    }
}
