//! The URL of a target, checked when it is configured, not when the machine has crashed.
//!
//! ```text
//! scheme://user:password@host:port/path?option=value&...#option=value&...
//! file:/var/crash/%h-%t.txt       block:/dev/sdb3       exec:/usr/bin/mail root       console:
//! ```
//!
//! The parts are those of RFC 3986; an IPv6 address stands in brackets. Our options may stand in the query, where
//! an HTTP server gets what is not an option of ours, or in the fragment, which is never sent. The names `%h %t %s
//! %i %m %r` in a path are no valid percent escapes, so both can be told apart (see `name`).

use std::fmt;

/// Longest URL that is accepted: a kernel command line, where one may stand, has 2048 to 4096 bytes.
const URL_LEN: usize = 2048;

/// A parsed URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Url {
    /// In lower case.
    pub scheme: String,
    /// Decoded; empty when there is none.
    pub user: String,
    /// Decoded; `None` when there is none.
    pub password: Option<String>,
    /// A name or an address without brackets; empty without an authority.
    pub host: String,
    /// The port if there is one.
    pub port: Option<u16>,
    /// As written, with its leading slash if there is one; after `exec:` the command line.
    pub path: String,
    /// The query without our options, as written.
    pub query: String,
    /// Our options, decoded, in order.
    pub options: Vec<(String, String)>,
}

/// What one scheme's URL may and must hold.
pub struct Rules {
    /// The authority is required (`//host`), or else forbidden.
    pub host: bool,
    /// Names of the options it knows.
    pub options: &'static [&'static str],
    /// The receiver has a query of its own.
    pub query: bool,
    /// Everything behind the colon is the path, uninterpreted.
    pub verbatim: bool,
}

impl Url {
    /// Parses `text` by the rules of its scheme, which `rules` looks up.
    ///
    /// # Errors
    /// One line that says what is wrong; a password is not repeated.
    pub fn parse(text: &str, rules: impl Fn(&str) -> Option<Rules>) -> Result<Url, String> {
        if text.len() > URL_LEN {
            return Err(format!("longer than {URL_LEN} bytes"));
        }
        if text.bytes().any(|b| b.is_ascii_control()) {
            return Err("holds a control character".into());
        }
        let (scheme, rest) = text
            .split_once(':')
            .ok_or_else(|| format!("\"{text}\" has no scheme (like http://HOST/ or file:/PATH)"))?;
        let scheme = scheme.to_ascii_lowercase();
        let rules =
            rules(&scheme).ok_or_else(|| format!("scheme \"{scheme}\" is not one of ours"))?;
        let mut url = Url {
            scheme,
            ..Url::default()
        };
        if rules.verbatim {
            url.path = rest.to_string();
            return Ok(url);
        }
        if text.contains(' ') {
            return Err("holds a space; write %20".into());
        }
        let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        url.take_query(query, &rules, rules.query)?;
        url.take_query(fragment, &rules, false)?;
        match rest.strip_prefix("//") {
            Some(rest) => {
                let end = rest.find('/').unwrap_or(rest.len());
                let (authority, path) = rest.split_at(end);
                url.path = path.to_string();
                url.take_authority(authority)?;
            }
            None => url.path = rest.to_string(),
        }
        if rules.host && url.host.is_empty() {
            return Err(format!("no host: {}://HOST is needed", url.scheme));
        }
        if !rules.host && !url.host.is_empty() {
            return Err(format!(
                "{}: takes a path, not a host: write {}:/PATH",
                url.scheme, url.scheme
            ));
        }
        Ok(url)
    }

    /// Sorts the pairs of a query into our options and what the receiver gets.
    fn take_query(&mut self, query: &str, rules: &Rules, foreign: bool) -> Result<(), String> {
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            if rules.options.contains(&key) {
                self.options.push((key.to_string(), decode(value)?));
            } else if foreign {
                if !self.query.is_empty() {
                    self.query.push('&');
                }
                self.query.push_str(pair);
            } else {
                return Err(format!(
                    "option \"{key}\" is not one of {}'s: {}",
                    self.scheme,
                    rules.options.join(" ")
                ));
            }
        }
        Ok(())
    }

    /// `user:password@host:port`.
    fn take_authority(&mut self, authority: &str) -> Result<(), String> {
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (user, host),
            None => ("", authority),
        };
        let (user, password) = match user.split_once(':') {
            Some((user, password)) => (user, Some(decode(password)?)),
            None => (user, None),
        };
        self.user = decode(user)?;
        self.password = password;
        let (host, port) = match host.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest
                    .split_once(']')
                    .ok_or("an IPv6 address lacks its closing bracket")?;
                // A zone names the interface of a link-local address: fe80::1%eth0, escaped %25eth0.
                let address = host.split('%').next().unwrap_or("");
                address
                    .parse::<std::net::Ipv6Addr>()
                    .map_err(|_| format!("\"{host}\" is not an IPv6 address"))?;
                match rest.strip_prefix(':') {
                    Some(port) => (host, Some(port)),
                    None if rest.is_empty() => (host, None),
                    None => return Err(format!("\"{rest}\" after an IPv6 address")),
                }
            }
            None => match host.split_once(':') {
                Some((_, port)) if port.contains(':') => {
                    return Err("an IPv6 address must stand in brackets".into());
                }
                Some((host, port)) => (host, Some(port)),
                None => (host, None),
            },
        };
        let name = |b: u8| b.is_ascii_alphanumeric() || b"-._:%".contains(&b);
        if host.len() > 255 || !host.bytes().all(name) {
            return Err(format!("\"{host}\" is not a host name"));
        }
        // Digits and dots that are no address would be looked up as a name for as long as the deadline allows.
        if host.bytes().all(|b| b.is_ascii_digit() || b == b'.')
            && !host.is_empty()
            && host.parse::<std::net::Ipv4Addr>().is_err()
        {
            return Err(format!("\"{host}\" is not an IPv4 address"));
        }
        self.host = host.replace("%25", "%");
        self.port = match port {
            None => None,
            Some(port) => match port.parse::<u16>() {
                Ok(port) if port != 0 => Some(port),
                _ => return Err(format!("\"{port}\" is not a port (1 to 65535)")),
            },
        };
        Ok(())
    }

    /// The last value of one of our options.
    pub fn option(&self, key: &str) -> Option<&str> {
        let mut found = self.options.iter().rev().filter(|(k, _)| k == key);
        found.next().map(|(_, value)| value.as_str())
    }

    /// An option that is a number within bounds.
    ///
    /// # Errors
    /// One line with the bounds.
    pub fn number(&self, key: &str, bounds: (u64, u64)) -> Result<Option<u64>, String> {
        let Some(text) = self.option(key) else {
            return Ok(None);
        };
        match text.parse::<u64>() {
            Ok(n) if (bounds.0..=bounds.1).contains(&n) => Ok(Some(n)),
            _ => Err(format!(
                "option {key}: \"{text}\" is not a number from {} to {}",
                bounds.0, bounds.1
            )),
        }
    }

    /// A switch: `key`, `key=1`, `key=yes` turn it on.
    pub fn switch(&self, key: &str) -> bool {
        matches!(self.option(key), Some("" | "1" | "yes" | "true" | "on"))
    }

    /// The host as a URL or a `Host:` header spells it.
    pub fn bracketed(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        }
    }
}

/// Without the password and without anything behind the path, which may hold a token.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.is_empty() {
            return write!(f, "{}:{}", self.scheme, self.path);
        }
        write!(f, "{}://", self.scheme)?;
        if !self.user.is_empty() {
            write!(f, "{}@", self.user)?;
        }
        f.write_str(&self.bracketed())?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        f.write_str(&self.path)
    }
}

/// Decodes percent escapes; what is no escape stays, so that the names of `name` survive.
///
/// # Errors
/// The result is not UTF-8 or holds a control character, which could end a command or a header early.
pub fn decode(text: &str) -> Result<String, String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let escape = bytes.get(i + 1..i + 3).filter(|_| bytes[i] == b'%');
        let value = escape.and_then(|two| {
            let two = std::str::from_utf8(two).ok()?;
            let hex = two.bytes().all(|b| b.is_ascii_hexdigit());
            u8::from_str_radix(two, 16).ok().filter(|_| hex)
        });
        match value {
            Some(byte) if byte.is_ascii_control() => {
                return Err(format!("\"{text}\" holds an escaped control character"));
            }
            Some(byte) => {
                out.push(byte);
                i += 3;
            }
            None => {
                out.push(bytes[i]);
                i += 1;
            }
        }
    }
    String::from_utf8(out).map_err(|_| format!("\"{text}\" is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(scheme: &str) -> Option<Rules> {
        let rules = |host, query, verbatim| Rules {
            host,
            options: &["part", "header"],
            query,
            verbatim,
        };
        match scheme {
            "http" => Some(rules(true, true, false)),
            "tcp" => Some(rules(true, false, false)),
            "file" => Some(rules(false, false, false)),
            "exec" => Some(rules(false, false, true)),
            _ => None,
        }
    }

    fn parse(text: &str) -> Result<Url, String> {
        Url::parse(text, rules)
    }

    #[test]
    fn every_part_of_a_url_is_found() {
        let url =
            parse("HTTP://us%40er:p%3Aw@c.example:8080/a/%h?token=x&part=log&b#header=A:%20b")
                .unwrap();
        assert_eq!(url.scheme, "http");
        assert_eq!(
            (url.user.as_str(), url.password.as_deref()),
            ("us@er", Some("p:w"))
        );
        assert_eq!((url.host.as_str(), url.port), ("c.example", Some(8080)));
        assert_eq!(
            (url.path.as_str(), url.query.as_str()),
            ("/a/%h", "token=x&b")
        );
        assert_eq!(url.option("part"), Some("log"));
        assert_eq!(url.option("header"), Some("A: b"));
    }

    #[test]
    fn an_ipv6_address_stands_in_brackets() {
        let url = parse("tcp://[fe80::1%25eth0]:514").unwrap();
        assert_eq!((url.host.as_str(), url.port), ("fe80::1%eth0", Some(514)));
        assert_eq!(url.to_string(), "tcp://[fe80::1%eth0]:514");
        assert!(parse("tcp://fe80::1").unwrap_err().contains("brackets"));
        assert!(parse("tcp://[fe80::1").is_err());
        assert!(parse("tcp://[1.2.3.4]:1").is_err());
        assert!(parse("tcp://[::1]x").is_err());
    }

    #[test]
    fn a_path_alone_and_a_command_need_no_host() {
        assert_eq!(parse("file:/var/crash/%h").unwrap().path, "/var/crash/%h");
        assert_eq!(parse("file:///var/crash").unwrap().path, "/var/crash");
        assert!(parse("file://var/crash").is_err());
        assert_eq!(
            parse("exec:/bin/mail -s '#1?' root").unwrap().path,
            "/bin/mail -s '#1?' root"
        );
    }

    #[test]
    fn bad_urls_are_told_in_one_line() {
        for bad in [
            "",
            "collector",
            "gopher://x",
            "http://",
            "http:///path",
            "tcp://h:0",
            "tcp://h:65536",
            "tcp://h:",
            "tcp://h/?nosuch=1",
            "tcp://h/#nosuch=1",
            "tcp://300.1.1.1",
            "tcp://h\nx",
            "tcp://h/a b",
            "http://u:%0d@h/",
            "tcp://h$h/",
        ] {
            let error = parse(bad).unwrap_err();
            assert!(!error.contains('\n') && !error.is_empty(), "{bad}");
        }
        assert!(parse(&format!("http://h/{}", "a".repeat(4000))).is_err());
    }

    #[test]
    fn a_password_and_a_query_are_not_shown() {
        let url = parse("http://u:secret@h:1/p?token=secret").unwrap();
        assert_eq!(url.to_string(), "http://u@h:1/p");
    }

    #[test]
    fn names_in_a_path_are_no_escapes() {
        assert_eq!(decode("%h%20%t%s%i%m%r%").unwrap(), "%h %t%s%i%m%r%");
        assert!(decode("%ff").is_err());
        assert!(decode("a%0ab").is_err());
    }
}
