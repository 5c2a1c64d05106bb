//! Which targets have the report already: a worker that died at one target need not send it again to those before.
//!
//! A line per target in a file of the capture kernel's root, which is memory: written the moment a target has the report,
//! read by the next worker and by the supervisor.

use std::fs::{self, OpenOptions};
use std::io::Write;

use crate::config::Config;
use crate::sink::{Outcome, Target};

const DIR: &str = "/run";
const FILE: &str = "/run/crashdmesg.delivered";

/// Notes the target of a line that says `TARGET stored` or `TARGET sent`.
pub fn note(line: &str, config: &Config) {
    if let Some(target) = target_of(line, config) {
        let _ = fs::create_dir(DIR);
        let file = OpenOptions::new().create(true).append(true).open(FILE);
        let _ = file.and_then(|mut file| file.write_all(format!("{target}\n").as_bytes()));
    }
}

fn target_of(line: &str, config: &Config) -> Option<String> {
    let has_it = |target: &String| {
        [Outcome::Stored, Outcome::Sent].iter().any(|outcome| {
            line.strip_prefix(target.as_str())
                .is_some_and(|rest| rest.starts_with(&format!(" {outcome} ")))
        })
    };
    let urls = config.send.iter().chain(&config.fallback);
    urls.filter_map(|url| shown(url)).find(has_it)
}

/// The target as it is shown, without its secrets.
fn shown(url: &str) -> Option<String> {
    Target::parse(url).ok().map(|target| target.to_string())
}

/// Whether any target has the report.
pub fn any() -> bool {
    fs::metadata(FILE).is_ok_and(|file| file.len() > 0)
}

/// The configuration without the targets that have the report, and without fallbacks if there is one.
pub fn without(config: Config) -> Config {
    without_those_in(config, &fs::read_to_string(FILE).unwrap_or_default())
}

fn without_those_in(mut config: Config, list: &str) -> Config {
    if !list.is_empty() {
        config.fallback.clear();
    }
    let has_it =
        |url: &String| shown(url).is_some_and(|target| list.lines().any(|line| line == target));
    config.send.retain(|url| !has_it(url));
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let urls = |urls: &[&str]| urls.iter().map(|url| (*url).to_owned()).collect();
        Config {
            send: urls(&["tcp://10.0.0.1:9", "tcp://10.0.0.1:99"]),
            fallback: urls(&["tcp://10.0.0.2:9"]),
            ..Config::default()
        }
    }

    #[test]
    fn a_target_has_the_report_when_its_line_says_stored_or_sent() {
        let target = |line: &str| target_of(line, &config());
        assert_eq!(
            target("tcp://10.0.0.1:99 sent 5 bytes in 0.01 s").as_deref(),
            Some("tcp://10.0.0.1:99")
        );
        assert_eq!(
            target("tcp://10.0.0.1:9 stored 5 bytes in 0.01 s").as_deref(),
            Some("tcp://10.0.0.1:9")
        );
        assert_eq!(target("tcp://10.0.0.1:9 unknown 5 bytes in 0.01 s"), None);
        assert_eq!(
            target("tcp://10.0.0.1:9 failed in 0.01 s (sent nothing)"),
            None
        );
        assert_eq!(target("tcp://10.0.0.3:9 sent 5 bytes in 0.01 s"), None);
    }

    #[test]
    fn those_that_have_it_are_left_out_and_fallbacks_are_not_needed() {
        assert_eq!(without_those_in(config(), ""), config());
        let left = without_those_in(config(), "tcp://10.0.0.1:9\n");
        assert_eq!(
            (left.send, left.fallback.len()),
            (vec!["tcp://10.0.0.1:99".to_owned()], 0)
        );
    }
}
