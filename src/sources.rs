//! The files of a dump: named ones, stdin, and the parts of a split dump that were not named.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use crashdmesg::dump::ReadAt;
use crashdmesg::dump::kdump::Header;

use crashdmesg::error::Result;

use crate::cli::Options;
use crate::extract::Failure;
use crate::file::FileAt;
use crate::pipe::PipeAt;
use crate::progress::Progress;

/// Files beside a part of a split dump that are looked at for the others.
const SIBLINGS: usize = 4096;

/// Opens the files of `options`, and the parts that belong to a split dump of which only one is named.
///
/// # Errors
/// Which file the system does not open.
pub fn open(options: &Options) -> std::result::Result<Vec<Box<dyn ReadAt>>, Failure> {
    let mut sources = Vec::new();
    for path in &options.dumps {
        let source = open_one(path, options.pipe_memory);
        sources.push(source.map_err(|error| Failure::of_file(path, &error))?);
    }
    if let ([path], [source]) = (options.dumps.as_slice(), sources.as_slice()) {
        let siblings = siblings(path, source.as_ref());
        sources.extend(siblings);
    }
    Ok(sources)
}

/// A file while its headers are looked through, which takes long for large flattened streams from slow disks.
pub struct Opening<'a> {
    file: &'a dyn ReadAt,
    progress: RefCell<Option<Progress>>,
}

impl<'a> Opening<'a> {
    /// Shows on a terminal how far `file` is looked through.
    pub fn new(file: &'a dyn ReadAt) -> Self {
        Opening {
            file,
            progress: RefCell::new(Some(Progress::new("opening the dump"))),
        }
    }

    /// Ends the showing.
    pub fn done(&self) {
        self.progress.take();
    }
}

impl ReadAt for Opening<'_> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        if let Some(progress) = self.progress.borrow_mut().as_mut()
            && let Some(len) = self.file.len()
        {
            progress.at(offset, len);
        }
        self.file.read_at(offset, buf)
    }

    fn len(&self) -> Option<u64> {
        self.file.len()
    }
}

fn open_one(path: &Path, pipe_memory: Option<u64>) -> io::Result<Box<dyn ReadAt>> {
    let file = if path.as_os_str() == "-" {
        File::from(io::stdin().as_fd().try_clone_to_owned()?)
    } else {
        File::open(path)?
    };
    let kind = file.metadata()?.file_type();
    Ok(if kind.is_fifo() || kind.is_socket() {
        Box::new(PipeAt::new(file, pipe_memory))
    } else {
        Box::new(FileAt::new(file)?)
    })
}

/// The other parts of the split dump of which `source`, the file `path`, is one.
fn siblings(path: &Path, source: &dyn ReadAt) -> Vec<Box<dyn ReadAt>> {
    let mut found: Vec<Box<dyn ReadAt>> = Vec::new();
    let header = |file: &dyn ReadAt| {
        let mut magic = [0; 8];
        file.read_at(0, &mut magic).ok()?;
        let header = Header::is(&magic).then(|| Header::read(file))?.ok()?;
        header.split.is_some().then_some(header)
    };
    if path.as_os_str() == "-" {
        return found;
    }
    let Some(first) = header(source) else {
        return found;
    };
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let Ok(entries) = std::fs::read_dir(directory.unwrap_or(Path::new("."))) else {
        return found;
    };
    let mut seen = vec![first.split];
    for entry in entries.take(SIBLINGS).flatten() {
        // Only a plain file is opened: a FIFO would wait for a writer.
        if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let Ok(file) = File::open(entry.path()).and_then(FileAt::new) else {
            continue;
        };
        let Some(header) = header(&file) else {
            continue;
        };
        if header.is_sibling(&first) && !seen.contains(&header.split) {
            seen.push(header.split);
            found.push(Box::new(file));
        }
    }
    found
}
