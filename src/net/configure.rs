//! Addresses, routes and name servers on an interface that is up: as configured, by DHCP, or as routers advertise them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::link::{self, Link};
use super::{RESOLV_CONF, Setup, address, describe, dhcp};
use crate::config::ip::Method;
use crate::config::{IpOption, Route};
use crate::deadline::Deadline;

/// What was put on an interface, to be taken off again when it leads nowhere.
#[derive(Default)]
pub(super) struct Applied {
    pub addresses: Vec<(IpAddr, u8)>,
}

impl Setup<'_> {
    /// Puts everything on an interface; fails when no address could be had at all.
    pub(super) fn configure(
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
pub(super) fn write_resolv_conf(nameservers: &[IpAddr]) -> io::Result<()> {
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
