//! The capture image: `initramfs/build` on module trees and machines made here.
//!
//! A module is a file with a `.modinfo`-like run of NUL-terminated strings. The image is read back by a newc reader of this
//! file's own.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

mod network;

const VERSION: &str = "6.1.0-test";

/// A directory that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("crashdmesg-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        let scratch = Scratch(path);
        scratch.program("init-binary", "the binary");
        scratch
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.join(path)
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), bytes).unwrap();
    }

    fn program(&self, path: &str, text: &str) {
        self.write(path, text.as_bytes());
        fs::set_permissions(self.at(path), PermissionsExt::from_mode(0o755)).unwrap();
    }

    fn link(&self, path: &str, to: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        symlink(to, self.at(path)).unwrap();
    }

    /// A module with these .modinfo fields.
    fn module(&self, name: &str, modinfo: &[&str]) {
        let path = format!("lib/modules/{VERSION}/kernel/{name}.ko");
        self.write(&path, &module_bytes(name, modinfo));
    }

    fn build(&self, arguments: &[&str]) -> Output {
        let path = std::env::var("PATH").unwrap();
        let conf = self.at("machine.conf");
        let no_conf = PathBuf::from("/dev/null");
        Command::new("sh")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/initramfs/build"))
            .args(["--kernel", VERSION, "--compress", "none"])
            .arg("--config")
            .arg(if conf.exists() { conf } else { no_conf })
            .arg("--root")
            .arg(&self.0)
            .arg("--binary")
            .arg(self.at("init-binary"))
            .arg("--output")
            .arg(self.at("image"))
            .args(arguments)
            .env("CRASHDMESG_SYS", self.at("sys"))
            .env("CRASHDMESG_PROC", self.at("proc"))
            .env("PATH", format!("{}:{path}", self.at("bin").display()))
            .output()
            .unwrap()
    }

    /// The files of a successful build.
    fn built(&self, arguments: &[&str]) -> Image {
        let output = self.build(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let entries = read_newc(&fs::read(self.at("image")).unwrap());
        Image { entries, said }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn module_bytes(name: &str, modinfo: &[&str]) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01\0code of ".to_vec();
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(0);
    for field in modinfo {
        bytes.extend_from_slice(field.as_bytes());
        bytes.push(0);
    }
    bytes
}

struct Entry {
    mode: u32,
    device: (u32, u32),
    data: Vec<u8>,
}

struct Image {
    entries: BTreeMap<String, Entry>,
    said: String,
}

impl Image {
    fn text(&self, path: &str) -> &str {
        let entry = self.entries.get(path);
        let entry = entry.unwrap_or_else(|| panic!("no {path} in the image"));
        std::str::from_utf8(&entry.data).unwrap()
    }

    /// The load order, without directories.
    fn modules(&self) -> Vec<String> {
        let name = |line: &str| line.replace("/lib/modules/", "").replace(".ko", "");
        self.text("etc/crashdmesg.modules")
            .lines()
            .map(name)
            .collect()
    }

    fn sorted_modules(&self) -> Vec<String> {
        let mut modules = self.modules();
        modules.sort();
        modules
    }
}

/// Reads a newc archive, and holds it to what the kernel's unpacker wants.
fn read_newc(mut bytes: &[u8]) -> BTreeMap<String, Entry> {
    let mut entries = BTreeMap::new();
    loop {
        assert_eq!(&bytes[..6], b"070701");
        let field = |index: usize| {
            let digits = std::str::from_utf8(&bytes[6 + 8 * index..14 + 8 * index]).unwrap();
            u32::from_str_radix(digits, 16).unwrap()
        };
        let (mode, size, name_len) = (field(1), field(6) as usize, field(11) as usize);
        assert_eq!((field(2), field(3), field(5)), (0, 0, 0), "uid, gid, mtime");
        let name = std::str::from_utf8(&bytes[110..110 + name_len - 1]).unwrap();
        assert_eq!(bytes[110 + name_len - 1], 0);
        let data = (110 + name_len).next_multiple_of(4);
        if name == "TRAILER!!!" {
            assert_eq!(bytes.len(), data, "nothing follows the trailer");
            return entries;
        }
        if let Some((parent, _)) = name.rsplit_once('/') {
            let known: Option<&Entry> = entries.get(parent);
            assert!(known.is_some(), "{parent} comes before {name}");
        }
        let entry = Entry {
            mode,
            device: (field(9), field(10)),
            data: bytes[data..data + size].to_vec(),
        };
        assert!(entries.insert(name.to_owned(), entry).is_none());
        bytes = &bytes[(data + size).next_multiple_of(4)..];
    }
}

/// Compresses a file in place by the program of its suffix; false, and a word about it, when that is not installed.
fn compress(path: &Path, suffix: &str) -> bool {
    let program = match suffix {
        "gz" => "gzip",
        "xz" => "xz",
        _ => "zstd",
    };
    let Ok(output) = Command::new(program).arg("-c").arg(path).output() else {
        println!("skipped: {program} is not installed");
        return false;
    };
    assert!(output.status.success());
    fs::write(format!("{}.{suffix}", path.display()), output.stdout).unwrap();
    fs::remove_file(path).unwrap();
    true
}

#[test]
fn modules_come_after_what_they_depend_on_however_they_are_compressed() {
    let net = ["license=GPL", "depends=virtio_ring,net-failover"];
    let failover = ["depends=failover", "softdep=pre: fuel post: smoke"];
    let modules: [(&str, &[&str]); 8] = [
        ("drivers/net/virtio_net", &net),
        ("drivers/virtio/virtio_ring", &["depends=virtio"]),
        ("drivers/virtio/virtio", &["depends="]),
        ("net/net-failover", &failover),
        ("net/failover", &[]),
        ("net/fuel", &[]),
        ("net/smoke", &[]),
        ("net/unrelated", &[]),
    ];
    for suffix in ["", "gz", "xz", "zst"] {
        let tree = Scratch::new(&format!("order-{suffix}"));
        let kernel = tree.at(&format!("lib/modules/{VERSION}/kernel"));
        let mut packed = true;
        for (name, modinfo) in modules {
            tree.module(name, modinfo);
            packed &= suffix.is_empty() || compress(&kernel.join(format!("{name}.ko")), suffix);
        }
        if !packed {
            continue;
        }
        let image = tree.built(&["--network", "none", "--module", "virtio_net"]);
        #[rustfmt::skip]
        let order = ["virtio", "virtio_ring", "failover", "fuel", "net_failover", "smoke", "virtio_net"];
        assert_eq!(image.modules(), order, "suffix '{suffix}'");
        let plain = module_bytes("drivers/net/virtio_net", &net);
        assert!(image.entries["lib/modules/virtio_net.ko"].data == plain);
        assert!(!image.entries.contains_key("lib/modules/unrelated.ko"));
    }
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    let tree = Scratch::new("reproducible");
    tree.module("a", &["depends=b"]);
    tree.module("b", &[]);
    #[rustfmt::skip]
    let arguments = ["--network", "none", "--module", "a", "--send", "tcp://192.0.2.1:1", "--compress", "gzip"];
    assert!(tree.build(&arguments).status.success());
    let first = fs::read(tree.at("image")).unwrap();
    fs::remove_file(tree.at("image")).unwrap();
    // A second later, with other time stamps and other permissions.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    tree.module("b", &[]);
    fs::set_permissions(tree.at("init-binary"), PermissionsExt::from_mode(0o700)).unwrap();
    assert!(tree.build(&arguments).status.success());
    assert!(first == fs::read(tree.at("image")).unwrap());
}

#[test]
fn the_image_holds_init_and_the_nodes_and_directories_it_starts_with() {
    let tree = Scratch::new("layout");
    tree.module("a", &[]);
    let image = tree.built(&["--network", "none", "--send", "tcp://192.0.2.1:1"]);
    let node = |path: &str| (image.entries[path].mode, image.entries[path].device);
    assert_eq!(node("init").0, 0o100_755);
    assert_eq!(image.text("init"), "the binary");
    assert_eq!(node("dev/console"), (0o020_600, (5, 1)));
    assert_eq!(node("dev/null"), (0o020_666, (1, 3)));
    for directory in ["proc", "sys", "dev", "etc"] {
        assert_eq!(node(directory).0, 0o040_755);
    }
    assert_eq!(node("etc/crashdmesg.conf").0, 0o100_600);
    let conf = image.text("etc/crashdmesg.conf");
    assert_eq!(conf, "send = tcp://192.0.2.1:1\n");
    assert_eq!(image.text("etc/crashdmesg.modules"), "");
    let mode = fs::metadata(tree.at("image")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "the image may hold secrets");
}

#[test]
fn firmware_and_options_come_along() {
    let tree = Scratch::new("firmware");
    let wants = [
        "firmware=acme/nic.bin",
        "firmware=acme/absent.bin",
        "firmware=packed.bin",
    ];
    tree.module("nic", &wants);
    tree.write("lib/firmware/acme/nic.bin", b"plain firmware");
    tree.write("lib/firmware/packed.bin", b"packed firmware");
    let packed = compress(&tree.at("lib/firmware/packed.bin"), "xz");
    let options = b"# options nic no=1\noptions nic rings=1 mode=x\n";
    tree.write("etc/modprobe.d/nic.conf", options);
    let image = tree.built(&["--network", "none", "--module", "nic"]);
    assert_eq!(image.text("lib/firmware/acme/nic.bin"), "plain firmware");
    if packed {
        assert_eq!(image.text("lib/firmware/packed.bin"), "packed firmware");
    }
    assert_eq!(image.modules(), ["nic rings=1 mode=x"]);
    let image = tree.built(&["--network", "none", "--module", "nic rings=2"]);
    assert_eq!(image.modules(), ["nic rings=2"]);
}

#[test]
fn a_missing_module_is_an_error_and_a_built_in_one_is_not() {
    let tree = Scratch::new("missing");
    tree.module("a", &[]);
    let builtin = format!("lib/modules/{VERSION}/modules.builtin");
    tree.write(&builtin, b"kernel/drivers/virtio/virtio-pci.ko\n");
    let image = tree.built(&["--network", "none", "--module", "virtio_pci"]);
    assert!(image.modules().is_empty());
    let output = tree.build(&["--network", "none", "--module", "ghost"]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("has no module ghost"), "{said}");
}

#[test]
fn a_newer_module_is_taken_before_the_kernels_own() {
    let tree = Scratch::new("updates");
    tree.module("nic", &["version=1"]);
    let newer = format!("lib/modules/{VERSION}/updates/dkms/nic.ko");
    tree.write(&newer, b"\0version=2\0");
    let image = tree.built(&["--network", "none", "--module", "nic"]);
    assert_eq!(image.text("lib/modules/nic.ko"), "\0version=2\0");
}

#[test]
fn the_machine_is_told_by_a_hash_of_its_id_unless_the_configuration_says_another() {
    let tree = Scratch::new("machine-id");
    tree.module("a", &[]);
    tree.write("etc/machine-id", b"00112233445566778899aabbccddeeff\n");
    let arguments = ["--network", "none", "--send", "tcp://192.0.2.1:1"];
    let image = tree.built(&arguments);
    let expected = "machine-id = cd8fb9a271f084af3e60f8fb7232613d\n";
    let conf = image.text("etc/crashdmesg.conf");
    assert!(conf.ends_with(expected), "{conf}");
    assert!(!conf.contains("00112233"), "{conf}");
    let given = "machine-id=ffffffffffffffffffffffffffffffff";
    let image = tree.built(&[&arguments[..], &["--set", given]].concat());
    let conf = image.text("etc/crashdmesg.conf");
    assert_eq!(conf.matches("machine-id").count(), 1, "{conf}");
    // systemd leaves this until the first boot.
    tree.write("etc/machine-id", b"uninitialized\n");
    let image = tree.built(&arguments);
    assert!(!image.text("etc/crashdmesg.conf").contains("machine-id"));
}

#[test]
fn what_is_asked_for_replaces_the_file_and_bad_calls_say_what_is_wrong() {
    let tree = Scratch::new("config");
    tree.module("a", &[]);
    let file = b"# ours\nsend = tcp://192.0.2.9:9\ndeadline = 60\nfinal = halt\n";
    tree.write("machine.conf", file);
    #[rustfmt::skip]
    let image = tree.built(&["--network", "none", "--send", "relp://192.0.2.1:1", "--set", "final=reboot"]);
    let expected = "# ours\ndeadline = 60\nsend = relp://192.0.2.1:1\nfinal = reboot\n";
    assert_eq!(image.text("etc/crashdmesg.conf"), expected);
    for (arguments, complaint) in [
        (["--kernel", "9.9"], "no modules of kernel 9.9"),
        (["--network", "pigeon"], "must be record, dhcp or none"),
        (["--set", "novalue"], "must be KEY=VALUE"),
        (["--colour", "red"], "unknown option --colour"),
        (["--compress", "rar"], "must be none, gzip, zstd or xz"),
    ] {
        let output = tree.build(&arguments);
        assert!(!output.status.success(), "{arguments:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(complaint), "{arguments:?}: {said}");
    }
}

#[test]
fn a_soft_dependency_on_an_algorithm_brings_the_modules_that_provide_it() {
    let tree = Scratch::new("algorithm");
    tree.module("nic", &["depends=libsum"]);
    tree.module("libsum", &["softdep=pre: sum32c"]);
    tree.module("sum32c-generic", &["alias=crypto-sum32c", "alias=sum32c"]);
    tree.module("sum32c_fast", &["alias=sum32c"]);
    tree.module("sum32c_other", &["alias=sum64"]);
    let order = ["sum32c_fast", "sum32c_generic", "libsum", "nic"];
    let image = tree.built(&["--network", "none", "--module", "nic"]);
    assert_eq!(image.modules(), order);
    let depmod = format!("lib/modules/{VERSION}/modules.alias");
    tree.write(
        &depmod,
        b"alias crypto-sum32c sum32c_generic\nalias sum32c sum32c_fast\n",
    );
    let image = tree.built(&["--network", "none", "--module", "nic"]);
    assert_eq!(image.modules(), order);
    assert!(!image.said.contains("does not have"), "{}", image.said);
}

#[test]
fn what_the_kernel_has_built_in_is_not_missed_by_the_name_of_its_algorithm() {
    let tree = Scratch::new("algorithm-builtin");
    tree.module("libsum", &["softdep=pre: sum32c"]);
    let image = tree.built(&["--network", "none", "--module", "libsum"]);
    assert!(
        image
            .said
            .contains("asks for sum32c, which this kernel does not have")
    );
    let builtin = format!("lib/modules/{VERSION}/modules.builtin.modinfo");
    tree.write(
        &builtin,
        b"sum32c_generic.alias=sum32c\0sum32c_generic.license=GPL\0",
    );
    let image = tree.built(&["--network", "none", "--module", "libsum"]);
    assert!(!image.said.contains("does not have"), "{}", image.said);
    assert_eq!(image.modules(), ["libsum"]);
}

#[test]
fn a_plan_for_another_generator_holds_modules_configuration_and_the_ssh_client() {
    let tree = Scratch::new("plan");
    tree.module("nic", &["depends=bus"]);
    tree.module("bus", &[]);
    tree.write("etc/modprobe.d/nic.conf", b"options nic rings=1\n");
    tree.program("bin/dbclient", "#!/bin/sh\n");
    tree.write("key", b"a private key");
    let (key, plan) = (tree.at("key"), tree.at("plan"));
    let set = |name: &str| format!("{name}={}", key.display());
    let (key_setting, known_setting) = (set("ssh-key"), set("ssh-known-hosts"));
    #[rustfmt::skip]
    let output = tree.build(&["--network", "none", "--module", "nic", "--send", "ssh://crash@192.0.2.1/in/", "--set", &key_setting,
        "--set", &known_setting, "--plan", plan.to_str().unwrap(), "--no-image"]);
    assert!(output.status.success(), "{output:?}");
    assert!(!tree.at("image").exists());
    let read = |path: &str| fs::read_to_string(plan.join(path)).unwrap();
    assert_eq!(read("modules"), "bus\nnic rings=1\n");
    assert!(read("crashdmesg.conf").contains("send = ssh://crash@192.0.2.1/in/\n"));
    assert_eq!(read("files/usr/bin/dbclient"), "#!/bin/sh\n");
    let in_image = format!("files{}", key.display());
    assert_eq!(read(&in_image), "a private key");
    let mode = fs::metadata(&plan).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700, "the plan holds secrets");
}
