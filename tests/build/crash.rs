//! A machine that crashed: its memory, where things are mapped, and what it says of itself in VMCOREINFO.

use std::collections::BTreeMap;
use std::fmt::Write;

/// Bytes in a page.
pub const PAGE: u64 = 4096;

/// How a machine lays out data and memory.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Its ELF `e_machine`.
    pub e_machine: u16,
    /// Bits of a word.
    pub bits: u32,
    /// Most significant byte first.
    pub big_endian: bool,
    /// The class of the ELF core; a 32-bit kernel may be dumped into a 64-bit one.
    pub elf_bits: u32,
    /// Alignment of a 64-bit integer in a structure.
    pub u64_align: u64,
    /// Virtual address of the start of the kernel image.
    pub image_va: u64,
    /// Its physical address.
    pub image_pa: u64,
    /// Virtual address of physical address 0 in the linear map.
    pub direct_va: u64,
}

impl Machine {
    /// x86_64 without KASLR.
    pub const X86_64: Machine = Machine {
        e_machine: 62,
        bits: 64,
        big_endian: false,
        elf_bits: 64,
        u64_align: 8,
        image_va: 0xffff_ffff_8100_0000,
        image_pa: 0x0100_0000,
        direct_va: 0xffff_8880_0000_0000,
    };
    /// x86_64 with everything that KASLR moves moved.
    pub const X86_64_KASLR: Machine = Machine {
        image_va: 0xffff_ffff_a5c0_0000,
        image_pa: 0x1bc0_0000,
        direct_va: 0xffff_9a3d_c000_0000,
        ..Machine::X86_64
    };
    /// i386 in a 32-bit core.
    pub const I386: Machine = Machine {
        e_machine: 3,
        bits: 32,
        big_endian: false,
        elf_bits: 32,
        u64_align: 4,
        image_va: 0xc100_0000,
        image_pa: 0x0100_0000,
        direct_va: 0xc000_0000,
    };
    /// i386 in a 64-bit core, as with PAE.
    pub const I386_PAE: Machine = Machine {
        elf_bits: 64,
        ..Machine::I386
    };
    /// 32-bit ARM, where a 64-bit integer is aligned to 8.
    pub const ARM: Machine = Machine {
        e_machine: 40,
        u64_align: 8,
        ..Machine::I386
    };
    /// 32-bit PowerPC, big-endian.
    pub const PPC: Machine = Machine {
        e_machine: 20,
        big_endian: true,
        u64_align: 8,
        ..Machine::I386
    };
    /// 64-bit PowerPC, big-endian.
    pub const PPC64: Machine = Machine {
        e_machine: 21,
        big_endian: true,
        image_va: 0xc000_0000_0100_0000,
        direct_va: 0xc000_0000_0000_0000,
        ..Machine::X86_64
    };
    /// s390x before 6.10: big-endian, virtual addresses are physical ones.
    pub const S390: Machine = Machine {
        e_machine: 22,
        big_endian: true,
        image_va: 0x0100_0000,
        direct_va: 0,
        ..Machine::X86_64
    };

    /// Bytes of a word.
    pub fn word(&self) -> u64 {
        u64::from(self.bits / 8)
    }

    /// The lowest `len` bytes of `value` in the machine's byte order.
    pub fn raw(&self, value: u64, len: u64) -> Vec<u8> {
        let len = len as usize;
        if self.big_endian {
            value.to_be_bytes()[8 - len..].to_vec()
        } else {
            value.to_le_bytes()[..len].to_vec()
        }
    }

    /// Writes `value` as a field of `len` bytes at `offset` of a structure.
    pub fn set(&self, structure: &mut [u8], offset: u64, len: u64, value: u64) {
        let at = offset as usize;
        structure[at..at + len as usize].copy_from_slice(&self.raw(value, len));
    }
}

/// The memory of a machine at its crash.
#[derive(Clone)]
pub struct Crash {
    /// What kind of machine it was.
    pub machine: Machine,
    /// Physical pages by page number; what is not here is not in the dump.
    pub pages: BTreeMap<u64, Box<[u8; PAGE as usize]>>,
    /// The text of VMCOREINFO.
    pub info: String,
    /// Pages mapped where no linear map has them: virtual to physical page number.
    pub scattered: BTreeMap<u64, u64>,
    next_image: u64,
    next_ram: u64,
    next_vmalloc: u64,
}

impl Crash {
    /// The release that every synthetic kernel has.
    pub const RELEASE: &str = "6.99.0-synthetic";

    /// A machine with nothing but its name in memory.
    pub fn new(machine: Machine) -> Self {
        Self::with_release(machine, Self::RELEASE)
    }

    /// The same with a kernel of that release.
    pub fn with_release(machine: Machine, release: &str) -> Self {
        let mut crash = Crash {
            machine,
            pages: BTreeMap::new(),
            info: String::new(),
            scattered: BTreeMap::new(),
            next_image: machine.image_pa + PAGE,
            next_ram: 0x0400_0000,
            next_vmalloc: 0xffff_c900_0001_0000,
        };
        crash.key(format_args!("OSRELEASE={release}"));
        crash.key(format_args!("PAGESIZE={PAGE}"));
        let uts = crash.place_in_image(400, 8);
        for (index, name) in ["Linux", "host", release, "#1 SMP", "machine", "domain"]
            .iter()
            .enumerate()
        {
            crash.write(uts + 65 * index as u64, name.as_bytes());
        }
        crash.key(format_args!("SYMBOL(init_uts_ns)={uts:x}"));
        crash.key(format_args!("OFFSET(uts_namespace.name)=0"));
        crash.key(format_args!("SYMBOL(_stext)={:x}", machine.image_va));
        if machine.e_machine == Machine::X86_64.e_machine {
            let linked_at = machine.image_va.wrapping_sub(0xffff_ffff_8000_0000);
            let phys_base = machine.image_pa.wrapping_sub(linked_at) as i64;
            crash.key(format_args!("NUMBER(phys_base)={phys_base}"));
            let offset = machine.image_va - 0xffff_ffff_8100_0000;
            crash.key(format_args!("KERNELOFFSET={offset:x}"));
        }
        crash
    }

    /// Adds what makedumpfile insists on knowing of the memory map, although the log does not need it.
    pub fn add_memory_map(&mut self) {
        let map = self.place_in_ram(PAGE, PAGE);
        self.variable("mem_map", self.machine.word(), map);
        self.key(format_args!("SIZE(page)=64"));
        for (member, offset) in [
            ("flags", 0),
            ("lru", 8),
            ("mapping", 24),
            ("private", 40),
            ("_mapcount", 48),
            ("_refcount", 52),
        ] {
            self.key(format_args!("OFFSET(page.{member})={offset}"));
        }
    }

    /// Adds a line to VMCOREINFO.
    pub fn key(&mut self, line: std::fmt::Arguments) {
        writeln!(self.info, "{line}").unwrap();
    }

    /// Finds room in the kernel image, where the linker puts variables.
    pub fn place_in_image(&mut self, len: u64, align: u64) -> u64 {
        let pa = self.next_image.next_multiple_of(align);
        self.next_image = pa + len;
        self.touch(pa, len);
        self.machine.image_va + (pa - self.machine.image_pa)
    }

    /// Finds room in RAM, where memblock puts large rings; the answer lies in the linear map.
    pub fn place_in_ram(&mut self, len: u64, align: u64) -> u64 {
        let pa = self.next_ram.next_multiple_of(align);
        self.next_ram = pa + len;
        self.touch(pa, len);
        self.machine.direct_va + pa
    }

    /// Finds room whose pages lie backwards in RAM, so that only page tables lead to them.
    pub fn place_scattered(&mut self, len: u64) -> u64 {
        let count = len.div_ceil(PAGE);
        let va = self.next_vmalloc;
        self.next_vmalloc += (count + 1) * PAGE;
        let ram = self.place_in_ram(count * PAGE, PAGE) - self.machine.direct_va;
        for n in 0..count {
            self.scattered
                .insert(va / PAGE + n, ram / PAGE + count - 1 - n);
        }
        va
    }

    fn touch(&mut self, pa: u64, len: u64) {
        for page in pa / PAGE..(pa + len).div_ceil(PAGE) {
            self.pages
                .entry(page)
                .or_insert_with(|| Box::new([0; PAGE as usize]));
        }
    }

    /// The physical address of `va`.
    pub fn physical(&self, va: u64) -> u64 {
        let image = va.wrapping_sub(self.machine.image_va);
        if let Some(page) = self.scattered.get(&(va / PAGE)) {
            page * PAGE + va % PAGE
        } else if image < 0x1000_0000 {
            self.machine.image_pa + image
        } else {
            va.wrapping_sub(self.machine.direct_va)
        }
    }

    /// True when physical address `pa` belongs to the kernel image.
    pub fn in_image(&self, pa: u64) -> bool {
        (self.machine.image_pa..self.next_image.next_multiple_of(PAGE)).contains(&pa)
    }

    /// Writes bytes at a virtual address that was placed before.
    pub fn write(&mut self, va: u64, bytes: &[u8]) {
        let (mut va, mut rest) = (va, bytes);
        while !rest.is_empty() {
            let pa = self.physical(va);
            let inside = (pa % PAGE) as usize;
            let (now, later) = rest.split_at(rest.len().min(PAGE as usize - inside));
            let page = self.pages.get_mut(&(pa / PAGE)).expect("placed before");
            page[inside..inside + now.len()].copy_from_slice(now);
            (va, rest) = (va + now.len() as u64, later);
        }
    }

    /// Writes a number of `len` bytes.
    pub fn write_number(&mut self, va: u64, len: u64, value: u64) {
        let raw = self.machine.raw(value, len);
        self.write(va, &raw);
    }

    /// Writes a word or a pointer.
    pub fn write_word(&mut self, va: u64, value: u64) {
        self.write_number(va, self.machine.word(), value);
    }

    /// A variable in the kernel image, known to VMCOREINFO by name.
    pub fn variable(&mut self, name: &str, len: u64, value: u64) -> u64 {
        let va = self.place_in_image(len, len);
        self.write_number(va, len, value);
        self.key(format_args!("SYMBOL({name})={va:x}"));
        va
    }

    /// Leaves the pages of a range out of the dump, as a filter does.
    pub fn leave_out(&mut self, va: u64, len: u64) {
        for page in va / PAGE..(va + len).div_ceil(PAGE) {
            let pa = self.physical(page * PAGE);
            self.pages.remove(&(pa / PAGE));
        }
    }
}
