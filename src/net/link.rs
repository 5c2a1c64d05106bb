//! Interfaces: finding, bringing up, and putting VLANs and bonds on top of them.
//!
//! `struct ifinfomsg`: | family u8 | pad u8 | type u16 | index i32 | flags u32 | change u32 |, then attributes.

use std::io;

use super::netlink::{
    Attributes, CREATE, DUMP, EXCLUSIVE, Message, Netlink, Request, u16_at, u32_at,
};
use crate::config::{BondMode, Interface, Mac, Vlan};

const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const IFINFOMSG_LEN: usize = 16;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_VLAN_ID: u16 = 1;
const IFLA_VLAN_PROTOCOL: u16 = 5;
/// The EtherType of an 802.1ad tag.
const ETH_P_8021AD: u16 = 0x88a8;
const IFLA_BOND_MODE: u16 = 1;
const IFLA_BOND_MIIMON: u16 = 3;
const IFLA_BOND_AD_LACP_RATE: u16 = 21;
/// Once a second, not once in 30: the partner then loses no time, either.
const LACP_RATE_FAST: u8 = 1;
/// How often a bond looks at its ports, the usual value.
const BOND_MIIMON_MS: u32 = 100;

const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 8;
const IFF_LOWER_UP: u32 = 0x1_0000;
const ARPHRD_ETHER: u16 = 1;
const ARPHRD_INFINIBAND: u16 = 32;

/// More interfaces than any machine has that boots with this image; bounds what is kept.
const LINKS_MAX: usize = 1024;

/// An interface, as the kernel describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its Ethernet address, if it has one.
    pub mac: Option<Mac>,
    /// Whether it was brought up.
    pub up: bool,
    /// Whether there is something at the other end.
    pub carrier: bool,
    /// The machine's own.
    pub loopback: bool,
    /// The largest packet.
    pub mtu: u32,
    /// Ethernet or InfiniBand, not loopback, not made of other interfaces, not a port of one.
    pub plain: bool,
}

impl Link {
    fn parse(message: &Message<'_>) -> Option<Self> {
        let flags = u32_at(message.body, 8)?;
        let hardware = u16_at(message.body, 2)?;
        let mut link = Link {
            index: u32_at(message.body, 4)?,
            up: flags & IFF_UP != 0,
            carrier: flags & IFF_LOWER_UP != 0,
            loopback: flags & IFF_LOOPBACK != 0,
            plain: flags & IFF_LOOPBACK == 0
                && matches!(hardware, ARPHRD_ETHER | ARPHRD_INFINIBAND),
            ..Link::default()
        };
        for (kind, value) in message.attributes(IFINFOMSG_LEN) {
            match kind {
                IFLA_IFNAME => link.name = text(value),
                IFLA_MTU => link.mtu = u32_at(value, 0).unwrap_or(0),
                IFLA_ADDRESS if hardware == ARPHRD_ETHER => {
                    link.mac = value.try_into().ok().map(Mac)
                }
                // A port of a bond, or a virtual function below a netvsc or failover interface: the upper one is used.
                IFLA_MASTER => link.plain = false,
                IFLA_LINKINFO => link.plain &= is_hardware(value),
                _ => {}
            }
        }
        Some(link)
    }

    /// Whether `wanted` means this interface.
    pub fn is(&self, wanted: &Interface) -> bool {
        match wanted {
            Interface::Auto => self.plain,
            // A VLAN or a bond has the address of what is below it.
            Interface::Mac(mac) => self.plain && self.mac == Some(*mac),
            Interface::Name(name) => self.name == *name,
        }
    }
}

/// Interfaces that software made say what kind they are; a few of those are the other end of a wire all the same.
fn is_hardware(link_info: &[u8]) -> bool {
    let kind = Attributes::inside(link_info).find(|(kind, _)| *kind == IFLA_INFO_KIND);
    kind.is_none_or(|(_, name)| {
        matches!(text(name).as_str(), "veth" | "ipoib" | "macvlan" | "ipvlan")
    })
}

fn text(value: &[u8]) -> String {
    let end = value
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

/// All interfaces, in the kernel's order.
///
/// # Errors
/// The kernel's.
pub fn list(netlink: &mut Netlink) -> io::Result<Vec<Link>> {
    let mut links = Vec::new();
    netlink.ask(
        Request::new(RTM_GETLINK, DUMP, &[0; IFINFOMSG_LEN]),
        &mut |message| {
            if links.len() < LINKS_MAX {
                links.extend(Link::parse(message));
            }
        },
    )?;
    Ok(links)
}

/// `struct ifinfomsg` that sets the bits of `change` in the flags of `index` to those of `flags`.
fn header(index: u32, flags: u32, change: u32) -> [u8; IFINFOMSG_LEN] {
    let mut header = [0; IFINFOMSG_LEN];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..].copy_from_slice(&change.to_ne_bytes());
    header
}

/// Brings an interface up or down.
///
/// # Errors
/// The kernel's, or the driver's.
pub fn set_up(netlink: &mut Netlink, index: u32, up: bool) -> io::Result<()> {
    netlink.tell(Request::new(
        RTM_NEWLINK,
        0,
        &header(index, if up { IFF_UP } else { 0 }, IFF_UP),
    ))
}

/// Sets the largest packet of an interface.
///
/// # Errors
/// `EINVAL` when the driver cannot.
pub fn set_mtu(netlink: &mut Netlink, index: u32, mtu: u32) -> io::Result<()> {
    netlink.tell(
        Request::new(RTM_NEWLINK, 0, &header(index, 0, 0)).attribute(IFLA_MTU, &mtu.to_ne_bytes()),
    )
}

/// Makes an interface a port of another. It has to be down for that.
///
/// # Errors
/// The kernel's.
pub fn set_master(netlink: &mut Netlink, index: u32, master: u32) -> io::Result<()> {
    netlink.tell(
        Request::new(RTM_NEWLINK, 0, &header(index, 0, 0))
            .attribute(IFLA_MASTER, &master.to_ne_bytes()),
    )
}

/// Makes the interface `name` for a VLAN on `lower`.
///
/// # Errors
/// The kernel's; `EOPNOTSUPP` when the 8021q module is not loaded.
pub fn add_vlan(netlink: &mut Netlink, name: &str, lower: u32, vlan: Vlan) -> io::Result<()> {
    let request = Request::new(RTM_NEWLINK, CREATE | EXCLUSIVE, &header(0, 0, 0))
        .attribute(IFLA_IFNAME, &terminated(name))
        .attribute(IFLA_LINK, &lower.to_ne_bytes())
        .nested(IFLA_LINKINFO, |info| {
            info.attribute(IFLA_INFO_KIND, b"vlan")
                .nested(IFLA_INFO_DATA, |data| {
                    let data = data.attribute(IFLA_VLAN_ID, &vlan.id.to_ne_bytes());
                    if vlan.service {
                        data.attribute(IFLA_VLAN_PROTOCOL, &ETH_P_8021AD.to_be_bytes())
                    } else {
                        data
                    }
                })
        });
    existing_is_fine(netlink.tell(request))
}

/// Takes away an interface that software made.
///
/// # Errors
/// The kernel's.
pub fn delete(netlink: &mut Netlink, index: u32) -> io::Result<()> {
    netlink.tell(Request::new(RTM_DELLINK, 0, &header(index, 0, 0)))
}

/// Makes the bond `name`, without ports.
///
/// # Errors
/// The kernel's; `EOPNOTSUPP` when the bonding module is not loaded.
pub fn add_bond(netlink: &mut Netlink, name: &str, mode: BondMode) -> io::Result<()> {
    let request = Request::new(RTM_NEWLINK, CREATE | EXCLUSIVE, &header(0, 0, 0))
        .attribute(IFLA_IFNAME, &terminated(name))
        .nested(IFLA_LINKINFO, |info| {
            info.attribute(IFLA_INFO_KIND, b"bond")
                .nested(IFLA_INFO_DATA, |data| {
                    let data = data
                        .attribute(IFLA_BOND_MODE, &[mode.number()])
                        .attribute(IFLA_BOND_MIIMON, &BOND_MIIMON_MS.to_ne_bytes());
                    if mode == BondMode::LACP {
                        data.attribute(IFLA_BOND_AD_LACP_RATE, &[LACP_RATE_FAST])
                    } else {
                        data
                    }
                })
        });
    existing_is_fine(netlink.tell(request))
}

fn terminated(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// What is there already, from an attempt that was cut short, is used.
fn existing_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_listed_and_is_never_chosen() {
        let links = list(&mut Netlink::open(0).unwrap()).unwrap();
        let loopback = links.iter().find(|link| link.name == "lo").unwrap();
        assert!(!loopback.is(&Interface::Auto));
        assert!(loopback.is(&Interface::Name("lo".to_owned())));
    }

    #[test]
    fn interfaces_made_by_software_are_not_chosen_unless_named() {
        let info = |kind: &[u8]| {
            let len = u16::try_from(kind.len() + 4).unwrap();
            [&len.to_ne_bytes(), &IFLA_INFO_KIND.to_ne_bytes(), kind].concat()
        };
        assert!(!is_hardware(&info(b"dummy\0")));
        assert!(!is_hardware(&info(b"bond")));
        assert!(is_hardware(&info(b"veth\0")));
        assert!(is_hardware(&[]));
    }
}
