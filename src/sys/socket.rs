//! Sockets of the families std does not know: netlink and packet.
//!
//! A socket leaves this file as a `File`: read(2) and write(2) are all that a bound netlink or packet socket needs.
//! Addresses are built as bytes by the caller, in the layout of `struct sockaddr_nl` and `struct sockaddr_ll`.

use std::ffi::{c_int, c_short, c_uint, c_ulong, c_void};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::check;

/// Netlink, `AF_NETLINK`.
pub const AF_NETLINK: i32 = 16;
/// Frames, `AF_PACKET`.
pub const AF_PACKET: i32 = 17;
/// rtnetlink's protocol number, `NETLINK_ROUTE`.
pub const NETLINK_ROUTE: i32 = 0;

const IS_MIPS: bool = cfg!(any(target_arch = "mips", target_arch = "mips64"));
const IS_SPARC: bool = cfg!(any(target_arch = "sparc", target_arch = "sparc64"));
const SOCK_DGRAM: c_int = if IS_MIPS { 1 } else { 2 };
/// `SOCK_CLOEXEC` is `O_CLOEXEC`, which SPARC numbers its own way.
const SOCK_CLOEXEC: c_int = if IS_SPARC { 0x40_0000 } else { 0o2_000_000 };
const SOL_SOCKET: c_int = if IS_MIPS || IS_SPARC { 0xffff } else { 1 };
const SO_BINDTODEVICE: c_int = if IS_SPARC { 0x0d } else { 25 };
const POLLIN: c_short = 1;
/// `SIOCOUTQ` is `TIOCOUTQ`, the oldest of terminal requests, which some architectures number their own way.
const SIOCOUTQ: c_ulong = if IS_MIPS {
    0x7472
} else if IS_SPARC || cfg!(any(target_arch = "powerpc", target_arch = "powerpc64")) {
    0x4004_7473
} else {
    0x5411
};

#[repr(C)]
#[derive(Clone, Copy)]
struct PollFd {
    fd: c_int,
    events: c_short,
    revents: c_short,
}

unsafe extern "C" {
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn bind(fd: c_int, address: *const c_void, len: c_uint) -> c_int;
    fn setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void, len: c_uint)
    -> c_int;
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
    fn poll(fds: *mut PollFd, count: c_ulong, timeout_ms: c_int) -> c_int;
}

/// Opens a datagram socket of `family` and binds it to `address`, the bytes of the family's `sockaddr`.
///
/// # Errors
/// The kernel's; `EAFNOSUPPORT` when it was built without the family.
pub fn open(family: i32, protocol: i32, address: &[u8]) -> io::Result<File> {
    // SAFETY: three integers in; a descriptor nobody else owns out, checked before it is taken.
    let fd = unsafe {
        OwnedFd::from_raw_fd(check(socket(family, SOCK_DGRAM | SOCK_CLOEXEC, protocol))?)
    };
    let len = c_uint::try_from(address.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the kernel copies `len` bytes from a slice of that length and checks them against the family.
    check(unsafe { bind(fd.as_raw_fd(), address.as_ptr().cast(), len) })?;
    Ok(File::from(fd))
}

/// Bytes written to a stream socket that the peer's kernel has not acknowledged (`SIOCOUTQ`).
///
/// # Errors
/// The kernel's.
pub fn unsent(fd: BorrowedFd<'_>) -> io::Result<u32> {
    let mut bytes: c_int = 0;
    // SAFETY: the request writes one C int, which lives until the call returns.
    check(unsafe { ioctl(fd.as_raw_fd(), SIOCOUTQ, &raw mut bytes) })?;
    Ok(bytes.unsigned_abs())
}

/// Restricts a socket to one interface (`SO_BINDTODEVICE`), addresses or none.
///
/// # Errors
/// `ENODEV` when there is no such interface, `EPERM` without privileges on old kernels.
pub fn bind_to_device(fd: BorrowedFd<'_>, interface: &str) -> io::Result<()> {
    let len = c_uint::try_from(interface.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let value = interface.as_ptr().cast();
    // SAFETY: the kernel copies `len` bytes from a string of that length; no NUL is needed.
    check(unsafe { setsockopt(fd.as_raw_fd(), SOL_SOCKET, SO_BINDTODEVICE, value, len) }).map(drop)
}

/// Waits until one of up to four descriptors has something to read; false when `limit` is over or a signal came.
///
/// # Errors
/// The kernel's.
pub fn wait_readable(fds: &[BorrowedFd<'_>], limit: Duration) -> io::Result<bool> {
    let mut polled = [PollFd {
        fd: -1,
        events: POLLIN,
        revents: 0,
    }; 4];
    for (slot, fd) in polled.iter_mut().zip(fds) {
        slot.fd = fd.as_raw_fd();
    }
    // Rounded up: a wait of less than a millisecond must not become a busy loop.
    let timeout_ms = c_int::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(c_int::MAX);
    // SAFETY: an array of four, all initialised; the kernel skips those with a negative descriptor.
    match check(unsafe { poll(polled.as_mut_ptr(), 4, timeout_ms) }) {
        Ok(ready) => Ok(ready > 0),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;
    use std::time::Instant;

    #[test]
    fn a_wait_ends_at_its_limit_or_with_the_first_byte() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let started = Instant::now();
        assert!(!wait_readable(&[receiver.as_fd()], Duration::from_millis(30)).unwrap());
        assert!(started.elapsed() >= Duration::from_millis(30));
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender
            .send_to(b"x", receiver.local_addr().unwrap())
            .unwrap();
        assert!(wait_readable(&[receiver.as_fd()], Duration::from_secs(5)).unwrap());
    }

    #[test]
    fn a_netlink_socket_opens_without_privileges() {
        let mut address = [0_u8; 12];
        address[..2].copy_from_slice(&16_u16.to_ne_bytes());
        assert!(open(AF_NETLINK, NETLINK_ROUTE, &address).is_ok());
        assert!(open(AF_NETLINK, NETLINK_ROUTE, &address[..3]).is_err());
    }

    #[test]
    fn an_interface_that_is_not_there_cannot_be_bound_to() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(bind_to_device(socket.as_fd(), "nonexistent0").is_err());
    }
}
