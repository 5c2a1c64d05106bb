//! Ready: the next machine on the way to a target answers.
//!
//! The kernel is asked for the way to each target, then told to find the link address of the first machine on it (ARP or
//! neighbour solicitation, sent by the kernel itself, no packet of ours), until one of them is found.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::address::{Neighbour, NextHop, has_ipv6, neighbour, next_hop, solicit};
use super::configure::write_resolv_conf;
use super::link::{Link, list};
use super::{POLL, Setup};
use crate::config::ip::Method;
use crate::deadline::Deadline;

/// More ways out than any capture kernel has.
const HOPS_MAX: usize = 8;

/// Addresses that are nowhere: the way to them leads through the default router, if there is one. Nothing is sent.
pub const BEYOND: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

/// For the answer on a way that somebody else has set up.
const ALREADY: Duration = Duration::from_secs(3);
/// The kernel makes a link-local address at once when the carrier comes, and after a second when it was there before the
/// interface was brought up (`linkwatch_urgent_event`).
const LINK_LOCAL: Duration = Duration::from_secs(2);

impl Setup<'_> {
    /// Whether somebody else has configured the network, and it leads to a target: then it is best left alone.
    pub(super) fn works_already(&mut self) -> bool {
        let mut hops = Vec::new();
        for target in self.targets {
            hops.extend(next_hop(&mut self.netlink, *target).ok());
        }
        hops.retain(|hop| !hop.local);
        let links = list(&mut self.netlink).unwrap_or_default();
        for link in links {
            if hops.iter().any(|hop| hop.index == link.index)
                && self
                    .wait_ready(&link, self.deadline.within(ALREADY))
                    .is_ok()
            {
                (self.log)(&format!("{} was configured before", link.name));
                let _ = write_resolv_conf(&self.config.nameserver);
                return true;
            }
        }
        false
    }

    /// Waits until the first machine on the way to a target is known.
    pub(super) fn wait_ready(&mut self, link: &Link, deadline: Deadline) -> Result<(), String> {
        let hops = self.next_hops(link);
        if hops.is_empty() && !self.targets.is_empty() {
            let first = self.targets[0];
            return Err(format!("no route to {first}"));
        }
        if hops.is_empty() || hops.iter().any(|hop| hop.local) {
            return Ok(());
        }
        if hops.iter().all(|hop| hop.address.is_ipv6()) {
            self.wait_link_local(link, deadline.within(LINK_LOCAL));
        }
        loop {
            for hop in &hops {
                match neighbour(&mut self.netlink, hop)
                    .map_err(|error| format!("neighbours: {error}"))?
                {
                    Neighbour::Known => {
                        (self.log)(&format!("{} answers, ready", hop.address));
                        return Ok(());
                    }
                    Neighbour::Asked => {}
                    Neighbour::Unknown => {
                        solicit(&mut self.netlink, hop)
                            .map_err(|error| format!("{}: {error}", hop.address))?;
                    }
                }
            }
            if deadline.passed() {
                let names: Vec<String> = hops.iter().map(|hop| hop.address.to_string()).collect();
                return Err(format!("no answer from {}", names.join(", ")));
            }
            deadline.sleep(POLL);
        }
    }

    /// Neighbour solicitations come from the link-local address: without one the first is not sent, and the kernel waits
    /// for a second before the next.
    fn wait_link_local(&mut self, link: &Link, deadline: Deadline) {
        while !deadline.passed()
            && has_ipv6(&mut self.netlink, link.index, false).is_ok_and(|found| !found)
        {
            deadline.sleep(POLL);
        }
    }

    /// The first machines on the ways through `link` to the targets; without a target that is an address, to the router
    /// and the name servers.
    fn next_hops(&mut self, link: &Link) -> Vec<NextHop> {
        let mut hops: Vec<NextHop> = Vec::new();
        let mut destinations = self.targets.to_vec();
        if destinations.is_empty() {
            destinations = self.other_destinations();
        }
        for destination in destinations {
            let Ok(hop) = next_hop(&mut self.netlink, destination) else {
                continue;
            };
            let through_here = hop.local || hop.index == link.index;
            if through_here && !hops.contains(&hop) && hops.len() < HOPS_MAX {
                hops.push(hop);
            }
        }
        hops
    }

    fn other_destinations(&self) -> Vec<IpAddr> {
        let gateways = self
            .config
            .ip
            .iter()
            .filter_map(|option| match option.method {
                Method::Static { gateway, .. } => gateway,
                _ => None,
            });
        gateways
            .chain(self.config.nameserver.iter().copied())
            .chain(BEYOND)
            .collect()
    }
}
