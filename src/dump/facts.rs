//! What a container tells of itself, before anything of the crashed kernel is read.

use alloc::vec::Vec;

/// What is known of a dump from its headers and notes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The container: `ELF` or `kdump-compressed`.
    pub container: &'static str,
    /// True when it is wrapped in makedumpfile's flattened stream.
    pub flattened: bool,
    /// The version of the container's header, when it has one.
    pub version: Option<u32>,
    /// How many parts of a split dump are at hand, 0 when it is not split.
    pub parts: usize,
    /// Who wrote it, when its notes tell.
    pub producer: Option<&'static str>,
    /// What pages are compressed with; none when they are stored.
    pub compression: Vec<&'static str>,
    /// Bytes of a page of the crashed machine.
    pub page_size: Option<u64>,
    /// The kinds of pages that were left out, as `makedumpfile -d` takes it.
    pub dump_level: Option<u32>,
    /// Bytes of memory that are stored.
    pub stored: u64,
    /// Why the dump is not whole, `None` when nothing says so.
    pub incomplete: Option<&'static str>,
    /// The release by the container's header.
    pub release: Vec<u8>,
    /// `uname -v` by the container's header.
    pub version_text: Vec<u8>,
    /// The host's name by the container's header.
    pub nodename: Vec<u8>,
    /// The time of the dump by the container's header, in seconds since 1970.
    pub timestamp: Option<u64>,
}
