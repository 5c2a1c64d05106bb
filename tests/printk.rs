//! The three printk generations, as their writers leave them: what was written must be read back, whatever the word
//! size, the byte order and the layout.

mod build;
mod reading;

use build::lockless::{self, Age, COMMITTED, EndRule, FINALIZED, Layout, Ring};
use build::{Crash, Machine, Message, Rng, bytes, records};
use crashdmesg::printk::LostKind;
use reading::{Read, as_read, read};

const MACHINES: &[Machine] = &[
    Machine::X86_64,
    Machine::X86_64_KASLR,
    Machine::I386,
    Machine::I386_PAE,
    Machine::ARM,
    Machine::PPC,
    Machine::PPC64,
    Machine::S390,
];

/// A lockless ring of `1 << count_bits` descriptors and `1 << size_bits` bytes on x86_64.
fn ring(count_bits: u32, size_bits: u32, rule: EndRule) -> Ring {
    Ring::new(Machine::X86_64, count_bits, size_bits, rule)
}

fn read_ring(ring: &Ring) -> Read {
    let mut crash = Crash::new(ring.machine);
    Layout::of(&ring.machine, Age::LastFinalized).place(ring, &mut crash);
    read(&crash).unwrap()
}

/// Reads `ring` and demands what it holds, and nothing lost.
fn assert_whole(ring: &Ring) {
    let found = read_ring(ring);
    assert_eq!(found.kept, as_read(ring.kept(), true));
    assert_eq!(found.lost, []);
}

#[test]
fn an_empty_lockless_ring_has_no_entries() {
    for &machine in MACHINES {
        assert_whole(&Ring::new(machine, 5, 10, EndRule::Exact));
    }
}

#[test]
fn one_record_is_read_with_everything_that_was_stored() {
    for &machine in MACHINES {
        let mut ring = Ring::new(machine, 5, 10, EndRule::Exact);
        let message = Message {
            level: 3,
            facility: 1,
            caller: 1 << 31 | 7,
            subsystem: "pci".into(),
            device: "+pci:0000:00:03.0".into(),
            ..Message::new(1_234_567_890, "one record")
        };
        assert!(ring.store(&message));
        assert_whole(&ring);
        assert_eq!(read_ring(&ring).kept[0].message, message);
    }
}

#[test]
fn random_records_are_read_back_from_wrapped_lockless_rings() {
    let mut rng = Rng::new(0x5eed);
    for &machine in MACHINES {
        for (age, rule) in [
            (Age::First, EndRule::Strict),
            (Age::LastFinalized, EndRule::Exact),
            (Age::ExecutionContext, EndRule::Exact),
        ] {
            let (count_bits, size_bits) = (rng.pick(&[5, 7, 8]), rng.pick(&[12, 13, 14]));
            let mut ring = Ring::new(machine, count_bits, size_bits, rule);
            for n in 0..2000 {
                write_randomly(&mut ring, &mut rng, n * 1_000_000);
                if n % 500 == 250 {
                    compare(&ring, &Layout::of(&machine, age));
                }
            }
            compare(&ring, &Layout::of(&machine, age));
            compare(&ring, &Layout::shuffled(&machine, age, &mut rng));
        }
    }
}

/// One step of a kernel's life: a message, part of a line, or more of one.
fn write_randomly(ring: &mut Ring, rng: &mut Rng, ts_ns: u64) {
    let message = Message::random(rng, ts_ns, 700);
    match rng.below(8) {
        0 => ring.store_open(&message),
        1 => {
            let caller = ring.infos[ring.slot(ring.head_id)].message.caller;
            let newline = rng.below(2) == 0;
            ring.extend(caller, &message.text, newline)
        }
        2 => {
            let spare = rng.below(40);
            ring.store_in(&message, message.text.len() as u64 + spare)
        }
        _ => ring.store(&message),
    };
}

fn compare(ring: &Ring, layout: &Layout) {
    let mut crash = Crash::new(ring.machine);
    layout.place(ring, &mut crash);
    let found = read(&crash).unwrap();
    let expected = as_read(ring.kept(), true);
    assert_eq!(
        found.kept.len(),
        expected.len(),
        "{:?} {layout:?}",
        ring.machine
    );
    for (found, expected) in found.kept.iter().zip(&expected) {
        assert_eq!(found, expected, "{:?} {layout:?}", ring.machine);
    }
    // A record that did not fit is lost to the kernel's own readers too, and nothing else is.
    for lost in &found.lost {
        assert!(matches!(lost, LostKind::Dropped { .. }), "{lost:?}");
    }
}

/// The kept record whose block ends where the ring ends.
fn at_ring_end(ring: &Ring) -> Option<usize> {
    let size = 1_u64 << ring.size_bits;
    let ends = |desc: &lockless::Desc| desc.begin & 1 == 0 && desc.next.is_multiple_of(size);
    let live = |desc: &lockless::Desc| {
        let state = desc.state_var >> (ring.word_bits - 2);
        state == COMMITTED || state == FINALIZED
    };
    ring.descs.iter().position(|desc| live(desc) && ends(desc))
}

#[test]
fn a_block_that_ends_exactly_at_the_end_of_the_ring_has_its_own_text() {
    for &machine in MACHINES {
        // Blocks of 64 bytes fill a ring of 1 KiB without a rest, so the last of each lap ends at its end.
        let len = 64 - machine.word() as usize;
        let mut ring = Ring::new(machine, 6, 10, EndRule::Exact);
        let mut seen = 0;
        for n in 0..100_u64 {
            ring.store(&Message::new(n * 1000, format!("{n:0len$}")));
            seen += u32::from(at_ring_end(&ring).is_some());
            assert_whole(&ring);
        }
        assert!(seen > 50, "the case came up {seen} times");
    }
}

#[test]
fn a_block_that_would_end_exactly_at_the_end_was_moved_by_older_kernels() {
    let mut ring = ring(6, 10, EndRule::Strict);
    for n in 0..100_u64 {
        ring.store(&Message::new(n * 1000, format!("{n:056}")));
        assert!(at_ring_end(&ring).is_none());
        assert_whole(&ring);
    }
}

#[test]
fn a_wrapped_block_is_read_from_the_start_of_the_ring() {
    for rule in [EndRule::Strict, EndRule::Exact] {
        let mut ring = ring(6, 10, rule);
        let mut wrapped = 0;
        for n in 0..200_u64 {
            ring.store(&Message::new(n, "x".repeat(100 + n as usize % 50)));
            let last = ring.descs[ring.slot(ring.head_id)];
            wrapped += u32::from(ring.is_wrapped(last.begin, last.next));
            assert_whole(&ring);
        }
        assert!(wrapped > 10, "blocks wrapped {wrapped} times");
    }
}

#[test]
fn a_record_without_text_is_an_empty_line() {
    let mut ring = ring(6, 12, EndRule::Exact);
    for text in ["before", "", "after"] {
        ring.store(&Message::new(5, text));
    }
    assert_whole(&ring);
    assert_eq!(read_ring(&ring).texts(), ["before", "", "after"]);
}

#[test]
fn a_record_whose_text_found_no_room_is_reported_and_the_others_stay() {
    let mut ring = ring(6, 10, EndRule::Strict);
    ring.store(&Message::new(1, "before"));
    // A CPU stands still in its reservation: the ring cannot be recycled beyond it.
    let open = ring.reserve(8).unwrap();
    for n in 0..12 {
        ring.store(&Message::new(n, "y".repeat(100)));
    }
    ring.fill(open, &Message::new(3, "in time"), 2);
    ring.commit(open);
    let found = read_ring(&ring);
    assert_eq!(found.kept, as_read(ring.kept(), true));
    assert!(found.lost.len() >= 3, "{:?}", found.lost);
    assert!(
        found
            .lost
            .iter()
            .all(|lost| matches!(lost, LostKind::Dropped { .. }))
    );
}

#[test]
fn a_record_that_was_being_written_is_reported_with_its_salvage() {
    let mut ring = ring(6, 12, EndRule::Exact);
    ring.store(&Message::new(1, "before"));
    let open = ring.reserve(32).unwrap();
    ring.fill(open, &Message::new(2, "half of"), 2);
    ring.store(&Message::new(3, "after"));
    let at_head = ring.reserve(16).unwrap();
    let found = read_ring(&ring);
    assert_eq!(found.texts(), ["before", "after"]);
    let ids = [open.id, at_head.id].map(|id| LostKind::Unfinished { id });
    assert_eq!(found.lost, ids);
    assert_eq!(found.salvage[0], b"half of");
}

#[test]
fn of_a_line_that_was_being_continued_the_part_before_is_certain() {
    for &machine in MACHINES {
        let mut ring = Ring::new(machine, 6, 12, EndRule::Exact);
        ring.store(&Message::new(1, "before"));
        let open = Message::new(2_000_000, "a line");
        ring.store_open(&open);
        ring.extend(open.caller, b", more", false);
        // The CPU died between taking room for more and saying that there is more.
        let slot = ring.slot(ring.head_id);
        ring.descs[slot].state_var = ring.state_var(ring.head_id, lockless::RESERVED);
        ring.infos[slot].text_len = 6;
        let found = read_ring(&ring);
        assert_eq!(found.texts(), ["before"]);
        assert_eq!(found.salvage, [b"a line, more"]);
        assert_eq!(found.begun, [Some((open.ts_ns, b"a line".to_vec()))]);
        // A new reservation has no length yet, and a wrong one is not believed.
        for wrong in [0, 60_000] {
            ring.infos[slot].text_len = wrong;
            assert_eq!(read_ring(&ring).begun, [None]);
        }
    }
}

#[test]
fn a_committed_record_counts_and_a_continued_one_is_one_record() {
    let mut ring = ring(6, 10, EndRule::Exact);
    let open = Message::new(1, "a line");
    ring.store_open(&open);
    assert!(ring.extend(open.caller, b", more of it", false));
    assert!(!ring.extend(open.caller + 1, b"of another caller", false));
    assert_eq!(read_ring(&ring).texts(), ["a line, more of it"]);
    assert!(ring.extend(open.caller, b", the end", true));
    ring.store_open(&Message::new(2, "unfinished"));
    assert_eq!(
        read_ring(&ring).texts(),
        ["a line, more of it, the end", "unfinished"]
    );
    assert_whole(&ring);
}

#[test]
fn a_continued_record_may_grow_over_the_end_of_the_ring() {
    for rule in [EndRule::Strict, EndRule::Exact] {
        let mut ring = ring(6, 10, rule);
        let mut moved = 0;
        for n in 0..300_u64 {
            let message = Message::new(n, format!("message {n} "));
            ring.store_open(&message);
            let before = ring.descs[ring.slot(ring.head_id)];
            ring.extend(message.caller, &[b'z'; 60], true);
            let after = ring.descs[ring.slot(ring.head_id)];
            moved += u32::from(
                ring.is_wrapped(after.begin, after.next)
                    && !ring.is_wrapped(before.begin, before.next),
            );
            assert_whole(&ring);
        }
        assert!(moved > 5, "{moved}");
    }
}

#[test]
fn thousands_of_reusable_descriptors_may_precede_the_first_record() {
    let mut ring = ring(13, 12, EndRule::Exact);
    for n in 0..7000 {
        ring.store(&Message::numbered(n));
    }
    let kept = ring.kept().len();
    assert!((50..200).contains(&kept), "{kept}");
    assert_whole(&ring);
}

#[test]
fn ids_and_positions_wrap_around_in_32_bits() {
    for machine in [Machine::I386, Machine::PPC, Machine::ARM] {
        for rule in [EndRule::Strict, EndRule::Exact] {
            // 2^30 ids and 2^32 bytes, a little before their ends.
            let (id, lpos) = ((1 << 30) - 33, (1 << 32) - 2048);
            let mut ring = Ring::starting_at(machine, 5, 10, rule, id, lpos);
            let mut rng = Rng::new(32);
            for n in 0..400 {
                ring.store(&Message::random(&mut rng, n, 60));
                // Every step near the turn, then now and then.
                if n < 60 || n % 8 == 0 {
                    assert_whole_but_dropped(&ring);
                }
            }
            assert!(ring.head_id < 1000 && ring.head_lpos < 100_000);
        }
    }
}

fn assert_whole_but_dropped(ring: &Ring) {
    compare(ring, &Layout::of(&ring.machine, Age::First));
}

#[test]
fn ids_and_positions_wrap_around_in_64_bits() {
    let (id, lpos) = ((1 << 62) - 33, 0_u64.wrapping_sub(2048));
    let mut ring = Ring::starting_at(Machine::X86_64, 5, 10, EndRule::Exact, id, lpos);
    for n in 0..400 {
        ring.store(&Message::new(n, "w".repeat(n as usize % 90)));
        assert_whole_but_dropped(&ring);
    }
    assert!(ring.head_id < 1000 && ring.head_lpos < 100_000);
}

#[test]
fn a_text_longer_than_its_block_is_cut_at_the_block() {
    let mut ring = ring(6, 12, EndRule::Exact);
    for n in 0..3 {
        ring.store(&Message::numbered(n));
    }
    let slot = ring.slot(ring.head_id - 1);
    ring.infos[slot].text_len = 60_000;
    let found = read_ring(&ring);
    // "message 1" and the padding of its block, never what follows.
    assert_eq!(found.kept[1].message.text, b"message 1\0\0\0\0\0\0\0");
    assert_eq!(found.kept[2].message.text, b"message 2");
}

#[test]
fn a_block_of_another_record_is_reported_and_not_printed() {
    let mut ring = ring(6, 12, EndRule::Exact);
    for n in 0..5 {
        ring.store(&Message::numbered(n));
    }
    let id = ring.head_id - 2;
    let at = ring.text_at(id) - 8;
    ring.data[at..at + 8].copy_from_slice(&(id + 4096).to_le_bytes());
    let found = read_ring(&ring);
    assert_eq!(
        found.texts(),
        ["message 0", "message 1", "message 3", "message 4"]
    );
    assert!(matches!(found.lost[..], [LostKind::Damaged { id: lost, .. }] if lost == id));
}

#[test]
fn a_cpu_that_died_taking_a_descriptor_leaves_the_rest_readable() {
    for stored in [10, 200] {
        let mut ring = ring(6, 12, EndRule::Exact);
        for n in 0..stored {
            ring.store(&Message::numbered(n));
        }
        let expected = ring.kept();
        // head_id is advanced first, the descriptor is written after that.
        let old = ring.descs.clone();
        ring.reserve(0).unwrap();
        let slot = ring.slot(ring.head_id);
        let freed = ring.descs[slot].begin & 1 == 1;
        ring.descs[slot] = old[slot];
        assert!(freed);
        let found = read_ring(&ring).kept;
        let tail = &expected[expected.len() - found.len()..];
        assert_eq!(found, as_read(tail.to_vec(), true));
        assert!(expected.len() - found.len() <= 1);
    }
}

#[test]
fn the_static_ring_serves_when_the_pointer_to_the_current_one_is_wild() {
    for wild in [0, 0x10, u64::MAX - 7, 0xffff_8000_dead_0000] {
        let mut ring = ring(6, 12, EndRule::Exact);
        ring.store(&Message::numbered(1));
        let mut crash = Crash::new(ring.machine);
        Layout::of(&ring.machine, Age::First).place(&ring, &mut crash);
        crash.variable("prb", 8, wild);
        assert_eq!(read(&crash).unwrap().texts(), ["message 1"]);
    }
}

/// The structured log in each of its names and layouts.
fn record_layouts(machine: &Machine) -> [records::Layout; 3] {
    [("log", false), ("printk_log", false), ("printk_log", true)]
        .map(|(name, with_caller)| records::Layout::of(machine, name, with_caller))
}

fn compare_records(ring: &records::Ring) {
    let mut crash = Crash::new(ring.machine);
    ring.place(&mut crash);
    let found = read(&crash).unwrap();
    let has_caller = ring.layout.caller_id.is_some();
    let expected = as_read(ring.kept(), has_caller);
    assert_eq!(
        found.kept, expected,
        "{:?} {:?}",
        ring.machine, ring.layout.name
    );
    assert_eq!(found.lost, []);
}

#[test]
fn random_records_are_read_back_from_wrapped_structured_logs() {
    let mut rng = Rng::new(419);
    for &machine in MACHINES {
        for layout in record_layouts(&machine) {
            let mut ring = records::Ring::new(machine, layout, 8192);
            compare_records(&ring);
            for n in 0..1500 {
                let message = Message::random(&mut rng, n * 1_000_000, 900);
                ring.store_flagged(&message, rng.pick(&[2, 2, 2, 0, 8, 10, 6]));
                if n % 300 == 0 {
                    compare_records(&ring);
                }
            }
            compare_records(&ring);
        }
    }
}

#[test]
fn the_marker_at_the_end_of_a_structured_log_is_no_record() {
    // Every way in which the last record before the end can lie: texts of all lengths, a ring that wraps often.
    for machine in [Machine::X86_64, Machine::I386, Machine::PPC64] {
        for layout in record_layouts(&machine) {
            for len in 0..70 {
                let mut ring = records::Ring::new(machine, layout, 1024);
                for n in 0..60 {
                    ring.store(&Message::new(n, "m".repeat(len)));
                }
                compare_records(&ring);
            }
        }
    }
}

#[test]
fn a_dictionary_of_a_structured_record_is_not_text() {
    let machine = Machine::X86_64;
    let mut ring = records::Ring::new(machine, records::Layout::of(&machine, "log", false), 1024);
    let message = Message {
        subsystem: "usb".into(),
        device: "c189:1".into(),
        ..Message::new(7, "two\nlines")
    };
    ring.store(&message);
    compare_records(&ring);
    let mut crash = Crash::new(machine);
    ring.place(&mut crash);
    let found = &read(&crash).unwrap().kept[0].message;
    assert_eq!((&*found.subsystem, &*found.device), ("usb", "c189:1"));
}

/// Reads a byte ring; the texts are compared line by line, as such rings know no records.
fn compare_bytes(ring: &bytes::Ring, machine: Machine) -> Read {
    let mut crash = Crash::new(machine);
    ring.place(&mut crash);
    let found = read(&crash).unwrap();
    let lines: Vec<String> = found
        .kept
        .iter()
        .map(|kept| {
            let message = &kept.message;
            let us = message.ts_ns / 1000;
            let number = u32::from(message.facility) * 8 + u32::from(message.level);
            let prefix = format!("<{number}>[{:5}.{:06}] ", us / 1_000_000, us % 1_000_000);
            prefix + &message.text.escape_ascii().to_string()
        })
        .collect();
    let expected: Vec<String> = ring
        .whole_lines()
        .iter()
        .map(|line| line.escape_ascii().to_string())
        .collect();
    assert_eq!(
        lines.len(),
        expected.len(),
        "{machine:?}, first {:?}",
        lines.first()
    );
    for (line, expected) in lines.iter().zip(&expected) {
        assert_eq!(line, expected, "{machine:?}");
    }
    found
}

#[test]
fn random_lines_are_read_back_from_wrapped_byte_rings() {
    let mut rng = Rng::new(2632);
    for &machine in MACHINES {
        let mut ring = bytes::Ring::new(4096);
        assert_eq!(compare_bytes(&ring, machine), Read::default());
        for n in 0..600 {
            ring.print(&Message::random(&mut rng, n * 1_000_000, 300));
            if n % 100 == 3 {
                compare_bytes(&ring, machine);
            }
        }
        compare_bytes(&ring, machine);
    }
}

#[test]
fn the_cut_first_line_of_a_byte_ring_is_reported_apart() {
    let mut ring = bytes::Ring::new(1024);
    for n in 0..100 {
        ring.print(&Message::numbered(n));
    }
    let cut = ring
        .text()
        .split(|&byte| byte == b'\n')
        .next()
        .unwrap()
        .len() as u64;
    assert!(cut > 0);
    let found = compare_bytes(&ring, Machine::X86_64);
    assert_eq!(found.lost, [LostKind::CutLine { len: cut }]);
}

#[test]
fn a_byte_ring_that_is_exactly_full_has_lost_nothing() {
    let mut ring = bytes::Ring::new(1024);
    ring.print(&Message::new(0, "first"));
    let rest = 1024 - ring.text().len() - "<6>[    0.000000] \n".len();
    ring.print(&Message::new(0, "f".repeat(rest)));
    assert_eq!(ring.log_end, 1024);
    let found = compare_bytes(&ring, Machine::X86_64);
    assert_eq!((found.kept.len(), found.lost.len()), (2, 0));
}

#[test]
fn the_count_of_characters_may_have_wrapped_around() {
    for after in [0_u32, 1, 100, 3000] {
        let mut ring = bytes::Ring::new(4096);
        ring.log_end = 0_u32.wrapping_sub(16384);
        let mut n = 0;
        while ring.log_end > 16384 || ring.log_end < after {
            ring.print(&Message::numbered(n));
            n += 1;
        }
        compare_bytes(&ring, Machine::X86_64);
    }
}

#[test]
fn what_was_cleared_by_dmesg_is_still_read() {
    let mut ring = bytes::Ring::new(4096);
    for n in 0..20 {
        ring.print(&Message::numbered(n));
        if n == 10 {
            ring.clear();
        }
    }
    assert_eq!(compare_bytes(&ring, Machine::X86_64).kept.len(), 20);
}

#[test]
fn lines_without_level_or_time_are_lines_too() {
    let mut ring = bytes::Ring::new(4096);
    ring.print_raw(b"<4>no time\nneither\n<6>[    1.000000] last line, not ended");
    let mut crash = Crash::new(Machine::X86_64);
    ring.place(&mut crash);
    let found = read(&crash).unwrap();
    assert_eq!(
        found.texts(),
        ["no time", "neither", "last line, not ended"]
    );
    let levels: Vec<u8> = found.kept.iter().map(|kept| kept.message.level).collect();
    assert_eq!(levels, [4, u8::MAX, 6]);
}
