//! DNS: an address for a name, for those who configured a name.
//!
//! A statically linked glibc has no resolver, so this is one: A and AAAA over UDP, over TCP when the answer was cut,
//! CNAMEs followed, servers from /etc/resolv.conf; the sinks look into /etc/hosts first. No cache, no DNSSEC, no search
//! domains. Everything is bounded by a deadline; every answer is matched with its question.
//!
//! ```text
//! | id | flags | questions | answers | authority | additional |     six u16, network order
//! | name | type | class |                                           question
//! | name | type | class | ttl u32 | len u16 | data |                answer
//! ```
//!
//! Specified in RFC 1035; AAAA in RFC 3596.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use crate::deadline::Deadline;

const DNS_PORT: u16 = 53;
const TYPE_A: u16 = 1;
const TYPE_CNAME: u16 = 5;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;
const HEADER_LEN: usize = 12;
/// RFC 1035: a name takes 255 bytes at most, a label 63.
const NAME_LEN_MAX: usize = 255;
const LABEL_LEN_MAX: usize = 63;
/// Aliases followed in one answer and from answer to answer.
const ALIASES_MAX: usize = 8;
const SERVERS_MAX: usize = 4;
const ADDRESSES_MAX: usize = 16;
/// How long a server may take before the next one is asked; doubled with every round.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The addresses of `host`, IPv4 first; an address in text form is its own answer.
///
/// # Errors
/// `NotFound` when the name does not exist, `TimedOut` when no server answered in time, each with a text.
pub fn resolve(host: &str, deadline: Deadline) -> io::Result<Vec<IpAddr>> {
    if let Ok(address) = crate::config::ip::address(host) {
        return Ok(vec![address]);
    }
    let servers = servers(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default());
    if servers.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("{host}: no name server is configured"),
        ));
    }
    ask_all(host, &servers, deadline)
}

fn servers(text: &str) -> Vec<SocketAddr> {
    let lines = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addresses = lines.filter_map(|rest| rest.trim().parse::<IpAddr>().ok());
    addresses
        .map(|address| SocketAddr::new(address, DNS_PORT))
        .take(SERVERS_MAX)
        .collect()
}

/// Asks one server after the other, round after round, until one knows.
fn ask_all(host: &str, servers: &[SocketAddr], deadline: Deadline) -> io::Result<Vec<IpAddr>> {
    let mut wait = FIRST_WAIT;
    let mut why = "no answer".to_owned();
    while !deadline.passed() {
        for server in servers {
            match ask_server(host, *server, deadline.within(wait)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(error),
                Ok(addresses) => return Ok(addresses),
                Err(error) => {
                    why = format!("name server {}: {error}", server.ip());
                    if error.kind() != io::ErrorKind::TimedOut {
                        deadline.sleep(Duration::from_millis(100));
                    }
                }
            }
        }
        wait = wait.saturating_mul(2);
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        format!("{host}: {why}"),
    ))
}

/// Both families from one server, aliases followed.
fn ask_server(host: &str, server: SocketAddr, deadline: Deadline) -> io::Result<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    let mut failure = None;
    for kind in [TYPE_A, TYPE_AAAA] {
        match follow(host, kind, server, deadline) {
            Ok(found) => addresses.extend(found),
            Err(error) => failure = Some(error),
        }
    }
    match failure {
        Some(error) if addresses.is_empty() => Err(error),
        None if addresses.is_empty() => Err(not_found(host, "has no address")),
        _ => Ok(addresses),
    }
}

fn follow(
    host: &str,
    kind: u16,
    server: SocketAddr,
    deadline: Deadline,
) -> io::Result<Vec<IpAddr>> {
    let mut name = host.trim_end_matches('.').to_ascii_lowercase();
    for _ in 0..ALIASES_MAX {
        let id = u16::try_from(super::random() >> 16).unwrap_or(0);
        let question =
            question(id, &name, kind).ok_or_else(|| not_found(host, "is no host name"))?;
        let answer = over_udp(&question, server, deadline)?;
        let answer = if is_cut(&answer) {
            over_tcp(&question, server, deadline).unwrap_or(answer)
        } else {
            answer
        };
        match read_answer(&answer, &name, kind)? {
            Answer::Addresses(addresses) => return Ok(addresses),
            Answer::Alias(other) => name = other,
        }
    }
    Err(not_found(host, "is an alias of an alias without end"))
}

fn not_found(host: &str, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{host} {what}"))
}

fn question(id: u16, name: &str, kind: u16) -> Option<Vec<u8>> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]); // recursion desired, one question
    for label in name.split('.') {
        let len = u8::try_from(label.len())
            .ok()
            .filter(|len| (1..=LABEL_LEN_MAX).contains(&usize::from(*len)))?;
        bytes.push(len);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend(CLASS_IN.to_be_bytes());
    (bytes.len() <= HEADER_LEN + NAME_LEN_MAX + 4).then_some(bytes)
}

fn over_udp(question: &[u8], server: SocketAddr, deadline: Deadline) -> io::Result<Vec<u8>> {
    let any: IpAddr = if server.is_ipv4() {
        [0; 4].into()
    } else {
        [0_u8; 16].into()
    };
    let socket = UdpSocket::bind((any, 0))?;
    // Connected: the kernel then drops what comes from elsewhere, and tells when nobody listens.
    socket.connect(server)?;
    socket.send(question)?;
    let mut buffer = vec![0; 4096];
    loop {
        socket.set_read_timeout(Some(deadline.timeout()?))?;
        let len = match socket.recv(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            result => result?,
        };
        if answers(&buffer[..len], question) {
            buffer.truncate(len);
            return Ok(buffer);
        }
    }
}

fn over_tcp(question: &[u8], server: SocketAddr, deadline: Deadline) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, deadline.timeout()?)?;
    stream.set_write_timeout(Some(deadline.timeout()?))?;
    let len = u16::try_from(question.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&len.to_be_bytes(), question].concat())?;
    let mut len = [0; 2];
    read_in_time(&mut stream, &mut len, deadline)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
    read_in_time(&mut stream, &mut answer, deadline)?;
    if answers(&answer, question) {
        Ok(answer)
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// `read_exact` with one limit for all of it: a server that sends a byte a second must not win.
fn read_in_time(
    stream: &mut TcpStream,
    mut buffer: &mut [u8],
    deadline: Deadline,
) -> io::Result<()> {
    while !buffer.is_empty() {
        stream.set_read_timeout(Some(deadline.timeout()?))?;
        match stream.read(buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            len => buffer = &mut buffer[len..],
        }
    }
    Ok(())
}

/// Whether `answer` is one to `question`: the same id, a response, the same name and type.
fn answers(answer: &[u8], question: &[u8]) -> bool {
    let is_response = answer.get(2).is_some_and(|flags| flags & 0x80 != 0);
    let same =
        |range: std::ops::Range<usize>| match (answer.get(range.clone()), question.get(range)) {
            (Some(one), Some(other)) => one.eq_ignore_ascii_case(other),
            _ => false,
        };
    is_response && same(0..2) && same(4..6) && same(HEADER_LEN..question.len())
}

fn is_cut(answer: &[u8]) -> bool {
    answer.get(2).is_some_and(|flags| flags & 2 != 0)
}

enum Answer {
    Addresses(Vec<IpAddr>),
    Alias(String),
}

/// What an answer says about `name`.
fn read_answer(bytes: &[u8], name: &str, kind: u16) -> io::Result<Answer> {
    match bytes.get(3).map(|flags| flags & 0x0f) {
        Some(0) => {}
        Some(3) => return Err(not_found(name, "does not exist")),
        code => {
            return Err(io::Error::other(format!(
                "failed with code {}",
                code.unwrap_or(15)
            )));
        }
    }
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "damaged answer");
    let mut wanted = name.to_owned();
    let mut addresses = Vec::new();
    // An alias may come after its target, so aliases are followed in several passes.
    for _ in 0..ALIASES_MAX {
        let mut alias = None;
        let mut records = Records::open(bytes).ok_or_else(damaged)?;
        while let Some(record) = records.next().map_err(|()| damaged())? {
            match record.kind {
                _ if record.name != wanted => {}
                TYPE_CNAME => alias = name_at(bytes, record.data_offset).map(|(alias, _)| alias),
                found if found == kind && addresses.len() < ADDRESSES_MAX => {
                    addresses.extend(record.address())
                }
                _ => {}
            }
        }
        match alias {
            Some(alias) if addresses.is_empty() => wanted = alias,
            _ => break,
        }
    }
    if addresses.is_empty() && wanted != name {
        return Ok(Answer::Alias(wanted));
    }
    Ok(Answer::Addresses(addresses))
}

/// The answers of a message, one after the other.
struct Records<'a> {
    bytes: &'a [u8],
    offset: usize,
    left: u16,
}

struct Record<'a> {
    name: String,
    kind: u16,
    data: &'a [u8],
    data_offset: usize,
}

impl<'a> Records<'a> {
    fn open(bytes: &'a [u8]) -> Option<Self> {
        let left = be16(bytes, 6)?;
        let (_, offset) = name_at(bytes, HEADER_LEN)?;
        Some(Records {
            bytes,
            offset: offset + 4,
            left,
        })
    }

    fn next(&mut self) -> Result<Option<Record<'a>>, ()> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        // A cut answer ends in the middle: what came before it is good.
        self.record().map(Some).ok_or(())
    }

    fn record(&mut self) -> Option<Record<'a>> {
        let (name, offset) = name_at(self.bytes, self.offset)?;
        let kind = be16(self.bytes, offset)?;
        let len = usize::from(be16(self.bytes, offset + 8)?);
        let data_offset = offset + 10;
        let data = self.bytes.get(data_offset..data_offset + len)?;
        self.offset = data_offset + len;
        Some(Record {
            name,
            kind,
            data,
            data_offset,
        })
    }
}

impl Record<'_> {
    fn address(&self) -> Option<IpAddr> {
        match self.kind {
            TYPE_A => <[u8; 4]>::try_from(self.data).ok().map(IpAddr::from),
            _ => <[u8; 16]>::try_from(self.data).ok().map(IpAddr::from),
        }
    }
}

/// The name at `offset` in lower case, and where what follows it starts. A pointer may only point backwards, so that
/// no chain of them is endless.
fn name_at(bytes: &[u8], offset: usize) -> Option<(String, usize)> {
    let mut name = String::new();
    let mut at = offset;
    let mut end = None;
    loop {
        let len = usize::from(*bytes.get(at)?);
        match len {
            0 => return Some((name, end.unwrap_or(at + 1))),
            1..=LABEL_LEN_MAX => {
                let label = bytes.get(at + 1..at + 1 + len)?;
                if !name.is_empty() {
                    name.push('.');
                }
                name.extend(
                    label
                        .iter()
                        .map(|byte| char::from(byte.to_ascii_lowercase())),
                );
                at += 1 + len;
            }
            0xc0.. => {
                let target = usize::from(be16(bytes, at)? & 0x3fff);
                end = end.or(Some(at + 2));
                at = (target < at).then_some(target)?;
            }
            _ => return None,
        }
        if name.chars().count() > NAME_LEN_MAX {
            return None;
        }
    }
}

fn be16(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes
        .get(offset..)?
        .first_chunk()
        .map(|chunk| u16::from_be_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// An answer to `question` with records of (name, type, data), names given as bytes.
    fn answer(question: &[u8], records: &[(&[u8], u16, &[u8])]) -> Vec<u8> {
        let mut bytes = question.to_vec();
        bytes[2] |= 0x80;
        bytes[7] = u8::try_from(records.len()).unwrap();
        for (name, kind, data) in records {
            bytes.extend(*name);
            bytes.extend(kind.to_be_bytes());
            bytes.extend([0, 1, 0, 0, 0, 60]);
            bytes.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
            bytes.extend(*data);
        }
        bytes
    }

    const POINTER_TO_QUESTION: &[u8] = &[0xc0, 12];

    #[test]
    fn addresses_of_the_name_are_taken_and_others_are_not() {
        let asked = question(7, "log.example", TYPE_A).unwrap();
        let bytes = answer(
            &asked,
            &[
                (POINTER_TO_QUESTION, TYPE_A, &[10, 0, 0, 1]),
                (b"\x04evil\0", TYPE_A, &[6, 6, 6, 6]),
                (POINTER_TO_QUESTION, TYPE_A, &[1, 2, 3]),
                (POINTER_TO_QUESTION, TYPE_A, &[10, 0, 0, 2]),
            ],
        );
        assert!(answers(&bytes, &asked));
        let Answer::Addresses(found) = read_answer(&bytes, "log.example", TYPE_A).unwrap() else {
            panic!()
        };
        assert_eq!(
            found,
            [IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])]
        );
    }

    #[test]
    fn aliases_are_followed_inside_an_answer_and_out_of_it() {
        let asked = question(7, "log.example", TYPE_A).unwrap();
        let alias: (&[u8], u16, &[u8]) = (POINTER_TO_QUESTION, TYPE_CNAME, b"\x01c\x07example\0");
        // The target stands before the alias that leads to it.
        let bytes = answer(
            &asked,
            &[(b"\x01C\x07exAmple\0", TYPE_A, &[10, 0, 0, 9]), alias],
        );
        let Answer::Addresses(found) = read_answer(&bytes, "log.example", TYPE_A).unwrap() else {
            panic!()
        };
        assert_eq!(found, [IpAddr::from([10, 0, 0, 9])]);
        let bytes = answer(&asked, &[alias]);
        assert!(
            matches!(read_answer(&bytes, "log.example", TYPE_A), Ok(Answer::Alias(name)) if name == "c.example")
        );
    }

    #[test]
    fn loops_cuts_and_flips_end() {
        let asked = question(7, "a.b", TYPE_A).unwrap();
        let own = u8::try_from(asked.len()).unwrap();
        let bytes = answer(&asked, &[(&[0xc0, own], TYPE_A, &[10, 0, 0, 1])]);
        assert!(read_answer(&bytes, "a.b", TYPE_A).is_err());
        let looped = answer(
            &asked,
            &[(POINTER_TO_QUESTION, TYPE_CNAME, POINTER_TO_QUESTION)],
        );
        assert!(
            matches!(read_answer(&looped, "a.b", TYPE_A), Ok(Answer::Addresses(found)) if found.is_empty())
        );
        let good = answer(&asked, &[(POINTER_TO_QUESTION, TYPE_A, &[10, 0, 0, 1])]);
        for len in 0..good.len() {
            assert!(read_answer(&good[..len], "a.b", TYPE_A).is_err());
        }
        for at in 0..good.len() {
            for value in 0..=255 {
                let mut bytes = good.clone();
                bytes[at] = value;
                let _ = read_answer(&bytes, "a.b", TYPE_A);
            }
        }
    }

    #[test]
    fn an_answer_has_to_match_its_question() {
        let asked = question(0x0102, "a.b", TYPE_A).unwrap();
        let good = answer(&asked, &[]);
        assert!(answers(&good, &asked));
        for at in [0, 1, 2, 13, asked.len() - 3] {
            let mut bytes = good.clone();
            bytes[at] ^= 0x81;
            assert!(!answers(&bytes, &asked), "byte {at}");
        }
    }

    #[test]
    fn names_that_cannot_be_are_not_asked() {
        assert!(question(1, "a..b", TYPE_A).is_none());
        assert!(question(1, &"a".repeat(64), TYPE_A).is_none());
        assert!(question(1, &"abcdefg.".repeat(40), TYPE_A).is_none());
    }

    #[test]
    fn resolv_conf_is_read() {
        let servers =
            servers("search x\nnameserver 10.0.0.3\nnameserver fe80::1\nnameserver nonsense\n");
        assert_eq!(servers.len(), 2);
    }

    /// A server that answers every question by `make`, as often as `count`.
    fn server(count: usize, make: fn(&[u8]) -> Vec<u8>) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 512];
            for _ in 0..count {
                let (len, from) = socket.recv_from(&mut buffer).unwrap();
                socket.send_to(&make(&buffer[..len]), from).unwrap();
            }
        });
        address
    }

    fn one_address(question: &[u8]) -> Vec<u8> {
        match question[question.len() - 3] {
            1 => answer(question, &[(POINTER_TO_QUESTION, TYPE_A, &[10, 0, 0, 1])]),
            _ => answer(question, &[]),
        }
    }

    #[test]
    fn a_server_that_fails_is_passed_over_for_one_that_answers() {
        let broken = server(2, |question| {
            let mut bytes = answer(question, &[]);
            bytes[3] |= 2;
            bytes
        });
        let good = server(2, one_address);
        let found = ask_all(
            "a.b",
            &[broken, good],
            Deadline::after(Duration::from_secs(5)),
        )
        .unwrap();
        assert_eq!(found, [IpAddr::from([10, 0, 0, 1])]);
    }

    #[test]
    fn a_silent_server_costs_no_more_than_the_deadline() {
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let started = std::time::Instant::now();
        let deadline = Deadline::after(Duration::from_millis(300));
        let error = ask_all("a.b", &[silent.local_addr().unwrap()], deadline).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn a_name_that_does_not_exist_is_final() {
        let server = server(2, |question| {
            let mut bytes = answer(question, &[]);
            bytes[3] |= 3;
            bytes
        });
        let error = ask_all("a.b", &[server], Deadline::after(Duration::from_secs(5))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
