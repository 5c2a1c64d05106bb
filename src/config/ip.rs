//! The `ip=` option: the kernel's grammar, the initramfs tools' short forms, and IPv6.
//!
//! ```text
//! ip=CLIENT:SERVER:GATEWAY:NETMASK:HOSTNAME:DEVICE:METHOD:DNS0:DNS1       (kernel)
//! ip=CLIENT::GATEWAY:NETMASK:HOSTNAME:DEVICE:METHOD:MTU                   (dracut)
//! ip=DEVICE:METHOD[:MTU]       ip=METHOD                                  (dracut, kernel)
//! ip=10.0.0.17/24::10.0.0.1    ip=[2001:db8::17]::[2001:db8::1]:64        (a prefix for a mask, brackets around IPv6)
//! ```
//!
//! METHOD is `dhcp` (or `on`, `any`, `both`), `auto6` (or `slaac`, `ra`) or `none` (`off`). Specified in the kernel's
//! `Documentation/admin-guide/nfs/nfsroot.rst` and in dracut.cmdline(7).

use std::net::{IpAddr, Ipv4Addr};

/// How an interface gets an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// This one.
    Static {
        /// The address of this machine.
        address: IpAddr,
        /// How many of its bits name the network.
        prefix: u8,
        /// The router for everything else.
        gateway: Option<IpAddr>,
    },
    /// DHCPv4 asks for one.
    Dhcp,
    /// The kernel makes one from router advertisements.
    Auto6,
    /// It does not get one here.
    Off,
}

/// One `ip=` option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpOption {
    /// How the address is found.
    pub method: Method,
    /// The name of this host, if given.
    pub hostname: Option<String>,
    /// The interface it is meant for, if given.
    pub device: Option<String>,
    /// Name servers.
    pub nameservers: Vec<IpAddr>,
    /// The largest packet, if given.
    pub mtu: Option<u32>,
}

/// Reads the value of an `ip=` option.
///
/// # Errors
/// One line that names the field and quotes it.
pub fn parse(value: &str) -> Result<IpOption, String> {
    let fields = fields(value)?;
    let first = fields.first().copied().unwrap_or("");
    if let Some(method) = method(first) {
        return match fields.len() {
            1 => Ok(option(method, None)),
            _ => Err(format!(
                "'{}' after '{first}', which takes nothing",
                fields[1]
            )),
        };
    }
    // DEVICE:METHOD[:MTU]. An address is never a device, an empty first field is the kernel's long form.
    let is_address = first
        .split('/')
        .next()
        .is_some_and(|bare| address(bare).is_ok());
    if !first.is_empty() && !is_address && fields.len() <= 4 {
        let wanted = fields.get(1).copied().unwrap_or("");
        let found = method(wanted)
            .ok_or_else(|| format!("'{first}' is no address and '{wanted}' no method"))?;
        let mtu = fields
            .get(2)
            .filter(|mtu| !mtu.is_empty())
            .map(|mtu| super::mtu(mtu))
            .transpose()?;
        return Ok(IpOption {
            mtu,
            ..option(found, Some(first))
        });
    }
    long_form(&fields)
}

fn option(method: Method, device: Option<&str>) -> IpOption {
    IpOption {
        method,
        hostname: None,
        device: device.map(str::to_owned),
        nameservers: Vec::new(),
        mtu: None,
    }
}

/// The kernel's form: ten fields at most, all but one allowed to be empty.
fn long_form(fields: &[&str]) -> Result<IpOption, String> {
    if fields.len() > 11 {
        return Err(format!("{} fields, at most 11", fields.len()));
    }
    let field = |index: usize| fields.get(index).copied().filter(|text| !text.is_empty());
    let named = |index: usize| match field(index) {
        Some(text) => method(text)
            .map(Some)
            .ok_or_else(|| format!("'{text}' is no method (dhcp, auto6, none)")),
        None => Ok(None),
    };
    let method = match (field(0), named(6)?) {
        (Some(client), None | Some(Method::Off)) => fixed(client, field(2), field(3))?,
        // The kernel, too, takes a client address beside "dhcp" for a wish at most.
        (_, Some(method)) => method,
        (None, None) => return Err("neither an address nor a method".to_owned()),
    };
    let mut found = IpOption {
        hostname: field(4).map(str::to_owned),
        ..option(method, field(5))
    };
    for index in [7, 8] {
        match field(index) {
            Some(text) if index == 7 && text.bytes().all(|b| b.is_ascii_digit()) => {
                found.mtu = Some(super::mtu(text)?);
                break; // dracut: a MAC address follows the MTU
            }
            Some(text) => found.nameservers.push(address(text)?),
            None => {}
        }
    }
    Ok(found)
}

fn fixed(client: &str, gateway: Option<&str>, mask: Option<&str>) -> Result<Method, String> {
    let (client, inline) = match client.split_once('/') {
        Some((client, prefix)) => (client, Some(prefix)),
        None => (client, None),
    };
    let address = address(client)?;
    let prefix = match inline.or(mask) {
        Some(text) => prefix(text, address)?,
        None => classful(address),
    };
    let gateway = gateway
        .map(self::address)
        .transpose()?
        .filter(|gateway| !gateway.is_unspecified());
    match gateway {
        Some(gateway) if gateway.is_ipv4() != address.is_ipv4() => Err(format!(
            "gateway {gateway} is not of the family of {address}"
        )),
        _ if address.is_unspecified() || address.is_multicast() => {
            Err(format!("'{address}' cannot be a host's"))
        }
        gateway => Ok(Method::Static {
            address,
            prefix,
            gateway,
        }),
    }
}

/// Cuts at colons that stand outside brackets.
fn fields(value: &str) -> Result<Vec<&str>, String> {
    let mut depth = false;
    let mut wrong = false;
    let cut = |c: char| {
        wrong |= (c == '[' && depth) || (c == ']' && !depth);
        depth = (depth || c == '[') && c != ']';
        c == ':' && !depth
    };
    let found: Vec<&str> = value.split(cut).collect();
    if wrong || depth {
        Err(format!("'{value}': brackets do not pair"))
    } else {
        Ok(found)
    }
}

fn method(text: &str) -> Option<Method> {
    match text {
        "dhcp" | "dhcp4" | "on" | "any" | "both" | "single-dhcp" => Some(Method::Dhcp),
        "auto6" | "slaac" | "ra" | "either6" => Some(Method::Auto6),
        "none" | "off" | "static" => Some(Method::Off),
        _ => None,
    }
}

/// An address of either family, IPv6 with or without brackets.
pub fn address(text: &str) -> Result<IpAddr, String> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse()
        .map_err(|_| format!("'{text}' is no IP address"))
}

/// A prefix length, or a dotted mask with its ones in front.
fn prefix(text: &str, address: IpAddr) -> Result<u8, String> {
    let most = if address.is_ipv4() { 32 } else { 128 };
    if let Ok(mask) = text.parse::<Ipv4Addr>() {
        let bits = u32::from(mask);
        return match bits.leading_ones() == bits.count_ones() && address.is_ipv4() {
            true => Ok(u8::try_from(bits.count_ones()).unwrap_or(32)),
            false => Err(format!("'{text}' is no netmask for {address}")),
        };
    }
    text.parse()
        .ok()
        .filter(|prefix| (1..=most).contains(prefix))
        .ok_or(format!("'{text}' is no netmask or prefix"))
}

/// What the kernel assumes when no mask is given: the class of the address; for IPv6 the usual 64.
fn classful(address: IpAddr) -> u8 {
    match address {
        IpAddr::V6(_) => 64,
        IpAddr::V4(address) => match address.octets()[0] {
            0..=127 => 8,
            128..=191 => 16,
            _ => 24,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed_v4(address: [u8; 4], prefix: u8, gateway: Option<[u8; 4]>) -> Method {
        Method::Static {
            address: IpAddr::from(address),
            prefix,
            gateway: gateway.map(IpAddr::from),
        }
    }

    #[test]
    fn the_kernels_long_form_is_read_field_by_field() {
        let found =
            parse("10.0.2.15:10.0.2.9:10.0.2.2:255.255.255.0:node17:eth0:none:10.0.2.3:8.8.8.8")
                .unwrap();
        assert_eq!(
            found.method,
            fixed_v4([10, 0, 2, 15], 24, Some([10, 0, 2, 2]))
        );
        assert_eq!(found.hostname.as_deref(), Some("node17"));
        assert_eq!(found.device.as_deref(), Some("eth0"));
        assert_eq!(
            found.nameservers,
            [IpAddr::from([10, 0, 2, 3]), IpAddr::from([8, 8, 8, 8])]
        );
    }

    #[test]
    fn trailing_fields_may_be_missing_and_the_mask_is_then_the_class() {
        assert_eq!(
            parse("192.168.1.5").unwrap().method,
            fixed_v4([192, 168, 1, 5], 24, None)
        );
        assert_eq!(
            parse("172.16.1.5:::").unwrap().method,
            fixed_v4([172, 16, 1, 5], 16, None)
        );
        assert_eq!(
            parse("10.1.1.5/22::10.1.0.1").unwrap().method,
            fixed_v4([10, 1, 1, 5], 22, Some([10, 1, 0, 1]))
        );
    }

    #[test]
    fn the_short_forms_of_initramfs_tools_are_read() {
        assert_eq!(parse("dhcp").unwrap(), option(Method::Dhcp, None));
        assert_eq!(parse("on").unwrap(), option(Method::Dhcp, None));
        assert_eq!(parse("auto6").unwrap(), option(Method::Auto6, None));
        assert_eq!(
            parse("eth0:dhcp").unwrap(),
            option(Method::Dhcp, Some("eth0"))
        );
        assert_eq!(parse("ens3:auto6:1400").unwrap().mtu, Some(1400));
        assert_eq!(
            parse(":::::eth1:dhcp").unwrap(),
            option(Method::Dhcp, Some("eth1"))
        );
    }

    #[test]
    fn dracuts_mtu_stands_where_the_kernel_has_a_name_server() {
        let found =
            parse("10.0.0.2::10.0.0.1:255.255.0.0:h:eth0:none:9000:52-54-00-12-34-56").unwrap();
        assert_eq!((found.mtu, found.nameservers.len()), (Some(9000), 0));
    }

    #[test]
    fn ipv6_addresses_stand_in_brackets() {
        let found =
            parse("[2001:db8::17]::[2001:db8::1]:64:node17:eth0:none:[2001:db8::53]").unwrap();
        let gateway = Some("2001:db8::1".parse().unwrap());
        assert_eq!(
            found.method,
            Method::Static {
                address: "2001:db8::17".parse().unwrap(),
                prefix: 64,
                gateway
            }
        );
        assert_eq!(
            found.nameservers,
            ["2001:db8::53".parse::<IpAddr>().unwrap()]
        );
    }

    #[test]
    fn what_cannot_be_is_refused_and_quoted() {
        for (value, word) in [
            ("", "neither"),
            ("eth0", "eth0"),
            ("eth0:dchp", "dchp"),
            ("10.0.0.300", "10.0.0.300"),
            ("10.0.0.1:::255.0.255.0", "255.0.255.0"),
            ("10.0.0.1/33", "33"),
            ("[2001:db8::1", "brackets"),
            ("2001:db8::1]", "brackets"),
            ("10.0.0.1::[2001:db8::1]", "family"),
            ("10.0.0.1::::::maybe", "maybe"),
            ("0.0.0.0", "0.0.0.0"),
            ("dhcp:eth0", "eth0"),
            ("1:2:3:4:5:6:7:8:9:a:b:c", "fields"),
        ] {
            let error = parse(value).unwrap_err();
            assert!(error.contains(word), "{value}: {error}");
        }
    }
}
