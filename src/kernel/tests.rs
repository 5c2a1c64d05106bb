//! Which way of translation is believed: an x86_64 kernel whose release lies at two places, and whose tables, note and
//! program headers are wrong in turn.

use alloc::format;
use alloc::string::String;
use alloc::vec;

use super::*;
use crate::dump::PhysRange;

/// `_stext`, and `init_uts_ns` one page on.
const IMAGE: u64 = 0xffff_ffff_8120_0000;
const UTS: u64 = IMAGE + 0x1000;
/// The image as the note and the tables have it; `swapper_pg_dir` is two pages on.
const LOADED: u64 = 0x320_0000;
const RELEASE: &[u8] = b"6.1.0-test\0";

/// Pages of physical memory.
struct Memory(Vec<(u64, Vec<u8>)>);

impl Memory {
    /// An image with the release at `paddr`.
    fn with_image(paddr: u64) -> Self {
        let mut memory = Memory(Vec::new());
        memory.put(paddr, b"text");
        memory.put(paddr + 0x1000 + 130, RELEASE);
        memory
    }

    /// Page tables at `LOADED + 0x2000` and behind, which map the 2 MiB of the image to `target`.
    fn with_tables(mut self, target: u64) -> Self {
        let root = LOADED + 0x2000;
        let entries = [
            (root + 8 * 511, root + 0x1001),
            (root + 0x1000 + 8 * 510, root + 0x2001),
            (root + 0x2000 + 8 * 9, target | 0x81),
        ];
        for (at, entry) in entries {
            self.put(at, &u64::to_le_bytes(entry));
        }
        self
    }

    fn put(&mut self, paddr: u64, bytes: &[u8]) {
        let (page, inside) = (paddr & !0xfff, (paddr & 0xfff) as usize);
        if !self.0.iter().any(|stored| stored.0 == page) {
            self.0.push((page, vec![0; 0x1000]));
            self.0.sort();
        }
        let stored = self.0.iter_mut().find(|stored| stored.0 == page).unwrap();
        stored.1[inside..inside + bytes.len()].copy_from_slice(bytes);
    }

    fn kernel<'a>(&'a self, note: &str, headers: &'a [Segment]) -> Kernel<'a> {
        let text = format!(
            "OSRELEASE=6.1.0-test\nSYMBOL(init_uts_ns)={UTS:x}\nSYMBOL(_stext)={IMAGE:x}\n\
             SYMBOL(swapper_pg_dir)={:x}\n{note}",
            IMAGE + 0x2000
        );
        let abi = Abi {
            machine: Machine::X86_64,
            endian: Endian::Little,
            word: Word::W64,
        };
        let info = VmcoreInfo::parse(String::from(&*text).into()).unwrap();
        Kernel::over(self, headers, abi, info)
    }
}

impl PhysMem for Memory {
    fn read_phys(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<()> {
        for (n, byte) in buf.iter_mut().enumerate() {
            let at = addr.0 + n as u64;
            let page = self.0.iter().find(|stored| stored.0 == at & !0xfff);
            let page = page.ok_or(Error::NotInDump { addr: PhysAddr(at) })?;
            *byte = page.1[(at & 0xfff) as usize];
        }
        Ok(())
    }

    fn next_stored(&self, from: PhysAddr) -> Option<PhysRange> {
        let page = self.0.iter().find(|stored| stored.0 + 0x1000 > from.0)?;
        let start = page.0.max(from.0);
        Some(PhysRange {
            start: PhysAddr(start),
            len: page.0 + 0x1000 - start,
        })
    }
}

/// `phys_base` of an image at [`LOADED`].
const NOTE: &str = "NUMBER(phys_base)=33554432\nNUMBER(pgtable_l5_enabled)=0\n";

fn header(vaddr: u64, paddr: u64) -> [Segment; 1] {
    [Segment {
        vaddr: Some(VirtAddr(vaddr)),
        paddr: PhysAddr(paddr),
        len: 0x20_0000,
    }]
}

fn image_at(kernel: &Kernel<'_>) -> Result<PhysAddr> {
    let mapping = kernel.translate(VirtAddr(IMAGE));
    mapping.map(|mapping| mapping.paddr)
}

#[test]
fn tables_that_find_the_release_come_first() {
    let memory = Memory::with_image(LOADED).with_tables(LOADED & !0x1f_ffff);
    let headers = header(IMAGE, 0x9999_0000);
    let kernel = memory.kernel(NOTE, &headers);
    assert_eq!(kernel.ways, [Way::Tables, Way::Formula, Way::Headers]);
    assert_eq!(image_at(&kernel), Ok(PhysAddr(LOADED)));
}

#[test]
fn tables_that_find_another_release_come_last() {
    let mut memory = Memory::with_image(LOADED).with_tables(0x700_0000);
    memory.put(0x700_1000 + 130, b"5.10.0-kexec");
    memory.put(0x700_0000, b"other");
    let kernel = memory.kernel(NOTE, &[]);
    assert_eq!(kernel.ways, [Way::Formula, Way::Headers, Way::Tables]);
    assert_eq!(image_at(&kernel), Ok(PhysAddr(LOADED)));
}

#[test]
fn tables_that_lead_out_of_the_dump_yield_to_the_formula() {
    const DIRECT_MAP: u64 = 0xffff_8880_0000_0000;
    let root = LOADED + 0x2000;
    let mut memory = Memory::with_image(LOADED).with_tables(LOADED & !0x1f_ffff);
    memory.put(root + 8 * 273, &u64::to_le_bytes(root + 0x3001));
    memory.put(root + 0x3000, &u64::to_le_bytes(0x7_4000_0081));
    let kernel = memory.kernel(NOTE, &[]);
    let stored = kernel.translate(VirtAddr(DIRECT_MAP + LOADED)).unwrap();
    assert_eq!(stored.paddr, PhysAddr(LOADED));
    let nowhere = kernel.translate(VirtAddr(DIRECT_MAP)).unwrap();
    assert_eq!(nowhere.paddr, PhysAddr(0x7_4000_0000), "neither is stored");
}

#[test]
fn in_the_image_tables_that_disagree_with_the_formula_are_damaged() {
    let mut memory = Memory::with_image(LOADED).with_tables(LOADED & !0x1f_ffff);
    let entry = LOADED + 0x4000 + 8 * 10;
    memory.put(entry, &u64::to_le_bytes(LOADED & !0x1f_ffff | 0x81));
    memory.put(LOADED + 0x20_0000, b"data");
    let kernel = memory.kernel(NOTE, &[]);
    let data = kernel.translate(VirtAddr(IMAGE + 0x20_0000)).unwrap();
    assert_eq!(data.paddr, PhysAddr(LOADED + 0x20_0000));
}

#[test]
fn a_note_without_phys_base_and_wrong_headers_leave_the_search_for_the_release() {
    let memory = Memory::with_image(LOADED).with_tables(LOADED & !0x1f_ffff);
    for headers in [&header(IMAGE, LOADED + 0x20_0000)[..], &[]] {
        let kernel = memory.kernel("", headers);
        assert_eq!(image_at(&kernel), Ok(PhysAddr(LOADED)));
        assert_eq!(kernel.ways.first(), Some(&Way::Tables));
    }
}

#[test]
fn of_two_images_that_the_search_finds_the_one_with_page_tables_runs() {
    let waiting = LOADED - 0x20_0000;
    let mut memory = Memory::with_image(LOADED).with_tables(LOADED & !0x1f_ffff);
    memory.put(waiting + 0x1000 + 130, RELEASE);
    memory.put(waiting, b"waits for kexec");
    assert_eq!(image_at(&memory.kernel("", &[])), Ok(PhysAddr(LOADED)));
}

#[test]
fn five_levels_are_tried_when_the_note_does_not_tell() {
    let root = LOADED + 0x2000;
    let mut memory = Memory::with_image(LOADED).with_tables(LOADED & !0x1f_ffff);
    // The root becomes the level below a new root, which stands where the note points.
    let old: Vec<u8> = memory
        .0
        .iter()
        .find(|page| page.0 == root)
        .unwrap()
        .1
        .clone();
    memory.put(root + 0x8000, &old);
    memory.put(root + 8 * 511, &u64::to_le_bytes(root + 0x8001));
    let kernel = memory.kernel("NUMBER(phys_base)=33554432\n", &[]);
    assert_eq!(kernel.ways.first(), Some(&Way::Tables));
    assert_eq!(image_at(&kernel), Ok(PhysAddr(LOADED)));
}
