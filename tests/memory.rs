//! The same log from every kind of core file: whatever its headers look like and wherever its memory is mapped.

mod build;
mod reading;

use build::elf::{Options, Vaddrs};
use build::lockless::{Age, EndRule, Layout, Ring};
use build::tables::Tables;
use build::{Crash, Machine, Message};
use reading::{as_read, read_file};

/// A ring over several pages that has wrapped.
fn ring(machine: Machine) -> Ring {
    let mut ring = Ring::new(machine, 8, 14, EndRule::Exact);
    for n in 0..900 {
        ring.store(&Message::new(
            n * 1000,
            format!("message {n} {}", "x".repeat(n as usize % 50)),
        ));
    }
    ring
}

fn assert_read(crash: &Crash, options: &Options, ring: &Ring, what: &str) {
    let found = read_file(&options.write(crash)).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(found.lost, [], "{what}");
    assert_eq!(found.kept, as_read(ring.kept(), true), "{what}");
}

#[test]
fn page_tables_lead_to_the_log_where_program_headers_do_not() {
    for machine in [Machine::X86_64, Machine::X86_64_KASLR] {
        for levels in [4, 5] {
            for huge in [false, true] {
                for sme_mask in [0, 1 << 47] {
                    let tables = Tables {
                        levels,
                        huge,
                        sme_mask,
                    };
                    // With five levels the linear map and vmalloc lie elsewhere; the image does not.
                    let machine = Machine {
                        direct_va: if levels == 5 {
                            0xff11_0000_0000_0000
                        } else {
                            machine.direct_va
                        },
                        ..machine
                    };
                    let ring = ring(machine);
                    let mut crash = Crash::new(machine);
                    Layout::of(&machine, Age::First).place(&ring, &mut crash);
                    tables.add(&mut crash);
                    for vaddrs in [
                        Vaddrs::True,
                        Vaddrs::Zero,
                        Vaddrs::Physical,
                        Vaddrs::AllOnes,
                    ] {
                        let options = Options {
                            vaddrs,
                            ..Options::default()
                        };
                        let what = format!(
                            "{levels} levels, huge {huge}, sme {sme_mask:#x}, {:#x}",
                            machine.image_va
                        );
                        assert_read(&crash, &options, &ring, &what);
                    }
                }
            }
        }
    }
}

#[test]
fn a_log_whose_pages_lie_apart_is_put_together() {
    let machine = Machine::X86_64_KASLR;
    let ring = ring(machine);
    let mut crash = Crash::new(machine);
    let place = |crash: &mut Crash, len: u64, _| crash.place_scattered(len);
    Layout::of(&machine, Age::ExecutionContext).place_by(&ring, &mut crash, place);
    Tables::SMALL.add(&mut crash);
    assert_read(&crash, &Options::default(), &ring, "scattered");
}

#[test]
fn without_page_tables_formulas_and_program_headers_serve() {
    for machine in [
        Machine::X86_64,
        Machine::X86_64_KASLR,
        Machine::I386,
        Machine::I386_PAE,
        Machine::ARM,
        Machine::PPC,
        Machine::PPC64,
        Machine::S390,
    ] {
        let ring = ring(machine);
        let mut crash = Crash::new(machine);
        Layout::of(&machine, Age::First).place(&ring, &mut crash);
        assert_read(&crash, &Options::default(), &ring, &format!("{machine:?}"));
    }
    // Without KASLR the formulas alone are enough.
    let machine = Machine::X86_64;
    let ring = ring(machine);
    let mut crash = Crash::new(machine);
    Layout::of(&machine, Age::First).place(&ring, &mut crash);
    // Kernels that have the linear map here tell their number of levels.
    crash.key(format_args!("NUMBER(pgtable_l5_enabled)=0"));
    let options = Options {
        vaddrs: Vaddrs::Zero,
        ..Options::default()
    };
    assert_read(&crash, &options, &ring, "no virtual addresses");
}

#[test]
fn damaged_page_tables_do_not_hide_the_log() {
    let machine = Machine::X86_64_KASLR;
    let ring = ring(machine);
    let mut crash = Crash::new(machine);
    Layout::of(&machine, Age::First).place(&ring, &mut crash);
    let whole = crash.clone();
    Tables::SMALL.add(&mut crash);
    // The tables' own pages: not in the dump, zeros, or noise.
    let tables: Vec<u64> = crash
        .pages
        .keys()
        .filter(|page| !whole.pages.contains_key(page))
        .copied()
        .collect();
    assert!(tables.len() > 4);
    for damage in 0..3 {
        let mut crash = crash.clone();
        for page in &tables {
            match damage {
                0 => drop(crash.pages.remove(page)),
                1 => crash.pages.get_mut(page).unwrap().fill(0),
                _ => crash.pages.get_mut(page).unwrap().fill(0xa5),
            }
        }
        assert_read(
            &crash,
            &Options::default(),
            &ring,
            &format!("damage {damage}"),
        );
    }
}

#[test]
fn every_shape_of_headers_and_notes_is_read() {
    let shapes = [
        Options {
            page_by_page: true,
            ..Options::default()
        },
        Options {
            xnum: true,
            ..Options::default()
        },
        Options {
            notes_apart: true,
            cpus: 64,
            ..Options::default()
        },
        Options {
            device_dump: 3 << 20,
            ..Options::default()
        },
        Options {
            no_last_newline: true,
            cpus: 0,
            ..Options::default()
        },
    ];
    for machine in [Machine::X86_64, Machine::I386, Machine::PPC64, Machine::PPC] {
        let ring = ring(machine);
        let mut crash = Crash::new(machine);
        Layout::of(&machine, Age::LastFinalized).place(&ring, &mut crash);
        for (n, shape) in shapes.iter().enumerate() {
            assert_read(&crash, shape, &ring, &format!("{machine:?}, shape {n}"));
        }
    }
}

#[test]
fn keys_may_be_cut_repeated_unknown_or_negative() {
    let machine = Machine::X86_64_KASLR;
    let ring = ring(machine);
    let mut crash = Crash::new(machine);
    assert!(crash.info.contains("NUMBER(phys_base)=-"));
    Layout::of(&machine, Age::First).place(&ring, &mut crash);
    crash.info = crash.info.replace(
        "OFFSET(prb_desc.state_var)=0\n",
        "OFFSET(prb_desc.state_var)=77\nFOO(bar)=baz\n\n=\nOFFSET(prb_desc.state_var)=0\n",
    );
    crash.info += "CRASHTIME=1795289015\nSYMBOL(kallsyms_na";
    assert_read(&crash, &Options::default(), &ring, "odd keys");
}
