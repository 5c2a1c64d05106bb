//! A writer of the containers: from an ELF core to kdump-compressed, split and flattened dumps.
//!
//! It spells every layout out on its own, so that a wrong offset in the reader cannot cancel out.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

/// A page frame of the fixtures' machines.
pub const PAGE: usize = 4096;

/// What is in an ELF core: pages by frame number, notes, VMCOREINFO.
#[derive(Clone, Default)]
pub struct Core {
    pub pages: BTreeMap<u64, Vec<u8>>,
    pub notes: Vec<u8>,
    pub vmcoreinfo: Vec<u8>,
}

impl Core {
    /// Takes a little-endian ELF file apart.
    pub fn parse(file: &[u8]) -> Self {
        let wide = file[4] == 2;
        let u32_at = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
        let word_at = |at: usize| match wide {
            true => u64::from_le_bytes(file[at..at + 8].try_into().unwrap()),
            false => u32_at(at).into(),
        };
        // e_phoff, e_phnum; the size of a program header, its p_offset, p_paddr, p_filesz
        let [phoff, phnum, step, at_offset, at_paddr, at_filesz] = match wide {
            true => [32, 56, 56, 8, 24, 32],
            false => [28, 44, 32, 4, 12, 16],
        };
        let mut core = Core::default();
        let count = u16::from_le_bytes(file[phnum..phnum + 2].try_into().unwrap()) as usize;
        for n in 0..count {
            let header = word_at(phoff) as usize + n * step;
            let offset = word_at(header + at_offset) as usize;
            let size = word_at(header + at_filesz) as usize;
            let bytes = &file[offset..offset + size];
            match u32_at(header) {
                4 => core.notes.extend(bytes),
                1 => {
                    let first = word_at(header + at_paddr);
                    assert!(
                        first % PAGE as u64 == 0 && size.is_multiple_of(PAGE),
                        "whole pages"
                    );
                    for (pfn, page) in (first / PAGE as u64..).zip(bytes.chunks(PAGE)) {
                        core.pages.insert(pfn, page.to_vec());
                    }
                }
                _ => {}
            }
        }
        let name = core
            .notes
            .windows(11)
            .position(|name| name == b"VMCOREINFO\0")
            .unwrap();
        let size = core.notes[name - 8..name - 4].try_into().unwrap();
        let text = &core.notes[name + 12..][..u32::from_le_bytes(size) as usize];
        core.vmcoreinfo = text.to_vec();
        core
    }

    /// Adds the page that the kernel keeps VMCOREINFO in, at a frame that is free, and returns the frame. Before it
    /// stands what an earlier kernel may have left: a note whose addresses mean nothing any more.
    pub fn keep_note(&mut self) -> u64 {
        let old = b"OSRELEASE=5.0.0-earlier\nSYMBOL(prb)=ffffffff80000000\n";
        let mut free = (1..).filter(|pfn| !self.pages.contains_key(pfn));
        let frames = [free.next().unwrap(), free.next().unwrap()];
        for (pfn, text) in frames.into_iter().zip([&old[..], &self.vmcoreinfo]) {
            let mut page = vec![11, 0, 0, 0];
            page.extend((text.len() as u32).to_le_bytes());
            page.extend(b"\0\0\0\0VMCOREINFO\0\0");
            page.extend(text);
            page.resize(PAGE, 0);
            self.pages.insert(pfn, page);
        }
        frames[1]
    }
}

/// How a page is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    Plain,
    Zlib,
    Lzo,
    Snappy,
    Zstd,
}

impl Codec {
    fn flag(self) -> u32 {
        match self {
            Codec::Plain => 0,
            Codec::Zlib => 1,
            Codec::Lzo => 2,
            Codec::Snappy => 4,
            Codec::Zstd => 0x20,
        }
    }

    /// `page` packed; `None` when the encoder is not installed, or the page would not be smaller.
    fn pack(self, page: &[u8]) -> Option<Vec<u8>> {
        let packed = match self {
            Codec::Plain => return None,
            Codec::Zlib => {
                let file = filter(&["gzip", "-c"], page)?;
                let (a, b) = page.iter().fold((1_u64, 0), |(a, b), &byte| {
                    let a = (a + u64::from(byte)) % 65521;
                    (a, (a + b) % 65521)
                });
                // Deflate data without gzip's header and trailer, between those of zlib.
                let mut packed = vec![0x78, 0x9c];
                packed.extend(&file[10..file.len() - 8]);
                packed.extend(((b << 16 | a) as u32).to_be_bytes());
                packed
            }
            Codec::Lzo => {
                let file = filter(&["lzop", "-c"], page)?;
                // A header of 38 bytes, both sizes, a checksum.
                let size = u32::from_be_bytes(file[42..46].try_into().unwrap()) as usize;
                file[50..50 + size].to_vec()
            }
            // Literals only: of 60 bytes, and of more with the length in two bytes.
            Codec::Snappy => {
                let mut packed = vec![0x80, 0x20, 59 << 2];
                packed.extend(&page[..60]);
                packed.push(61 << 2);
                packed.extend(((page.len() - 61) as u16).to_le_bytes());
                packed.extend(&page[60..]);
                // Longer than the page, which the format allows only when it fits: use it for pages that end in zeros.
                let zeros = page.iter().rev().take_while(|&&byte| byte == 0).count();
                if zeros < 200 {
                    return None;
                }
                packed.truncate(3 + 60 + 3 + page.len() - 60 - zeros + 1);
                let literals = page.len() - 60 - zeros + 1;
                packed[64..66].copy_from_slice(&((literals - 1) as u16).to_le_bytes());
                let mut left = zeros - 1;
                while left > 0 {
                    let len = left.min(64);
                    packed.extend([2 | ((len - 1) as u8) << 2, 1, 0]);
                    left -= len;
                }
                packed
            }
            Codec::Zstd => filter(&["zstd", "-q", "-c"], page)?,
        };
        (packed.len() < page.len()).then_some(packed)
    }
}

fn filter(command: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let mut child = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .ok()?;
    child.stdin.take()?.write_all(input).ok()?;
    let output = child.wait_with_output().ok()?;
    output.status.success().then_some(output.stdout)
}

/// A kdump-compressed dump to be.
#[derive(Clone)]
pub struct Kdump {
    pub version: u32,
    /// `utsname.machine`, which goes with the layout.
    pub machine: &'static str,
    pub wide: bool,
    /// Codecs that take turns.
    pub codecs: Vec<Codec>,
    /// The frames of this part of a split dump.
    pub split: Option<(u64, u64)>,
    /// Page frames of the machine; the highest one stored and one if 0.
    pub max_mapnr: u64,
    pub with_vmcoreinfo: bool,
}

impl Default for Kdump {
    fn default() -> Self {
        Kdump {
            version: 6,
            machine: "x86_64",
            wide: true,
            codecs: vec![
                Codec::Plain,
                Codec::Zlib,
                Codec::Lzo,
                Codec::Snappy,
                Codec::Zstd,
            ],
            split: None,
            max_mapnr: 0,
            with_vmcoreinfo: true,
        }
    }
}

/// Bytes at offsets, as `pwrite` takes them.
#[derive(Default)]
pub struct Writes(pub Vec<(u64, Vec<u8>)>);

impl Writes {
    fn put(&mut self, at: u64, bytes: &[u8]) {
        self.0.push((at, bytes.to_vec()));
    }

    fn number(&mut self, at: u64, width: usize, value: u64) {
        self.put(at, &value.to_le_bytes()[..width]);
    }

    /// The file that they make.
    pub fn file(&self) -> Vec<u8> {
        let len = self
            .0
            .iter()
            .map(|(at, bytes)| *at as usize + bytes.len())
            .max()
            .unwrap_or(0);
        let mut file = vec![0; len];
        for (at, bytes) in &self.0 {
            file[*at as usize..*at as usize + bytes.len()].copy_from_slice(bytes);
        }
        file
    }

    /// The flattened stream that makes them, in an order of its own: the last come first, and the first is written once
    /// more before with other bytes.
    pub fn flattened(&self) -> Vec<u8> {
        let mut stream = b"makedumpfile\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01".to_vec();
        stream.resize(4096, 0);
        let mut record = |at: u64, bytes: &[u8]| {
            stream.extend(at.to_be_bytes());
            stream.extend((bytes.len() as u64).to_be_bytes());
            stream.extend(bytes);
        };
        record(0, &[0xaa; 8192]);
        // Several at once, as a buffer would hold them; order within it stays.
        for chunk in self.0.chunks(7).rev() {
            for (at, bytes) in chunk {
                record(*at, bytes);
            }
        }
        for (at, bytes) in self.0.iter().filter(|(at, _)| *at < 8192) {
            record(*at, bytes);
        }
        stream.extend([0xff; 16]);
        stream
    }
}

impl Kdump {
    /// Everything that has to be written for `core`.
    pub fn writes(&self, core: &Core) -> Writes {
        let page = PAGE as u64;
        let mut w = Writes::default();
        let last = core.pages.keys().next_back().copied().unwrap_or(0);
        let frames = if self.max_mapnr == 0 {
            last + 1
        } else {
            self.max_mapnr
        };
        let bitmap_blocks = frames.div_ceil(8).div_ceil(page);
        let word = if self.wide { 8 } else { 4 };
        let notes_len = (core.notes.len() as u64).div_ceil(page) + 2;
        // What a header does not say is zero.
        w.put(0, &[0; 2 * PAGE]);
        w.put(0, b"KDUMP   ");
        w.number(8, 4, self.version.into());
        w.put(12 + 65, b"host\0");
        w.put(12 + 4 * 65, self.machine.as_bytes());
        let status = if self.wide { 424 } else { 412 };
        let flags = self
            .codecs
            .iter()
            .fold(0, |flags, codec| flags | codec.flag());
        let header = [
            u64::from(flags),
            page,
            notes_len,
            2 * bitmap_blocks,
            frames & 0xffff_ffff,
        ];
        for (at, value) in (status..).step_by(4).zip(header) {
            w.number(at, 4, value);
        }
        // dump_level, split, start_pfn, end_pfn, vmcoreinfo, its size, notes, their size, start, end, max_mapnr
        let places: [u64; 11] = match (self.wide, self.machine) {
            (true, _) => [8, 12, 16, 24, 32, 40, 48, 56, 80, 88, 96],
            (false, "i686") => [4, 8, 12, 16, 20, 28, 32, 40, 56, 64, 72],
            (false, _) => [4, 8, 12, 16, 24, 32, 40, 48, 72, 80, 88],
        };
        let places = places.map(|place| page + place);
        w.number(places[0], 4, 1);
        let (start, end) = self.split.unwrap_or((0, frames));
        if self.split.is_some() {
            w.number(places[1], 4, 1);
            let at = if self.version < 6 { 2 } else { 8 };
            w.number(places[at], word, start);
            w.number(places[at + 1], word, end);
        }
        let (info_at, notes_at) = (2 * page, 3 * page);
        if self.with_vmcoreinfo && self.version >= 3 {
            w.number(places[4], 8, info_at);
            w.number(places[5], word, core.vmcoreinfo.len() as u64);
            w.put(info_at, &core.vmcoreinfo);
        }
        if self.with_vmcoreinfo && self.version >= 4 {
            w.number(places[6], 8, notes_at);
            w.number(places[7], word, core.notes.len() as u64);
            w.put(notes_at, &core.notes);
        }
        if self.version >= 6 {
            w.number(places[10], 8, frames);
        }
        let bitmaps = page * (1 + notes_len);
        let mut bytes = BTreeMap::new();
        for pfn in core.pages.keys() {
            *bytes.entry(pfn / 8).or_insert(0_u8) |= 1 << (pfn % 8);
        }
        for (at, byte) in bytes {
            w.put(bitmaps + at, &[byte]);
            w.put(bitmaps + bitmap_blocks * page + at, &[byte]);
        }
        self.write_pages(&mut w, core, bitmaps + 2 * bitmap_blocks * page, start..end);
        w
    }

    fn write_pages(&self, w: &mut Writes, core: &Core, descs: u64, pfns: std::ops::Range<u64>) {
        let pages: Vec<_> = core.pages.range(pfns).map(|(_, page)| page).collect();
        let zero_at = descs + 24 * pages.len() as u64;
        w.put(zero_at, &[0; PAGE]);
        let mut at = zero_at + PAGE as u64;
        let mut codecs = self.codecs.iter().copied().cycle();
        for (desc, page) in (descs..).step_by(24).zip(pages) {
            let codec = codecs.next().unwrap_or(Codec::Plain);
            // All pages of zeros have one place.
            let (offset, flag, size) = if page.iter().all(|&byte| byte == 0) {
                (zero_at, 0, PAGE)
            } else {
                let packed = codec.pack(page);
                let flag = packed.as_ref().map_or(0, |_| codec.flag());
                let bytes = packed.as_ref().unwrap_or(page);
                w.put(at, bytes);
                at += bytes.len() as u64;
                (at - bytes.len() as u64, flag, bytes.len())
            };
            w.number(desc, 8, offset);
            w.number(desc + 8, 4, size as u64);
            w.number(desc + 12, 4, flag.into());
            w.number(desc + 16, 8, 0);
        }
    }
}
