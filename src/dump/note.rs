//! ELF notes: what the crashed kernel left for us beside its memory.
//!
//! | n_namesz | n_descsz | n_type | name ... pad | desc ... pad |     three u32, then bytes padded to 4
//!
//! Specified in the ELF gABI, "Note Section"; Linux pads to 4 in 64-bit cores too. A device dump (`NT_VMCOREDD`) can
//! be tens of megabytes and stands before the notes of the CPUs, so notes are read where they are, one header at a
//! time, and a `desc` only when somebody wants it.

use alloc::vec;
use alloc::vec::Vec;

use super::{Abi, Machine, ReadAt};
use crate::bytes::{Bytes, Endian, Word, index, wide};
use crate::error::{At, Error, Result};
use crate::limits;

/// `n_type` of the registers of a CPU, in a note named `CORE`.
const NT_PRSTATUS: u32 = 1;
/// Bytes of a note header.
const HEADER_LEN: u64 = 12;

/// A stretch of the file that holds notes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoteSpan {
    /// Bytes from the start of the file.
    pub offset: u64,
    /// Bytes in it.
    pub len: u64,
}

/// One note: its header, and where its `desc` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// The name without its NUL, cut to 16 bytes (`VMCOREINFO_XEN` is the longest that matters), zero filled.
    pub name: [u8; 16],
    /// `n_type`.
    pub kind: u32,
    /// File offset of `desc`.
    pub desc_offset: u64,
    /// `n_descsz`.
    pub desc_len: u64,
}

impl Note {
    /// True when the note has this name.
    pub fn is_named(&self, name: &str) -> bool {
        let end = self
            .name
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(self.name.len());
        self.name.get(..end) == Some(name.as_bytes())
    }
}

/// The notes of a dump, in file order.
#[derive(Clone)]
pub struct Notes<'a> {
    source: &'a dyn ReadAt,
    spans: &'a [NoteSpan],
    endian: Endian,
    /// What has been read of the first span.
    done: u64,
}

impl<'a> Notes<'a> {
    /// The notes that stand in `spans` of `source`.
    pub fn new(source: &'a dyn ReadAt, spans: &'a [NoteSpan], endian: Endian) -> Self {
        Notes {
            source,
            spans,
            endian,
            done: 0,
        }
    }

    /// The next note, or `None` after the last. A header that cannot be read or points out of its span ends the span.
    #[allow(
        clippy::should_implement_trait,
        reason = "an iterator that cannot fail would have to hide errors in items"
    )]
    pub fn next(&mut self) -> Option<Note> {
        loop {
            let (span, others) = self.spans.split_first()?;
            match self.note_at(span) {
                Some((note, next)) => {
                    self.done = next;
                    return Some(note);
                }
                None => {
                    self.spans = others;
                    self.done = 0;
                }
            }
        }
    }

    /// The note at `done` of `span`, and where the one after it starts.
    fn note_at(&self, span: &NoteSpan) -> Option<(Note, u64)> {
        let mut raw = [0; 12];
        let name_at = self
            .done
            .checked_add(HEADER_LEN)
            .filter(|&end| end <= span.len)?;
        let offset = span.offset.checked_add(self.done)?;
        self.source.read_at(offset, &mut raw).ok()?;
        let mut header = Bytes::new(&raw, self.endian, At::File(offset));
        let namesz = u64::from(header.u32("n_namesz").ok()?);
        let descsz = u64::from(header.u32("n_descsz").ok()?);
        let kind = header.u32("n_type").ok()?;
        if namesz == 0 && descsz == 0 && kind == 0 {
            return None;
        }
        let desc_at = name_at.checked_add(namesz.next_multiple_of(4))?;
        let end = desc_at.checked_add(descsz).filter(|&end| end <= span.len)?;
        let mut name = [0; 16];
        let kept = name.get_mut(..index(namesz).min(16))?;
        self.source
            .read_at(span.offset.checked_add(name_at)?, kept)
            .ok()?;
        let desc_offset = span.offset.checked_add(desc_at)?;
        Some((
            Note {
                name,
                kind,
                desc_offset,
                desc_len: descsz,
            },
            end.next_multiple_of(4),
        ))
    }

    /// Reads the `desc` of a note.
    ///
    /// # Errors
    /// `Limit` when it is longer than `max`, else what reading the file gave.
    pub fn read_desc(&self, note: &Note, what: &'static str, max: u64) -> Result<Vec<u8>> {
        if note.desc_len > max {
            return Err(Error::Limit {
                what,
                value: note.desc_len,
                max,
            });
        }
        let mut desc = vec![0; index(note.desc_len)];
        self.source.read_at(note.desc_offset, &mut desc)?;
        Ok(desc)
    }

    /// The text of the first note from here on that is named `VMCOREINFO`.
    ///
    /// # Errors
    /// `Missing` when there is none, else what kept it from being read.
    pub fn vmcoreinfo(mut self) -> Result<Vec<u8>> {
        while let Some(note) = self.next() {
            if note.is_named("VMCOREINFO") {
                return self.read_desc(&note, "VMCOREINFO length", limits::VMCOREINFO_LEN);
            }
        }
        Err(Error::Missing {
            key: "the VMCOREINFO note",
        })
    }

    /// The registers of the next CPU, in the order of the notes: CPUs that were offline have none, so the n-th is not
    /// CPU n unless all were online. A note that cannot be read is an error in its place.
    pub fn next_prstatus(&mut self, abi: Abi) -> Option<Result<Prstatus>> {
        while let Some(note) = self.next() {
            if note.kind == NT_PRSTATUS && note.is_named("CORE") {
                let desc = self.read_desc(&note, "NT_PRSTATUS length", limits::PRSTATUS_LEN);
                return Some(
                    desc.and_then(|desc| Prstatus::parse(&desc, abi, At::File(note.desc_offset))),
                );
            }
        }
        None
    }
}

/// The registers of one CPU at the crash: `struct elf_prstatus` of `include/linux/elfcore.h`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prstatus {
    /// `pr_pid`: the task that ran on the CPU, 0 when it was idle; a CPU number in dumps of QEMU and s390x.
    pub pid: i32,
    /// `pr_reg`: the registers as words, in the order of the architecture's `struct pt_regs` (`elf_gregset_t`).
    pub regs: Vec<u64>,
}

impl Prstatus {
    /// Reads the `desc` of an `NT_PRSTATUS` note. Its layout follows the word size of the kernel, not of the file.
    ///
    /// # Errors
    /// `Truncated` when even the pid is cut; missing registers only shorten `regs`.
    pub fn parse(desc: &[u8], abi: Abi, at: At) -> Result<Self> {
        let (pid_at, reg_at) = match abi.word {
            Word::W64 => (32, 112),
            Word::W32 => (24, 72),
        };
        let truncated = Error::Truncated {
            what: "pr_pid",
            at,
            need: wide(reg_at),
            have: wide(desc.len()),
        };
        let pid = abi.endian.i32(desc, pid_at).ok_or(truncated)?;
        // QEMU writes the CPU's number in the byte order of its host: seen on s390x, where 1 came as 0x1000000.
        let swapped = abi.machine == Machine::S390 && pid & 0x00ff_ffff == 0;
        let pid = if swapped { pid.swap_bytes() } else { pid };
        let raw = desc.get(reg_at..).ok_or(truncated)?;
        let words = raw
            .chunks_exact(abi.word.size())
            .take(register_count(abi.machine));
        let words = words.map_while(|raw| abi.endian.word(abi.word, raw, 0));
        Ok(Prstatus {
            pid,
            regs: words.collect(),
        })
    }
}

/// Words of `elf_gregset_t`; what follows in the note (`pr_fpvalid`) is not a register.
fn register_count(machine: Machine) -> usize {
    match machine {
        Machine::X86_64 => 27,
        Machine::I386 => 17,
        Machine::Aarch64 => 34,
        Machine::Arm => 18,
        Machine::Ppc | Machine::Ppc64 => 48,
        // Two words of PSW and sixteen registers; 32-bit access registers follow.
        Machine::S390 => 18,
        Machine::Riscv => 32,
        Machine::Loongarch | Machine::Mips => 45,
        Machine::Other(_) => 64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `desc` of `len` bytes with `pr_pid` at `pid_at`, in which the word at `reg_at` and each behind it hold their
    /// index.
    fn desc(abi: Abi, len: usize, pid_at: usize, reg_at: usize) -> Vec<u8> {
        let order = |bytes: &mut [u8]| {
            if abi.endian == Endian::Little {
                bytes.reverse();
            }
        };
        let mut desc = vec![0; len];
        desc[pid_at..pid_at + 4].copy_from_slice(&[0, 0, 4, 0xd2]);
        order(&mut desc[pid_at..pid_at + 4]);
        for (n, word) in desc[reg_at..].chunks_exact_mut(abi.word.size()).enumerate() {
            *word.last_mut().unwrap() = u8::try_from(n).unwrap();
            order(word);
        }
        desc
    }

    #[test]
    fn the_registers_of_every_architecture_are_where_its_kernel_puts_them() {
        use {Endian::*, Machine::*};
        // The length of the note, and the registers in it, by architecture.
        for (machine, endian, class, len, count) in [
            (X86_64, Little, Word::W64, 336, 27),
            (I386, Little, Word::W64, 144, 17),
            (Aarch64, Little, Word::W64, 392, 34),
            (Arm, Big, Word::W32, 148, 18),
            (Ppc, Big, Word::W32, 268, 48),
            (Ppc64, Little, Word::W64, 504, 48),
            (S390, Big, Word::W64, 336, 18),
            (Riscv, Little, Word::W64, 376, 32),
            (Riscv, Little, Word::W32, 204, 32),
            (Loongarch, Little, Word::W64, 480, 45),
            (Mips, Big, Word::W32, 256, 45),
            (Mips, Little, Word::W64, 480, 45),
        ] {
            let word = machine.word(class);
            let abi = Abi {
                machine,
                endian,
                word,
            };
            let (pid_at, reg_at) = match word {
                Word::W64 => (32, 112),
                Word::W32 => (24, 72),
            };
            let desc = desc(abi, len, pid_at, reg_at);
            let status = Prstatus::parse(&desc, abi, At::File(0)).unwrap();
            assert_eq!(status.pid, 1234, "{machine:?}");
            assert!(status.regs.iter().copied().eq(0..count), "{machine:?}");
        }
    }

    #[test]
    fn a_cut_note_has_fewer_registers_or_is_refused() {
        let abi = Abi {
            machine: Machine::X86_64,
            endian: Endian::Little,
            word: Word::W64,
        };
        let desc = desc(abi, 336, 32, 112);
        let cut = Prstatus::parse(&desc[..131], abi, At::File(0)).unwrap();
        assert_eq!(cut.regs, [0, 1]);
        let refused = Prstatus::parse(&desc[..111], abi, At::File(7));
        assert!(matches!(refused, Err(Error::Truncated { .. })));
    }

    #[test]
    fn the_number_of_a_cpu_in_the_wrong_byte_order_is_put_right_on_s390x() {
        let abi = Abi {
            machine: Machine::S390,
            endian: Endian::Big,
            word: Word::W64,
        };
        let mut desc = vec![0; 336];
        desc[32] = 2;
        assert_eq!(Prstatus::parse(&desc, abi, At::File(0)).unwrap().pid, 2);
    }
}
