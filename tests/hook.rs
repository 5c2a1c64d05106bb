//! Inside a distribution's capture environment: the report is delivered, and the network is left as it was found.

use std::fs;
use std::process::{Command, Output, Stdio};

mod machine;
use machine::{Cable, MAC, Machine};

const SENT: &str = "no report of the crash";
const ACCEPT_DAD: &str = "cat /proc/sys/net/ipv6/conf/eth0/accept_dad";

/// Runs the hook's step at the near end of a cable, as no init.
fn hook(cable: &Cable, config: &str, seconds: &[&str]) -> (Machine, Output) {
    let machine = Machine::on(cable, &format!("{config}\nconsole-lines = 0\n"));
    for dir in ["proc", "dev"] {
        fs::create_dir(machine.root.join(dir)).unwrap();
    }
    let script = r#"mount -t proc proc "$1/proc" && mount --bind /dev "$1/dev" && r=$1 && shift &&
        chroot "$r" /init --step hook "$@"; exit $?"#;
    let output = Command::new("ip")
        .args(["netns", "exec", &cable.near, "unshare"])
        .args(["--pid", "--fork", "--mount", "--uts", "--ipc"])
        .args(["sh", "-c", script, "sh"])
        .arg(&machine.root)
        .args(seconds)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    (machine, output)
}

/// What a command prints at the near end.
fn near(cable: &Cable, command: &str) -> String {
    let words = ["netns", "exec", &cable.near, "sh", "-c", command];
    let output = Command::new("ip").args(words).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_report_leaves_and_the_interface_is_down_and_bare_again() {
    needs_namespaces!();
    let mut cable = Cable::new(&["10.77.0.1/24", "fd77::1/64"]);
    cable.collect(9101);
    let dad = near(&cable, ACCEPT_DAD);
    let config = format!(
        "send = tcp://10.77.0.1:9101\ninterface = {MAC}\nip = 10.77.0.2/24::10.77.0.1\nip = [fd77::2]/64\n\
         mtu = 1300\nnameserver = 10.77.0.1\nnet-timeout = 8\ndeadline = 14"
    );
    let (machine, output) = hook(&cable, &config, &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("report: delivered"), "{said}");
    assert!(cable.received().contains(SENT), "{said}");
    let link = near(&cable, "ip -o link show eth0");
    assert!(!link.contains("UP"), "{link}");
    assert!(link.contains("mtu 1500"), "{link}");
    assert_eq!(near(&cable, "ip -o addr show dev eth0"), "");
    assert_eq!(near(&cable, "ip route; ip -6 route show dev eth0"), "");
    assert_eq!(near(&cable, ACCEPT_DAD), dad);
    assert!(!machine.root.join("etc/resolv.conf").exists());
}

#[test]
fn a_network_that_others_have_configured_is_used_and_left_alone() {
    needs_namespaces!();
    let mut cable = Cable::new(&["10.77.0.1/24"]);
    cable.collect(9102);
    let up = "ip link set eth0 up; ip addr add 10.77.0.9/24 dev eth0; ip route add default via 10.77.0.1";
    near(&cable, up);
    let before = near(&cable, "ip -o -4 addr show dev eth0; ip route");
    let config = "send = tcp://10.77.0.1:9102\nip = 10.77.0.2/24\nnet-timeout = 8\ndeadline = 14";
    let (_machine, output) = hook(&cable, config, &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("eth0 was configured before"), "{said}");
    assert!(cable.received().contains(SENT), "{said}");
    assert_eq!(
        near(&cable, "ip -o -4 addr show dev eth0; ip route"),
        before
    );
}

#[test]
fn addresses_of_others_stay_when_theirs_does_not_lead_to_the_target() {
    needs_namespaces!();
    let mut cable = Cable::new(&["10.77.0.1/24"]);
    cable.collect(9103);
    near(
        &cable,
        "ip link set eth0 up; ip addr add 10.66.0.9/24 dev eth0",
    );
    let config = "send = tcp://10.77.0.1:9103\nip = 10.77.0.2/24\nnet-timeout = 8\ndeadline = 14";
    let (_machine, output) = hook(&cable, config, &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(cable.received().contains(SENT), "{said}");
    let addresses = near(&cable, "ip -o -4 addr show dev eth0");
    assert!(addresses.contains("10.66.0.9/24"), "{addresses}");
    assert!(!addresses.contains("10.77.0.2"), "{addresses}");
}

#[test]
fn without_a_collector_it_ends_in_the_time_it_was_given() {
    needs_namespaces!();
    let cable = Cable::new(&["10.77.0.1/24"]);
    let started = std::time::Instant::now();
    let config = "send = tcp://10.77.0.7:9104\nip = 10.77.0.2/24";
    let (_machine, output) = hook(&cable, config, &["8"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(said.contains("NOT delivered"), "{said}");
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
    let link = near(&cable, "ip -o link show eth0; ip -o -4 addr show dev eth0");
    assert!(!link.contains("UP") && !link.contains("inet"), "{link}");
}
