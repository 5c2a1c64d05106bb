//! FTP: one file in binary over a passive data connection.
//!
//! ```text
//! <- 220 ready            -> USER, PASS      <- 230     -> TYPE I
//! -> EPSV                 <- 229 Entering Extended Passive Mode (|||30001|)
//! -> STOR dir/.name.part  <- 150, 226 Transfer complete
//! -> RNFR, RNTO           <- 350, 250        -> QUIT
//! ```
//!
//! RFC 959, 2428. Written under a temporary name and renamed, so that a file of the final name is complete; where a server
//! refuses to rename (a drop box for anonymous uploads) the final name is written directly, and 226 tells that it is
//! complete. The data connection goes to the host of the control connection, whatever address PASV tells.

use std::io::{BufWriter, Write};
use std::net::SocketAddr;

use super::connect::Stream;
use super::text::line;
use super::url::{Url, decode};
use super::{Attempt, Delivered, Failure, Outcome, Payload, Reason, name};
use crate::deadline::Deadline;

/// FTP's port.
const PORT: u16 = 21;

/// Longest line of a reply, and most lines.
const LINE_LEN: usize = 2048;
const LINES: usize = 200;

struct Ftp {
    control: Stream,
}

/// A reply: its code and the text of its last line.
struct Reply(u16, String);

impl Reply {
    /// # Errors
    /// The code is not of this class (`2` for 2xx).
    fn expect(self, class: u16, step: &str) -> Result<Self, Failure> {
        if self.0 / 100 == class {
            return Ok(self);
        }
        Err(Failure {
            why: format!("{step}: {} {}", self.0, self.1),
            again: self.0 / 100 == 4,
        })
    }
}

impl Ftp {
    fn reply(&mut self) -> Result<Reply, Failure> {
        let mut first = None;
        for _ in 0..LINES {
            let text = self.control.line(LINE_LEN).reason("read a reply")?;
            let text = line(&text);
            let (code, rest) = text.split_at_checked(3).unwrap_or(("", ""));
            let code = code.parse::<u16>().ok().filter(|c| (100..600).contains(c));
            // "123-" starts a reply of several lines, which ends with "123 ".
            let more = rest.starts_with('-');
            match (first, code) {
                (None, None) => return Err(Failure::lasting(format!("not FTP: \"{text}\""))),
                (None, Some(code)) if more => first = Some(code),
                (None, Some(code)) => return Ok(Reply(code, rest.trim().into())),
                (Some(first), Some(code)) if first == code && !more => {
                    return Ok(Reply(code, rest.trim().into()));
                }
                _ => {}
            }
        }
        Err(Failure::lasting("a reply without end"))
    }

    fn command(&mut self, command: &str) -> Result<Reply, Failure> {
        let sent = self.control.write_all(format!("{command}\r\n").as_bytes());
        sent.reason("send a command")?;
        self.reply()
    }

    fn login(&mut self, url: &Url) -> Result<(), Failure> {
        self.reply()?.expect(2, "greeting")?;
        let user = match url.user.as_str() {
            "" => "anonymous",
            user => user,
        };
        let mut reply = self.command(&format!("USER {user}"))?;
        if reply.0 == 331 {
            let password = url.password.as_deref().unwrap_or("crashdmesg@");
            reply = self.command(&format!("PASS {password}"))?;
        }
        reply.expect(2, "log in")?;
        self.command("TYPE I")?.expect(2, "TYPE I")?;
        Ok(())
    }

    /// Opens a data connection.
    fn data(&mut self, deadline: Deadline) -> Result<Stream, Failure> {
        let peer = self.control.peer().reason("find the server's address")?;
        let reply = self.command("EPSV")?;
        let port = if reply.0 == 229 {
            extended_port(&reply.1)
        } else {
            let reply = self.command("PASV")?.expect(2, "PASV")?;
            passive_port(&reply.1)
        };
        let port = port.ok_or_else(|| Failure::lasting("no data port in the reply"))?;
        Stream::to(SocketAddr::new(peer.ip(), port), deadline)
    }

    /// Stores the text under a path; the reply tells whether.
    fn store(
        &mut self,
        path: &str,
        payload: &Payload<'_>,
        deadline: Deadline,
    ) -> Result<Reply, Failure> {
        let data = self.data(deadline)?;
        let reply = self.command(&format!("STOR {path}"))?;
        if reply.0 / 100 != 1 {
            return Ok(reply);
        }
        let mut out = BufWriter::new(data);
        let sent = payload.write(&mut out).and_then(|()| out.flush());
        let (data, _) = out.into_parts();
        if let Err(error) = sent {
            // Why it broke off, such as a full disk, is on the control connection.
            drop(data);
            return match self.reply() {
                Ok(reply) if reply.0 >= 400 => Ok(reply),
                _ => Err(error).reason("send"),
            };
        }
        data.finish().reason("close the data connection")?;
        self.reply()
    }

    /// Makes the directories that lead to a path; that they exist is no error, and STOR tells of any other.
    fn make_parents(&mut self, path: &str) -> Result<(), Failure> {
        for (at, _) in path.match_indices('/').filter(|(at, _)| *at > 0) {
            self.command(&format!("MKD {}", &path[..at]))?;
        }
        Ok(())
    }
}

/// `Entering Extended Passive Mode (|||30001|)`
fn extended_port(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once('(')?;
    let separator = rest.chars().next()?;
    rest.split(separator).nth(3)?.parse().ok()
}

/// `Entering Passive Mode (127,0,0,1,117,49).`
fn passive_port(text: &str) -> Option<u16> {
    let mut numbers = text
        .rsplit(|c: char| !c.is_ascii_digit() && c != ',')
        .find(|part| part.contains(','))?
        .split(',')
        .skip(4);
    let high: u8 = numbers.next()?.parse().ok()?;
    let low: u8 = numbers.next()?.parse().ok()?;
    Some(u16::from_be_bytes([high, low]))
}

/// The path without the slash that separates it from the host: relative to where the login leads.
fn path(url: &Url, payload: &Payload<'_>) -> Result<String, Failure> {
    let path = name::fill(&url.path, payload.meta());
    let path = path.strip_prefix('/').unwrap_or(&path);
    decode(path).map_err(Failure::lasting)
}

/// `ftp://user:password@host/path`.
pub fn send(url: &Url, payload: &Payload<'_>, _: &mut Attempt, deadline: Deadline) -> Delivered {
    let path = path(url, payload)?;
    let mut ftp = Ftp {
        control: Stream::open(url, PORT, deadline)?,
    };
    ftp.login(url)?;
    let (directory, file) = match path.rsplit_once('/') {
        Some((directory, file)) => (format!("{directory}/"), file),
        None => (String::new(), path.as_str()),
    };
    let part = format!("{directory}{file}.part");
    let mut reply = ftp.store(&part, payload, deadline)?;
    if reply.0 / 100 == 5 && !directory.is_empty() {
        ftp.make_parents(&path)?;
        reply = ftp.store(&part, payload, deadline)?;
    }
    let whole = reply.expect(2, "store");
    let renamed = whole.and_then(|_| {
        ftp.command(&format!("RNFR {part}"))?.expect(3, "rename")?;
        ftp.command(&format!("RNTO {path}"))?.expect(2, "rename")
    });
    if let Err(failure) = renamed {
        if failure.again || deadline.passed() {
            return Err(failure);
        }
        ftp.store(&path, payload, deadline)?.expect(2, "store")?;
        ftp.command(&format!("DELE {part}"))?;
    }
    // It is stored; whether the good-bye succeeds changes nothing.
    let _ = ftp.command("QUIT");
    Ok(Outcome::Stored)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_port_is_found_in_both_replies() {
        let text = "Entering Extended Passive Mode (|||30001|)";
        assert_eq!(extended_port(text), Some(30_001));
        assert_eq!(extended_port("(!!!7!)"), Some(7));
        assert_eq!(extended_port("Entering (|||99999|)"), None);
        assert_eq!(extended_port("("), None);
        let text = "Entering Passive Mode (127,0,0,1,117,49).";
        assert_eq!(passive_port(text), Some(117 * 256 + 49));
        assert_eq!(passive_port("=10,0,0,1,0,21"), Some(21));
        assert_eq!(passive_port("10,0,0,1,300,21"), None);
        assert_eq!(passive_port(""), None);
    }
}
