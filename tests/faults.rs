//! Receivers and paths that misbehave: every sink ends in time, with the right outcome and a reason.

mod data;
mod program;
mod support;

use std::fs;
use std::io::{BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use program::{Output, crashdmesg, is_installed, measure, run};
use support::stub::{drain, read_request, serve};
use support::{Scratch, expect, expect_failure, is_root, send_with};

/// A log that fills a few socket buffers' worth of batches.
fn dump() -> Option<PathBuf> {
    data::dump("b61-wrap128k")
}

/// Every sink that speaks over a TCP connection.
const STREAMS: &[&str] = &[
    "tcp",
    "syslog+tcp",
    "relp",
    "gelf+tcp",
    "http",
    "loki+http",
    "journal+http",
    "otlp+http",
    "elasticsearch+http",
    "ftp",
];

/// Those that need an answer of the receiver to their first words.
fn waits_for_answer(scheme: &str) -> bool {
    !matches!(scheme, "tcp" | "syslog+tcp" | "gelf+tcp")
}

/// Longest a run may take beyond its time: a debug build on a busy machine.
const SLACK: Duration = Duration::from_secs(3);

/// Sends to the same misbehaving server by every scheme at once, two seconds for each.
fn all_streams(server: impl Fn(TcpStream) + Send + Sync + 'static, check: impl Fn(&str, &Output)) {
    let Some(dump) = dump() else {
        return;
    };
    let port = serve(server);
    let runs = STREAMS.iter().map(|scheme| {
        let dump = dump.clone();
        let url = format!("{scheme}://127.0.0.1:{port}/x");
        let options = ["--timeout", "2", "--retries", "1"];
        (
            scheme,
            thread::spawn(move || send_with(&dump, &[&url], &options)),
        )
    });
    for (scheme, run) in runs.collect::<Vec<_>>() {
        let output = run.join().unwrap();
        assert!(
            output.elapsed < Duration::from_secs(2) + SLACK,
            "{scheme}: {:?} {}",
            output.elapsed,
            output.stderr
        );
        check(scheme, &output);
    }
}

#[track_caller]
fn failed(scheme: &str, output: &Output) {
    println!("{scheme}: {}", output.stderr);
    expect_failure(output, "");
}

#[test]
fn a_collector_that_refuses_fails_at_once() {
    let Some(dump) = dump() else {
        return;
    };
    for scheme in STREAMS
        .iter()
        .chain(&["udp", "syslog", "netconsole", "gelf"])
    {
        let url = format!("{scheme}://127.0.0.1:{}/x", support::free_port());
        let output = send_with(&dump, &[&url], &["--timeout", "5", "--retries", "0"]);
        expect_failure(&output, "refused");
        assert!(output.elapsed < Duration::from_secs(2) + SLACK);
    }
}

#[test]
fn a_collector_that_never_reads_ends_at_the_deadline() {
    all_streams(
        |peer| {
            thread::sleep(Duration::from_secs(20));
            drop(peer);
        },
        failed,
    );
}

#[test]
fn a_collector_that_reads_and_never_answers_has_not_stored() {
    all_streams(
        |mut peer| {
            drain(&mut peer);
            thread::sleep(Duration::from_secs(20));
        },
        failed,
    );
}

#[test]
fn a_connection_that_is_reset_in_the_middle_fails() {
    all_streams(
        |peer| {
            // Closing with unread data in the buffer resets the connection.
            thread::sleep(Duration::from_millis(300));
            drop(peer);
        },
        failed,
    );
}

#[test]
fn a_connection_that_is_closed_at_once_fails() {
    all_streams(
        |peer| {
            let _ = peer.shutdown(Shutdown::Both);
        },
        |scheme, output| {
            if waits_for_answer(scheme) {
                failed(scheme, output);
            }
        },
    );
}

#[test]
fn a_collector_that_answers_one_byte_a_second_ends_at_the_deadline() {
    all_streams(
        |mut peer| {
            let mut reader = peer.try_clone().unwrap();
            thread::spawn(move || drain(&mut reader));
            for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" {
                if peer.write_all(&[*byte]).is_err() {
                    break;
                }
                thread::sleep(Duration::from_secs(1));
            }
        },
        failed,
    );
}

#[test]
fn a_collector_that_answers_without_end_is_left() {
    all_streams(
        |mut peer| {
            let mut reader = peer.try_clone().unwrap();
            thread::spawn(move || drain(&mut reader));
            let _ = peer.write_all(b"HTTP/1.1 200 OK\r\n");
            while peer.write_all(&[b'x'; 65_536]).is_ok() {}
        },
        failed,
    );
}

#[test]
fn a_collector_that_speaks_nonsense_is_told_apart() {
    all_streams(
        |mut peer| {
            let _ = peer.write_all(b"\x00\xff\x1b[2J nonsense\r\n\r\n\r\n");
            drain(&mut peer);
        },
        |scheme, output| {
            if waits_for_answer(scheme) {
                failed(scheme, output);
                assert!(!output.stderr.contains('\x1b'));
            }
        },
    );
}

/// Answers every request with these bytes and closes.
fn http_answers(answer: &'static [u8], check: impl Fn(&str, &Output)) {
    let Some(dump) = dump() else {
        return;
    };
    let port = serve(move |mut peer| {
        let mut input = BufReader::new(peer.try_clone().unwrap());
        if read_request(&mut input).is_some() {
            let _ = peer.write_all(answer);
        }
    });
    for scheme in STREAMS.iter().filter(|scheme| scheme.ends_with("http")) {
        let url = format!("{scheme}://127.0.0.1:{port}/x");
        let output = send_with(&dump, &[&url], &["--timeout", "2", "--retries", "1"]);
        assert!(output.elapsed < Duration::from_secs(2) + SLACK);
        check(scheme, &output);
    }
}

#[test]
fn errors_of_the_server_are_told_and_only_passing_ones_tried_again() {
    http_answers(
        b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\ndisk",
        |_, output| {
            expect_failure(output, "HTTP status 500: disk");
            assert!(output.stderr.contains("2 attempts"));
        },
    );
    http_answers(
        b"HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n",
        |_, output| {
            expect_failure(output, "HTTP status 429");
            assert!(output.stderr.contains("2 attempts"));
        },
    );
    http_answers(
        b"HTTP/1.1 413 Large\r\nContent-Length: 0\r\n\r\n",
        |_, output| {
            expect_failure(output, "HTTP status 413");
            assert!(!output.stderr.contains("attempts"));
        },
    );
}

#[test]
fn an_answer_that_is_cut_short_is_no_success() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{\"errors\":false"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n{\"errors\":false",
        b"HTTP/1.1 20",
    ] {
        http_answers(answer, failed);
    }
}

#[test]
fn a_redirect_to_another_host_is_not_followed() {
    let answer =
        b"HTTP/1.1 307 There\r\nLocation: http://203.0.113.1/x\r\nContent-Length: 0\r\n\r\n";
    http_answers(answer, |_, output| expect_failure(output, "not followed"));
}

#[test]
fn a_collector_without_a_route_fails_in_time() {
    let Some(dump) = dump().filter(|_| is_root()) else {
        return;
    };
    // In a namespace of its own, with the loopback up and a route that swallows.
    let script = "ip link set lo up && ip address add 10.99.0.1/24 dev lo && ip route add blackhole 10.98.0.0/24 && \
                  nft add table inet f && nft add chain inet f o '{ type filter hook output priority 0; }' && \
                  nft add rule inet f o ip daddr 10.99.0.9 drop && exec \"$0\" \"$@\"";
    if !is_installed("nft") || !is_installed("ip") {
        return;
    }
    let runs = ["10.97.0.1", "10.98.0.1", "10.99.0.9"].map(|host| {
        let dump = dump.clone();
        thread::spawn(move || {
            for scheme in ["tcp", "relp", "http", "tftp", "syslog"] {
                let mut command = Command::new("unshare");
                command.args(["-n", "sh", "-c", script]);
                let args = send_args(&dump, &format!("{scheme}://{host}/x"), "2");
                let output = run(command.args(args));
                assert!(output.elapsed < Duration::from_secs(3) + SLACK);
                // A datagram that is dropped on the way is not noticed.
                if scheme != "syslog" || host != "10.99.0.9" {
                    expect_failure(&output, "");
                }
            }
        })
    });
    for run in runs {
        run.join().unwrap();
    }
}

/// The program and its arguments for one target.
fn send_args(dump: &Path, url: &str, timeout: &str) -> Vec<String> {
    let program = env!("CARGO_BIN_EXE_crashdmesg");
    let mut args: Vec<String> = [
        program,
        "--send",
        url,
        "--timeout",
        timeout,
        "--retries",
        "1",
    ]
    .map(str::to_owned)
    .into();
    args.push(dump.display().to_string());
    args
}

/// Runs a server and the program in a network namespace whose loopback loses what `rule` says.
fn through_loss(rule: &str, server: &str, url: &str, timeout: &str) -> Option<(Output, Scratch)> {
    let dump = data::dump("t612-amd64").filter(|_| is_root())?;
    for tool in ["nft", "ip", "unshare", "socat", "in.tftpd"] {
        if !is_installed(tool) {
            return None;
        }
    }
    let scratch = Scratch::new("loss");
    let script = format!(
        "ip link set lo up mtu 1500; ip address add 10.99.0.1/24 dev lo; cd {}; {server} >server.log 2>&1 & sleep 0.5; nft add table inet f &&\n\
         nft add chain inet f i '{{ type filter hook input priority 0; }}' && nft add rule inet f i {rule} drop ||\n\
         exit 99; \"$0\" \"$@\"; code=$?; sleep 0.3; exit $code",
        scratch.display()
    );
    let mut command = Command::new("unshare");
    // A process namespace takes the server with it.
    command.args(["-n", "-p", "-f", "--kill-child", "sh", "-c", &script]);
    let output = run(command.args(send_args(&dump, url, timeout)));
    if output.code == Some(99) {
        println!("SKIPPED: nft cannot drop packets here: {}", output.stderr);
        return None;
    }
    Some((output, scratch))
}

/// What ends the text of the dump that goes through the loss.
fn last_line() -> String {
    let log = String::from_utf8(data::expected_log("t612-amd64")).unwrap();
    format!("{}\n", log.lines().next_back().unwrap())
}

const LOSE_A_THIRD: &str = "numgen random mod 100 '<' 30";

#[test]
fn a_third_of_all_packets_lost_does_not_lose_a_tftp_transfer() {
    let server = "in.tftpd -L -c -p -u root -U 077 -a 10.99.0.1:6969 -s .";
    let url = "tftp://10.99.0.1:6969/x";
    if let Some((output, scratch)) = through_loss(LOSE_A_THIRD, server, url, "50") {
        expect(&output, "stored");
        assert!(scratch.read("x").ends_with(&last_line()));
    }
}

#[test]
fn a_third_of_all_packets_lost_is_slow_but_right_over_tcp() {
    let server = "socat -u TCP-LISTEN:6969,fork OPEN:out,creat,trunc";
    let url = "tcp://10.99.0.1:6969";
    if let Some((output, scratch)) = through_loss(LOSE_A_THIRD, server, url, "12") {
        // Loss can also outlast the time: then it must say so.
        if output.code == Some(0) {
            expect(&output, "sent");
            assert!(scratch.read("out").ends_with(&last_line()));
        } else {
            expect_failure(&output, "");
        }
    }
}

#[test]
fn a_path_that_swallows_large_packets_ends_in_time() {
    let server = "socat -u TCP-LISTEN:6969,fork OPEN:out,creat,trunc";
    let url = "tcp://10.99.0.1:6969";
    if let Some((output, _)) = through_loss("meta length '>' 1000", server, url, "3") {
        expect_failure(&output, "deadline");
        assert!(output.elapsed < Duration::from_secs(4) + SLACK);
    }
}

#[test]
fn probing_finds_the_largest_packet_that_passes() {
    // What the program sets as init; here it is the namespace that has it.
    let server = "echo 1 >/proc/sys/net/ipv4/tcp_mtu_probing; socat -u TCP-LISTEN:6969,fork OPEN:out,creat,trunc";
    let url = "tcp://10.99.0.1:6969";
    if let Some((output, scratch)) = through_loss("meta length '>' 1300", server, url, "30") {
        expect(&output, "sent");
        assert!(scratch.read("out").ends_with(&last_line()));
    }
}

#[test]
fn tftp_passes_a_path_that_swallows_large_packets_at_the_second_attempt() {
    let server = "in.tftpd -L -c -p -u root -U 077 -a 10.99.0.1:6969 -s .";
    let url = "tftp://10.99.0.1:6969/x";
    if let Some((output, scratch)) = through_loss("meta length '>' 1000", server, url, "50") {
        expect(&output, "stored");
        assert!(scratch.read("x").ends_with(&last_line()));
    }
}

#[test]
fn a_full_disk_is_told_and_leaves_no_half_file() {
    let Some(dump) = dump().filter(|_| is_root() && is_installed("unshare")) else {
        return;
    };
    let scratch = Scratch::new("full");
    let script = format!(
        "mount -t tmpfs -o size=64k none {dir} || exit 99; \"$0\" \"$@\"; code=$?; ls -A {dir}; exit $code",
        dir = scratch.display()
    );
    let url = format!("file:{}/", scratch.display());
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script]);
    let output = run(command.args(send_args(&dump, &url, "5")));
    if output.code == Some(99) {
        println!("SKIPPED: tmpfs cannot be mounted: {}", output.stderr);
        return;
    }
    expect_failure(&output, "No space left");
    assert_eq!(output.stdout, b"", "nothing is left behind");
    assert!(!output.stderr.contains("attempts"), "{}", output.stderr);
}

#[test]
fn a_device_that_fails_is_told() {
    let Some(dump) = dump() else {
        return;
    };
    for url in [
        "pmsg:/dev/full",
        "pmsg:/nonexistent",
        "file:/proc/nonexistent/x",
        "block:/nonexistent",
    ] {
        let output = send_with(&dump, &[url], &["--timeout", "2"]);
        expect_failure(&output, "");
        assert!(output.elapsed < SLACK);
    }
}

#[test]
fn a_dump_that_fails_to_read_still_ends_in_a_report_or_a_reason() {
    let Some(dump) = dump().filter(|_| is_installed("strace")) else {
        return;
    };
    for first in [3, 40, 150, 400] {
        let scratch = Scratch::new("eio");
        let mut command = Command::new("strace");
        command.args(["-f", "-o", "/dev/null", "-e", "trace=pread64", "-e"]);
        command.arg(format!("inject=pread64:error=EIO:when={first}+"));
        let url = format!("file:{}", scratch.path("x").display());
        let output = run(command.args(send_args(&dump, &url, "5")));
        if output.stderr.contains("PTRACE_TRACEME") {
            println!("SKIPPED: tracing is not allowed");
            return;
        }
        let text = scratch.read("x");
        println!(
            "from read {first}: {:?}, {} bytes: {}",
            output.code,
            text.len(),
            output.stderr
        );
        match output.code {
            Some(0) => assert!(text.contains("RELEASE: ")),
            code => {
                assert!(matches!(code, Some(1..=5)), "{code:?}");
                assert!(output.stderr.contains("error 5") || output.stderr.contains("failed"));
            }
        }
    }
}

#[test]
fn the_next_targets_get_their_turn_and_the_record_of_what_failed() {
    let Some(dump) = dump() else {
        return;
    };
    let scratch = Scratch::new("order");
    let silent = serve(|mut peer| {
        drain(&mut peer);
        thread::sleep(Duration::from_secs(20));
    });
    let file = scratch.path("kept");
    let mut command = crashdmesg(["--deadline", "6", "--timeout", "60", "--retries", "1"]);
    command.args(["--send", &format!("http://127.0.0.1:{silent}/")]);
    command.args([
        "--fallback",
        &format!("relp://127.0.0.1:{}", support::free_port()),
    ]);
    command.args(["--fallback", &format!("file:{}", file.display())]);
    command.args([
        "--fallback",
        &format!("file:{}", scratch.path("never").display()),
    ]);
    let output = run(command.arg(&dump));
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert!(output.elapsed < Duration::from_secs(6) + SLACK);
    let text = fs::read_to_string(file).unwrap();
    let (_, trailer) = text.split_once("---- delivery ----\n").unwrap();
    let lines: Vec<&str> = trailer.lines().collect();
    assert_eq!(lines.len(), 2, "{trailer}");
    assert!(lines[0].starts_with("http://127.0.0.1:") && lines[0].contains("deadline"));
    assert!(lines[1].contains("refused") && lines[1].ends_with("2 attempts"));
    assert!(!scratch.path("never").exists());
}

#[test]
fn no_sink_takes_more_than_four_mebibytes() {
    let Some(dump) = dump() else {
        return;
    };
    // A debug build is larger by itself; there it is the sink's own share that is bounded.
    let mut bare = crashdmesg(["--log"]);
    let Some((_, bare)) = measure(bare.stdout(Stdio::null()).arg(&dump), false) else {
        return;
    };
    let most = match cfg!(debug_assertions) {
        true => bare.peak_kib + 768,
        false => 4096,
    };
    let scratch = Scratch::new("rss");
    let sink = serve(|mut peer| {
        drain(&mut peer);
    });
    let (http, _) =
        support::stub::http(|_| support::stub::answer("200 OK", "{\"errors\":false,\"items\":[]}"));
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let udp = udp.local_addr().unwrap().port();
    let file = scratch.path("x");
    let mut urls = vec![
        format!("file:{}", file.display()),
        "exec:sh -c 'cat >/dev/null'".into(),
        format!("tcp://127.0.0.1:{sink}"),
        format!("syslog+tcp://127.0.0.1:{sink}"),
        format!("gelf+tcp://127.0.0.1:{sink}"),
        format!("http://127.0.0.1:{http}/"),
    ];
    for scheme in ["udp", "syslog", "netconsole", "gelf"] {
        urls.push(format!("{scheme}://127.0.0.1:{udp}"));
    }
    for scheme in ["journal", "loki", "otlp", "elasticsearch"] {
        urls.push(format!("{scheme}+http://127.0.0.1:{http}/"));
    }
    for url in urls {
        let mut command = crashdmesg(["--timeout", "20", "--retries", "0", "--send", &url]);
        command.stderr(Stdio::null()).arg(&dump);
        let Some((status, cost)) = measure(&mut command, false) else {
            return;
        };
        println!("{url}: {} KiB", cost.peak_kib);
        assert_eq!(status.code(), Some(0), "{url}");
        assert!(cost.peak_kib <= most, "{url}: {} KiB", cost.peak_kib);
    }
}
