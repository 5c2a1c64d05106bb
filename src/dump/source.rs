//! Where a container's bytes come from: a file as it is, or the flattened stream that a file holds.

use alloc::rc::Rc;

use super::ReadAt;
use super::flat::Flat;
use crate::error::Result;

/// A file, possibly unflattened. Cheap to clone.
#[derive(Clone)]
pub enum Source<'s> {
    /// The file itself.
    Plain(&'s dyn ReadAt),
    /// What a flattened stream rearranges into.
    Flat(Rc<Flat<'s>>),
}

impl<'s> Source<'s> {
    /// Looks whether `file` holds a flattened stream, and if so, finds its records.
    ///
    /// # Errors
    /// What is wrong in the stream's headers.
    pub fn open(file: &'s dyn ReadAt) -> Result<Self> {
        Ok(if Flat::is(file) {
            Source::Flat(Rc::new(Flat::open(file)?))
        } else {
            Source::Plain(file)
        })
    }

    /// The flattened stream, if it is one.
    pub fn flat(&self) -> Option<&Flat<'s>> {
        match self {
            Source::Plain(_) => None,
            Source::Flat(flat) => Some(flat),
        }
    }
}

impl ReadAt for Source<'_> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        match self {
            Source::Plain(file) => file.read_at(offset, buf),
            Source::Flat(flat) => flat.read_at(offset, buf),
        }
    }

    fn len(&self) -> Option<u64> {
        match self {
            Source::Plain(file) => file.len(),
            Source::Flat(flat) => flat.len(),
        }
    }
}
