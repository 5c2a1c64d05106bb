//! The writer of the structured log, kernels 3.5 to 5.9: records of variable length behind one another.
//!
//! ```text
//! 0            log_next_idx     log_first_idx                       log_buf_len
//! | newer records | free          | oldest records ... | empty header | unused |
//! ```
//!
//! A record does not wrap: where it does not fit before the end, an empty header says so and the record goes to the
//! start. Room for that header is always kept.

use super::expect::Kept;
use super::{Crash, Machine, Message};

/// What differs between kernels.
#[derive(Clone, Copy)]
pub struct Layout {
    /// The name of the structure in VMCOREINFO: `log` up to 3.10, `printk_log` since.
    pub name: &'static str,
    /// Offsets and the size of the header.
    pub ts_nsec: u64,
    pub len: u64,
    pub text_len: u64,
    pub dict_len: u64,
    pub caller_id: Option<u64>,
    pub size: u64,
    /// Records are aligned to this.
    pub align: u64,
}

impl Layout {
    /// The header as compilers lay it out.
    pub fn of(machine: &Machine, name: &'static str, with_caller: bool) -> Self {
        let align = machine.u64_align;
        Layout {
            name,
            ts_nsec: 0,
            len: 8,
            text_len: 10,
            dict_len: 12,
            caller_id: with_caller.then_some(16),
            size: if with_caller {
                20_u64.next_multiple_of(align)
            } else {
                16
            },
            align,
        }
    }
}

/// The log buffer and its positions.
#[derive(Clone)]
pub struct Ring {
    pub machine: Machine,
    pub layout: Layout,
    pub data: Vec<u8>,
    pub first_idx: u64,
    pub next_idx: u64,
    /// (index in the buffer, sequence number, message) of all that is still there.
    records: Vec<(u64, u64, Message)>,
    next_seq: u64,
}

impl Ring {
    /// An empty log of `len` bytes.
    pub fn new(machine: Machine, layout: Layout, len: u64) -> Self {
        Ring {
            machine,
            layout,
            data: vec![0; len as usize],
            first_idx: 0,
            next_idx: 0,
            records: Vec::new(),
            next_seq: 0,
        }
    }

    fn has_room(&self, size: u64) -> bool {
        let len = self.data.len() as u64;
        let free = if self.next_idx > self.first_idx || self.records.is_empty() {
            (len - self.next_idx).max(self.first_idx)
        } else {
            self.first_idx - self.next_idx
        };
        free >= size + self.layout.size
    }

    /// The device dictionary as bytes: `KEY=value` separated by NUL.
    fn dict(message: &Message) -> Vec<u8> {
        let mut dict = Vec::new();
        if !message.subsystem.is_empty() {
            dict.extend(format!("SUBSYSTEM={}", message.subsystem).bytes());
        }
        if !message.device.is_empty() {
            if !dict.is_empty() {
                dict.push(0);
            }
            dict.extend(format!("DEVICE={}", message.device).bytes());
        }
        dict
    }

    /// Writes a message with the flag that its line is complete.
    pub fn store(&mut self, message: &Message) {
        self.store_flagged(message, 2);
    }

    /// Writes a message with these `LOG_*` flags.
    pub fn store_flagged(&mut self, message: &Message, flags: u8) {
        let dict = Self::dict(message);
        let used = self.layout.size + (message.text.len() + dict.len()) as u64;
        let size = used.next_multiple_of(self.layout.align);
        while !self.records.is_empty() && !self.has_room(size) {
            self.records.remove(0);
            self.first_idx = self
                .records
                .first()
                .map_or(self.next_idx, |record| record.0);
        }
        assert!(self.has_room(size), "the message does not fit the ring");
        let header = self.layout.size;
        if self.next_idx + size + header > self.data.len() as u64 {
            let at = self.next_idx as usize;
            self.data[at..at + header as usize].fill(0);
            self.next_idx = 0;
            if self.records.is_empty() {
                self.first_idx = 0;
            }
        }
        let at = self.next_idx;
        let (machine, layout) = (self.machine, self.layout);
        let record = &mut self.data[at as usize..(at + size) as usize];
        record.fill(0);
        machine.set(record, layout.ts_nsec, 8, message.ts_ns);
        machine.set(record, layout.len, 2, size);
        machine.set(record, layout.text_len, 2, message.text.len() as u64);
        machine.set(record, layout.dict_len, 2, dict.len() as u64);
        // Facility, and a byte of flags (5 bits) and level (3 bits) filled in the order of the machine's bit fields.
        record[layout.dict_len as usize + 2] = message.facility;
        record[layout.dict_len as usize + 3] = if machine.big_endian {
            flags << 3 | message.level
        } else {
            flags | message.level << 5
        };
        if let Some(caller_id) = layout.caller_id {
            machine.set(record, caller_id, 4, u64::from(message.caller));
        }
        let text = header as usize;
        record[text..text + message.text.len()].copy_from_slice(&message.text);
        let text = text + message.text.len();
        record[text..text + dict.len()].copy_from_slice(&dict);
        self.records.push((at, self.next_seq, message.clone()));
        self.next_idx += size;
        self.next_seq += 1;
    }

    /// What the ring still holds. The numbers of records are not exported by these kernels.
    pub fn kept(&self) -> Vec<Kept> {
        let kept = |(_, _, message): &(u64, u64, Message)| Kept {
            seq: None,
            message: message.clone(),
        };
        self.records.iter().map(kept).collect()
    }

    /// Index in the buffer of each record that is still there.
    pub fn indices(&self) -> Vec<u64> {
        self.records.iter().map(|record| record.0).collect()
    }

    /// Puts the log into memory and its symbols into VMCOREINFO; returns the address of the buffer.
    pub fn place(&self, crash: &mut Crash) -> u64 {
        let array = crash.place_in_ram(self.data.len() as u64, 64);
        crash.write(array, &self.data);
        let word = crash.machine.word();
        crash.variable("log_buf", word, array);
        crash.variable("log_buf_len", 4, self.data.len() as u64);
        crash.variable("log_first_idx", 4, self.first_idx);
        crash.variable("clear_idx", 4, self.first_idx);
        crash.variable("log_next_idx", 4, self.next_idx);
        let Layout { name, .. } = self.layout;
        crash.key(format_args!("SIZE({name})={}", self.layout.size));
        for (member, offset) in [
            ("ts_nsec", Some(self.layout.ts_nsec)),
            ("len", Some(self.layout.len)),
            ("text_len", Some(self.layout.text_len)),
            ("dict_len", Some(self.layout.dict_len)),
            ("caller_id", self.layout.caller_id),
        ] {
            if let Some(offset) = offset {
                crash.key(format_args!("OFFSET({name}.{member})={offset}"));
            }
        }
        array
    }
}
