//! A target: a URL whose scheme chooses the protocol.

use std::fmt;
use std::time::Duration;

use super::batch::{self, Format};
use super::url::{Rules, Url};
use super::{Attempt, Delivered, Meta, Part, Payload};
use super::{elastic, http, journal, loki, otlp, raw, relp, syslog};
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
        let lookup = |scheme: &str| SCHEMES.iter().find(|(name, ..)| *name == scheme);
        let url = Url::parse(text, |scheme| {
            lookup(scheme).map(|&(_, _, form, options)| Rules {
                host: matches!(form, Form::Host | Form::Web),
                options,
                query: form == Form::Web,
                verbatim: form == Form::Verbatim,
            })
        });
        let url = url.map_err(|why| {
            if text.starts_with("https:") || text.contains("+https:") {
                return "https is not spoken: there is no TLS in here; use http, ssh or exec"
                    .into();
            }
            why
        })?;
        let Some(&(_, kind, ..)) = lookup(&url.scheme) else {
            return Err(format!("scheme \"{}\" is not one of ours", url.scheme));
        };
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
        if matches!(kind, Kind::Http | Kind::Batch(_)) {
            http::check(&url)?;
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
        self.part.unwrap_or(Part::Full)
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
            Kind::Batch(format) => batch::send(format, url, payload, attempt, deadline),
        }
    }

    /// Sends a dying gasp if this target takes datagrams: one, at most 1200 bytes, nothing awaited.
    pub fn gasp(&self, meta: &Meta, text: &str, deadline: Deadline) -> Option<Delivered> {
        match self.kind {
            Kind::Udp => Some(raw::gasp(&self.url, text, deadline)),
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
