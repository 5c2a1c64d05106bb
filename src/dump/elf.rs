//! ELF core files: `/proc/vmcore`, `makedumpfile -E`, QEMU's `dump-guest-memory`, `/proc/kcore`.
//!
//! | ELF header | program headers | ... | notes (PT_NOTE) | memory (PT_LOAD) ... |
//!
//! Specified in the ELF gABI. `p_paddr` is the key to the memory, `p_vaddr` only a hint, and `p_offset` is always
//! honoured: `/proc/vmcore` leaves gaps between segments. What a segment has in memory but not in the file
//! (`p_filesz < p_memsz`) is memory that a filter left out.

use alloc::vec::Vec;

use super::note::NoteSpan;
use super::{Abi, Facts, Machine, Notes, PhysMem, PhysRange, ReadAt, Segment, Source};
use crate::addr::{PhysAddr, VirtAddr};
use crate::bytes::{Bytes, Endian, Word, index, wide};
use crate::error::{At, Error, Result};
use crate::limits;

const ET_CORE: u16 = 4;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// `e_phnum` of a file with more program headers than its 16 bits can say; section header 0 then has the number.
const PN_XNUM: u16 = 0xffff;
/// `e_flags`: makedumpfile ran out of disk.
const DUMP_ELF_INCOMPLETE: u32 = 1;
/// Program headers read in one go.
const PHDRS_AT_ONCE: u64 = 64;

/// A PT_LOAD that has bytes in the file.
#[derive(Clone, Copy, Debug)]
struct Load {
    paddr: u64,
    filesz: u64,
    offset: u64,
}

/// An opened ELF core.
pub struct Elf<'s> {
    source: Source<'s>,
    abi: Abi,
    /// `e_flags`.
    flags: u32,
    /// Sorted by `paddr`, and no load reaches beyond the start of the next: see [`disjoint`].
    loads: Vec<Load>,
    segments: Vec<Segment>,
    notes: Vec<NoteSpan>,
}

/// What the ELF header says of the rest.
struct Header {
    class: Word,
    endian: Endian,
    machine: Machine,
    flags: u32,
    has_sections: bool,
    phoff: u64,
    phentsize: u64,
    phnum: u64,
}

/// One program header, widened to 64 bits.
struct ProgramHeader {
    kind: u32,
    offset: u64,
    vaddr: u64,
    paddr: u64,
    filesz: u64,
    memsz: u64,
}

impl<'s> Elf<'s> {
    /// Reads the headers of `source`.
    ///
    /// # Errors
    /// `Invalid` for an ELF file that is no core, `Truncated` when its tables are cut, `Missing` when it has neither
    /// memory nor notes.
    pub fn open(source: Source<'s>) -> Result<Self> {
        let header = Header::read(&source)?;
        let word = header.machine.word(header.class);
        let abi = Abi {
            machine: header.machine,
            endian: header.endian,
            word,
        };
        let mut elf = Elf {
            source,
            abi,
            flags: header.flags,
            loads: Vec::new(),
            segments: Vec::new(),
            notes: Vec::new(),
        };
        if header.phnum == 0 && header.has_sections {
            return Err(Error::Foreign {
                what: "a Xen core of a guest (xl dump-core)",
                advice: "this format cannot be read here",
            });
        }
        elf.read_program_headers(&header)?;
        if elf.segments.is_empty() && elf.notes.is_empty() {
            return Err(Error::Missing {
                key: "a PT_LOAD or PT_NOTE program header",
            });
        }
        elf.loads = disjoint(elf.loads);
        Ok(elf)
    }

    /// How the crashed kernel lays out its data.
    pub fn abi(&self) -> Abi {
        self.abi
    }

    /// What the program headers say of the memory, in file order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// What headers and notes tell of the dump.
    pub fn facts(&self) -> Facts {
        let len = self.source.len().unwrap_or(u64::MAX);
        let cut = |load: &Load| load.offset.saturating_add(load.filesz) > len;
        let flat = self.source.flat();
        // Other machines have meanings of their own for the flag.
        let flagged = matches!(
            self.abi.machine,
            Machine::X86_64 | Machine::I386 | Machine::Aarch64 | Machine::Ppc64 | Machine::S390
        );
        let incomplete = if flagged && self.flags & DUMP_ELF_INCOMPLETE != 0 {
            Some("the disk was full when it was written")
        } else if flat.is_some_and(|flat| !flat.is_complete()) {
            Some("the stream has no end mark")
        } else {
            let cut = self.loads.iter().any(cut);
            cut.then_some("the file is cut short")
        };
        let sizes = self.loads.iter().map(|load| load.filesz);
        Facts {
            container: "ELF",
            flattened: flat.is_some(),
            producer: self.producer(),
            stored: sizes.fold(0, u64::saturating_add),
            incomplete,
            ..Facts::default()
        }
    }

    /// Who wrote the dump, by what only they write.
    fn producer(&self) -> Option<&'static str> {
        const NT_TASKSTRUCT: u32 = 4;
        let mut notes = self.notes();
        for _ in 0..limits::NOTES {
            let note = notes.next()?;
            let known = [
                ("QEMU", "QEMU"),
                ("VBCORE", "VirtualBox"),
                ("VBCPU", "VirtualBox"),
                ("ERASEINFO", "makedumpfile"),
                ("VMCOREINFO_XEN", "a Xen host"),
                ("Xen", "a Xen host"),
            ];
            if let Some(&(_, producer)) = known.iter().find(|(name, _)| note.is_named(name)) {
                return Some(producer);
            }
            if note.kind == NT_TASKSTRUCT && note.is_named("CORE") {
                return Some("/proc/kcore");
            }
        }
        None
    }

    /// The notes of all PT_NOTE segments.
    pub fn notes(&self) -> Notes<'_> {
        Notes::new(&self.source, &self.notes, self.abi.endian)
    }

    fn read_program_headers(&mut self, header: &Header) -> Result<()> {
        let need = ProgramHeader::len(header.class);
        if header.phentsize < need {
            let at = At::File(0);
            return Err(Error::Invalid {
                what: "e_phentsize",
                at,
                value: header.phentsize,
                why: "too small",
            });
        }
        if header.phnum > limits::PROGRAM_HEADERS {
            return Err(Error::Limit {
                what: "e_phnum",
                value: header.phnum,
                max: limits::PROGRAM_HEADERS,
            });
        }
        let mut table = Vec::new();
        let mut done = 0;
        while done < header.phnum {
            let count = header.phnum.saturating_sub(done).min(PHDRS_AT_ONCE);
            let offset = header
                .phoff
                .saturating_add(done.saturating_mul(header.phentsize));
            table.resize(index(count.saturating_mul(header.phentsize)), 0);
            // A cut table still describes the memory whose headers are there.
            if let Err(error) = self.source.read_at(offset, &mut table) {
                return if self.segments.is_empty() && self.notes.is_empty() {
                    Err(error)
                } else {
                    Ok(())
                };
            }
            for raw in table.chunks_exact(index(header.phentsize)) {
                self.add(&ProgramHeader::parse(raw, header, offset)?);
            }
            done = done.saturating_add(count);
        }
        Ok(())
    }

    fn add(&mut self, header: &ProgramHeader) {
        // QEMU writes an all-ones offset for memory that it did not store.
        let stored = header.offset.checked_add(header.filesz).is_some();
        match header.kind {
            PT_NOTE if stored => self.notes.push(NoteSpan {
                offset: header.offset,
                len: header.filesz,
            }),
            PT_LOAD if header.paddr != u64::MAX => {
                let nonsense =
                    header.vaddr == 0 || header.vaddr == u64::MAX || header.vaddr == 0xffff_ffff;
                let vaddr = (!nonsense).then_some(VirtAddr(header.vaddr));
                self.segments.push(Segment {
                    paddr: PhysAddr(header.paddr),
                    vaddr,
                    len: header.memsz,
                });
                if stored && header.filesz != 0 && header.paddr.checked_add(header.filesz).is_some()
                {
                    self.loads.push(Load {
                        paddr: header.paddr,
                        filesz: header.filesz,
                        offset: header.offset,
                    });
                }
            }
            _ => {}
        }
    }

    /// The load that holds `addr`, if any.
    fn load_at(&self, addr: u64) -> Option<&Load> {
        let after = self.loads.partition_point(|load| load.paddr <= addr);
        let load = self.loads.get(after.checked_sub(1)?)?;
        (addr.checked_sub(load.paddr)? < load.filesz).then_some(load)
    }
}

impl PhysMem for Elf<'_> {
    fn read_phys(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<()> {
        let mut at = addr.0;
        let mut rest = buf;
        while !rest.is_empty() {
            let missing = Error::NotInDump { addr: PhysAddr(at) };
            let load = self.load_at(at).ok_or(missing)?;
            let inside = at.checked_sub(load.paddr).ok_or(missing)?;
            let run = load.filesz.saturating_sub(inside);
            let (now, later) = rest.split_at_mut(index(run).min(rest.len()));
            self.source
                .read_at(load.offset.saturating_add(inside), now)
                .map_err(|error| match error {
                    // A file that ends early is a hole like any other.
                    Error::Truncated { .. } => missing,
                    other => other,
                })?;
            at = at.checked_add(wide(now.len())).ok_or(missing)?;
            rest = later;
        }
        Ok(())
    }

    fn next_stored(&self, from: PhysAddr) -> Option<PhysRange> {
        let first = self
            .loads
            .partition_point(|load| load.paddr.saturating_add(load.filesz) <= from.0);
        let load = self.loads.get(first)?;
        let start = load.paddr.max(from.0);
        let len = load.paddr.saturating_add(load.filesz).checked_sub(start)?;
        Some(PhysRange {
            start: PhysAddr(start),
            len,
        })
    }
}

/// Sorts loads and cuts overlaps away, so that a binary search finds the one that holds an address. Where two hold the
/// same memory (the kernel image is stored twice in `/proc/vmcore`) either will do.
fn disjoint(mut loads: Vec<Load>) -> Vec<Load> {
    loads.sort_unstable_by_key(|load| (load.paddr, u64::MAX.wrapping_sub(load.filesz)));
    let mut end = 0;
    loads.retain_mut(|load| {
        let load_end = load.paddr.saturating_add(load.filesz);
        let overlap = end.max(load.paddr).saturating_sub(load.paddr);
        if load_end <= end {
            return false;
        }
        load.paddr = load.paddr.saturating_add(overlap);
        load.offset = load.offset.saturating_add(overlap);
        load.filesz = load.filesz.saturating_sub(overlap);
        end = load_end;
        true
    });
    loads
}

impl Header {
    fn read(source: &dyn ReadAt) -> Result<Self> {
        let mut ident = [0; 16];
        source.read_at(0, &mut ident)?;
        let [0x7f, b'E', b'L', b'F', ei_class, ei_data, ..] = ident else {
            return Err(Error::Invalid {
                what: "e_ident",
                at: At::File(0),
                value: 0,
                why: "no ELF file",
            });
        };
        let invalid = |what, at, value, why| Error::Invalid {
            what,
            at: At::File(at),
            value: u64::from(value),
            why,
        };
        let class = match ei_class {
            1 => Word::W32,
            2 => Word::W64,
            other => return Err(invalid("EI_CLASS", 4, u16::from(other), "must be 1 or 2")),
        };
        let endian = match ei_data {
            1 => Endian::Little,
            2 => Endian::Big,
            other => return Err(invalid("EI_DATA", 5, u16::from(other), "must be 1 or 2")),
        };
        let mut raw = [0; 64];
        let raw = raw
            .get_mut(..if class == Word::W64 { 64 } else { 52 })
            .unwrap_or_default();
        source.read_at(0, raw)?;
        let mut input = Bytes::new(raw, endian, At::File(0));
        input.take(16, "e_ident")?;
        let kind = input.u16("e_type")?;
        if kind != ET_CORE {
            return Err(invalid("e_type", 16, kind, "not a core file (4)"));
        }
        let machine = Machine::from_elf(input.u16("e_machine")?);
        input.u32("e_version")?;
        input.word(class, "e_entry")?;
        let phoff = input.word(class, "e_phoff")?;
        let shoff = input.word(class, "e_shoff")?;
        let flags = input.u32("e_flags")?;
        // QEMU writes 8 here in some dumps; nothing depends on it.
        input.u16("e_ehsize")?;
        let phentsize = u64::from(input.u16("e_phentsize")?);
        let phnum = match input.u16("e_phnum")? {
            PN_XNUM if shoff != 0 => section_info(source, class, endian, shoff)?,
            count => u64::from(count),
        };
        Ok(Header {
            class,
            endian,
            machine,
            flags,
            has_sections: shoff != 0,
            phoff,
            phentsize,
            phnum,
        })
    }
}

/// `sh_info` of section header 0, which holds the number of program headers when `e_phnum` cannot.
fn section_info(source: &dyn ReadAt, class: Word, endian: Endian, shoff: u64) -> Result<u64> {
    let mut raw = [0; 4];
    let at = shoff.saturating_add(if class == Word::W64 { 44 } else { 28 });
    source.read_at(at, &mut raw)?;
    Bytes::new(&raw, endian, At::File(at))
        .u32("sh_info")
        .map(u64::from)
}

impl ProgramHeader {
    const fn len(class: Word) -> u64 {
        match class {
            Word::W64 => 56,
            Word::W32 => 32,
        }
    }

    fn parse(raw: &[u8], header: &Header, offset: u64) -> Result<Self> {
        let class = header.class;
        let mut input = Bytes::new(raw, header.endian, At::File(offset));
        let kind = input.u32("p_type")?;
        if class == Word::W64 {
            input.u32("p_flags")?;
        }
        Ok(ProgramHeader {
            kind,
            offset: input.word(class, "p_offset")?,
            vaddr: input.word(class, "p_vaddr")?,
            paddr: input.word(class, "p_paddr")?,
            filesz: input.word(class, "p_filesz")?,
            memsz: input.word(class, "p_memsz")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Slice<'a>(&'a [u8]);

    impl ReadAt for Slice<'_> {
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
            let have = self.0.get(index(offset)..).unwrap_or_default();
            let need = wide(buf.len());
            let short = Error::Truncated {
                what: "file",
                at: At::File(offset),
                need,
                have: wide(have.len()),
            };
            buf.copy_from_slice(have.get(..buf.len()).ok_or(short)?);
            Ok(())
        }

        fn len(&self) -> Option<u64> {
            Some(wide(self.0.len()))
        }
    }

    /// An ELF64 little-endian core with these loads: (offset, vaddr, paddr, filesz, memsz).
    fn core(loads: &[[u64; 5]], phnum: u16, shoff: u64) -> Vec<u8> {
        let mut out = b"\x7fELF\x02\x01\x01".to_vec();
        out.resize(16, 0);
        out.extend([4, 0, 62, 0, 1, 0, 0, 0]); // e_type, e_machine, e_version
        for word in [0, 64, shoff] {
            out.extend(u64::to_le_bytes(word)); // e_entry, e_phoff, e_shoff
        }
        out.extend([0; 4]); // e_flags
        for half in [64, 56, phnum, 0, 0, 0] {
            out.extend(half.to_le_bytes()); // e_ehsize, e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx
        }
        for &[offset, vaddr, paddr, filesz, memsz] in loads {
            out.extend([1, 0, 0, 0, 7, 0, 0, 0]); // p_type, p_flags
            for word in [offset, vaddr, paddr, filesz, memsz, 0] {
                out.extend(word.to_le_bytes());
            }
        }
        out
    }

    #[test]
    fn memory_is_found_by_physical_address_across_adjacent_segments() {
        let mut file = core(
            &[
                [300, 0, 0x2000, 4, 4],
                [304, 0, 0x2004, 4, 4],
                [0, 0, 0x9000, 0, 64],
            ],
            3,
            0,
        );
        file.resize(300, 0);
        file.extend(*b"abcdefgh");
        let slice = Slice(&file);
        let elf = Elf::open(Source::Plain(&slice)).unwrap();
        let mut buf = [0; 6];
        elf.read_phys(PhysAddr(0x2001), &mut buf).unwrap();
        assert_eq!(&buf, b"bcdefg");
        let hole = elf.read_phys(PhysAddr(0x2004), &mut buf).unwrap_err();
        assert_eq!(
            hole,
            Error::NotInDump {
                addr: PhysAddr(0x2008)
            }
        );
        assert!(
            elf.read_phys(PhysAddr(0x9000), &mut buf).is_err(),
            "in memory but not in the file"
        );
        assert_eq!(
            elf.next_stored(PhysAddr(0x2005)),
            Some(PhysRange {
                start: PhysAddr(0x2005),
                len: 3
            })
        );
        assert_eq!(elf.next_stored(PhysAddr(0x2008)), None);
    }

    #[test]
    fn overlapping_segments_are_read_through() {
        let mut file = core(&[[300, 0, 0x1002, 2, 2], [304, 0, 0x1000, 8, 8]], 2, 0);
        file.resize(300, 0);
        file.extend(*b"CD__abCDefgh");
        let slice = Slice(&file);
        let elf = Elf::open(Source::Plain(&slice)).unwrap();
        let mut buf = [0; 8];
        elf.read_phys(PhysAddr(0x1000), &mut buf).unwrap();
        assert_eq!(&buf, b"abCDefgh");
    }

    #[test]
    fn more_program_headers_than_16_bits_are_counted_by_section_0() {
        let loads: Vec<_> = (0..70_000_u64).map(|n| [0, 0, n << 12, 1, 1]).collect();
        let mut file = core(&loads, PN_XNUM, 64 + 56 * 70_000);
        file.extend([0; 44]);
        file.extend(70_000_u32.to_le_bytes()); // sh_info
        file.extend([0; 16]);
        let slice = Slice(&file);
        assert_eq!(
            Elf::open(Source::Plain(&slice)).unwrap().segments().len(),
            70_000
        );
    }

    #[test]
    fn a_file_cut_anywhere_gives_an_error_or_holes_but_no_panic() {
        let mut file = core(&[[300, 0, 0x2000, 8, 8]], 1, 0);
        file.resize(308, 7);
        for len in 0..file.len() {
            let slice = Slice(&file[..len]);
            if let Ok(elf) = Elf::open(Source::Plain(&slice)) {
                assert!(elf.read_phys(PhysAddr(0x2000), &mut [0; 8]).is_err());
            }
        }
    }

    #[test]
    fn an_executable_is_refused_by_name() {
        let mut file = core(&[], 0, 0);
        file[16] = 3;
        let error = Elf::open(Source::Plain(&Slice(&file)))
            .map(|_| ())
            .unwrap_err();
        assert!(matches!(
            error,
            Error::Invalid {
                what: "e_type",
                value: 3,
                ..
            }
        ));
    }
}
