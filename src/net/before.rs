//! The network as it was found, to be left so: others configure it after us.
//!
//! Inside a distribution's capture environment its own tools come next. udev cannot rename an interface that is up (before
//! Linux 6.2), NetworkManager takes one with an address for somebody else's, and what asks for a lease gets a second
//! address. So everything that [`super::bring_up`] may change is looked at before, and put back afterwards: by reading the
//! kernel's tables again, since it was another process that changed them.

use std::fs;
use std::path::Path;

use super::address::{self, Assigned};
use super::link::{self, Link};
use super::netlink::Netlink;
use super::{RESOLV_CONF, bond, sysctls};

/// The kernel's own host name is not set again: `(none)` is what it says without one.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";
const MTU_PROBING: &str = "/proc/sys/net/ipv4/tcp_mtu_probing";

/// What was there before.
pub struct Before {
    links: Vec<Link>,
    addresses: Vec<Assigned>,
    /// Files and what they held.
    files: Vec<(String, String)>,
    has_resolv_conf: bool,
}

impl Before {
    /// Looks at it. What cannot be read counts as absent.
    pub fn take() -> Self {
        let mut before = Before {
            links: Vec::new(),
            addresses: Vec::new(),
            files: Vec::new(),
            has_resolv_conf: fs::symlink_metadata(RESOLV_CONF).is_ok(),
        };
        if let Ok(mut netlink) = Netlink::open(0) {
            before.links = link::list(&mut netlink).unwrap_or_default();
            before.addresses = address::list(&mut netlink).unwrap_or_default();
        }
        let of_links = before.links.iter().flat_map(|link| sysctls(&link.name));
        let paths: Vec<String> = of_links
            .chain([HOST_NAME.to_owned(), MTU_PROBING.to_owned()])
            .collect();
        for path in paths {
            before
                .files
                .extend(fs::read_to_string(&path).ok().map(|text| (path, text)));
        }
        before
    }

    /// Puts it back. What fails is left: the next one may still cope.
    pub fn restore(&self) {
        if let Ok(mut netlink) = Netlink::open(0) {
            self.restore_links(&mut netlink);
        }
        for (path, text) in &self.files {
            // A file with another value of its own accord is not ours; these are written by nobody else this early.
            if fs::read_to_string(path).is_ok_and(|now| now != *text) {
                let _ = fs::write(path, text.trim_end());
            }
        }
        if !self.has_resolv_conf && Path::new(RESOLV_CONF).exists() {
            let _ = fs::remove_file(RESOLV_CONF);
        }
    }

    fn restore_links(&self, netlink: &mut Netlink) {
        // The ports of a bond are free, and down, when it goes.
        let now = link::list(netlink).unwrap_or_default();
        for made in now.iter().filter(|link| self.was_made(link)) {
            let _ = link::delete(netlink, made.index);
        }
        for new in address::list(netlink).unwrap_or_default() {
            if new.permanent && new.global && !self.addresses.contains(&new) {
                let _ = address::remove(netlink, new.index, new.address, new.prefix);
            }
        }
        for link in link::list(netlink).unwrap_or_default() {
            let old = self.links.iter().find(|old| old.index == link.index);
            if link.up && !link.loopback && !old.is_some_and(|old| old.up) {
                let _ = link::set_up(netlink, link.index, false);
            }
            match old {
                Some(old) if old.mtu != link.mtu => {
                    let _ = link::set_mtu(netlink, link.index, old.mtu);
                }
                Some(_) => {}
                // It came later, with what new interfaces get.
                None => sysctls(&link.name)
                    .zip(sysctls("default"))
                    .for_each(restore_default),
            }
        }
    }

    /// Whether this interface is one that [`super::bring_up`] makes, and was not there before.
    fn was_made(&self, link: &Link) -> bool {
        let vlan = link
            .name
            .strip_prefix('v')
            .and_then(|name| name.split_once('.'));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let is_vlan = vlan.is_some_and(|(lower, id)| is_number(lower) && is_number(id));
        (is_vlan || link.name == bond::NAME)
            && !self.links.iter().any(|old| old.index == link.index)
    }
}

/// Gives a setting of an interface the value of new ones.
fn restore_default((path, default): (String, String)) {
    if let Ok(value) = fs::read_to_string(default) {
        let _ = fs::write(path, value.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_interfaces_that_we_make_are_taken_away() {
        let named = |index, name: &str| Link {
            index,
            name: name.to_owned(),
            ..Link::default()
        };
        let before = Before {
            links: vec![named(2, "eth0"), named(3, "v1.7")],
            addresses: Vec::new(),
            files: Vec::new(),
            has_resolv_conf: false,
        };
        assert!(before.was_made(&named(9, "v2.42")));
        assert!(before.was_made(&named(9, bond::NAME)));
        for (index, name) in [
            (3, "v1.7"),
            (9, "eth1"),
            (9, "veth0"),
            (9, "v."),
            (9, "vlan.5"),
        ] {
            assert!(!before.was_made(&named(index, name)), "{name}");
        }
    }
}
