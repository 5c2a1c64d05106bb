//! The name of a stored report: the same for every attempt, so that a retry overwrites and never duplicates.
//!
//! | in a path | stands for |
//! |---|---|
//! | `%h` | host name |
//! | `%t` | crash time, `20261121T192335Z` |
//! | `%s` | signature |
//! | `%i` | report id |
//! | `%m` | hardware address without colons |
//! | `%r` | kernel release |
//!
//! A path that ends in a slash gets `%h-%t-%s.txt` appended. What is filled in comes from the crashed kernel, so only
//! letters, digits, `-`, `_` and inner dots of it are used.

use super::Meta;
use crashdmesg::render::date::Date;

/// The name of a report in a directory.
const NAME: &str = "%h-%t-%s.txt";

/// Longest text put in for one `%` name: file names end at 255 bytes.
const PART_LEN: usize = 64;

/// The path with its names filled in; a path that ends in a slash gets a file name.
pub fn fill(path: &str, meta: &Meta) -> String {
    let mut out = String::with_capacity(path.len() + NAME.len());
    expand(path, meta, &mut out);
    if path.is_empty() || path.ends_with('/') {
        expand(NAME, meta, &mut out);
    }
    out
}

/// Any text with its names filled in.
pub fn expanded(text: &str, meta: &Meta) -> String {
    let mut out = String::new();
    expand(text, meta, &mut out);
    out
}

fn expand(path: &str, meta: &Meta, out: &mut String) {
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let (before, name) = rest.split_at(at);
        out.push_str(before);
        let value = match name.as_bytes().get(1) {
            Some(b'h') => safe(&host(meta)),
            Some(b't') => time(meta.crash_time),
            Some(b's') => safe(&meta.signature),
            Some(b'i') => safe(&meta.report_id),
            Some(b'm') => safe(&meta.mac.replace(':', "")),
            Some(b'r') => safe(&meta.release),
            _ => {
                out.push('%');
                rest = &name[1..];
                continue;
            }
        };
        out.push_str(&value);
        rest = &name[2..];
    }
    out.push_str(rest);
}

/// What the machine is called: its node name, else its hardware address, never nothing.
pub fn host(meta: &Meta) -> String {
    match meta.host.as_str() {
        "" | "(none)" | "localhost" if !meta.mac.is_empty() => {
            format!("host-{}", meta.mac.replace(':', ""))
        }
        "" | "(none)" => "unknown".into(),
        name => name.into(),
    }
}

/// Crash time for a file name.
fn time(seconds: Option<u64>) -> String {
    match seconds {
        Some(seconds) => {
            let date = Date::from_unix(seconds);
            let Date {
                year, month, day, ..
            } = date;
            let (hour, minute, second) = (date.hour, date.minute, date.second);
            format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
        }
        None => "unknown-time".into(),
    }
}

/// One component of a file name, whatever it was before.
pub fn safe(text: &str) -> String {
    let text: String = text
        .chars()
        .take(PART_LEN)
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.' => c,
            _ => '_',
        })
        .collect();
    match text.trim_start_matches('.') {
        "" => "unknown".into(),
        text => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> Meta {
        Meta {
            host: "node17".into(),
            crash_time: Some(1_795_289_015),
            signature: "c1-0123".into(),
            report_id: "r1".into(),
            mac: "52:54:00:12:34:56".into(),
            release: "6.1.0-50-amd64".into(),
            ..Meta::default()
        }
    }

    #[test]
    fn a_directory_gets_a_name_of_host_time_and_signature() {
        assert_eq!(
            fill("/crash/", &meta()),
            "/crash/node17-20261121T192335Z-c1-0123.txt"
        );
        assert_eq!(fill("", &meta()), "node17-20261121T192335Z-c1-0123.txt");
        assert_eq!(
            fill("/c/%h/%t%20%s%i.%m.%r", &meta()),
            "/c/node17/20261121T192335Z%20c1-0123r1.525400123456.6.1.0-50-amd64"
        );
        assert_eq!(fill("/c/100%", &meta()), "/c/100%");
    }

    #[test]
    fn a_host_name_cannot_leave_its_directory() {
        let mut meta = meta();
        meta.host = "../../etc/pass\nwd\0%s".into();
        assert_eq!(fill("/c/%h", &meta), "/c/_.._etc_pass_wd__s");
        meta.host = "..".into();
        assert_eq!(fill("/c/%h", &meta), "/c/unknown");
        meta.host = "x".repeat(5000);
        assert_eq!(fill("%h", &meta).len(), PART_LEN);
    }

    #[test]
    fn a_nameless_machine_is_called_by_its_hardware_address() {
        let mut meta = meta();
        meta.host = "(none)".into();
        assert_eq!(host(&meta), "host-525400123456");
        meta.mac.clear();
        meta.crash_time = None;
        assert_eq!(fill("%h-%t", &meta), "unknown-unknown-time");
    }
}
