//! Whether the targets can be reached now, and from the address that the image has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use crate::config::ip::Method;
use crate::config::{Config, IpOption};
use crate::deadline::Deadline;

use super::{Findings, Root, armed};

/// A target that takes longer is not there when it is needed.
const CONNECT: Duration = Duration::from_secs(4);

/// Schemes with a host, the port they use by default, and whether a connection shows that somebody listens.
#[rustfmt::skip]
const SCHEMES: &[(&str, u16, bool)] = &[
    ("tcp", 6666, true), ("udp", 6666, false), ("netconsole", 6666, false),
    ("syslog", 514, false), ("syslog+udp", 514, false), ("syslog+tcp", 514, true), ("relp", 2514, true),
    ("gelf", 12201, false), ("gelf+tcp", 12201, true),
    ("http", 80, true), ("journal+http", 80, true), ("loki+http", 80, true), ("otlp+http", 80, true),
    ("elasticsearch+http", 80, true), ("opensearch+http", 80, true),
    ("ftp", 21, true), ("tftp", 69, false), ("ssh", 22, true), ("nfs", 2049, true),
];

/// Tries every target of the configuration.
pub fn targets(root: &Root, config: &Config, findings: &mut Findings) {
    let armed = armed::config(root);
    for url in config.send.iter().chain(&config.fallback) {
        let Some((host, port, stream)) = endpoint(url) else {
            continue;
        };
        match reach(&host, port, stream) {
            Err(why) => findings.error(
                format!("{} cannot be reached: {why}", without_secret(url)),
                "start the collector, or correct the target, the route or the firewall",
            ),
            Ok(from) => {
                if let Some(recorded) = armed.as_ref().and_then(|armed| instead_of(armed, from)) {
                    findings.error(
                        format!(
                            "{} is reached from {from} now, but the image has {recorded}",
                            without_secret(url)
                        ),
                        "crashdmesg-arm",
                    );
                }
            }
        }
    }
}

/// Whether two addresses stand for the same interface: IPv6 makes several in one network, some for a day only.
fn same(one: IpAddr, other: IpAddr) -> bool {
    match (one, other) {
        (IpAddr::V6(one), IpAddr::V6(other)) => one.octets()[..8] == other.octets()[..8],
        _ => one == other,
    }
}

/// The static address that an image has in place of `from`; none when it has that one, or asks for its addresses.
fn instead_of(armed: &Config, from: IpAddr) -> Option<IpAddr> {
    let of_family = |option: &IpOption| match option.method {
        Method::Static { address, .. } if address.is_ipv4() == from.is_ipv4() => Some(address),
        _ => None,
    };
    let mut recorded = armed.ip.iter().filter_map(of_family);
    let first = recorded.next()?;
    (!same(first, from) && !recorded.any(|other| same(other, from))).then_some(first)
}

/// Host, port, and whether it is a stream; `None` for what is no place in the network.
fn endpoint(url: &str) -> Option<(String, u16, bool)> {
    let (scheme, rest) = url.split_once("://")?;
    let &(_, default, stream) = SCHEMES.iter().find(|(known, ..)| *known == scheme)?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let place = authority
        .rsplit_once('@')
        .map_or(authority, |(_, place)| place);
    let (host, port) = match place
        .strip_prefix('[')
        .and_then(|place| place.split_once(']'))
    {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let port = port.map_or(Some(default), |port| port.parse().ok())?;
    (!host.is_empty()).then(|| (host.to_owned(), port, stream))
}

/// A URL as it may be shown: without user and password.
fn without_secret(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            match rest[..end].rfind('@') {
                Some(at) => format!("{scheme}://***{}", &rest[at..]),
                None => url.to_owned(),
            }
        }
        None => url.to_owned(),
    }
}

/// The address of ours that a host is reached from.
fn reach(host: &str, port: u16, stream: bool) -> Result<IpAddr, String> {
    let addresses = crate::sink::resolve(host, port, Deadline::after(CONNECT))
        .map_err(|failure| failure.why)?;
    let mut why = format!("no address for {host}");
    for address in addresses {
        let local = if stream {
            TcpStream::connect_timeout(&address, CONNECT).and_then(|stream| stream.local_addr())
        } else {
            // As an address: a text would bring the resolver of libc into the binary, 400 KiB of it.
            let any = match address {
                SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
                SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
            };
            UdpSocket::bind((any, 0)).and_then(|socket| {
                socket.connect(address)?;
                socket.local_addr()
            })
        };
        match local {
            Ok(local) => return Ok(local.ip()),
            Err(error) => why = error.to_string(),
        }
    }
    Err(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_of_a_target_is_found() {
        let place = |url| endpoint(url).map(|(host, port, _)| format!("{host} {port}"));
        assert_eq!(place("relp://10.0.2.2").as_deref(), Some("10.0.2.2 2514"));
        assert_eq!(
            place("http://u:p@[2001:db8::1]:8080/x").as_deref(),
            Some("2001:db8::1 8080")
        );
        assert_eq!(place("nfs://filer/export").as_deref(), Some("filer 2049"));
        assert_eq!(place("pigeon://10.0.2.2"), None);
        assert_eq!(place("file:/tmp/x"), None);
    }

    #[test]
    fn an_image_may_have_several_addresses() {
        let mut settings = crate::config::Settings::default();
        settings.read_text("ip = 192.0.2.5/24\nip = 198.51.100.5/24\n");
        let armed = settings.config();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(instead_of(&armed, ip("198.51.100.5")), None);
        assert_eq!(instead_of(&armed, ip("2001:db8::5")), None);
        assert_eq!(instead_of(&armed, ip("203.0.113.5")), Some(ip("192.0.2.5")));
    }

    #[test]
    fn a_temporary_address_stands_for_the_lasting_one() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(same(ip("2001:db8:5::5"), ip("2001:db8:5:0:91ab:2:3:4")));
        assert!(!same(ip("2001:db8:5::5"), ip("2001:db8:6::5")));
        assert!(!same(ip("192.0.2.5"), ip("192.0.2.6")));
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(without_secret("ftp://me:pw@host/x@y"), "ftp://***@host/x@y");
        assert_eq!(without_secret("tcp://host:1"), "tcp://host:1");
    }
}
