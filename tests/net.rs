//! The network of a capture kernel, at one end of a cable with real servers at the other: addresses by every method,
//! and what happens when the servers are silent or the cable is out.

use std::fs;
use std::time::Duration;

mod machine;
use machine::{Cable, MAC, Machine, have};

const SOON: Duration = Duration::from_secs(15);
const SENT: &str = "no report of the crash";

/// Configures, delivers to a collector and reboots.
fn delivers(cable: &Cable, config: &str) -> String {
    let config = format!("{config}\nnet-timeout = 8\ndeadline = 14\nconsole-lines = 0\n");
    let end = Machine::on(cable, &config).boot().end(SOON);
    end.rebooted_within(SOON);
    assert!(
        cable.received().contains(SENT),
        "nothing was received:\n{}",
        end.console
    );
    end.console
}

/// Does not get through, and says so; still reboots.
fn gives_up(cable: &Cable, config: &str, limit_s: u64) -> String {
    let config = format!("{config}\ndeadline = {limit_s}\nconsole-lines = 0\n");
    let end = Machine::on(cable, &config).boot().end(SOON);
    end.rebooted_within(Duration::from_secs(limit_s));
    end.console
}

#[test]
fn a_static_address_reaches_a_neighbour() {
    needs_namespaces!();
    let mut cable = Cable::new(&["10.77.0.1/24"]);
    cable.collect(9001);
    let console = delivers(
        &cable,
        "send = tcp://10.77.0.1:9001\nip = 10.77.0.2::10.77.0.1:255.255.255.0",
    );
    assert!(
        console.contains(&format!("eth0 ({MAC}) 10.77.0.2/24 via 10.77.0.1")),
        "{console}"
    );
    assert!(console.contains("10.77.0.1 answers, ready"), "{console}");
}

#[test]
fn an_interface_is_found_by_its_mac_address_and_a_gateway_off_its_network_works() {
    needs_namespaces!();
    let mut cable = Cable::new(&["10.128.0.1/32", "10.99.0.1/32"]);
    cable.at_far_end(&["route", "add", "10.128.0.7/32", "dev", "far0"]);
    cable.collect(9002);
    let config =
        format!("send = tcp://10.99.0.1:9002\ninterface = {MAC}\nip = 10.128.0.7/32::10.128.0.1");
    let console = delivers(&cable, &config);
    assert!(console.contains("10.128.0.1 answers, ready"), "{console}");
}

#[test]
fn explicit_routes_and_the_mtu_are_set() {
    needs_namespaces!();
    let mut cable = Cable::new(&["10.77.0.1/24", "10.88.0.1/32"]);
    cable.collect(9003);
    let config = "send = tcp://10.88.0.1:9003\nip = 10.77.0.2/24\nroute = 10.88.0.0/16 via 10.77.0.1\nmtu = 1300";
    let console = delivers(&cable, config);
    assert!(console.contains("10.77.0.1 answers, ready"), "{console}");
}

#[test]
fn static_ipv6_is_ready_at_once() {
    needs_namespaces!();
    let mut cable = Cable::new(&["fd77::1/64"]);
    cable.collect(9004);
    let config = "send = tcp://[fd77::1]:9004\nip = [fd77::2]::[fd77::1]:64";
    let started = std::time::Instant::now();
    delivers(&cable, config);
    // Duplicate address detection alone would take a second on each of two addresses.
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn dhcp_gives_address_router_name_and_name_server() {
    needs_namespaces!();
    if !have("dnsmasq") {
        return eprintln!("SKIPPED: missing dnsmasq");
    }
    let mut cable = Cable::new(&["10.77.0.1/24"]);
    cable.collect(9005);
    cable.dnsmasq(&[
        "--dhcp-range=10.77.0.50,10.77.0.60,255.255.255.0",
        &format!("--dhcp-host={MAC},10.77.0.55,node17"),
        "--dhcp-option=option:mtu,1400",
        "--host-record=log.example,10.77.0.1",
        "--cname=collector.example,log.example",
    ]);
    let console = delivers(&cable, "send = tcp://collector.example:9005");
    assert!(
        console.contains("10.77.0.55/24 via 10.77.0.1 by DHCP from 10.77.0.1"),
        "{console}"
    );
    assert!(
        cable.received().contains("HOST: node17"),
        "{}",
        cable.received()
    );
}

#[test]
fn router_advertisements_give_an_ipv6_address() {
    needs_namespaces!();
    if !have("dnsmasq") {
        return eprintln!("SKIPPED: missing dnsmasq");
    }
    let mut cable = Cable::new(&["fd78::1/64"]);
    cable.collect(9006);
    cable.dnsmasq(&["--port=0", "--enable-ra", "--dhcp-range=fd78::,ra-only,64"]);
    let console = delivers(&cable, "send = tcp://[fd78::1]:9006\nip = auto6");
    assert!(
        console.contains("IPv6 address by router advertisement"),
        "{console}"
    );
}

#[test]
fn a_carrier_that_comes_late_is_waited_for_and_used_at_once() {
    needs_namespaces!();
    let mut cable = Cable::new(&["10.77.0.1/24"]);
    cable.collect(9007);
    cable.at_far_end(&["link", "set", "far0", "down"]);
    let config = "send = tcp://10.77.0.1:9007\nip = 10.77.0.2/24\nnet-timeout = 8\ndeadline = 14";
    let machine = Machine::on(&cable, config).boot();
    machine.wait_for("network: found eth0");
    std::thread::sleep(Duration::from_secs(2));
    cable.at_far_end(&["link", "set", "far0", "up"]);
    machine.wait_for("10.77.0.1 answers, ready");
    machine.end(SOON).rebooted_within(Duration::from_secs(6));
    assert!(cable.received().contains(SENT));
}

#[test]
fn a_cable_that_is_out_is_told() {
    needs_namespaces!();
    let cable = Cable::new(&["10.77.0.1/24"]);
    cable.at_far_end(&["link", "set", "far0", "down"]);
    let config = "send = tcp://10.77.0.1:9008\nip = 10.77.0.2/24\nnet-timeout = 2";
    let console = gives_up(&cable, config, 10);
    assert!(console.contains("no carrier on eth0"), "{console}");
    assert!(console.contains("NOT delivered"), "{console}");
}

#[test]
fn an_interface_that_is_not_there_is_told() {
    needs_namespaces!();
    let cable = Cable::new(&["10.77.0.1/24"]);
    let config = "send = tcp://10.77.0.1:9008\ninterface = 52:54:00:00:00:01\nip = 10.77.0.2/24\nnet-timeout = 1";
    let console = gives_up(&cable, config, 8);
    assert!(
        console.contains("no network interface (52:54:00:00:00:01)"),
        "{console}"
    );
}

#[test]
fn a_silent_dhcp_server_costs_no_more_than_the_time_for_the_network() {
    needs_namespaces!();
    let cable = Cable::new(&["10.77.0.1/24"]);
    let console = gives_up(&cable, "send = tcp://10.77.0.1:9009\nnet-timeout = 3", 10);
    assert!(
        console.contains("no answer from any DHCP server"),
        "{console}"
    );
}

#[test]
fn a_router_that_does_not_answer_is_named() {
    needs_namespaces!();
    let cable = Cable::new(&["10.77.0.1/24"]);
    let config =
        "send = tcp://10.99.0.1:9010\nip = 10.77.0.2/24::10.77.0.9\nnet-timeout = 2\ntimeout = 2";
    let console = gives_up(&cable, config, 10);
    assert!(console.contains("no answer from 10.77.0.9"), "{console}");
}

#[test]
fn a_silent_name_server_is_named_and_the_fallback_gets_the_report() {
    needs_namespaces!();
    let mut cable = Cable::new(&["10.77.0.1/24"]);
    cable.collect(9011);
    // The port is bound, and nobody ever reads.
    cable.start("socat", &["-u", "UDP-RECVFROM:53", "EXEC:sleep 60"]);
    let config = "send = tcp://log.example:9011\nfallback = tcp://10.77.0.1:9011\nip = 10.77.0.2/24\n\
                  nameserver = 10.77.0.1\ntimeout = 3\nretries = 0";
    let console = delivers(&cable, config);
    assert!(console.contains("log.example"), "{console}");
    assert!(console.contains("name server 10.77.0.1"), "{console}");
}

#[test]
fn a_name_that_does_not_exist_is_told() {
    needs_namespaces!();
    if !have("dnsmasq") {
        return eprintln!("SKIPPED: missing dnsmasq");
    }
    let mut cable = Cable::new(&["10.77.0.1/24"]);
    cable.dnsmasq(&["--address=/known.example/10.77.0.1"]);
    let config = "send = tcp://unknown.invalid:9012\nip = 10.77.0.2/24::10.77.0.1\nnameserver = 10.77.0.1\n\
                  timeout = 2\nnet-timeout = 3\nretries = 1";
    let console = gives_up(&cable, config, 8);
    assert!(console.contains("unknown.invalid"), "{console}");
}

#[test]
fn hosts_of_the_image_come_before_any_name_server() {
    needs_namespaces!();
    let mut cable = Cable::new(&["10.77.0.1/24"]);
    cable.collect(9013);
    let config = "send = tcp://log.example:9013\nip = 10.77.0.2/24::10.77.0.1\nnet-timeout = 8\ndeadline = 14";
    let machine = Machine::on(&cable, config);
    fs::write(machine.root.join("etc/hosts"), "10.77.0.1 log.example\n").unwrap();
    machine.boot().end(SOON).rebooted_within(SOON);
    assert!(cable.received().contains(SENT));
}

#[test]
fn the_first_interface_that_leads_somewhere_is_used() {
    needs_namespaces!();
    let mut cable = Cable::new(&["10.77.0.1/24"]);
    cable.collect(9014);
    // A second interface with a carrier; the good one comes later.
    let (near, far) = (cable.near.clone(), cable.far.clone());
    let peer = ["peer", "name", "dead1", "netns", &far];
    let dead = ["link", "add", "dead0", "netns", &near, "type", "veth"];
    cable.at_far_end(&[&dead[..], &peer].concat());
    // Nobody lives there: else the far end would answer for any of its addresses on it.
    cable.at_far_end(&["link", "set", "dead1", "arp", "off"]);
    cable.at_far_end(&["link", "set", "dead1", "up"]);
    cable.at_far_end(&["link", "set", "far0", "down"]);
    let config =
        "send = tcp://10.77.0.1:9014\nip = 10.77.0.2/24\nnet-timeout = 30\ndeadline = 40\n";
    let machine = Machine::on(&cable, config).boot();
    machine.wait_for("network: dead0");
    cable.at_far_end(&["link", "set", "far0", "up"]);
    let end = machine.end(Duration::from_secs(40));
    end.said("dead0: no answer from 10.77.0.1")
        .rebooted_within(Duration::from_secs(15));
    assert!(cable.received().contains(SENT), "{}", end.console);
}
