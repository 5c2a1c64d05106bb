//! kdump-compressed dumps: `makedumpfile -c/-l/-p/-z`, QEMU's `dump-guest-memory -z/-l/-s`.
//!
//! | header | sub header, notes | bitmap 1 | bitmap 2 | page descriptors | pages |
//!
//! Each is a whole number of blocks of the crashed machine's page size. Bitmap 1 has a bit for every page frame that is
//! memory, bitmap 2 for every one that is stored. The stored pages have descriptors in the order of their frames, so
//! the number of bits before a frame's is the number of its descriptor; each page is compressed alone. A split dump
//! is several such files with the same headers and bitmaps, each with the descriptors of a range of frames. Specified
//! by makedumpfile's IMPLEMENTATION file and `diskdump_mod.h`.
//!
//! Nothing is kept but a count of bits for every 4 KiB of bitmap, and a window each of bitmap, descriptors and data.

use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use super::codec::{inflate, lzo, snappy, zstd};
use super::note::NoteSpan;
use super::{Abi, Facts, Machine, Notes, PhysMem, PhysRange, ReadAt, Segment, Source};
use crate::addr::{PhysAddr, VirtAddr};
use crate::bytes::{Endian, Word, index, wide};
use crate::error::{At, Error, Result};
use crate::limits;

mod bitmap;
mod header;
mod window;

#[cfg(test)]
mod tests;

use bitmap::Bitmap;
pub use header::Header;
use window::Window;

/// Bytes of a `page_desc`: offset u64, size u32, flags u32, page_flags u64.
const PAGE_DESC_LEN: u64 = 24;
/// Data read ahead while pages are read in the order in which they are stored.
const AHEAD: usize = 32 << 10;

/// `page_desc.flags`, which name the compression.
const DUMP_DH_COMPRESSED_ZLIB: u32 = 0x1;
const DUMP_DH_COMPRESSED_LZO: u32 = 0x2;
const DUMP_DH_COMPRESSED_SNAPPY: u32 = 0x4;
const DUMP_DH_COMPRESSED_ZSTD: u32 = 0x20;

/// An opened kdump-compressed dump.
pub struct Kdump<'s> {
    header: Header,
    /// The first file, from which the headers and notes are.
    source: Source<'s>,
    parts: Vec<Part<'s>>,
    segments: Vec<Segment>,
    notes: Vec<NoteSpan>,
    state: RefCell<State>,
}

/// One file.
struct Part<'s> {
    source: Source<'s>,
    /// Its page frames: from, and up to but not including.
    pfns: (u64, u64),
    /// Where the descriptors are.
    descs: u64,
}

/// What is remembered between reads.
struct State {
    bitmaps: Vec<Bitmap>,
    descs: Window,
    data: Window,
    /// The page that was read last, for reads of less than a page.
    page: Vec<u8>,
    page_pfn: Option<u64>,
}

/// A page descriptor.
#[derive(Clone, Copy)]
struct PageDesc {
    offset: u64,
    size: u32,
    flags: u32,
}

impl<'s> Kdump<'s> {
    /// Reads the headers of `sources`: one dump, or parts of a split one in any order.
    ///
    /// # Errors
    /// `Invalid` for headers that make no sense or that do not belong together, `Truncated` when they are cut.
    pub fn open(sources: Vec<Source<'s>>) -> Result<Self> {
        let mut parts = Vec::new();
        let mut bitmaps = Vec::new();
        let mut first: Option<(Header, Source<'s>)> = None;
        let many = sources.len() > 1;
        for (number, source) in sources.into_iter().enumerate() {
            let header = Header::read(&source)?;
            let sibling = first
                .as_ref()
                .is_none_or(|(first, _)| first.is_sibling(&header));
            if many && !(sibling && header.split.is_some()) {
                return Err(Error::Invalid {
                    what: "kdump_sub_header.split",
                    at: At::File(header.block_size),
                    value: wide(number).saturating_add(1),
                    why: "this file is no part of the same split dump",
                });
            }
            let (part, bitmap) = Part::new(source.clone(), &header);
            parts.push(part);
            bitmaps.push(bitmap);
            first.get_or_insert((header, source));
        }
        let Some((header, source)) = first else {
            return Err(Error::Missing { key: "a dump" });
        };
        let span = |(offset, len)| NoteSpan { offset, len };
        let mut dump = Kdump {
            notes: header.notes.map(span).into_iter().collect(),
            segments: kernel_map(&header).into_iter().collect(),
            source,
            parts,
            state: RefCell::new(State {
                bitmaps,
                descs: Window::new(),
                data: Window::new(),
                page: Vec::new(),
                page_pfn: None,
            }),
            header,
        };
        if dump.holds_32_bit_kernel() {
            dump.header.abi.machine = Machine::I386;
            dump.header.abi.word = Word::W32;
            dump.segments.clear();
        }
        Ok(dump)
    }

    /// Whether an x86_64 virtual machine ran a 32-bit kernel, by the addresses in VMCOREINFO: QEMU writes the headers of
    /// the machine, not of the kernel.
    fn holds_32_bit_kernel(&self) -> bool {
        if self.header.abi.machine != Machine::X86_64 {
            return false;
        }
        let text = self.vmcoreinfo().or_else(|_| self.notes().vmcoreinfo());
        let text = text.unwrap_or_default();
        let mut lines = text.split(|&byte| byte == b'\n');
        let addr = lines.find_map(|line| line.strip_prefix(b"SYMBOL(swapper_pg_dir)="));
        addr.is_some_and(|addr| addr.trim_ascii().len() <= 8)
    }

    /// What the headers say.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How the crashed kernel lays out its data.
    pub fn abi(&self) -> Abi {
        self.header.abi
    }

    /// Where the headers say that the kernel image is.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The notes, which every part of a split dump has.
    pub fn notes(&self) -> Notes<'_> {
        Notes::new(&self.source, &self.notes, self.header.abi.endian)
    }

    /// The text of VMCOREINFO, which the sub header points to since version 3.
    ///
    /// # Errors
    /// `Missing` when it has none, `Limit` when it is too long, else what reading it gave.
    pub fn vmcoreinfo(&self) -> Result<Vec<u8>> {
        let Some((offset, size)) = self.header.vmcoreinfo else {
            return Err(Error::Missing { key: "VMCOREINFO" });
        };
        if size > limits::VMCOREINFO_LEN {
            return Err(Error::Limit {
                what: "size_vmcoreinfo",
                value: size,
                max: limits::VMCOREINFO_LEN,
            });
        }
        let mut text = vec![0; index(size)];
        self.source.read_at(offset, &mut text)?;
        Ok(text)
    }

    /// What the headers tell of the dump.
    pub fn facts(&self) -> Facts {
        let header = &self.header;
        let names = [
            (DUMP_DH_COMPRESSED_ZLIB, "zlib"),
            (DUMP_DH_COMPRESSED_LZO, "lzo"),
            (DUMP_DH_COMPRESSED_SNAPPY, "snappy"),
            (DUMP_DH_COMPRESSED_ZSTD, "zstd"),
        ];
        let used = names.iter().filter(|(flag, _)| header.status & flag != 0);
        let state = &mut *self.state.borrow_mut();
        let (mut stored, mut cut) = (0_u64, false);
        for (number, (part, bitmap)) in self.parts.iter().zip(&mut state.bitmaps).enumerate() {
            let count = bitmap.total(&part.source, part.pfns.1).ok();
            cut |= count.is_none_or(|count| part.is_cut(number, count, &mut state.descs, header));
            stored = stored.saturating_add(count.unwrap_or_default());
        }
        let stream = |part: &Part<'_>| part.source.flat().is_some_and(|flat| !flat.is_complete());
        let incomplete = if header.is_incomplete() {
            Some("the disk was full when it was written")
        } else if self.parts.iter().any(stream) {
            Some("the stream has no end mark")
        } else if self.missing_part().is_some() {
            Some("parts of it are missing")
        } else {
            cut.then_some("the file is cut short")
        };
        Facts {
            container: "kdump-compressed",
            flattened: self.source.flat().is_some(),
            version: Some(header.version),
            parts: header.split.map_or(0, |_| self.parts.len()),
            producer: header.release().is_empty().then_some("QEMU"),
            compression: used.map(|&(_, name)| name).collect(),
            page_size: Some(header.block_size),
            dump_level: header.dump_level,
            stored: stored.saturating_mul(header.block_size),
            incomplete,
            release: header.release().to_vec(),
            version_text: header.version_text().to_vec(),
            nodename: header.nodename().to_vec(),
            timestamp: Some(header.timestamp).filter(|&time| time != 0),
        }
    }

    /// The page frames that no file is there for, when parts of a split dump are missing: the first such range.
    pub fn missing_part(&self) -> Option<(u64, u64)> {
        self.header.split?;
        let mut from = 0;
        while from < self.header.max_mapnr {
            let holds = |part: &&Part<'_>| part.pfns.0 <= from && from < part.pfns.1;
            let Some(part) = self.parts.iter().find(holds) else {
                let after = self.parts.iter().map(|part| part.pfns.0);
                let next = after.filter(|&start| start > from).min();
                return Some((from, next.unwrap_or(self.header.max_mapnr)));
            };
            from = part.pfns.1;
        }
        None
    }

    /// Fills `buf` from byte `inside` of the page frame `pfn`.
    fn read_page(&self, pfn: u64, inside: usize, buf: &mut [u8]) -> Result<()> {
        let state = &mut *self.state.borrow_mut();
        let size = index(self.header.block_size);
        if inside == 0 && buf.len() == size {
            return self.load(state, pfn, buf);
        }
        if state.page_pfn != Some(pfn) {
            let mut page = core::mem::take(&mut state.page);
            page.resize(size, 0);
            state.page_pfn = None;
            let loaded = self.load(state, pfn, &mut page);
            state.page = page;
            loaded?;
            state.page_pfn = Some(pfn);
        }
        let end = inside.saturating_add(buf.len());
        buf.copy_from_slice(state.page.get(inside..end).unwrap_or_default());
        Ok(())
    }

    /// Decompresses the page frame `pfn` into `page`.
    fn load(&self, state: &mut State, pfn: u64, page: &mut [u8]) -> Result<()> {
        let addr = pfn.checked_mul(self.header.block_size);
        let missing = Error::NotInDump {
            addr: PhysAddr(addr.unwrap_or(u64::MAX)),
        };
        let holds = |part: &Part<'_>| part.pfns.0 <= pfn && pfn < part.pfns.1;
        let number = self.parts.iter().position(holds).ok_or(missing)?;
        let part = self.parts.get(number).ok_or(missing)?;
        let bitmap = state.bitmaps.get_mut(number).ok_or(missing)?;
        // A file that ends early is a hole like any other.
        let cut = |error| match error {
            Error::Truncated { .. } => missing,
            other => other,
        };
        let rank = bitmap.rank(&part.source, pfn).map_err(cut)?;
        let at = rank.ok_or(missing)?.saturating_mul(PAGE_DESC_LEN);
        let at = part.descs.saturating_add(at);
        let window = index(PAGE_DESC_LEN.saturating_mul(170));
        let raw = state
            .descs
            .get(number, &part.source, at, index(PAGE_DESC_LEN), window)
            .map_err(cut)?;
        let desc = PageDesc::parse(raw, self.header.abi.endian).ok_or(missing)?;
        // Descriptors that an incomplete dump has no pages for are zero.
        if desc.offset == 0 {
            return Err(missing);
        }
        if u64::from(desc.size) > self.header.block_size {
            return Err(Error::Invalid {
                what: "page_desc.size",
                at: At::File(at.saturating_add(8)),
                value: desc.size.into(),
                why: "more than a page",
            });
        }
        let size = index(desc.size.into());
        let ahead = if state.data.ends_at(number, desc.offset) {
            AHEAD.max(size)
        } else {
            size
        };
        let packed = state
            .data
            .get(number, &part.source, desc.offset, size, ahead)
            .map_err(cut)?;
        desc.decompress(packed, page)
    }
}

impl PageDesc {
    fn parse(raw: &[u8], endian: Endian) -> Option<Self> {
        Some(PageDesc {
            offset: endian.u64(raw, 0)?,
            size: endian.u32(raw, 8)?,
            flags: endian.u32(raw, 12)?,
        })
    }

    /// Decompresses `packed` into the whole `page`.
    fn decompress(&self, packed: &[u8], page: &mut [u8]) -> Result<()> {
        let methods = DUMP_DH_COMPRESSED_ZLIB
            | DUMP_DH_COMPRESSED_LZO
            | DUMP_DH_COMPRESSED_SNAPPY
            | DUMP_DH_COMPRESSED_ZSTD;
        let (what, made) = match self.flags & methods {
            0 => ("page", copy(packed, page)),
            DUMP_DH_COMPRESSED_ZLIB => ("zlib page", inflate::decompress(packed, page)),
            DUMP_DH_COMPRESSED_LZO => ("LZO page", lzo::decompress(packed, page)),
            DUMP_DH_COMPRESSED_SNAPPY => ("Snappy page", snappy::decompress(packed, page)),
            DUMP_DH_COMPRESSED_ZSTD => ("zstd page", zstd::decompress(packed, page)),
            other => {
                return Err(Error::Unsupported {
                    what: "page_desc.flags",
                    value: other.into(),
                });
            }
        };
        let made = made.and_then(|len| {
            if len == page.len() {
                Ok(())
            } else {
                Err("less than a page comes out")
            }
        });
        made.map_err(|why| Error::Invalid {
            what,
            at: At::File(self.offset),
            value: self.size.into(),
            why,
        })
    }
}

/// The page that was stored as it is.
fn copy(packed: &[u8], page: &mut [u8]) -> super::codec::Result<usize> {
    let target = page.get_mut(..packed.len()).ok_or("more than a page")?;
    target.copy_from_slice(packed);
    Ok(packed.len())
}

impl<'s> Part<'s> {
    fn new(source: Source<'s>, header: &Header) -> (Self, Bitmap) {
        let block = |number: u64| number.saturating_mul(header.block_size);
        let first = block(header.sub_hdr_size.saturating_add(1));
        // With room for two bitmaps the second one says what is stored; else one says both.
        let len = header.max_mapnr.div_ceil(8);
        // A count of frames beyond the bitmaps is wrong; what they cover still counts.
        let len = len.min(block(header.bitmap_blocks));
        let len_blocks = len.div_ceil(header.block_size);
        let two = header.bitmap_blocks >= len_blocks.saturating_mul(2);
        let stored = if two {
            first.saturating_add(block(header.bitmap_blocks / 2))
        } else {
            first
        };
        let pfns = header.split.unwrap_or((0, u64::MAX));
        let pfns = (pfns.0, pfns.1.min(header.max_mapnr));
        let part = Part {
            source,
            pfns,
            descs: first.saturating_add(block(header.bitmap_blocks)),
        };
        (part, Bitmap::new(stored, len, pfns.0))
    }

    /// True when the file ends before the pages of its last descriptors.
    fn is_cut(&self, number: usize, count: u64, descs: &mut Window, header: &Header) -> bool {
        /// Pages of zeros share one place at the start, so some of the last must be looked at.
        const LAST: u64 = 64;
        let Some(len) = self.source.len() else {
            return false;
        };
        let read = |n: u64| {
            let at = self.descs.saturating_add(n.saturating_mul(PAGE_DESC_LEN));
            let raw = descs.get(number, &self.source, at, index(PAGE_DESC_LEN), 4096);
            let desc = PageDesc::parse(raw.ok()?, header.abi.endian)?;
            Some(desc.offset.saturating_add(desc.size.into()))
        };
        let mut ends = (count.saturating_sub(LAST)..count).map(read);
        ends.any(|end| end.is_none_or(|end| end > len))
    }
}

/// Where the kernel image is mapped, from `phys_base`: x86_64's link address lies there. The writer knew no better when
/// it is zero.
fn kernel_map(header: &Header) -> Option<Segment> {
    const START_KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;
    const KERNEL_IMAGE_SIZE: u64 = 1 << 30;
    if header.abi.machine != Machine::X86_64 || header.phys_base == 0 {
        return None;
    }
    // A base below zero maps nothing below its distance.
    let below = if header.phys_base >> 63 == 0 {
        0
    } else {
        header.phys_base.wrapping_neg()
    };
    Some(Segment {
        paddr: PhysAddr(header.phys_base.wrapping_add(below)),
        vaddr: Some(VirtAddr(START_KERNEL_MAP.checked_add(below)?)),
        len: KERNEL_IMAGE_SIZE.checked_sub(below)?,
    })
}

impl PhysMem for Kdump<'_> {
    fn read_phys(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<()> {
        let size = self.header.block_size;
        let mut at = addr.0;
        let mut rest = buf;
        while !rest.is_empty() {
            let inside = at & size.wrapping_sub(1);
            let run = index(size.saturating_sub(inside)).min(rest.len());
            let (now, later) = rest.split_at_mut(run);
            let pfn = at.checked_div(size).unwrap_or(u64::MAX);
            self.read_page(pfn, index(inside), now)
                .map_err(|error| match error {
                    Error::NotInDump { .. } => Error::NotInDump { addr: PhysAddr(at) },
                    other => other,
                })?;
            at = at.saturating_add(wide(run));
            rest = later;
        }
        Ok(())
    }

    fn next_stored(&self, from: PhysAddr) -> Option<PhysRange> {
        let size = self.header.block_size;
        let state = &mut *self.state.borrow_mut();
        let mut pfn = from.0.checked_div(size)?;
        loop {
            let ahead = |part: &&(usize, &Part<'_>)| part.1.pfns.1 > pfn;
            let parts = self.parts.iter().enumerate();
            let (number, part) = parts
                .filter(|part| ahead(&part))
                .min_by_key(|part| part.1.pfns)?;
            let start = pfn.max(part.pfns.0);
            let bitmap = state.bitmaps.get_mut(number)?;
            let Some((first, count)) = bitmap.next_run(&part.source, start, part.pfns.1) else {
                pfn = part.pfns.1;
                continue;
            };
            let start = first.checked_mul(size)?;
            let end = start.checked_add(count.checked_mul(size)?)?;
            let start = start.max(from.0);
            return Some(PhysRange {
                start: PhysAddr(start),
                len: end.checked_sub(start)?,
            });
        }
    }
}
