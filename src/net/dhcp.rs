//! DHCPv4: an address for the few seconds that the capture kernel lives.
//!
//! ```text
//! DISCOVER --> <-- OFFER   REQUEST --> <-- ACK        each with its own time-out, again until the deadline
//!
//! | op htype hlen hops | xid | secs flags | ciaddr | yiaddr | siaddr | giaddr | chaddr[16] | sname[64] | file[128] |
//! | 99 130 83 99 | code len value ... | 255 |
//! ```
//!
//! Specified in RFC 2131 and 2132; classless routes in RFC 3442. The lease is never renewed: it is longer than the
//! machine lives. Whatever a server sends is checked before it is used; what does not fit is as good as not sent.

use std::net::{IpAddr, Ipv4Addr};

use super::dhcp_socket::Exchange;
use crate::config::{Mac, Route};
use crate::deadline::Deadline;

const BOOTREQUEST: u8 = 1;
const BOOTREPLY: u8 = 2;
const MAGIC: [u8; 4] = [99, 130, 83, 99];
const OPTIONS_OFFSET: usize = 240;
const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;
/// BOOTP relays drop what is shorter.
const MESSAGE_LEN_MIN: usize = 300;

const PAD: u8 = 0;
const SUBNET_MASK: u8 = 1;
const ROUTER: u8 = 3;
const NAME_SERVER: u8 = 6;
const HOST_NAME: u8 = 12;
const INTERFACE_MTU: u8 = 26;
const REQUESTED_ADDRESS: u8 = 50;
const OVERLOAD: u8 = 52;
const MESSAGE_TYPE: u8 = 53;
const SERVER_ID: u8 = 54;
const PARAMETER_LIST: u8 = 55;
const MESSAGE: u8 = 56;
const VENDOR_CLASS: u8 = 60;
const CLASSLESS_ROUTES: u8 = 121;
const END: u8 = 255;

const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACK: u8 = 5;
const NAK: u8 = 6;

/// Seconds to wait for an answer to the first, second, ... message. A switch port that is just coming up loses the
/// first ones, so the first waits are short.
const OFFER_WAITS: [u64; 6] = [1, 2, 3, 5, 8, 8];
const ACK_WAITS: [u64; 3] = [1, 2, 4];
const ROUTES_MAX: usize = 64;

/// What a server gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Our address.
    pub address: Ipv4Addr,
    /// How many of its bits name the network.
    pub prefix: u8,
    /// The routers' and the classless routes, ready to be added; a /0 is the default route.
    pub routes: Vec<Route>,
    /// Name servers.
    pub nameservers: Vec<IpAddr>,
    /// The name of this host.
    pub hostname: Option<String>,
    /// The largest packet.
    pub mtu: Option<u32>,
    /// Who gave it.
    pub server: Ipv4Addr,
}

/// Asks for a lease on `interface` until the deadline; `hostname` is told to the server.
///
/// # Errors
/// One line: nobody answered, the server refused, or the socket failed.
pub fn acquire(
    interface: &str,
    mac: Mac,
    hostname: Option<&str>,
    deadline: Deadline,
) -> Result<Lease, String> {
    let mut exchange =
        Exchange::open(interface).map_err(|error| format!("DHCP socket: {error}"))?;
    let client = Client {
        mac,
        hostname,
        xid: super::random(),
    };
    let mut seen = "no answer from any DHCP server".to_owned();
    let mut waits = OFFER_WAITS.into_iter().chain(std::iter::repeat(8));
    let mut number: u16 = 0;
    while !deadline.passed() {
        // A host that reboots with thousands of others should not ask in step with them.
        let wait = waits.next().unwrap_or(8) * 1000 + u64::from(super::random() % 250);
        exchange
            .send(&client.message(DISCOVER, number, None))
            .map_err(|error| format!("DHCP send: {error}"))?;
        number = number.saturating_add(1);
        let offered = exchange.receive(
            deadline.within(std::time::Duration::from_millis(wait)),
            |bytes| client.parse(bytes).filter(|reply| reply.kind == OFFER),
        );
        if let Some(offer) = offered {
            match client.request(&mut exchange, &offer, deadline) {
                Ok(lease) => return Ok(lease),
                Err(why) => seen = why,
            }
        }
    }
    Err(seen)
}

struct Client<'a> {
    mac: Mac,
    hostname: Option<&'a str>,
    xid: u32,
}

impl Client<'_> {
    fn request(
        &self,
        exchange: &mut Exchange,
        offer: &Reply,
        deadline: Deadline,
    ) -> Result<Lease, String> {
        let server = offer.lease.server;
        for (wait, number) in ACK_WAITS.into_iter().zip(1..) {
            let message = self.message(REQUEST, number, Some((offer.lease.address, server)));
            exchange
                .send(&message)
                .map_err(|error| format!("DHCP send: {error}"))?;
            let answer = exchange.receive(
                deadline.within(std::time::Duration::from_secs(wait)),
                |bytes| {
                    self.parse(bytes).filter(|reply| {
                        matches!(reply.kind, ACK | NAK) && reply.lease.server == server
                    })
                },
            );
            match answer {
                Some(reply) if reply.kind == ACK => return Ok(reply.lease),
                Some(reply) => {
                    // Not in a hurry: a server that refuses will refuse again at once.
                    deadline.sleep(std::time::Duration::from_secs(1));
                    return Err(format!(
                        "DHCP server {server} refused {}: {}",
                        offer.lease.address, reply.message
                    ));
                }
                None => {}
            }
        }
        Err(format!(
            "DHCP server {server} offered {} and then fell silent",
            offer.lease.address
        ))
    }

    fn message(&self, kind: u8, secs: u16, chosen: Option<(Ipv4Addr, Ipv4Addr)>) -> Vec<u8> {
        let mut bytes = vec![BOOTREQUEST, 1, 6, 0];
        bytes.extend(self.xid.to_be_bytes());
        bytes.extend(secs.to_be_bytes());
        // The broadcast flag: without an address, only a broadcast is sure to get through our IP layer.
        bytes.extend([0x80, 0]);
        bytes.resize(28, 0);
        bytes.extend(self.mac.0);
        bytes.resize(OPTIONS_OFFSET - MAGIC.len(), 0);
        bytes.extend(MAGIC);
        put(&mut bytes, MESSAGE_TYPE, &[kind]);
        if let Some((address, server)) = chosen {
            put(&mut bytes, REQUESTED_ADDRESS, &address.octets());
            put(&mut bytes, SERVER_ID, &server.octets());
        }
        if let Some(name) = self.hostname {
            put(&mut bytes, HOST_NAME, name.as_bytes());
        }
        put(&mut bytes, VENDOR_CLASS, b"crashdmesg");
        let wanted = [
            SUBNET_MASK,
            ROUTER,
            NAME_SERVER,
            HOST_NAME,
            INTERFACE_MTU,
            CLASSLESS_ROUTES,
        ];
        put(&mut bytes, PARAMETER_LIST, &wanted);
        bytes.push(END);
        bytes.resize(bytes.len().max(MESSAGE_LEN_MIN), 0);
        bytes
    }

    /// A reply to this client, or nothing.
    fn parse(&self, bytes: &[u8]) -> Option<Reply> {
        let is_ours = bytes.first() == Some(&BOOTREPLY)
            && bytes.get(4..8)? == self.xid.to_be_bytes()
            && bytes.get(28..34)? == self.mac.0
            && bytes.get(236..OPTIONS_OFFSET)? == MAGIC;
        is_ours.then(|| Reply::parse(bytes)).flatten()
    }
}

fn put(bytes: &mut Vec<u8>, code: u8, value: &[u8]) {
    let value = value.get(..255).unwrap_or(value);
    bytes.extend([code, u8::try_from(value.len()).unwrap_or(255)]);
    bytes.extend(value);
}

/// A reply with a lease that could be used.
struct Reply {
    kind: u8,
    lease: Lease,
    message: String,
}

impl Reply {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let options = Options::collect(bytes)?;
        let kind = *options.get(MESSAGE_TYPE)?.first()?;
        let server = options.address(SERVER_ID)?;
        let address = Ipv4Addr::from(*bytes.get(16..20)?.first_chunk()?);
        let text = options.get(MESSAGE).map(|text| super::printable(text, 80));
        let message = text.unwrap_or_default();
        if kind != NAK && !is_host(address) {
            return None;
        }
        let prefix = options
            .address(SUBNET_MASK)
            .and_then(prefix_of)
            .unwrap_or_else(|| class_prefix(address));
        let nameservers = options.get(NAME_SERVER).unwrap_or_default().chunks_exact(4);
        let nameservers = nameservers.filter_map(|a| Some(Ipv4Addr::from(*a.first_chunk()?)));
        let lease = Lease {
            address,
            prefix,
            routes: options.routes(),
            nameservers: nameservers
                .filter(|a| is_host(*a))
                .map(IpAddr::V4)
                .take(3)
                .collect(),
            hostname: options.get(HOST_NAME).and_then(host_name),
            mtu: options.get(INTERFACE_MTU).and_then(mtu),
            server,
        };
        Some(Reply {
            kind,
            lease,
            message,
        })
    }
}

/// Options by code; one that comes in several pieces is put together (RFC 3396).
struct Options {
    found: Vec<(u8, Vec<u8>)>,
}

impl Options {
    fn collect(bytes: &[u8]) -> Option<Self> {
        let mut options = Options { found: Vec::new() };
        options.read(bytes.get(OPTIONS_OFFSET..)?);
        // Options may go on in the two fields that nobody uses for booting here.
        let overload = options
            .get(OVERLOAD)
            .and_then(|value| value.first().copied())
            .unwrap_or(0);
        if overload & 1 != 0 {
            options.read(bytes.get(FILE)?);
        }
        if overload & 2 != 0 {
            options.read(bytes.get(SNAME)?);
        }
        Some(options)
    }

    fn read(&mut self, mut rest: &[u8]) {
        loop {
            match rest {
                [PAD, tail @ ..] => rest = tail,
                [END, ..] | [] | [_] => return,
                [code, len, tail @ ..] => {
                    let Some((value, tail)) = tail.split_at_checked(usize::from(*len)) else {
                        return;
                    };
                    match self.found.iter_mut().find(|(other, _)| other == code) {
                        Some((_, whole)) => whole.extend(value),
                        None => self.found.push((*code, value.to_vec())),
                    }
                    rest = tail;
                }
            }
        }
    }

    fn get(&self, code: u8) -> Option<&[u8]> {
        self.found
            .iter()
            .find(|(other, _)| *other == code)
            .map(|(_, value)| value.as_slice())
    }

    fn address(&self, code: u8) -> Option<Ipv4Addr> {
        self.get(code)?
            .first_chunk()
            .map(|octets| Ipv4Addr::from(*octets))
    }

    /// Classless routes replace the router option (RFC 3442).
    fn routes(&self) -> Vec<Route> {
        if let Some(routes) = self.get(CLASSLESS_ROUTES).and_then(classless_routes) {
            return routes;
        }
        let router = self
            .address(ROUTER)
            .filter(|router| is_host(*router))
            .map(IpAddr::V4);
        let route = router.map(|router| Route {
            destination: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            prefix: 0,
            gateway: Some(router),
        });
        route.into_iter().collect()
    }
}

/// `| prefix | destination, as many bytes as the prefix needs | router, 4 bytes |`, repeated; `None` when it does not add up.
fn classless_routes(mut rest: &[u8]) -> Option<Vec<Route>> {
    let mut routes = Vec::new();
    while let [prefix @ 0..=32, tail @ ..] = rest {
        let (significant, tail) = tail.split_at_checked(usize::from(prefix.div_ceil(8)))?;
        let (router, tail) = tail.split_at_checked(4)?;
        let mut destination = [0; 4];
        destination
            .iter_mut()
            .zip(significant)
            .for_each(|(to, from)| *to = *from);
        let router = Ipv4Addr::from(*router.first_chunk()?);
        routes.push(Route {
            destination: IpAddr::from(destination),
            prefix: *prefix,
            gateway: (!router.is_unspecified()).then_some(IpAddr::V4(router)),
        });
        rest = tail;
    }
    // Routes to what is on the link come first: the others may need them.
    routes.sort_by_key(|route| route.gateway.is_some());
    (rest.is_empty() && !routes.is_empty() && routes.len() <= ROUTES_MAX).then_some(routes)
}

fn is_host(address: Ipv4Addr) -> bool {
    let first = address.octets()[0];
    first != 0 && first != 127 && first < 224
}

fn prefix_of(mask: Ipv4Addr) -> Option<u8> {
    let bits = u32::from(mask);
    let ones = bits.leading_ones();
    (ones > 0 && ones == bits.count_ones())
        .then(|| u8::try_from(ones).ok())
        .flatten()
}

fn class_prefix(address: Ipv4Addr) -> u8 {
    match address.octets()[0] {
        0..=127 => 8,
        128..=191 => 16,
        _ => 24,
    }
}

/// A name that could be a host's; servers send all sorts of things.
fn host_name(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?.trim_end_matches('\0');
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    (!text.is_empty() && text.len() <= 64 && text.chars().all(fine)).then(|| text.to_owned())
}

/// Below 576 IPv4 cannot be expected to work, and some servers send 0.
fn mtu(value: &[u8]) -> Option<u32> {
    let value = u16::from_be_bytes(*value.first_chunk()?);
    (value >= 576).then_some(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([0x52, 0x54, 0, 1, 2, 3]);

    fn client() -> Client<'static> {
        Client {
            mac: MAC,
            hostname: Some("node17"),
            xid: 0x1234_5678,
        }
    }

    fn reply(options: &[u8]) -> Vec<u8> {
        let mut bytes = client().message(DISCOVER, 0, None);
        bytes[0] = BOOTREPLY;
        bytes[16..20].copy_from_slice(&[10, 0, 2, 15]);
        bytes.truncate(OPTIONS_OFFSET);
        bytes.extend(options);
        bytes
    }

    /// An ACK of 10.0.2.2 with more options.
    fn ack(more: &[u8]) -> Option<Reply> {
        let start = [MESSAGE_TYPE, 1, ACK, SERVER_ID, 4, 10, 0, 2, 2];
        client().parse(&reply(&[&start[..], more, &[END]].concat()))
    }

    #[test]
    fn a_request_carries_what_a_server_needs() {
        let chosen = (Ipv4Addr::new(10, 0, 2, 15), Ipv4Addr::new(10, 0, 2, 2));
        let bytes = client().message(REQUEST, 3, Some(chosen));
        assert!(bytes.len() >= MESSAGE_LEN_MIN);
        assert_eq!(bytes[..4], [1, 1, 6, 0]);
        assert_eq!(bytes[8..12], [0, 3, 0x80, 0]);
        let options = Options::collect(&bytes).unwrap();
        assert_eq!(options.get(MESSAGE_TYPE), Some(&[REQUEST][..]));
        assert_eq!(options.address(REQUESTED_ADDRESS), Some(chosen.0));
        assert_eq!(options.get(HOST_NAME), Some(&b"node17"[..]));
    }

    #[test]
    fn a_lease_with_everything_is_read() {
        let more = [
            &[SUBNET_MASK, 4, 255, 255, 254, 0][..],
            &[ROUTER, 8, 10, 0, 2, 1, 10, 0, 2, 9],
            &[NAME_SERVER, 8, 10, 0, 2, 3, 0, 0, 0, 0],
            &[INTERFACE_MTU, 2, 0x23, 0x28],
            &[HOST_NAME, 4, b'n', b'o', b'd', b'e'],
        ];
        let lease = ack(&more.concat()).unwrap().lease;
        assert_eq!(
            (lease.address, lease.prefix),
            (Ipv4Addr::new(10, 0, 2, 15), 23)
        );
        assert_eq!(lease.routes[0].gateway, Some(IpAddr::from([10, 0, 2, 1])));
        assert_eq!(lease.nameservers, [IpAddr::from([10, 0, 2, 3])]);
        assert_eq!(
            (lease.mtu, lease.hostname.as_deref()),
            (Some(9000), Some("node"))
        );
    }

    #[test]
    fn classless_routes_replace_the_router() {
        let more = [
            &[ROUTER, 4, 10, 0, 2, 1][..],
            &[
                CLASSLESS_ROUTES,
                14,
                0,
                10,
                128,
                0,
                1,
                32,
                10,
                128,
                0,
                1,
                0,
                0,
                0,
                0,
            ],
        ];
        let routes = ack(&more.concat()).unwrap().lease.routes;
        assert_eq!(routes.len(), 2);
        assert_eq!((routes[0].prefix, routes[0].gateway), (32, None));
        assert_eq!(
            (routes[1].prefix, routes[1].gateway),
            (0, Some(IpAddr::from([10, 128, 0, 1])))
        );
        // One that does not add up is as good as none.
        let broken = [ROUTER, 4, 10, 0, 2, 1, CLASSLESS_ROUTES, 3, 33, 1, 1];
        assert_eq!(
            ack(&broken).unwrap().lease.routes[0].gateway,
            Some(IpAddr::from([10, 0, 2, 1]))
        );
    }

    #[test]
    fn options_go_on_in_the_file_and_name_fields() {
        let mut bytes = reply(&[OVERLOAD, 1, 3, SERVER_ID, 4, 10, 0, 2, 2, END]);
        bytes[FILE][..4].copy_from_slice(&[MESSAGE_TYPE, 1, ACK, END]);
        bytes[SNAME][..7].copy_from_slice(&[ROUTER, 4, 10, 0, 2, 1, END]);
        let reply = client().parse(&bytes).unwrap();
        assert_eq!((reply.kind, reply.lease.routes.len()), (ACK, 1));
    }

    #[test]
    fn replies_for_others_and_impossible_addresses_are_not_taken() {
        let options = [MESSAGE_TYPE, 1, OFFER, SERVER_ID, 4, 10, 0, 2, 2, END];
        assert!(client().parse(&reply(&options)).is_some());
        for (offset, byte) in [
            (0, BOOTREQUEST),
            (4, 0xff),
            (28, 0xff),
            (236, 0),
            (16, 127),
            (16, 255),
            (16, 0),
        ] {
            let mut bytes = reply(&options);
            bytes[offset] = byte;
            assert!(client().parse(&bytes).is_none(), "byte {offset} = {byte}");
        }
        assert!(
            client()
                .parse(&reply(&[MESSAGE_TYPE, 1, OFFER, END]))
                .is_none(),
            "no server named"
        );
    }

    #[test]
    fn every_cut_and_every_flipped_byte_is_survived() {
        let whole = reply(&[
            MESSAGE_TYPE,
            1,
            ACK,
            SERVER_ID,
            4,
            10,
            0,
            2,
            2,
            ROUTER,
            4,
            10,
            0,
            2,
            1,
            END,
        ]);
        for len in 0..whole.len() {
            let _ = client().parse(&whole[..len]);
        }
        for at in OPTIONS_OFFSET..whole.len() {
            for value in 0..=255 {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let _ = client().parse(&bytes);
            }
        }
    }

    #[test]
    fn host_names_with_anything_odd_in_them_are_dropped() {
        assert_eq!(
            host_name(b"node-17.example\0").as_deref(),
            Some("node-17.example")
        );
        for odd in [&b""[..], b"a b", b"a\x1b[2J", &[0xff; 4], &[b'a'; 65]] {
            assert_eq!(host_name(odd), None);
        }
    }
}
