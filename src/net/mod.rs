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

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

mod address;
mod before;
mod bond;
mod dhcp;
mod dhcp_socket;
pub mod dns;
mod link;
mod netlink;
mod ready;

use crate::config::ip::Method;
use crate::config::{Config, Interface, IpOption, Route, Vlan};
use crate::deadline::Deadline;
pub use before::Before;
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

/// What was put on an interface, to be taken off again when it leads nowhere.
#[derive(Default)]
struct Applied {
    addresses: Vec<(IpAddr, u8)>,
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

    fn configure(
        &mut self,
        link: &Link,
        applied: &mut Applied,
        deadline: Deadline,
    ) -> Result<(), String> {
        let default = [IpOption {
            method: Method::Dhcp,
            hostname: None,
            device: None,
            nameservers: Vec::new(),
            mtu: None,
        }];
        let options = if self.config.ip.is_empty() {
            &default[..]
        } else {
            &self.config.ip[..]
        };
        let mut nameservers = self.config.nameserver.clone();
        let mut failure = None;
        let mut working = 0;
        for option in options {
            nameservers.extend(&option.nameservers);
            if let Some(mtu) = option.mtu.filter(|_| self.config.mtu.is_none()) {
                self.set_mtu(link, mtu);
            }
            if let Some(name) = &option.hostname {
                set_host_name(name);
            }
            match self.method(link, option, applied, &mut nameservers, deadline) {
                Ok(()) => working += 1,
                Err(why) => failure = Some(why),
            }
        }
        match failure {
            Some(why) if working == 0 => return Err(why),
            Some(why) => (self.log)(&format!("{}: {why}", link.name)),
            None => {}
        }
        for route in &self.config.route {
            self.add_route(link, route, applied);
        }
        write_resolv_conf(&nameservers)
            .unwrap_or_else(|error| (self.log)(&format!("/etc/resolv.conf: {error}")));
        Ok(())
    }

    fn method(
        &mut self,
        link: &Link,
        option: &IpOption,
        applied: &mut Applied,
        nameservers: &mut Vec<IpAddr>,
        deadline: Deadline,
    ) -> Result<(), String> {
        match option.method {
            Method::Off => Ok(()),
            Method::Static {
                address,
                prefix,
                gateway,
            } => {
                self.add_address(link, address, prefix, applied)?;
                let any = |ip: IpAddr| {
                    if ip.is_ipv4() {
                        Ipv4Addr::UNSPECIFIED.into()
                    } else {
                        Ipv6Addr::UNSPECIFIED.into()
                    }
                };
                if gateway.is_some() {
                    self.add_route(
                        link,
                        &Route {
                            destination: any(address),
                            prefix: 0,
                            gateway,
                        },
                        applied,
                    );
                }
                (self.log)(&format!(
                    "{} {address}/{prefix}{}",
                    describe(link),
                    via(gateway)
                ));
                Ok(())
            }
            Method::Dhcp => {
                let mac = link.mac.ok_or("DHCP needs an Ethernet address")?;
                let name = option.hostname.as_deref().or(self.config.host.as_deref());
                let lease = dhcp::acquire(&link.name, mac, name, deadline)?;
                self.add_address(link, lease.address.into(), lease.prefix, applied)?;
                if let Some(mtu) = lease
                    .mtu
                    .filter(|_| self.config.mtu.is_none() && option.mtu.is_none())
                {
                    self.set_mtu(link, mtu);
                }
                for route in &lease.routes {
                    self.add_route(link, route, applied);
                }
                if let Some(name) = lease
                    .hostname
                    .as_ref()
                    .filter(|_| option.hostname.is_none())
                {
                    set_host_name(name);
                }
                let gateway = lease
                    .routes
                    .iter()
                    .find(|route| route.prefix == 0)
                    .and_then(|route| route.gateway);
                let (address, prefix, server) = (lease.address, lease.prefix, lease.server);
                (self.log)(&format!(
                    "{} {address}/{prefix}{} by DHCP from {server}",
                    describe(link),
                    via(gateway)
                ));
                nameservers.extend(lease.nameservers);
                Ok(())
            }
            Method::Auto6 => self.wait_ipv6(link, deadline),
        }
    }

    fn add_address(
        &mut self,
        link: &Link,
        ip: IpAddr,
        prefix: u8,
        applied: &mut Applied,
    ) -> Result<(), String> {
        address::add(&mut self.netlink, link.index, ip, prefix)
            .map_err(|error| format!("address {ip}/{prefix}: {error}"))?;
        applied.addresses.push((ip, prefix));
        Ok(())
    }

    /// A route that cannot be added is told, not fatal: the others may do.
    fn add_route(&mut self, link: &Link, route: &Route, applied: &Applied) {
        let on_link = |gateway: IpAddr| {
            applied
                .addresses
                .iter()
                .any(|(ip, p)| address::same_network(*ip, gateway, *p))
        };
        let is_link_local =
            |ip: IpAddr| matches!(ip, IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfe80);
        let far = route
            .gateway
            .is_some_and(|gateway| !on_link(gateway) && !is_link_local(gateway));
        if let Err(error) = address::add_route(&mut self.netlink, link.index, route, far) {
            (self.log)(&format!(
                "route {}/{}{}: {error}",
                route.destination,
                route.prefix,
                via(route.gateway)
            ));
        }
    }

    fn set_mtu(&mut self, link: &Link, mtu: u32) {
        if let Err(error) = link::set_mtu(&mut self.netlink, link.index, mtu) {
            (self.log)(&format!("{}: MTU {mtu}: {error}", link.name));
        }
    }

    /// The kernel does it all; this only waits.
    fn wait_ipv6(&mut self, link: &Link, deadline: Deadline) -> Result<(), String> {
        while !address::has_ipv6(&mut self.netlink, link.index, true)
            .map_err(|error| error.to_string())?
        {
            if deadline.passed() {
                return Err("no IPv6 router advertised a network".to_owned());
            }
            self.events.wait_event(deadline.left());
        }
        (self.log)(&format!(
            "{} has an IPv6 address by router advertisement",
            describe(link)
        ));
        Ok(())
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

fn via(gateway: Option<IpAddr>) -> String {
    gateway
        .map(|gateway| format!(" via {gateway}"))
        .unwrap_or_default()
}

/// The name of the capture kernel, for programs in the image that ask for one.
fn set_host_name(name: &str) {
    let _ = std::fs::write("/proc/sys/kernel/hostname", name);
}

/// Writes the name servers down for our resolver and for programs in the image, unless the image brought its own.
fn write_resolv_conf(nameservers: &[IpAddr]) -> io::Result<()> {
    use std::io::Write;
    let text: String = nameservers
        .iter()
        .take(3)
        .map(|address| format!("nameserver {address}\n"))
        .collect();
    if text.is_empty() {
        return Ok(());
    }
    let _ = std::fs::create_dir("/etc");
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(RESOLV_CONF);
    match file {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        file => file?.write_all(text.as_bytes()),
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
