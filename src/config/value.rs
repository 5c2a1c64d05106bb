//! The values that keys take: each a small type or function that says in one line what it wanted.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::sink::delivery::shown;
use crate::sink::{Part, Target};

/// What ends the capture kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinalAction {
    /// Start the machine again.
    Reboot,
    /// Switch it off.
    PowerOff,
    /// Stop it and leave it on.
    Halt,
    /// Give the console to a shell, then start again.
    Shell,
    /// Go on with another init.
    Continue,
}

impl FinalAction {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "reboot" => Ok(FinalAction::Reboot),
            "poweroff" => Ok(FinalAction::PowerOff),
            "halt" => Ok(FinalAction::Halt),
            "shell" => Ok(FinalAction::Shell),
            "continue" => Ok(FinalAction::Continue),
            _ => Err(format!(
                "'{text}' is none of reboot, poweroff, halt, shell, continue"
            )),
        }
    }

    /// The word that sets it.
    pub fn name(self) -> &'static str {
        match self {
            FinalAction::Reboot => "reboot",
            FinalAction::PowerOff => "poweroff",
            FinalAction::Halt => "halt",
            FinalAction::Shell => "shell",
            FinalAction::Continue => "continue",
        }
    }
}

/// Reads how much of a report is sent.
pub fn part(text: &str) -> Result<Part, String> {
    match text {
        "full" => Ok(Part::Full),
        "log" => Ok(Part::Log),
        "summary" => Ok(Part::Summary),
        _ => Err(format!("'{text}' is none of full, log, summary")),
    }
}

/// Which hardware watchdog is fed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Watchdog {
    /// The first there is.
    Auto,
    /// None.
    Off,
    /// This device.
    Path(String),
}

impl Watchdog {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Watchdog::Auto),
            "off" => Ok(Watchdog::Off),
            _ => path(text).map(Watchdog::Path),
        }
    }
}

/// How the ports of a bond work together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BondMode(u8);

/// The kernel's names, in the order of its numbers (`BOND_MODE_*` of `include/uapi/linux/if_bonding.h`).
#[rustfmt::skip]
const BOND_MODES: [&str; 7] =
    ["balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"];

impl BondMode {
    /// One port at a time: asks nothing of a switch.
    pub const ACTIVE_BACKUP: BondMode = BondMode(1);
    /// Agreed on with the switch by LACP.
    pub const LACP: BondMode = BondMode(4);

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let index = BOND_MODES.iter().position(|name| *name == text);
        let number = index.and_then(|index| u8::try_from(index).ok());
        number
            .map(BondMode)
            .ok_or_else(|| format!("'{text}' is none of {}", BOND_MODES.join(", ")))
    }

    /// The kernel's number for it.
    pub fn number(self) -> u8 {
        self.0
    }

    /// The word that sets it.
    pub fn name(self) -> &'static str {
        BOND_MODES.get(usize::from(self.0)).copied().unwrap_or("")
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            *byte = parts
                .next()
                .filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))
                .and_then(|part| u8::from_str_radix(part, 16).ok())?;
        }
        parts.next().is_none().then_some(Mac(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if index == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

/// How a network interface is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interface {
    /// The first with a carrier that works.
    Auto,
    /// The one with this address, whatever it is called this time.
    Mac(Mac),
    /// The one of this name.
    Name(String),
}

impl Interface {
    /// Reads `auto`, an Ethernet address or a name.
    pub fn parse(text: &str) -> Result<Self, String> {
        match (text, Mac::parse(text)) {
            ("auto", _) => Ok(Interface::Auto),
            (_, Some(mac)) => Ok(Interface::Mac(mac)),
            // The kernel's own rule for names, dev_valid_name().
            _ if text.is_empty() || text.len() > 15 || text == "." || text == ".." => {
                Err(format!("'{text}' is no interface name"))
            }
            _ if text.contains(|c: char| c == '/' || c == ':' || c.is_whitespace()) => Err(
                format!("'{text}' is neither an interface name nor a MAC address"),
            ),
            _ => Ok(Interface::Name(text.to_owned())),
        }
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Interface::Auto => f.write_str("any interface"),
            Interface::Mac(mac) => mac.fmt(f),
            Interface::Name(name) => f.write_str(name),
        }
    }
}

/// A route: `DEST/LEN via GATEWAY`, or `DEST/LEN` for what is on the link itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The network, or the host.
    pub destination: IpAddr,
    /// How many bits of it count; 0 is the default route.
    pub prefix: u8,
    /// The router.
    pub gateway: Option<IpAddr>,
}

impl Route {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let destination = words.next().unwrap_or("");
        let gateway = match (words.next(), words.next(), words.next()) {
            (None, ..) => None,
            (Some("via"), Some(gateway), None) => Some(super::ip::address(gateway)?),
            _ => return Err(format!("'{text}' is not DEST/LEN via GATEWAY")),
        };
        let (address, prefix) = match destination.rsplit_once('/') {
            Some((address, prefix)) => (super::ip::address(address)?, Some(prefix)),
            None => (super::ip::address(destination)?, None),
        };
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => most,
            Some(text) => text
                .parse()
                .ok()
                .filter(|len| *len <= most)
                .ok_or(format!("'/{text}' is no prefix"))?,
        };
        match gateway {
            Some(gateway) if gateway.is_ipv4() != address.is_ipv4() => Err(format!(
                "gateway {gateway} is not of the family of {address}"
            )),
            gateway => Ok(Route {
                destination: address,
                prefix,
                gateway,
            }),
        }
    }
}

/// The URL of a target, checked as the sinks check it.
///
/// What another key may still say (`ssh-known-hosts`) is not asked for here: [`crate::sink::delivery::Plan`] does.
pub fn url(text: &str) -> Result<String, String> {
    Target::parse_with(text, &[("known_hosts", "/")])
        .map_err(|why| format!("{}: {why}", shown(text)))?;
    word(text)
}

/// Anything without control characters.
pub fn word(text: &str) -> Result<String, String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err("empty, or with control characters".to_owned());
    }
    Ok(text.to_owned())
}

/// A 128-bit id: 32 hexadecimal digits.
pub fn id128(text: &str) -> Result<String, String> {
    if text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!("'{text}' is not 32 hexadecimal digits"))
    }
}

/// An absolute path.
pub fn path(text: &str) -> Result<String, String> {
    if text.starts_with('/') {
        word(text)
    } else {
        Err(format!("'{text}' is no absolute path"))
    }
}

/// A whole number within bounds.
pub fn number(text: &str, least: u32, most: u32) -> Result<u32, String> {
    let found = text
        .parse()
        .ok()
        .filter(|number| (least..=most).contains(number));
    found.ok_or_else(|| format!("'{text}' is no number from {least} to {most}"))
}

/// Seconds, up to a day.
pub fn seconds(text: &str) -> Result<Duration, String> {
    number(text, 1, 86_400).map(|seconds| Duration::from_secs(seconds.into()))
}

/// `yes` or `no`; nothing at all is `yes`, so that a bare word on a command line does what it says.
pub fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" | "1" | "on" | "true" | "" => Ok(true),
        "no" | "0" | "off" | "false" => Ok(false),
        _ => Err(format!("'{text}' is neither yes nor no")),
    }
}

/// A VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// Its number.
    pub id: u16,
    /// Tagged as 802.1ad has it, not 802.1Q.
    pub service: bool,
}

/// VLANs from the cable upwards, `ID` or `802.1ad:ID` each.
pub fn vlans(text: &str) -> Result<Vec<Vlan>, String> {
    let vlan = |text: &str| {
        let (service, id) = match text.split_once(':') {
            Some(("802.1ad", id)) => (true, id),
            _ => (false, text),
        };
        let id = number(id, 1, 4094)?;
        Ok(Vlan {
            id: u16::try_from(id).unwrap_or(0),
            service,
        })
    };
    let vlans: Vec<Vlan> = text
        .split(',')
        .map(|part| vlan(part.trim()))
        .collect::<Result<_, String>>()?;
    if vlans.len() > 4 {
        return Err(format!("'{text}' is more than four VLANs"));
    }
    Ok(vlans)
}

/// The size of a packet: IPv4 needs 68 bytes, no link takes more than 65,535.
pub fn mtu(text: &str) -> Result<u32, String> {
    number(text, 68, 65_535)
}

/// The ports of a bond, one to eight.
pub fn ports(text: &str) -> Result<Vec<Interface>, String> {
    let ports: Vec<Interface> = text
        .split(',')
        .map(|port| Interface::parse(port.trim()))
        .collect::<Result<_, _>>()?;
    if ports.len() > 8 || ports.contains(&Interface::Auto) {
        return Err(format!("'{text}' is no list of up to eight interfaces"));
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_32_hexadecimal_digits() {
        let id = "00112233445566778899AABBCCDDEEFF";
        assert_eq!(id128(id), Ok(id.to_lowercase()));
        for bad in [
            "",
            "0011",
            "0011223344556677889900aabbccddeg",
            "uninitialized",
        ] {
            assert!(id128(bad).unwrap_err().contains("32 hexadecimal digits"));
        }
    }

    #[test]
    fn interfaces_are_told_apart_by_their_looks() {
        assert_eq!(Interface::parse("auto"), Ok(Interface::Auto));
        let mac = Mac([0x52, 0x54, 0, 0x12, 0x34, 0xab]);
        assert_eq!(
            Interface::parse("52:54:00:12:34:AB"),
            Ok(Interface::Mac(mac))
        );
        assert_eq!(
            Interface::parse("52-54-00-12-34-ab"),
            Ok(Interface::Mac(mac))
        );
        assert_eq!(mac.to_string(), "52:54:00:12:34:ab");
        assert_eq!(
            Interface::parse("enp3s0f1np1"),
            Ok(Interface::Name("enp3s0f1np1".to_owned()))
        );
        for wrong in [
            "",
            "52:54:00:12:34",
            "52:54:00:12:34:+b",
            "a/b",
            "sixteen-letters!",
            "..",
            "a b",
        ] {
            assert!(Interface::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn routes_have_a_destination_and_may_have_a_gateway() {
        let route = Route::parse("10.9.0.0/16 via 10.0.2.2").unwrap();
        assert_eq!(
            (route.prefix, route.gateway),
            (16, Some(IpAddr::from([10, 0, 2, 2])))
        );
        assert_eq!(Route::parse("10.9.0.1").unwrap().prefix, 32);
        assert_eq!(
            Route::parse("[2001:db8::]/32 via fe80::1").unwrap().prefix,
            32
        );
        for wrong in [
            "",
            "10.0.0.0/33",
            "10.0.0.0/8 via",
            "10.0.0.0/8 dev eth0",
            "10.0.0.0/8 via fe80::1",
        ] {
            assert!(Route::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn values_out_of_bounds_are_refused() {
        assert!(seconds("0").is_err() && seconds("86401").is_err() && seconds("-1").is_err());
        assert_eq!(BondMode::parse("802.3ad"), Ok(BondMode::LACP));
        assert_eq!(BondMode::ACTIVE_BACKUP.name(), "active-backup");
        assert!(BondMode::parse("lacp").is_err());
        assert!(mtu("67").is_err() && vlans("4095").is_err() && vlans("0").is_err());
        assert!(vlans("5,").is_err() && vlans("1,2,3,4,5").is_err() && vlans("ad:5").is_err());
        let vlans = vlans("802.1ad:100,5").unwrap();
        let tags: Vec<_> = vlans.iter().map(|vlan| (vlan.id, vlan.service)).collect();
        assert_eq!(tags, [(100, true), (5, false)]);
        assert!(
            url("10.0.0.1:514").is_err() && url("udp://a\nb").is_err() && url("udp://a").is_ok()
        );
        assert!(path("id_ed25519").is_err() && ports("a,b,auto").is_err());
        assert!(yes_or_no("maybe").is_err());
    }
}
