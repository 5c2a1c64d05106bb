//! Dumps of every layout from a small writer, which spells the layouts out on its own.

use super::*;
use crate::bytes::Word;
use alloc::string::String;

/// A file in memory.
pub(crate) struct Slice(pub(crate) Vec<u8>);

impl ReadAt for Slice {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let have = self.0.get(index(offset)..).unwrap_or_default();
        let short = Error::Truncated {
            what: "file",
            at: At::File(offset),
            need: wide(buf.len()),
            have: wide(have.len()),
        };
        buf.copy_from_slice(have.get(..buf.len()).ok_or(short)?);
        Ok(())
    }

    fn len(&self) -> Option<u64> {
        Some(wide(self.0.len()))
    }
}

const BLOCK: usize = 4096;
/// Page frames of the machine; those that are a multiple of three are stored, 9 as zlib, the last one is not memory.
const FRAMES: u64 = 100;

/// A layout to write.
#[derive(Clone, Copy)]
struct Kind {
    machine: &'static str,
    word: Word,
    big: bool,
    version: u32,
    split: Option<(u64, u64)>,
    /// One bitmap instead of two.
    single: bool,
}

const X86_64: Kind = Kind {
    machine: "x86_64",
    word: Word::W64,
    big: false,
    version: 6,
    split: None,
    single: false,
};

struct Writer(Vec<u8>, bool);

impl Writer {
    fn put(&mut self, at: usize, width: usize, value: u64) {
        let mut raw = value.to_le_bytes()[..width].to_vec();
        if self.1 {
            raw.reverse();
        }
        self.bytes(at, &raw);
    }

    fn bytes(&mut self, at: usize, bytes: &[u8]) {
        if self.0.len() < at + bytes.len() {
            self.0.resize(at + bytes.len(), 0);
        }
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }
}

/// What page frame `pfn` holds.
fn page(pfn: u64) -> Vec<u8> {
    let mut page = vec![b'a' + (pfn % 26) as u8; BLOCK];
    page[..8].copy_from_slice(&pfn.to_le_bytes());
    page
}

/// `page` as a zlib stream of one stored block.
fn zlib(page: &[u8]) -> Vec<u8> {
    let mut out = vec![0x78, 1, 1];
    out.extend((page.len() as u16).to_le_bytes());
    out.extend((!(page.len() as u16)).to_le_bytes());
    out.extend(page);
    let (a, b) = page.iter().fold((1_u32, 0), |(a, b), &byte| {
        let a = (a + u32::from(byte)) % 65521;
        (a, (a + b) % 65521)
    });
    out.extend((b << 16 | a).to_be_bytes());
    out
}

fn write(kind: Kind) -> Vec<u8> {
    let mut w = Writer(Vec::new(), kind.big);
    let wide_word = kind.word == Word::W64;
    let word = if wide_word { 8 } else { 4 };
    w.bytes(0, b"KDUMP   ");
    w.put(8, 4, kind.version.into());
    w.bytes(12 + 2 * 65, b"6.1.0-test");
    w.bytes(12 + 4 * 65, kind.machine.as_bytes());
    // timestamp, status, block_size, sub_hdr_size, bitmap_blocks, max_mapnr
    w.put(if wide_word { 408 } else { 404 }, word, 1_700_000_000);
    let status = if wide_word { 424 } else { 412 };
    let bitmaps = if kind.single { 1 } else { 2 };
    for (n, value) in [1, BLOCK as u64, 2, bitmaps, FRAMES]
        .into_iter()
        .enumerate()
    {
        w.put(status + 4 * n, 4, value);
    }
    w.0.resize(BLOCK, 0);
    // phys_base, dump_level, split, start_pfn, end_pfn, vmcoreinfo, notes, eraseinfo, start, end, max_mapnr
    let padded = !wide_word && !matches!(kind.machine, "i686" | "x86_64");
    let places: [usize; 11] = match (wide_word, padded) {
        (true, _) => [0, 8, 12, 16, 24, 32, 40, 48, 80, 88, 96],
        (false, false) => [0, 4, 8, 12, 16, 20, 28, 32, 56, 64, 72],
        (false, true) => [0, 4, 8, 12, 16, 24, 32, 40, 72, 80, 88],
    };
    let sub = places.map(|place| BLOCK + place);
    let text = b"OSRELEASE=6.1.0-test\n";
    w.put(sub[0], word, 0x20_0000);
    if kind.version >= 1 {
        w.put(sub[1], 4, 31);
    }
    let (start, end) = kind.split.unwrap_or((0, FRAMES));
    if kind.version >= 2 && kind.split.is_some() {
        w.put(sub[2], 4, 1);
        if kind.version < 6 {
            w.put(sub[3], word, start);
            w.put(sub[4], word, end);
        }
    }
    if kind.version >= 3 {
        w.put(sub[5], 8, 2 * BLOCK as u64);
        w.put(sub[6], word, text.len() as u64);
    }
    if kind.version >= 4 {
        w.put(sub[7], 8, 2 * BLOCK as u64 + 64);
        let size_note = sub[7] + 8;
        w.put(size_note, word, 12 + 8 + 4);
    }
    if kind.version >= 6 {
        w.put(sub[8], 8, start);
        w.put(sub[9], 8, end);
        w.put(sub[10], 8, FRAMES);
    }
    w.bytes(2 * BLOCK, text);
    let note = 2 * BLOCK + 64;
    w.put(note, 4, 5); // n_namesz
    w.put(note + 4, 4, 4); // n_descsz
    w.put(note + 8, 4, 7); // n_type
    w.bytes(note + 12, b"TEST\0\0\0\0abcd");
    let stored: Vec<u64> = (0..FRAMES - 1).filter(|pfn| pfn % 3 == 0).collect();
    let first = 3 * BLOCK;
    w.0.resize(first + bitmaps as usize * BLOCK, 0);
    for pfn in 0..FRAMES - 1 {
        let bit = |w: &mut Writer, at: usize| w.0[at + pfn as usize / 8] |= 1 << (pfn % 8);
        if !kind.single {
            bit(&mut w, first);
        }
        if stored.contains(&pfn) {
            let last = first + (bitmaps as usize - 1) * BLOCK;
            bit(&mut w, last);
        }
    }
    let mine: Vec<u64> = stored
        .into_iter()
        .filter(|pfn| (start..end).contains(pfn))
        .collect();
    let descs = w.0.len();
    w.0.resize(descs + mine.len() * 24, 0);
    for (n, &pfn) in mine.iter().enumerate() {
        let (flags, data) = if pfn % 9 == 0 {
            (1, zlib(&page(pfn)[..4000]))
        } else {
            (0, page(pfn))
        };
        let data = if flags == 1 {
            // A stored block is longer than a page, so this one ends in a second block of 96 repeated bytes.
            let mut data = data;
            data[2] = 0;
            data.truncate(7 + 4000);
            data.extend(run_of(&page(pfn)));
            data
        } else {
            data
        };
        let at = w.0.len();
        w.put(descs + n * 24, 8, at as u64);
        w.put(descs + n * 24 + 8, 4, data.len() as u64);
        w.put(descs + n * 24 + 12, 4, flags);
        w.bytes(at, &data);
    }
    w.0
}

/// A fixed-code block that copies 96 bytes from one byte back, and the Adler-32 of `page`.
fn run_of(page: &[u8]) -> Vec<u8> {
    // 3 bits of header, code 278 (83 to 98, four bits of 13), distance code 0, code 256
    let mut bits = String::from("110");
    bits.push_str("0010110"); // 278, highest bit first
    bits.push_str("1011"); // 13, lowest bit first
    bits.push_str("00000");
    bits.push_str("0000000");
    let mut out = Vec::new();
    for chunk in bits.as_bytes().chunks(8) {
        out.push((0..chunk.len()).fold(0, |byte, n| byte | (chunk[n] - b'0') << n));
    }
    out.extend(&zlib(page)[7 + page.len()..]);
    out
}

fn all_kinds() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for version in 0..=6 {
        for (machine, word, big) in [
            ("x86_64", Word::W64, false),
            ("i686", Word::W32, false),
            ("armv7l", Word::W32, false),
            ("s390x", Word::W64, true),
            ("ppc", Word::W32, true),
            ("", Word::W64, false),
        ] {
            kinds.push(Kind {
                machine,
                word,
                big,
                version,
                ..X86_64
            });
        }
    }
    kinds.push(Kind {
        single: true,
        ..X86_64
    });
    kinds
}

fn open(files: &[Slice]) -> Result<Kdump<'_>> {
    Kdump::open(files.iter().map(|file| Source::Plain(file)).collect())
}

#[test]
fn every_version_word_size_and_byte_order_is_read() {
    for kind in all_kinds() {
        let name = alloc::format!("{} version {}", kind.machine, kind.version);
        let files = [Slice(write(kind))];
        let dump = open(&files).expect(&name);
        let endian = if kind.big {
            Endian::Big
        } else {
            Endian::Little
        };
        assert_eq!(
            (dump.abi().word, dump.abi().endian),
            (kind.word, endian),
            "{name}"
        );
        assert_eq!(dump.header().release(), b"6.1.0-test", "{name}");
        assert_eq!(dump.header().timestamp, 1_700_000_000, "{name}");
        assert_eq!(
            dump.header().dump_level,
            (kind.version > 0).then_some(31),
            "{name}"
        );
        let info = dump.vmcoreinfo().ok();
        let expected = (kind.version > 2).then(|| b"OSRELEASE=6.1.0-test\n".to_vec());
        assert_eq!(info, expected, "{name}");
        let note = dump.notes().next().map(|note| note.kind);
        assert_eq!(note, (kind.version > 3).then_some(7), "{name}");
        for pfn in 0..FRAMES + 1 {
            let addr = PhysAddr(pfn * BLOCK as u64);
            let mut buf = vec![0; BLOCK];
            let read = dump.read_phys(addr, &mut buf);
            if pfn % 3 == 0 && pfn < FRAMES - 1 {
                assert_eq!(read, Ok(()), "{name} frame {pfn}");
                assert!(buf == page(pfn), "{name} frame {pfn}");
            } else {
                assert_eq!(read, Err(Error::NotInDump { addr }), "{name} frame {pfn}");
            }
        }
    }
}

#[test]
fn parts_of_a_split_dump_are_one_in_any_order() {
    let part = |start, end| {
        Slice(write(Kind {
            split: Some((start, end)),
            ..X86_64
        }))
    };
    let files = [part(60, 100), part(0, 30), part(30, 60)];
    let dump = open(&files).unwrap();
    assert_eq!(dump.missing_part(), None);
    for pfn in (0..FRAMES - 1).step_by(3) {
        let mut buf = [0; 16];
        dump.read_phys(PhysAddr(pfn * 4096 + 1), &mut buf).unwrap();
        assert_eq!(buf, page(pfn)[1..17], "frame {pfn}");
    }
    let two = open(&files[..2]).unwrap();
    assert_eq!(two.missing_part(), Some((30, 60)));
    assert!(two.read_phys(PhysAddr(33 * 4096), &mut [0]).is_err());
    let mut walk = Vec::new();
    let mut from = PhysAddr(0);
    while let Some(range) = two.next_stored(from) {
        walk.push(range.start.0 / 4096);
        from = range.start.wrapping_add(range.len);
    }
    let expected = (0..99).filter(|pfn| pfn % 3 == 0 && !(30..60).contains(pfn));
    assert_eq!(walk, expected.collect::<Vec<u64>>());
    let mixed = [part(0, 30), Slice(write(X86_64))];
    assert!(
        matches!(open(&mixed), Err(Error::Invalid { .. })),
        "not of the same dump"
    );
}

#[test]
fn what_is_stored_is_walked_in_order() {
    let files = [Slice(write(X86_64))];
    let dump = open(&files).unwrap();
    let range = |start, len| {
        Some(PhysRange {
            start: PhysAddr(start),
            len,
        })
    };
    assert_eq!(dump.next_stored(PhysAddr(0)), range(0, 4096));
    assert_eq!(dump.next_stored(PhysAddr(5)), range(5, 4091));
    assert_eq!(dump.next_stored(PhysAddr(4096)), range(3 * 4096, 4096));
    assert_eq!(dump.next_stored(PhysAddr(97 * 4096)), None);
    assert_eq!(dump.next_stored(PhysAddr(u64::MAX)), None);
}

#[test]
fn a_read_across_pages_stops_at_the_first_that_is_missing() {
    let files = [Slice(write(X86_64))];
    let dump = open(&files).unwrap();
    let hole = dump.read_phys(PhysAddr(3 * 4096 + 4000), &mut [0; 200]);
    assert_eq!(
        hole,
        Err(Error::NotInDump {
            addr: PhysAddr(4 * 4096)
        })
    );
}

#[test]
fn phys_base_tells_where_the_kernel_image_is() {
    let files = [Slice(write(X86_64))];
    let dump = open(&files).unwrap();
    let map = Segment {
        paddr: PhysAddr(0x20_0000),
        vaddr: Some(VirtAddr(0xffff_ffff_8000_0000)),
        len: 1 << 30,
    };
    assert_eq!(dump.segments(), &[map]);
}

#[test]
fn an_incomplete_dump_has_holes_where_descriptors_are_zero() {
    let mut file = write(X86_64);
    file[424] |= 8;
    let descs = 5 * BLOCK;
    file[descs + 24..descs + 48].fill(0);
    let files = [Slice(file)];
    let dump = open(&files).unwrap();
    assert!(dump.header().is_incomplete());
    let addr = PhysAddr(3 * 4096);
    assert_eq!(
        dump.read_phys(addr, &mut [0]),
        Err(Error::NotInDump { addr })
    );
    assert_eq!(dump.read_phys(PhysAddr(6 * 4096), &mut [0]), Ok(()));
}

#[test]
fn pages_of_the_wrong_size_or_of_unknown_compression_are_errors() {
    let descs = 5 * BLOCK;
    for (at, value, what) in [
        (8, 5000_u32, "size"),
        (8, 4095, "short"),
        (12, 0x20, "zstd"),
        (12, 0x3, "two"),
    ] {
        let mut file = write(X86_64);
        file[descs + 24 + at..descs + 24 + at + 4].copy_from_slice(&value.to_le_bytes());
        let files = [Slice(file)];
        let dump = open(&files).unwrap();
        let read = dump.read_phys(PhysAddr(3 * 4096), &mut [0]);
        assert!(
            matches!(read, Err(Error::Invalid { .. } | Error::Unsupported { .. })),
            "{what}: {read:?}"
        );
        assert_eq!(
            dump.read_phys(PhysAddr(6 * 4096), &mut [0]),
            Ok(()),
            "{what}"
        );
    }
}

#[test]
fn cut_files_and_flipped_bits_do_no_harm() {
    let file = write(X86_64);
    let walk = |file: Vec<u8>| {
        let files = [Slice(file)];
        let Ok(dump) = open(&files) else { return };
        let _ = dump.vmcoreinfo();
        let mut notes = dump.notes();
        while notes.next().is_some() {}
        let mut from = PhysAddr(0);
        for _ in 0..100 {
            let Some(range) = dump.next_stored(from) else {
                break;
            };
            let _ = dump.read_phys(range.start, &mut [0; 32]);
            from = range.start.wrapping_add(range.len);
        }
    };
    let ends = [
        0,
        7,
        8,
        455,
        456,
        BLOCK,
        BLOCK + 103,
        BLOCK + 104,
        2 * BLOCK + 70,
        3 * BLOCK,
        4 * BLOCK + 5,
        5 * BLOCK,
        5 * BLOCK + 30,
        file.len() - 1,
    ];
    for end in ends {
        walk(file[..end].to_vec());
    }
    let mut random = 88172645463325252_u64;
    for _ in 0..300 {
        let mut hurt = file.clone();
        for _ in 0..4 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            // Mostly the headers, where it matters most.
            let at = (random >> 8) as usize
                % if random & 1 == 0 {
                    2 * BLOCK + 100
                } else {
                    6 * BLOCK
                };
            hurt[at] ^= 1 << (random % 8);
        }
        walk(hurt);
    }
}

#[test]
fn ranks_are_right_beyond_the_first_window() {
    // 100000 frames, of which every seventh is stored, in one bitmap of 12500 bytes.
    let mut bits = vec![0_u8; 12500];
    (0..100_000)
        .step_by(7)
        .for_each(|pfn| bits[pfn / 8] |= 1 << (pfn % 8));
    let file = Slice(bits);
    for first in [0, 7 * 5000] {
        let mut bitmap = Bitmap::new(0, 12500, first);
        for pfn in [99_995_u64, 70_000, 70_007, 70_008, 35_000, 99_988, 40_005] {
            let expected = (pfn % 7 == 0).then(|| (pfn - first) / 7);
            assert_eq!(
                bitmap.rank(&file, pfn),
                Ok(expected),
                "frame {pfn} from {first}"
            );
        }
        assert_eq!(bitmap.rank(&file, 100_000), Ok(None));
    }
    let mut bitmap = Bitmap::new(0, 12500, 0);
    assert_eq!(bitmap.next_run(&file, 32_767, 100_000), Some((32_767, 1)));
    assert_eq!(bitmap.next_run(&file, 99_996, 100_000), None);
    assert_eq!(bitmap.next_run(&file, 1, 7), None);
}

#[test]
fn a_32_bit_kernel_in_a_64_bit_virtual_machine_is_known() {
    let narrow = Kind {
        word: Word::W32,
        ..X86_64
    };
    let files = [Slice(write(narrow))];
    let dump = open(&files).unwrap();
    assert_eq!(
        (dump.abi().machine, dump.abi().word),
        (Machine::I386, Word::W32)
    );
    assert!(dump.vmcoreinfo().is_ok(), "the packed sub header");
    // With memory above 4 GiB even the headers are those of x86_64.
    let mut file = write(X86_64);
    let text = b"SYMBOL(swapper_pg_dir)=c1a5e000\n";
    file[2 * BLOCK..2 * BLOCK + text.len()].copy_from_slice(text);
    file[BLOCK + 40] = text.len() as u8;
    let files = [Slice(file)];
    let dump = open(&files).unwrap();
    assert_eq!(
        (dump.abi().machine, dump.abi().word),
        (Machine::I386, Word::W32)
    );
    assert!(dump.segments().is_empty());
}

#[test]
fn an_absurd_number_of_frames_ends_with_the_bitmap() {
    let mut file = write(Kind {
        single: true,
        ..X86_64
    });
    file[BLOCK + 96..BLOCK + 104].fill(0x7f);
    let files = [Slice(file)];
    let dump = open(&files).unwrap();
    assert_eq!(dump.read_phys(PhysAddr(3 * 4096), &mut [0]), Ok(()));
    assert_eq!(dump.next_stored(PhysAddr(1 << 50)), None);
    assert!(dump.facts().stored > 0);
}
