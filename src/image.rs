//! A crashed kernel for tests: a stretch of memory that holds what a test puts there, with a program header over it.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::addr::{PhysAddr, VirtAddr};
use crate::bytes::{Endian, Word};
use crate::dump::{Abi, Machine, PhysMem, PhysRange, Segment};
use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::vmcoreinfo::VmcoreInfo;

/// Where the memory of an [`Image`] is mapped.
pub(crate) const BASE: u64 = 0xffff_ffff_8100_0000;

/// The memory, from [`BASE`] on.
pub(crate) struct Image {
    pub(crate) bytes: Vec<u8>,
    pub(crate) abi: Abi,
    pub(crate) info: String,
    segments: Vec<Segment>,
}

impl Image {
    /// `len` zero bytes of a 64-bit little-endian machine that has no translation of its own.
    pub(crate) fn new(len: usize) -> Self {
        Image::of(Machine::Other(0), len)
    }

    pub(crate) fn of(machine: Machine, len: usize) -> Self {
        Image {
            bytes: vec![0; len],
            abi: Abi {
                machine,
                endian: Endian::Little,
                word: Word::W64,
            },
            info: String::from("OSRELEASE=6.1.0\nPAGESIZE=4096\n"),
            segments: vec![Segment {
                paddr: PhysAddr(0x1000_0000),
                vaddr: Some(VirtAddr(BASE)),
                len: len as u64,
            }],
        }
    }

    /// Writes `bytes` at an address.
    pub(crate) fn put(&mut self, addr: u64, bytes: &[u8]) {
        let at = (addr - BASE) as usize;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Adds a VMCOREINFO line.
    pub(crate) fn symbol(&mut self, name: &str, addr: u64) {
        self.info += &alloc::format!("SYMBOL({name})={addr:x}\n");
    }

    pub(crate) fn kernel(&self) -> Kernel<'_> {
        let info = VmcoreInfo::parse(self.info.clone().into_bytes()).unwrap();
        Kernel::over(self, &self.segments, self.abi, info)
    }
}

impl PhysMem for Image {
    fn read_phys(&self, addr: PhysAddr, buf: &mut [u8]) -> Result<()> {
        let at = addr.0.checked_sub(0x1000_0000);
        let at = at.ok_or(Error::NotInDump { addr })? as usize;
        let source = self.bytes.get(at..at + buf.len());
        buf.copy_from_slice(source.ok_or(Error::NotInDump { addr })?);
        Ok(())
    }

    fn next_stored(&self, _: PhysAddr) -> Option<PhysRange> {
        None
    }
}
