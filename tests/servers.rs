//! Reports sent to the real servers that people run, started here on loopback, and read back from them.

mod data;
mod program;
mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use program::is_installed;
use support::{Scratch, Server, assert_same, expect, expect_failure, free_port, is_root};
use support::{log_lines, report, send, wait_until};

/// Every test has the same dump: odd bytes, records of several lines, long and empty ones, device dictionaries.
fn dump() -> Option<PathBuf> {
    data::dump("b61-odd")
}

/// One message as a syslog server has filed it.
#[derive(Debug)]
struct Filed {
    pri: u32,
    time: String,
    host: String,
    app: String,
    kind: String,
    data: String,
    text: String,
}

fn filed(text: &str) -> Vec<Filed> {
    let one = |line: &str| {
        let mut parts = line.splitn(7, '|').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_else(|| panic!("{line}"));
        Filed {
            pri: next().parse().unwrap(),
            time: next(),
            host: next(),
            app: next(),
            kind: next(),
            data: next(),
            text: next(),
        }
    };
    text.lines().map(one).collect()
}

/// Demands that a syslog server has every line of the log, in order, with what belongs to it.
fn assert_filed(dump: &Path, text: &str) {
    let all = filed(text);
    let (kernel, other): (Vec<_>, Vec<_>) = all.iter().partition(|m| m.kind == "KERNEL");
    let texts: Vec<_> = kernel.iter().map(|m| &m.text).collect();
    assert_same(&texts, &log_lines(dump));
    for message in &all {
        assert_eq!((&*message.host, &*message.app), ("node17", "crashdmesg"));
        assert!(message.data.contains("crash@32473"), "{message:?}");
        assert!(message.time.starts_with("2026-11-21T19:4"), "{message:?}");
    }
    assert!(other.iter().all(|m| m.pri == 2));
    let panic = kernel
        .iter()
        .find(|m| m.text.contains("Kernel panic - not"));
    assert_eq!(
        panic.unwrap().pri,
        0,
        "the kernel logs a panic at level emerg"
    );
    assert!(kernel.iter().any(|m| m.pri == 6) && kernel.iter().any(|m| m.pri == 5));
    assert!(other.iter().any(|m| m.text.contains("PANIC: ")));
}

fn rsyslog(scratch: &Scratch, input: &str) -> Server {
    let config = format!(
        "global(workDirectory=\"{dir}\" maxMessageSize=\"64k\" parser.escapeControlCharacterTab=\"off\")\n\
         module(load=\"imudp\") module(load=\"imtcp\") module(load=\"imrelp\")\n\
         {input}\n\
         template(name=\"t\" type=\"string\" string=\"%pri%|%timereported:::date-rfc3339%|%hostname%|%app-name%|\
         %msgid%|%structured-data%|%msg%\\n\")\n\
         action(type=\"omfile\" file=\"{dir}/out\" template=\"t\")\n",
        dir = scratch.display(),
    );
    let config = scratch.file("rsyslog.conf", &config);
    let mut command = Command::new("/usr/sbin/rsyslogd");
    command.arg("-n").arg("-f").arg(config);
    command.arg("-i").arg(scratch.path("pid"));
    Server::start(scratch, &mut command)
}

/// Sends to rsyslog and compares what it files; its files are complete when it has ended.
fn through_rsyslog(module: &str, scheme: &str, outcome: &str) {
    let Some(dump) = dump().filter(|_| is_installed("rsyslogd")) else {
        return;
    };
    let relp = "/usr/lib/x86_64-linux-gnu/rsyslog/imrelp.so";
    if module == "imrelp" && cfg!(target_arch = "x86_64") && !Path::new(relp).exists() {
        println!("SKIPPED: rsyslog-relp is not installed");
        return;
    }
    let scratch = Scratch::new("rsyslog");
    let port = free_port();
    let server = rsyslog(
        &scratch,
        &format!("input(type=\"{module}\" port=\"{port}\" address=\"127.0.0.1\")"),
    );
    let server = match module {
        "imudp" => server.bound(port),
        _ => server.listening(port),
    };
    expect(
        &send(&dump, &[&format!("{scheme}://127.0.0.1:{port}")]),
        outcome,
    );
    wait_until("rsyslog files the end", || {
        scratch.read("out").contains("</TASK>")
    });
    server.stop();
    let text = scratch.read("out");
    // The dying gasp, to a datagram target only.
    let gasp = filed(&text).iter().filter(|m| m.kind == "PANIC").count();
    assert_eq!(gasp, usize::from(module == "imudp"));
    assert_filed(&dump, &text);
}

#[test]
fn rsyslog_files_what_comes_over_udp() {
    through_rsyslog("imudp", "syslog", "unknown");
}

#[test]
fn rsyslog_files_what_comes_over_tcp() {
    through_rsyslog("imtcp", "syslog+tcp", "sent");
}

#[test]
fn rsyslog_acknowledges_what_comes_over_relp() {
    through_rsyslog("imrelp", "relp", "stored");
}

#[test]
fn syslog_ng_files_what_comes_over_tcp_and_udp() {
    let Some(dump) = dump().filter(|_| is_installed("syslog-ng")) else {
        return;
    };
    for (transport, scheme, outcome) in
        [("tcp", "syslog+tcp", "sent"), ("udp", "syslog", "unknown")]
    {
        let scratch = Scratch::new("sng");
        let port = free_port();
        let config = format!(
            "@version: 3.38\n\
             options {{ keep-hostname(yes); chain-hostnames(no); log-msg-size(65536); }};\n\
             source s {{ syslog(ip(127.0.0.1) port({port}) transport({transport})); }};\n\
             destination d {{ file(\"{}/out\" template(\"$PRI|$S_ISODATE|$HOST|$PROGRAM|$MSGID|$SDATA|$MSG\\n\")); }};\n\
             log {{ source(s); destination(d); }};\n",
            scratch.display()
        );
        let config = scratch.file("syslog-ng.conf", &config);
        let mut command = Command::new("syslog-ng");
        command.arg("-F").arg("-f").arg(config);
        for (option, name) in [("-R", "persist"), ("-p", "pid"), ("-c", "ctl")] {
            command.arg(option).arg(scratch.path(name));
        }
        let server = Server::start(&scratch, &mut command);
        let server = match transport {
            "udp" => server.bound(port),
            _ => server.listening(port),
        };
        expect(
            &send(&dump, &[&format!("{scheme}://127.0.0.1:{port}")]),
            outcome,
        );
        wait_until("syslog-ng files the end", || {
            scratch.read("out").contains("</TASK>")
        });
        server.stop();
        assert_filed(&dump, &scratch.read("out"));
    }
}

fn nginx(scratch: &Scratch, port: u16, location: &str) -> Server {
    let root = scratch.directory("www");
    let config = format!(
        "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log;\n\
         events {{}}\n\
         http {{ access_log off; client_body_temp_path {dir}/body;\n\
         proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;\n\
         server {{ listen 127.0.0.1:{port}; location / {{ root {root}; dav_methods PUT; create_full_put_path on;\n\
         dav_access user:rw; {location} }} }} }}\n",
        dir = scratch.display(),
        root = root.display(),
    );
    let config = scratch.file("nginx.conf", &config);
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-p").arg(&**scratch).arg("-c").arg(config);
    command.arg("-e").arg(scratch.path("error.log"));
    Server::start(scratch, &mut command).listening(port)
}

#[test]
fn nginx_stores_one_file_however_often_it_is_put() {
    let Some(dump) = dump().filter(|_| is_installed("nginx")) else {
        return;
    };
    let scratch = Scratch::new("nginx");
    let port = free_port();
    let _server = nginx(&scratch, port, "client_max_body_size 10m;");
    let url = format!("http://127.0.0.1:{port}/crash/%h/%t-%s.txt?key=1");
    for _ in 0..2 {
        expect(&send(&dump, &[&url]), "stored");
    }
    let directory = scratch.path("www/crash/node17");
    let files: Vec<_> = fs::read_dir(&directory).unwrap().flatten().collect();
    assert_eq!(files.len(), 1);
    let name = files[0].file_name().into_string().unwrap();
    assert!(name.starts_with("20261121T194314Z-c1-"), "{name}");
    assert_eq!(fs::read_to_string(files[0].path()).unwrap(), report(&dump));
}

#[test]
fn nginx_refuses_and_the_reason_is_told() {
    let Some(dump) = dump().filter(|_| is_installed("nginx")) else {
        return;
    };
    let scratch = Scratch::new("nginx");
    let port = free_port();
    let password = scratch.file("users", "crash:{PLAIN}let me\n");
    let guard = format!(
        "client_max_body_size 8k; auth_basic x; auth_basic_user_file {};",
        password.display()
    );
    let _server = nginx(&scratch, port, &guard);
    let put = |user: &str, part: &str| {
        let url = format!("http://{user}127.0.0.1:{port}/x?part={part}");
        send(&dump, &[&url])
    };
    expect_failure(&put("", "summary"), "HTTP status 401");
    expect_failure(&put("crash:let%20me@", "full"), "HTTP status 413");
    let output = put("crash:let%20me@", "log");
    assert!(!output.stderr.contains("let"), "{}", output.stderr);
    expect_failure(&output, "HTTP status 413");
    assert_eq!(fs::read_dir(scratch.path("www")).unwrap().count(), 0);
}

#[test]
fn journal_remote_keeps_every_field() {
    let remote = "/lib/systemd/systemd-journal-remote";
    let Some(dump) = dump().filter(|_| is_installed("journalctl")) else {
        return;
    };
    if !Path::new(remote).exists() {
        println!("SKIPPED: systemd-journal-remote is not installed");
        return;
    }
    let scratch = Scratch::new("journal");
    let port = free_port();
    let journal = scratch.path("crash.journal");
    let mut command = Command::new(remote);
    command.arg(format!("--listen-http=127.0.0.1:{port}"));
    command
        .arg("--split-mode=none")
        .arg("--output")
        .arg(&journal);
    let server = Server::start(&scratch, &mut command).listening(port);
    expect(
        &send(&dump, &[&format!("journal+http://127.0.0.1:{port}")]),
        "stored",
    );
    server.stop();
    let show = |format: &str, more: &[&str]| {
        let mut command = Command::new("journalctl");
        command.arg("--file").arg(&journal).args(["-o", format]);
        let output = command.args(more).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let text = show("cat", &["_TRANSPORT=kernel"]);
    let lines: Vec<_> = text.lines().collect();
    assert_same(&lines, &log_lines(&dump));
    let panic = show("export", &["PRIORITY=0", "_TRANSPORT=kernel"]);
    for field in [
        "MESSAGE=Kernel panic - not syncing: sysrq triggered crash",
        "_HOSTNAME=node17",
        "SYSLOG_FACILITY=0",
        "__REALTIME_TIMESTAMP=17952901",
        "_SOURCE_MONOTONIC_TIMESTAMP=16654869",
        "CRASHDMESG_SIGNATURE=c1-",
    ] {
        assert!(panic.contains(&format!("\n{field}")), "{field} in {panic}");
    }
    let summary = show("cat", &["SYSLOG_IDENTIFIER=crashdmesg"]);
    assert!(summary.starts_with("crashdmesg ") && summary.contains("\nPANIC: "));
}

#[test]
fn tftpd_stores_the_file() {
    let Some(dump) = dump().filter(|_| is_installed("in.tftpd") && is_root()) else {
        return;
    };
    let scratch = Scratch::new("tftp");
    let port = free_port();
    let root = scratch.directory("root");
    let mut command = Command::new("/usr/sbin/in.tftpd");
    command.args(["-L", "-c", "-p", "-u", "root", "-U", "077"]);
    command.args(["-a", &format!("127.0.0.1:{port}"), "-s"]);
    let _server = Server::start(&scratch, command.arg(&root)).bound(port);
    for (options, name) in [("", "a"), ("?blksize=512", "b"), ("?blksize=65464", "c")] {
        let url = format!("tftp://127.0.0.1:{port}/%h-{name}.txt{options}");
        expect(&send(&dump, &[&url]), "stored");
        let file = root.join(format!("node17-{name}.txt"));
        assert_eq!(fs::read_to_string(file).unwrap(), report(&dump));
    }
    let url = format!("tftp://127.0.0.1:{port}/none/x");
    expect_failure(&send(&dump, &[&url]), "refused: File not found (code 1)");
}

/// vsftpd with a drop box that belongs to its anonymous user.
fn vsftpd(scratch: &Scratch, port: u16, rename: &str) -> Server {
    let root = scratch.directory("ftp");
    let drop_box = root.join("drop");
    fs::create_dir(&drop_box).unwrap();
    let status = Command::new("chown").arg("ftp").arg(&drop_box).status();
    assert!(status.unwrap().success());
    let empty = scratch.directory("empty");
    let config = format!(
        "listen=YES\nlisten_address=127.0.0.1\nlisten_port={port}\nbackground=NO\nanonymous_enable=YES\n\
         anon_root={}\nsecure_chroot_dir={}\nwrite_enable=YES\nanon_upload_enable=YES\nanon_umask=077\n\
         anon_mkdir_write_enable={rename}\nanon_other_write_enable={rename}\nseccomp_sandbox=NO\n",
        root.display(),
        empty.display(),
    );
    let config = scratch.file("vsftpd.conf", &config);
    let mut command = Command::new("/usr/sbin/vsftpd");
    Server::start(scratch, command.arg(config)).listening(port)
}

#[test]
fn vsftpd_stores_the_file_once() {
    let Some(dump) = dump().filter(|_| is_installed("vsftpd") && is_root()) else {
        return;
    };
    let scratch = Scratch::new("ftp");
    let port = free_port();
    let _server = vsftpd(&scratch, port, "YES");
    let url = format!("ftp://127.0.0.1:{port}/drop/%h/%t.txt");
    for _ in 0..2 {
        expect(&send(&dump, &[&url]), "stored");
    }
    let directory = scratch.path("ftp/drop/node17");
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    let text = fs::read_to_string(directory.join("20261121T194314Z.txt"));
    assert_eq!(text.unwrap(), report(&dump));
    expect_failure(
        &send(&dump, &[&format!("ftp://nobody:x@127.0.0.1:{port}/x")]),
        "log in: 530",
    );
}

#[test]
fn a_write_only_drop_box_takes_the_file_under_its_final_name() {
    let Some(dump) = dump().filter(|_| is_installed("vsftpd") && is_root()) else {
        return;
    };
    let scratch = Scratch::new("ftpbox");
    let port = free_port();
    let _server = vsftpd(&scratch, port, "NO");
    let url = format!("ftp://127.0.0.1:{port}/drop/");
    expect(&send(&dump, &[&url]), "stored");
    let files = fs::read_dir(scratch.path("ftp/drop")).unwrap().flatten();
    let file = files
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "txt"));
    assert_eq!(fs::read_to_string(file.unwrap()).unwrap(), report(&dump));
}

/// An OpenSSH server that lets `key` in as root, and its known hosts file.
struct Sshd {
    scratch: Scratch,
    port: u16,
    _server: Server,
}

impl Sshd {
    fn start() -> Option<Self> {
        if !is_installed("sshd") || !is_installed("ssh-keygen") || !is_root() {
            return None;
        }
        let scratch = Scratch::new("sshd");
        let port = free_port();
        for key in ["host", "key"] {
            let mut command = Command::new("ssh-keygen");
            command.args(["-q", "-t", "ed25519", "-N", "", "-f"]);
            assert!(command.arg(scratch.path(key)).status().unwrap().success());
        }
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {dir}/host\nPidFile {dir}/pid\nUsePAM no\nStrictModes no\n\
             AuthorizedKeysFile {dir}/authorized\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n",
            dir = scratch.display()
        );
        let config = scratch.file("sshd.conf", &config);
        fs::copy(scratch.path("key.pub"), scratch.path("authorized")).unwrap();
        let public = scratch.read("host.pub");
        let key: Vec<&str> = public.split(' ').take(2).collect();
        scratch.file("known", &format!("[127.0.0.1]:{port} {}\n", key.join(" ")));
        fs::create_dir_all("/run/sshd").unwrap();
        let mut command = Command::new("/usr/sbin/sshd");
        command.args(["-D", "-e", "-f"]).arg(config);
        let server = Server::start(&scratch, &mut command).listening(port);
        Some(Sshd {
            scratch,
            port,
            _server: server,
        })
    }

    fn url(&self, known: &str, more: &str) -> String {
        let dir = self.scratch.display();
        let port = self.port;
        format!("ssh://root@127.0.0.1:{port}{dir}/in/%h/%t.txt?known_hosts={dir}/{known}{more}")
    }

    fn check(&self, dump: &Path, key: &str) {
        expect(&send(dump, &[&self.url("known", key)]), "stored");
        let file = self.scratch.path("in/node17/20261121T194314Z.txt");
        assert_eq!(fs::read_to_string(&file).unwrap(), report(dump));
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let left = fs::read_dir(file.parent().unwrap()).unwrap().count();
        assert_eq!(left, 1, "nothing but the file");
    }
}

#[test]
fn openssh_stores_the_file_and_a_stranger_is_refused() {
    let Some(dump) = dump().filter(|_| is_installed("ssh")) else {
        return;
    };
    let Some(sshd) = Sshd::start() else {
        return;
    };
    let key = format!(
        "&key={}&program=/usr/bin/ssh",
        sshd.scratch.path("key").display()
    );
    sshd.check(&dump, &key);
    sshd.check(&dump, &key);
    sshd.scratch.file("empty", "");
    let output = send(&dump, &[&sshd.url("empty", &key)]);
    expect_failure(&output, "Host key verification failed");
    let wrong = format!("&key={}", sshd.scratch.path("host").display());
    let output = send(&dump, &[&sshd.url("known", &wrong)]);
    expect_failure(&output, "Permission denied");
}

#[test]
fn dropbear_s_client_stores_the_file_and_a_stranger_is_refused() {
    let Some(dump) = dump().filter(|_| is_installed("dbclient") && is_installed("dropbearkey"))
    else {
        return;
    };
    let Some(sshd) = Sshd::start() else {
        return;
    };
    let key = sshd.scratch.path("dropbear");
    let mut command = Command::new("dropbearkey");
    command.args(["-t", "ed25519", "-f"]).arg(&key);
    let output = command.stderr(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let public = text.lines().find(|line| line.starts_with("ssh-ed25519"));
    sshd.scratch
        .file("authorized", &format!("{}\n", public.unwrap()));
    let key = format!("&key={}&program=/usr/bin/dbclient", key.display());
    sshd.check(&dump, &key);
    sshd.scratch.file("empty", "");
    let output = send(&dump, &[&sshd.url("empty", &key)]);
    assert_eq!(output.code, Some(5), "{}", output.stderr);
}

#[test]
fn netcat_and_socat_get_the_text() {
    let Some(dump) = dump() else {
        return;
    };
    for tool in ["nc", "socat"] {
        if !is_installed(tool) {
            continue;
        }
        let scratch = Scratch::new("nc");
        let port = free_port();
        let out = fs::File::create(scratch.path("out")).unwrap();
        let mut command = Command::new(tool);
        match tool {
            "nc" => command.args(["-l", "-d", "127.0.0.1", &port.to_string()]),
            _ => command.args(["-u", &format!("TCP-LISTEN:{port},bind=127.0.0.1"), "-"]),
        };
        let mut server = command.stdin(Stdio::null()).stdout(out).spawn().unwrap();
        // It takes one connection: a look whether it listens would use it up, so the sink's retries do.
        let url = format!("tcp://127.0.0.1:{port}");
        let output = support::send_with(&dump, &[&url], &["--timeout", "10", "--retries", "5"]);
        let _ = server.kill();
        server.wait().unwrap();
        expect(&output, "sent");
        assert_eq!(scratch.read("out"), report(&dump));
    }
}

#[test]
fn mosquitto_keeps_the_last_crash_of_a_host() {
    let Some(dump) = dump().filter(|_| is_installed("mosquitto")) else {
        return;
    };
    let scratch = Scratch::new("mqtt");
    let port = free_port();
    let config = format!("listener {port} 127.0.0.1\nallow_anonymous true\n");
    let config = scratch.file("mosquitto.conf", &config);
    let mut command = Command::new("mosquitto");
    let _server = Server::start(&scratch, command.arg("-c").arg(config)).listening(port);
    expect(
        &send(&dump, &[&format!("mqtt://127.0.0.1:{port}")]),
        "stored",
    );
    // Whoever subscribes later gets it: the packets of MQTT 3.1.1, by hand.
    let mut peer = TcpStream::connect(("127.0.0.1", port)).unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    peer.write_all(b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01t")
        .unwrap();
    peer.write_all(b"\x82\x11\0\x01\0\x0ccrash/node17\0")
        .unwrap();
    let want = report(&dump);
    let mut got = Vec::new();
    let mut piece = [0; 65_536];
    while got.len() < want.len() + 9 {
        let len = peer.read(&mut piece).unwrap();
        assert_ne!(len, 0, "closed after {} bytes", got.len());
        got.extend(&piece[..len]);
    }
    // CONNACK, SUBACK, then a retained PUBLISH with its length and topic.
    assert_eq!(got[..4], [0x20, 2, 0, 0]);
    assert_eq!(got[4..9], [0x90, 3, 0, 1, 0]);
    assert_eq!(got[9], 0x31);
    let text = got.windows(12).position(|w| w == b"crash/node17").unwrap() + 12;
    assert_eq!(std::str::from_utf8(&got[text..]).unwrap(), want);
}

#[test]
fn a_mail_relay_gets_the_whole_text() {
    let Some(dump) = dump() else {
        return;
    };
    let mail = Arc::new(Mutex::new(String::new()));
    let kept = mail.clone();
    // As RFC 5321 has it, with replies of several lines, judged command by command.
    let port = support::stub::serve(move |mut peer| {
        let mut lines = BufReader::new(peer.try_clone().unwrap()).split(b'\n');
        let mut next = || {
            let line = String::from_utf8(lines.next().unwrap().unwrap()).unwrap();
            line.strip_suffix('\r').expect("CR LF").to_owned()
        };
        peer.write_all(b"220-relay\r\n220 ready\r\n").unwrap();
        for (want, reply) in [
            ("EHLO node17", "250-relay\r\n250 8BITMIME\r\n"),
            ("MAIL FROM:<crash@example.org>", "250 ok\r\n"),
            ("RCPT TO:<root@example.org>", "250 ok\r\n"),
            ("DATA", "354 go on\r\n"),
        ] {
            assert_eq!(next(), want);
            peer.write_all(reply.as_bytes()).unwrap();
        }
        let mut text = String::new();
        loop {
            let line = next();
            assert!(line.len() <= 998);
            if line == "." {
                break;
            }
            text += line.strip_prefix('.').unwrap_or(&line);
            text.push('\n');
        }
        *kept.lock().unwrap() = text;
        peer.write_all(b"250 queued\r\n").unwrap();
        assert_eq!(next(), "QUIT");
        peer.write_all(b"221 bye\r\n").unwrap();
    });
    let url = format!("smtp://127.0.0.1:{port}/root@example.org?from=crash@example.org");
    expect(&send(&dump, &[&url]), "stored");
    let mail = mail.lock().unwrap();
    let (headers, body) = mail.split_once("\n\n").unwrap();
    assert!(headers.contains("Subject: node17 crashed: Kernel panic"));
    // Lines too long for a mail are cut.
    let joined = |text: &str| text.replace('\n', "");
    assert_eq!(joined(body), joined(&report(&dump)));
}

#[test]
fn what_was_kept_is_delivered_later_and_once() {
    let Some(dump) = dump() else {
        return;
    };
    let scratch = Scratch::new("saved");
    let partition = scratch.path("partition");
    fs::write(&partition, vec![0; 1 << 20]).unwrap();
    let kept = scratch.directory("kept");
    for url in [
        format!("block:{}", partition.display()),
        format!("file:{}/%h/%t.txt", kept.display()),
    ] {
        expect(&send(&dump, &[&url]), "stored");
    }
    let (port, seen) = support::stub::http(|_| support::stub::answer("201 Created", ""));
    let url = format!("http://127.0.0.1:{port}/%h-%t-%s.txt");
    let ship = |url: &str| {
        let mut command = program::crashdmesg(["--ship-saved", "--retries", "0", "--send", url]);
        program::run(command.arg(&partition).arg(&kept))
    };
    // Not delivered: everything stays for the next time.
    let refused = format!("tcp://127.0.0.1:{}", free_port());
    assert_eq!(ship(&refused).code, Some(5));
    for deliveries in [2, 2] {
        let output = ship(&url);
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        assert_eq!(seen.lock().unwrap().len(), deliveries);
    }
    let want = report(&dump);
    for request in seen.lock().unwrap().iter() {
        assert_eq!(std::str::from_utf8(&request.body).unwrap(), want);
        let name = request.path.strip_prefix("/node17-20261121T194314Z-c1-");
        assert!(name.is_some(), "{}", request.path);
    }
    // Records, for a receiver of records.
    fs::remove_dir_all(&kept).unwrap();
    fs::create_dir(&kept).unwrap();
    let file = format!("file:{}/", kept.display());
    expect(&send(&dump, &[&file]), "stored");
    let (port, seen) = support::stub::http(|_| support::stub::answer("204 No Content", ""));
    assert_eq!(ship(&format!("loki+http://127.0.0.1:{port}")).code, Some(0));
    let body = String::from_utf8(seen.lock().unwrap()[0].body.clone()).unwrap();
    assert!(body.contains("\"Kernel panic - not syncing: sysrq triggered crash\""));
}
