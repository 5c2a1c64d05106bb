//! What is recorded of a machine's network: a machine is a tree that looks like sysfs, and an `ip` that says what we tell
//! it to.

use std::fs;
use std::os::unix::fs::symlink;

use super::Scratch;

/// A machine: interfaces in something like sysfs, and an `ip` that knows one route and one address.
fn machine(name: &str, interface: &str, address: &str, gateway: &str) -> Scratch {
    let tree = Scratch::new(name);
    let script = format!(
        r#"#!/bin/sh
case "$*" in
*"route get 192.0.2.200"*) echo "192.0.2.200 via 192.0.2.77 dev {interface} src {address}" ;;
*"route get"*) echo "x via {gateway} dev {interface} src {address} uid 0" ;;
*"route show default"*) echo "default via {gateway} dev {interface}" ;;
*"addr show"*) echo "4: {interface}    inet {address}/20 brd 192.0.15.255 scope global {interface}" ;;
esac
"#
    );
    tree.program("bin/ip", &script);
    tree
}

impl Scratch {
    /// A network port: its place under /sys/devices, and the driver of each device on the way, deepest last.
    fn port(&self, name: &str, mac: &str, path: &[(&str, &str)]) {
        let mut at = "sys/devices".to_owned();
        for (device, driver) in path {
            at = format!("{at}/{device}");
            fs::create_dir_all(self.at(&at)).unwrap();
            if driver.is_empty() {
                continue;
            }
            let (module, home) = (
                format!("sys/module/{driver}"),
                format!("sys/drivers/{driver}"),
            );
            for directory in [&module, &home] {
                fs::create_dir_all(self.at(directory)).unwrap();
            }
            self.write(&format!("{module}/initstate"), b"live");
            let _ = symlink(self.at(&module), self.at(&format!("{home}/module")));
            self.link(&format!("{at}/driver"), self.at(&home).to_str().unwrap());
            self.module(driver, &[]);
        }
        self.class(name, mac, "1500");
        let class = format!("sys/class/net/{name}/device");
        self.link(&class, self.at(&at).to_str().unwrap());
    }

    fn class(&self, name: &str, mac: &str, mtu: &str) {
        self.write(&format!("sys/class/net/{name}/address"), mac.as_bytes());
        self.write(&format!("sys/class/net/{name}/mtu"), mtu.as_bytes());
    }

    /// An interface made of others.
    fn upper(&self, name: &str, lowers: &[&str]) {
        self.class(name, "02:00:00:00:00:ff", "1400");
        for lower in lowers {
            let link = format!("sys/class/net/{name}/lower_{lower}");
            self.link(&link, &format!("../{lower}"));
        }
    }
}

#[test]
fn a_virtio_port_is_recorded_with_the_bus_it_sits_on() {
    let tree = machine("virtio", "ens3", "192.0.2.5", "192.0.2.1");
    let path = [
        ("pci0000:00", ""),
        ("0000:00:03.0", "virtio_pci"),
        ("virtio0", "virtio_net"),
    ];
    tree.port("ens3", "52:54:00:12:34:56", &path);
    let targets = [
        "--send",
        "relp://198.51.100.1:2514",
        "--send",
        "tcp://192.0.2.200:1",
    ];
    let image = tree.built(&targets);
    assert_eq!(image.modules(), ["virtio_pci", "virtio_net"]);
    let conf = image.text("etc/crashdmesg.conf");
    for line in [
        "interface = 52:54:00:12:34:56\n",
        "ip = 192.0.2.5/20::192.0.2.1\n",
        "route = 192.0.2.200/32 via 192.0.2.77\n",
    ] {
        assert!(conf.contains(line), "{conf}");
    }
    assert!(!conf.contains("mtu"), "{conf}");
    assert!(image.said.contains("192.0.2.5/20 via 192.0.2.1"));
    // What the operator has written stands.
    let own = b"send = relp://198.51.100.1:2514\nip = dhcp\n";
    tree.write("machine.conf", own);
    let image = tree.built(&[]);
    let conf = image.text("etc/crashdmesg.conf");
    assert!(
        conf.contains("ip = dhcp\n") && !conf.contains("192.0.2.5"),
        "{conf}"
    );
}

#[test]
fn a_vlan_over_a_bond_brings_every_layer() {
    let tree = machine("vlan", "bond0.42", "192.0.2.5", "192.0.2.1");
    let one = [("pci0", ""), ("0000:01:00.0", "igb")];
    let two = [("pci1", "vmd"), ("0000:02:00.0", "ixgbe")];
    tree.port("eno1", "02:00:00:00:00:ff", &one);
    tree.port("eno2", "02:00:00:00:00:ff", &two);
    for (port, mac) in [("eno1", "02:00:00:00:00:01"), ("eno2", "02:00:00:00:00:02")] {
        let path = format!("sys/class/net/{port}/bonding_slave/perm_hwaddr");
        tree.write(&path, mac.as_bytes());
    }
    tree.upper("bond0", &["eno1", "eno2"]);
    tree.write("sys/class/net/bond0/bonding/slaves", b"eno1 eno2\n");
    tree.write("sys/class/net/bond0/bonding/mode", b"active-backup 1\n");
    tree.upper("bond0.42", &["bond0"]);
    tree.write("sys/class/net/bond0.42/uevent", b"DEVTYPE=vlan\n");
    let vlan = b"bond0.42  VID: 42\t REORDER_HDR: 1\n";
    tree.write("proc/net/vlan/bond0.42", vlan);
    tree.module("8021q", &[]);
    tree.module("bonding", &[]);
    let image = tree.built(&["--send", "relp://198.51.100.1:2514"]);
    let conf = image.text("etc/crashdmesg.conf");
    for line in [
        "bond = 02:00:00:00:00:01,02:00:00:00:00:02\n",
        "vlan = 42\n",
        "mtu = 1400\n",
    ] {
        assert!(conf.contains(line), "{conf}");
    }
    assert!(!conf.contains("interface ="), "{conf}");
    let all = ["8021q", "bonding", "igb", "ixgbe", "vmd"];
    assert_eq!(image.sorted_modules(), all);
}

#[test]
fn a_bridge_is_replaced_by_its_port() {
    let tree = machine("bridge", "br0", "192.0.2.5", "192.0.2.1");
    let path = [("pci0", ""), ("0000:01:00.0", "e1000e")];
    tree.port("enp1s0", "02:00:00:00:00:07", &path);
    tree.upper("tap0", &[]);
    tree.upper("br0", &["tap0", "enp1s0"]);
    let image = tree.built(&["--send", "relp://198.51.100.1:2514"]);
    let conf = image.text("etc/crashdmesg.conf");
    assert!(conf.contains("interface = 02:00:00:00:00:07\n"), "{conf}");
    assert_eq!(image.modules(), ["e1000e"]);
}

#[test]
fn netvsc_brings_the_function_below_it() {
    let tree = machine("netvsc", "eth0", "10.0.0.4", "10.0.0.1");
    let synthetic = [("VMBUS", "hv_vmbus"), ("net", "hv_netvsc")];
    let function = [("VMBUS", ""), ("pci", "pci_hyperv"), ("vf", "mlx5_core")];
    tree.port("eth0", "00:0d:3a:00:00:01", &synthetic);
    tree.port("enP1", "00:0d:3a:00:00:01", &function);
    tree.link("sys/class/net/eth0/lower_enP1", "../enP1");
    let image = tree.built(&["--send", "relp://198.51.100.1:2514"]);
    let all = ["hv_netvsc", "hv_vmbus", "mlx5_core", "pci_hyperv"];
    assert_eq!(image.sorted_modules(), all);
}

#[test]
fn dhcp_records_the_interface_alone_and_none_records_nothing() {
    let tree = machine("dhcp", "eth0", "192.0.2.5", "192.0.2.1");
    let path = [("pci0", ""), ("0000:01:00.0", "e1000e")];
    tree.port("eth0", "02:00:00:00:00:07", &path);
    let image = tree.built(&["--send", "tcp://198.51.100.1:1", "--network", "dhcp"]);
    let conf = "send = tcp://198.51.100.1:1\ninterface = 02:00:00:00:00:07\nip = dhcp\n";
    assert_eq!(image.text("etc/crashdmesg.conf"), conf);
    let image = tree.built(&["--send", "tcp://198.51.100.1:1", "--network", "none"]);
    let conf = "send = tcp://198.51.100.1:1\n";
    assert_eq!(image.text("etc/crashdmesg.conf"), conf);
    assert!(image.modules().is_empty());
}

#[test]
fn a_bond_that_the_switch_knows_of_keeps_its_mode_under_a_bridge_of_many_taps() {
    let tree = machine("lacp", "br0", "192.0.2.5", "192.0.2.1");
    for (port, mac, slot) in [
        ("eno1", "02:00:00:00:00:01", "0000:01:00.0"),
        ("eno2", "02:00:00:00:00:02", "0000:02:00.0"),
    ] {
        tree.port(port, mac, &[("pci0", ""), (slot, "igb")]);
    }
    tree.upper("bond0", &["eno1", "eno2"]);
    tree.write("sys/class/net/bond0/bonding/slaves", b"eno1 eno2\n");
    tree.write("sys/class/net/bond0/bonding/mode", b"802.3ad 4\n");
    tree.upper("atap0", &[]);
    tree.upper("br0", &["atap0", "bond0"]);
    tree.module("bonding", &[]);
    let image = tree.built(&["--send", "relp://198.51.100.1:2514"]);
    let conf = image.text("etc/crashdmesg.conf");
    let expected = "bond = 02:00:00:00:00:01,02:00:00:00:00:02\nbond-mode = 802.3ad\n";
    assert!(conf.contains(expected), "{conf}");
    assert!(!image.said.contains("no hardware"), "{}", image.said);
    assert_eq!(image.sorted_modules(), ["bonding", "igb"]);
}

#[test]
fn an_interface_that_links_to_nothing_is_led_back_to_the_port_with_its_address() {
    // As Open vSwitch does.
    let tree = machine("twin", "br-ex", "192.0.2.5", "192.0.2.1");
    let path = [("pci0", ""), ("0000:01:00.0", "e1000e")];
    tree.port("enp1s0", "02:00:00:00:00:07", &path);
    tree.class("br-ex", "02:00:00:00:00:07", "1500");
    let image = tree.built(&["--send", "relp://198.51.100.1:2514"]);
    let conf = image.text("etc/crashdmesg.conf");
    assert!(conf.contains("interface = 02:00:00:00:00:07\n"), "{conf}");
    assert_eq!(image.modules(), ["e1000e"]);
    // A tunnel has no such port.
    tree.class("br-ex", "", "1420");
    let image = tree.built(&["--send", "relp://198.51.100.1:2514"]);
    assert!(
        image.said.contains("br-ex has no hardware below it"),
        "{}",
        image.said
    );
    assert!(!image.text("etc/crashdmesg.conf").contains("interface"));
}

#[test]
fn an_address_made_up_at_boot_does_not_choose_the_interface() {
    let tree = machine("random", "eth0", "192.0.2.5", "192.0.2.1");
    let path = [("pci0", ""), ("0000:01:00.0", "iavf")];
    tree.port("eth0", "02:00:00:00:00:07", &path);
    tree.write("sys/class/net/eth0/addr_assign_type", b"1\n");
    let image = tree.built(&["--send", "relp://198.51.100.1:2514"]);
    let conf = image.text("etc/crashdmesg.conf");
    assert!(
        !conf.contains("interface") && conf.contains("ip = 192.0.2.5/20"),
        "{conf}"
    );
    assert_eq!(image.modules(), ["iavf"]);
}

#[test]
fn every_target_finds_the_address_and_the_route_that_it_is_reached_by() {
    let tree = Scratch::new("families");
    let script = r#"#!/bin/sh
case "$*" in
*"route get 192.0.2.9"*) echo "192.0.2.9 dev eth0 src 192.0.2.5" ;;
*"route get 192.0.2.10"*) echo "192.0.2.10 dev eth0 src 192.0.2.5" ;;
*"route get 10.7.0.9"*) echo "10.7.0.9 dev eth0 src 192.0.2.5" ;;
*"route get 2001:db8::9"*) echo "2001:db8::9 via fe80::1 dev eth0 src 2001:db8:5::5 metric 100" ;;
*"-4 route show match 192.0.2."*) echo "192.0.2.0/24 scope link src 192.0.2.5" ;;
*"-4 route show default"*) echo "default via 192.0.2.1" ;;
*"-6 route show default"*) echo "default via fe80::1 proto ra" ;;
*"addr show"*) printf '2: eth0    inet 192.0.2.5/24 scope global eth0\n2: eth0    inet6 2001:db8:5::5/64 scope global\n' ;;
esac
"#;
    tree.program("bin/ip", script);
    tree.port(
        "eth0",
        "02:00:00:00:00:07",
        &[("pci0", ""), ("0000:01:00.0", "e1000e")],
    );
    #[rustfmt::skip]
    let image = tree.built(&["--send", "tcp://192.0.2.9:1", "--send", "tcp://[2001:db8::9]:1", "--send", "tcp://10.7.0.9:1",
        "--send", "tcp://192.0.2.10:1"]);
    let conf = image.text("etc/crashdmesg.conf");
    let expected =
        "ip = 192.0.2.5/24::192.0.2.1\nip = [2001:db8:5::5]/64::[fe80::1]\nroute = 10.7.0.9/32\n";
    assert!(conf.ends_with(expected), "{conf}");
}

#[test]
fn vlans_inside_vlans_are_recorded_from_the_cable_upwards() {
    let tree = machine("qinq", "inner", "192.0.2.5", "192.0.2.1");
    let script = fs::read_to_string(tree.at("bin/ip")).unwrap();
    let details = "case \"$*\" in\n\"-d -o link show outer\") echo '3: outer@eth0: <UP> mtu 1500 \\    link/ether 02:00:00:00:00:07 \\    vlan protocol 802.1ad id 100 <REORDER_HDR> ' ;;\n";
    tree.program("bin/ip", &script.replacen("case \"$*\" in\n", details, 1));
    let path = [("pci0", ""), ("0000:01:00.0", "e1000e")];
    tree.port("eth0", "02:00:00:00:00:07", &path);
    for (name, lower) in [("outer", "eth0"), ("inner", "outer")] {
        tree.upper(name, &[lower]);
        tree.write(&format!("sys/class/net/{name}/uevent"), b"DEVTYPE=vlan\n");
    }
    tree.write("proc/net/vlan/inner", b"inner  VID: 5\t REORDER_HDR: 1\n");
    tree.module("8021q", &[]);
    let image = tree.built(&["--send", "relp://198.51.100.1:2514"]);
    let conf = image.text("etc/crashdmesg.conf");
    assert!(conf.contains("vlan = 802.1ad:100,5\n"), "{conf}");
    assert!(image.said.contains("VLAN 802.1ad:100,5"), "{}", image.said);
}

#[test]
fn a_temporary_address_is_recorded_as_the_lasting_one() {
    let tree = Scratch::new("temporary");
    let script = r#"#!/bin/sh
case "$*" in
*"route get"*) echo "2001:db8::9 via fe80::1 dev eth0 src 2001:db8:5:0:91ab:77:1:2 metric 100" ;;
*"-6 route show default"*) echo "default via fe80::1 proto ra" ;;
*"addr show"*) cat <<LINES
2: eth0    inet6 2001:db8:5:0:91ab:77:1:2/64 scope global temporary dynamic \       valid_lft 604800sec preferred_lft 86400sec
2: eth0    inet6 fd00::5054:ff:fe12:3456/64 scope global dynamic mngtmpaddr \       valid_lft 2592000sec preferred_lft 604800sec
2: eth0    inet6 2001:db8:5:0:5054:ff:fe12:3456/64 scope global dynamic mngtmpaddr \       valid_lft 2592000sec
LINES
;;
esac
"#;
    tree.program("bin/ip", script);
    tree.port(
        "eth0",
        "02:00:00:00:00:07",
        &[("pci0", ""), ("0000:01:00.0", "e1000e")],
    );
    let image = tree.built(&["--send", "tcp://[2001:db8::9]:1"]);
    let conf = image.text("etc/crashdmesg.conf");
    let expected = "ip = [2001:db8:5:0:5054:ff:fe12:3456]/64::[fe80::1]\n";
    assert!(conf.ends_with(expected), "{conf}");
}
