//! The delivery policy: which targets get the report, in which order, and for how long each is tried.
//!
//! ```text
//! dying gasp   one datagram to every datagram target, nothing awaited
//! send         every target in order; retries with back-off, each within its share of the time
//! fallback     one after the other until one has it, only if no target of `send` has it
//! ```
//!
//! "Has it" is `stored` or `sent`. What was tried so far is appended to what later targets receive, and the whole
//! record is what the console shows last.

use std::cell::Cell;
use std::fmt;
use std::time::{Duration, Instant};

use super::text::{head, line, rfc3339};
use super::{Attempt, Delivered, Meta, Outcome, Part, Payload, Report, Target, name};
use crate::config::Config;
use crate::deadline::Deadline;

/// Longest dying gasp in bytes, with its header.
const GASP_LEN: usize = 1199;

/// Longest that all gasps may take: a host name that nobody resolves must not hold up the report.
const GASP_TIME: Duration = Duration::from_secs(2);

/// The pause before the second attempt; each further one doubles it.
const BACK_OFF: Duration = Duration::from_millis(250);

/// Longest pause between two attempts.
const BACK_OFF_MOST: Duration = Duration::from_secs(4);

/// Where a report goes.
#[derive(Clone)]
pub struct Plan {
    /// Every one of these is tried.
    pub send: Vec<Target>,
    /// These only when none of `send` has the report.
    pub fallback: Vec<Target>,
    /// The most that is sent: a worker that died is started again with less.
    pub part: Part,
    /// Longest time for one target, unless its URL tells.
    pub timeout: Duration,
    /// Attempts after the first.
    pub retries: u32,
}

impl Plan {
    /// The plan of a configuration.
    ///
    /// # Errors
    /// The first target that is none, with what is wrong with it.
    pub fn new(config: &Config) -> Result<Self, String> {
        let key = config.ssh_key.as_deref().map(|path| ("key", path));
        let hosts = config.ssh_known_hosts.as_deref();
        let hosts = hosts.map(|path| ("known_hosts", path));
        let defaults: Vec<_> = key.into_iter().chain(hosts).collect();
        let target = |url: &String| {
            Target::parse_with(url, &defaults).map_err(|why| format!("{}: {why}", shown(url)))
        };
        let targets = |urls: &[String]| urls.iter().map(target).collect::<Result<Vec<_>, _>>();
        Ok(Plan {
            send: targets(&config.send)?,
            fallback: targets(&config.fallback)?,
            part: config.report,
            timeout: config.timeout,
            retries: config.retries,
        })
    }
}

/// A URL that may be wrong, for a message: without what may be a password or a token.
pub fn shown(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or("");
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => {
            format!("{}://...{}", &url[..scheme], &url[at..])
        }
        _ => url.to_string(),
    }
}

/// What became of one target.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its URL, without secrets.
    pub target: String,
    /// What is known.
    pub outcome: Delivered,
    /// How often it was tried.
    pub attempts: u32,
    /// How long all attempts took.
    pub took: Duration,
    /// Bytes of text handed to the protocol in the last attempt.
    pub bytes: u64,
}

/// `relp://10.0.2.2:2514 stored 81234 bytes in 0.21 s, 2 attempts`
impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.took.as_millis() / 10;
        let took = format_args!("{}.{:02} s", tenths / 100, tenths % 100);
        match &self.outcome {
            Ok(outcome) => write!(
                f,
                "{} {outcome} {} bytes in {took}",
                self.target, self.bytes
            )?,
            Err(failure) => write!(f, "{} failed in {took}", self.target)
                .and_then(|()| write!(f, " ({})", failure.why))?,
        }
        match self.attempts {
            1 => Ok(()),
            n => write!(f, ", {n} attempts"),
        }
    }
}

impl Delivery {
    /// Whether the target has the report, as far as anybody can know.
    pub fn has_it(&self) -> bool {
        matches!(self.outcome, Ok(Outcome::Stored | Outcome::Sent))
    }
}

/// What all deliveries together come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A target has the report.
    Delivered,
    /// Only datagrams went out.
    Unacknowledged,
    /// Nothing is known to have left the machine.
    Failed,
}

/// Sums up.
pub fn verdict(deliveries: &[Delivery]) -> Verdict {
    if deliveries.iter().any(Delivery::has_it) {
        Verdict::Delivered
    } else if deliveries.iter().any(|d| d.outcome.is_ok()) {
        Verdict::Unacknowledged
    } else {
        Verdict::Failed
    }
}

/// The dying gasp: host, time, reason, kind and signature on one line.
pub fn gasp_line(meta: &Meta) -> String {
    let time = match meta.crash_time {
        Some(seconds) => rfc3339(seconds.saturating_mul(1_000_000_000)),
        None => "unknown time".into(),
    };
    // The panic line comes last: it is the one that may be cut.
    let host = line(name::host(meta).as_bytes());
    let mut text = format!("crashdmesg: {host} crashed at {time}");
    for (label, value) in [
        ("kind", &meta.kind),
        ("signature", &meta.signature),
        ("report", &meta.report_id),
        ("release", &meta.release),
        ("panic", &meta.panic),
    ] {
        if !value.is_empty() {
            let value = line(value.as_bytes());
            text += &format!("; {label}: {}", head(&value, 600));
        }
    }
    head(&text, GASP_LEN).to_string()
}

/// Sends the dying gasp to every target that takes datagrams.
pub fn gasp(plan: &Plan, meta: &Meta, deadline: Deadline, log: &mut dyn FnMut(&str)) {
    let deadline = deadline.within(GASP_TIME);
    let text = gasp_line(meta);
    for target in plan.send.iter().chain(&plan.fallback) {
        match target.gasp(meta, &text, deadline) {
            None => {}
            Some(Ok(_)) => log(&format!("dying gasp to {target}: unknown")),
            Some(Err(failure)) => log(&format!("dying gasp to {target}: failed ({})", failure.why)),
        }
    }
}

/// Delivers the report as planned; `log` gets a line a step.
pub fn deliver(
    plan: &Plan,
    report: &dyn Report,
    deadline: Deadline,
    log: &mut dyn FnMut(&str),
) -> Vec<Delivery> {
    let mut done: Vec<Delivery> = Vec::new();
    let mut trailer = String::new();
    let mut one = |target: &Target, waiting: usize, done: &mut Vec<Delivery>| {
        // Those still waiting keep their share, however long this one takes.
        let share = deadline.left() / u32::try_from(waiting.max(1)).unwrap_or(u32::MAX);
        let limit = target.timeout().unwrap_or(plan.timeout);
        let delivery = attempts(
            plan,
            target,
            report,
            &trailer,
            deadline.within(limit.min(share)),
            log,
        );
        let text = delivery.to_string();
        log(&text);
        trailer += &text;
        trailer.push('\n');
        done.push(delivery);
    };
    let all = plan.send.len() + plan.fallback.len();
    for (i, target) in plan.send.iter().enumerate() {
        one(target, all - i, &mut done);
    }
    for (i, target) in plan.fallback.iter().enumerate() {
        if done.iter().any(Delivery::has_it) {
            break;
        }
        one(target, plan.fallback.len() - i, &mut done);
    }
    done
}

/// Tries one target until it has the report, no further attempt makes sense or its time is over.
fn attempts(
    plan: &Plan,
    target: &Target,
    report: &dyn Report,
    trailer: &str,
    deadline: Deadline,
    log: &mut dyn FnMut(&str),
) -> Delivery {
    let start = Instant::now();
    let payload = Payload::new(report, target.part().min(plan.part), trailer);
    let mut attempt = Attempt::default();
    let outcome = loop {
        payload.written.set(0);
        let outcome = target.send(&payload, &mut attempt, deadline);
        let number = attempt.number;
        attempt.number += 1;
        match &outcome {
            Err(failure) if failure.again && number < plan.retries => {
                let pause = BACK_OFF
                    .saturating_mul(1 << number.min(8))
                    .min(BACK_OFF_MOST);
                // Half a second is the least in which an attempt could succeed after the pause.
                if deadline.left() < pause + Duration::from_millis(500) {
                    break outcome;
                }
                log(&format!("{target}: {}; trying again", failure.why));
                deadline.sleep(pause);
            }
            _ => break outcome,
        }
    };
    Delivery {
        target: target.to_string(),
        outcome,
        attempts: attempt.number,
        took: start.elapsed(),
        bytes: Cell::get(&payload.written),
    }
}

#[cfg(test)]
mod tests {
    use super::super::payload::tests::fake;
    use super::super::{Failure, Part};
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, UdpSocket};

    fn plan(send: &[&str], fallback: &[&str]) -> Plan {
        let targets = |urls: &[&str]| urls.iter().map(|u| Target::parse(u).unwrap()).collect();
        Plan {
            send: targets(send),
            fallback: targets(fallback),
            part: Part::Full,
            timeout: Duration::from_secs(5),
            retries: 2,
        }
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(10))
    }

    /// A port where connections are accepted and read to their end, `count` times.
    fn reader(count: usize) -> (u16, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let thread = std::thread::spawn(move || {
            let mut texts = Vec::new();
            for _ in 0..count {
                let mut text = String::new();
                listener
                    .accept()
                    .unwrap()
                    .0
                    .read_to_string(&mut text)
                    .unwrap();
                texts.push(text);
            }
            texts
        });
        (port, thread)
    }

    fn refused() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("tcp://127.0.0.1:{}", listener.local_addr().unwrap().port())
    }

    #[test]
    fn every_target_is_tried_and_later_ones_learn_what_happened() {
        let (port, thread) = reader(2);
        let good = format!("tcp://127.0.0.1:{port}");
        let mut lines = Vec::new();
        let done = deliver(
            &plan(&[&refused(), &good, &good], &[&refused()]),
            &fake(10),
            soon(),
            &mut |l| lines.push(l.to_string()),
        );
        let texts = thread.join().unwrap();
        assert_eq!(done.len(), 3);
        assert_eq!((done[0].attempts, done[0].outcome.is_ok()), (3, false));
        assert!(done[0].took >= Duration::from_millis(750));
        assert!(texts[0].contains("failed") && texts[0].contains("3 attempts\n"));
        assert!(texts[1].contains(&format!("{good} sent {} bytes", texts[0].len())));
        assert_eq!(verdict(&done), Verdict::Delivered);
        assert_eq!(lines.len(), 5);
    }

    #[test]
    fn fallbacks_are_tried_until_one_has_the_report() {
        let (port, thread) = reader(1);
        let good = format!("tcp://127.0.0.1:{port}");
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let unknown = format!("udp://{}", udp.local_addr().unwrap());
        let done = deliver(
            &plan(&[&unknown], &[&refused(), &good, &refused()]),
            &fake(1),
            soon(),
            &mut |_| (),
        );
        thread.join().unwrap();
        assert_eq!(done.len(), 3);
        assert_eq!(done[0].outcome.as_ref().unwrap(), &Outcome::Unknown);
    }

    #[test]
    fn a_target_that_hangs_leaves_the_others_their_share() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let silent = format!("tcp://{}?ack", silent.local_addr().unwrap());
        let (port, thread) = reader(1);
        let start = Instant::now();
        let done = deliver(
            &plan(&[&silent, &format!("tcp://127.0.0.1:{port}")], &[]),
            &fake(1),
            Deadline::after(Duration::from_millis(800)),
            &mut |_| (),
        );
        drop(thread);
        assert!(start.elapsed() < Duration::from_secs(2));
        assert!(done[1].has_it(), "{}", done[1]);
        assert!(done[0].to_string().contains("failed"));
    }

    #[test]
    fn a_wrong_target_is_named_without_its_secrets() {
        let mut config = Config {
            send: vec!["http://u:secret@h:0/x?token=secret".into()],
            ..Config::default()
        };
        let why = Plan::new(&config).err().unwrap();
        assert!(why.starts_with("http://...@h:0/x: ") && !why.contains("secret"));
        config.send = vec!["ssh://h/x".into()];
        assert!(Plan::new(&config).is_err());
        config.ssh_known_hosts = Some("/etc/known_hosts".into());
        Plan::new(&config).ok().unwrap();
    }

    #[test]
    fn nothing_configured_is_a_failure() {
        assert_eq!(
            verdict(&deliver(&plan(&[], &[]), &fake(1), soon(), &mut |_| ())),
            Verdict::Failed
        );
    }

    #[test]
    fn a_dying_gasp_is_one_short_line_whatever_the_log_says() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let url = format!("udp://{}", socket.local_addr().unwrap());
        let mut meta = fake(1).meta;
        meta.panic = "bad\n<0>\x1b[2J".repeat(1000);
        meta.host = "h\r\nx".into();
        gasp(&plan(&[&url], &[&refused()]), &meta, soon(), &mut |_| ());
        let mut datagram = [0; 4096];
        let len = socket.recv(&mut datagram).unwrap();
        let text = std::str::from_utf8(&datagram[..len]).unwrap();
        assert!(len <= 1200 && text.starts_with("crashdmesg: h"), "{text}");
        assert!(text.contains("signature: c1-0123"));
        assert!(!text.trim_end().chars().any(char::is_control));
    }

    #[test]
    fn a_delivery_reads_as_one_line() {
        let delivery = Delivery {
            target: "relp://c".into(),
            outcome: Err(Failure::passing("connect to 10.0.0.1:2514: refused")),
            attempts: 3,
            took: Duration::from_millis(1234),
            bytes: 0,
        };
        assert_eq!(
            delivery.to_string(),
            "relp://c failed in 1.23 s (connect to 10.0.0.1:2514: refused), 3 attempts"
        );
    }

    #[test]
    fn an_answer_is_waited_for_only_when_asked() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("tcp://{}?ack=1", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            let mut text = Vec::new();
            peer.read_to_end(&mut text).unwrap();
            let mut hash = super::super::sha256::Sha256::new();
            hash.update(&text);
            writeln!(peer, "{}  -", hash.hex()).unwrap();
        });
        let done = deliver(&plan(&[&url], &[]), &fake(1000), soon(), &mut |_| ());
        thread.join().unwrap();
        assert_eq!(done[0].outcome.as_ref().unwrap(), &Outcome::Stored);
    }
}
