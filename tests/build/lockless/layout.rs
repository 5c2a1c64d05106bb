//! How kernels lay out the lockless ring in memory, and putting it there.

use super::Ring;
use crate::build::{Crash, Machine, Rng};

/// Kernels whose layouts differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// 5.10 up to 6.6: as first released.
    First,
    /// 6.7 on, and 6.1 with back-ports: the descriptor ring tells the last finalized record.
    LastFinalized,
    /// 7.0 on with CONFIG_PRINTK_EXECUTION_CTX: both callers and the task's name in each info.
    ExecutionContext,
}

/// A structure: its size and where its members are, in the order of the names.
#[derive(Clone, Debug)]
struct Structure {
    name: &'static str,
    size: u64,
    members: Vec<(&'static str, u64)>,
}

impl Structure {
    fn offset(&self, member: &str) -> u64 {
        let found = self.members.iter().find(|(name, _)| *name == member);
        found
            .unwrap_or_else(|| panic!("{} has no {member}", self.name))
            .1
    }
}

/// The structures of one kernel.
#[derive(Clone, Debug)]
pub struct Layout {
    structures: Vec<Structure>,
    /// Which kernel this is.
    pub age: Age,
}

/// Where the parts of a ring are in memory.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    /// `struct printk_ringbuffer`.
    pub rb: u64,
    pub descs: u64,
    pub infos: u64,
    pub data: u64,
    pub desc_size: u64,
    pub info_size: u64,
}

const SUBSYSTEM_LEN: u64 = 16;
const DEVICE_LEN: u64 = 48;
const COMM_LEN: u64 = 16;

/// Lays members of (name, size, alignment) out one after the other, as a compiler does.
fn structure(name: &'static str, members: &[(&'static str, u64, u64)]) -> Structure {
    let (mut at, mut align) = (0_u64, 1);
    let mut placed = Vec::new();
    for &(member, size, alignment) in members {
        at = at.next_multiple_of(alignment);
        placed.push((member, at));
        at += size;
        align = align.max(alignment);
    }
    Structure {
        name,
        size: at.next_multiple_of(align),
        members: placed,
    }
}

impl Layout {
    /// The layout of a kernel for `machine`.
    pub fn of(machine: &Machine, age: Age) -> Self {
        let word = machine.word();
        let atomic = structure("atomic_long_t", &[("counter", word, word)]);
        let lpos = structure(
            "prb_data_blk_lpos",
            &[("begin", word, word), ("next", word, word)],
        );
        let desc = structure(
            "prb_desc",
            &[("state_var", word, word), ("text_blk_lpos", 2 * word, word)],
        );
        let mut ring = vec![
            ("count_bits", 4, 4),
            ("descs", word, word),
            ("infos", word, word),
            ("head_id", word, word),
            ("tail_id", word, word),
        ];
        if age != Age::First {
            ring.push(("last_finalized", word, word));
        }
        let desc_ring = structure("prb_desc_ring", &ring);
        let data_ring = structure(
            "prb_data_ring",
            &[
                ("size_bits", 4, 4),
                ("data", word, word),
                ("head_lpos", word, word),
                ("tail_lpos", word, word),
            ],
        );
        let device = structure(
            "dev_printk_info",
            &[("subsystem", SUBSYSTEM_LEN, 1), ("device", DEVICE_LEN, 1)],
        );
        let mut info = vec![
            ("seq", 8, machine.u64_align),
            ("ts_nsec", 8, machine.u64_align),
            ("text_len", 2, 2),
            ("facility", 1, 1),
            ("flags", 1, 1),
            ("caller_id", 4, 4),
        ];
        if age == Age::ExecutionContext {
            info.extend([("caller_id2", 4, 4), ("comm", COMM_LEN, 1)]);
        }
        info.push(("dev_info", device.size, 1));
        let info = structure("printk_info", &info);
        let rb = structure(
            "printk_ringbuffer",
            &[
                ("desc_ring", desc_ring.size, word),
                ("text_data_ring", data_ring.size, word),
                ("fail", word, word),
            ],
        );
        Layout {
            structures: vec![rb, desc_ring, desc, lpos, info, device, data_ring, atomic],
            age,
        }
    }

    /// A layout that no kernel has, with members moved and structures grown: only VMCOREINFO tells it. What VMCOREINFO
    /// does not tell (the bytes beside `text_len`) stays beside it.
    pub fn shuffled(machine: &Machine, age: Age, rng: &mut Rng) -> Self {
        let word = machine.word();
        let mut layout = Layout::of(machine, age);
        for structure in &mut layout.structures {
            if matches!(structure.name, "atomic_long_t" | "prb_data_blk_lpos") {
                continue;
            }
            let shift = word * rng.below(4);
            for (_, offset) in &mut structure.members {
                *offset += shift;
            }
            structure.size += shift + word * rng.below(4);
        }
        // Structures inside others have grown too.
        let size = |name| layout.structure(name).size;
        let (desc_ring, data_ring) = (size("prb_desc_ring"), size("prb_data_ring"));
        let device = size("dev_printk_info");
        let dev_info = layout.structure("printk_info").offset("dev_info");
        for structure in &mut layout.structures {
            match structure.name {
                "printk_ringbuffer" => {
                    let at = structure.members[0].1;
                    structure.members[1].1 = at + desc_ring;
                    structure.members[2].1 = at + desc_ring + data_ring;
                    structure.size = at + desc_ring + data_ring + word;
                }
                "printk_info" => structure.size = (dev_info + device).next_multiple_of(8),
                _ => {}
            }
        }
        layout
    }

    fn structure(&self, name: &str) -> &Structure {
        let found = self
            .structures
            .iter()
            .find(|structure| structure.name == name);
        found.expect("a structure of the ring")
    }

    /// Where `member` of structure `name` is.
    pub fn offset(&self, name: &str, member: &str) -> u64 {
        self.structure(name).offset(member)
    }

    /// Puts `ring` into memory, large parts in RAM, and all that the kernel exports of it into VMCOREINFO.
    pub fn place(&self, ring: &Ring, crash: &mut Crash) -> Placed {
        self.place_by(ring, crash, Crash::place_in_ram)
    }

    /// The same with a choice where the large parts go.
    pub fn place_by(
        &self,
        ring: &Ring,
        crash: &mut Crash,
        place: fn(&mut Crash, u64, u64) -> u64,
    ) -> Placed {
        let machine = ring.machine;
        let word = machine.word();
        let count = ring.descs.len() as u64;
        let (desc_size, info_size) = (
            self.structure("prb_desc").size,
            self.structure("printk_info").size,
        );
        let placed = Placed {
            rb: crash.place_in_image(self.structure("printk_ringbuffer").size, word),
            descs: place(crash, count * desc_size, 64),
            infos: place(crash, count * info_size, 64),
            data: place(crash, ring.data.len() as u64, 64),
            desc_size,
            info_size,
        };
        crash.write(placed.data, &ring.data);
        for slot in 0..ring.descs.len() {
            let n = slot as u64;
            crash.write(placed.descs + n * desc_size, &self.raw_desc(ring, slot));
            crash.write(placed.infos + n * info_size, &self.raw_info(ring, slot));
        }
        let raw = self.raw_ring(ring, &placed);
        crash.write(placed.rb, &raw);
        crash.variable("prb", word, placed.rb);
        crash.key(format_args!("SYMBOL(printk_rb_static)={:x}", placed.rb));
        self.export(crash);
        placed
    }

    fn raw_desc(&self, ring: &Ring, slot: usize) -> Vec<u8> {
        let (machine, word) = (&ring.machine, ring.machine.word());
        let mut raw = vec![0; self.structure("prb_desc").size as usize];
        let desc = ring.descs[slot];
        let lpos = self.offset("prb_desc", "text_blk_lpos");
        machine.set(
            &mut raw,
            self.offset("prb_desc", "state_var"),
            word,
            desc.state_var,
        );
        machine.set(
            &mut raw,
            lpos + self.offset("prb_data_blk_lpos", "begin"),
            word,
            desc.begin,
        );
        machine.set(
            &mut raw,
            lpos + self.offset("prb_data_blk_lpos", "next"),
            word,
            desc.next,
        );
        raw
    }

    fn raw_info(&self, ring: &Ring, slot: usize) -> Vec<u8> {
        let machine = &ring.machine;
        let info = &ring.infos[slot];
        let message = &info.message;
        let at = |member| self.offset("printk_info", member);
        let mut raw = vec![0; self.structure("printk_info").size as usize];
        machine.set(&mut raw, at("seq"), 8, info.seq);
        machine.set(&mut raw, at("ts_nsec"), 8, message.ts_ns);
        machine.set(&mut raw, at("text_len"), 2, u64::from(info.text_len));
        machine.set(&mut raw, at("facility"), 1, u64::from(message.facility));
        // Five bits of flags and three of level, filled in the order of the machine's bit fields.
        let flags = if machine.big_endian {
            info.flags << 3 | message.level
        } else {
            info.flags | message.level << 5
        };
        machine.set(&mut raw, at("flags"), 1, u64::from(flags));
        machine.set(&mut raw, at("caller_id"), 4, u64::from(message.caller));
        if self.age == Age::ExecutionContext {
            machine.set(&mut raw, at("caller_id2"), 4, u64::from(message.caller2));
            string(&mut raw, at("comm"), COMM_LEN, &message.comm);
        }
        let (dev, member) = (at("dev_info"), |member| {
            self.offset("dev_printk_info", member)
        });
        string(
            &mut raw,
            dev + member("subsystem"),
            SUBSYSTEM_LEN,
            &message.subsystem,
        );
        string(
            &mut raw,
            dev + member("device"),
            DEVICE_LEN,
            &message.device,
        );
        raw
    }

    fn raw_ring(&self, ring: &Ring, placed: &Placed) -> Vec<u8> {
        let (machine, word) = (&ring.machine, ring.machine.word());
        let mut raw = vec![0; self.structure("printk_ringbuffer").size as usize];
        let descs = self.offset("printk_ringbuffer", "desc_ring");
        let text = self.offset("printk_ringbuffer", "text_data_ring");
        let mut desc_ring = vec![
            ("count_bits", 4, u64::from(ring.count_bits)),
            ("descs", word, placed.descs),
            ("infos", word, placed.infos),
            ("head_id", word, ring.head_id),
            ("tail_id", word, ring.tail_id),
        ];
        if self.age != Age::First {
            desc_ring.push(("last_finalized", word, ring.head_id));
        }
        for (member, len, value) in desc_ring {
            machine.set(
                &mut raw,
                descs + self.offset("prb_desc_ring", member),
                len,
                value,
            );
        }
        for (member, len, value) in [
            ("size_bits", 4, u64::from(ring.size_bits)),
            ("data", word, placed.data),
            ("head_lpos", word, ring.head_lpos),
            ("tail_lpos", word, ring.tail_lpos),
        ] {
            machine.set(
                &mut raw,
                text + self.offset("prb_data_ring", member),
                len,
                value,
            );
        }
        machine.set(
            &mut raw,
            self.offset("printk_ringbuffer", "fail"),
            word,
            ring.fail,
        );
        raw
    }

    /// The keys that `log_buf_vmcoreinfo_setup()` writes.
    fn export(&self, crash: &mut Crash) {
        const UNEXPORTED: &[&str] = &["facility", "flags", "caller_id2", "comm", "last_finalized"];
        for structure in &self.structures {
            let name = structure.name;
            crash.key(format_args!("SIZE({name})={}", structure.size));
            for (member, offset) in &structure.members {
                if !UNEXPORTED.contains(member) {
                    crash.key(format_args!("OFFSET({name}.{member})={offset}"));
                }
            }
        }
        crash.key(format_args!(
            "LENGTH(printk_info_subsystem)={SUBSYSTEM_LEN}"
        ));
        crash.key(format_args!("LENGTH(printk_info_device)={DEVICE_LEN}"));
    }
}

/// Writes a string with its NUL into an array of `len` bytes.
fn string(raw: &mut [u8], offset: u64, len: u64, value: &str) {
    let at = offset as usize;
    let value = &value.as_bytes()[..value.len().min(len as usize - 1)];
    raw[at..at + value.len()].copy_from_slice(value);
}
