//! What a dump is: its container, its machine, its kernel and whether all of it is there, without a look at the log.
//!
//! Everything is best effort. What VMCOREINFO says counts first, then what the kernel's memory says, then the headers of
//! the container.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use crate::bytes::{Endian, Word, index};
use crate::dump::{Abi, Facts, Machine, Vmcore};
use crate::kernel::Kernel;
use crate::render::date::Date;
use crate::render::escape;
use crate::render::json::Object;
use crate::vmcoreinfo::VmcoreInfo;

/// What is known of a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// What the container tells.
    pub facts: Facts,
    /// How the crashed kernel lays out its data.
    pub abi: Abi,
    /// False when the dump has no VMCOREINFO but what may be left of it in memory.
    pub has_vmcoreinfo: bool,
    /// Its page size in bytes.
    pub page_size: Option<u64>,
    /// `uname -r`.
    pub release: Option<Vec<u8>>,
    /// `uname -v`.
    pub version: Option<Vec<u8>>,
    /// `uname -n`.
    pub nodename: Option<Vec<u8>>,
    /// The build id of vmlinux.
    pub build_id: Option<String>,
    /// When it crashed, in seconds since 1970.
    pub crash_time: Option<u64>,
}

/// Bytes of a name in `struct new_utsname`: sysname, nodename, release, version, machine, domainname.
const NAME_LEN: u64 = 65;

impl Identity {
    /// Collects what `vmcore` tells, with the VMCOREINFO that was found for it.
    pub fn collect(vmcore: &Vmcore<'_>, info: Option<VmcoreInfo>) -> Self {
        let facts = vmcore.facts();
        let text = |bytes: &[u8]| Some(bytes.to_vec()).filter(|text| is_name(text));
        let mut identity = Identity {
            abi: vmcore.abi(),
            has_vmcoreinfo: false,
            page_size: facts.page_size,
            release: text(&facts.release),
            version: text(&facts.version_text),
            nodename: text(&facts.nodename),
            build_id: None,
            crash_time: facts.timestamp,
            facts,
        };
        if let Some(info) = info {
            identity.add_vmcoreinfo(vmcore, info);
        }
        identity
    }

    fn add_vmcoreinfo(&mut self, vmcore: &Vmcore<'_>, info: VmcoreInfo) {
        self.has_vmcoreinfo = vmcore.vmcoreinfo().is_ok();
        self.page_size = self.page_size.or(Some(info.page_size()));
        self.crash_time = info.crash_time().or(self.crash_time);
        self.build_id = info.value("BUILD-ID").map(String::from);
        let release = info.osrelease().map(|release| release.as_bytes().to_vec());
        let kernel = Kernel::new(vmcore, info);
        // The release that VMCOREINFO tells shows whether the names are where they should be.
        if release.is_none() || release == utsname(&kernel, 2) {
            self.nodename = utsname(&kernel, 1).or(self.nodename.take());
            self.version = utsname(&kernel, 3).or(self.version.take());
        }
        self.release = release.or(self.release.take());
    }

    /// The architecture, as `uname -m` has it.
    pub fn machine(&self) -> &'static str {
        machine_name(self.abi)
    }

    /// Writes it as one JSON object.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_json(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        let facts = &self.facts;
        let mut object = Object::new(out)?;
        object.string("container", facts.container.as_bytes())?;
        object.raw("flattened", format_args!("{}", facts.flattened))?;
        if let Some(version) = facts.version {
            object.raw("header_version", format_args!("{version}"))?;
        }
        if facts.parts != 0 {
            object.raw("split_parts", format_args!("{}", facts.parts))?;
        }
        if let Some(producer) = facts.producer {
            object.string("producer", producer.as_bytes())?;
        }
        let list = object.key("compression")?;
        list.write_char('[')?;
        for (number, name) in facts.compression.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(list, "{comma}\"{name}\"")?;
        }
        list.write_char(']')?;
        object.string("machine", self.machine().as_bytes())?;
        object.string("byte_order", self.byte_order().as_bytes())?;
        object.raw("word_bits", format_args!("{}", self.abi.word.bits()))?;
        if let Some(size) = self.page_size {
            object.raw("page_size", format_args!("{size}"))?;
        }
        let names = [
            ("release", self.release.as_deref()),
            ("version", self.version.as_deref()),
            ("nodename", self.nodename.as_deref()),
            ("build_id", self.build_id.as_deref().map(str::as_bytes)),
        ];
        for (key, value) in names {
            if let Some(value) = value {
                object.string(key, value)?;
            }
        }
        if let Some(time) = self.crash_time {
            object.raw("crash_time", format_args!("{time}"))?;
        }
        if let Some(level) = facts.dump_level {
            object.raw("dump_level", format_args!("{level}"))?;
        }
        object.raw("stored_bytes", format_args!("{}", facts.stored))?;
        object.raw("vmcoreinfo", format_args!("{}", self.has_vmcoreinfo))?;
        object.raw("complete", format_args!("{}", facts.incomplete.is_none()))?;
        if let Some(why) = facts.incomplete {
            object.string("incomplete", why.as_bytes())?;
        }
        object.end()
    }

    fn byte_order(&self) -> &'static str {
        match self.abi.endian {
            Endian::Little => "little",
            Endian::Big => "big",
        }
    }
}

/// The `n`-th name of the crashed kernel's `init_uts_ns`.
fn utsname(kernel: &Kernel<'_>, n: u64) -> Option<Vec<u8>> {
    let info = kernel.info();
    let name = info.offset("uts_namespace.name").unwrap_or(0);
    let offset = name.checked_add(n.checked_mul(NAME_LEN)?)?;
    let addr = info.symbol("init_uts_ns").ok()?.checked_add(offset)?;
    let text = kernel.read_cstr(addr, index(NAME_LEN)).ok()?;
    Some(text).filter(|text| is_name(text))
}

/// False for what a machine is called that nobody gave a name.
fn is_name(text: &[u8]) -> bool {
    !text.is_empty() && text != b"(none)"
}

fn machine_name(abi: Abi) -> &'static str {
    let wide = abi.word == Word::W64;
    let little = abi.endian == Endian::Little;
    match abi.machine {
        Machine::I386 => "i386",
        Machine::X86_64 => "x86_64",
        Machine::Arm => "arm",
        Machine::Aarch64 => "aarch64",
        Machine::Ppc => "ppc",
        Machine::Ppc64 if little => "ppc64le",
        Machine::Ppc64 => "ppc64",
        Machine::S390 => "s390x",
        Machine::Riscv if wide => "riscv64",
        Machine::Riscv => "riscv32",
        Machine::Mips if wide => "mips64",
        Machine::Mips => "mips",
        Machine::Loongarch if wide => "loongarch64",
        Machine::Loongarch => "loongarch32",
        Machine::Other(_) => "unknown machine",
    }
}

/// One line: container, machine, kernel, time, completeness.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let facts = &self.facts;
        f.write_str(if facts.flattened { "flattened " } else { "" })?;
        f.write_str(facts.container)?;
        if let Some(version) = facts.version {
            write!(f, " version {version}")?;
        }
        for (number, name) in facts.compression.iter().enumerate() {
            write!(f, "{}{name}", if number == 0 { " with " } else { "+" })?;
        }
        match facts.parts {
            0 => {}
            1 => f.write_str(", 1 part of a split dump")?,
            parts => write!(f, ", {parts} parts of a split dump")?,
        }
        if let Some(producer) = facts.producer {
            write!(f, " by {producer}")?;
        }
        write!(
            f,
            ", {} {}-bit {}-endian",
            self.machine(),
            self.abi.word.bits(),
            self.byte_order()
        )?;
        if let Some(size) = self.page_size {
            write!(f, ", {size}-byte pages")?;
        }
        let names = [
            (", host ", self.nodename.as_deref()),
            (", Linux ", self.release.as_deref()),
            (" ", self.version.as_deref()),
            (", build id ", self.build_id.as_deref().map(str::as_bytes)),
        ];
        for (before, name) in names {
            if let Some(name) = name {
                f.write_str(before)?;
                escape::write_text(f, name)?;
            }
        }
        if let Some(time) = self.crash_time {
            let date = Date::from_unix(time);
            write!(
                f,
                ", crashed {:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
                date.year, date.month, date.day, date.hour, date.minute, date.second
            )?;
        }
        if let Some(level) = facts.dump_level {
            write!(f, ", dump level {level}")?;
        }
        write!(f, ", {} MiB stored", facts.stored >> 20)?;
        if !self.has_vmcoreinfo {
            f.write_str(", no VMCOREINFO")?;
        }
        match facts.incomplete {
            None => f.write_str(", complete"),
            Some(why) => write!(f, ", incomplete: {why}"),
        }
    }
}
