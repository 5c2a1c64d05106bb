//! The two headers of a kdump-compressed dump.
//!
//! | block 0: `struct disk_dump_header` | block 1: `struct kdump_sub_header` |
//!
//! Written as the crashed machine's C compiler laid them out, and neither word size nor byte order is told: the layout
//! is the one in which the numbers make sense. What the sub header holds depends on `header_version`; all versions begin
//! alike. Specified by makedumpfile's `diskdump_mod.h` and the IMPLEMENTATION file beside it.

use crate::bytes::{Endian, Word};
use crate::dump::{Abi, Machine, ReadAt};
use crate::error::{At, Error, Result};

/// Bytes of `disk_dump_header` that are read: up to `written_blocks`.
const HEADER_LEN: usize = 456;
/// `utsname`: six names of 65 bytes.
const UTSNAME: usize = 12;
const NAME_LEN: usize = 65;
const SUB_HEADER_LEN: usize = 104;

/// `status`: the dump was cut because the disk was full.
const DUMP_DH_COMPRESSED_INCOMPLETE: u32 = 0x8;

/// What both headers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// How the crashed kernel lays out its data.
    pub abi: Abi,
    /// `header_version`.
    pub version: u32,
    /// `utsname`: sysname, nodename, release, version, machine, domainname.
    utsname: [[u8; NAME_LEN]; 6],
    /// `timestamp.tv_sec`: seconds since 1970.
    pub timestamp: u64,
    /// `status`: what the pages are compressed with, and whether all are there.
    pub status: u32,
    /// `block_size`: the page size.
    pub block_size: u64,
    /// Blocks of the sub header.
    pub sub_hdr_size: u64,
    /// Blocks of the bitmaps.
    pub bitmap_blocks: u64,
    /// Page frames from 0 up to the highest one of memory.
    pub max_mapnr: u64,
    /// `phys_base` of x86_64, where RAM starts elsewhere.
    pub phys_base: u64,
    /// `dump_level`: the kinds of pages that were left out, as `makedumpfile -d` takes it.
    pub dump_level: Option<u32>,
    /// The page frames of this part of a split dump.
    pub split: Option<(u64, u64)>,
    /// Where the text of VMCOREINFO is: offset and size.
    pub vmcoreinfo: Option<(u64, u64)>,
    /// Where the ELF notes are: offset and size.
    pub notes: Option<(u64, u64)>,
}

/// One way a compiler may have laid the headers out.
#[derive(Clone, Copy)]
struct Layout {
    word: Word,
    endian: Endian,
}

impl Header {
    /// True when `magic` starts a kdump-compressed dump or its ancestor of diskdump.
    pub fn is(magic: &[u8; 8]) -> bool {
        matches!(magic, b"KDUMP   " | b"DISKDUMP")
    }

    /// Reads the headers of `source`.
    ///
    /// # Errors
    /// `Invalid` when the numbers make no sense in any layout, `Truncated` when the file ends before them.
    pub fn read(source: &dyn ReadAt) -> Result<Self> {
        let mut raw = [0; HEADER_LEN];
        source.read_at(0, &mut raw)?;
        let expected = word_of(text(&name_array(&raw, 4)));
        let layouts = [
            (Word::W64, Endian::Little),
            (Word::W32, Endian::Little),
            (Word::W64, Endian::Big),
            (Word::W32, Endian::Big),
        ];
        let layouts = layouts.map(|(word, endian)| Layout { word, endian });
        let plausible = |layout: &&Layout| Self::parse(&raw, **layout).is_some();
        let as_expected = |layout: &&Layout| expected.is_none_or(|word| word == layout.word);
        let layout = layouts
            .iter()
            .filter(plausible)
            .find(as_expected)
            .or_else(|| layouts.iter().find(plausible));
        let header = layout.and_then(|&layout| Some((layout, Self::parse(&raw, layout)?)));
        let Some((layout, mut header)) = header else {
            return Err(Error::Invalid {
                what: "disk_dump_header.block_size",
                at: At::File(428),
                value: Endian::Little.u32(&raw, 428).unwrap_or_default().into(),
                why: "no page size in any layout",
            });
        };
        // QEMU writes the name of the emulated processor, whatever kernel runs on it.
        if header.abi.machine == Machine::X86_64 && layout.word == Word::W32 {
            header.abi.machine = Machine::I386;
        }
        let mut sub = [0; SUB_HEADER_LEN];
        source.read_at(header.block_size, &mut sub)?;
        if raw.starts_with(b"KDUMP") {
            header.parse_sub(&sub, layout);
        }
        Ok(header)
    }

    /// Reads the first header in one layout, `None` when its numbers make no sense.
    fn parse(raw: &[u8; HEADER_LEN], layout: Layout) -> Option<Self> {
        let Layout { word, endian } = layout;
        let (timestamp, status) = match word {
            Word::W64 => (408, 424),
            Word::W32 => (404, 412),
        };
        let number = |field: usize| endian.u32(raw, field.checked_mul(4)?.checked_add(status)?);
        let header = Header {
            abi: Abi {
                machine: machine_of(text(&name_array(raw, 4))),
                endian,
                word,
            },
            version: endian.u32(raw, 8)?,
            utsname: core::array::from_fn(|n| name_array(raw, n)),
            timestamp: endian.word(word, raw, timestamp)?,
            status: number(0)?,
            block_size: number(1)?.into(),
            sub_hdr_size: number(2)?.into(),
            bitmap_blocks: number(3)?.into(),
            max_mapnr: number(4)?.into(),
            phys_base: 0,
            dump_level: None,
            split: None,
            vmcoreinfo: None,
            notes: None,
        };
        let pages = header
            .bitmap_blocks
            .saturating_mul(header.block_size)
            .saturating_mul(8);
        let plausible = header.block_size.is_power_of_two()
            && (4096..=1 << 20).contains(&header.block_size)
            && (1..=1024).contains(&header.sub_hdr_size)
            && header.version < 1 << 16
            && (header.version >= 6 || header.max_mapnr <= pages);
        plausible.then_some(header)
    }

    /// Reads what the sub header has in this version.
    fn parse_sub(&mut self, raw: &[u8; SUB_HEADER_LEN], layout: Layout) {
        let Layout { word, endian } = layout;
        let word_at = |at: [usize; 3], kind: usize| {
            let &at = at.get(kind)?;
            endian.word(word, raw, at)
        };
        let u64_at = |at: [usize; 3], kind: usize| endian.u64(raw, *at.get(kind)?);
        let u32_at = |at: [usize; 3], kind: usize| endian.u32(raw, *at.get(kind)?);
        let since = |version| self.version >= version;
        let kind = match word {
            Word::W64 => 0,
            Word::W32 if self.is_packed(raw, endian) => 1,
            Word::W32 => 2,
        };
        let span = |at, len, version| {
            let span = (u64_at(at, kind)?, word_at(len, kind)?);
            (since(version) && span.0 != 0 && span.1 != 0).then_some(span)
        };
        self.phys_base = word_at([0; 3], kind).unwrap_or_default();
        if since(1) {
            self.dump_level = u32_at([8, 4, 4], kind);
        }
        if since(2) && u32_at([12, 8, 8], kind).is_some_and(|split| split != 0) {
            let pfns = if since(6) {
                u64_at([80, 56, 72], kind).zip(u64_at([88, 64, 80], kind))
            } else {
                word_at([16, 12, 12], kind).zip(word_at([24, 16, 16], kind))
            };
            self.split = pfns;
        }
        self.vmcoreinfo = span([32, 20, 24], [40, 28, 32], 3);
        self.notes = span([48, 32, 40], [56, 40, 48], 4);
        if since(6) {
            let max_mapnr = u64_at([96, 72, 88], kind).filter(|&max| max != 0);
            self.max_mapnr = max_mapnr.unwrap_or(self.max_mapnr);
        }
    }

    /// Whether a 32-bit sub header has its 64-bit members right behind 32-bit ones, as i386 aligns them; other machines
    /// align them to 8.
    fn is_packed(&self, raw: &[u8; SUB_HEADER_LEN], endian: Endian) -> bool {
        if self.abi.machine == Machine::I386 || self.version < 3 {
            return true;
        }
        let offset = endian.u64(raw, 20).unwrap_or_default();
        let size = endian.u32(raw, 28).unwrap_or_default();
        let end = offset.saturating_add(size.into());
        let blocks = self.sub_hdr_size.saturating_add(1);
        let inside = offset > self.block_size && end <= self.block_size.saturating_mul(blocks);
        (offset == 0 && size == 0) || inside
    }

    /// True when the dump says itself that pages are missing at its end.
    pub fn is_incomplete(&self) -> bool {
        self.status & DUMP_DH_COMPRESSED_INCOMPLETE != 0
    }

    /// `utsname.release`, as `uname -r` prints it; empty in dumps of QEMU.
    pub fn release(&self) -> &[u8] {
        self.name(2)
    }

    /// `utsname.version`, as `uname -v` prints it.
    pub fn version_text(&self) -> &[u8] {
        self.name(3)
    }

    /// `utsname.nodename`.
    pub fn nodename(&self) -> &[u8] {
        self.name(1)
    }

    /// `utsname.machine`.
    pub fn machine(&self) -> &[u8] {
        self.name(4)
    }

    fn name(&self, n: usize) -> &[u8] {
        self.utsname.get(n).map_or(&[], |name| text(name))
    }

    /// True when `other` is a part of the same split dump.
    pub fn is_sibling(&self, other: &Self) -> bool {
        let shared = |header: &Self| {
            let mut header = header.clone();
            header.split = None;
            // Each part has places and a length of its own.
            (header.vmcoreinfo, header.notes, header.status) = (None, None, 0);
            header
        };
        self.split.is_some() && other.split.is_some() && shared(self) == shared(other)
    }
}

fn name_array(raw: &[u8; HEADER_LEN], n: usize) -> [u8; NAME_LEN] {
    let start = n.saturating_mul(NAME_LEN).saturating_add(UTSNAME);
    let name = raw.get(start..start.saturating_add(NAME_LEN));
    name.and_then(|name| name.try_into().ok())
        .unwrap_or([0; NAME_LEN])
}

/// The bytes of a C string.
fn text(name: &[u8]) -> &[u8] {
    name.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// The architecture that `uname -m` calls `name`.
fn machine_of(name: &[u8]) -> Machine {
    match name {
        b"x86_64" => Machine::X86_64,
        b"aarch64" | b"aarch64_be" | b"arm64" => Machine::Aarch64,
        b"ppc" => Machine::Ppc,
        [b'i', _, b'8', b'6'] => Machine::I386,
        [b'a', b'r', b'm', ..] => Machine::Arm,
        [b'p', b'p', b'c', b'6', b'4', ..] => Machine::Ppc64,
        [b's', b'3', b'9', b'0', ..] => Machine::S390,
        [b'r', b'i', b's', b'c', b'v', ..] => Machine::Riscv,
        [b'm', b'i', b'p', b's', ..] => Machine::Mips,
        [b'l', b'o', b'o', b'n', b'g', ..] => Machine::Loongarch,
        _ => Machine::Other(0),
    }
}

/// The word size of the machine that `uname -m` calls `name`, `None` when that does not tell.
fn word_of(name: &[u8]) -> Option<Word> {
    let class = if name.ends_with(b"64") || name.ends_with(b"64le") || name == b"s390x" {
        Word::W64
    } else {
        Word::W32
    };
    match machine_of(name) {
        Machine::Other(_) => None,
        machine => Some(machine.word(class)),
    }
}
