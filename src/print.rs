//! Printing: the report, the log and single facts, to stdout or a file.

use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crashdmesg::dump::Vmcore;
use crashdmesg::error::Error;
use crashdmesg::identify::Identity;
use crashdmesg::printk::{Entry, Record};
use crashdmesg::render::log::TimeFormat::{Ctime, Iso, Raw, Reltime};
use crashdmesg::render::log::{LineWriter, Style, write_json};
use crashdmesg::render::redact::{Lines, Redactor};
use crashdmesg::render::report::{self, About, write_excerpt};
use crashdmesg::render::report_json;
use crashdmesg::summary::{Excerpt, LogState};

use crate::cli::{Filter, Format, Options, Show, VERSION};
use crate::extract::{Dump, Exit, Failure, vmcoreinfo};
use crate::report::write_log_title;

/// Prints what `options` ask for.
///
/// # Errors
/// What kept everything from being printed; what kept a part is a message and [`Exit::Incomplete`].
pub fn print(dump: &Dump<'_>, options: &Options) -> Result<Exit, Failure> {
    let mut out = Output::open(options)?;
    out.redacted = options
        .redact
        .then(|| Lines::new(Redactor::new(&dump.kernel)));
    // Starting, opening and finding the log are over.
    crate::sys::code::give_back();
    let written = dump.print(options, &mut out);
    out.finish(options, written)
}

/// Prints what the dump `path` is, also when it is none that can be read.
///
/// # Errors
/// What is wrong with it, when not even its kind is known.
pub fn print_identity(
    path: &Path,
    vmcore: Result<&Vmcore<'_>, Error>,
    options: &Options,
) -> Result<Exit, Failure> {
    let mut out = Output::open(options)?;
    let json = options.format != Format::Text;
    let exit = match vmcore {
        Ok(vmcore) => {
            let identity = Identity::collect(vmcore, vmcoreinfo(options, vmcore).ok());
            let _ = if json {
                identity.write_json(&mut out)
            } else {
                write!(out, "{}: {identity}", path.display())
            };
            Exit::Done
        }
        Err(Error::Foreign { what, advice }) => {
            let _ = if json {
                write!(out, "{{\"foreign\":\"{what}\",\"advice\":\"{advice}\"}}")
            } else {
                write!(out, "{}: {what}; {advice}", path.display())
            };
            Exit::NoLog
        }
        Err(error) => return Err(Failure::of_dump(path, error)),
    };
    out.line("");
    out.finish(options, Ok(exit))
}

impl Dump<'_> {
    fn print(&self, options: &Options, out: &mut Output) -> Result<Exit, Failure> {
        let info = self.kernel.info();
        let bare = |key: &'static str| {
            let value = info.value(key).ok_or(Error::Missing { key });
            value.map_err(|error| Failure::of_dump(self.path, error))
        };
        match options.show {
            Show::OsRelease => out.line(bare("OSRELEASE")?),
            Show::BuildId => out.line(bare("BUILD-ID")?),
            Show::VmcoreInfo => out.bytes(info.text()),
            // Printed without opening the kernel.
            Show::Identity => {}
            Show::Log => return self.print_log(options, out),
            Show::Summary => self.print_summary(options, out),
            Show::Report => {
                self.print_summary(options, out);
                crate::sys::code::give_back();
                return self.print_log(options, out);
            }
        }
        Ok(Exit::Done)
    }

    /// Prints the report without the log. With the log behind it a JSON document goes on where this ends.
    fn print_summary(&self, options: &Options, out: &mut Output) {
        let summary = self.summary();
        let about = About {
            program: VERSION,
            ..About::default()
        };
        let alone = options.show == Show::Summary;
        // Errors stay in `out`.
        let _ = match (options.format, alone) {
            (Format::Text, true) => report::write(out, &summary, &about),
            (Format::Text, false) => {
                report::write(out, &summary, &about).and_then(|()| write_log_title(out, &summary))
            }
            (_, true) => {
                report_json::write(out, &summary, &about).and_then(|()| out.write_str("\n"))
            }
            (format, false) => {
                let (before, after) = match format {
                    Format::Json => ("{\n   \"report\": ", ",\n"),
                    _ => ("{\"report\":", "}\n"),
                };
                out.write_str(before)
                    .and_then(|()| report_json::write(out, &summary, &about))
                    .and_then(|()| out.write_str(after))
            }
        };
    }

    /// Prints the log, and on stderr what of it is missing.
    fn print_log(&self, options: &Options, out: &mut Output) -> Result<Exit, Failure> {
        let log = self.log.as_ref().map_err(|&error| {
            let mut failure = Failure::of_dump(self.path, error);
            if let Some(why) = self.vmcore.facts().incomplete {
                failure.message += &format!(" (the dump is incomplete: {why})");
            }
            failure
        })?;
        let mut style = options.style;
        style.color = options
            .color
            .unwrap_or(options.output.is_none() && io::stdout().is_terminal());
        if matches!(style.time, Ctime | Iso | Reltime) {
            match self.kernel.info().crash_time() {
                Some(crash) => {
                    style.boot_time_ns = crash
                        .saturating_mul(1_000_000_000)
                        .saturating_sub(self.last_ts_ns());
                }
                // A dump of a live machine has no crash time; dates in 1970 would be made up.
                None => {
                    style.time = Raw;
                    let path = self.path.display();
                    eprintln!("crashdmesg: {path}: no CRASHTIME: times are seconds since boot");
                }
            }
        }
        let mut writer = RecordWriter::new(options, style);
        writer.start(out, options.show == Show::Log);
        let mut state = LogState::default();
        let mut entries = log.entries(&self.kernel);
        while let Some(entry) = entries.next() {
            match entry {
                Entry::Record(record) if options.filter.shows(&record) => {
                    writer.write(out, &record)
                }
                Entry::Record(_) => {}
                Entry::Lost(lost) => state.lose(&lost),
            }
            if out.error.is_some() {
                break;
            }
        }
        writer.end(out);
        for loss in state.losses() {
            eprintln!("crashdmesg: {}: {loss}", self.path.display());
        }
        for words in &state.last_words {
            self.complain_of(words, options);
        }
        if state.damaged == 0 {
            return Ok(Exit::Done);
        }
        if let Some(why) = self.vmcore.facts().incomplete {
            let path = self.path.display();
            eprintln!("crashdmesg: {path}: the dump is incomplete: {why}");
        }
        Ok(Exit::Incomplete)
    }
}

impl Dump<'_> {
    /// Shows on stderr what was written of an unfinished record.
    fn complain_of(&self, words: &Excerpt, options: &Options) {
        let mut text = String::new();
        let _ = write_excerpt(&mut text, words);
        if options.redact {
            let redacted = Redactor::new(&self.kernel).line(text.as_bytes());
            text = String::from_utf8_lossy(&redacted).into_owned();
        }
        let path = self.path.display();
        eprint!("crashdmesg: {path}: last words, unfinished: {text}");
    }
}

impl Filter {
    fn shows(&self, record: &Record<'_>) -> bool {
        let level = record
            .level
            .is_none_or(|level| self.levels & (1 << level) != 0);
        let facility = record.facility.is_none_or(|facility| {
            let bit = 1_u32.checked_shl(u32::from(facility)).unwrap_or(0);
            self.facilities & bit != 0
        });
        (self.levels == 0 || level) && (self.facilities == 0 || facility)
    }
}

/// Writes records in one of the formats.
struct RecordWriter {
    lines: LineWriter,
    format: Format,
    decode: bool,
    empty: bool,
}

impl RecordWriter {
    fn new(options: &Options, style: Style) -> Self {
        RecordWriter {
            lines: LineWriter::new(style),
            format: options.format,
            decode: style.decode,
            empty: true,
        }
    }

    /// Writes one record; errors stay in `out`.
    fn write(&mut self, out: &mut Output, record: &Record<'_>) {
        let separator = if self.empty { "" } else { ",\n      " };
        if self.format == Format::Json {
            let _ = out.write_str(separator);
        }
        let _ = match self.format {
            Format::Text => self.lines.write(out, record),
            Format::Json | Format::JsonLines => write_json(out, record, self.decode),
        };
        if self.format == Format::JsonLines {
            let _ = out.write_str("\n");
        }
        self.empty = false;
    }

    /// Opens the list; a report before it has opened the document.
    fn start(&self, out: &mut Output, alone: bool) {
        if self.format == Format::Json {
            let _ = out.write_str(if alone { "{\n" } else { "" });
            let _ = out.write_str("   \"dmesg\": [\n      ");
        }
    }

    fn end(&self, out: &mut Output) {
        if self.format == Format::Json {
            let _ = out.write_str("\n   ]\n}\n");
        }
    }
}

/// Where the text goes. Collects it in a buffer and remembers the first error, so that writing reads straight.
pub struct Output {
    file: File,
    buffer: Vec<u8>,
    error: Option<io::Error>,
    redacted: Option<Lines>,
}

/// Bytes collected before they are written.
const BUFFER: usize = 32 << 10;

impl Output {
    fn open(options: &Options) -> Result<Self, Failure> {
        let file = match &options.output {
            None => io::stdout().as_fd().try_clone_to_owned().map(File::from),
            // A kernel log can hold secrets, so nobody else may read it.
            Some(path) => OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(path),
        };
        let path = options.output.as_deref().unwrap_or(Path::new("stdout"));
        let file = file.map_err(|error| Failure::of_file(path, &error))?;
        Ok(Output {
            file,
            buffer: Vec::with_capacity(BUFFER),
            error: None,
            redacted: None,
        })
    }

    fn line(&mut self, text: &str) {
        self.bytes(text.as_bytes());
        self.bytes(b"\n");
    }

    fn bytes(&mut self, bytes: &[u8]) {
        if self.buffer.len() + bytes.len() > BUFFER {
            self.flush();
        }
        if bytes.len() > BUFFER {
            let written = self.file.write_all(bytes);
            self.keep(written);
        } else {
            self.buffer.extend_from_slice(bytes);
        }
    }

    fn flush(&mut self) {
        if self.error.is_none() {
            let written = self.file.write_all(&self.buffer);
            self.keep(written);
        }
        self.buffer.clear();
    }

    fn keep(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            self.error.get_or_insert(error);
        }
    }

    /// Writes what is left; a reader that went away is no error.
    fn finish(
        mut self,
        options: &Options,
        written: Result<Exit, Failure>,
    ) -> Result<Exit, Failure> {
        self.flush();
        match self.error {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                let path = options.output.as_deref().unwrap_or(Path::new("stdout"));
                Err(Failure::of_file(path, &error))
            }
            _ => written,
        }
    }
}

impl fmt::Write for Output {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        match &mut self.redacted {
            None => self.bytes(text.as_bytes()),
            Some(lines) => {
                let whole = lines.push(text.as_bytes());
                self.bytes(&whole);
            }
        }
        if self.error.is_some() {
            Err(fmt::Error)
        } else {
            Ok(())
        }
    }
}
