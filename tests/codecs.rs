//! The page decoders against the encoders that people use: zlib (through Python), `gzip`, `lzop`, `zstd`, and a small
//! Snappy writer of our own. An encoder that is not installed is skipped aloud.

use std::io::Write;
use std::process::{Command, Stdio};

use crashdmesg::dump::codec::{Result, inflate, lzo, snappy, zstd};

/// Pseudo-random numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize
    }
}

/// Pages of every texture that the block types are made for.
fn pages() -> Vec<Vec<u8>> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut pages = vec![
        vec![0; 4096],
        vec![0xa5; 65536],
        (0..=255).cycle().take(4096).collect(),
    ];
    pages.push((0..4096).map(|_| random.next() as u8).collect());
    pages.push((0..65536).map(|_| (random.next() % 5) as u8).collect());
    for size in [4096, 8192, 65536] {
        let mut text = Vec::new();
        while text.len() < size {
            let line = match random.next() % 4 {
                0 => format!(
                    "[{:5}.{:06}] usb 1-{}: new device\n",
                    random.next() % 9999,
                    random.next() % 999_999,
                    random.next() % 9
                ),
                1 => format!(
                    "Call Trace: {:#018x} func+{:#x}/0x90\n",
                    random.next(),
                    random.next() % 144
                ),
                2 => "x".repeat(random.next() % 300),
                _ => text
                    .get(text.len() / 3..text.len() / 2)
                    .map(|part| String::from_utf8_lossy(part).into())
                    .unwrap_or_default(),
            };
            text.extend(line.bytes().filter(u8::is_ascii));
        }
        pages.push(text[..size].to_vec());
        // Pointers, small numbers and holes, as in slabs.
        let slab = (0..size / 8).flat_map(|_| {
            match random.next() % 5 {
                0 => 0xffff_8880_0000_0000 + (random.next() as u64 & 0xf_fff8),
                1 => random.next() as u64 & 0xff,
                2 => random.next() as u64,
                _ => 0,
            }
            .to_le_bytes()
        });
        pages.push(slab.collect());
        // Noise, repeated from far away.
        let noise: Vec<u8> = (0..size / 2 + 1).map(|_| random.next() as u8).collect();
        pages.push(noise.iter().chain(&noise).copied().take(size).collect());
        // A few symbols with very uneven frequencies make long codes.
        pages.push(
            (0..size)
                .map(|_| (random.next() as u64 | 1 << 40).trailing_zeros() as u8)
                .collect(),
        );
    }
    pages
}

/// What `command` makes of `input`, or `None` when it is not installed.
fn filter(command: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let child = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("skipped: {} is not installed", command[0]);
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "{command:?} failed");
    Some(output.stdout)
}

/// All pages with their lengths before them, for an encoder that runs once.
fn framed(pages: &[Vec<u8>]) -> Vec<u8> {
    pages
        .iter()
        .flat_map(|page| {
            (page.len() as u32)
                .to_le_bytes()
                .into_iter()
                .chain(page.clone())
        })
        .collect()
}

fn unframed(mut data: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    while let Some((len, rest)) = data.split_first_chunk::<4>() {
        let (part, rest) = rest.split_at(u32::from_le_bytes(*len) as usize);
        parts.push(part.to_vec());
        data = rest;
    }
    parts
}

/// Checks that `packed` gives `page`, and that neither a cut nor a changed byte does harm.
fn check(
    decompress: fn(&[u8], &mut [u8]) -> Result<usize>,
    packed: &[u8],
    page: &[u8],
    what: &str,
) {
    let mut out = vec![0x5a; page.len()];
    assert_eq!(decompress(packed, &mut out), Ok(page.len()), "{what}");
    assert!(out == page, "{what}: the page is another one");
    if !page.is_empty() {
        let mut short = vec![0; page.len() - 1];
        assert!(
            decompress(packed, &mut short).is_err(),
            "{what}: more than a page is accepted"
        );
    }
    let mut random = Random(packed.len() as u64 | 1);
    for _ in 0..if page.len() > 4096 { 1 } else { 4 } {
        let cut = random.next() % packed.len();
        assert!(
            decompress(&packed[..cut], &mut out).is_err(),
            "{what}: cut at {cut} is accepted"
        );
        let mut changed = packed.to_vec();
        changed[cut] ^= 1 << (random.next() % 8);
        let _ = decompress(&changed, &mut out);
    }
}

#[test]
fn zlib_pages_of_every_level_and_strategy_are_inflated() {
    // Strategies: default, filtered, Huffman only, run lengths, fixed codes. Level 0 stores; 9 bits is the least window.
    let script = "import sys,struct,zlib\n\
        d=sys.stdin.buffer.read()\n\
        while d:\n\
        \x20n,=struct.unpack('<I',d[:4]); p=d[4:4+n]; d=d[4+n:]\n\
        \x20for level in (0,1,9):\n\
        \x20 for strategy in range(5):\n\
        \x20  for bits in (9,15):\n\
        \x20   c=zlib.compressobj(level,8,bits,8 if bits==15 else 1,strategy)\n\
        \x20   half=c.compress(p[:n//3])+c.flush(zlib.Z_FULL_FLUSH if bits==9 else zlib.Z_BLOCK)\n\
        \x20   z=half+c.compress(p[n//3:])+c.flush()\n\
        \x20   sys.stdout.buffer.write(struct.pack('<I',len(z))+z)\n";
    let pages = pages();
    let Some(packed) = filter(&["python3", "-c", script], &framed(&pages)) else {
        return;
    };
    let packed = unframed(&packed);
    assert_eq!(packed.len(), pages.len() * 30);
    for (n, packed) in packed.iter().enumerate() {
        check(
            inflate::decompress,
            packed,
            &pages[n / 30],
            &format!("page {}, variant {}", n / 30, n % 30),
        );
    }
}

#[test]
fn a_page_deflated_by_gzip_is_inflated() {
    for (n, page) in pages().iter().enumerate() {
        let Some(file) = filter(&["gzip", "-c", "-9"], page) else {
            return;
        };
        // The deflate data stand between a header of ten bytes and a trailer of eight; zlib's own go around them.
        let mut packed = vec![0x78, 0x9c];
        packed.extend(&file[10..file.len() - 8]);
        let (a, b) = page.iter().fold((1_u64, 0), |(a, b), &byte| {
            (
                (a + u64::from(byte)) % 65521,
                (a + b + u64::from(byte)) % 65521,
            )
        });
        packed.extend(((b << 16 | a) as u32).to_be_bytes());
        check(inflate::decompress, &packed, page, &format!("page {n}"));
    }
}

#[test]
fn zstd_frames_of_every_level_are_decoded() {
    let pages = pages();
    for args in [
        vec!["--fast=5"],
        vec!["-1"],
        vec!["-3", "--no-check"],
        vec!["-9"],
        vec!["-19"],
        vec!["-19", "--single-thread", "--zstd=wlog=10,strat=9"],
        vec!["-5", "--no-check", "--target-compressed-block-size=1500"],
        vec!["-4", "--no-compress-literals"],
        vec!["-3", "--compress-literals", "--zstd=strat=1,minMatch=7"],
    ] {
        for (n, page) in pages.iter().enumerate() {
            let command: Vec<&str> = ["zstd", "-q", "-c", "--ultra"]
                .iter()
                .chain(&args)
                .copied()
                .collect();
            let Some(packed) = filter(&command, page) else {
                return;
            };
            check(
                zstd::decompress,
                &packed,
                page,
                &format!("page {n} {args:?}"),
            );
        }
    }
}

#[test]
fn several_zstd_blocks_share_their_tables_and_distances() {
    // Blocks of at most 128 KiB: a megabyte has many, so that tables are repeated and literals have no tree of their own.
    let page: Vec<u8> = pages().concat().into_iter().cycle().take(1 << 20).collect();
    for args in [
        ["zstd", "-q", "-c", "-1"],
        ["zstd", "-q", "-c", "-6"],
        ["zstd", "-q", "-c", "-16"],
    ] {
        let Some(packed) = filter(&args, &page) else {
            return;
        };
        check(zstd::decompress, &packed, &page, &format!("{args:?}"));
        let mut two = b"\x5a\x2a\x4d\x18\x03\0\0\0abc".to_vec();
        two.extend(&packed);
        check(zstd::decompress, &two, &page, "after a frame to skip");
    }
}

#[test]
fn lzo_blocks_of_lzop_are_decoded() {
    for level in ["-1", "-3", "-9"] {
        for (n, page) in pages().iter().enumerate() {
            let Some(file) = filter(&["lzop", "-c", level], page) else {
                return;
            };
            // magic 9, version 2, library 2, needed 2, method 1, level 1, flags 4, mode 4, times 8, name 1, checksum 4
            let block = &file[9 + 2 + 2 + 2 + 1 + 1 + 4 + 4 + 8 + 1 + 4..];
            let size =
                |at: usize| u32::from_be_bytes(block[at..at + 4].try_into().unwrap()) as usize;
            assert_eq!(size(0), page.len());
            if size(4) == size(0) {
                continue; // Stored.
            }
            // Both sizes and one Adler-32 of the page; of the packed data too when flag 2 is set.
            let packed = &block[12..12 + size(4)];
            check(lzo::decompress, packed, page, &format!("page {n} {level}"));
        }
    }
}

/// Packs greedily with all kinds of elements, `wide` of which are used where a shorter one would do.
fn snappy_pack(page: &[u8], wide: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut size = page.len();
    while size > 127 {
        out.push(size as u8 | 128);
        size >>= 7;
    }
    out.push(size as u8);
    let literal = |out: &mut Vec<u8>, bytes: &[u8]| {
        let (Some(n), more) = (bytes.len().checked_sub(1), wide % 5) else {
            return;
        };
        let need = if n < 60 {
            0
        } else if n < 256 {
            1
        } else {
            2
        };
        match need.max(more.min(4)) {
            0 => out.push((n as u8) << 2),
            k => {
                out.push((59 + k as u8) << 2);
                out.extend(&(n as u32).to_le_bytes()[..k]);
            }
        }
        out.extend(bytes);
    };
    let mut seen = std::collections::HashMap::new();
    let (mut at, mut done) = (0, 0);
    while at + 4 <= page.len() {
        let before = seen.insert(&page[at..at + 4], at);
        let Some(from) = before else {
            at += 1;
            continue;
        };
        let len = (0..64.min(page.len() - at))
            .take_while(|&n| page[from + n] == page[at + n])
            .count();
        literal(&mut out, &page[done..at]);
        let distance = at - from;
        if len < 12 && distance < 2048 && wide < 5 {
            out.push(1 | ((len - 4) as u8) << 2 | ((distance >> 8) as u8) << 5);
            out.push(distance as u8);
        } else if distance < 65536 && wide < 10 {
            out.push(2 | ((len - 1) as u8) << 2);
            out.extend((distance as u16).to_le_bytes());
        } else {
            out.push(3 | ((len - 1) as u8) << 2);
            out.extend((distance as u32).to_le_bytes());
        }
        at += len;
        done = at;
    }
    literal(&mut out, &page[done..]);
    out
}

#[test]
fn snappy_blocks_with_every_kind_of_element_are_decoded() {
    for (n, page) in pages().iter().enumerate() {
        for wide in [0, 1, 3, 5, 9, 14] {
            check(
                snappy::decompress,
                &snappy_pack(page, wide),
                page,
                &format!("page {n}, variant {wide}"),
            );
        }
    }
}

#[test]
fn noise_and_damage_end_in_errors() {
    let mut random = Random(42);
    let mut page = vec![0; 4096];
    for decompress in [
        inflate::decompress,
        lzo::decompress,
        snappy::decompress,
        zstd::decompress,
    ] {
        assert!(decompress(&[], &mut page).is_err());
        for _ in 0..4000 {
            let mut noise: Vec<u8> = (0..random.next() % 200)
                .map(|_| random.next() as u8)
                .collect();
            let _ = decompress(&noise, &mut page);
            noise.splice(..0, [0x78, 0x9c]);
            let _ = decompress(&noise, &mut page);
            noise.splice(..2, [0x28, 0xb5, 0x2f, 0xfd, 0x20, 0xff]);
            let _ = decompress(&noise, &mut page);
        }
    }
}
