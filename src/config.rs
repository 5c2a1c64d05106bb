//! The configuration: one table of keys, the same in three places.
//!
//! ```text
//! command line           --send relp://10.0.2.2:2514 --deadline 120
//! kernel command line    crashdmesg.send=relp://10.0.2.2:2514 crashdmesg.deadline=120
//! /etc/crashdmesg.conf   send = relp://10.0.2.2:2514       # a comment
//!                        deadline = 120
//! ```
//!
//! The command line is stronger than the kernel command line, which is stronger than the file: a key set in a stronger
//! place hides what the weaker places say about it, all its repetitions included. [`KEYS`] is the whole vocabulary. An
//! unknown key or a bad value is an [`Issue`]: fatal when a file is checked at install time, logged and skipped in the
//! capture kernel, where a report with half a configuration is better than none.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use crate::sink::Part;

pub mod cmdline;
pub mod ip;
mod value;

pub use ip::IpOption;
use value::mtu;
pub use value::{BondMode, FinalAction, Interface, Mac, Route, Vlan, Watchdog};

/// Where the file is in the image and on the machine.
pub const CONFIG_FILE: &str = "/etc/crashdmesg.conf";
/// What the keys are called on the kernel command line: `crashdmesg.KEY`.
const KERNEL_PREFIX: &str = "crashdmesg.";
/// A configuration file is a screenful; what is longer is not one.
const FILE_LEN_MAX: u64 = 64 * 1024;

/// Everything that can be configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Targets of the report, URLs, tried in this order.
    pub send: Vec<String>,
    /// Targets tried only when none of `send` took the report.
    pub fallback: Vec<String>,
    /// The name of the crashed host, over what its memory says.
    pub host: Option<String>,
    /// A pseudonym of the crashed machine's id: 32 hexadecimal digits.
    pub machine_id: Option<String>,
    /// What ends the capture kernel; `None` is the default of the platform, nearly always a reboot.
    pub final_action: Option<FinalAction>,
    /// The program that `continue` goes on with.
    pub next_init: String,
    /// From the first instruction of PID 1 to the final action.
    pub deadline: Duration,
    /// For one target.
    pub timeout: Duration,
    /// How often a target is tried again.
    pub retries: u32,
    /// Whether to configure the network: as PID 1 yes, inside a distribution's image no, unless said here.
    pub network: Option<bool>,
    /// Addresses.
    pub ip: Vec<IpOption>,
    /// The interface to use.
    pub interface: Interface,
    /// The VLANs to use on it, each inside the one before.
    pub vlan: Vec<Vlan>,
    /// The largest packet.
    pub mtu: Option<u32>,
    /// The ports of a bond.
    pub bond: Vec<Interface>,
    /// How they work together.
    pub bond_mode: BondMode,
    /// Routes beside the default route.
    pub route: Vec<Route>,
    /// Name servers.
    pub nameserver: Vec<IpAddr>,
    /// For the network to be ready.
    pub net_timeout: Duration,
    /// The hardware watchdog to feed.
    pub watchdog: Watchdog,
    /// The private key of `ssh://` targets.
    pub ssh_key: Option<String>,
    /// The host keys that `ssh://` targets must show.
    pub ssh_known_hosts: Option<String>,
    /// How many lines of the report the console gets.
    pub console_lines: u32,
    /// How much of the report is sent.
    pub report: Part,
    /// Whether addresses and secrets are replaced by pseudonyms.
    pub redact: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            send: Vec::new(),
            fallback: Vec::new(),
            host: None,
            machine_id: None,
            final_action: None,
            next_init: "/sbin/init".to_owned(),
            deadline: Duration::from_secs(300),
            timeout: Duration::from_secs(60),
            retries: 8,
            network: None,
            ip: Vec::new(),
            interface: Interface::Auto,
            vlan: Vec::new(),
            mtu: None,
            bond: Vec::new(),
            bond_mode: BondMode::ACTIVE_BACKUP,
            route: Vec::new(),
            nameserver: Vec::new(),
            net_timeout: Duration::from_secs(60),
            watchdog: Watchdog::Auto,
            ssh_key: None,
            ssh_known_hosts: None,
            console_lines: 40,
            report: Part::Full,
            redact: false,
        }
    }
}

/// A key of the configuration.
pub struct Key {
    /// Its name, in all three places.
    pub name: &'static str,
    /// What a value looks like.
    pub value: &'static str,
    /// One sentence for the help text.
    pub help: &'static str,
    /// Whether it may be given more than once.
    pub repeats: bool,
    set: fn(&mut Config, &str) -> Result<(), String>,
}

type Set = fn(&mut Config, &str) -> Result<(), String>;

const fn one(name: &'static str, value: &'static str, help: &'static str, set: Set) -> Key {
    Key {
        name,
        value,
        help,
        repeats: false,
        set,
    }
}

const fn many(name: &'static str, value: &'static str, help: &'static str, set: Set) -> Key {
    Key {
        name,
        value,
        help,
        repeats: true,
        set,
    }
}

/// Every key, in the order of the documentation.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    many("send", "URL", "send the report here; repeat for more targets, in order",
        |c, v| { c.send.push(value::url(v)?); Ok(()) }),
    many("fallback", "URL", "send the report here only if no `send` target took it",
        |c, v| { c.fallback.push(value::url(v)?); Ok(()) }),
    one("host", "NAME", "name of the crashed host (default: from its memory)",
        |c, v| { c.host = Some(value::word(v)?); Ok(()) }),
    one("machine-id", "HEX", "what tells this machine from all others; the image builder makes it of /etc/machine-id",
        |c, v| { c.machine_id = Some(value::id128(v)?); Ok(()) }),
    one("final", "reboot|poweroff|halt|shell|continue", "what to do at the end (default: reboot)",
        |c, v| { c.final_action = Some(FinalAction::parse(v)?); Ok(()) }),
    one("next-init", "PATH", "program that `final = continue` goes on with (default: /sbin/init)",
        |c, v| { c.next_init = value::path(v)?; Ok(()) }),
    one("deadline", "SECONDS", "for everything, from the start to the final action (default: 300)",
        |c, v| { c.deadline = value::seconds(v)?; Ok(()) }),
    one("timeout", "SECONDS", "for one target (default: 60)",
        |c, v| { c.timeout = value::seconds(v)?; Ok(()) }),
    one("retries", "COUNT", "how often a target is tried again (default: 8)",
        |c, v| { c.retries = value::number(v, 0, 100)?; Ok(()) }),
    one("network", "yes|no", "configure the network (default: only as init)",
        |c, v| { c.network = Some(value::yes_or_no(v)?); Ok(()) }),
    many("ip", "IP", "an address as in the kernel's ip=, or dhcp, or auto6 (default: the kernel's ip=, else dhcp)",
        |c, v| { c.ip.push(ip::parse(v)?); Ok(()) }),
    one("interface", "MAC|NAME|auto", "network interface (default: auto, the first one that works)",
        |c, v| { c.interface = Interface::parse(v)?; Ok(()) }),
    one("vlan", "[802.1ad:]ID,...", "VLAN on that interface; after a comma, one inside it",
        |c, v| { c.vlan = value::vlans(v)?; Ok(()) }),
    one("mtu", "BYTES", "largest packet",
        |c, v| { c.mtu = Some(mtu(v)?); Ok(()) }),
    one("bond", "MAC|NAME,...", "join these interfaces to a bond and use that",
        |c, v| { c.bond = value::ports(v)?; Ok(()) }),
    one("bond-mode", "MODE", "as the kernel names it, such as 802.3ad (default: active-backup)",
        |c, v| { c.bond_mode = BondMode::parse(v)?; Ok(()) }),
    many("route", "DEST/LEN via GATEWAY", "a route beside the default route",
        |c, v| { c.route.push(Route::parse(v)?); Ok(()) }),
    many("nameserver", "ADDRESS", "DNS server (default: from ip= or DHCP)",
        |c, v| { c.nameserver.push(ip::address(v)?); Ok(()) }),
    one("net-timeout", "SECONDS", "for the network to be ready (default: 60)",
        |c, v| { c.net_timeout = value::seconds(v)?; Ok(()) }),
    one("watchdog", "auto|off|PATH", "hardware watchdog to feed (default: auto, the first there is)",
        |c, v| { c.watchdog = Watchdog::parse(v)?; Ok(()) }),
    one("ssh-key", "PATH", "private key for ssh:// targets",
        |c, v| { c.ssh_key = Some(value::path(v)?); Ok(()) }),
    one("ssh-known-hosts", "PATH", "host keys for ssh:// targets",
        |c, v| { c.ssh_known_hosts = Some(value::path(v)?); Ok(()) }),
    one("console-lines", "COUNT", "lines of the report printed on the console at the end (default: 40)",
        |c, v| { c.console_lines = value::number(v, 0, 1_000_000)?; Ok(()) }),
    one("report", "full|log|summary", "how much to send (default: full)",
        |c, v| { c.report = value::part(v)?; Ok(()) }),
    one("redact", "yes|no", "pseudonyms for kernel, IP and hardware addresses, and no secrets of command lines",
        |c, v| { c.redact = value::yes_or_no(v)?; Ok(()) }),
];

/// Where a setting was made, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// A line of the file, counted from 1.
    File(u32),
    /// The kernel command line.
    KernelCommandLine,
    /// Our own command line.
    CommandLine,
}

impl Origin {
    fn strength(self) -> u8 {
        match self {
            Origin::File(_) => 0,
            Origin::KernelCommandLine => 1,
            Origin::CommandLine => 2,
        }
    }
}

/// Something wrong in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Where.
    pub origin: Origin,
    /// What and why, one line.
    pub text: String,
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.origin {
            Origin::File(line) => write!(f, "line {line}: {}", self.text),
            Origin::KernelCommandLine => write!(f, "kernel command line: {}", self.text),
            Origin::CommandLine => f.write_str(&self.text),
        }
    }
}

/// Settings from all places, each already known to be good, and what was wrong with the others.
#[derive(Default)]
pub struct Settings {
    good: Vec<(usize, Origin, String)>,
    issues: Vec<Issue>,
    kernel_ip: Vec<IpOption>,
}

impl Settings {
    /// Notes one setting; a bad one becomes an issue.
    pub fn set(&mut self, name: &str, value: &str, origin: Origin) {
        if let Err(text) = self.try_set(name, value, origin) {
            self.issues.push(Issue { origin, text });
        }
    }

    fn try_set(&mut self, name: &str, value: &str, origin: Origin) -> Result<(), String> {
        let position = KEYS
            .iter()
            .position(|key| cmdline::same_name(key.name, name));
        let index = position.ok_or_else(|| format!("unknown key '{name}'"))?;
        let key = &KEYS[index];
        (key.set)(&mut Config::default(), value).map_err(|why| format!("{}: {why}", key.name))?;
        let again = |(other, place, _): &&(usize, Origin, String)| {
            *other == index && place.strength() == origin.strength() && !key.repeats
        };
        if let (Some((_, Origin::File(line), _)), Origin::File(_)) =
            (self.good.iter().find(again), origin)
        {
            return Err(format!("{}: already set in line {line}", key.name));
        }
        self.good.push((index, origin, value.to_owned()));
        Ok(())
    }

    /// Takes the settings of a configuration file's text.
    pub fn read_text(&mut self, text: &str) {
        for (line, number) in text.lines().zip(1..) {
            let origin = Origin::File(number);
            let line = without_comment(line).trim();
            match line.split_once('=') {
                _ if line.is_empty() => {}
                Some((name, value)) => {
                    self.set(name.trim(), cmdline::unquoted(value.trim()), origin)
                }
                None => self.issues.push(Issue {
                    origin,
                    text: format!("'{line}' is not KEY = VALUE"),
                }),
            }
        }
    }

    /// Takes the settings of a configuration file.
    ///
    /// # Errors
    /// When it cannot be read, is not text or is far too long.
    pub fn read_file(&mut self, path: &Path) -> std::io::Result<()> {
        use std::io::{Error, ErrorKind, Read};
        let mut text = String::new();
        std::fs::File::open(path)?
            .take(FILE_LEN_MAX)
            .read_to_string(&mut text)?;
        if text.len() as u64 == FILE_LEN_MAX {
            return Err(Error::new(
                ErrorKind::InvalidData,
                "too long for a configuration file",
            ));
        }
        self.read_text(&text);
        Ok(())
    }

    /// Takes the settings of the kernel command line, its own `ip=` and `nameserver=` included.
    pub fn read_kernel_command_line(&mut self, line: &str) {
        for (name, value) in cmdline::parameters(line) {
            let value = value.unwrap_or("");
            match name.strip_prefix(KERNEL_PREFIX) {
                Some(key) => self.set(key, value, Origin::KernelCommandLine),
                // Not ours to complain about: others may read more into it than we do.
                None if name == "ip" => self.kernel_ip.extend(ip::parse(value).ok()),
                None => {}
            }
        }
    }

    /// What was wrong so far.
    pub fn issues(&self) -> &[Issue] {
        &self.issues
    }

    /// The configuration that all settings make together.
    pub fn config(&self) -> Config {
        let mut config = Config::default();
        for (index, key) in KEYS.iter().enumerate() {
            let of_key = || self.good.iter().filter(move |(other, ..)| *other == index);
            let strongest = of_key().map(|(_, origin, _)| origin.strength()).max();
            for (_, _, value) in
                of_key().filter(|(_, origin, _)| Some(origin.strength()) == strongest)
            {
                // It was tried when it was noted, so it cannot fail now.
                let _ = (key.set)(&mut config, value);
            }
        }
        if config.ip.is_empty() {
            config.ip.clone_from(&self.kernel_ip);
        }
        config
    }
}

/// Settings of the capture kernel: the image's file, then the kernel command line.
pub fn of_capture_kernel() -> Settings {
    let mut settings = Settings::default();
    match settings.read_file(Path::new(CONFIG_FILE)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            settings.issues.push(Issue {
                origin: Origin::File(0),
                text: format!("{CONFIG_FILE}: {error}"),
            });
        }
        _ => {}
    }
    // The kernel passes the loader's bytes on as they are; a stray one must not cost the rest.
    let line = std::fs::read("/proc/cmdline").unwrap_or_default();
    settings.read_kernel_command_line(&String::from_utf8_lossy(&line));
    settings
}

/// `line` up to a `#` that starts it or follows a space: a URL may hold one.
fn without_comment(line: &str) -> &str {
    let mut before = ' ';
    let end = line.char_indices().find(|&(_, c)| {
        let starts = c == '#' && before.is_whitespace();
        before = c;
        starts
    });
    end.map_or(line, |(at, _)| &line[..at])
}

#[cfg(test)]
mod tests {
    use super::*;
    use ip::Method;

    fn from_text(text: &str) -> Settings {
        let mut settings = Settings::default();
        settings.read_text(text);
        settings
    }

    #[test]
    fn a_file_sets_keys_and_comments_do_not() {
        let settings = from_text(
            "# collectors\nsend = relp://10.0.2.2:2514\nsend=tcp://10.0.2.3:99/#part=log   # two\n\n  deadline = 120\n\
             host = \"node 17\"\n",
        );
        assert_eq!(settings.issues(), []);
        let config = settings.config();
        assert_eq!(
            config.send,
            ["relp://10.0.2.2:2514", "tcp://10.0.2.3:99/#part=log"]
        );
        assert_eq!(config.deadline, Duration::from_secs(120));
        assert_eq!(config.host.as_deref(), Some("node 17"));
    }

    #[test]
    fn every_mistake_is_named_with_its_line_and_the_rest_still_counts() {
        let settings =
            from_text("sned = x:\nmtu = 12\ndeadline\nretries = 2\nretries = 3\nfinal=explode\n");
        let lines: Vec<String> = settings.issues().iter().map(Issue::to_string).collect();
        assert_eq!(lines[0], "line 1: unknown key 'sned'");
        assert!(lines[1].starts_with("line 2: mtu: "), "{}", lines[1]);
        assert_eq!(lines[2], "line 3: 'deadline' is not KEY = VALUE");
        assert_eq!(lines[3], "line 5: retries: already set in line 4");
        assert!(lines[4].contains("explode"), "{}", lines[4]);
        assert_eq!(settings.config().retries, 2);
    }

    #[test]
    fn a_stronger_place_hides_every_repetition_of_a_weaker_one() {
        let mut settings = from_text("send = udp://a\nsend = udp://b\ntimeout = 9\n");
        settings.read_kernel_command_line("quiet crashdmesg.send=udp://c crashdmesg.net_timeout=7");
        let config = settings.config();
        assert_eq!(config.send, ["udp://c"]);
        assert_eq!(
            (config.timeout.as_secs(), config.net_timeout.as_secs()),
            (9, 7)
        );
        settings.set("send", "udp://d", Origin::CommandLine);
        assert_eq!(settings.config().send, ["udp://d"]);
    }

    #[test]
    fn a_bad_value_in_a_stronger_place_leaves_the_weaker_one_in_force() {
        let mut settings = from_text("timeout = 9\n");
        settings.read_kernel_command_line("crashdmesg.timeout=soon");
        assert_eq!(settings.config().timeout.as_secs(), 9);
        assert!(
            settings.issues()[0]
                .to_string()
                .starts_with("kernel command line: timeout: ")
        );
    }

    #[test]
    fn the_kernels_own_ip_counts_until_ours_is_given() {
        let mut settings = Settings::default();
        settings.read_kernel_command_line("ip=10.0.0.2::10.0.0.1:255.0.0.0 ip=nonsense");
        assert!(matches!(
            settings.config().ip[..],
            [IpOption {
                method: Method::Static { prefix: 8, .. },
                ..
            }]
        ));
        assert_eq!(settings.issues(), []);
        settings.read_text("ip = dhcp");
        assert_eq!(settings.config().ip[0].method, Method::Dhcp);
    }

    #[test]
    fn every_key_is_unique_and_documented() {
        for (index, key) in KEYS.iter().enumerate() {
            assert!(
                KEYS[..index].iter().all(|other| other.name != key.name),
                "{} twice",
                key.name
            );
            assert!(!key.help.is_empty() && !key.value.is_empty());
        }
    }

    #[test]
    fn a_file_without_end_is_refused() {
        assert!(
            Settings::default()
                .read_file(Path::new("/dev/zero"))
                .is_err()
        );
    }
}
