//! `--check`: would a panic of this machine end in a report? Reads, connects to the targets, changes nothing.
//!
//! ```text
//! crashdmesg: 1 error, 1 warning
//! error: no capture kernel is loaded; fix: crashdmesg-arm
//! warning: kernel.softlockup_panic is 0: a CPU stuck in the kernel is not reported; fix: sysctl -w kernel.softlockup_panic=1
//! ```
//!
//! The first line is the sum, as monitoring systems want it, and so is the exit status: 0 nothing, 1 warnings only, 2 a
//! panic now would not be reported. What was armed is known from the files that `crashdmesg-arm` leaves in `/var/lib/crashdmesg`.

mod armed;
mod layers;
mod machine;
mod policy;
mod reach;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::config::{CONFIG_FILE, Config, Settings};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Some crashes are not reported, or a report says less.
    Warning,
    /// No crash is reported.
    Error,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, and what follows from it.
    pub text: String,
    /// What to do about it.
    pub fix: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{severity}: {}; fix: {}", self.text, self.fix)
    }
}

/// What was found so far.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, severity: Severity, text: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Finding {
            severity,
            text: text.into(),
            fix: fix.into(),
        });
    }

    fn error(&mut self, text: impl Into<String>, fix: impl Into<String>) {
        self.add(Severity::Error, text, fix);
    }

    fn warning(&mut self, text: impl Into<String>, fix: impl Into<String>) {
        self.add(Severity::Warning, text, fix);
    }
}

/// Where the machine's files are: `/`, or a tree made for a test.
struct Root(PathBuf);

impl Root {
    fn path(&self, path: &str) -> PathBuf {
        self.0.join(path.trim_start_matches('/'))
    }

    /// The text of a file without the newline at its end.
    fn read(&self, path: &str) -> Option<String> {
        let bytes = std::fs::read(self.path(path)).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    }

    fn number(&self, path: &str) -> Option<u64> {
        self.read(path)?.trim().parse().ok()
    }

    fn exists(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// The names in a directory, sorted.
    fn names(&self, path: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(path)).into_iter().flatten();
        let mut names: Vec<String> = entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

/// Checks the machine whose files are under `root` and prints what is found; the exit status.
pub fn run(root: &Path) -> u8 {
    let root = Root(root.to_owned());
    let findings = check(&root);
    let count = |severity| findings.iter().filter(|f| f.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let mut out = match errors {
        0 => "crashdmesg: armed, a panic is reported".to_owned(),
        _ => "crashdmesg: a panic now would NOT be reported".to_owned(),
    };
    out += &format!(" ({errors} errors, {warnings} warnings)\n");
    for finding in &findings {
        out += &format!("{finding}\n");
    }
    print!("{out}");
    match (errors, warnings) {
        (0, 0) => 0,
        (0, _) => 1,
        _ => 2,
    }
}

/// The `crashkernel=` to use, as one word.
pub fn crashkernel(root: &Path) -> String {
    let root = Root(root.to_owned());
    format!("{}M", machine::recommended_mib(&root))
}

fn check(root: &Root) -> Vec<Finding> {
    let mut findings = Findings::default();
    let mut settings = Settings::default();
    let config = config_of(&mut settings, &root.path(CONFIG_FILE), &mut findings);
    machine::reservation(root, &mut findings);
    machine::loaded(root, &mut findings);
    armed::image(root, &mut findings);
    armed::network(root, &mut findings);
    reach::targets(root, &config, &mut findings);
    policy::sysctls(root, &mut findings);
    machine::clock(root, &mut findings);
    machine::lockdown(root, &mut findings);
    findings
        .0
        .sort_by_key(|finding| finding.severity != Severity::Error);
    findings.0
}

fn config_of(settings: &mut Settings, path: &Path, findings: &mut Findings) -> Config {
    let name = path.display();
    if let Err(error) = settings.read_file(path) {
        findings.error(
            format!("{name}: {error}"),
            "crashdmesg-arm --send URL writes it",
        );
        return settings.config();
    }
    for issue in settings.issues() {
        findings.error(
            format!("{name}: {issue}"),
            format!("correct that line in {name}"),
        );
    }
    let config = settings.config();
    if let Err(why) = crate::sink::delivery::Plan::new(&config) {
        findings.error(format!("{name}: {why}"), format!("correct {name}"));
    }
    if config.send.is_empty() && settings.issues().is_empty() {
        findings.error(
            format!("{name} names no target"),
            "crashdmesg-arm --send URL",
        );
    }
    config
}
