//! From a dump to what is in it: the pipeline of the program.

use std::io;
use std::path::Path;

use crashdmesg::dump::{ReadAt, Vmcore, search};
use crashdmesg::error::Error;
use crashdmesg::kernel::Kernel;
use crashdmesg::printk::Log;
use crashdmesg::vmcoreinfo::VmcoreInfo;

use crate::cli::Options;
use crate::progress::Progress;
use crate::sources::{self, Opening};

/// How the program ends; the numbers are documented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All was printed or delivered.
    Done = 0,
    /// The dump cannot be read, or the output not be written.
    Unreadable = 1,
    /// The arguments are wrong.
    Usage = 2,
    /// It is no dump, or there is no log in it.
    NoLog = 3,
    /// Printed, but part of the log is damaged or missing.
    Incomplete = 4,
    /// No target has the report.
    NotDelivered = 5,
}

/// Why there is no text: one line, and how the program ends.
#[derive(Debug)]
pub struct Failure {
    /// How the program ends.
    pub exit: Exit,
    /// What is wrong, with the file it is wrong in.
    pub message: String,
}

impl Failure {
    /// A dump that is wrong.
    pub fn of_dump(path: &Path, error: Error) -> Self {
        let exit = if matches!(error, Error::Io { .. }) {
            Exit::Unreadable
        } else {
            Exit::NoLog
        };
        Failure {
            exit,
            message: format!("{}: {error}", path.display()),
        }
    }

    /// A file that the system does not let us read or write.
    pub fn of_file(path: &Path, error: &io::Error) -> Self {
        Failure {
            exit: Exit::Unreadable,
            message: format!("{}: {error}", path.display()),
        }
    }
}

/// An opened dump and what was found in it.
pub struct Dump<'d> {
    /// The file, for messages.
    pub path: &'d Path,
    /// The dump.
    pub vmcore: &'d Vmcore<'d>,
    /// The crashed kernel.
    pub kernel: Kernel<'d>,
    /// Its log, or why there is none.
    pub log: Result<Log, Error>,
}

/// Opens the dump of `options` and hands it to `then`.
///
/// # Errors
/// What is wrong with the dump, and what `then` says.
pub fn with_dump<T>(
    options: &Options,
    then: impl FnOnce(&Dump<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    with_vmcore(options, |path, vmcore| {
        let vmcore = vmcore.map_err(|error| Failure::of_dump(path, error))?;
        let info = vmcoreinfo(options, vmcore).map_err(|error| Failure::of_dump(path, error))?;
        let kernel = Kernel::new(vmcore, info);
        let log = Log::locate(&kernel);
        then(&Dump {
            path,
            vmcore,
            kernel,
            log,
        })
    })
}

/// Opens the container of `options` and hands it to `then` with its name, or what is wrong with it.
///
/// # Errors
/// Which file cannot be opened, and what `then` says.
pub fn with_vmcore<T>(
    options: &Options,
    then: impl FnOnce(&Path, Result<&Vmcore<'_>, Error>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let files = sources::open(options)?;
    let files: Vec<_> = files
        .iter()
        .map(|file| Opening::new(file.as_ref()))
        .collect();
    let sources: Vec<&dyn ReadAt> = files.iter().map(|file| file as &dyn ReadAt).collect();
    let path = options.dumps.first().map_or(Path::new("-"), |path| path);
    let opened = Vmcore::open(&sources);
    files.iter().for_each(Opening::done);
    match opened {
        Ok(vmcore) => then(path, Ok(&vmcore)),
        Err(error) => then(path, Err(error)),
    }
}

/// VMCOREINFO: as the user gave it, else from its note, else from memory.
///
/// # Errors
/// What is wrong with the note, when memory has none either.
pub fn vmcoreinfo(options: &Options, vmcore: &Vmcore<'_>) -> Result<VmcoreInfo, Error> {
    if let Some(text) = &options.vmcoreinfo {
        return VmcoreInfo::parse(text.clone());
    }
    let by_note = vmcore.vmcoreinfo().and_then(VmcoreInfo::parse);
    let why = match by_note {
        Ok(info) => return Ok(info),
        Err(why) => why,
    };
    let mut progress = Progress::new("searching memory for VMCOREINFO");
    let mut accept = |text: &[u8]| {
        let info = VmcoreInfo::parse(text.to_vec());
        info.is_ok_and(|info| Log::locate(&Kernel::new(vmcore, info)).is_ok())
    };
    let found = search::vmcoreinfo(
        vmcore,
        vmcore.abi().endian,
        &mut accept,
        &mut |done, all| {
            progress.at(done, all);
        },
    );
    drop(progress);
    let text = match (found, &options.system_map) {
        (Ok(text), _) => text,
        (Err(_), Some(map)) => map.vmcoreinfo(vmcore, vmcore.abi(), &mut accept)?,
        // What is wrong with the note says more.
        (Err(_), None) => return Err(why),
    };
    VmcoreInfo::parse(text)
}
