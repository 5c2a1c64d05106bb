//! Connections that end: every connect, read and write waits at most until the deadline.
//!
//! A peer may accept and never read, send one byte a second, or answer without end; the socket's time limits are
//! set from the deadline before every call, and [`Stream::line`] is bounded. A clean end is one that the peer shares
//! ([`Stream::finish`]): our data left in the kernel's buffers would die with the reboot.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr, SocketAddrV6, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use super::url::Url;
use super::{Failure, Reason};
use crate::deadline::Deadline;
use crate::sys::socket::unsent;

/// Longest a single address may keep us when a name has several.
const CONNECT: Duration = Duration::from_secs(10);

/// Longest wait for the peer's side of a clean end.
const FINISH: Duration = Duration::from_secs(5);

/// How often the kernel is asked whether all is acknowledged.
const LOOK: Duration = Duration::from_millis(200);

/// Most a peer may say after we said everything.
const FAREWELL: usize = 64 << 10;

/// The addresses of a host: literal, from `/etc/hosts`, or looked up.
///
/// # Errors
/// There is none, or the name could not be looked up in time.
pub fn resolve(host: &str, port: u16, deadline: Deadline) -> Result<Vec<SocketAddr>, Failure> {
    if let Some(address) = literal(host, port)? {
        return Ok(vec![address]);
    }
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let mut found = from_hosts(&hosts, host);
    if found.is_empty() && host.eq_ignore_ascii_case("localhost") {
        found = vec![
            IpAddr::from([127, 0, 0, 1]),
            IpAddr::from(Ipv6Addr::LOCALHOST),
        ];
    }
    if found.is_empty() {
        // A name that does not exist now may exist when its server is back: never final.
        found = crate::net::dns::resolve(host, deadline)
            .map_err(|error| Failure::passing(format!("look up: {error}")))?;
    }
    Ok(found
        .into_iter()
        .map(|ip| SocketAddr::new(ip, port))
        .collect())
}

/// An address written as such; the zone of a link-local one is an interface name or number.
fn literal(host: &str, port: u16) -> Result<Option<SocketAddr>, Failure> {
    let Some((address, zone)) = host.split_once('%') else {
        return Ok(host.parse().ok().map(|ip| SocketAddr::new(ip, port)));
    };
    let Ok(address) = address.parse::<Ipv6Addr>() else {
        return Ok(None);
    };
    let number = || {
        std::fs::read_to_string(format!("/sys/class/net/{zone}/ifindex"))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    let scope = zone.parse().ok().or_else(number);
    let scope =
        scope.ok_or_else(|| Failure::passing(format!("no interface \"{zone}\" for {host}")))?;
    Ok(Some(SocketAddrV6::new(address, port, 0, scope).into()))
}

fn from_hosts(hosts: &str, name: &str) -> Vec<IpAddr> {
    let lines = hosts.lines().filter_map(|line| {
        let line = line.split('#').next().unwrap_or("");
        let mut words = line.split_whitespace();
        let ip = words.next()?.parse().ok()?;
        words.any(|w| w.eq_ignore_ascii_case(name)).then_some(ip)
    });
    lines.take(8).collect()
}

/// A TCP connection with a deadline.
pub struct Stream {
    socket: TcpStream,
    deadline: Deadline,
    /// Read from the peer, not yet taken.
    input: Vec<u8>,
    taken: usize,
}

impl Stream {
    /// Connects to the URL's host.
    ///
    /// # Errors
    /// The reason of the last address tried.
    pub fn open(url: &Url, port: u16, deadline: Deadline) -> Result<Self, Failure> {
        let port = url.port.unwrap_or(port);
        let mut failure = Failure::passing("no address");
        for address in resolve(&url.host, port, deadline)? {
            match Stream::to(address, deadline) {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Connects to an address.
    ///
    /// # Errors
    /// It refused, cannot be reached or did not answer in time.
    pub fn to(address: SocketAddr, deadline: Deadline) -> Result<Self, Failure> {
        let connect = || {
            let limit = deadline.within(CONNECT).timeout()?;
            let socket = TcpStream::connect_timeout(&address, limit)?;
            // Small requests wait for answers; what is large is buffered by the writers.
            socket.set_nodelay(true)?;
            Ok(socket)
        };
        let socket = connect().reason(&format!("connect to {address}"))?;
        Ok(Stream {
            socket,
            deadline,
            input: Vec::new(),
            taken: 0,
        })
    }

    /// The address connected to.
    pub fn peer(&self) -> io::Result<SocketAddr> {
        self.socket.peer_addr()
    }

    /// Our own address.
    pub fn local(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Reads more of what the peer says; 0 at its end.
    fn fill(&mut self) -> io::Result<usize> {
        self.socket
            .set_read_timeout(Some(self.deadline.timeout()?))?;
        self.input.clear();
        self.taken = 0;
        self.input.resize(4096, 0);
        let read = retry(|| self.socket.read(&mut self.input));
        self.input.truncate(*read.as_ref().unwrap_or(&0));
        read
    }

    /// A line without its end, at most `max` bytes.
    ///
    /// # Errors
    /// The peer ended before the line did, took too long or said too much.
    pub fn line(&mut self, max: usize) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        let mut byte = [0];
        loop {
            if self.read(&mut byte)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if byte[0] == b'\n' {
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                return Ok(line);
            }
            if line.len() >= max {
                return Err(too_long());
            }
            line.push(byte[0]);
        }
    }

    /// Says that we are done; the peer may still answer.
    pub fn end(&mut self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }

    /// Says that we are done and waits for the peer to say so too. On a slow path the kernel may still have a lot to
    /// send, so the wait for the peer begins when all is acknowledged.
    ///
    /// # Errors
    /// It did not, or reset the connection: nobody knows how much it has read.
    pub fn finish(mut self) -> io::Result<()> {
        self.end()?;
        let end = self.deadline;
        let mut last = end;
        let mut heard = 0;
        loop {
            self.deadline = last.within(LOOK);
            match self.fill() {
                Ok(0) => return Ok(()),
                Ok(more) => heard += more,
                Err(error) if error.kind() != io::ErrorKind::TimedOut => return Err(error),
                Err(error) if last.passed() => return Err(error),
                Err(_) => {}
            }
            if heard > FAREWELL {
                return Err(too_long());
            }
            if last == end && unsent(self.socket.as_fd()).unwrap_or(0) == 0 {
                last = end.within(FINISH);
            }
        }
    }
}

/// The peer said more than anybody needs.
fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the answer is too long")
}

/// A call that a signal interrupts is made again; one whose time is over says so.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::ErrorKind::TimedOut.into());
            }
            result => return result,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.taken >= self.input.len() && self.fill()? == 0 {
            return Ok(0);
        }
        let waiting = self.input.get(self.taken..).unwrap_or(&[]);
        let len = waiting.len().min(buf.len());
        buf[..len].copy_from_slice(&waiting[..len]);
        self.taken += len;
        Ok(len)
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.socket
            .set_write_timeout(Some(self.deadline.timeout()?))?;
        retry(|| self.socket.write(buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A datagram socket for the peer's address family.
///
/// # Errors
/// None can be had.
pub fn datagram(peer: SocketAddr) -> io::Result<UdpSocket> {
    UdpSocket::bind(match peer {
        SocketAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    })
}

/// Datagrams to one peer, paced so that an ordinary receiver's buffer holds them.
pub struct Datagrams {
    socket: UdpSocket,
    deadline: Deadline,
    sent: u32,
}

impl Datagrams {
    /// Largest datagram: fits every path's MTU together with IPv6 and tunnel headers.
    pub const LEN: usize = 1200;

    /// Datagrams in a burst; an unconfigured Linux receiver holds about 270 small ones.
    const BURST: u32 = 16;

    /// Pause after a burst.
    const PAUSE: Duration = Duration::from_millis(2);

    /// How long a refusal (ICMP port unreachable) may take to come back.
    const REFUSAL: Duration = Duration::from_millis(100);

    /// A socket connected to the URL's host, so that its refusal is heard.
    ///
    /// # Errors
    /// The host has no address, or there is no way to it.
    pub fn open(url: &Url, port: u16, deadline: Deadline) -> Result<Self, Failure> {
        let addresses = resolve(&url.host, url.port.unwrap_or(port), deadline)?;
        let mut failure = Failure::passing("no address");
        for peer in addresses {
            let connect = || {
                let socket = datagram(peer)?;
                socket.connect(peer)?;
                Ok(socket)
            };
            match connect().reason(&format!("connect to {peer}")) {
                Ok(socket) => {
                    return Ok(Datagrams {
                        socket,
                        deadline,
                        sent: 0,
                    });
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Sends one datagram.
    ///
    /// # Errors
    /// The deadline has passed, or the peer refused an earlier one.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sent += 1;
        if self.sent.is_multiple_of(Self::BURST) {
            std::thread::sleep(Self::PAUSE);
        }
        self.socket
            .set_write_timeout(Some(self.deadline.timeout()?))?;
        retry(|| self.socket.send(bytes)).map(|_| ())
    }

    /// Waits a moment for a refusal.
    ///
    /// # Errors
    /// The peer's machine says that nobody listens there.
    pub fn finish(self) -> io::Result<()> {
        self.socket.set_read_timeout(Some(Self::REFUSAL))?;
        match retry(|| self.socket.recv(&mut [0; 16])) {
            Err(e) if e.kind() != io::ErrorKind::TimedOut => Err(e),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: &str =
        "127.0.0.1 localhost lo # x\n10.0.0.7\tcollector logs\n::1 logs\nnonsense logs\n";

    #[test]
    fn names_in_the_hosts_file_have_all_their_addresses() {
        assert_eq!(from_hosts(HOSTS, "LOGS").len(), 2);
        assert_eq!(from_hosts(HOSTS, "x").len(), 0);
    }

    #[test]
    fn a_literal_address_needs_no_lookup() {
        let soon = Deadline::after(Duration::from_secs(1));
        for (host, text) in [("10.1.2.3", "10.1.2.3:5"), ("::1", "[::1]:5")] {
            assert_eq!(resolve(host, 5, soon).unwrap()[0].to_string(), text);
        }
        assert_eq!(
            resolve("fe80::1%lo", 5, soon).unwrap()[0].to_string(),
            "[fe80::1%1]:5"
        );
        assert!(resolve("fe80::1%nosuch0", 5, soon).is_err());
    }

    #[test]
    fn a_peer_that_never_answers_ends_at_the_deadline() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let soon = Deadline::after(Duration::from_millis(100));
        let mut stream = Stream::to(listener.local_addr().unwrap(), soon).unwrap();
        let error = stream.line(100).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let full = loop {
            if let Err(error) = stream.write_all(&[0; 65536]) {
                break error;
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_refused_datagram_is_noticed() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let url = Url {
            host: "127.0.0.1".into(),
            port: Some(socket.local_addr().unwrap().port()),
            ..Url::default()
        };
        drop(socket);
        let soon = Deadline::after(Duration::from_secs(5));
        let mut out = Datagrams::open(&url, 0, soon).unwrap();
        out.send(b"x").unwrap();
        assert_eq!(
            out.finish().unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
    }
}
