//! The writer of the plain byte ring, kernels before 3.5: one array of characters, and a count of all ever written.

use super::{Crash, Message};

/// `log_buf` and its counters.
#[derive(Clone)]
pub struct Ring {
    /// The array; its length is a power of two.
    pub data: Vec<u8>,
    /// `log_end`: characters ever written, in 32 bits.
    pub log_end: u32,
    /// `logged_chars`: characters since the last clear, at most the length of the ring.
    pub logged_chars: u32,
    written: Vec<u8>,
}

impl Ring {
    /// An empty ring of `len` bytes.
    pub fn new(len: u32) -> Self {
        assert!(len.is_power_of_two());
        Ring {
            data: vec![0; len as usize],
            log_end: 0,
            logged_chars: 0,
            written: Vec::new(),
        }
    }

    /// Writes a message: level and time before each of its lines.
    pub fn print(&mut self, message: &Message) {
        let us = message.ts_ns / 1000;
        let number = u32::from(message.facility) * 8 + u32::from(message.level);
        for line in message.text.split(|&byte| byte == b'\n') {
            let prefix = format!("<{number}>[{:5}.{:06}] ", us / 1_000_000, us % 1_000_000);
            self.print_raw(prefix.as_bytes());
            self.print_raw(line);
            self.print_raw(b"\n");
        }
    }

    /// Writes characters as they are.
    pub fn print_raw(&mut self, text: &[u8]) {
        let len = self.data.len() as u32;
        for &byte in text {
            self.data[(self.log_end & (len - 1)) as usize] = byte;
            self.log_end = self.log_end.wrapping_add(1);
            self.logged_chars = (self.logged_chars + 1).min(len);
        }
        self.written.extend(text);
    }

    /// `dmesg -c`, after which the characters are still there.
    pub fn clear(&mut self) {
        self.logged_chars = 0;
    }

    /// All characters that the ring still holds.
    pub fn text(&self) -> &[u8] {
        &self.written[self.written.len().saturating_sub(self.data.len())..]
    }

    /// The lines that the ring still holds whole, each with its level and without its newline.
    pub fn whole_lines(&self) -> Vec<&[u8]> {
        let cut = self.written.len().saturating_sub(self.data.len());
        let mut start = 0;
        let mut lines = Vec::new();
        for line in self.written.split(|&byte| byte == b'\n') {
            if start >= cut && start < self.written.len() {
                lines.push(line);
            }
            start += line.len() + 1;
        }
        lines
    }

    /// Puts the ring into memory and its symbols into VMCOREINFO; returns the address of the array.
    pub fn place(&self, crash: &mut Crash) -> u64 {
        let array = crash.place_in_ram(self.data.len() as u64, 64);
        crash.write(array, &self.data);
        let word = crash.machine.word();
        crash.variable("log_buf", word, array);
        crash.variable("log_end", 4, u64::from(self.log_end));
        crash.variable("log_buf_len", 4, self.data.len() as u64);
        crash.variable("logged_chars", 4, u64::from(self.logged_chars));
        array
    }
}
