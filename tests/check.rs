//! `--check` on machines made here: one that is well, and what is said of each thing that goes wrong with it; and
//! `--rehearse`, which fails when delivery would.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread;

const RELEASE: &str = "6.1.0-test";

/// A machine that is armed and well, in a directory that goes away with the test.
struct Machine {
    root: PathBuf,
    collector: TcpListener,
}

impl Machine {
    fn new(name: &str) -> Self {
        let id = std::process::id();
        let root = std::env::temp_dir().join(format!("crashdmesg-check-{name}-{id}"));
        let _ = fs::remove_dir_all(&root);
        let collector = TcpListener::bind("127.0.0.1:0").unwrap();
        let machine = Machine { root, collector };
        let target = format!("send = tcp://{}\n", machine.collector.local_addr().unwrap());
        let plan = format!("var/lib/crashdmesg/capture-{RELEASE}.plan");
        let conf = format!("{target}interface = 02:00:00:00:00:07\nip = 127.0.0.1/8\n");
        for (path, text) in [
            ("proc/sys/kernel/osrelease", RELEASE),
            ("proc/iomem", "  01000000-02ffffff : Kernel code\n"),
            ("proc/cmdline", "console=ttyS0 crashkernel=128M"),
            ("sys/kernel/kexec_crash_size", "134217728"),
            ("sys/kernel/kexec_crash_loaded", "1"),
            (
                "sys/kernel/security/lockdown",
                "[none] integrity confidentiality",
            ),
            ("sys/class/net/eth0/address", "02:00:00:00:00:07"),
            ("proc/sys/kernel/panic_on_oops", "1"),
            ("proc/sys/kernel/softlockup_panic", "1"),
            ("proc/sys/kernel/hung_task_panic", "1"),
            ("proc/sys/kernel/unknown_nmi_panic", "1"),
            ("proc/sys/vm/panic_on_oom", "1"),
            ("proc/sys/kernel/sysrq", "438"),
            ("etc/crashdmesg.conf", &target),
            (&format!("{plan}/crashdmesg.conf"), &conf),
            (
                &format!("{plan}/modules"),
                "virtio_pci\nvirtio_net napi=1\n",
            ),
        ] {
            machine.write(path, text);
        }
        for (device, driver) in [("03.0", "virtio_pci"), ("03.0/virtio0", "virtio_net")] {
            machine.write(&format!("sys/module/{driver}/initstate"), "live");
            let at = machine.root.join(format!("sys/devices/{device}/driver"));
            fs::create_dir_all(&at).unwrap();
            symlink(
                machine.root.join(format!("sys/module/{driver}")),
                at.join("module"),
            )
            .unwrap();
        }
        let device = machine.root.join("sys/devices/03.0/virtio0");
        symlink(device, machine.root.join("sys/class/net/eth0/device")).unwrap();
        machine.link_unit("crashdmesg.service");
        fs::create_dir_all(machine.root.join("run/systemd/system")).unwrap();
        // Last, so that it is newer than the configuration.
        machine.write(
            &format!("var/lib/crashdmesg/capture-{RELEASE}.img"),
            "image",
        );
        machine
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }

    fn add_to_plan(&self, line: &str) {
        let path = format!("var/lib/crashdmesg/capture-{RELEASE}.plan/crashdmesg.conf");
        let text = fs::read_to_string(self.root.join(&path)).unwrap();
        self.write(&path, &format!("{text}{line}"));
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.root.join(path)).unwrap();
    }

    fn link_unit(&self, unit: &str) {
        // kdump-tools starts earlier than the others.
        let target = if unit == "kdump-tools.service" {
            "basic"
        } else {
            "multi-user"
        };
        let wants = self
            .root
            .join(format!("etc/systemd/system/{target}.target.wants"));
        fs::create_dir_all(&wants).unwrap();
        symlink(format!("/usr/lib/systemd/system/{unit}"), wants.join(unit)).unwrap();
    }

    /// As `crashdmesg-arm --kdump` on Debian leaves it.
    fn join_kdump(&self) {
        self.remove("etc/systemd/system/multi-user.target.wants/crashdmesg.service");
        self.remove(&format!("var/lib/crashdmesg/capture-{RELEASE}.img"));
        self.link_unit("kdump-tools.service");
        self.write(&format!("var/lib/kdump/initrd.img-{RELEASE}"), "image");
    }

    /// Makes a file a day old.
    fn age(&self, path: &str) {
        let yesterday = std::time::SystemTime::now() - std::time::Duration::from_secs(86_400);
        let file = fs::File::options().write(true).open(self.root.join(path));
        file.unwrap().set_modified(yesterday).unwrap();
    }

    fn check(&self) -> (i32, String) {
        let output = crashdmesg(&["--check"], Some(&self.root));
        let text = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), text)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

fn crashdmesg(arguments: &[&str], root: Option<&PathBuf>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crashdmesg"));
    if let Some(root) = root {
        command.env("CRASHDMESG_ROOT", root);
    }
    command.args(arguments).output().unwrap()
}

#[test]
fn a_machine_that_is_well_has_no_findings() {
    let machine = Machine::new("well");
    let (status, text) = machine.check();
    assert_eq!(
        text,
        "crashdmesg: armed, a panic is reported (0 errors, 0 warnings)\n"
    );
    assert_eq!(status, 0);
}

#[test]
fn a_machine_whose_own_kdump_was_joined_has_no_findings() {
    let machine = Machine::new("joined");
    machine.join_kdump();
    let (status, text) = machine.check();
    assert!(text.ends_with("(0 errors, 0 warnings)\n"), "{text}");
    assert_eq!(status, 0);
}

/// What is done to a machine, the status that follows, and words of the one finding.
type Plant = (&'static str, fn(&Machine), i32, &'static str, &'static str);

#[rustfmt::skip]
const PLANTS: &[Plant] = &[
    ("nothing reserved", |m| m.write("sys/kernel/kexec_crash_size", "0"), 2,
        "no memory is reserved", "boot with crashkernel="),
    ("too little reserved", |m| m.write("sys/kernel/kexec_crash_size", "33554432"), 2,
        "32 MiB are reserved, but about", "boot with crashkernel="),
    ("no kexec", |m| m.remove("sys/kernel/kexec_crash_size"), 2,
        "cannot load a capture kernel", "CONFIG_KEXEC"),
    ("nothing loaded", |m| m.write("sys/kernel/kexec_crash_loaded", "0"), 2,
        "no capture kernel is loaded", "crashdmesg-arm"),
    ("not enabled", |m| m.remove("etc/systemd/system/multi-user.target.wants/crashdmesg.service"), 1,
        "crashdmesg.service is not enabled", "systemctl enable"),
    ("two services", |m| m.link_unit("kdump.service"), 1,
        "kdump.service loads a capture kernel, too", "disable kdump.service"),
    ("kdump without us", |m| { m.join_kdump(); m.age("etc/crashdmesg.conf"); m.age(&format!("var/lib/kdump/initrd.img-{RELEASE}")); }, 2,
        "initrd.img-6.1.0-test was made without crashdmesg", "crashdmesg-arm --kdump"),
    ("kdump not enabled", |m| { m.join_kdump(); m.remove("etc/systemd/system/basic.target.wants/kdump-tools.service"); }, 1,
        "the distribution's kdump is not enabled", "systemctl enable"),
    ("no image of this kernel", |m| m.remove("var/lib/crashdmesg/capture-6.1.0-test.img"), 2,
        "no capture image of kernel 6.1.0-test", "crashdmesg-arm"),
    ("no driver in the image", |m| m.write("var/lib/crashdmesg/capture-6.1.0-test.plan/modules", "virtio_pci"), 2,
        "the module virtio_net, which drives eth0, is not in the image", "crashdmesg-arm"),
    ("another card", |m| m.write("sys/class/net/eth0/address", "02:00:00:00:00:08"), 2,
        "02:00:00:00:00:07, which is not here any more", "crashdmesg-arm"),
    ("moved into a VLAN", |m| { m.write("sys/class/net/mgmt/ifindex", "1"); m.write("proc/net/vlan/mgmt", "mgmt  VID: 6\t REORDER_HDR: 1"); }, 2,
        "127.0.0.1 is on VLAN 6 (mgmt) now, and the image has no VLAN", "crashdmesg-arm"),
    ("moved out of a VLAN", |m| { m.write("sys/class/net/mgmt/ifindex", "1"); m.add_to_plan("vlan = 5"); }, 2,
        "the image has VLAN 5, but 127.0.0.1 is on mgmt now", "crashdmesg-arm"),
    ("bonded by LACP", |m| { m.write("sys/class/net/br0/ifindex", "1"); m.write("sys/class/net/br0/lower_bond0", "");
        m.write("sys/class/net/bond0/bonding/mode", "802.3ad 4"); }, 1,
        "bond0 is a bond in mode 802.3ad, which the image does not make", "crashdmesg-arm"),
    ("no oops", |m| m.write("proc/sys/kernel/panic_on_oops", "0"), 2,
        "kernel.panic_on_oops is 0", "sysctl -w kernel.panic_on_oops=1"),
    ("no soft lockup", |m| m.write("proc/sys/kernel/softlockup_panic", "0"), 1,
        "kernel.softlockup_panic is 0", "sysctl -w kernel.softlockup_panic=1"),
    ("no hung task", |m| m.write("proc/sys/kernel/hung_task_panic", "0"), 1,
        "kernel.hung_task_panic is 0", "sysctl -w kernel.hung_task_panic=1"),
    ("no NMI", |m| m.write("proc/sys/kernel/unknown_nmi_panic", "0"), 1,
        "kernel.unknown_nmi_panic is 0", "sysctl -w kernel.unknown_nmi_panic=1"),
    ("no OOM", |m| m.write("proc/sys/vm/panic_on_oom", "0"), 1,
        "vm.panic_on_oom is 0", "sysctl -w vm.panic_on_oom=1"),
    ("no SysRq", |m| m.write("proc/sys/kernel/sysrq", "0"), 1,
        "kernel.sysrq is 0", "sysctl -w kernel.sysrq=1"),
    ("wrong hardware clock", |m| m.write("sys/class/rtc/rtc0/since_epoch", "86400"), 1,
        "the hardware clock is", "hwclock --systohc"),
    ("confidentiality", |m| m.write("sys/kernel/security/lockdown", "none integrity [confidentiality]"), 2,
        "confidentiality mode", "lockdown=integrity"),
];

#[test]
fn every_planted_fault_is_found_alone_and_with_its_fix() {
    for (name, plant, status, words, fix) in PLANTS {
        let machine = Machine::new(&name.replace(' ', "-"));
        plant(&machine);
        let (found, text) = machine.check();
        assert_eq!(found, *status, "{name}: {text}");
        let findings: Vec<&str> = text.lines().skip(1).collect();
        assert_eq!(findings.len(), 1, "{name}: {text}");
        let (what, how) = findings[0].split_once("; fix: ").unwrap();
        assert!(what.contains(words) && how.contains(fix), "{name}: {text}");
    }
}

#[test]
fn what_is_wrong_with_the_configuration_and_its_targets_is_found() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for (conf, words) in [
        ("# nothing", "names no target"),
        ("sned = tcp://127.0.0.1:1", "line 1: unknown key 'sned'"),
        ("send = pigeon://coop", "pigeon://coop: "),
        (&format!("send = tcp://{free}"), "cannot be reached: "),
        (
            &format!("send = http://me:secret@{free}/x"),
            "http://***@127.0.0.1",
        ),
    ] {
        let machine = Machine::new("config");
        machine.write("etc/crashdmesg.conf", conf);
        // The image is made after it.
        machine.write(
            &format!("var/lib/crashdmesg/capture-{RELEASE}.img"),
            "image",
        );
        let (status, text) = machine.check();
        assert_eq!(status, 2, "{conf}: {text}");
        assert!(text.contains(words), "{conf}: {text}");
        assert!(!text.contains("secret"), "{text}");
    }
    let machine = Machine::new("no-config");
    machine.remove("etc/crashdmesg.conf");
    let (status, text) = machine.check();
    assert!(
        status == 2 && text.contains("crashdmesg-arm --send URL"),
        "{text}"
    );
}

#[test]
fn an_address_that_the_machine_no_longer_has_is_found() {
    let machine = Machine::new("address");
    let plan = format!("var/lib/crashdmesg/capture-{RELEASE}.plan/crashdmesg.conf");
    machine.write(&plan, "interface = 02:00:00:00:00:07\nip = 192.0.2.55/24");
    let (status, text) = machine.check();
    assert_eq!(status, 2);
    assert!(
        text.contains("the image has the address 192.0.2.55"),
        "{text}"
    );
    assert!(
        text.contains("is reached from 127.0.0.1 now, but the image has 192.0.2.55"),
        "{text}"
    );
}

#[test]
fn the_reservation_to_use_is_printed_alone() {
    let machine = Machine::new("crashkernel");
    let output = crashdmesg(&["--crashkernel"], Some(&machine.root));
    let text = String::from_utf8(output.stdout).unwrap();
    let mib: u64 = text.trim().strip_suffix('M').unwrap().parse().unwrap();
    assert!((64..=128).contains(&mib), "{text}");
}

#[test]
fn a_rehearsal_is_marked_and_fails_when_delivery_would() {
    if fs::File::open("/dev/kmsg").is_err() {
        println!("skipped: /dev/kmsg cannot be read here");
        return;
    }
    let collector = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("tcp://{}", collector.local_addr().unwrap());
    let received = thread::spawn(move || {
        let mut text = Vec::new();
        collector
            .accept()
            .unwrap()
            .0
            .read_to_end(&mut text)
            .unwrap();
        String::from_utf8_lossy(&text).into_owned()
    });
    let output = crashdmesg(&["--rehearse", "--send", &target], None);
    assert!(output.status.success(), "{output:?}");
    let text = received.join().unwrap();
    assert!(
        text.starts_with("REHEARSAL: this machine has not crashed\n"),
        "{text}"
    );
    assert!(text.lines().any(|line| line.starts_with('[')), "{text}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&format!("{target} sent")), "{said}");

    // Nobody listens there any more.
    let arguments = [
        "--rehearse",
        "--send",
        &target,
        "--retries",
        "0",
        "--timeout",
        "5",
    ];
    let output = crashdmesg(&arguments, None);
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("failed"));
}
