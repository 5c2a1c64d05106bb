//! The scripts around the binary: installation, the capture kernel's command line, other systems' settings; and the
//! manual page, which must know every option and key that the program knows.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

fn script(name: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("initramfs")
            .join(name),
    );
    command
}

/// A directory of its own for each call.
fn scratch(name: &str) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let path =
        std::env::temp_dir().join(format!("crashdmesg-{name}-{}-{count}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn help(option: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_crashdmesg"))
        .arg(option)
        .output();
    stdout(&output.unwrap())
}

/// The long options in a text.
fn long_options(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    let long = words.filter(|word| word.starts_with("--") && word.len() > 4);
    long.map(str::to_owned).collect()
}

#[test]
fn the_manual_knows_every_option_and_key_and_no_others() {
    let roff = fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/initramfs/crashdmesg.8"
    ))
    .unwrap();
    let manual = roff.replace("\\-", "-").replace("\\fB", "");
    let of_program = long_options(&help("--help"));
    let (options, _) = manual.split_once(".SH CONFIGURATION").unwrap();
    let (_, options) = options.split_once(".SH OPTIONS").unwrap();
    assert_eq!(long_options(options), of_program);

    let keys = help("--help-config");
    let keys: Vec<&str> = keys
        .lines()
        .filter(|line| {
            line.starts_with("* ") || (line.starts_with("  ") && !line.starts_with("   "))
        })
        .filter_map(|line| line.split_whitespace().find(|word| *word != "*"))
        .collect();
    assert!(keys.contains(&"send") && keys.len() > 15, "{keys:?}");
    let (_, configuration) = manual.split_once(".SH CONFIGURATION").unwrap();
    let (configuration, _) = configuration.split_once(".SH TARGETS").unwrap();
    let words: BTreeSet<&str> = configuration
        .split(|c: char| !(c.is_ascii_lowercase() || c == '-'))
        .collect();
    for key in keys {
        assert!(
            words.contains(key),
            "the manual does not know the key {key}"
        );
    }
}

#[test]
fn one_step_installs_everything_under_destdir_and_prefix() {
    let destination = scratch("install");
    let output = script("install")
        .env("DESTDIR", &destination)
        .env("PREFIX", "/usr")
        .env("BINARY", env!("CARGO_BIN_EXE_crashdmesg"))
        .output()
        .unwrap();
    stdout(&output);
    for path in [
        "usr/sbin/crashdmesg",
        "usr/lib/crashdmesg/build",
        "usr/lib/crashdmesg/net.sh",
        "usr/lib/crashdmesg/qemu/run",
        "usr/share/man/man8/crashdmesg.8",
        "usr/share/bash-completion/completions/crashdmesg",
        "usr/share/initramfs-tools/hooks/crashdmesg",
        "usr/lib/dracut/modules.d/99crashdmesg/module-setup.sh",
        "usr/lib/initcpio/install/crashdmesg",
        "etc/init.d/crashdmesg",
    ] {
        assert!(destination.join(path).is_file(), "{path}");
    }
    let link = fs::read_link(destination.join("usr/sbin/crashdmesg-arm")).unwrap();
    assert_eq!(link, Path::new("../lib/crashdmesg/arm"));
    let unit = destination.join("usr/lib/systemd/system/crashdmesg.service");
    let unit = fs::read_to_string(unit).unwrap();
    assert!(
        unit.contains("ExecStart=/usr/lib/crashdmesg/arm ") && !unit.contains('@'),
        "{unit}"
    );
    // What was installed runs from there.
    let build = destination.join("usr/lib/crashdmesg/build");
    let output = Command::new("sh")
        .arg(build)
        .arg("--help")
        .output()
        .unwrap();
    assert!(stdout(&output).starts_with("Usage: crashdmesg-build"));
    fs::remove_dir_all(destination).unwrap();
}

/// What bash offers for the last of these words.
fn completed(path: &Path, words: &[&str]) -> BTreeSet<String> {
    let text = "source \"$0\"; COMP_WORDS=(\"$@\") COMP_CWORD=$(($# - 1)); \
                [[ $(complete -p \"$1\") == *' -F _crashdmesg '* ]] && _crashdmesg && printf '%s\\n' \"${COMPREPLY[@]}\"";
    let output = Command::new("bash")
        .args(["-c", text])
        .arg(
            path.join("usr/share/bash-completion/completions")
                .join(words[0]),
        )
        .args(words)
        .env(
            "PATH",
            format!("{}:/usr/bin:/bin", path.join("usr/sbin").display()),
        )
        .output();
    stdout(&output.unwrap())
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_command_has_help_a_manual_page_and_completions() {
    let destination = scratch("commands");
    let output = script("install")
        .env("DESTDIR", &destination)
        .env("PREFIX", "/usr")
        .env("BINARY", env!("CARGO_BIN_EXE_crashdmesg"))
        .output();
    stdout(&output.unwrap());
    let offered = completed(&destination, &["crashdmesg", "--su"]);
    assert_eq!(offered, BTreeSet::from(["--summary".to_owned()]));
    let offered = completed(&destination, &["crashdmesg", "--log", "--level", "e"]);
    let levels = ["emerg", "err"].map(str::to_owned);
    assert_eq!(offered, BTreeSet::from(levels));
    // Every option and every key.
    let offered = completed(&destination, &["crashdmesg", "--"]);
    let options = long_options(&help("--help"));
    assert!(options.is_subset(&offered), "{options:?} {offered:?}");
    assert!(offered.contains("--net-timeout"), "{offered:?}");

    let sbin = destination.join("usr/sbin");
    let mut commands = 0;
    for entry in fs::read_dir(&sbin).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(short) = name.strip_prefix("crashdmesg-") else {
            continue;
        };
        commands += 1;
        let output = Command::new(sbin.join(&name)).arg("--help").output();
        let help = stdout(&output.unwrap());
        assert!(help.starts_with(&format!("Usage: {name} [")), "{help}");
        let page = format!("usr/share/man/man8/{name}.8");
        let page = fs::read_to_string(destination.join(page)).unwrap();
        assert_eq!(page, ".so man8/crashdmesg.8\n");
        for link in [
            format!("bash-completion/completions/{name}"),
            format!("fish/vendor_completions.d/{name}.fish"),
        ] {
            let text = fs::read_to_string(destination.join("usr/share").join(link)).unwrap();
            assert!(text.contains(&format!(" {name}")), "{text}");
        }
        // In the checkout and in the installation alike.
        let output = script(short).arg("--help").output();
        assert_eq!(stdout(&output.unwrap()), help);
        let listed = help
            .lines()
            .filter(|line| line.trim_start().starts_with('-'));
        let first = listed
            .flat_map(long_options)
            .find(|option| option != "--help");
        if let Some(first) = first.filter(|_| name != "crashdmesg-rehearse") {
            assert!(
                completed(&destination, &[&name, "--"]).contains(&first),
                "{name} {first}"
            );
        }
    }
    assert_eq!(commands, 5);
    fs::remove_dir_all(destination).unwrap();
}

#[test]
fn the_capture_kernels_command_line_keeps_what_the_machine_needs_and_drops_what_costs() {
    let scratch = scratch("cmdline");
    let file = scratch.join("cmdline");
    let line = "BOOT_IMAGE=/vmlinuz-6.1 root=UUID=1 ro quiet crashkernel=128M console=ttyS0,115200 hugepages=100 \
                log_buf_len=16M isolcpus=2-7 resume=/dev/sda2 rd.lvm.lv=vg/root systemd.unit=x dyndbg=\"file a.c +p\" \
                pci=nomsi intel_iommu=on transparent-hugepage=always crashdmesg.deadline=60 -- single\n";
    fs::write(&file, line).unwrap();
    let output = script("arm")
        .args(["--print", "--append", "foo=1"])
        .env("CRASHDMESG_CMDLINE", &file)
        .output();
    let line = stdout(&output.unwrap());
    let kept = "console=ttyS0,115200 dyndbg=\"file a.c +p\" pci=nomsi intel_iommu=on crashdmesg.deadline=60 ";
    assert!(line.starts_with(kept), "{line}");
    for added in ["nr_cpus=1 ", "reset_devices ", "panic=10 ", " foo=1\n"] {
        assert!(line.contains(added), "{line}");
    }
    fs::remove_dir_all(scratch).unwrap();
}
