//! TFTP: one file in acknowledged blocks over UDP.
//!
//! ```text
//! -> WRQ  00 02 name 00 octet 00 blksize 00 1400 00 tsize 00 81234 00 timeout 00 1 00
//! <- OACK 00 06 blksize 00 1400 00 ...        or ACK 00 04 00 00 from a server without options: blocks of 512
//! -> DATA 00 03 00 01 ...                     a block shorter than the block size is the last
//! <- ACK  00 04 00 01                         or ERROR 00 05 code text 00
//! ```
//!
//! RFC 1350, 2347, 2348, 2349. The block number wraps to 0 after 65535. An acknowledgement of an earlier block is ignored, or
//! both sides would send everything twice from then on. What is lost is sent again after a time that follows the
//! round trips seen.

use std::io::{self, Write};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::connect::{datagram, resolve};
use super::text::line;
use super::url::{Url, decode};
use super::{Attempt, Delivered, Failure, Outcome, Payload, Reason, name};
use crate::deadline::Deadline;

/// TFTP's port.
const PORT: u16 = 69;

/// Fits an Ethernet frame with room for a tunnel.
const BLOCK: u64 = 1400;

/// The block size that needs no option, and that a path with a small MTU passes.
const PLAIN_BLOCK: usize = 512;

/// First and longest time before something is sent again.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(2));

/// How much longer than at first each packet is waited for in the end. On a lossy path it is frequent attempts that
/// get through before the server gives up, which is after some seconds.
const PATIENCE_GROWTH: u32 = 8;

/// Shortest: a busy server may take this long.
const HASTE: Duration = Duration::from_millis(30);

/// How long one packet is sent again and again; no server waits longer.
const SILENCE: Duration = Duration::from_secs(12);

/// How long the first large packet is: when the request got through and this does not, its size may be the reason.
const SILENCE_OF_FIRST: Duration = Duration::from_secs(4);

struct Transfer {
    socket: UdpSocket,
    /// The server, and once it has answered the port it answered from.
    peer: SocketAddr,
    answered: bool,
    deadline: Deadline,
    patience: Duration,
    block: usize,
    number: u16,
    waiting: Vec<u8>,
}

/// What the server says.
enum Answer {
    Ack(u16),
    /// The block size it agreed to.
    Options(usize),
    Error(String),
}

impl Transfer {
    /// Sends a packet until the answer that `wanted` recognises comes.
    fn exchange<T>(
        &mut self,
        packet: &[u8],
        wanted: impl Fn(Answer) -> Option<Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let mut patience = self.patience;
        let most = patience.saturating_mul(PATIENCE_GROWTH).min(PATIENCE.1);
        let silence = self.deadline.within(match self.number {
            1 if self.block > PLAIN_BLOCK => SILENCE_OF_FIRST,
            _ => SILENCE,
        });
        let mut is_first = true;
        while !silence.passed() {
            let sent = Instant::now();
            self.socket.send_to(packet, self.peer).reason("send")?;
            let patient = self.deadline.within(patience);
            while let Some(answer) = self.receive(patient)? {
                if let Answer::Error(why) = answer {
                    // Such as "file exists": asking again does not change it.
                    return Err(Failure::lasting(format!("refused: {why}")));
                }
                if let Some(result) = wanted(answer) {
                    if is_first {
                        let trip = sent.elapsed().saturating_mul(4);
                        self.patience = trip.clamp(HASTE, PATIENCE.1);
                    }
                    return result;
                }
            }
            patience = patience.saturating_mul(2).min(most);
            is_first = false;
        }
        Err(Failure::passing("the server does not answer"))
    }

    /// The next packet of the server; `None` when the time is over.
    fn receive(&mut self, patient: Deadline) -> Result<Option<Answer>, Failure> {
        let mut packet = [0; 1024];
        loop {
            let Ok(limit) = patient.timeout() else {
                return Ok(None);
            };
            self.socket
                .set_read_timeout(Some(limit))
                .reason("wait for the server")?;
            use io::ErrorKind as K;
            let (len, from) = match self.socket.recv_from(&mut packet) {
                Ok(received) => received,
                Err(e) if matches!(e.kind(), K::WouldBlock | K::TimedOut | K::Interrupted) => {
                    continue;
                }
                Err(error) => return Err(error).reason("wait for the server"),
            };
            // Each transfer has a port of its own; anybody else's packet is none of ours.
            let ours = from.ip() == self.peer.ip() && (!self.answered || from == self.peer);
            if !ours {
                continue;
            }
            if let Some(answer) = parse(packet.get(..len).unwrap_or(&[])) {
                self.answered = true;
                self.peer = from;
                return Ok(Some(answer));
            }
        }
    }

    /// Sends what waits as the next block.
    fn send_block(&mut self) -> Result<(), Failure> {
        self.number = self.number.wrapping_add(1);
        let number = self.number;
        let mut packet = vec![0, 3];
        packet.extend(number.to_be_bytes());
        packet.append(&mut self.waiting);
        self.exchange(&packet, |answer| match answer {
            Answer::Ack(n) if n == number => Some(Ok(())),
            _ => None,
        })
    }
}

fn parse(packet: &[u8]) -> Option<Answer> {
    let (code, rest) = packet.split_first_chunk::<2>()?;
    match u16::from_be_bytes(*code) {
        4 => rest
            .first_chunk::<2>()
            .map(|n| Answer::Ack(u16::from_be_bytes(*n))),
        5 => {
            let (code, text) = rest.split_first_chunk::<2>()?;
            let text = text.split(|&b| b == 0).next().unwrap_or(&[]);
            let code = u16::from_be_bytes(*code);
            Some(Answer::Error(format!("{} (code {code})", line(text))))
        }
        6 => {
            let mut words = rest.split(|&b| b == 0);
            let mut block = PLAIN_BLOCK;
            while let (Some(key), Some(value)) = (words.next(), words.next()) {
                if key.eq_ignore_ascii_case(b"blksize") {
                    block = std::str::from_utf8(value).ok()?.parse().ok()?;
                }
            }
            Some(Answer::Options(block))
        }
        _ => None,
    }
}

impl Write for Transfer {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let len = buf.len().min(self.block - self.waiting.len());
        self.waiting.extend(&buf[..len]);
        if self.waiting.len() == self.block {
            self.send_block()
                .map_err(|failure| io::Error::other(failure.why))?;
        }
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Checks the options.
///
/// # Errors
/// One line.
pub fn check(url: &Url) -> Result<(), String> {
    url.number("blksize", (8, 65_464)).map(drop)
}

/// `tftp://host/path`.
pub fn send(
    url: &Url,
    payload: &Payload<'_>,
    attempt: &mut Attempt,
    deadline: Deadline,
) -> Delivered {
    let path = name::fill(&url.path, payload.meta());
    let path = decode(path.strip_prefix('/').unwrap_or(&path)).map_err(Failure::lasting)?;
    let port = url.port.unwrap_or(PORT);
    let peer = *resolve(&url.host, port, deadline)?
        .first()
        .ok_or_else(|| Failure::passing("no address"))?;
    // Large packets that vanish on the way are not noticed by UDP: the second attempt takes the smallest.
    let block = match attempt.number {
        0 => url
            .number("blksize", (8, 65_464))
            .ok()
            .flatten()
            .unwrap_or(BLOCK),
        _ => PLAIN_BLOCK as u64,
    };
    let mut transfer = Transfer {
        socket: datagram(peer).reason("open a socket")?,
        peer,
        answered: false,
        deadline,
        patience: PATIENCE.0,
        block: PLAIN_BLOCK,
        number: 0,
        waiting: Vec::new(),
    };
    let len = payload.len();
    let request = format!("\0\x02{path}\0octet\0blksize\0{block}\0tsize\0{len}\0timeout\01\0");
    transfer.block = transfer.exchange(request.as_bytes(), |answer| match answer {
        Answer::Options(agreed) if (8..=block).contains(&(agreed as u64)) => Some(Ok(agreed)),
        Answer::Options(agreed) => Some(Err(Failure::lasting(format!(
            "the server answers {block} with blocks of {agreed}"
        )))),
        Answer::Ack(0) => Some(Ok(PLAIN_BLOCK)),
        _ => None,
    })?;
    payload.write(&mut transfer).reason("send")?;
    // Always one short block, empty if need be: it tells the end.
    transfer.send_block()?;
    Ok(Outcome::Stored)
}

#[cfg(test)]
mod tests {
    use super::super::Part;
    use super::super::payload::tests::fake;
    use super::*;

    /// A server that loses every `loss`th packet both ways and answers twice; returns the file.
    fn serve(socket: UdpSocket, options: bool, loss: u32) -> Vec<u8> {
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let (mut file, mut expected, mut count, mut done) = (Vec::new(), 1u16, 0u32, false);
        let mut packet = [0; 2000];
        let mut block = 512;
        loop {
            let Ok((len, peer)) = socket.recv_from(&mut packet) else {
                return file;
            };
            count += 1;
            if loss != 0 && count % loss == 0 {
                continue;
            }
            let answer = match packet[1] {
                2 if options => {
                    block = 1400;
                    b"\0\x06blksize\x001400\0tsize\x001\0".to_vec()
                }
                2 => vec![0, 4, 0, 0],
                3 => {
                    let number = u16::from_be_bytes([packet[2], packet[3]]);
                    if number == expected && !done {
                        file.extend(&packet[4..len]);
                        expected = expected.wrapping_add(1);
                        done = len - 4 < block;
                        if done {
                            socket
                                .set_read_timeout(Some(Duration::from_millis(500)))
                                .unwrap();
                        }
                    }
                    vec![0, 4, packet[2], packet[3]]
                }
                _ => continue,
            };
            count += 1;
            if loss == 0 || count % loss != 0 {
                socket.send_to(&answer, peer).unwrap();
                socket.send_to(&answer, peer).unwrap();
            }
        }
    }

    fn transfer(records: u64, options: bool, loss: u32) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let url = Url {
            host: "127.0.0.1".into(),
            port: Some(socket.local_addr().unwrap().port()),
            path: "/x/".into(),
            ..Url::default()
        };
        let server = std::thread::spawn(move || serve(socket, options, loss));
        let fake = fake(records);
        let payload = Payload::new(&fake, Part::Full, "");
        let mut attempt = Attempt::default();
        let soon = Deadline::after(Duration::from_secs(20));
        let outcome = send(&url, &payload, &mut attempt, soon).unwrap();
        assert_eq!(outcome, Outcome::Stored);
        let mut text = Vec::new();
        payload.write(&mut text).unwrap();
        assert_eq!(server.join().unwrap(), text);
    }

    #[test]
    fn the_file_arrives_with_and_without_options() {
        transfer(300, true, 0);
        transfer(300, false, 0);
    }

    #[test]
    fn lost_packets_are_sent_again() {
        transfer(300, true, 3);
    }

    #[test]
    fn hostile_packets_are_nothing() {
        for bad in [
            &b""[..],
            b"\0",
            b"\0\x04",
            b"\0\x04\0",
            b"\0\x09xx",
            b"\0\x05\0",
            b"\0\x06blksize\0-1\0",
        ] {
            assert!(parse(bad).is_none());
        }
        assert!(matches!(
            parse(b"\0\x06blksize"),
            Some(Answer::Options(512))
        ));
    }
}
