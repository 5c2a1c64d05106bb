//! Where the text goes: what is delivered, what a target is, and what is known after delivery.
//!
//! ```text
//! Report (from the dump) --> Payload (what one target gets) --> one file per protocol --> Outcome
//! ```
//!
//! A report is read as often as needed, never kept: the memory of a crashed kernel does not change, so a
//! `Content-Length` is found by a counting pass and a retry starts by reading again.

mod batch;
pub mod block;
mod connect;
pub mod delivery;
mod device;
mod elastic;
mod file;
mod ftp;
mod gelf;
mod http;
mod journal;
mod json;
mod loki;
mod mqtt;
mod name;
mod netconsole;
mod nfs;
mod otlp;
mod payload;
mod program;
mod raw;
mod relp;
mod sha256;
mod smtp;
mod ssh;
mod syslog;
mod target;
mod text;
mod tftp;
mod url;

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::io;

use crashdmesg::bytes::Word;
use crashdmesg::render::redact::Redactor;

pub use connect::resolve;
pub use crashdmesg::printk::Record;
pub use payload::{Attempt, Entry, Payload, TRAILER};
pub use target::Target;

/// How much of the report is delivered; a worker that died is tried again with less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The summary alone.
    Summary,
    /// The kernel log alone.
    Log,
    /// The summary, then the log.
    Full,
}

/// What identifies a crash and its machine: it names files and labels records.
///
/// Text comes from the crashed kernel's memory and may hold anything; each sink escapes it for its own format.
#[derive(Clone, Debug, Default)]
pub struct Meta {
    /// The crashed kernel's node name; empty when unknown.
    pub host: String,
    /// Its domain name, without the node name; empty when unknown or `(none)`.
    pub domain: String,
    /// Hardware address of the interface in use, `52:54:00:12:34:56`; empty when unknown.
    pub mac: String,
    /// The crashed kernel's boot id: 32 hexadecimal digits without dashes; empty when unknown.
    pub boot_id: String,
    /// A pseudonym of the machine id; empty when unknown.
    pub machine_id: String,
    /// Seconds since 1970 at the crash, by the crashed kernel's clock.
    pub crash_time: Option<u64>,
    /// Time stamp of the last record in nanoseconds: the moment that `crash_time` tells.
    pub last_ts_ns: u64,
    /// Release as in `uname -r`.
    pub release: String,
    /// Machine as in `uname -m`.
    pub machine: String,
    /// The line that tells why, without its prefix.
    pub panic: String,
    /// The kind of crash, one of the summary's short names.
    pub kind: String,
    /// Fingerprint of the crash, the same for the same bug.
    pub signature: String,
    /// Identifies this report, so that a retry is recognised as the same.
    pub report_id: String,
}

/// What is delivered.
///
/// The writers fail only when `out` or `each` does: what cannot be read of the dump is part of the text.
pub trait Report {
    /// What identifies the crash.
    fn meta(&self) -> &Meta;
    /// Writes one part as text. Every call must write the same bytes.
    ///
    /// # Errors
    /// The first error of `out`.
    fn write(&self, part: Part, out: &mut dyn io::Write) -> io::Result<()>;
    /// Hands every record of the log to `each`, oldest first.
    ///
    /// # Errors
    /// The first error of `each`.
    fn records(&self, each: &mut dyn FnMut(&Record<'_>) -> io::Result<()>) -> io::Result<()>;
    /// What gives pseudonyms to this report's addresses. Without a dump that has a key, they differ with each run.
    fn redactor(&self) -> Redactor {
        let key = RandomState::new().hash_one(());
        let word = if cfg!(target_pointer_width = "64") {
            Word::W64
        } else {
            Word::W32
        };
        Redactor::keyed(key, word)
    }
}

/// What is known after a delivery that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver acknowledged the whole report.
    Stored,
    /// The connection was closed cleanly by both sides; nothing was acknowledged.
    Sent,
    /// Nothing is known: datagrams.
    Unknown,
}

/// Why a delivery failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// One line.
    pub why: String,
    /// Whether another attempt might succeed.
    pub again: bool,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Stored => "stored",
            Outcome::Sent => "sent",
            Outcome::Unknown => "unknown",
        })
    }
}

/// What a sink returns.
pub type Delivered = Result<Outcome, Failure>;

impl Failure {
    /// A failure that another attempt cannot mend.
    pub fn lasting(why: impl Into<String>) -> Self {
        Failure {
            why: why.into(),
            again: false,
        }
    }

    /// A failure that may pass.
    pub fn passing(why: impl Into<String>) -> Self {
        Failure {
            why: why.into(),
            again: true,
        }
    }
}

/// Puts what was being done before the reason why it failed.
pub trait Reason<T> {
    /// Names the step, in the imperative.
    ///
    /// # Errors
    /// The same as before, as one line.
    fn reason(self, step: &str) -> Result<T, Failure>;
}

impl<T> Reason<T> for io::Result<T> {
    fn reason(self, step: &str) -> Result<T, Failure> {
        self.map_err(|error| {
            use io::ErrorKind as K;
            let lasting = matches!(
                error.kind(),
                K::NotFound
                    | K::PermissionDenied
                    | K::StorageFull
                    | K::QuotaExceeded
                    | K::ReadOnlyFilesystem
                    | K::FileTooLarge
                    | K::IsADirectory
                    | K::NotADirectory
                    | K::InvalidInput
            );
            let why = match error.kind() {
                K::TimedOut => "no progress before the deadline".into(),
                K::UnexpectedEof => "the peer closed the connection".into(),
                _ => error.to_string(),
            };
            Failure {
                why: format!("{step}: {why}"),
                again: !lasting,
            }
        })
    }
}
