//! From a dump to what is in it: the pipeline of the program.

use std::io;
use std::path::Path;

use crashdmesg::dump::{ReadAt, Vmcore};
use crashdmesg::error::Error;
use crashdmesg::kernel::Kernel;
use crashdmesg::printk::Log;
use crashdmesg::vmcoreinfo::VmcoreInfo;

use crate::cli::Options;
use crate::file::FileAt;

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
    let open = |path| FileAt::open(path).map_err(|error| Failure::of_file(path, &error));
    let files = options
        .dumps
        .iter()
        .map(|path| open(path))
        .collect::<Result<Vec<_>, _>>()?;
    let sources: Vec<&dyn ReadAt> = files.iter().map(|file| file as &dyn ReadAt).collect();
    let path = options.dumps.first().map_or(Path::new("-"), |path| path);
    let of_dump = |error| Failure::of_dump(path, error);

    let vmcore = Vmcore::open(&sources).map_err(of_dump)?;
    let info = VmcoreInfo::parse(vmcore.vmcoreinfo().map_err(of_dump)?).map_err(of_dump)?;
    let kernel = Kernel::new(&vmcore, info);
    let log = Log::locate(&kernel);
    then(&Dump {
        path,
        vmcore: &vmcore,
        kernel,
        log,
    })
}
