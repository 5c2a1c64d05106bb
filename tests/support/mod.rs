//! What the tests of the sinks share: servers that end with the test, free ports, and runs of `crashdmesg --send`.

// Every test program uses its own part of this module.
#![allow(dead_code)]

pub mod stub;

use std::fs;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::program::{Output, crashdmesg, run};

/// A directory that is gone when dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    /// An empty one. Servers drop their rights, so every user may enter it.
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // Socket paths and chroots want short names, and some servers refuse what others may write to.
        let base = std::env::temp_dir().join(format!("cd-{name}-{}-{count}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        fs::create_dir(&base).unwrap();
        Scratch(base)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file and returns its path.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> String {
        fs::read(self.path(name))
            .map(|bytes| String::from_utf8(bytes).unwrap())
            .unwrap_or_default()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl std::ops::Deref for Scratch {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.0
    }
}

/// A port that nobody uses, neither TCP nor UDP.
pub fn free_port() -> u16 {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A real server, killed with all its children when dropped.
pub struct Server {
    child: Child,
    log: PathBuf,
}

unsafe extern "C" {
    safe fn kill(pid: i32, signal: i32) -> i32;
}

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

impl Server {
    /// Starts `command` in the foreground; what it says goes to a file in `scratch`.
    pub fn start(scratch: &Scratch, command: &mut Command) -> Self {
        let log = scratch.path("server.log");
        let out = fs::File::create(&log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Server { child, log }
    }

    /// Waits until somebody listens on this TCP port.
    pub fn listening(mut self, port: u16) -> Self {
        self.ready(|| TcpStream::connect(("127.0.0.1", port)).is_ok());
        self
    }

    /// Waits until this UDP port is taken.
    pub fn bound(mut self, port: u16) -> Self {
        self.ready(|| UdpSocket::bind(("127.0.0.1", port)).is_err());
        self
    }

    fn ready(&mut self, is_ready: impl Fn() -> bool) {
        let begin = Instant::now();
        while !is_ready() {
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && begin.elapsed() < Duration::from_secs(20),
                "the server does not serve ({ended:?}): {}",
                self.said()
            );
            sleep(Duration::from_millis(10));
        }
    }

    pub fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Asks it to end and waits: what it has buffered is on the disk then.
    pub fn stop(mut self) {
        kill(-(self.child.id() as i32), SIGTERM);
        wait_until("the server ends", || {
            self.child.try_wait().unwrap().is_some()
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        kill(-(self.child.id() as i32), SIGKILL);
        let _ = self.child.wait();
    }
}

/// Waits for something that takes a moment.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what}: never");
        sleep(Duration::from_millis(20));
    }
}

/// Sends a dump to these targets, with a few seconds for each and no further attempts.
pub fn send(dump: &Path, urls: &[&str]) -> Output {
    send_with(dump, urls, &["--timeout", "10", "--retries", "0"])
}

/// Sends a dump with other options.
pub fn send_with(dump: &Path, urls: &[&str], options: &[&str]) -> Output {
    let mut command = crashdmesg(["--host", "node17"]);
    command.args(options);
    for url in urls {
        command.args(["--send", url]);
    }
    run(command.arg(dump))
}

/// Demands that the only target says this of the report.
#[track_caller]
pub fn expect(output: &Output, outcome: &str) {
    assert!(
        output.stderr.contains(&format!(" {outcome} ")) && output.code == Some(0),
        "not {outcome}, code {:?}: {}",
        output.code,
        output.stderr
    );
}

/// Demands that the only target failed, for a reason with these words.
#[track_caller]
pub fn expect_failure(output: &Output, why: &str) {
    assert!(
        output.stderr.contains(" failed in ")
            && output.stderr.contains(why)
            && output.code == Some(5),
        "not failed with \"{why}\", code {:?}: {}",
        output.code,
        output.stderr
    );
}

/// The text that a file sink would get, from a file sink: the one that needs no server.
pub fn report(dump: &Path) -> String {
    let scratch = Scratch::new("report");
    let file = scratch.path("report");
    expect(
        &send(dump, &[&format!("file:{}", file.display())]),
        "stored",
    );
    String::from_utf8(fs::read(file).unwrap()).unwrap()
}

/// The lines of the log without their times: what receivers of records must have in the end.
pub fn log_lines(dump: &Path) -> Vec<String> {
    let output = run(crashdmesg(["--log", "--notime"]).arg(dump));
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Compares texts without flooding the terminal.
#[track_caller]
pub fn assert_same<T: AsRef<str>, U: AsRef<str>>(got: &[T], want: &[U]) {
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert_eq!(got.as_ref(), want.as_ref(), "line {i}");
    }
    assert_eq!(got.len(), want.len(), "lines");
}

/// True for root: some servers and all namespaces need it. Says aloud when not.
pub fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    let root = output.stdout == b"0\n";
    if !root {
        println!("SKIPPED: needs root");
    }
    root
}
