//! Bonds: several ports as one interface, in the mode that the switch knows from the crashed kernel.
//!
//! An active-backup bond asks nothing of a switch. One that expects LACP (802.3ad) may keep a port shut that does not speak
//! it, and one with a static group sends to any of its ports: there the capture kernel must do as the crashed one did.
//! Where the bond cannot be made or leads nowhere, its ports are tried alone.

use super::Setup;
use super::link::{self, Link};
use super::{TRIAL, netlink::Netlink};

/// Its name: not one that the bonding module takes by itself when it is loaded without `max_bonds=0`, in a mode of its own.
pub(super) const NAME: &str = "crashbond";

impl Setup<'_> {
    /// Makes the bond and waits until it leads somewhere, with time left for its ports alone.
    pub(super) fn try_bond(&mut self) -> Result<(), String> {
        let deadline = self.deadline.within(self.deadline.left() * 2 / 3);
        self.make_bond()?;
        let bond = self.with_carrier(NAME, deadline)?;
        self.try_link(&bond, deadline)
    }

    /// Takes the bond away, whose ports are free then.
    pub(super) fn dissolve_bond(&mut self) {
        if let Ok(Some(bond)) = find(&mut self.netlink) {
            let _ = link::delete(&mut self.netlink, bond.index);
        }
    }

    /// Makes the bond out of the ports that are there; a missing one is waited for only while there is none.
    fn make_bond(&mut self) -> Result<(), String> {
        link::add_bond(&mut self.netlink, NAME, self.config.bond_mode)
            .map_err(|error| format!("cannot be made: {error}"))?;
        let bond = find(&mut self.netlink)?.ok_or("it vanished")?;
        // The first port gives the bond its address, so the first one configured is waited for a little.
        let patience = self.deadline.within(TRIAL);
        let wanted = self.wanted();
        loop {
            let links = list(&mut self.netlink)?;
            let ports: Vec<&Link> = wanted
                .iter()
                .flat_map(|one| links.iter().filter(|link| link.is(one)))
                .collect();
            if ports.len() >= wanted.len() || (patience.passed() && !ports.is_empty()) {
                return self.enslave(&bond, &ports);
            }
            if self.deadline.passed() {
                return Err("none of its ports is there".to_owned());
            }
            self.events.wait_event(if ports.is_empty() {
                self.deadline.left()
            } else {
                patience.left()
            });
        }
    }

    fn enslave(&mut self, bond: &Link, ports: &[&Link]) -> Result<(), String> {
        let mut joined: Vec<&str> = Vec::new();
        for port in ports {
            if port.up {
                let _ = link::set_up(&mut self.netlink, port.index, false);
            }
            match link::set_master(&mut self.netlink, port.index, bond.index) {
                Ok(()) => joined.push(&port.name),
                Err(error) => (self.log)(&format!("{NAME}: {} cannot join: {error}", port.name)),
            }
        }
        if joined.is_empty() {
            return Err("no port could join".to_owned());
        }
        let mode = self.config.bond_mode.name();
        (self.log)(&format!("{NAME}: {mode} bond of {}", joined.join(", ")));
        Ok(())
    }
}

fn list(netlink: &mut Netlink) -> Result<Vec<Link>, String> {
    link::list(netlink).map_err(|error| format!("list of interfaces: {error}"))
}

fn find(netlink: &mut Netlink) -> Result<Option<Link>, String> {
    Ok(list(netlink)?.into_iter().find(|link| link.name == NAME))
}
