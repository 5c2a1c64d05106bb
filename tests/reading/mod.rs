//! Reading a dump that lies in memory through the library, and what came out in the writer's words.

// Every test program uses its own part of this module.
#![allow(dead_code)]

use crashdmesg::dump::{ReadAt, Vmcore};
use crashdmesg::error::{At, Error, Result};
use crashdmesg::kernel::Kernel;
use crashdmesg::printk::{Caller, Entry, Log, LostKind};
use crashdmesg::vmcoreinfo::VmcoreInfo;

use crate::build::expect::Kept;
use crate::build::{Crash, Message, elf};

/// A file in memory.
pub struct Slice<'a>(pub &'a [u8]);

impl ReadAt for Slice<'_> {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let have = self
            .0
            .get(offset.min(self.0.len() as u64) as usize..)
            .unwrap_or(&[]);
        let from = have.get(..buf.len()).ok_or(Error::Truncated {
            what: "file",
            at: At::File(offset),
            need: buf.len() as u64,
            have: have.len() as u64,
        })?;
        buf.copy_from_slice(from);
        Ok(())
    }

    fn len(&self) -> Option<u64> {
        Some(self.0.len() as u64)
    }
}

/// All that a log gave.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Read {
    pub kept: Vec<Kept>,
    pub lost: Vec<LostKind>,
    /// What was found in the place of the lost ones.
    pub salvage: Vec<Vec<u8>>,
    /// Time and text of what is certain of them.
    pub begun: Vec<Option<(u64, Vec<u8>)>>,
}

impl Read {
    /// The texts of the records.
    pub fn texts(&self) -> Vec<String> {
        let text = |kept: &Kept| String::from_utf8_lossy(&kept.message.text).into_owned();
        self.kept.iter().map(text).collect()
    }
}

/// Reads the log of `crash`.
pub fn read(crash: &Crash) -> Result<Read> {
    read_file(&elf::Options::default().write(crash))
}

/// Reads the log of a dump, which must end after no more entries than a log of its size can have.
pub fn read_file(file: &[u8]) -> Result<Read> {
    let slice = Slice(file);
    let sources: [&dyn ReadAt; 1] = [&slice];
    let vmcore = Vmcore::open(&sources)?;
    let info = VmcoreInfo::parse(vmcore.vmcoreinfo()?)?;
    let kernel = Kernel::new(&vmcore, info);
    let log = Log::locate(&kernel)?;
    let mut read = Read::default();
    let mut entries = log.entries(&kernel);
    while let Some(entry) = entries.next() {
        match entry {
            Entry::Record(record) => read.kept.push(Kept {
                seq: record.seq,
                message: Message {
                    ts_ns: record.ts_ns.unwrap_or(u64::MAX),
                    level: record.level.unwrap_or(u8::MAX),
                    facility: record.facility.map_or(u8::MAX, |facility| facility as u8),
                    caller: match record.caller {
                        Some(Caller::Task(pid)) => pid,
                        Some(Caller::Cpu(cpu)) => 1 << 31 | cpu,
                        None => u32::MAX,
                    },
                    text: record.text.to_vec(),
                    subsystem: String::from_utf8_lossy(record.subsystem).into_owned(),
                    device: String::from_utf8_lossy(record.device).into_owned(),
                    ..Message::default()
                },
            }),
            Entry::Lost(lost) => {
                read.lost.push(lost.what);
                read.salvage.push(lost.salvage.to_vec());
                let begun = lost
                    .begun
                    .map(|record| (record.ts_ns, record.text.to_vec()));
                let begun = begun.and_then(|(ts_ns, text)| Some((ts_ns?, text)));
                read.begun.push(begun);
            }
        }
        let entries = read.kept.len() + read.lost.len();
        assert!(entries <= 2 * file.len(), "the log does not end");
    }
    Ok(read)
}

/// What a reader can know of what was written: not every kernel stores everything.
pub fn as_read(kept: Vec<Kept>, has_caller: bool) -> Vec<Kept> {
    let reduce = |mut kept: Kept| {
        kept.message.comm.clear();
        kept.message.caller2 = 0;
        if !has_caller {
            kept.message.caller = u32::MAX;
        }
        kept
    };
    kept.into_iter().map(reduce).collect()
}
