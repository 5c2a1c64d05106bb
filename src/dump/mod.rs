//! Containers: from the bytes of a file to the physical memory and the notes of a crashed machine.
//!
//! | first bytes | container | file |
//! |---|---|---|
//! | `7f 45 4c 46` | ELF core: `/proc/vmcore`, makedumpfile -E, QEMU, `/proc/kcore` | `elf` |
//! | `KDUMP   ` | kdump-compressed: makedumpfile -c/-l/-p/-z, QEMU | `kdump` |
//! | `makedumpfile` | a flattened stream with one of the above inside | `flat` |
//!
//! Nothing above this layer sees a file offset.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::addr::{PhysAddr, VirtAddr};
use crate::bytes::{Endian, Word, wide};
use crate::error::{At, Error, Result};

pub mod codec;
pub mod elf;
mod facts;
pub mod flat;
mod foreign;
pub mod kdump;
pub mod note;
pub mod search;
mod source;

pub use elf::Elf;
pub use facts::Facts;
pub use flat::Flat;
pub use kdump::Kdump;
pub use note::{Note, Notes, Prstatus};
pub use source::Source;

/// Bytes at offsets: a file, a block device, `/proc/vmcore`. Offsets rather than a seek position, so that shared
/// references are enough and every layer above can hold one.
pub trait ReadAt {
    /// Fills `buf` from `offset` (bytes from the start), wholly or not at all.
    ///
    /// # Errors
    /// `Truncated` past the end, `Io` when the system says no.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()>;

    /// Bytes in all, `None` when that is not known (a block device, `/proc/kcore`).
    fn len(&self) -> Option<u64>;

    /// True when there is nothing at all.
    fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }
}

/// A stretch of physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhysRange {
    /// The first byte.
    pub start: PhysAddr,
    /// Bytes in it.
    pub len: u64,
}

/// The physical memory of the crashed machine, as far as the dump holds it.
pub trait PhysMem {
    /// Fills `buf` from physical address `addr`, wholly or not at all.
    ///
    /// # Errors
    /// `NotInDump` for a hole or a page that a filter left out; else what reading the file gave.
    fn read_phys(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<()>;

    /// The lowest stretch of stored memory that ends above `from`, cut so that it does not start below `from`.
    /// Calling it with the end of the last answer walks all that is stored, in rising order.
    fn next_stored(&self, from: PhysAddr) -> Option<PhysRange>;
}

/// The architecture of the crashed kernel, from `e_machine` or the dump's own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// `EM_386`: i386, i686, with or without PAE.
    I386,
    /// `EM_X86_64`.
    X86_64,
    /// `EM_ARM`.
    Arm,
    /// `EM_AARCH64`: arm64.
    Aarch64,
    /// `EM_PPC`.
    Ppc,
    /// `EM_PPC64`, of either byte order.
    Ppc64,
    /// `EM_S390`.
    S390,
    /// `EM_RISCV`.
    Riscv,
    /// `EM_MIPS`.
    Mips,
    /// `EM_LOONGARCH`.
    Loongarch,
    /// Any other `e_machine`.
    Other(u16),
}

impl Machine {
    /// The machine of an ELF header's `e_machine`.
    pub fn from_elf(e_machine: u16) -> Self {
        match e_machine {
            3 => Machine::I386,
            8 => Machine::Mips,
            20 => Machine::Ppc,
            21 => Machine::Ppc64,
            22 => Machine::S390,
            40 => Machine::Arm,
            62 => Machine::X86_64,
            183 => Machine::Aarch64,
            243 => Machine::Riscv,
            258 => Machine::Loongarch,
            other => Machine::Other(other),
        }
    }

    /// The word size, which an ELF class does not tell: 32-bit kernels are dumped into 64-bit ELF files. `class` is
    /// believed for the machines that exist in both sizes.
    pub fn word(self, class: Word) -> Word {
        match self {
            Machine::I386 | Machine::Arm | Machine::Ppc => Word::W32,
            Machine::X86_64 | Machine::Aarch64 | Machine::Ppc64 | Machine::S390 => Word::W64,
            Machine::Riscv | Machine::Mips | Machine::Loongarch | Machine::Other(_) => class,
        }
    }
}

/// How the crashed kernel lays out its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abi {
    /// Its architecture.
    pub machine: Machine,
    /// Its byte order.
    pub endian: Endian,
    /// Its word size.
    pub word: Word,
}

/// What a program header says of a stretch of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// `p_paddr`.
    pub paddr: PhysAddr,
    /// `p_vaddr`, a hint only: `None` where the producer is known to write nonsense (0, all ones).
    pub vaddr: Option<VirtAddr>,
    /// `p_memsz`.
    pub len: u64,
}

/// An opened dump: physical memory and notes, whatever it is wrapped in.
pub struct Vmcore<'s> {
    container: Container<'s>,
}

enum Container<'s> {
    Elf(Elf<'s>),
    Kdump(Box<Kdump<'s>>),
}

impl<'s> Vmcore<'s> {
    /// Opens the dump that `sources` hold: one file, or all the parts of a split dump.
    ///
    /// # Errors
    /// `Unsupported` for an unknown container; else what its headers are wrong in.
    pub fn open(sources: &'s [&'s dyn ReadAt]) -> Result<Self> {
        let mut files = Vec::new();
        for &file in sources {
            files.push(Source::open(file)?);
        }
        let Some(source) = files.first().cloned() else {
            return Err(Error::Missing { key: "a dump" });
        };
        let mut magic = [0; 8];
        source.read_at(0, &mut magic).map_err(|error| match error {
            Error::Truncated { need, have, .. } => Error::Truncated {
                what: "the header",
                at: At::File(0),
                need,
                have,
            },
            other => other,
        })?;
        if files.len() > 1 && !kdump::Header::is(&magic) {
            return Err(Error::Unsupported {
                what: "a dump in several files, unless they are parts of a split kdump-compressed one; files:",
                value: wide(files.len()),
            });
        }
        match &magic {
            [0x7f, b'E', b'L', b'F', ..] => Ok(Vmcore {
                container: Container::Elf(Elf::open(source)?),
            }),
            magic if kdump::Header::is(magic) => Ok(Vmcore {
                container: Container::Kdump(Box::new(Kdump::open(files)?)),
            }),
            _ => Err(foreign::recognise(&source).unwrap_or(Error::Unsupported {
                what: "a dump that starts with",
                value: u64::from_be_bytes(magic),
            })),
        }
    }

    /// How the crashed kernel lays out its data.
    pub fn abi(&self) -> Abi {
        match &self.container {
            Container::Elf(elf) => elf.abi(),
            Container::Kdump(kdump) => kdump.abi(),
        }
    }

    /// What the container tells of itself.
    pub fn facts(&self) -> Facts {
        match &self.container {
            Container::Elf(elf) => elf.facts(),
            Container::Kdump(kdump) => kdump.facts(),
        }
    }

    /// What the program headers say; empty for containers without them.
    pub fn segments(&self) -> &[Segment] {
        match &self.container {
            Container::Elf(elf) => elf.segments(),
            Container::Kdump(kdump) => kdump.segments(),
        }
    }

    /// The notes, in file order.
    pub fn notes(&self) -> Notes<'_> {
        match &self.container {
            Container::Elf(elf) => elf.notes(),
            Container::Kdump(kdump) => kdump.notes(),
        }
    }

    /// The text of the VMCOREINFO note. On s390x, where other tools than the capture kernel leave the note out, the
    /// kernel's own pointer to it serves as well.
    ///
    /// # Errors
    /// `Missing` when there is none, else what kept it from being read.
    pub fn vmcoreinfo(&self) -> Result<Vec<u8>> {
        if let Container::Kdump(kdump) = &self.container
            && let Ok(text) = kdump.vmcoreinfo()
        {
            return Ok(text);
        }
        self.notes().vmcoreinfo().or_else(|error| {
            let s390 = self.abi().machine == Machine::S390;
            let by_lowcore = s390.then(|| search::by_lowcore(self)).flatten();
            by_lowcore.ok_or(error)
        })
    }
}

impl PhysMem for Vmcore<'_> {
    fn read_phys(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<()> {
        match &self.container {
            Container::Elf(elf) => elf.read_phys(addr, buf),
            Container::Kdump(kdump) => kdump.read_phys(addr, buf),
        }
    }

    fn next_stored(&self, from: PhysAddr) -> Option<PhysRange> {
        match &self.container {
            Container::Elf(elf) => elf.next_stored(from),
            Container::Kdump(kdump) => kdump.next_stored(from),
        }
    }
}
