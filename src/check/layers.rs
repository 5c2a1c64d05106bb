//! VLANs and bonds under the image's address now, against those that the image will make.
//!
//! ```text
//! /sys/class/net/NAME/ifindex         which interface has the address       lower_OTHER   what it stands on
//! /proc/net/vlan/NAME                 "NAME  VID: 5  REORDER_HDR: 1 ..."     bonding/mode  "802.3ad 4"
//! ```

use crate::config::Config;
use crate::config::ip::Method;

use super::{Findings, Root};

/// More interfaces under one than any machine has; a loop of links ends here.
const BELOW_MAX: usize = 256;
/// The modes that are this machine's own affair; of the others the switch knows.
const OWN_MODES: [&str; 3] = ["active-backup", "balance-tlb", "balance-alb"];

/// Whether a network that was changed after the image was made would still take its packets.
pub fn check(root: &Root, config: &Config, findings: &mut Findings) {
    let address = config.ip.iter().find_map(|option| match option.method {
        Method::Static { address, .. } => Some(address),
        _ => None,
    });
    let Some((address, index)) =
        address.and_then(|address| Some((address, crate::net::index_of(address)?)))
    else {
        return;
    };
    let has_index = |name: &String| {
        root.number(&format!("/sys/class/net/{name}/ifindex")) == Some(u64::from(index))
    };
    let Some(top) = root.names("/sys/class/net").into_iter().find(has_index) else {
        return;
    };
    let below = stack(root, &top);
    let now: Vec<u64> = below
        .iter()
        .filter_map(|name| vlan_id(root, name))
        .collect();
    let gone = config
        .vlan
        .iter()
        .find(|vlan| !now.contains(&u64::from(vlan.id)));
    if let Some(vlan) = gone {
        findings.error(
            format!(
                "the image has VLAN {}, but {address} is on {top} now, which is not on it",
                vlan.id
            ),
            "crashdmesg-arm",
        );
    } else if let (true, Some(id)) = (config.vlan.is_empty(), vlan_id(root, &top)) {
        findings.error(
            format!("{address} is on VLAN {id} ({top}) now, and the image has no VLAN"),
            "crashdmesg-arm",
        );
    }
    for bond in &below {
        let mode = root.read(&format!("/sys/class/net/{bond}/bonding/mode"));
        let Some(mode) = mode.as_deref().and_then(|mode| mode.split(' ').next()) else {
            continue;
        };
        let same = !config.bond.is_empty() && config.bond_mode.name() == mode;
        if !same && !OWN_MODES.contains(&mode) {
            findings.warning(
                format!("{bond} is a bond in mode {mode}, which the image does not make: the switch may shut the ports"),
                "crashdmesg-arm",
            );
        }
    }
}

/// The interface and all that it stands on.
fn stack(root: &Root, top: &str) -> Vec<String> {
    let mut names = vec![top.to_owned()];
    let mut at = 0;
    while let Some(name) = names.get(at) {
        let entries = root.names(&format!("/sys/class/net/{name}"));
        for lower in entries
            .iter()
            .filter_map(|entry| entry.strip_prefix("lower_"))
        {
            if names.len() < BELOW_MAX && !names.iter().any(|name| name == lower) {
                names.push(lower.to_owned());
            }
        }
        at += 1;
    }
    names
}

/// The number of the VLAN that an interface is.
fn vlan_id(root: &Root, name: &str) -> Option<u64> {
    let text = root.read(&format!("/proc/net/vlan/{name}"))?;
    let (_, rest) = text.split_once("VID:")?;
    rest.split_whitespace().next()?.parse().ok()
}
