//! Damage of every kind: dumps cut short, flipped bytes, rings with wild numbers in them.
//!
//! Nothing of it may end in a panic, a hang or a heap of memory, and what is not damaged must still be printed.

mod build;
mod data;
mod program;
mod reading;

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use build::lockless::layout::Placed;
use build::lockless::{Age, EndRule, Layout, Ring};
use build::{Crash, Machine, Message, Rng, bytes, elf, records};
use program::{crashdmesg, measure};
use reading::{Read, read, read_file};

/// Ends the whole test program when the work of a test takes too long: a hang must not look like a slow machine.
struct Limit {
    _alive: mpsc::Sender<()>,
}

fn limit(what: &'static str) -> Limit {
    let (alive, done) = mpsc::channel::<()>();
    thread::spawn(move || {
        if done.recv_timeout(Duration::from_secs(120 * rounds(1)))
            == Err(mpsc::RecvTimeoutError::Timeout)
        {
            eprintln!("{what}: does not end");
            std::process::abort();
        }
    });
    Limit { _alive: alive }
}

/// How often something random is tried: `few` times, or a hundred times that with `CRASHDMESG_SLOW` in the environment.
fn rounds(few: u64) -> u64 {
    match std::env::var_os("CRASHDMESG_SLOW") {
        Some(_) => few * 100,
        None => few,
    }
}

/// A ring with a few hundred records that has wrapped, on x86_64.
fn wrapped_ring() -> Ring {
    let mut ring = Ring::new(Machine::X86_64, 9, 14, EndRule::Exact);
    for n in 0..1500 {
        ring.store(&Message::new(
            n * 1000,
            format!("message {n} {}", "x".repeat(n as usize % 40)),
        ));
    }
    ring
}

fn place(ring: &Ring) -> (Crash, Placed) {
    let mut crash = Crash::new(ring.machine);
    let placed = Layout::of(&ring.machine, Age::LastFinalized).place(ring, &mut crash);
    (crash, placed)
}

/// Reads `crash`, and demands every record of `ring` but those whose slot is in `damaged`.
fn assert_undamaged(ring: &Ring, crash: &Crash, damaged: &BTreeSet<usize>, what: &str) -> Read {
    let found = read(crash).unwrap_or_else(|error| panic!("{what}: {error}"));
    let texts: BTreeSet<&[u8]> = found.kept.iter().map(|kept| &*kept.message.text).collect();
    let count = ring.descs.len() as u64;
    for kept in ring.kept() {
        let slot = (kept.seq.unwrap() % count) as usize;
        let text = &kept.message.text;
        if !damaged.contains(&slot) {
            assert!(
                texts.contains(&text[..]),
                "{what}: {} is gone",
                text.escape_ascii()
            );
        }
    }
    found
}

/// Slots of records that are there, of which each tenth is picked.
fn victims(ring: &Ring, rng: &mut Rng) -> BTreeSet<usize> {
    let live = (0..ring.descs.len()).filter(|&slot| ring.descs[slot].state_var >> 62 == 2);
    live.filter(|_| rng.below(10) == 0).collect()
}

#[test]
fn damaged_descriptors_cost_their_own_records_only() {
    let _limit = limit("damaged descriptors");
    let mut rng = Rng::new(1);
    for round in 0..20 {
        let mut ring = wrapped_ring();
        let clean = ring.clone();
        let damaged = victims(&ring, &mut rng);
        for &slot in &damaged {
            let desc = &mut ring.descs[slot];
            match round % 5 {
                0 => desc.state_var = rng.next(),
                1 => desc.begin = rng.next(),
                2 => desc.next = rng.next(),
                3 => (desc.begin, desc.next) = (rng.next() & !7, rng.next() & !7),
                _ => *desc = Default::default(),
            }
        }
        let (crash, _) = place(&ring);
        let found = assert_undamaged(&clean, &crash, &damaged, &format!("round {round}"));
        let shown = found.kept.len() + damaged.len();
        assert!(shown >= clean.kept().len(), "round {round}");
        // A record that is in doubt may be shown or reported; it must not vanish.
        assert!(
            found.kept.len() + found.lost.len() >= clean.kept().len(),
            "round {round}: vanished"
        );
    }
}

#[test]
fn damaged_infos_and_texts_cost_their_own_records_only() {
    let _limit = limit("damaged infos");
    let mut rng = Rng::new(2);
    for round in 0..20 {
        let ring = wrapped_ring();
        let damaged = victims(&ring, &mut rng);
        let (mut crash, placed) = place(&ring);
        for &slot in &damaged {
            let info = placed.infos + slot as u64 * placed.info_size;
            let text =
                placed.data + ring.text_at(ring.descs[slot].state_var & (u64::MAX >> 2)) as u64;
            match round % 4 {
                0 => (0..placed.info_size / 8)
                    .for_each(|n| crash.write_word(info + 8 * n, rng.next())),
                1 => crash.write_number(info + 16, 2, 0xffff), // text_len
                2 => crash.write_word(text - 8, rng.next()),   // the block's id
                _ => crash.write_word(text, rng.next()),
            }
        }
        let found = assert_undamaged(&ring, &crash, &damaged, &format!("round {round}"));
        assert!(
            found.kept.len() + found.lost.len() >= ring.kept().len(),
            "round {round}: vanished"
        );
    }
}

#[test]
fn wild_head_and_tail_ids_cost_nothing() {
    let _limit = limit("wild ids");
    let mut rng = Rng::new(3);
    let clean = wrapped_ring();
    for round in 0..40 {
        let mut ring = clean.clone();
        let wild = match round % 4 {
            0 => rng.next(),
            1 => ring.head_id.wrapping_add(rng.below(1 << 20)),
            2 => ring.tail_id.wrapping_sub(rng.below(1 << 20)),
            _ => rng.pick(&[0, 1, u64::MAX, u64::MAX >> 2, 1 << 62, 1 << 63]),
        };
        match round % 3 {
            0 => ring.head_id = wild,
            1 => ring.tail_id = wild,
            _ => (ring.head_id, ring.tail_id) = (wild, rng.next()),
        }
        let (crash, _) = place(&ring);
        assert_undamaged(
            &clean,
            &crash,
            &BTreeSet::new(),
            &format!("round {round}, {wild:#x}"),
        );
    }
}

#[test]
fn a_size_that_cannot_be_is_taken_from_the_other_ring() {
    let _limit = limit("sizes");
    let clean = wrapped_ring();
    for wild in [0, 27, 32, 63, 64, 1 << 31, u32::MAX] {
        for which in 0..2 {
            let mut ring = clean.clone();
            if which == 0 {
                ring.count_bits = wild
            } else {
                ring.size_bits = wild
            }
            let (crash, _) = place(&ring);
            assert_undamaged(
                &clean,
                &crash,
                &BTreeSet::new(),
                &format!("{which}: {wild}"),
            );
        }
    }
}

#[test]
fn a_missing_page_costs_what_is_in_it() {
    let _limit = limit("missing pages");
    let ring = wrapped_ring();
    let (whole, placed) = place(&ring);
    let overlaps = |start: u64, len: u64, page: u64| start < page + 4096 && start + len > page;
    let pages = |start: u64, len: u64| (start & !4095..start + len).step_by(4096);
    let count = ring.descs.len() as u64;
    let all = pages(
        placed.descs,
        placed.data + ring.data.len() as u64 - placed.descs,
    );
    for page in all {
        let mut crash = whole.clone();
        crash.leave_out(page, 4096);
        let live = |&slot: &u64| ring.descs[slot as usize].state_var >> 62 == 2;
        let damaged = (0..count).filter(live).filter(|&slot| {
            let desc = ring.descs[slot as usize];
            let text = placed.data + (ring.text_at(desc.state_var & (u64::MAX >> 2)) as u64 - 8);
            overlaps(
                placed.descs + slot * placed.desc_size,
                placed.desc_size,
                page,
            ) || overlaps(
                placed.infos + slot * placed.info_size,
                placed.info_size,
                page,
            ) || overlaps(
                text,
                u64::from(ring.infos[slot as usize].text_len) + 8,
                page,
            )
        });
        let damaged: BTreeSet<usize> = damaged.map(|slot| slot as usize).collect();
        let found = assert_undamaged(&ring, &crash, &damaged, &format!("page {page:#x}"));
        let vanished = ring.kept().len() as i64 - (found.kept.len() + found.lost.len()) as i64;
        assert!(vanished <= 0, "page {page:#x}: {vanished} vanished");
        assert!(
            damaged.is_empty() || !found.lost.is_empty(),
            "page {page:#x}: nothing is said"
        );
    }
}

#[test]
fn a_damaged_structured_record_costs_itself_only() {
    let _limit = limit("structured records");
    let mut rng = Rng::new(4);
    for machine in [Machine::X86_64, Machine::I386, Machine::PPC64] {
        let layout = records::Layout::of(&machine, "printk_log", false);
        let mut ring = records::Ring::new(machine, layout, 16384);
        for n in 0..1000 {
            ring.store(&Message::new(
                n * 1000,
                format!("message {n} {}", "x".repeat(n as usize % 40)),
            ));
        }
        let indices = ring.indices();
        for round in 0..60 {
            let victim = rng.below(indices.len() as u64) as usize;
            let mut broken = ring.clone();
            let at = indices[victim] + [layout.len, layout.text_len, layout.dict_len][round % 3];
            let wild = if round < 30 {
                rng.below(1 << 16)
            } else {
                rng.pick(&[1, 2, 0xfff8, 0xffff, 4])
            };
            machine.set(&mut broken.data, at, 2, wild);
            let mut crash = Crash::new(machine);
            broken.place(&mut crash);
            let what = format!(
                "{machine:?}, round {round}, record {victim} of {}, {wild:#x}",
                indices.len()
            );
            let found = read(&crash).unwrap_or_else(|error| panic!("{what}: {error}"));
            let texts: BTreeSet<&[u8]> =
                found.kept.iter().map(|kept| &*kept.message.text).collect();
            for (n, kept) in ring.kept().iter().enumerate() {
                let text = &kept.message.text;
                assert!(
                    n == victim || texts.contains(&text[..]),
                    "{what}: {} is gone",
                    text.escape_ascii()
                );
            }
        }
    }
}

#[test]
fn wild_indices_of_a_structured_log_cost_little() {
    let _limit = limit("indices");
    let machine = Machine::X86_64;
    let layout = records::Layout::of(&machine, "printk_log", false);
    let mut ring = records::Ring::new(machine, layout, 16384);
    for n in 0..1000 {
        ring.store(&Message::numbered(n));
    }
    let all = ring.kept().len();
    for wild in [
        1,
        7,
        16384,
        16385,
        1 << 20,
        u64::from(u32::MAX),
        ring.first_idx + 4,
    ] {
        for which in 0..2 {
            let mut broken = ring.clone();
            if which == 0 {
                broken.first_idx = wild
            } else {
                broken.next_idx = wild
            }
            let mut crash = Crash::new(machine);
            broken.place(&mut crash);
            let texts: BTreeSet<String> = read(&crash).unwrap().texts().into_iter().collect();
            let is_there = |text: &[u8]| texts.contains(&*String::from_utf8_lossy(text));
            let kept = ring.kept();
            let left = kept
                .iter()
                .filter(|kept| is_there(&kept.message.text))
                .count();
            assert!(left + 3 >= all, "{which}: {wild:#x}: {left} of {all}");
        }
    }
}

#[test]
fn a_wild_end_of_a_byte_ring_costs_little() {
    let _limit = limit("byte rings");
    let mut rng = Rng::new(5);
    let mut ring = bytes::Ring::new(8192);
    for n in 0..600 {
        ring.print(&Message::numbered(n));
    }
    let all: BTreeSet<String> = ring
        .whole_lines()
        .iter()
        .map(|line| line.escape_ascii().to_string())
        .collect();
    for _ in 0..50 {
        let mut broken = ring.clone();
        broken.log_end = 8192 + rng.below(u64::from(u32::MAX - 8192)) as u32;
        let mut crash = Crash::new(Machine::X86_64);
        broken.place(&mut crash);
        let found = read(&crash).unwrap().kept.len();
        assert!(
            found + 2 >= all.len(),
            "{:#x}: {found} of {}",
            broken.log_end,
            all.len()
        );
    }
}

#[test]
fn a_log_of_unknown_length_is_read_as_far_as_it_goes() {
    let _limit = limit("lengths");
    let machine = Machine::X86_64;
    let mut ring = records::Ring::new(machine, records::Layout::of(&machine, "log", false), 8192);
    let mut text = bytes::Ring::new(8192);
    for n in 0..400 {
        ring.store(&Message::numbered(n));
        text.print(&Message::numbered(n));
    }
    for len in [0, 3, 100, (1 << 31) + 1, u64::from(u32::MAX)] {
        let mut crash = Crash::new(machine);
        ring.place(&mut crash);
        crash.variable("log_buf_len", 4, len);
        let found = read(&crash).unwrap().kept.len();
        assert_eq!(found, ring.kept().len(), "records, {len}");
        let mut crash = Crash::new(machine);
        text.place(&mut crash);
        crash.variable("log_buf_len", 4, len);
        // Where the newest line meets the oldest, both are in doubt.
        let found = read(&crash).unwrap().kept.len();
        assert!(
            found + 2 >= text.whole_lines().len(),
            "characters, {len}: {found}"
        );
    }
}

/// A small dump of each generation.
fn one_of_each() -> Vec<Vec<u8>> {
    let options = elf::Options::default();
    let mut dumps = Vec::new();
    let (mut crash, _) = place(&wrapped_ring());
    build::tables::Tables::SMALL.add(&mut crash);
    dumps.push(options.write(&crash));
    let machine = Machine::PPC;
    let mut ring = records::Ring::new(
        machine,
        records::Layout::of(&machine, "printk_log", true),
        8192,
    );
    let mut text = bytes::Ring::new(8192);
    for n in 0..400 {
        ring.store(&Message::numbered(n));
        text.print(&Message::numbered(n));
    }
    let mut crash = Crash::new(machine);
    ring.place(&mut crash);
    dumps.push(options.write(&crash));
    let mut crash = Crash::new(Machine::I386);
    text.place(&mut crash);
    dumps.push(options.write(&crash));
    dumps
}

/// Every offset at which some structure of an ELF core starts or ends, found apart from the reader.
fn boundaries(file: &[u8]) -> BTreeSet<usize> {
    let wide = file[4] == 2;
    let big = file[5] == 2;
    let number = |at: usize, len: usize| {
        let mut raw = file[at..at + len].to_vec();
        if !big {
            raw.reverse();
        }
        raw.iter()
            .fold(0_usize, |value, &byte| value << 8 | usize::from(byte))
    };
    let (phoff, count) = if wide {
        (number(32, 8), number(56, 2))
    } else {
        (number(28, 4), number(44, 2))
    };
    let size = if wide { 56 } else { 32 };
    let mut cuts: BTreeSet<usize> = (0..=64).collect();
    let mut pages = BTreeSet::new();
    for n in 0..count {
        let at = phoff + n * size;
        let (offset, filesz) = if wide {
            (number(at + 8, 8), number(at + 32, 8))
        } else {
            (number(at + 4, 4), number(at + 16, 4))
        };
        cuts.extend([at, at + size, offset, offset + filesz]);
        if number(at, 4) == 4 {
            pages.extend((offset..offset + filesz).step_by(101));
        } else {
            pages.extend((offset..offset + filesz).step_by(4096));
        }
    }
    // Pages are cut at their start; where a structure starts or ends, a byte less and a byte more count too.
    let near = cuts
        .iter()
        .flat_map(|&cut| [cut.saturating_sub(1), cut, cut + 1]);
    let cuts = near.chain(pages.iter().copied());
    cuts.filter(|&cut| cut < file.len()).collect()
}

#[test]
fn a_dump_cut_anywhere_gives_an_error_or_what_is_left() {
    let _limit = limit("cuts");
    let mut files = one_of_each();
    for name in ["o34", "o419"] {
        files.extend(data::dump(name).map(|path| fs::read(path).unwrap()));
    }
    for (n, file) in files.iter().enumerate() {
        let whole = read_file(file).unwrap().kept.len();
        let mut cut_short = 0;
        for cut in boundaries(file) {
            if let Ok(found) = read_file(&file[..cut]) {
                assert!(found.kept.len() <= whole + 1, "cut at {cut}");
                cut_short += usize::from(found.kept.len() < whole);
            }
        }
        assert!(cut_short > 0, "file {n}: no cut was felt");
    }
}

#[test]
fn flipped_bytes_give_an_error_or_what_is_left() {
    let _limit = limit("flips");
    let mut rng = Rng::new(6);
    for file in one_of_each() {
        for round in 0..rounds(200) {
            let mut broken = file.clone();
            // Where it hurts most: headers and notes; then anywhere.
            let range = if round % 2 == 0 {
                5000
            } else {
                file.len() as u64
            };
            for _ in 0..=rng.below(8) {
                let at = rng.below(range) as usize;
                broken[at] = match rng.below(3) {
                    0 => broken[at] ^ (1 << rng.below(8)),
                    1 => rng.pick(&[0, 0xff, 0x7f, 0x80]),
                    _ => rng.next() as u8,
                };
            }
            let _ = read_file(&broken);
        }
    }
}

/// Runs the program on a dump and demands that it ends in time, in little memory, and not by a signal.
fn assert_bounded(crash: &Crash, what: &str) {
    let path = data::scratch_file("robust.vmcore");
    fs::write(&path, elf::Options::default().write(crash)).unwrap();
    let begin = Instant::now();
    let mut command = crashdmesg(["--log"]);
    command.arg(&path);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let Some((status, cost)) = measure(&mut command, false) else {
        return;
    };
    let elapsed = begin.elapsed();
    assert!(status.code().is_some(), "{what}: {status}");
    let peak = cost.peak_kib;
    assert!(peak <= 8 << 10, "{what}: {peak} KiB");
    assert!(elapsed < Duration::from_secs(30), "{what}: {elapsed:?}");
    fs::remove_file(path).unwrap();
}

#[test]
fn damaged_rings_end_in_seconds_and_in_8_mib() {
    let _limit = limit("bounds");
    let mut rng = Rng::new(7);
    // The largest sizes that pass for sizes, of rings that are far smaller.
    for (count_bits, size_bits) in [(26, 31), (24, 14), (9, 31), (26, 14), (20, 25)] {
        let mut ring = wrapped_ring();
        (ring.count_bits, ring.size_bits) = (count_bits, size_bits);
        assert_bounded(
            &place(&ring).0,
            &format!("{count_bits} and {size_bits} bits"),
        );
        (ring.head_id, ring.tail_id) = (rng.next(), rng.next());
        assert_bounded(
            &place(&ring).0,
            &format!("{count_bits} and {size_bits} bits, wild ids"),
        );
    }
    let mut ring = wrapped_ring();
    for slot in 0..ring.descs.len() {
        ring.descs[slot].state_var = rng.next();
    }
    assert_bounded(&place(&ring).0, "nothing but random descriptors");
    // The descriptors are the text, and the ring is its own pointer.
    let (mut crash, placed) = place(&wrapped_ring());
    for at in [8, 16] {
        crash.write_word(placed.rb + at, placed.data);
    }
    assert_bounded(&crash, "descriptors in the text");
    crash.variable("prb", 8, placed.rb + 8);
    assert_bounded(&crash, "a pointer into the ring");

    for len in [1 << 31, 1 << 30, u64::from(u32::MAX), 0, 3] {
        let machine = Machine::X86_64;
        let mut ring =
            records::Ring::new(machine, records::Layout::of(&machine, "log", false), 8192);
        let mut text = bytes::Ring::new(8192);
        for n in 0..400 {
            ring.store(&Message::numbered(n));
            text.print(&Message::numbered(n));
        }
        let mut crash = Crash::new(machine);
        ring.place(&mut crash);
        crash.variable("log_buf_len", 4, len);
        assert_bounded(&crash, &format!("log_buf_len {len} of records"));
        let mut crash = Crash::new(machine);
        text.log_end = u32::MAX;
        text.place(&mut crash);
        crash.variable("log_buf_len", 4, len);
        assert_bounded(&crash, &format!("log_buf_len {len} of characters"));
    }
}
