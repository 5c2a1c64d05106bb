//! The ELF core around a crashed machine, as `/proc/vmcore`, makedumpfile or QEMU would write it.

use super::crash::{Crash, PAGE};

/// What the program headers claim as virtual addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Vaddrs {
    /// Where the memory was mapped: the image by its own map, all by the linear map.
    True,
    /// 0 everywhere: old QEMU.
    Zero,
    /// The physical address: QEMU.
    Physical,
    /// All ones: kexec-tools for high memory.
    AllOnes,
}

/// The shape of the file.
#[derive(Clone)]
pub struct Options {
    /// See [`Vaddrs`].
    pub vaddrs: Vaddrs,
    /// Each page in a program header of its own.
    pub page_by_page: bool,
    /// The number of program headers is told by section header 0.
    pub xnum: bool,
    /// VMCOREINFO comes in a PT_NOTE of its own, last.
    pub notes_apart: bool,
    /// Leave the VMCOREINFO note out.
    pub no_vmcoreinfo: bool,
    /// CPUs with an NT_PRSTATUS.
    pub cpus: u32,
    /// Bytes of a device dump note before the CPUs' notes.
    pub device_dump: usize,
    /// The last line of VMCOREINFO lacks its newline.
    pub no_last_newline: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            vaddrs: Vaddrs::True,
            page_by_page: false,
            xnum: false,
            notes_apart: false,
            no_vmcoreinfo: false,
            cpus: 2,
            device_dump: 0,
            no_last_newline: false,
        }
    }
}

/// One program header.
struct Phdr {
    kind: u32,
    offset: u64,
    vaddr: u64,
    paddr: u64,
    filesz: u64,
}

impl Options {
    /// The file for `crash`.
    pub fn write(&self, crash: &Crash) -> Vec<u8> {
        let wide = crash.machine.elf_bits == 64;
        let (ehsize, phentsize, shentsize) = if wide { (64, 56, 64) } else { (52, 32, 40) };
        let runs = self.runs(crash);
        let notes = self.notes(crash);
        let per_run = if self.vaddrs == Vaddrs::True { 2 } else { 1 };
        let upper = notes.len() + per_run * runs.len();

        let mut phdrs = Vec::new();
        let mut body = Vec::new();
        let body_at = (ehsize + phentsize * upper as u64 + shentsize).next_multiple_of(PAGE);
        for note in &notes {
            phdrs.push(Phdr {
                kind: 4,
                offset: body_at + body.len() as u64,
                vaddr: 0,
                paddr: 0,
                filesz: note.len() as u64,
            });
            body.extend(note);
        }
        body.resize(body.len().next_multiple_of(PAGE as usize), 0);
        for (first, count) in runs {
            let (paddr, offset) = (first * PAGE, body_at + body.len() as u64);
            for vaddr in self.virtual_addresses(crash, paddr) {
                phdrs.push(Phdr {
                    kind: 1,
                    offset,
                    vaddr,
                    paddr,
                    filesz: count * PAGE,
                });
            }
            for page in first..first + count {
                body.extend_from_slice(&crash.pages[&page][..]);
            }
        }

        let mut out = self.header(crash, &phdrs, ehsize, phentsize, shentsize);
        out.resize(body_at as usize, 0);
        out.extend(body);
        out
    }

    fn virtual_addresses(&self, crash: &Crash, paddr: u64) -> Vec<u64> {
        let machine = &crash.machine;
        match self.vaddrs {
            Vaddrs::True => {
                let image = machine
                    .image_va
                    .wrapping_add(paddr - machine.image_pa.min(paddr));
                let direct = machine.direct_va + paddr;
                let mut all = if crash.in_image(paddr) {
                    vec![image]
                } else {
                    vec![]
                };
                // Where both maps are one, one header is enough.
                if !all.contains(&direct) {
                    all.push(direct);
                }
                all
            }
            Vaddrs::Zero => vec![0],
            Vaddrs::Physical => vec![paddr],
            Vaddrs::AllOnes => vec![u64::MAX],
        }
    }

    /// Runs of adjacent pages, cut where the kernel image starts and ends: (first page, count).
    fn runs(&self, crash: &Crash) -> Vec<(u64, u64)> {
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for &page in crash.pages.keys() {
            match runs.last_mut() {
                Some((first, count))
                    if !self.page_by_page
                        && *first + *count == page
                        && crash.in_image(*first * PAGE) == crash.in_image(page * PAGE) =>
                {
                    *count += 1;
                }
                _ => runs.push((page, 1)),
            }
        }
        runs
    }

    fn notes(&self, crash: &Crash) -> Vec<Vec<u8>> {
        let mut notes = Vec::new();
        if self.device_dump != 0 {
            notes.extend(note(crash, "LINUX", 0x700, &vec![0xa5; self.device_dump]));
        }
        let prstatus = match (crash.machine.e_machine, crash.machine.bits) {
            (3, _) => 144,
            (_, 32) => 268,
            _ => 336,
        };
        for cpu in 0..self.cpus {
            let mut status = vec![0; prstatus];
            let pid_at = if crash.machine.bits == 64 { 32 } else { 24 };
            crash.machine.set(&mut status, pid_at, 4, u64::from(cpu));
            notes.extend(note(crash, "CORE", 1, &status));
        }
        let mut text = crash.info.clone();
        if self.no_last_newline {
            text.pop();
        }
        let info = note(crash, "VMCOREINFO", 0, text.as_bytes());
        if self.no_vmcoreinfo {
            vec![notes]
        } else if self.notes_apart {
            vec![notes, info]
        } else {
            notes.extend(info);
            vec![notes]
        }
    }

    fn header(
        &self,
        crash: &Crash,
        phdrs: &[Phdr],
        ehsize: u64,
        phentsize: u64,
        shentsize: u64,
    ) -> Vec<u8> {
        let machine = &crash.machine;
        let wide = machine.elf_bits == 64;
        let word = u64::from(machine.elf_bits / 8);
        let mut out = vec![0x7f, b'E', b'L', b'F'];
        out.extend([
            if wide { 2 } else { 1 },
            if machine.big_endian { 2 } else { 1 },
            1,
        ]);
        out.resize(16, 0);
        let mut put = |value: u64, len: u64| out.extend(machine.raw(value, len));
        let count = phdrs.len() as u64;
        let xnum = self.xnum || count >= 0xffff;
        put(4, 2); // e_type: ET_CORE
        put(u64::from(machine.e_machine), 2);
        put(1, 4); // e_version
        put(0, word); // e_entry
        put(ehsize, word); // e_phoff
        put(if xnum { ehsize + phentsize * count } else { 0 }, word); // e_shoff
        put(0, 4); // e_flags
        put(ehsize, 2);
        put(phentsize, 2);
        put(if xnum { 0xffff } else { count }, 2); // e_phnum
        put(if xnum { shentsize } else { 0 }, 2);
        put(u64::from(xnum), 2); // e_shnum
        put(0, 2); // e_shstrndx
        for phdr in phdrs {
            put(u64::from(phdr.kind), 4);
            if wide {
                put(7, 4); // p_flags
            }
            for value in [
                phdr.offset,
                phdr.vaddr,
                phdr.paddr,
                phdr.filesz,
                phdr.filesz,
            ] {
                put(value, word);
            }
            if !wide {
                put(7, 4); // p_flags
            }
            put(0, word); // p_align
        }
        if xnum {
            // Section header 0: name, type, flags, addr, offset, size, link, then sh_info.
            put(0, 4);
            put(0, 4);
            for _ in 0..4 {
                put(0, word);
            }
            put(0, 4);
            put(count, 4);
            put(0, word);
            put(0, word);
        }
        out
    }
}

/// A note with name and contents padded to 4 bytes, in 64-bit files too.
fn note(crash: &Crash, name: &str, kind: u64, desc: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for value in [name.len() as u64 + 1, desc.len() as u64, kind] {
        out.extend(crash.machine.raw(value, 4));
    }
    out.extend(name.bytes());
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend(desc);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}
