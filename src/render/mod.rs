//! Text for humans and for programs: the only part of the core that formats.
//!
//! Everything goes to a [`core::fmt::Write`], so that the same code fills a terminal, a file or a network buffer.

pub mod date;
pub mod escape;
pub mod json;
pub mod log;
pub mod redact;
pub mod report;
pub mod report_json;

/// The names of levels 0 to 7, as `dmesg(1)` writes them.
pub const LEVELS: [&str; 8] = [
    "emerg", "alert", "crit", "err", "warn", "notice", "info", "debug",
];

/// The names of facilities 0 to 23, as `dmesg(1)` writes them.
pub const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv",
    "ftp", "res0", "res1", "res2", "res3", "local0", "local1", "local2", "local3", "local4",
    "local5", "local6", "local7",
];
