//! The hooks for the distributions' image generators, by parts: when they join, what they put in, how often they ship. The
//! generators themselves run in `tests/qemu.rs`, the step that they start in `tests/hook.rs`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

const HOOKS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/initramfs/hooks");

struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("crashdmesg-hooks-{}-{count}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.0.join(path)).unwrap_or_default()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn bash(script: &str) -> Output {
    Command::new("bash").args(["-c", script]).output().unwrap()
}

#[test]
fn the_dracut_module_joins_kdumps_image_and_no_other() {
    let module = format!("{HOOKS}/dracut/module-setup.sh");
    for (environment, joins) in [
        ("add_dracutmodules=' kdumpbase '", true),
        ("add_dracutmodules=' squash kdumpbase  watchdog '", true),
        ("add_dracutmodules=' kdump '", true),
        ("force_add_dracutmodules='kdump'", true),
        ("dracutmodules='base kdump shutdown'", true),
        ("IN_KDUMP=1", true),
        ("dracutmodules=all", false),
        ("add_dracutmodules=' earlykdump '", false),
        ("dracutmodules='base kdump-tool'", false),
    ] {
        let output = bash(&format!("set -u; {environment}; . '{module}'; check"));
        let code = if joins { 0 } else { 255 };
        assert_eq!(
            output.status.code(),
            Some(code),
            "{environment}: {output:?}"
        );
    }
}

#[test]
fn dracuts_configuration_names_the_module_where_a_list_has_kdump() {
    let conf = format!("{HOOKS}/dracut/crashdmesg.conf");
    for (list, added) in [
        (
            "dracutmodules_l=('bash systemd kdump dbus')",
            " crashdmesg ",
        ),
        ("dracutmodules_l=(base kdump)", " crashdmesg "),
        ("dracutmodules_l=(base)", ""),
        ("dracutmodules_l=()", ""),
        (":", ""),
    ] {
        let output = bash(&format!(
            "add_dracutmodules=''; {list}; . '{conf}'; printf %s \"$add_dracutmodules\""
        ));
        assert!(output.status.success(), "{list}: {output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), added, "{list}");
    }
}

/// `ship` in a machine of this test's: its paths lead into a directory, where the binary notes how it was called.
fn ship(machine: &Scratch, shell: &[&str]) {
    let text = fs::read_to_string(Path::new(HOOKS).join("ship")).unwrap();
    let mut script = text.replace("/proc/vmcore", "ROOT/vmcore");
    for path in ["/run/", "/etc/", "/usr/sbin/crashdmesg", "/sbin/modprobe"] {
        script = script.replace(&format!(" {path}"), &format!(" ROOT{path}"));
        script = script.replace(&format!(">{path}"), &format!(">ROOT{path}"));
        script = script.replace(&format!("<{path}"), &format!("<ROOT{path}"));
    }
    let script = script.replace("ROOT", machine.0.to_str().unwrap());
    let script = machine.write("ship", &script);
    let output = Command::new(shell[0])
        .args(&shell[1..])
        .arg(script)
        .output()
        .unwrap();
    // kdump-utils ends in its final action, without a dump, when its hook says anything else.
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

/// A machine whose crashdmesg ends with this code.
fn machine(code: u8) -> Scratch {
    let machine = Scratch::new();
    let notes = machine.0.join("calls").display().to_string();
    let program = format!("#!/bin/sh\necho \"$*\" >>{notes}\nexit {code}\n");
    machine.write("usr/sbin/crashdmesg", &program);
    machine.write(
        "sbin/modprobe",
        &format!("#!/bin/sh\necho \"modprobe $*\" >>{notes}\n"),
    );
    machine.write("etc/crashdmesg.load", "virtio_pci\nvirtio_net napi_tx=0\n");
    machine.write("etc/crashdmesg.hosts", "192.0.2.1 log.example\n");
    machine.write("etc/hosts", "127.0.0.1 localhost\n");
    machine.write("run/empty", "");
    machine
}

fn shells() -> Vec<Vec<&'static str>> {
    let mut shells = vec![vec!["sh"], vec!["bash"]];
    if Command::new("busybox")
        .arg("true")
        .status()
        .is_ok_and(|status| status.success())
    {
        shells.push(vec!["busybox", "sh"]);
    }
    shells
}

#[test]
fn what_was_delivered_is_not_sent_again() {
    for shell in shells() {
        let machine = machine(0);
        machine.write("vmcore", "");
        ship(&machine, &shell);
        ship(&machine, &shell);
        let calls = machine.read("calls");
        let expected = "modprobe -q virtio_pci\nmodprobe -q virtio_net napi_tx=0\n--step hook\n";
        assert_eq!(calls, expected, "{shell:?}");
        let hosts = machine.read("etc/hosts");
        assert_eq!(
            hosts, "127.0.0.1 localhost\n192.0.2.1 log.example\n",
            "{shell:?}"
        );
    }
}

#[test]
fn what_was_not_delivered_is_tried_once_more_and_not_for_long() {
    let machine = machine(5);
    machine.write("vmcore", "");
    for _ in 0..3 {
        ship(&machine, &["sh"]);
    }
    let calls = machine.read("calls");
    let steps: Vec<&str> = calls
        .lines()
        .filter(|line| line.starts_with("--"))
        .collect();
    assert_eq!(steps, ["--step hook", "--step hook 60"]);
    assert_eq!(machine.read("etc/hosts").lines().count(), 2);
}

#[test]
fn nothing_happens_in_a_kernel_that_is_not_there_to_capture() {
    let machine = machine(0);
    ship(&machine, &["sh"]);
    assert_eq!(machine.read("calls"), "");
    assert!(!machine.0.join("run/crashdmesg.tried").exists());
}

#[test]
fn the_mkinitcpio_hook_puts_in_what_both_kinds_of_image_need() {
    // mkinitcpio's functions, as its manual describes them, noting how they are called; and a plan.
    let tree = Scratch::new();
    let lib = tree.0.join("lib");
    let plan = "#!/bin/sh\nmkdir -p \"$2/files/usr/bin\"; echo 'send = tcp://192.0.2.1:1' >\"$2/crashdmesg.conf\"\n\
                printf 'virtio_pci\\nigb rings=1\\n' >\"$2/modules\"; : >\"$2/files/usr/bin/dbclient\"\n";
    tree.write("lib/hooks/plan", plan);
    tree.write("lib/build", "");
    let hook = fs::read_to_string(Path::new(HOOKS).join("mkinitcpio/install")).unwrap();
    let hook = hook.replace("=/usr/lib/crashdmesg", &format!("={}", lib.display()));
    let hook = tree.write("install", &hook);
    let script = format!(
        "set -eu; BUILDROOT='{}'; KERNELVERSION=6.1\n\
         for f in add_module add_binary add_file add_symlink add_runscript; do eval \"$f() {{ echo $f \\\"\\$*\\\"; }}\"; done\n\
         . '{}'; build; help >/dev/null",
        tree.0.join("root").display(),
        hook.display()
    );
    let output = bash(&script);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    for call in [
        "add_module virtio_pci\n",
        "add_module igb\n",
        " /etc/crashdmesg.conf 600\n",
        " /etc/crashdmesg.load 644\n",
        " /usr/bin/dbclient ",
        "/hooks/ship /usr/lib/crashdmesg/ship 755\n",
        "add_runscript \n",
        "add_symlink /usr/bin/sh busybox\n",
        "/hooks/ship.service /usr/lib/systemd/system/crashdmesg-ship.service 644\n",
        "add_symlink /usr/lib/systemd/system/sysinit.target.wants/crashdmesg-ship.service ../crashdmesg-ship.service\n",
    ] {
        assert!(said.contains(call), "{call:?}:\n{said}");
    }
    let hook = fs::read_to_string(Path::new(HOOKS).join("mkinitcpio/hook")).unwrap();
    assert!(hook.contains("\nrun_hook() {"), "{hook}");
}
