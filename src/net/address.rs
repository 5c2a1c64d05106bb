//! Addresses, routes and neighbours of an interface.
//!
//! ```text
//! struct ifaddrmsg: | family u8 | prefixlen u8 | flags u8 | scope u8 | index u32 |
//! struct rtmsg:     | family u8 | dst_len u8 | src_len u8 | tos u8 | table u8 | protocol u8 | scope u8 | type u8 | flags u32 |
//! struct ndmsg:     | family u8 | pad[3] | index i32 | state u16 | flags u8 | type u8 |
//! ```

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use super::netlink::{CREATE, DUMP, Message, Netlink, REPLACE, Request, u16_at, u32_at};
use crate::config::Route;

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;
const IFADDRMSG_LEN: usize = 8;
const RTMSG_LEN: usize = 12;
const NDMSG_LEN: usize = 12;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
/// No duplicate address detection: the address was this machine's a moment ago, and the test takes seconds.
const IFA_F_NODAD: u8 = 0x02;
const IFA_F_DADFAILED: u8 = 0x08;
const IFA_F_TENTATIVE: u8 = 0x40;
const IFA_F_PERMANENT: u8 = 0x80;

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;
const RTNH_F_ONLINK: u32 = 4;

const NDA_DST: u16 = 1;
/// "Somebody wants to use this entry": the kernel sends its ARP or neighbour solicitation.
const NTF_USE: u8 = 1;
/// `NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_NOARP | NUD_PERMANENT`: the link address is known.
const NUD_VALID: u16 = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80;

/// More addresses than any machine has that boots with this image; bounds what is kept.
const ADDRESSES_MAX: usize = 1024;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { AF_INET } else { AF_INET6 }
}

/// The bytes of an address, in network byte order as everywhere.
fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn from_octets(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// The highest address of the network that `address` is in.
fn broadcast(address: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    let hosts = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
    Ipv4Addr::from(u32::from(address) | hosts)
}

/// Whether the first `prefix` bits of both addresses are the same.
pub fn same_network(one: IpAddr, other: IpAddr, prefix: u8) -> bool {
    let (one, other) = (octets(one), octets(other));
    let bit = |bytes: &[u8], at: usize| bytes.get(at / 8).map(|byte| byte >> (7 - at % 8) & 1);
    one.len() == other.len() && (0..usize::from(prefix)).all(|at| bit(&one, at) == bit(&other, at))
}

/// Gives `index` an address.
///
/// # Errors
/// The kernel's.
pub fn add(netlink: &mut Netlink, index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
    netlink.tell(address_request(
        RTM_NEWADDR,
        CREATE | REPLACE,
        index,
        address,
        prefix,
    ))
}

/// Takes an address away from `index`, and with it the routes that need it.
///
/// # Errors
/// The kernel's.
pub fn remove(netlink: &mut Netlink, index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
    netlink.tell(address_request(RTM_DELADDR, 0, index, address, prefix))
}

fn address_request(kind: u16, flags: u16, index: u32, address: IpAddr, prefix: u8) -> Request {
    let mut header = [family(address), prefix, 0, RT_SCOPE_UNIVERSE, 0, 0, 0, 0];
    header[4..].copy_from_slice(&index.to_ne_bytes());
    if address.is_ipv6() {
        header[2] = IFA_F_NODAD;
    }
    let request = Request::new(kind, flags, &header)
        .attribute(IFA_LOCAL, &octets(address))
        .attribute(IFA_ADDRESS, &octets(address));
    match address {
        IpAddr::V4(v4) if prefix < 31 && kind == RTM_NEWADDR => {
            request.attribute(IFA_BROADCAST, &broadcast(v4, prefix).octets())
        }
        _ => request,
    }
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The interface.
    pub index: u32,
    /// The address.
    pub address: IpAddr,
    /// How many of its bits name the network.
    pub prefix: u8,
    /// It does not expire by itself, as one from a router does.
    pub permanent: bool,
    /// It is good beyond the link.
    pub global: bool,
}

/// All addresses.
///
/// # Errors
/// The kernel's.
pub fn list(netlink: &mut Netlink) -> io::Result<Vec<Assigned>> {
    let mut addresses = Vec::new();
    netlink.ask(
        Request::new(RTM_GETADDR, DUMP, &[0; IFADDRMSG_LEN]),
        &mut |message| {
            if addresses.len() < ADDRESSES_MAX {
                addresses.extend(parse_address(message));
            }
        },
    )?;
    Ok(addresses)
}

fn parse_address(message: &Message<'_>) -> Option<Assigned> {
    let [_, prefix, flags, scope] = *message.body.first_chunk()?;
    let mut address = None;
    for (kind, value) in message.attributes(IFADDRMSG_LEN) {
        match kind {
            IFA_LOCAL => address = from_octets(value),
            // That of the other end, where there is a local one.
            IFA_ADDRESS => address = address.or_else(|| from_octets(value)),
            _ => {}
        }
    }
    Some(Assigned {
        index: u32_at(message.body, 4)?,
        address: address?,
        prefix,
        permanent: flags & IFA_F_PERMANENT != 0,
        global: scope == RT_SCOPE_UNIVERSE,
    })
}

/// Whether `index` has an IPv6 address that can be used beyond the link (`global`), or on it.
///
/// # Errors
/// The kernel's.
pub fn has_ipv6(netlink: &mut Netlink, index: u32, global: bool) -> io::Result<bool> {
    let wanted = if global {
        RT_SCOPE_UNIVERSE
    } else {
        RT_SCOPE_LINK
    };
    let mut found = false;
    netlink.ask(
        Request::new(RTM_GETADDR, DUMP, &[AF_INET6, 0, 0, 0, 0, 0, 0, 0]),
        &mut |message| {
            let [_, _, flags, scope] = *message.body.first_chunk().unwrap_or(&[0; 4]);
            let usable = flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED) == 0 && scope == wanted;
            found |= usable
                && u32_at(message.body, 4) == Some(index)
                && message.body.len() > IFADDRMSG_LEN;
        },
    )?;
    Ok(found)
}

/// Adds a route through `index`. `onlink` lets the gateway be outside of every network of the interface, as in clouds
/// that give a host a /32.
///
/// # Errors
/// The kernel's.
pub fn add_route(netlink: &mut Netlink, index: u32, route: &Route, onlink: bool) -> io::Result<()> {
    let scope = match route.gateway {
        None if route.destination.is_ipv4() => RT_SCOPE_LINK,
        _ => RT_SCOPE_UNIVERSE,
    };
    let header = [
        family(route.destination),
        route.prefix,
        0,
        0,
        RT_TABLE_MAIN,
        RTPROT_BOOT,
        scope,
        RTN_UNICAST,
    ];
    let flags = if onlink && route.gateway.is_some() {
        RTNH_F_ONLINK
    } else {
        0
    };
    let header = [&header[..], &flags.to_ne_bytes()].concat();
    let mut request = Request::new(RTM_NEWROUTE, CREATE | REPLACE, &header)
        .attribute(RTA_DST, &octets(network(route.destination, route.prefix)))
        .attribute(RTA_OIF, &index.to_ne_bytes());
    if let Some(gateway) = route.gateway {
        request = request.attribute(RTA_GATEWAY, &octets(gateway));
    }
    netlink.tell(request)
}

/// `address` with the bits behind `prefix` cleared: the kernel refuses a destination with host bits.
fn network(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let hosts = u32::MAX.checked_shr(prefix.into()).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(v4) & !hosts))
        }
        IpAddr::V6(v6) => {
            let hosts = u128::MAX.checked_shr(prefix.into()).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & !hosts).into())
        }
    }
}

/// The next machine on the way to some address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Its address: a router's, or the destination itself.
    pub address: IpAddr,
    /// The interface it is reached through.
    pub index: u32,
    /// The destination is this machine.
    pub local: bool,
    /// The address that packets would come from.
    pub source: Option<IpAddr>,
}

/// Asks the kernel for the way to `destination`.
///
/// # Errors
/// `ENETUNREACH` when there is none.
pub fn next_hop(netlink: &mut Netlink, destination: IpAddr) -> io::Result<NextHop> {
    let bits = if destination.is_ipv4() { 32 } else { 128 };
    let header = [family(destination), bits, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut found = None;
    let request = Request::new(RTM_GETROUTE, 0, &header).attribute(RTA_DST, &octets(destination));
    netlink.ask(request, &mut |message| {
        found = Some(parse_route(message, destination))
    })?;
    found.ok_or_else(|| io::ErrorKind::NetworkUnreachable.into())
}

fn parse_route(message: &Message<'_>, destination: IpAddr) -> NextHop {
    let local = message.body.get(7) == Some(&RTN_LOCAL);
    let mut hop = NextHop {
        address: destination,
        index: 0,
        local,
        source: None,
    };
    for (kind, value) in message.attributes(RTMSG_LEN) {
        match kind {
            RTA_OIF => hop.index = u32_at(value, 0).unwrap_or(0),
            RTA_GATEWAY => hop.address = from_octets(value).unwrap_or(destination),
            RTA_PREFSRC => hop.source = from_octets(value),
            _ => {}
        }
    }
    hop
}

/// Makes the kernel look for the link address of a neighbour, without a packet of our own.
///
/// # Errors
/// The kernel's.
pub fn solicit(netlink: &mut Netlink, hop: &NextHop) -> io::Result<()> {
    let header = ndmsg(hop, 0, NTF_USE);
    netlink
        .tell(Request::new(RTM_NEWNEIGH, CREATE, &header).attribute(NDA_DST, &octets(hop.address)))
}

fn ndmsg(hop: &NextHop, state: u16, flags: u8) -> [u8; NDMSG_LEN] {
    let mut header = [0; NDMSG_LEN];
    header[0] = family(hop.address);
    header[4..8].copy_from_slice(&hop.index.to_ne_bytes());
    header[8..10].copy_from_slice(&state.to_ne_bytes());
    header[10] = flags;
    header
}

/// What the kernel knows about a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    /// Its link address.
    Known,
    /// It is being asked for.
    Asked,
    /// Nobody answered, or nobody asked.
    Unknown,
}

/// Looks a neighbour up.
///
/// # Errors
/// The kernel's.
pub fn neighbour(netlink: &mut Netlink, hop: &NextHop) -> io::Result<Neighbour> {
    const NUD_INCOMPLETE: u16 = 1;
    let mut state = 0;
    netlink.ask(
        Request::new(RTM_GETNEIGH, DUMP, &ndmsg(hop, 0, 0)[..]),
        &mut |message| {
            let mut attributes = message.attributes(NDMSG_LEN);
            let it = u32_at(message.body, 4) == Some(hop.index)
                && attributes.any(|(kind, value)| {
                    kind == NDA_DST && from_octets(value) == Some(hop.address)
                });
            if it {
                state = u16_at(message.body, 8).unwrap_or(0);
            }
        },
    )?;
    Ok(match state {
        _ if state & NUD_VALID != 0 => Neighbour::Known,
        _ if state & NUD_INCOMPLETE != 0 => Neighbour::Asked,
        _ => Neighbour::Unknown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_compared_by_their_bits() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(same_network(ip("10.0.2.15"), ip("10.0.2.2"), 24));
        assert!(!same_network(ip("10.0.2.15"), ip("10.0.3.2"), 24));
        assert!(same_network(ip("10.0.2.15"), ip("10.0.3.2"), 23));
        assert!(!same_network(ip("10.0.2.15"), ip("10.0.2.2"), 32));
        assert!(!same_network(ip("10.0.2.15"), ip("fe80::1"), 0));
        assert!(same_network(ip("2001:db8::1"), ip("2001:db8::2"), 64));
    }

    #[test]
    fn masks_of_every_length_are_applied_without_overflow() {
        let v4 = Ipv4Addr::new(10, 1, 2, 3);
        assert_eq!(broadcast(v4, 8), Ipv4Addr::new(10, 255, 255, 255));
        assert_eq!(broadcast(v4, 32), v4);
        assert_eq!(network(v4.into(), 0), IpAddr::from([0, 0, 0, 0]));
        assert_eq!(network(v4.into(), 30), IpAddr::from([10, 1, 2, 0]));
        assert_eq!(
            network("2001:db8::9".parse().unwrap(), 64),
            "2001:db8::".parse::<IpAddr>().unwrap()
        );
    }

    #[test]
    fn the_way_to_oneself_is_local() {
        let hop = next_hop(&mut Netlink::open(0).unwrap(), IpAddr::from([127, 0, 0, 1])).unwrap();
        assert!(hop.local);
    }
}
