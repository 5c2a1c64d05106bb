//! The writer of text that is not yet in the log: `cont` of kernels 3.5 to 5.9, and the buffers that each CPU had from
//! 4.7 to 5.14.

use super::Crash;

/// Adds the numbers of CPUs and their per-CPU areas, each of `len` bytes; answers where these are.
pub fn place_cpus(crash: &mut Crash, count: u64, len: u64) -> Vec<u64> {
    let word = crash.machine.word();
    crash.variable("nr_cpu_ids", 4, count);
    let table = crash.place_in_image(count * word, word);
    crash.key(format_args!("SYMBOL(__per_cpu_offset)={table:x}"));
    let areas: Vec<u64> = (0..count).map(|_| crash.place_in_ram(len, 4096)).collect();
    for (cpu, area) in (0..).zip(&areas) {
        crash.write_word(table + cpu * word, *area);
    }
    areas
}

/// Adds `name` at `offset` of the per-CPU areas; symbols of per-CPU variables are such offsets.
pub fn name_per_cpu(crash: &mut Crash, name: &str, offset: u64) {
    crash.key(format_args!("SYMBOL({name})={offset:x}"));
}

/// A layout of `struct printk_safe_seq_buf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// `struct nmi_seq_buf`, which does not count lost messages: 4.7 to 4.10.
    Nmi,
    /// The first with the new name: 4.11 to 5.11.
    Safe,
    /// `irq_work` has one more word: 5.12 to 5.14.
    IrqWait,
}

/// Writes a `struct printk_safe_seq_buf` at `at`.
pub fn write_seq_buf(crash: &mut Crash, at: u64, age: Age, lost: u64, text: &[u8]) {
    let word = crash.machine.word();
    crash.write_number(at, 4, text.len() as u64);
    let mut work = at + 4;
    if age != Age::Nmi {
        crash.write_number(work, 4, lost);
        work += 4;
    }
    // flags, llnode, func: the work is queued.
    let work = work.next_multiple_of(word);
    crash.write_word(work, 3);
    crash.write_word(work + 2 * word, crash.machine.image_va + 0x1230);
    let words = if age == Age::IrqWait { 4 } else { 3 };
    crash.write(work + words * word, text);
}

/// What `cont` holds.
#[derive(Clone, Copy, Debug)]
pub struct Cont<'t> {
    pub text: &'t [u8],
    pub ts_ns: u64,
    pub level: u8,
    /// Before 4.10: the bytes that the console has, and whether the line is in the log.
    pub old: Option<(u64, bool)>,
    /// True where callers are printed.
    pub callers: bool,
}

/// Places `cont`.
pub fn place_cont(crash: &mut Crash, cont: &Cont<'_>) -> u64 {
    let (word, align) = (crash.machine.word(), crash.machine.u64_align);
    let at = crash.place_in_image(1064, 32);
    let owner = crash.place_in_ram(4096, 4096);
    crash.key(format_args!("SYMBOL(cont)={at:x}"));
    crash.write(at, &[b'o'; 40]);
    crash.write(at, cont.text);
    let mut here = at + if cont.callers { 976 } else { 992 };
    let mut put = |crash: &mut Crash, len: u64, align: u64, value: u64| {
        here = here.next_multiple_of(align);
        crash.write_number(here, len, value);
        here += len;
    };
    put(crash, word, word, cont.text.len() as u64);
    if let Some((console, _)) = cont.old {
        put(crash, word, word, console);
    }
    if cont.callers {
        put(crash, 4, 4, 1 << 31 | 2);
    } else {
        put(crash, word, word, owner);
    }
    put(crash, 8, align, cont.ts_ns);
    put(crash, 1, 1, u64::from(cont.level));
    put(crash, 1, 1, 0);
    put(crash, 4, 4, 4);
    if let Some((_, flushed)) = cont.old {
        let bit = if crash.machine.big_endian { 0x80 } else { 1 };
        put(crash, 1, 1, u64::from(flushed) * bit);
    }
    at
}
