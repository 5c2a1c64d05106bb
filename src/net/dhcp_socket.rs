//! How DHCP messages get out and in before the interface has an address.
//!
//! Out through an ordinary UDP socket: the kernel sends a limited broadcast from 0.0.0.0 and makes the headers. In
//! through the same socket, which gets the broadcasts that we ask servers for, and through a packet socket where the
//! kernel has one, which also gets what a server sent to the offered address although we asked for a broadcast.

use std::fs::File;
use std::io::{self, Read};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;

use crate::deadline::Deadline;
use crate::sys::socket::{self, AF_PACKET};

const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;
const ETH_P_IP: u16 = 0x0800;
const IPPROTO_UDP: u8 = 17;
/// The largest UDP datagram on an ordinary link.
const BUFFER_LEN: usize = 2048;

/// The two sockets.
pub struct Exchange {
    udp: UdpSocket,
    packet: Option<File>,
}

impl Exchange {
    /// Opens both on one interface.
    ///
    /// # Errors
    /// The kernel's, for the UDP socket; the packet socket is a bonus.
    pub fn open(interface: &str) -> io::Result<Self> {
        let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, CLIENT_PORT))?;
        udp.set_broadcast(true)?;
        udp.set_nonblocking(true)?;
        socket::bind_to_device(udp.as_fd(), interface)?;
        Ok(Exchange {
            udp,
            packet: packet_socket(interface).ok(),
        })
    }

    /// Broadcasts a message.
    ///
    /// # Errors
    /// The kernel's.
    pub fn send(&mut self, message: &[u8]) -> io::Result<()> {
        match self
            .udp
            .send_to(message, (Ipv4Addr::BROADCAST, SERVER_PORT))
        {
            // The queue of an interface that just came up may be full: as good as a lost packet.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            result => result.map(drop),
        }
    }

    /// Waits for a message that `take` wants, until the deadline.
    pub fn receive<T>(
        &mut self,
        deadline: Deadline,
        take: impl Fn(&[u8]) -> Option<T>,
    ) -> Option<T> {
        let mut buffer = [0; BUFFER_LEN];
        while !deadline.passed() {
            let sockets = [
                Some(self.udp.as_fd()),
                self.packet.as_ref().map(AsFd::as_fd),
            ];
            let sockets: Vec<_> = sockets.into_iter().flatten().collect();
            if socket::wait_readable(&sockets, deadline.left()).is_err() {
                deadline.sleep(std::time::Duration::from_millis(10));
            }
            while let Ok((len, from)) = self.udp.recv_from(&mut buffer) {
                let taken = (from.port() == SERVER_PORT)
                    .then(|| take(&buffer[..len]))
                    .flatten();
                if taken.is_some() {
                    return taken;
                }
            }
            if let Some(packet) = &mut self.packet
                && socket::wait_readable(&[packet.as_fd()], std::time::Duration::ZERO)
                    .unwrap_or(false)
                && let Ok(len) = packet.read(&mut buffer)
                && let Some(taken) = udp_payload(&buffer[..len]).and_then(&take)
            {
                return Some(taken);
            }
        }
        None
    }
}

fn packet_socket(interface: &str) -> io::Result<File> {
    let index = std::fs::read_to_string(format!("/sys/class/net/{interface}/ifindex"))?;
    let index: u32 = index
        .trim()
        .parse()
        .map_err(|_| io::ErrorKind::InvalidData)?;
    // struct sockaddr_ll: family, protocol (network order), interface; what only matters for sending is zero.
    let mut address = [0; 20];
    address[..2].copy_from_slice(&17_u16.to_ne_bytes());
    address[2..4].copy_from_slice(&ETH_P_IP.to_be_bytes());
    address[4..8].copy_from_slice(&index.to_ne_bytes());
    // Protocol 0: nothing arrives before bind says from which interface.
    socket::open(AF_PACKET, 0, &address)
}

/// What a whole IPv4 packet carries from a DHCP server to a DHCP client. Checksums are left to the message's own
/// marks: with offloading, the ones in here are not filled in yet.
fn udp_payload(packet: &[u8]) -> Option<&[u8]> {
    let be16 = |offset: usize| {
        packet
            .get(offset..)?
            .first_chunk()
            .map(|bytes| u16::from_be_bytes(*bytes))
    };
    let first = *packet.first()?;
    let header_len = usize::from(first & 0x0f) * 4;
    let fragment = be16(6)? & 0x3fff;
    if first >> 4 != 4 || header_len < 20 || packet.get(9) != Some(&IPPROTO_UDP) || fragment != 0 {
        return None;
    }
    if be16(header_len)? != SERVER_PORT || be16(header_len + 2)? != CLIENT_PORT {
        return None;
    }
    let udp_len = usize::from(be16(header_len + 4)?);
    packet.get(header_len + 8..header_len.checked_add(udp_len)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv4 packet with a UDP datagram from port 67 to port 68 that carries `ok`.
    fn packet() -> Vec<u8> {
        let mut bytes = vec![
            0x45, 0, 0, 30, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 2, 2, 255, 255, 255, 255,
        ];
        bytes.extend([0, 67, 0, 68, 0, 10, 0, 0, b'o', b'k']);
        bytes
    }

    #[test]
    fn the_payload_is_found_behind_both_headers() {
        assert_eq!(udp_payload(&packet()), Some(&b"ok"[..]));
        let mut with_options = packet();
        with_options[0] = 0x46;
        with_options.splice(20..20, [1; 4]);
        assert_eq!(udp_payload(&with_options), Some(&b"ok"[..]));
    }

    #[test]
    fn other_packets_and_lying_lengths_are_left_alone() {
        for (offset, value) in [
            (0, 0x65),
            (0, 0x41),
            (0, 0x4f),
            (6, 0x20),
            (9, 6),
            (21, 68),
            (23, 67),
            (24, 255),
        ] {
            let mut bytes = packet();
            bytes[offset] = value;
            assert_eq!(udp_payload(&bytes), None, "byte {offset} = {value}");
        }
        let mut short = packet();
        short[25] = 7;
        assert_eq!(udp_payload(&short), None);
        for len in 0..30 {
            assert_eq!(udp_payload(&packet()[..len]), None);
        }
    }
}
