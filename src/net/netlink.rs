//! rtnetlink: how the kernel is asked about interfaces, addresses, routes and neighbours, and told to change them.
//!
//! ```text
//! | nlmsg_len u32 | type u16 | flags u16 | seq u32 | pid u32 | family header | attribute | attribute | ...
//!                                                             attribute: | len u16 | type u16 | value, padded to 4 |
//! ```
//!
//! All numbers are in the machine's own byte order. Specified in netlink(7), rtnetlink(7) and `include/uapi/linux/
//! {netlink,rtnetlink,if_link,if_addr,neighbour}.h`. Each question asks for an acknowledgement, so each has an end.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use crate::sys::socket::{AF_NETLINK, NETLINK_ROUTE, open, wait_readable};

/// Events of interfaces, `RTMGRP_LINK`.
pub const GROUP_LINK: u32 = 1;
/// Events of IPv6 addresses, `RTMGRP_IPV6_IFADDR`.
pub const GROUP_IPV6_ADDRESS: u32 = 0x100;

/// "Send the whole table" (`NLM_F_ROOT | NLM_F_MATCH`).
pub const DUMP: u16 = 0x300;
/// "Make it if it is not there" (`NLM_F_CREATE`).
pub const CREATE: u16 = 0x400;
/// "Refuse if it is there" (`NLM_F_EXCL`).
pub const EXCLUSIVE: u16 = 0x200;
/// "Put it in place of what is there" (`NLM_F_REPLACE`).
pub const REPLACE: u16 = 0x100;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const HEADER_LEN: usize = 16;
const ATTRIBUTE_HEADER_LEN: usize = 4;
/// The kernel makes its messages for buffers of this size.
const BUFFER_LEN: usize = 32 * 1024;
/// The kernel answers at once; this is for a kernel that does not.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// A message to the kernel.
pub struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// A message of type `kind` that starts with `header`, the structure of its family.
    pub fn new(kind: u16, flags: u16, header: &[u8]) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(header);
        Request { bytes }
    }

    /// Adds an attribute.
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        self.start_attribute(kind, value.len());
        self.bytes.extend(value);
        self.pad();
        self
    }

    /// Adds an attribute that holds the attributes that `fill` adds.
    pub fn nested(mut self, kind: u16, fill: impl FnOnce(Request) -> Request) -> Self {
        let inner = fill(Request { bytes: Vec::new() }).bytes;
        self.start_attribute(kind, inner.len());
        self.bytes.extend(inner);
        self
    }

    fn start_attribute(&mut self, kind: u16, len: usize) {
        // Values here are addresses, names and short lists of them; none comes near 64 KiB.
        let len = u16::try_from(len + ATTRIBUTE_HEADER_LEN).unwrap_or(u16::MAX);
        self.bytes.extend(len.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self, sequence: u32) -> Vec<u8> {
        let len = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        self.bytes[..4].copy_from_slice(&len.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// A message from the kernel.
pub struct Message<'a> {
    kind: u16,
    sequence: u32,
    /// What follows the message header.
    pub body: &'a [u8],
}

impl<'a> Message<'a> {
    /// Takes the first message off `bytes`.
    fn take(bytes: &mut &'a [u8]) -> Option<Self> {
        let len = usize::try_from(u32_at(bytes, 0)?).ok()?;
        let whole = bytes.get(..len)?;
        let message = Message {
            kind: u16_at(whole, 4)?,
            sequence: u32_at(whole, 8)?,
            body: whole.get(HEADER_LEN..)?,
        };
        *bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }

    /// The attributes behind a family header of `header_len` bytes.
    pub fn attributes(&self, header_len: usize) -> Attributes<'a> {
        Attributes {
            rest: self
                .body
                .get(header_len.next_multiple_of(4)..)
                .unwrap_or_default(),
        }
    }
}

/// Attributes, one after the other.
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// The attributes inside an attribute.
    pub fn inside(value: &'a [u8]) -> Self {
        Attributes { rest: value }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let len = usize::from(u16_at(self.rest, 0)?);
        // The two high bits tell "nested" and "network byte order".
        let kind = u16_at(self.rest, 2)? & 0x3fff;
        let value = self.rest.get(ATTRIBUTE_HEADER_LEN..len)?;
        self.rest = self.rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// The `u16` at `offset`, in the machine's byte order.
pub fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes
        .get(offset..)?
        .first_chunk()
        .map(|chunk| u16::from_ne_bytes(*chunk))
}

/// The `u32` at `offset`, in the machine's byte order.
pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes
        .get(offset..)?
        .first_chunk()
        .map(|chunk| u32::from_ne_bytes(*chunk))
}

/// An rtnetlink socket.
pub struct Netlink {
    socket: File,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket that also hears the events of `groups`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open(groups: u32) -> io::Result<Self> {
        // struct sockaddr_nl: family, two bytes of padding, port (0: the kernel chooses), groups.
        let mut address = [0; 12];
        address[..2].copy_from_slice(&16_u16.to_ne_bytes());
        address[8..].copy_from_slice(&groups.to_ne_bytes());
        Ok(Netlink {
            socket: open(AF_NETLINK, NETLINK_ROUTE, &address)?,
            sequence: 0,
        })
    }

    /// Sends `request` and hands each message of the answer to `each`.
    ///
    /// # Errors
    /// What the kernel answers, as the error code it is; `TimedOut` when it does not.
    pub fn ask(&mut self, request: Request, each: &mut dyn FnMut(&Message<'_>)) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.write_all(&request.finish(self.sequence))?;
        let mut buffer = vec![0; BUFFER_LEN];
        while wait_readable(&[self.socket.as_fd()], ANSWER_LIMIT)? {
            let len = self.socket.read(&mut buffer)?;
            let mut bytes = &buffer[..len];
            while let Some(message) = Message::take(&mut bytes) {
                match message.kind {
                    _ if message.sequence != self.sequence => {}
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => return acknowledged(message.body),
                    _ => each(&message),
                }
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Sends `request` and waits for its acknowledgement.
    ///
    /// # Errors
    /// As [`Netlink::ask`].
    pub fn tell(&mut self, request: Request) -> io::Result<()> {
        self.ask(request, &mut |_| {})
    }

    /// Waits for an event of the groups, at most for `limit`; what it says is asked for anew anyway.
    pub fn wait_event(&mut self, limit: Duration) {
        if let Ok(true) = wait_readable(&[self.as_fd()], limit) {
            // Too many events at once are an error (ENOBUFS), and an event like any other.
            let _ = self.socket.read(&mut [0; 4096]);
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// An acknowledgement is an error message with the code 0; others are negative.
fn acknowledged(body: &[u8]) -> io::Result<()> {
    match u32_at(body, 0).map(u32::cast_signed) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_laid_out_as_the_kernel_wants_it() {
        let request = Request::new(16, CREATE, &[1, 2, 3, 4])
            .attribute(3, b"eth0\0")
            .nested(18, |r| r.attribute(1, b"ab"));
        let bytes = request.finish(7);
        assert_eq!(u32_at(&bytes, 0), Some(16 + 4 + 12 + 12));
        assert_eq!(u16_at(&bytes, 6), Some(CREATE | 5));
        let mut rest = &bytes[..];
        let message = Message::take(&mut rest).unwrap();
        assert_eq!((message.kind, message.sequence, rest.len()), (16, 7, 0));
        let found: Vec<_> = message.attributes(4).collect();
        assert_eq!(found[0], (3, &b"eth0\0"[..]));
        assert_eq!(
            Attributes::inside(found[1].1).collect::<Vec<_>>(),
            [(1, &b"ab"[..])]
        );
    }

    #[test]
    fn lengths_that_lie_end_the_walk() {
        assert!(Message::take(&mut &[0xff; 64][..]).is_none());
        assert!(Message::take(&mut &[0; 64][..]).is_none());
        assert_eq!(Attributes::inside(&[0, 0, 1, 0, 9, 9]).count(), 0);
        assert_eq!(Attributes::inside(&[200, 0, 1, 0, 9, 9]).count(), 0);
    }

    #[test]
    fn the_kernel_lists_its_interfaces_and_refuses_nonsense() {
        let mut netlink = Netlink::open(0).unwrap();
        let mut count = 0;
        netlink
            .ask(Request::new(18, DUMP, &[0; 16]), &mut |_| count += 1)
            .unwrap();
        assert!(count >= 1);
        assert!(netlink.tell(Request::new(0x3ff, 0, &[0; 16])).is_err());
    }
}
