//! RELP, the reliable event logging protocol: syslog messages that are acknowledged one by one.
//!
//! ```text
//! -> 1 open 55 relp_version=0\nrelp_software=crashdmesg\ncommands=syslog\n
//! <- 1 rsp 93 200 OK\nrelp_version=0...\n
//! -> 2 syslog 40 <2>1 ...\n             a frame: TXNR SP COMMAND SP DATALEN [SP DATA] LF
//! <- 2 rsp 6 200 OK\n
//! -> 3 close 0\n
//! ```
//!
//! Specified in librelp's `doc/relp.html`. Up to [`WINDOW`] messages are under way at once, so that a distant
//! receiver does not cost a round trip a message. What was acknowledged before a connection broke is not sent again.

use std::collections::VecDeque;
use std::io::{BufWriter, Read, Write};

use super::connect::Stream;
use super::syslog::Header;
use super::text::line;
use super::url::Url;
use super::{Attempt, Delivered, Failure, Outcome, Payload, Reason};
use crate::deadline::Deadline;

/// There is no registered port; this is the one of rsyslog's documentation.
const PORT: u16 = 2514;

/// Messages under way at once; receivers accept at least as many.
const WINDOW: usize = 100;

/// Longest message: rsyslog's limit unless configured otherwise is 8 KiB.
const MESSAGE_LEN: usize = 8000;

/// Longest answer of which notice is taken.
const ANSWER_LEN: u64 = 64 << 10;

/// Transaction numbers start again after this one.
const LAST_TXNR: u32 = 999_999_999;

struct Relp {
    out: BufWriter<Stream>,
    txnr: u32,
    /// Transactions not answered yet, each with the entries that are done once it is.
    open: VecDeque<(u32, u64)>,
}

impl Relp {
    fn send(&mut self, command: &str, data: &str, done: u64) -> Result<(), Failure> {
        self.txnr = if self.txnr == LAST_TXNR {
            1
        } else {
            self.txnr + 1
        };
        write!(self.out, "{} {command} {}", self.txnr, data.len()).reason("send")?;
        if !data.is_empty() {
            write!(self.out, " {data}").reason("send")?;
        }
        self.out.write_all(b"\n").reason("send")?;
        self.open.push_back((self.txnr, done));
        Ok(())
    }

    /// Reads the answer to the oldest open transaction and returns the entries that are done.
    fn answer(&mut self) -> Result<u64, Failure> {
        self.out.flush().reason("send")?;
        let (txnr, done) = self.open.pop_front().unwrap_or_default();
        let stream = self.out.get_mut();
        let strange =
            |what: &[u8]| Failure::lasting(format!("not a RELP answer: \"{}\"", line(what)));
        let word = |stream: &mut Stream| {
            let mut word = Vec::new();
            let mut byte = [0];
            loop {
                stream.read_exact(&mut byte).reason("read the answer")?;
                if byte[0] == b' ' || byte[0] == b'\n' {
                    let text = String::from_utf8(word).unwrap_or_default();
                    return Ok((text, byte[0]));
                }
                word.push(byte[0]);
                if word.len() > 32 {
                    return Err(strange(&word));
                }
            }
        };
        let (number, _) = word(stream)?;
        let (command, _) = word(stream)?;
        let (len, end) = word(stream)?;
        if command == "serverclose" {
            return Err(Failure::passing("the receiver is closing"));
        }
        let len = len.parse().ok().filter(|&len: &u64| len <= ANSWER_LEN);
        let (Some(len), "rsp", Ok(number)) = (len, command.as_str(), number.parse::<u32>()) else {
            return Err(strange(format!("{number} {command}").as_bytes()));
        };
        let mut data = Vec::new();
        if end == b' ' {
            let whole = Read::take(&mut *stream, len + 1).read_to_end(&mut data);
            whole.reason("read the answer")?;
            if data.pop() != Some(b'\n') {
                return Err(Failure::passing("the answer is cut short"));
            }
        }
        if number != txnr {
            return Err(strange(format!("{number} instead of {txnr}").as_bytes()));
        }
        if !data.starts_with(b"200") {
            let start = data.get(..data.len().min(200)).unwrap_or(&[]);
            return Err(Failure::passing(format!("refused: {}", line(start))));
        }
        Ok(done)
    }

    fn drain(&mut self, most: usize, attempt: &mut Attempt) -> Result<(), Failure> {
        while self.open.len() > most {
            attempt.done = attempt.done.max(self.answer()?);
        }
        Ok(())
    }
}

/// `relp://host:2514`.
pub fn send(
    url: &Url,
    payload: &Payload<'_>,
    attempt: &mut Attempt,
    deadline: Deadline,
) -> Delivered {
    let header = Header::new(payload.meta());
    let stream = Stream::open(url, PORT, deadline)?;
    let mut relp = Relp {
        out: BufWriter::new(stream),
        txnr: 0,
        open: VecDeque::new(),
    };
    let offer = "relp_version=0\nrelp_software=crashdmesg\ncommands=syslog";
    relp.send("open", offer, 0)?;
    relp.answer()?;
    let first = attempt.done;
    payload.entries(&mut |entry| {
        if entry.index < first {
            return Ok(());
        }
        header.messages(entry, MESSAGE_LEN, &mut |message| {
            relp.send("syslog", message, entry.index)?;
            relp.drain(WINDOW - 1, attempt)
        })?;
        // The last of an entry's messages completes it.
        if let Some((_, done)) = relp.open.back_mut() {
            *done = entry.index + 1;
        }
        Ok(())
    })?;
    relp.drain(0, attempt)?;
    // All is acknowledged: a close that goes wrong changes nothing.
    let close = relp.send("close", "", u64::MAX);
    let _ = close.and_then(|()| relp.answer());
    Ok(Outcome::Stored)
}
