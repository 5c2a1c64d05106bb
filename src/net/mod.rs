//! The network of the capture kernel: from nothing to "the next machine on the way to the target answers".
//!
//! ```text
//! interface (by MAC, by name, or whichever works) --> carrier --> bond, VLAN --> addresses (static, DHCP, SLAAC)
//!   --> routes, name servers --> ready: the neighbour on the way to the target is known
//! ```
//!
//! Link up is not ready: a switch port may forward nothing for half a minute after its light is on. Where no interface
//! is configured, each one with a carrier is tried in turn until one gets that far. All through rtnetlink; nothing is
//! sent but DHCP, ARP and neighbour discovery, all of it within one deadline.

use std::net::IpAddr;
use std::time::Duration;

mod address;
mod before;
mod bond;
mod configure;
mod dhcp;
mod dhcp_socket;
pub mod dns;
mod link;
mod netlink;
mod ready;

use crate::config::{Config, Interface, Vlan};
use crate::deadline::Deadline;
pub use before::Before;
use configure::Applied;
use link::Link;
use netlink::{GROUP_IPV6_ADDRESS, GROUP_LINK, Netlink};

/// How long one interface is tried while others could be better.
const TRIAL: Duration = Duration::from_secs(10);
/// How often the tables of the kernel are looked at while waiting for something that it does not announce.
const POLL: Duration = Duration::from_millis(10);
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What is told while it happens.
pub type Log<'a> = &'a mut dyn FnMut(&str);

/// Brings the network up until one of `targets` (or the router) can be reached.
///
/// # Errors
/// One line that says how far it got.
pub fn bring_up(
    config: &Config,
    targets: &[IpAddr],
    deadline: Deadline,
    log: Log<'_>,
) -> Result<(), String> {
    let mut setup = Setup {
        netlink: Netlink::open(0).map_err(|error| format!("netlink: {error}"))?,
        events: Netlink::open(GROUP_LINK | GROUP_IPV6_ADDRESS)
            .map_err(|error| format!("netlink: {error}"))?,
        config,
        targets,
        deadline,
        log,
    };
    setup.loopback();
    if setup.works_already() {
        return Ok(());
    }
    // A path that swallows large packets without a word stops TCP for good unless it tries smaller ones.
    let _ = std::fs::write("/proc/sys/net/ipv4/tcp_mtu_probing", "1");
    setup.run()
}

/// Any 32 bits: different on every call and hard to guess, without waiting for the kernel's entropy.
fn random() -> u32 {
    use std::hash::{BuildHasher, RandomState};
    // The low half of a keyed hash of nothing, with a key from the kernel.
    RandomState::new()
        .hash_one(0)
        .to_le_bytes()
        .first_chunk()
        .map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// At most `most` characters of what a server said, fit for a console.
fn printable(bytes: &[u8], most: usize) -> String {
    let plain = |byte: &u8| {
        if matches!(byte, b' '..=b'~') {
            char::from(*byte)
        } else {
            '?'
        }
    };
    bytes.iter().map(plain).take(most).collect()
}

/// The Ethernet address of the interface that leads out of this machine; empty when there is none.
pub fn mac_in_use() -> String {
    let Ok(mut netlink) = Netlink::open(0) else {
        return String::new();
    };
    let links = link::list(&mut netlink).unwrap_or_default();
    let beyond = ready::BEYOND
        .iter()
        .find_map(|ip| address::next_hop(&mut netlink, *ip).ok());
    let leads_out = |link: &&Link| beyond.is_some_and(|hop| hop.index == link.index);
    let chosen = links
        .iter()
        .find(leads_out)
        .or_else(|| links.iter().find(|link| link.plain && link.carrier));
    chosen
        .and_then(|link| link.mac)
        .map(|mac| mac.to_string())
        .unwrap_or_default()
}

/// The interface that has an address.
pub fn index_of(address: IpAddr) -> Option<u32> {
    let addresses = Netlink::open(0).and_then(|mut netlink| address::list(&mut netlink));
    let mut addresses = addresses.unwrap_or_default().into_iter();
    let found = addresses.find(|assigned| assigned.address == address);
    found.map(|assigned| assigned.index)
}

struct Setup<'a> {
    netlink: Netlink,
    events: Netlink,
    config: &'a Config,
    targets: &'a [IpAddr],
    deadline: Deadline,
    log: Log<'a>,
}

impl Setup<'_> {
    /// Local targets and the resolver of other programs want 127.0.0.1; the kernel adds it by itself.
    fn loopback(&mut self) {
        if let Ok(links) = link::list(&mut self.netlink)
            && let Some(lo) = links.iter().find(|link| link.name == "lo" && !link.up)
        {
            let _ = link::set_up(&mut self.netlink, lo.index, true);
        }
    }

    fn run(&mut self) -> Result<(), String> {
        if !self.config.bond.is_empty() {
            match self.try_bond() {
                Ok(()) => return Ok(()),
                Err(why) if self.deadline.passed() => return Err(format!("{}: {why}", bond::NAME)),
                // One port alone may do: the module may be missing, or the port in use may have a light and no network.
                Err(why) => {
                    (self.log)(&format!(
                        "{}: {why}; trying its ports one by one",
                        bond::NAME
                    ));
                    self.dissolve_bond();
                }
            }
        }
        self.try_all()
    }

    /// The interfaces that may be used.
    fn wanted(&self) -> Vec<Interface> {
        if !self.config.bond.is_empty() {
            return self.config.bond.clone();
        }
        let of_ip = || self.config.ip.iter().find_map(|ip| ip.device.as_deref());
        match &self.config.interface {
            Interface::Auto => vec![
                of_ip()
                    .and_then(|name| Interface::parse(name).ok())
                    .unwrap_or(Interface::Auto),
            ],
            chosen => vec![chosen.clone()],
        }
    }

    /// Tries every interface with a carrier, again and again, until one works.
    fn try_all(&mut self) -> Result<(), String> {
        let mut last = String::new();
        let mut known = 0;
        loop {
            let links = self.links()?;
            if links.len() > known {
                known = links.len();
                let names: Vec<String> = links.iter().map(describe).collect();
                (self.log)(&format!("found {}", names.join(", ")));
            }
            let ready: Vec<&Link> = links.iter().filter(|link| link.carrier).collect();
            for (link, to_come) in ready.iter().zip((1..=ready.len()).rev()) {
                // The only one there is gets all the time there is, the others their share of it.
                let limit = if links.len() == 1 {
                    self.deadline
                } else {
                    let share =
                        u32::try_from(to_come).map_or(TRIAL, |count| self.deadline.left() / count);
                    self.deadline.within(TRIAL.min(share))
                };
                match self.try_link(link, limit) {
                    Ok(()) => return Ok(()),
                    Err(why) => {
                        last = format!("{}: {why}", link.name);
                        if !self.deadline.passed() {
                            (self.log)(&last);
                        }
                    }
                }
            }
            if self.deadline.passed() {
                return Err(if last.is_empty() {
                    self.nothing(&links)
                } else {
                    last
                });
            }
            if ready.is_empty() {
                self.events.wait_event(self.deadline.left());
            } else {
                self.deadline.sleep(Duration::from_millis(500));
            }
        }
    }

    /// Why there is not even an interface to try.
    fn nothing(&self, links: &[Link]) -> String {
        let names: Vec<String> = links.iter().map(describe).collect();
        if names.is_empty() {
            let wanted: Vec<String> = self.wanted().iter().map(Interface::to_string).collect();
            return format!(
                "no network interface ({}): is its driver in the image?",
                wanted.join(", ")
            );
        }
        format!(
            "no carrier on {}: is the cable plugged in?",
            names.join(", ")
        )
    }

    /// The interfaces that may be used, brought up.
    fn links(&mut self) -> Result<Vec<Link>, String> {
        let wanted = self.wanted();
        let links = link::list(&mut self.netlink)
            .map_err(|error| format!("list of interfaces: {error}"))?;
        let links: Vec<Link> = links
            .into_iter()
            .filter(|link| wanted.iter().any(|one| link.is(one)))
            .collect();
        for link in links.iter().filter(|link| !link.up) {
            self.start(link);
        }
        Ok(links)
    }

    /// Brings one interface up. What fails here shows as a missing carrier.
    fn start(&mut self, link: &Link) {
        // Detecting duplicates takes a second or two, and this machine had these addresses a moment ago; router
        // solicitations are delayed for the same politeness.
        for file in sysctls(&link.name) {
            let _ = std::fs::write(file, "0");
        }
        if let Some(mtu) = self.config.mtu
            && let Err(error) = link::set_mtu(&mut self.netlink, link.index, mtu)
        {
            (self.log)(&format!("{}: MTU {mtu}: {error}", link.name));
        }
        if let Err(error) = link::set_up(&mut self.netlink, link.index, true) {
            (self.log)(&format!("{}: cannot be brought up: {error}", link.name));
        }
    }

    /// Waits until the interface of this name has a carrier.
    fn with_carrier(&mut self, name: &str, deadline: Deadline) -> Result<Link, String> {
        loop {
            let links = link::list(&mut self.netlink)
                .map_err(|error| format!("list of interfaces: {error}"))?;
            match links.into_iter().find(|link| link.name == name) {
                Some(link) if link.carrier => return Ok(link),
                Some(link) if !link.up => self.start(&link),
                _ => {}
            }
            if deadline.passed() {
                return Err(format!("{name}: no carrier"));
            }
            self.events.wait_event(deadline.left());
        }
    }

    /// Configures one interface and waits until it leads somewhere; takes everything off again when it does not.
    fn try_link(&mut self, link: &Link, deadline: Deadline) -> Result<(), String> {
        let mut link = link.clone();
        for vlan in &self.config.vlan {
            link = self.vlan(&link, *vlan, deadline)?;
        }
        let mut applied = Applied::default();
        let result = self
            .configure(&link, &mut applied, deadline)
            .and_then(|()| self.wait_ready(&link, deadline));
        if result.is_err() && !self.deadline.passed() {
            for (address, prefix) in applied.addresses {
                let _ = address::remove(&mut self.netlink, link.index, address, prefix);
            }
        }
        result
    }

    fn vlan(&mut self, lower: &Link, vlan: Vlan, deadline: Deadline) -> Result<Link, String> {
        // An interface name has 15 bytes; the index is unique and short.
        let name = format!("v{}.{}", lower.index, vlan.id);
        link::add_vlan(&mut self.netlink, &name, lower.index, vlan)
            .map_err(|error| format!("VLAN {}: {error}", vlan.id))?;
        self.with_carrier(&name, deadline)
    }
}

/// The settings of an interface that are set to 0 when it is brought up.
fn sysctls(name: &str) -> impl Iterator<Item = String> {
    ["accept_dad", "dad_transmits", "router_solicitation_delay"]
        .into_iter()
        .map(move |file| format!("/proc/sys/net/ipv6/conf/{name}/{file}"))
}

/// `eth0 (52:54:00:12:34:56)`
fn describe(link: &Link) -> String {
    match link.mac {
        Some(mac) => format!("{} ({mac})", link.name),
        None => link.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_numbers_differ() {
        assert!((0..8).any(|_| random() != random()));
    }

    #[test]
    fn what_a_server_says_cannot_steer_a_terminal() {
        assert_eq!(printable(b"no\x1b[2J\nlease\xff", 9), "no?[2J?le");
    }
}
