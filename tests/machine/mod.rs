//! A machine made of namespaces: the program as PID 1 with a root file system, an init and a network of its own.
//!
//! ```text
//! network namespace "far": collectors, dnsmasq      veth pair       network namespace "near": unshare, chroot, /init
//! ```
//!
//! reboot(2) inside a PID namespace kills its init with a signal that tells what was asked for, so that the final action
//! can be observed. Needs root, iproute2 and util-linux; tests say so aloud when they cannot run.

#![allow(dead_code)] // each test program uses a part of it

use std::fs;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// What unshare(1) dies of when the machine inside rebooted.
pub const REBOOTED: i32 = 1;
/// When it was switched off or halted.
pub const STOPPED: i32 = 2;

/// Why the tests that need namespaces cannot run here, or nothing.
pub fn missing() -> Option<String> {
    let works = |program: &str, args: &[&str]| {
        let quiet = Command::new(program)
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        quiet.is_ok_and(|status| status.success())
    };
    if !works(
        "unshare",
        &["--pid", "--fork", "--mount", "--uts", "--ipc", "true"],
    ) {
        return Some("namespaces (root needed)".to_owned());
    }
    if !works("ip", &["netns", "list"]) {
        return Some("iproute2".to_owned());
    }
    None
}

/// Ends a test early, and says so, where it cannot run.
#[macro_export]
macro_rules! needs_namespaces {
    () => {
        if let Some(what) = $crate::machine::missing() {
            eprintln!("SKIPPED {}:{}: missing {what}", file!(), line!());
            return;
        }
    };
}

fn unique() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!(
        "{}-{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    )
}

/// A root file system with the program as /init.
pub struct Machine {
    pub root: PathBuf,
    netns: Option<String>,
}

impl Machine {
    /// Makes one with this configuration, in the network of the test itself.
    pub fn new(config: &str) -> Self {
        let root = std::env::temp_dir().join(format!("crashdmesg-machine-{}", unique()));
        fs::create_dir_all(root.join("etc")).unwrap();
        fs::create_dir_all(root.join("bin")).unwrap();
        // By another process: a descriptor for writing that a concurrent test inherits would make the file "busy".
        let copied = Command::new("cp")
            .arg(env!("CARGO_BIN_EXE_crashdmesg"))
            .arg(root.join("init"))
            .status();
        assert!(copied.unwrap().success());
        fs::write(root.join("etc/crashdmesg.conf"), config).unwrap();
        Machine { root, netns: None }
    }

    /// Makes one at the near end of a cable.
    pub fn on(cable: &Cable, config: &str) -> Self {
        let mut machine = Machine::new(config);
        machine.netns = Some(cable.near.clone());
        machine
    }

    /// Starts it.
    pub fn boot(self) -> Running {
        let mut command = match &self.netns {
            Some(netns) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", netns, "unshare"]);
                command
            }
            None => Command::new("unshare"),
        };
        let console = fs::File::create(self.root.join("console")).unwrap();
        command
            .args(["--pid", "--fork", "--mount", "--uts", "--ipc", "chroot"])
            .arg(&self.root)
            .arg("/init");
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(console)
            .spawn()
            .unwrap();
        Running {
            machine: self,
            child,
            started: Instant::now(),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Mount points are removed as the empty directories they must be by now, never with what is in them.
        for dir in ["proc", "sys", "dev"] {
            let _ = fs::remove_file(self.root.join("dev/null"));
            let _ = fs::remove_dir(self.root.join(dir));
        }
        for file in [
            "init",
            "console",
            "etc/crashdmesg.conf",
            "etc/resolv.conf",
            "etc/hosts",
            "run/crashdmesg.delivered",
            "etc/crashdmesg.modules",
            "bin/true",
            "bin/sh",
        ] {
            let _ = fs::remove_file(self.root.join(file));
        }
        for dir in ["etc", "bin", "run", ""] {
            let _ = fs::remove_dir(self.root.join(dir));
        }
    }
}

/// A machine that was started.
pub struct Running {
    machine: Machine,
    child: Child,
    started: Instant,
}

/// How a machine ended.
pub struct End {
    /// Everything on its console.
    pub console: String,
    /// The signal that tells the final action, if it was a reboot, a halt or a power-off.
    pub signal: Option<i32>,
    /// The exit code, if init ended otherwise.
    pub code: Option<i32>,
    /// How long it ran.
    pub took: Duration,
}

impl End {
    /// Asserts that the console has a line with `text`.
    pub fn said(&self, text: &str) -> &Self {
        assert!(
            self.console.contains(text),
            "\"{text}\" is not on the console:\n{}",
            self.console
        );
        self
    }

    /// Asserts that it rebooted within a time.
    pub fn rebooted_within(&self, limit: Duration) -> &Self {
        assert_eq!(self.signal, Some(REBOOTED), "no reboot:\n{}", self.console);
        assert!(
            self.took <= limit,
            "took {:?}:\n{}",
            self.took,
            self.console
        );
        self
    }
}

impl Running {
    /// What is on the console so far.
    pub fn console(&self) -> String {
        let mut text = Vec::new();
        let file = fs::File::open(self.machine.root.join("console"));
        file.and_then(|mut file| file.read_to_end(&mut text))
            .unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Waits until the console has a line with `text`.
    pub fn wait_for(&self, text: &str) {
        let started = Instant::now();
        while !self.console().contains(text) {
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "\"{text}\" never came:\n{}",
                self.console()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for a process of the machine whose arguments contain `words`; returns its id out here.
    pub fn process(&self, words: &[&str]) -> u32 {
        let wanted = words.join("\0");
        let started = Instant::now();
        loop {
            for entry in fs::read_dir("/proc").unwrap().flatten() {
                let path = entry.path();
                let arguments = fs::read(path.join("cmdline")).unwrap_or_default();
                let ours =
                    fs::read_link(path.join("root")).is_ok_and(|root| root == self.machine.root);
                if ours && String::from_utf8_lossy(&arguments).contains(&wanted) {
                    return entry.file_name().to_string_lossy().parse().unwrap();
                }
            }
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "no process {words:?}:\n{}",
                self.console()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits for the end.
    pub fn end(mut self, limit: Duration) -> End {
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                let console = self.console();
                return End {
                    console,
                    signal: status.signal(),
                    code: status.code(),
                    took: self.started.elapsed(),
                };
            }
            if self.started.elapsed() > limit {
                let console = self.console();
                panic!("still running after {limit:?}:\n{console}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process.
pub fn signal(pid: u32, name: &str) {
    let done = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status()
        .unwrap();
    assert!(done.success());
}

/// Two network namespaces and a veth pair between them: `eth0` near, `far0` far.
pub struct Cable {
    pub near: String,
    pub far: String,
    helpers: Vec<Child>,
    pub dir: PathBuf,
}

/// The address of the near end's interface.
pub const MAC: &str = "52:54:00:c0:ff:ee";

impl Cable {
    /// Lays one; the far end is up and has `addresses`.
    pub fn new(addresses: &[&str]) -> Self {
        let name = unique();
        let (near, far) = (format!("cdn-{name}"), format!("cdf-{name}"));
        let dir = std::env::temp_dir().join(format!("crashdmesg-cable-{name}"));
        fs::create_dir_all(&dir).unwrap();
        let cable = Cable {
            near,
            far,
            helpers: Vec::new(),
            dir,
        };
        ip(&["netns", "add", &cable.near]);
        ip(&["netns", "add", &cable.far]);
        let peer = ["peer", "name", "far0", "netns", &cable.far];
        ip(&[
            &["link", "add", "eth0", "netns", &cable.near, "type", "veth"][..],
            &peer,
        ]
        .concat());
        ip(&["-n", &cable.near, "link", "set", "eth0", "address", MAC]);
        cable.at_far_end(&["link", "set", "lo", "up"]);
        cable.at_far_end(&["link", "set", "far0", "up"]);
        for address in addresses {
            cable.at_far_end(&["addr", "add", address, "dev", "far0", "nodad"]);
        }
        cable
    }

    /// Runs ip(8) at the far end.
    pub fn at_far_end(&self, args: &[&str]) {
        ip(&[&["-n", &self.far], args].concat());
    }

    /// Starts a program at the far end, for as long as the cable lives.
    pub fn start(&mut self, program: &str, args: &[&str]) {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.far, program])
            .args(args);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.helpers.push(child.unwrap());
    }

    /// Starts a collector for any number of connections to TCP `port`; [`Cable::received`] has what came.
    pub fn collect(&mut self, port: u16) {
        let file = self.dir.join("received");
        fs::write(&file, "").unwrap();
        let listen = format!("TCP6-LISTEN:{port},ipv6only=0,reuseaddr,fork");
        self.start(
            "socat",
            &[
                "-u",
                &listen,
                &format!("OPEN:{},creat,append", file.display()),
            ],
        );
        let started = Instant::now();
        let listens = format!(":{port:04X} ");
        loop {
            let table = Command::new("ip")
                .args(["netns", "exec", &self.far, "cat", "/proc/net/tcp6"])
                .output()
                .unwrap();
            if String::from_utf8_lossy(&table.stdout).contains(&listens) {
                return;
            }
            assert!(
                started.elapsed() < Duration::from_secs(10),
                "socat does not listen"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What the collector got.
    pub fn received(&self) -> String {
        // socat writes after the sender is gone.
        std::thread::sleep(Duration::from_millis(200));
        String::from_utf8_lossy(&fs::read(self.dir.join("received")).unwrap()).into_owned()
    }

    /// Starts dnsmasq with these options.
    pub fn dnsmasq(&mut self, options: &[&str]) {
        let base = [
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-hosts",
            "--no-resolv",
            "--user=root",
        ];
        let lease = format!("--dhcp-leasefile={}", self.dir.join("leases").display());
        self.start(
            "dnsmasq",
            &[
                &base[..],
                &[
                    "--pid-file=",
                    &lease,
                    "--bind-interfaces",
                    "--interface=far0",
                ],
                options,
            ]
            .concat(),
        );
        std::thread::sleep(Duration::from_millis(300));
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for helper in &mut self.helpers {
            let _ = helper.kill();
            let _ = helper.wait();
        }
        for netns in [&self.near, &self.far] {
            let _ = Command::new("ip").args(["netns", "del", netns]).status();
        }
        for file in ["received", "leases"] {
            let _ = fs::remove_file(self.dir.join(file));
        }
        let _ = fs::remove_dir(&self.dir);
    }
}

fn ip(args: &[&str]) {
    let output = Command::new("ip").args(args).output().unwrap();
    assert!(
        output.status.success(),
        "ip {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Whether a program can be run.
pub fn have(program: &str) -> bool {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .any(|dir| Path::new(dir).join(program).exists())
}
