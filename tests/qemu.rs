//! Real panics in a VM, run only where `CRASHDMESG_QEMU=1` asks for it: each takes half a minute and installs what it needs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Whether VM runs are wanted; says so when not.
fn wanted() -> bool {
    let wanted = std::env::var_os("CRASHDMESG_QEMU").is_some_and(|value| value == "1");
    if !wanted {
        println!("skipped: VM runs need CRASHDMESG_QEMU=1");
    }
    wanted
}

fn qemu(script: &str, arguments: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(root.join("qemu").join(script));
    if let Some(kernel) = std::env::var_os("CRASHDMESG_KERNEL")
        && script == "run"
    {
        command.arg("--kernel").arg(kernel);
    }
    command.args(arguments).output().unwrap()
}

fn scratch(name: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&target).unwrap();
    target
}

fn read(path: PathBuf) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// The messages of a log or console, with their times, in order.
fn messages(text: &str) -> Vec<&str> {
    let lines = text.lines().map(str::trim_end);
    lines
        .filter(|line| line.starts_with('[') && line.get(13..14) == Some("]"))
        .collect()
}

#[test]
fn the_text_that_arrives_is_that_of_the_saved_vmcore_and_of_the_console() {
    if !wanted() {
        return;
    }
    let out = scratch("vm-vmcore");
    let vmcore = out.join("vmcore");
    let output = qemu(
        "run",
        &[
            "--quiet",
            "--keep-vmcore",
            vmcore.to_str().unwrap(),
            "--out",
            out.to_str().unwrap(),
        ],
    );
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let received = read(out.join("report"));
    let offline = Command::new(env!("CARGO_BIN_EXE_crashdmesg"))
        .arg("--log")
        .arg(&vmcore)
        .output()
        .unwrap();
    let offline = String::from_utf8_lossy(&offline.stdout).into_owned();
    let offline = messages(&offline);
    assert!(offline.len() > 200, "{} lines", offline.len());
    let arrived: std::collections::BTreeSet<&str> = messages(&received).into_iter().collect();
    let lost: Vec<&&str> = offline
        .iter()
        .filter(|line| !arrived.contains(**line))
        .collect();
    assert!(lost.is_empty(), "not in what arrived: {lost:?}");
    // The console shows what its log level lets through, and ends where the next kernel starts.
    let console = read(out.join("crashed.console"));
    let known: std::collections::BTreeSet<&str> = offline.iter().copied().collect();
    let shown = messages(&console);
    assert!(shown.len() > 100, "{} lines", shown.len());
    let strange: Vec<&&str> = shown
        .iter()
        .filter(|line| !known.contains(**line))
        .collect();
    assert!(strange.is_empty(), "on the console alone: {strange:?}");
    std::fs::remove_file(vmcore).unwrap();
}

#[test]
fn kdump_images_of_the_distributions_generators_deliver() {
    if !wanted() {
        return;
    }
    let kernel =
        std::env::var("CRASHDMESG_KERNEL").unwrap_or_else(|_| "linux-image-cloud-amd64".into());
    for (generator, port) in [("initramfs-tools", "7311"), ("dracut", "7312")] {
        let out = scratch(&format!("vm-{generator}"));
        let image = out.join("kdump.img");
        let image = image.to_str().unwrap();
        let made = qemu(
            "generate",
            &[generator, &kernel, image, &format!("tcp://10.0.2.2:{port}")],
        );
        if !made.status.success() {
            let said = String::from_utf8_lossy(&made.stderr).into_owned();
            assert!(!said.contains("crashdmesg:"), "{generator}: {said}");
            println!("skipped: {generator} does not run here: {said}");
            continue;
        }
        #[rustfmt::skip]
        let arguments = ["--image", image, "--port", port, "--crashkernel", "192M", "--out", out.to_str().unwrap(), "--quiet",
            "--capture-append", "rd.shell=0 rd.emergency=reboot"];
        let output = qemu("run", &arguments);
        assert!(
            output.status.success(),
            "{generator}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

/// A machine at the end of these layers arms itself, rehearses, dies and is heard of; its console, and that of its capture kernel.
fn through(name: &str, layers: &str) -> Option<(String, String)> {
    if !wanted() {
        return None;
    }
    let out = scratch(name);
    let directory = out.to_str().unwrap();
    let output = qemu("run", &["--quiet", "--net", layers, "--out", directory]);
    let console = read(out.join("crashed.console"));
    let capture = read(out.join("capture.console"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}\n{console}\n{capture}");
    assert!(read(out.join("rehearsal")).contains("REHEARSAL"), "{said}");
    assert!(
        console.contains("armed, a panic is reported (0 errors"),
        "{console}"
    );
    Some((console.replace('\r', ""), capture))
}

#[test]
fn a_vlan_with_a_small_mtu_leads_to_a_collector_behind_a_router() {
    let Some((console, capture)) = through("vm-vlan", "vlan:5,mtu:1400,far") else {
        return;
    };
    let recorded = "image: interface = 52:54:00:11:00:00\nimage: vlan = 5\nimage: mtu = 1400\nimage: ip = 10.9.0.2/24::10.9.0.1\n";
    assert!(console.contains(recorded), "{console}");
    assert!(capture.contains("10.9.0.1 answers, ready"), "{capture}");
}

#[test]
fn a_vlan_on_a_bond_holds_when_the_first_port_loses_its_link() {
    let Some((console, capture)) = through("vm-bond", "bond:active-backup,vlan:5,unplug") else {
        return;
    };
    let recorded = "image: bond = 52:54:00:11:00:00,52:54:00:11:00:01\nimage: vlan = 5\nimage: ip = 10.9.0.2/24::\n";
    assert!(console.contains(recorded), "{console}");
    assert!(
        capture.contains("crashbond: active-backup bond of eth0, eth1"),
        "{capture}"
    );
    assert!(!capture.contains("one by one"), "{capture}");
}

/// The peer takes nothing from a port that does not speak LACP.
#[test]
fn a_bridge_on_a_vlan_on_an_lacp_bond_is_stood_in_for_by_what_is_below_it() {
    let Some((console, capture)) = through("vm-bridge", "bond:802.3ad,vlan:5,bridge,ipv6,far")
    else {
        return;
    };
    let recorded =
        "image: bond-mode = 802.3ad\nimage: vlan = 5\nimage: ip = [fd00:9::2]/64::[fe80::9]\n";
    assert!(console.contains(recorded), "{console}");
    assert!(
        capture.contains("crashbond: 802.3ad bond of eth0, eth1"),
        "{capture}"
    );
    assert!(!capture.contains("one by one"), "{capture}");
}
