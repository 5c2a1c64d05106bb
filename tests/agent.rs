//! The program as init of a machine that is hurt in every way: it always ends in the final action, in time, and the
//! reason is on the console.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, UdpSocket};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

mod machine;
use machine::{Machine, STOPPED, have, signal};

const SOON: Duration = Duration::from_secs(10);

/// A configuration without a network of its own, with one target.
fn config(target: &str, more: &str) -> String {
    format!("network = no\nsend = {target}\nconsole-lines = 3\n{more}\n")
}

/// A collector that takes connections until one brings something, and keeps that.
fn collector() -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let (text_out, received) = channel();
    thread::spawn(move || {
        let mut text = Vec::new();
        while text.is_empty() {
            // A sender that was killed may leave a connection without anything in it.
            let _ = listener.accept().unwrap().0.read_to_end(&mut text);
        }
        let _ = text_out.send(String::from_utf8_lossy(&text).into_owned());
    });
    (url, received)
}

/// A collector that accepts and never reads nor answers.
fn deaf() -> (String, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    (
        format!("tcp://{}#ack", listener.local_addr().unwrap()),
        listener,
    )
}

#[test]
fn without_a_dump_the_collector_learns_why_and_the_machine_reboots() {
    needs_namespaces!();
    let (url, received) = collector();
    let end = Machine::new(&config(&url, "host = node17"))
        .boot()
        .end(SOON);
    end.said("is init of the capture kernel")
        .said("/proc/vmcore")
        .said("final action: reboot")
        .said("memory: ");
    end.said("crashdmesg| ").rebooted_within(SOON);
    let text = received.recv_timeout(Duration::from_secs(5)).unwrap();
    assert!(
        text.contains("no report of the crash: /proc/vmcore"),
        "{text}"
    );
    assert!(text.contains("node17"), "{text}");
}

#[test]
fn a_bad_configuration_is_told_and_what_is_good_of_it_counts() {
    needs_namespaces!();
    let (url, received) = collector();
    let end = Machine::new(&config(&url, "sned = x\nmtu = lots\nsend = gopher://x"))
        .boot()
        .end(SOON);
    end.said("configuration: ignored: line 4: unknown key 'sned'")
        .said("line 5: mtu")
        .said("line 6: send");
    end.rebooted_within(SOON);
    assert!(
        received
            .recv_timeout(Duration::from_secs(5))
            .unwrap()
            .contains("no report of the crash")
    );
}

#[test]
fn every_final_action_is_taken() {
    needs_namespaces!();
    for action in ["poweroff", "halt"] {
        let end = Machine::new(&format!("final = {action}")).boot().end(SOON);
        end.said(&format!("final action: {action}"));
        assert_eq!(end.signal, Some(STOPPED));
    }
    // Without a shell in the image, the machine must not stay.
    Machine::new("final = shell")
        .boot()
        .end(SOON)
        .said("/bin/sh: ")
        .rebooted_within(SOON);
    Machine::new("final = continue\nnext-init = /no/such")
        .boot()
        .end(SOON)
        .said("/no/such: ")
        .rebooted_within(SOON);
}

#[test]
fn another_init_can_go_on() {
    needs_namespaces!();
    if !have("busybox") {
        return eprintln!("SKIPPED: missing busybox (static)");
    }
    let machine = Machine::new("final = continue\nnext-init = /bin/true");
    fs::copy("/bin/busybox", machine.root.join("bin/true")).unwrap();
    let end = machine.boot().end(SOON);
    end.said("going on with /bin/true");
    assert_eq!((end.code, end.signal), (Some(0), None), "{}", end.console);
}

#[test]
fn a_worker_that_is_killed_is_started_again_with_less() {
    needs_namespaces!();
    let (url, _listener) = deaf();
    let machine = Machine::new(&config(&url, "deadline = 60\ntimeout = 1\nretries = 0")).boot();
    for attempt in ["full", "log", "summary"] {
        let pid = machine.process(&["--step", "worker", attempt]);
        signal(pid, "KILL");
        machine.wait_for(&format!("worker ({attempt}) killed by signal 9"));
    }
    machine.process(&["--step", "worker", "notice"]);
    machine
        .end(SOON)
        .said("report: NOT delivered")
        .rebooted_within(SOON);
}

#[test]
fn a_worker_killed_at_any_moment_delays_nothing() {
    needs_namespaces!();
    for delay_ms in [0, 1, 3, 10, 30, 100] {
        let (url, _listener) = deaf();
        let machine = Machine::new(&config(&url, "deadline = 30\ntimeout = 1\nretries = 0")).boot();
        let pid = machine.process(&["--step", "worker", "full"]);
        thread::sleep(Duration::from_millis(delay_ms));
        signal(pid, "KILL");
        machine
            .end(SOON)
            .said("worker (full) killed by signal 9")
            .rebooted_within(SOON);
    }
}

#[test]
fn a_worker_that_hangs_is_ended_by_its_deadline_and_the_machine_by_the_overall_one() {
    needs_namespaces!();
    let (url, _listener) = deaf();
    let (good, received) = collector();
    let more = format!("deadline = 12\nfallback = {good}");
    let machine = Machine::new(&config(&url, &more)).boot();
    for attempt in ["full", "log"] {
        signal(machine.process(&["--step", "worker", attempt]), "STOP");
        machine.wait_for(&format!("worker ({attempt}) time is over"));
    }
    let limit = Duration::from_secs(12);
    machine.end(limit + SOON).rebooted_within(limit);
    assert!(
        received
            .recv_timeout(Duration::from_secs(5))
            .unwrap()
            .contains("no report of the crash")
    );
}

#[test]
fn a_collector_that_never_answers_cannot_hold_the_reboot_up() {
    needs_namespaces!();
    let (url, _listener) = deaf();
    let end = Machine::new(&config(&url, "deadline = 6")).boot().end(SOON);
    end.said("failed")
        .said("NOT delivered")
        .rebooted_within(Duration::from_secs(6));
}

#[test]
fn children_left_behind_are_no_reason_to_stay() {
    needs_namespaces!();
    let (url, _listener) = deaf();
    let machine = Machine::new(&config(&url, "deadline = 60\ntimeout = 1\nretries = 0")).boot();
    for attempt in ["full", "log", "summary", "notice"] {
        // ABRT is what a bug in the worker looks like from outside.
        signal(machine.process(&["--step", "worker", attempt]), "ABRT");
        machine.wait_for(&format!("worker ({attempt}) killed by signal 6"));
    }
    machine
        .end(SOON)
        .said("report: NOT delivered")
        .rebooted_within(SOON);
}

#[test]
fn the_first_words_go_out_as_one_datagram() {
    needs_namespaces!();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let url = format!("udp://{}", socket.local_addr().unwrap());
    let machine = Machine::new(&config(&url, "host = node17")).boot();
    let mut datagram = [0; 2048];
    let len = socket.recv(&mut datagram).unwrap();
    let text = String::from_utf8_lossy(&datagram[..len]).into_owned();
    assert!(
        len <= 1200 && text.contains("node17") && text.contains("capture-failed"),
        "{text}"
    );
    machine.end(SOON).rebooted_within(SOON);
}

#[test]
fn modules_that_are_missing_or_broken_are_told_and_passed_over() {
    needs_namespaces!();
    let machine = Machine::new("network = no");
    fs::write(
        machine.root.join("etc/crashdmesg.modules"),
        "/lib/modules/none.ko a=1\n/init\n",
    )
    .unwrap();
    let end = machine.boot().end(SOON);
    end.said("modules: /lib/modules/none.ko: ")
        .said("modules: /init: ")
        .said("modules: 0 loaded, 2 failed");
    end.rebooted_within(SOON);
}

#[test]
fn a_target_that_has_the_report_does_not_get_it_again() {
    needs_namespaces!();
    let (good, received) = collector();
    let (url, _listener) = deaf();
    let more = format!("send = {url}\ndeadline = 60\ntimeout = 1\nretries = 0");
    let machine = Machine::new(&config(&good, &more)).boot();
    machine.wait_for(&format!("{good} sent"));
    signal(machine.process(&["--step", "worker", "full"]), "KILL");
    let end = machine.end(SOON);
    end.said("worker (full) killed by signal 9")
        .rebooted_within(SOON);
    assert_eq!(end.console.matches(&good).count(), 1, "{}", end.console);
    end.said("report: delivered");
    assert!(
        received
            .recv_timeout(Duration::from_secs(5))
            .unwrap()
            .contains("no report of the crash")
    );
}
