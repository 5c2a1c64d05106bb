//! VMCOREINFO out of a kernel's symbol table: the last resort for kernels that keep none, or dumps that lost it.
//!
//! A symbol table (`System.map`, or the one in `vmlinux`) tells link addresses. Where the kernel really was is found in
//! memory: `linux_banner` gives the physical place, and since x86_64 randomises the virtual one too, what the pointer to
//! the log points to gives that. What tables do not tell, the layouts of structures, is what 64-bit kernels nearly always
//! have; there is more than one such guess, so the caller has to try.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use crate::addr::PhysAddr;
use crate::bytes::{Endian, index, wide};
use crate::dump::{Abi, Machine, PhysMem, ReadAt};
use crate::error::{At, Error, Result};
use crate::limits;

/// Where x86_64 kernels are linked, less the offset of the image.
const START_KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;
/// The least alignment of an x86_64 kernel in physical and virtual memory.
const ALIGNMENT: u64 = 2 << 20;
const BANNER: &[u8] = b"Linux version ";

/// The symbols that are of use, in tables as in VMCOREINFO.
const WANTED: [&str; 26] = [
    "linux_banner",
    "_stext",
    "init_uts_ns",
    "swapper_pg_dir",
    "init_top_pgt",
    "init_level4_pgt",
    "prb",
    "printk_rb_static",
    "printk_rb_dynamic",
    "log_buf",
    "__log_buf",
    "log_buf_len",
    "log_end",
    "logged_chars",
    "log_first_idx",
    "log_next_idx",
    "clear_seq",
    "kallsyms_names",
    "kallsyms_num_syms",
    "kallsyms_token_table",
    "kallsyms_token_index",
    "kallsyms_offsets",
    "kallsyms_relative_base",
    "kallsyms_addresses",
    "vmap_area_list",
    "node_online_map",
];

/// The layouts of the lockless ring; the offset of `text_data_ring` grew when the ring of descriptors did.
const LOCKLESS: &str = "SIZE(prb_desc)=24\nSIZE(printk_info)=88\nSIZE(dev_printk_info)=64\n\
    OFFSET(printk_ringbuffer.desc_ring)=0\nOFFSET(prb_desc_ring.count_bits)=0\nOFFSET(prb_desc_ring.descs)=8\n\
    OFFSET(prb_desc_ring.infos)=16\nOFFSET(prb_desc_ring.head_id)=24\nOFFSET(prb_desc_ring.tail_id)=32\n\
    OFFSET(prb_desc.state_var)=0\nOFFSET(prb_desc.text_blk_lpos)=8\nOFFSET(prb_data_blk_lpos.begin)=0\n\
    OFFSET(prb_data_blk_lpos.next)=8\nOFFSET(printk_info.seq)=0\nOFFSET(printk_info.ts_nsec)=8\n\
    OFFSET(printk_info.text_len)=16\nOFFSET(printk_info.caller_id)=20\nOFFSET(printk_info.dev_info)=24\n\
    OFFSET(dev_printk_info.subsystem)=0\nLENGTH(printk_info_subsystem)=16\nOFFSET(dev_printk_info.device)=16\n\
    LENGTH(printk_info_device)=48\nOFFSET(prb_data_ring.size_bits)=0\nOFFSET(prb_data_ring.data)=8\n\
    OFFSET(prb_data_ring.head_lpos)=16\nOFFSET(prb_data_ring.tail_lpos)=24\nOFFSET(atomic_long_t.counter)=0\n";
/// The layout of structured records.
const RECORDS: &str = "SIZE(printk_log)=16\nOFFSET(printk_log.ts_nsec)=0\nOFFSET(printk_log.len)=8\n\
    OFFSET(printk_log.text_len)=10\nOFFSET(printk_log.dict_len)=12\n";

/// What a symbol table tells.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SystemMap {
    symbols: Vec<(&'static str, u64)>,
}

impl SystemMap {
    /// Takes one symbol, and keeps it if it is of use.
    fn add(&mut self, name: &[u8], addr: u64) {
        let wanted = WANTED.iter().find(|wanted| wanted.as_bytes() == name);
        if let Some(&name) = wanted.filter(|name| self.get(name).is_none()) {
            self.symbols.push((name, addr));
        }
    }

    /// Takes a line of `System.map`: an address, a type and a name.
    fn add_line(&mut self, line: &[u8]) {
        let mut fields = line.split(|&byte| byte == b' ');
        let (Some(addr), Some(_), Some(name)) = (fields.next(), fields.next(), fields.next())
        else {
            return;
        };
        let addr = str::from_utf8(addr).ok();
        if let Some(addr) = addr.and_then(|addr| u64::from_str_radix(addr, 16).ok()) {
            self.add(name.trim_ascii_end(), addr);
        }
    }

    /// Reads the symbol table in `file`, an ELF file or a `System.map`.
    ///
    /// # Errors
    /// What is wrong with an ELF file; `Invalid` for a file without a symbol of use.
    pub fn read(file: &dyn ReadAt) -> Result<Self> {
        let mut map = SystemMap::default();
        let mut magic = [0; 4];
        file.read_at(0, &mut magic)?;
        if magic == *b"\x7fELF" {
            map.add_elf(file)?;
        } else {
            map.add_text(file);
        }
        if map.symbols.is_empty() {
            return Err(Error::Invalid {
                what: "the symbol table",
                at: At::File(0),
                value: file.len().unwrap_or_default(),
                why: "bytes without a symbol of use",
            });
        }
        Ok(map)
    }

    /// Takes all lines of a `System.map`, up to where it cannot be read.
    fn add_text(&mut self, file: &dyn ReadAt) {
        let len = file.len().unwrap_or_default();
        let mut chunk = Vec::new();
        let mut at = 0_u64;
        while at < len {
            let left = len.saturating_sub(at);
            chunk.resize(index(left.min(limits::WINDOW_LEN)), 0);
            if file.read_at(at, &mut chunk).is_err() {
                return;
            }
            // The line that the chunk cuts is read again with the next, unless it is the last or no line at all.
            let whole = chunk.iter().rposition(|&byte| byte == b'\n');
            let whole = whole.filter(|_| left > limits::WINDOW_LEN);
            let used = whole.map_or(chunk.len(), |end| end.saturating_add(1));
            let lines = chunk.get(..used).unwrap_or_default();
            lines
                .split(|&byte| byte == b'\n')
                .for_each(|line| self.add_line(line));
            at = at.saturating_add(wide(used));
        }
    }

    /// Takes the symbol table of an ELF file, as `vmlinux` has one.
    ///
    /// # Errors
    /// `Unsupported` for other than 64-bit files, `Missing` without a symbol table, else what reading it gave.
    fn add_elf(&mut self, file: &dyn ReadAt) -> Result<()> {
        const SHT_SYMTAB: u32 = 2;
        let mut header = [0; 64];
        file.read_at(0, &mut header)?;
        let [0x7f, b'E', b'L', b'F', 2, data, ..] = header else {
            return Err(Error::Unsupported {
                what: "a symbol table in a file of ELF class",
                value: header.get(4).copied().unwrap_or_default().into(),
            });
        };
        let endian = if data == 2 {
            Endian::Big
        } else {
            Endian::Little
        };
        let shoff = endian.u64(&header, 40).unwrap_or_default();
        let shnum = endian.u16(&header, 60).unwrap_or_default();
        let section = |number: u64| -> Result<[u8; 64]> {
            let mut raw = [0; 64];
            let at = number.saturating_mul(64).saturating_add(shoff);
            file.read_at(at, &mut raw)?;
            Ok(raw)
        };
        for number in 0..u64::from(shnum) {
            let symtab = section(number)?;
            if endian.u32(&symtab, 4) != Some(SHT_SYMTAB) {
                continue;
            }
            let link = endian.u32(&symtab, 40).unwrap_or_default();
            let strtab = section(link.into())?;
            let names = endian.u64(&strtab, 24).unwrap_or_default();
            let at = endian.u64(&symtab, 24).unwrap_or_default();
            let count = endian.u64(&symtab, 32).unwrap_or_default() / 24;
            return self.add_symtab(file, endian, (at, count), names);
        }
        Err(Error::Missing {
            key: "a symbol table (.symtab)",
        })
    }

    fn add_symtab(
        &mut self,
        file: &dyn ReadAt,
        endian: Endian,
        (start, count): (u64, u64),
        names: u64,
    ) -> Result<()> {
        if count > limits::KALLSYMS.into() {
            return Err(Error::Limit {
                what: "the number of symbols",
                value: count,
                max: limits::KALLSYMS.into(),
            });
        }
        for number in 0..count {
            let mut raw = [0; 24];
            file.read_at(start.saturating_add(number.saturating_mul(24)), &mut raw)?;
            let name_at = endian.u32(&raw, 0).unwrap_or_default();
            // Longer than all that are wanted; the last names of the table may be shorter.
            let mut name = [0; 24];
            let name_at = names.saturating_add(name_at.into());
            if file.read_at(name_at, &mut name).is_ok() {
                let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
                self.add(name, endian.u64(&raw, 8).unwrap_or_default());
            }
        }
        Ok(())
    }

    /// The link address of a symbol.
    fn get(&self, name: &str) -> Option<u64> {
        let found = self.symbols.iter().find(|(known, _)| *known == name);
        found.map(|&(_, addr)| addr).filter(|&addr| addr != 0)
    }

    /// Makes texts of VMCOREINFO for the kernel in `mem` and returns the first that `accept` takes.
    ///
    /// # Errors
    /// `Missing` when the table is of no use, or no text is accepted.
    pub fn vmcoreinfo(
        &self,
        mem: &dyn PhysMem,
        abi: Abi,
        accept: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<Vec<u8>> {
        if self.get("log_buf").or(self.get("prb")).is_none() {
            return Err(Error::Missing {
                key: "log_buf (in the symbol table)",
            });
        }
        let mut tries = |place: Place| {
            // The ring of descriptors got two more members in 6.7, and in stable kernels.
            let texts = [48, 40].map(|data_ring| self.text(&place, data_ring));
            texts.into_iter().find(|text| accept(text))
        };
        let found = if abi.machine == Machine::X86_64 {
            self.places(mem, abi, &mut tries)
        } else {
            tries(Place::default())
        };
        found.ok_or(Error::Missing {
            key: "the kernel of the symbol table",
        })
    }

    /// Tries every place in memory where the kernel's banner stands.
    fn places(
        &self,
        mem: &dyn PhysMem,
        abi: Abi,
        tries: &mut dyn FnMut(Place) -> Option<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        let link = self.get("linux_banner")?.checked_sub(START_KERNEL_MAP)?;
        let mut from = PhysAddr(0);
        while let Some(range) = mem.next_stored(from).filter(|range| range.len != 0) {
            let end = range.start.wrapping_add(range.len);
            // The first address in the range that is as far from the alignment as the banner.
            let first = range
                .start
                .0
                .wrapping_add(link.wrapping_sub(range.start.0) % ALIGNMENT);
            for at in (first..end.0).step_by(index(ALIGNMENT)) {
                let mut banner = [0; 96];
                let read = mem.read_phys(PhysAddr(at), &mut banner);
                let Some(rest) = banner.strip_prefix(BANNER).filter(|_| read.is_ok()) else {
                    continue;
                };
                let release = rest.split(|&byte| byte == b' ').next().unwrap_or_default();
                let base = at.wrapping_sub(link);
                let shift = self.shift(mem, abi, base);
                let found = tries(Place {
                    phys_base: Some(base.wrapping_sub(shift)),
                    shift,
                    release: String::from_utf8_lossy(release).into_owned(),
                });
                if found.is_some() {
                    return found;
                }
            }
            from = end;
        }
        None
    }

    /// How far the kernel was from its link address, by a pointer into its image.
    fn shift(&self, mem: &dyn PhysMem, abi: Abi, base: u64) -> u64 {
        let pointers = [
            ("prb", "printk_rb_static"),
            ("prb", "printk_rb_dynamic"),
            ("log_buf", "__log_buf"),
        ];
        let shift = |(pointer, target)| {
            let at = self.get(pointer)?.checked_sub(START_KERNEL_MAP)?;
            let mut raw = [0; 8];
            let at = PhysAddr(base.wrapping_add(at));
            mem.read_phys(at, &mut raw).ok()?;
            let shift = abi.endian.u64(&raw, 0)?.checked_sub(self.get(target)?)?;
            (shift < 1 << 30 && shift.is_multiple_of(ALIGNMENT)).then_some(shift)
        };
        pointers.into_iter().find_map(shift).unwrap_or(0)
    }

    fn text(&self, place: &Place, data_ring: u32) -> Vec<u8> {
        let release = match place.release.as_str() {
            "" => "unknown",
            release => release,
        };
        let mut text = format!("OSRELEASE={release}\nPAGESIZE=4096\n");
        if let Some(base) = place.phys_base {
            let _ = writeln!(text, "NUMBER(phys_base)={}", base.cast_signed());
            let _ = writeln!(text, "KERNELOFFSET={:x}", place.shift);
        }
        for &(name, addr) in &self.symbols {
            let name = if name == "init_level4_pgt" {
                "swapper_pg_dir"
            } else {
                name
            };
            let _ = writeln!(text, "SYMBOL({name})={:x}", addr.wrapping_add(place.shift));
        }
        if self.get("prb").is_some() {
            // Layouts of 64-bit kernels.
            text.push_str(LOCKLESS);
            let ring = data_ring.saturating_add(40);
            let _ = writeln!(text, "OFFSET(printk_ringbuffer.text_data_ring)={data_ring}");
            let _ = writeln!(text, "SIZE(printk_ringbuffer)={ring}");
        } else if self.get("log_first_idx").is_some() {
            text.push_str(RECORDS);
        }
        text.into_bytes()
    }
}

/// Where the kernel was.
#[derive(Default)]
struct Place {
    phys_base: Option<u64>,
    /// From link addresses to real ones.
    shift: u64,
    release: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::Word;
    use crate::dump::PhysRange;
    use alloc::vec;

    /// Memory from 0 on.
    struct Memory(Vec<u8>);

    impl PhysMem for Memory {
        fn read_phys(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<()> {
            let missing = Error::NotInDump { addr };
            let start = addr.0 as usize;
            let bytes = self.0.get(start..start + buf.len()).ok_or(missing)?;
            buf.copy_from_slice(bytes);
            Ok(())
        }

        fn next_stored(&self, from: PhysAddr) -> Option<PhysRange> {
            let len = (self.0.len() as u64).checked_sub(from.0)?;
            (len != 0).then_some(PhysRange { start: from, len })
        }
    }

    impl ReadAt for Memory {
        fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
            self.read_phys(PhysAddr(offset), buf)
        }

        fn len(&self) -> Option<u64> {
            Some(self.0.len() as u64)
        }
    }

    const ABI: Abi = Abi {
        machine: Machine::X86_64,
        endian: Endian::Little,
        word: Word::W64,
    };

    fn text_map() -> Memory {
        let mut text = b"ffffffff81000000 T _stext\n".to_vec();
        // More than is read at once.
        for n in 0..3000 {
            text.extend(format!("ffffffff8110{n:04x} t something_{n}\n").bytes());
        }
        text.extend(
            b"ffffffff81234560 R linux_banner\nffffffff81300000 D prb\nffffffff81300100 d printk_rb_static\n\
              ffffffff81400000 D init_top_pgt",
        );
        Memory(text)
    }

    #[test]
    fn a_text_is_read_to_its_last_line() {
        let map = SystemMap::read(&text_map()).unwrap();
        assert_eq!(map.symbols.len(), 5);
        assert_eq!(map.get("_stext"), Some(0xffff_ffff_8100_0000));
        assert_eq!(map.get("init_top_pgt"), Some(0xffff_ffff_8140_0000));
        let stub = Memory(b"ffffffffffffffff B The real System.map is elsewhere\n".to_vec());
        assert!(matches!(SystemMap::read(&stub), Err(Error::Invalid { .. })));
    }

    #[test]
    fn an_elf_files_symbols_are_read() {
        let mut file = vec![0; 0x1000];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"\x7fELF\x02\x01");
        put(40, &0x100_u64.to_le_bytes()); // e_shoff
        put(60, &3_u16.to_le_bytes()); // e_shnum
        put(0x144, &2_u32.to_le_bytes()); // section 1: sh_type SHT_SYMTAB
        put(0x158, &0x400_u64.to_le_bytes()); // sh_offset
        put(0x160, &48_u64.to_le_bytes()); // sh_size
        put(0x168, &2_u32.to_le_bytes()); // sh_link
        put(0x198, &0x800_u64.to_le_bytes()); // section 2: sh_offset
        put(0x418, &1_u32.to_le_bytes()); // symbol 1: st_name
        put(0x420, &0xc123_4560_u64.to_le_bytes()); // st_value
        put(0x801, b"log_buf\0");
        let map = SystemMap::read(&Memory(file.clone())).unwrap();
        assert_eq!(map.symbols, [("log_buf", 0xc123_4560)]);
        file[0x144] = 0;
        assert!(matches!(
            SystemMap::read(&Memory(file.clone())),
            Err(Error::Missing { .. })
        ));
        file[4] = 1;
        assert!(matches!(
            SystemMap::read(&Memory(file)),
            Err(Error::Unsupported { .. })
        ));
    }

    #[test]
    fn the_banner_tells_the_physical_place_and_a_pointer_the_virtual_one() {
        let map = SystemMap::read(&text_map()).unwrap();
        // Loaded at 0x600000 instead of 0x1000000, and 0x4000000 above its link address.
        let mut memory = Memory(vec![0; 0x100_0000]);
        let mut put =
            |at: usize, bytes: &[u8]| memory.0[at..at + bytes.len()].copy_from_slice(bytes);
        put(
            0x23_4560,
            b"Linux version 9.9 of something else that was here before",
        );
        put(0x83_4560, b"Linux version 6.1.0-test (gcc) #1 SMP");
        put(0x90_0000, &0xffff_ffff_8530_0100_u64.to_le_bytes());
        let mut offered = Vec::new();
        let found = map.vmcoreinfo(&memory, ABI, &mut |text| {
            offered.push(String::from_utf8_lossy(text).into_owned());
            offered.len() == 4
        });
        assert!(found.is_ok());
        assert!(offered[0].starts_with("OSRELEASE=9.9\n"), "{}", offered[0]);
        let right = &offered[3];
        for line in [
            "OSRELEASE=6.1.0-test",
            // 0x600000 - 0x1000000 - 0x4000000
            "NUMBER(phys_base)=-77594624",
            "KERNELOFFSET=4000000",
            "SYMBOL(prb)=ffffffff85300000",
            "SYMBOL(init_top_pgt)=ffffffff85400000",
            "OFFSET(printk_ringbuffer.text_data_ring)=40",
        ] {
            assert!(
                right.lines().any(|known| known == line),
                "{line} in {right}"
            );
        }
        let none = map.vmcoreinfo(&memory, ABI, &mut |_| false);
        assert!(matches!(none, Err(Error::Missing { .. })));
    }
}
