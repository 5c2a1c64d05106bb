//! A target: a URL whose scheme chooses the protocol.

use std::fmt;
use std::time::Duration;

use super::batch::{self, Format};
use super::url::{Rules, Url};
use super::{Attempt, Delivered, Meta, Part, Payload};
use super::{
    block, device, elastic, file, ftp, gelf, http, journal, loki, mqtt, netconsole, nfs, otlp,
    program, raw, relp, smtp, ssh, syslog, tftp,
};
use crate::deadline::Deadline;

/// The protocols.
#[derive(Clone, Copy)]
enum Kind {
    Udp,
    Tcp,
    Syslog,
    SyslogTcp,
    Relp,
    Http,
    Batch(&'static Format),
    Netconsole,
    Gelf,
    GelfTcp,
    Tftp,
    Ftp,
    File,
    Block,
    Pmsg,
    Console,
    Exec,
    Ssh,
    Nfs,
    Mqtt,
    Smtp,
}

/// What a scheme's URL looks like.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `scheme://host`, options in the query.
    Host,
    /// `scheme://host`, the query is the server's, too.
    Web,
    /// `scheme:/path`.
    Path,
    /// `scheme:anything`.
    Verbatim,
}

/// Every scheme with its protocol, form and own options. All know `part` and `timeout`.
const SCHEMES: &[(&str, Kind, Form, &[&str])] = &[
    ("udp", Kind::Udp, Form::Host, &["part", "timeout"]),
    ("tcp", Kind::Tcp, Form::Host, &["part", "timeout", "ack"]),
    ("syslog", Kind::Syslog, Form::Host, &["part", "timeout"]),
    ("syslog+udp", Kind::Syslog, Form::Host, &["part", "timeout"]),
    (
        "syslog+tcp",
        Kind::SyslogTcp,
        Form::Host,
        &["part", "timeout"],
    ),
    (
        "netconsole",
        Kind::Netconsole,
        Form::Host,
        &["part", "timeout", "release"],
    ),
    ("gelf", Kind::Gelf, Form::Host, &["part", "timeout"]),
    ("gelf+tcp", Kind::GelfTcp, Form::Host, &["part", "timeout"]),
    (
        "tftp",
        Kind::Tftp,
        Form::Host,
        &["part", "timeout", "blksize"],
    ),
    ("ftp", Kind::Ftp, Form::Host, &["part", "timeout"]),
    ("file", Kind::File, Form::Path, &["part", "timeout"]),
    (
        "block",
        Kind::Block,
        Form::Path,
        &["part", "timeout", "force"],
    ),
    ("pmsg", Kind::Pmsg, Form::Path, &["part", "timeout"]),
    (
        "console",
        Kind::Console,
        Form::Path,
        &["part", "timeout", "rate"],
    ),
    ("exec", Kind::Exec, Form::Verbatim, &[]),
    (
        "ssh",
        Kind::Ssh,
        Form::Host,
        &["part", "timeout", "key", "known_hosts", "program"],
    ),
    (
        "nfs",
        Kind::Nfs,
        Form::Host,
        &["part", "timeout", "vers", "export"],
    ),
    ("mqtt", Kind::Mqtt, Form::Host, &["part", "timeout"]),
    ("smtp", Kind::Smtp, Form::Host, &["part", "timeout", "from"]),
    ("relp", Kind::Relp, Form::Host, &["part", "timeout"]),
    (
        "http",
        Kind::Http,
        Form::Web,
        &["part", "timeout", "method", "header"],
    ),
    (
        "journal+http",
        Kind::Batch(&journal::FORMAT),
        Form::Web,
        &["part", "timeout", "header"],
    ),
    (
        "loki+http",
        Kind::Batch(&loki::FORMAT),
        Form::Web,
        &["part", "timeout", "header"],
    ),
    (
        "otlp+http",
        Kind::Batch(&otlp::FORMAT),
        Form::Web,
        &["part", "timeout", "header"],
    ),
    (
        "elasticsearch+http",
        Kind::Batch(&elastic::FORMAT),
        Form::Web,
        &["part", "timeout", "header", "index"],
    ),
    (
        "opensearch+http",
        Kind::Batch(&elastic::FORMAT),
        Form::Web,
        &["part", "timeout", "header", "index"],
    ),
];

/// Where a report may be sent.
#[derive(Clone)]
pub struct Target {
    url: Url,
    kind: Kind,
    part: Option<Part>,
    timeout: Option<Duration>,
}

impl Target {
    /// Parses and checks a target's URL.
    ///
    /// # Errors
    /// One line that says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        Target::parse_with(text, &[])
    }

    /// Parses and checks a target's URL; `defaults` are options for those schemes that know them.
    ///
    /// # Errors
    /// One line that says what is wrong with it.
    pub fn parse_with(text: &str, defaults: &[(&str, &str)]) -> Result<Self, String> {
        let lookup = |scheme: &str| SCHEMES.iter().find(|(name, ..)| *name == scheme);
        let url = Url::parse(text, |scheme| {
            lookup(scheme).map(|&(_, _, form, options)| Rules {
                host: matches!(form, Form::Host | Form::Web),
                options,
                query: form == Form::Web,
                verbatim: form == Form::Verbatim,
            })
        });
        let mut url = url.map_err(|why| {
            if text.starts_with("https:") || text.contains("+https:") {
                return "https is not spoken: there is no TLS in here; use http, ssh or exec"
                    .into();
            }
            why
        })?;
        let Some(&(_, kind, _, options)) = lookup(&url.scheme) else {
            return Err(format!("scheme \"{}\" is not one of ours", url.scheme));
        };
        for (key, value) in defaults {
            if options.contains(key) && url.option(key).is_none() {
                url.options.push((key.to_string(), value.to_string()));
            }
        }
        let part = match url.option("part") {
            None => None,
            Some("full") => Some(Part::Full),
            Some("log") => Some(Part::Log),
            Some("summary") => Some(Part::Summary),
            Some(other) => {
                return Err(format!(
                    "option part: \"{other}\" is not full, log or summary"
                ));
            }
        };
        let timeout = url.number("timeout", (1, 86_400))?.map(Duration::from_secs);
        match kind {
            Kind::Http | Kind::Batch(_) => http::check(&url)?,
            Kind::Tftp => tftp::check(&url)?,
            Kind::Exec => program::check(&url)?,
            Kind::Ssh => ssh::check(&url)?,
            Kind::Nfs => nfs::check(&url)?,
            Kind::Smtp => smtp::check(&url)?,
            Kind::File | Kind::Block => file::check(&url)?,
            Kind::Console => device::check(&url)?,
            _ => {}
        }
        Ok(Target {
            url,
            kind,
            part,
            timeout,
        })
    }

    /// The host it is on, by name or address; `None` for what is on this machine.
    pub fn host(&self) -> Option<&str> {
        (!self.url.host.is_empty()).then_some(self.url.host.as_str())
    }

    /// How much of the report it wants.
    pub fn part(&self) -> Part {
        self.part.unwrap_or(match self.kind {
            // A serial line takes seconds for a screenful.
            Kind::Console => Part::Summary,
            _ => Part::Full,
        })
    }

    /// How long all attempts together may take, when its URL tells.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Makes one attempt.
    ///
    /// # Errors
    /// Why it failed, and whether another attempt may succeed.
    pub fn send(
        &self,
        payload: &Payload<'_>,
        attempt: &mut Attempt,
        deadline: Deadline,
    ) -> Delivered {
        let url = &self.url;
        match self.kind {
            Kind::Udp => raw::udp(url, payload, deadline),
            Kind::Tcp => raw::tcp(url, payload, attempt, deadline),
            Kind::Syslog => syslog::udp(url, payload, deadline),
            Kind::SyslogTcp => syslog::tcp(url, payload, attempt, deadline),
            Kind::Relp => relp::send(url, payload, attempt, deadline),
            Kind::Http => http::send(url, payload, attempt, deadline),
            Kind::Exec => program::exec(url, payload, deadline),
            Kind::Ssh => ssh::send(url, payload, deadline),
            Kind::Nfs => nfs::send(url, payload, deadline),
            Kind::Mqtt => mqtt::send(url, payload, attempt, deadline),
            Kind::Smtp => smtp::send(url, payload, attempt, deadline),
            Kind::File => file::send(url, payload, deadline),
            Kind::Block => block::send(url, payload, deadline),
            Kind::Pmsg => device::pmsg(url, payload, deadline),
            Kind::Console => device::console(url, payload, deadline),
            Kind::Netconsole => netconsole::send(url, payload, deadline),
            Kind::Gelf => gelf::udp(url, payload, deadline),
            Kind::GelfTcp => gelf::tcp(url, payload, attempt, deadline),
            Kind::Tftp => tftp::send(url, payload, attempt, deadline),
            Kind::Ftp => ftp::send(url, payload, attempt, deadline),
            Kind::Batch(format) => batch::send(format, url, payload, attempt, deadline),
        }
    }

    /// Sends a dying gasp if this target takes datagrams: one, at most 1200 bytes, nothing awaited.
    pub fn gasp(&self, meta: &Meta, text: &str, deadline: Deadline) -> Option<Delivered> {
        match self.kind {
            Kind::Gelf => Some(gelf::gasp(&self.url, meta, text, deadline)),
            Kind::Udp | Kind::Netconsole => Some(raw::gasp(&self.url, text, deadline)),
            Kind::Syslog => Some(syslog::gasp(&self.url, meta, text, deadline)),
            _ => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_checked_when_it_is_configured() {
        for good in [
            "udp://10.0.0.1",
            "syslog+tcp://[fd00::1]:601?timeout=5",
            "http://c/crash/?part=log#method=post",
        ] {
            Target::parse(good).unwrap();
        }
        for bad in [
            "https://c/",
            "udp://10.0.0.1?part=some",
            "udp://10.0.0.1?timeout=0",
            "udp://10.0.0.1?ack",
            "http://c/?method=get",
            "http://c/?header=x",
            "nosuch://c",
        ] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
    }
}
