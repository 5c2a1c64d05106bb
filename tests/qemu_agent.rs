//! The program as the real init of real kernels, in QEMU. Slow, so only with `CRASHDMESG_QEMU=1` in the environment; the
//! kernel is Debian's cloud kernel, or the unpacked package that `CRASHDMESG_KERNEL` names.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

/// One VM at a time: they are emulated.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A kernel, and a directory for what is made of it.
struct Bench {
    kernel: PathBuf,
    root: PathBuf,
    version: String,
    dir: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

/// The top of the source tree.
fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Bench {
    /// Finds everything, or says aloud why the test does not run.
    fn open(name: &str) -> Option<Self> {
        if std::env::var_os("CRASHDMESG_QEMU").is_none_or(|value| value != "1") {
            eprintln!("SKIPPED {name}: needs CRASHDMESG_QEMU=1");
            return None;
        }
        let turn = ONE_AT_A_TIME
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let what =
            std::env::var("CRASHDMESG_KERNEL").unwrap_or("linux-image-cloud-amd64".to_owned());
        let script = "ME=test; . qemu/lib.sh; want qemu-system-x86_64 qemu-system-x86 busybox busybox-static; \
                      kernel_fetch \"$1\" >&2; printf '%s\\n%s\\n%s\\n' \"$KERNEL\" \"$KROOT\" \"$KVERSION\"";
        // lib.sh finds the source tree by the name of the script that reads it.
        let lines = shell(script, &["qemu/run", &what]);
        let mut lines = lines.lines().map(str::to_owned);
        let mut next = || lines.next().expect("kernel_fetch");
        let (kernel, root, version) = (next().into(), next().into(), next());
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("qemu-{name}"));
        fs::create_dir_all(&dir).unwrap();
        Some(Bench {
            kernel,
            root,
            version,
            dir,
            _turn: turn,
        })
    }

    /// Makes an image of the program, or of `init` beside it, with these arguments of initramfs/build.
    fn image(&self, init: &str, more: &[&str]) -> PathBuf {
        let image = self.dir.join("image");
        let output = Command::new(top().join("initramfs/build"))
            .args([
                "--kernel",
                &self.version,
                "--network",
                "none",
                "--config",
                "/dev/null",
            ])
            .args(["--binary", init, "--root"])
            .arg(&self.root)
            .arg("--output")
            .arg(&image)
            .args(more)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        image
    }

    /// Boots an image with arguments for the kernel and for QEMU until the machine reboots; returns its console.
    fn boot(&self, image: &Path, append: &str, more: &[&str], limit_s: u64) -> String {
        let console = self.dir.join("console");
        let mut machine = Command::new("qemu-system-x86_64")
            .args([
                "-accel",
                "tcg",
                "-cpu",
                "max",
                "-m",
                "192",
                "-display",
                "none",
                "-no-reboot",
                "-nodefaults",
            ])
            .args([
                "-serial",
                &format!("file:{}", console.display()),
                "-monitor",
                "stdio",
                "-S",
            ])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(image)
            .args(["-append", &format!("panic=-1 {append}")])
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut monitor = machine.stdin.take().unwrap();
        if append.contains("test=unplugged") {
            monitor.write_all(b"set_link n0 off\n").unwrap();
        }
        monitor.write_all(b"cont\n").unwrap();
        let started = Instant::now();
        while machine.try_wait().unwrap().is_none() {
            if started.elapsed() > Duration::from_secs(limit_s) {
                machine.kill().unwrap();
                machine.wait().unwrap();
                panic!("no reboot within {limit_s} s:\n{}", read(&console));
            }
            thread::sleep(Duration::from_millis(50));
        }
        read(&console)
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

fn shell(script: &str, args: &[&str]) -> String {
    let output = Command::new("sh")
        .args(["-c", script])
        .args(args)
        .current_dir(top())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A collector on this host, 10.0.2.2 in the VM, that takes connections until one brings something.
fn collector() -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://10.0.2.2:{}", listener.local_addr().unwrap().port());
    let (text_out, received) = channel();
    thread::spawn(move || {
        let mut text = Vec::new();
        while text.is_empty() {
            let _ = listener.accept().unwrap().0.read_to_end(&mut text);
        }
        let _ = text_out.send(String::from_utf8_lossy(&text).into_owned());
    });
    (url, received)
}

const BINARY: &str = env!("CARGO_BIN_EXE_crashdmesg");
const NIC: [&str; 4] = [
    "-netdev",
    "user,id=n0",
    "-device",
    "virtio-net-pci,netdev=n0",
];
const NIC_MODULES: [&str; 4] = ["--module", "virtio_pci", "--module", "virtio_net"];
const STATIC: [&str; 2] = ["--set", "ip=10.0.2.15::10.0.2.2:255.255.255.0:::none"];

#[track_caller]
fn said(console: &str, text: &str) {
    assert!(
        console.contains(text),
        "\"{text}\" is not on the console:\n{console}"
    );
}

#[test]
fn without_a_dump_a_real_kernel_ends_in_a_notice_with_its_own_log() {
    let Some(bench) = Bench::open("notice") else {
        return;
    };
    let (url, received) = collector();
    let image = bench.image(
        BINARY,
        &[&NIC_MODULES[..], &["--send", &url, "--set", "ip=dhcp"]].concat(),
    );
    let console = bench.boot(&image, "console=ttyS0", &NIC, 60);
    said(&console, "by DHCP from 10.0.2.2");
    said(&console, "final action: reboot");
    let text = received.recv_timeout(Duration::from_secs(5)).unwrap();
    said(&text, "no report of the crash: /proc/vmcore");
    said(&text, "Linux version");
}

#[test]
fn an_unplugged_machine_says_so_and_reboots() {
    let Some(bench) = Bench::open("unplugged") else {
        return;
    };
    let more = [
        "--send",
        "tcp://10.0.2.2:9",
        "--set",
        "net-timeout=3",
        "--set",
        "deadline=20",
    ];
    let image = bench.image(BINARY, &[&NIC_MODULES[..], &STATIC, &more].concat());
    let console = bench.boot(&image, "console=ttyS0 test=unplugged", &NIC, 60);
    said(
        &console,
        "network: not ready: no carrier on eth0 (52:54:00:12:34:56)",
    );
    said(&console, "report: NOT delivered");
}

#[test]
fn a_machine_without_its_driver_says_so_and_reboots() {
    let Some(bench) = Bench::open("driverless") else {
        return;
    };
    let more = [
        "--send",
        "tcp://10.0.2.2:9",
        "--set",
        "net-timeout=2",
        "--set",
        "deadline=15",
    ];
    let image = bench.image(BINARY, &[&STATIC[..], &more].concat());
    let console = bench.boot(&image, "console=ttyS0", &NIC, 60);
    said(
        &console,
        "network: not ready: no network interface (any interface): is its driver in the image?",
    );
}

#[test]
fn an_image_without_device_nodes_on_a_kernel_without_a_console_still_delivers() {
    let Some(bench) = Bench::open("no-nodes") else {
        return;
    };
    let (url, received) = collector();
    let image = bench.image(
        BINARY,
        &[
            &NIC_MODULES[..],
            &STATIC,
            &["--send", &url, "--compress", "none"],
        ]
        .concat(),
    );
    // The same archive without its nodes, and with /dev/console removed from the kernel's own.
    let bytes = fs::read(&image).unwrap();
    let bytes = renamed(
        &renamed(&bytes, b"dev/console\0", b"etc/console\0"),
        b"dev/null\0",
        b"etc/null\0",
    );
    fs::write(&image, bytes).unwrap();
    bench.boot(&image, "console=ttynone0", &NIC, 60);
    said(
        &received.recv_timeout(Duration::from_secs(5)).unwrap(),
        "no report of the crash",
    );
}

fn renamed(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes
        .windows(from.len())
        .position(|window| window == from)
        .expect("an entry of the archive");
    let mut bytes = bytes.to_vec();
    bytes[at..at + to.len()].copy_from_slice(to);
    bytes
}

#[test]
fn a_worker_that_the_kernel_kills_for_memory_is_told_and_the_machine_reboots() {
    let Some(bench) = Bench::open("oom") else {
        return;
    };
    let (url, received) = collector();
    let hog = bench.dir.join("hog");
    // The worker is the first choice of the kernel; what eats the memory comes after it.
    let script =
        "#!/bin/busybox sh\necho 0 >/proc/self/oom_score_adj\nexec /bin/busybox tail /dev/zero\n";
    fs::write(&hog, script).unwrap();
    shell("chmod +x \"$0\"", &[&hog.display().to_string()]);
    let hog = format!("{}:bin/hog", hog.display());
    let busybox = shell("command -v busybox", &[]);
    let busybox = format!("{}:bin/busybox", busybox.trim());
    let more = [
        "--send",
        &url,
        "--send",
        "exec:/bin/hog",
        "--add",
        &hog,
        "--add",
        &busybox,
        "--set",
        "deadline=60",
    ];
    let image = bench.image(BINARY, &[&NIC_MODULES[..], &STATIC, &more].concat());
    let console = bench.boot(&image, "console=ttyS0", &NIC, 90);
    said(&console, "worker (full) killed, out of memory");
    said(&console, "final action: reboot");
    said(
        &received.recv_timeout(Duration::from_secs(5)).unwrap(),
        "no report of the crash",
    );
}

#[test]
fn a_vlan_a_bond_and_the_ports_of_a_bond_that_cannot_be_made_all_lead_to_the_collector() {
    let Some(bench) = Bench::open("links") else {
        return;
    };
    let init = top().join("tests/machine/links-init").display().to_string();
    let program = format!("{BINARY}:sbin/crashdmesg");
    let busybox = shell("command -v busybox", &[]);
    let busybox = format!("{}:bin/busybox", busybox.trim());
    let modules = [
        "--module", "veth", "--module", "8021q", "--module", "bonding",
    ];
    let more = [
        "--send",
        "tcp://10.5.0.1:9001",
        "--add",
        &program,
        "--add",
        &busybox,
    ];
    let image = bench.image(&init, &[&modules[..], &more].concat());
    let console = bench.boot(&image, "console=ttyS0 quiet", &[], 90);
    said(&console, "10.5.0.1 answers, ready");
    said(&console, "Currently Active Slave: eth1");
    said(&console, "10.6.0.1 answers, ready");
    said(
        &console,
        "crashbond: no answer from 10.6.0.1; trying its ports one by one",
    );
    said(&console, "crashbond: cannot be made");
    said(&console, "10.7.0.1 answers, ready");
    assert_eq!(console.matches(" sent ").count(), 4, "{console}");
}

/// The whole way, in the smallest reservation that this kernel comes up in at all.
#[test]
fn a_panic_is_reported_from_the_smallest_crashkernel_within_a_second() {
    let Some(bench) = Bench::open("smallest") else {
        return;
    };
    let out = bench.dir.join("run");
    let output = Command::new(top().join("qemu/run"))
        .args(["--crashkernel", "80M", "--quiet", "--kernel"])
        .arg(&bench.root)
        // With the release build, which qemu/run makes: a debug one does not fit.
        .args(["--timeout", "400", "--out"])
        .arg(&out)
        .output()
        .unwrap();
    let console = read(&out.join("capture.console"));
    assert!(
        output.status.success(),
        "{}\n{console}",
        String::from_utf8_lossy(&output.stderr)
    );
    said(&read(&out.join("report")), "sysrq triggered crash");
    let at = |text: &str| {
        let line = console
            .lines()
            .find(|line| line.contains(text))
            .unwrap_or_else(|| panic!("{text}:\n{console}"));
        let seconds = line
            .split("crashdmesg: ")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap();
        seconds.parse::<f64>().unwrap()
    };
    let took = at("report: delivered") - at("is init of the capture kernel");
    eprintln!("from the first instruction to the report delivered: {took:.2} s");
    // On an idle machine it is well under a second; this one may be busy.
    assert!(took < 5.0, "{took} s:\n{console}");
    let line = console
        .lines()
        .find(|line| line.contains("the worker needed"))
        .expect("peak memory");
    let peak: u64 = line
        .split("needed ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    eprintln!("the worker's peak: {peak} KiB");
    assert!(peak <= 4096, "{line}");
}
