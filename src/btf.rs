//! BTF: the layouts of the kernel's structures, which the kernel carries in its own read-only data.
//!
//! ```text
//! magic u16 | version u8 | flags u8 | hdr_len u32 | type_off, type_len, str_off, str_len u32 | (layout_off, layout_len)
//! types:    name_off u32 | info u32 (kind_flag, kind, vlen) | size or type u32 | what the kind adds        id 1, 2, ...
//! strings:  NUL-terminated
//! ```
//!
//! Specified in `include/uapi/linux/btf.h` and `Documentation/bpf/btf.rst`; vmlinux has it since 5.2 when built with
//! CONFIG_DEBUG_INFO_BTF. The 4 to 7 MiB stay in the dump: one pass over the strings finds where the wanted names are,
//! one pass over the types finds the wanted structures and remembers where every 64th type starts, and then each member
//! path is followed with small reads.

use alloc::vec::Vec;

use crate::addr::VirtAddr;
use crate::bytes::{index, wide};
use crate::error::{At, Error, Result};
use crate::filter::NameFilter;
use crate::kernel::{Kernel, Window};
use crate::limits;

/// Bytes every type record starts with.
const RECORD: u64 = 12;
/// Every so many types their place is remembered.
const STRIDE: u64 = 64;

const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FLOAT: u32 = 16;
const ENUM64: u32 = 19;

/// A member of a structure, or the structure itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Bytes from the start of the structure.
    pub offset: u64,
    /// Bytes of the member; 0 when its type does not tell.
    pub size: u64,
}

/// The layouts that were wanted and found.
#[derive(Clone, Debug, Default)]
pub struct Layouts {
    found: Vec<(&'static str, Member)>,
}

impl Layouts {
    /// The structure or member called `path`: `task_struct`, `task_struct.thread.sp`.
    ///
    /// # Errors
    /// `Missing` when this kernel has none, or it was not wanted.
    pub fn member(&self, path: &'static str) -> Result<Member> {
        let found = self.found.iter().find(|(known, _)| *known == path);
        found
            .map(|&(_, member)| member)
            .ok_or(Error::Missing { key: path })
    }

    /// Bytes from the start of the structure to the member.
    ///
    /// # Errors
    /// As [`Layouts::member`].
    pub fn offset(&self, path: &'static str) -> Result<u64> {
        self.member(path).map(|member| member.offset)
    }

    /// Bytes of the structure or member.
    ///
    /// # Errors
    /// As [`Layouts::member`].
    pub fn size(&self, path: &'static str) -> Result<u64> {
        self.member(path).map(|member| member.size)
    }

    /// Reads the layouts of `wanted` from the BTF at `start`, which ends at `end`. Each is the name of a structure, or
    /// that name and a path of members; members of anonymous structures count as the outer structure's.
    ///
    /// # Errors
    /// `Invalid` when there is no BTF, else what kept it from being read. What a kernel does not have is only left out.
    pub fn read(
        kernel: &Kernel<'_>,
        start: VirtAddr,
        end: VirtAddr,
        wanted: &[&'static str],
    ) -> Result<Self> {
        let sections = Sections::parse(kernel, start, end)?;
        let names = sections.find_names(kernel, wanted)?;
        let types = Types::index(kernel, sections, &names, wanted)?;
        let mut found = Vec::new();
        for &path in wanted {
            if let Some(member) = types.resolve(&names, path) {
                found.push((path, member));
            }
        }
        Ok(Layouts { found })
    }

    /// Layouts as given, for tests and for kernels that have no BTF.
    pub fn known(found: &[(&'static str, Member)]) -> Self {
        Layouts {
            found: found.to_vec(),
        }
    }
}

/// Where the parts of a BTF are.
#[derive(Clone, Copy)]
struct Sections {
    types: VirtAddr,
    types_len: u64,
    strings: VirtAddr,
    strings_len: u64,
    /// The table that tells how long records of each kind are (2026), when there is one.
    layout: Option<(VirtAddr, u64)>,
}

impl Sections {
    fn parse(kernel: &Kernel<'_>, start: VirtAddr, end: VirtAddr) -> Result<Self> {
        let mut raw = [0; 32];
        kernel.read_at(start, &mut raw)?;
        let endian = kernel.endian();
        let magic = endian.u16(&raw, 0).unwrap_or_default();
        let word = |offset| u64::from(endian.u32(&raw, offset).unwrap_or_default());
        let invalid = |what, value, why| Error::Invalid {
            what,
            at: At::Virt(start),
            value,
            why,
        };
        if magic != 0xeb9f || raw.get(2) != Some(&1) {
            return Err(invalid("BTF magic", u64::from(magic), "must be 0xeb9f"));
        }
        let hdr_len = word(4);
        let body = start.wrapping_add(hdr_len);
        let all = end.offset_from(start).unwrap_or(0);
        let all = all.min(limits::BTF_LEN).saturating_sub(hdr_len);
        let fits = |offset: u64, len: u64| offset.saturating_add(len) <= all;
        if hdr_len < 24 || !fits(word(8), word(12)) || !fits(word(16), word(20)) {
            return Err(invalid("BTF hdr_len", hdr_len, "its sections do not fit"));
        }
        let has_layout = hdr_len >= 32 && fits(word(24), word(28));
        Ok(Sections {
            types: body.wrapping_add(word(8)),
            types_len: word(12),
            strings: body.wrapping_add(word(16)),
            strings_len: word(20),
            layout: has_layout.then(|| (body.wrapping_add(word(24)), word(28))),
        })
    }

    /// Where in the strings the components of the wanted paths are, sorted by name.
    fn find_names(&self, kernel: &Kernel<'_>, wanted: &[&'static str]) -> Result<Names> {
        let mut names: Vec<(&'static str, u32)> = wanted
            .iter()
            .flat_map(|path| path.split('.'))
            .map(|name| (name, 0))
            .collect();
        names.sort_unstable();
        names.dedup();
        let longest = names.iter().map(|(name, _)| name.len()).max();
        let longest = wide(longest.unwrap_or(0)).saturating_add(1);
        let filter = NameFilter::new(names.iter().map(|&(name, _)| name));
        let mut window = Window::new(kernel, self.strings, self.strings_len);
        let mut at = 0;
        while at < self.strings_len {
            let len = longest.min(self.strings_len.saturating_sub(at));
            let bytes = window.get(at, index(len))?;
            let nul = bytes.iter().position(|&byte| byte == 0);
            let Some(text) = nul.and_then(|nul| bytes.get(..nul)) else {
                // Longer than any that is wanted: only its end counts. What remains of it may look like a wanted
                // name, so the rest is passed over.
                at = at.saturating_add(len);
                at = end_of_string(&mut window, at, self.strings_len)?;
                continue;
            };
            let first = text.first().copied().unwrap_or(0);
            if filter.may_be_wanted(first, text.len())
                && let Ok(place) = names.binary_search_by(|(name, _)| name.as_bytes().cmp(text))
                && let Some((_, offset)) = names.get_mut(place)
            {
                *offset = u32::try_from(at).unwrap_or_default();
            }
            at = at.saturating_add(wide(text.len())).saturating_add(1);
        }
        Ok(Names(names))
    }
}

/// Where the next string starts, given that `at` is inside of one.
fn end_of_string(window: &mut Window<'_>, mut at: u64, len: u64) -> Result<u64> {
    while at < len {
        let byte = window.get(at, 1)?.first().copied();
        at = at.saturating_add(1);
        if byte == Some(0) {
            break;
        }
    }
    Ok(at)
}

/// Wanted names and their offsets in the strings; 0 for those that no type has.
struct Names(Vec<(&'static str, u32)>);

impl Names {
    fn offset(&self, name: &str) -> Option<u32> {
        let place = self.0.binary_search_by(|(known, _)| (*known).cmp(name));
        let (_, offset) = self.0.get(place.ok()?)?;
        (*offset != 0).then_some(*offset)
    }
}

/// The start of a type record.
#[derive(Clone, Copy)]
struct Record {
    /// Where it is in the types.
    at: u64,
    name: u32,
    kind: u32,
    vlen: u64,
    /// `kind_flag`: member offsets carry the size of bit fields.
    flag: bool,
    /// Its size, or the type it refers to.
    third: u32,
}

/// The types and an index of them.
struct Types<'k> {
    kernel: &'k Kernel<'k>,
    sections: Sections,
    /// Where types 1, 1 + STRIDE, ... start.
    places: Vec<u32>,
    /// Places of the wanted structures, by their names' offsets.
    structures: Vec<(u32, u64)>,
}

impl<'k> Types<'k> {
    /// Goes over all types once.
    fn index(
        kernel: &'k Kernel<'k>,
        sections: Sections,
        names: &Names,
        wanted: &[&'static str],
    ) -> Result<Self> {
        let first = wanted.iter().filter_map(|path| path.split('.').next());
        let mut wanted: Vec<u32> = first.filter_map(|name| names.offset(name)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut types = Types {
            kernel,
            sections,
            places: Vec::new(),
            structures: Vec::new(),
        };
        let mut window = Window::new(kernel, sections.types, sections.types_len);
        let mut at = 0;
        let mut number = 0_u64;
        while at < sections.types_len {
            if number.is_multiple_of(STRIDE) {
                types.places.push(u32::try_from(at).unwrap_or(u32::MAX));
            }
            number = number.saturating_add(1);
            let raw = window.get(at, index(RECORD))?;
            let record = types.record(at, raw);
            if matches!(record.kind, STRUCT | UNION)
                && record.third != 0
                && wanted.binary_search(&record.name).is_ok()
                && !types
                    .structures
                    .iter()
                    .any(|&(name, _)| name == record.name)
            {
                types.structures.push((record.name, at));
            }
            let Some(next) = types.after(&record) else {
                // A kind from the future: what was found so far serves.
                break;
            };
            at = next;
        }
        Ok(types)
    }

    fn record(&self, at: u64, raw: &[u8]) -> Record {
        let word = |offset| self.kernel.endian().u32(raw, offset).unwrap_or_default();
        let info = word(4);
        Record {
            at,
            name: word(0),
            // Five bits of kind and 16 of length at first; the bits above them were zero until 2026.
            kind: info >> 24 & 0x7f,
            vlen: u64::from(info & 0x00ff_ffff),
            flag: info >> 31 != 0,
            third: word(8),
        }
    }

    /// Where the record after this one starts; `None` when that cannot be told.
    fn after(&self, record: &Record) -> Option<u64> {
        let extra = match record.kind {
            PTR | 7..=12 | FLOAT | 18 => 0,
            INT | 14 | 17 => 4,
            ARRAY => 12,
            STRUCT | UNION | 15 | ENUM64 => record.vlen.saturating_mul(12),
            ENUM | 13 => record.vlen.saturating_mul(8),
            kind => {
                let (table, len) = self.sections.layout?;
                let place = u64::from(kind).saturating_mul(4);
                let inside = place.saturating_add(4) <= len;
                let entry = inside.then(|| table.wrapping_add(place))?;
                let info_len = u64::from(self.kernel.read_u8(entry).ok()?);
                let element = self.kernel.read_u8(entry.wrapping_add(1)).ok()?;
                info_len.saturating_add(record.vlen.saturating_mul(u64::from(element)))
            }
        };
        Some(record.at.saturating_add(RECORD).saturating_add(extra))
    }

    /// The record at a place, read alone.
    fn record_at(&self, at: u64) -> Option<Record> {
        let mut raw = [0; 12];
        let inside = at.saturating_add(RECORD) <= self.sections.types_len;
        let addr = inside.then(|| self.sections.types.wrapping_add(at))?;
        self.kernel.read_at(addr, &mut raw).ok()?;
        Some(self.record(at, &raw))
    }

    /// The record of type `id`.
    fn by_id(&self, id: u32) -> Option<Record> {
        let number = u64::from(id.checked_sub(1)?);
        let place = self.places.get(index(number / STRIDE))?;
        let mut record = self.record_at(u64::from(*place))?;
        for _ in 0..number & STRIDE.wrapping_sub(1) {
            record = self.record_at(self.after(&record)?)?;
        }
        Some(record)
    }

    /// The type behind typedefs and qualifiers.
    fn plain(&self, id: u32) -> Option<Record> {
        let mut record = self.by_id(id)?;
        for _ in 0..limits::BTF_DEPTH {
            match record.kind {
                8..=11 | 18 => record = self.by_id(record.third)?,
                _ => return Some(record),
            }
        }
        None
    }

    /// Bytes of type `id`, 0 when it does not tell.
    fn size(&self, id: u32) -> u64 {
        let mut count = 1_u64;
        let mut id = id;
        for _ in 0..limits::BTF_DEPTH {
            let Some(record) = self.plain(id) else {
                return 0;
            };
            match record.kind {
                INT | STRUCT | UNION | ENUM | FLOAT | ENUM64 => {
                    return count.saturating_mul(u64::from(record.third));
                }
                PTR => return count.saturating_mul(wide(self.kernel.word_size().size())),
                ARRAY => {
                    let at = record.at.saturating_add(RECORD);
                    let Some(array) = self.record_at(at) else {
                        return 0;
                    };
                    // Element type, index type and count have the shape of a record's three words.
                    id = array.name;
                    count = count.saturating_mul(u64::from(array.third));
                }
                _ => return 0,
            }
        }
        0
    }

    /// Follows a path of names.
    fn resolve(&self, names: &Names, path: &str) -> Option<Member> {
        let mut parts = path.split('.');
        let name = names.offset(parts.next()?)?;
        let (_, at) = self.structures.iter().find(|(known, _)| *known == name)?;
        let mut record = self.record_at(*at)?;
        let mut found = Member {
            offset: 0,
            size: u64::from(record.third),
        };
        for part in parts {
            if !matches!(record.kind, STRUCT | UNION) {
                return None;
            }
            let (bits, id) = self.member(record, names.offset(part)?)?;
            found.offset = found.offset.saturating_add(bits / 8);
            found.size = self.size(id);
            record = self.plain(id)?;
        }
        Some(found)
    }

    /// The offset in bits and the type of a member, which may be in an anonymous structure or union inside.
    fn member(&self, outer: Record, name: u32) -> Option<(u64, u32)> {
        let mut inside: Vec<(Record, u64)> = Vec::from([(outer, 0)]);
        let mut next = 0;
        while let Some(&(record, base)) = inside.get(next) {
            next = next.saturating_add(1);
            let members = record.at.saturating_add(RECORD);
            for number in 0..record.vlen.min(limits::BTF_MEMBERS) {
                let at = members.saturating_add(number.saturating_mul(12));
                let member = self.member_at(at, record.flag)?;
                let bits = base.saturating_add(member.bits);
                if member.name == name {
                    return Some((bits, member.id));
                }
                if member.name == 0
                    && inside.len() < limits::BTF_ANONYMOUS
                    && let Some(anonymous) = self.plain(member.id)
                    && matches!(anonymous.kind, STRUCT | UNION)
                {
                    inside.push((anonymous, bits));
                }
            }
        }
        None
    }

    fn member_at(&self, at: u64, flag: bool) -> Option<RawMember> {
        let mut raw = [0; 12];
        let inside = at.saturating_add(12) <= self.sections.types_len;
        let addr = inside.then(|| self.sections.types.wrapping_add(at))?;
        self.kernel.read_at(addr, &mut raw).ok()?;
        let word = |offset| self.kernel.endian().u32(&raw, offset).unwrap_or_default();
        let mask = if flag { 0x00ff_ffff } else { u32::MAX };
        Some(RawMember {
            name: word(0),
            id: word(4),
            bits: u64::from(word(8) & mask),
        })
    }
}

/// A member as it stands in a structure's record.
struct RawMember {
    name: u32,
    id: u32,
    bits: u64,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::image::{BASE, Image};

    /// A writer of BTF.
    #[derive(Default)]
    pub(crate) struct Writer {
        types: Vec<u8>,
        strings: Vec<u8>,
        count: u32,
    }

    impl Writer {
        pub(crate) fn new() -> Self {
            Writer {
                strings: b"\0".to_vec(),
                ..Writer::default()
            }
        }

        fn name(&mut self, name: &str) -> u32 {
            if name.is_empty() {
                return 0;
            }
            // Names are stored once, as tools do that make BTF.
            let wanted = [&b"\0"[..], name.as_bytes(), b"\0"].concat();
            if let Some(at) = self.strings.windows(wanted.len()).position(|w| w == wanted) {
                return at as u32 + 1;
            }
            let at = self.strings.len() as u32;
            self.strings.extend(name.bytes());
            self.strings.push(0);
            at
        }

        /// A type record and what follows it; answers its id.
        pub(crate) fn add(&mut self, name: &str, info: u32, third: u32, extra: &[u32]) -> u32 {
            let name = self.name(name);
            for word in [name, info, third].iter().chain(extra) {
                self.types.extend(word.to_le_bytes());
            }
            self.count += 1;
            self.count
        }

        pub(crate) fn int(&mut self, name: &str, size: u32) -> u32 {
            self.add(name, INT << 24, size, &[size * 8])
        }

        /// A structure with members as (name, type, offset in bits).
        pub(crate) fn structure(
            &mut self,
            name: &str,
            size: u32,
            members: &[(&str, u32, u32)],
        ) -> u32 {
            let mut extra = Vec::new();
            for &(name, id, bits) in members {
                extra.extend([self.name(name), id, bits]);
            }
            self.add(name, STRUCT << 24 | members.len() as u32, size, &extra)
        }

        pub(crate) fn finish(&self) -> Vec<u8> {
            let mut bytes = [0x9f, 0xeb, 1, 0, 24, 0, 0, 0].to_vec();
            let (types, strings) = (self.types.len() as u32, self.strings.len() as u32);
            for word in [0, types, types, strings] {
                bytes.extend(word.to_le_bytes());
            }
            bytes.extend(&self.types);
            bytes.extend(&self.strings);
            bytes
        }
    }

    fn sample() -> Vec<u8> {
        let mut btf = Writer::new();
        let int = btf.int("int", 4);
        let char = btf.int("char", 1);
        for number in 0..200 {
            btf.int(&alloc::format!("a_long_name_that_nobody_wants_{number}"), 4);
        }
        let fwd = btf.add("task_struct", 7 << 24, 0, &[]);
        let pointer = btf.add("", PTR << 24, fwd, &[]);
        let comm = btf.add("", ARRAY << 24, 0, &[char, int, 16]);
        let thread = btf.structure("thread_struct", 24, &[("sp", pointer, 64)]);
        let thread = btf.add("thread_t", 8 << 24, thread, &[]);
        let thread = btf.add("", 10 << 24, thread, &[]);
        let inner = btf.structure("", 32, &[("pid", int, 0), ("comm", comm, 32)]);
        let outer = btf.add("", UNION << 24 | 1, 32, &[0, inner, 0]);
        btf.structure(
            "task_struct",
            128,
            &[("flags", int, 0), ("", outer, 64), ("thread", thread, 512)],
        );
        btf.finish()
    }

    const WANTED: [&str; 6] = [
        "task_struct",
        "task_struct.comm",
        "task_struct.flags",
        "task_struct.flags.sp",
        "task_struct.thread.sp",
        "task_struct.state",
    ];

    #[test]
    fn members_are_found_through_anonymous_and_named_types() {
        let bytes = sample();
        let mut image = Image::new(0x1_0000);
        image.put(BASE, &bytes);
        let end = VirtAddr(BASE + bytes.len() as u64);
        let layouts = Layouts::read(&image.kernel(), VirtAddr(BASE), end, &WANTED).unwrap();
        assert_eq!(layouts.size("task_struct"), Ok(128));
        let comm = Member {
            offset: 12,
            size: 16,
        };
        assert_eq!(layouts.member("task_struct.comm"), Ok(comm));
        assert_eq!(layouts.offset("task_struct.thread.sp"), Ok(64 + 8));
        for key in ["task_struct.state", "task_struct.flags.sp", "rq"] {
            assert_eq!(layouts.offset(key), Err(Error::Missing { key }));
        }
    }

    #[test]
    fn a_type_of_a_kind_from_the_future_ends_the_pass_and_keeps_what_was_found() {
        let mut btf = Writer::new();
        let int = btf.int("int", 4);
        btf.structure("task_struct", 8, &[("flags", int, 32)]);
        btf.add("later", 77 << 24, 0, &[1, 2, 3]);
        let bytes = btf.finish();
        let mut image = Image::new(0x1_0000);
        image.put(BASE, &bytes);
        let end = VirtAddr(BASE + bytes.len() as u64);
        let layouts = Layouts::read(&image.kernel(), VirtAddr(BASE), end, &WANTED).unwrap();
        assert_eq!(layouts.offset("task_struct.flags"), Ok(4));
    }

    #[test]
    fn damage_is_an_error_or_a_wrong_offset_but_never_more() {
        let clean = sample();
        let mut image = Image::new(0x1_0000);
        let end = VirtAddr(BASE + clean.len() as u64);
        let mut seed = 7_u64;
        for round in 0..2000 {
            image.put(BASE, &clean);
            for _ in 0..1 + round % 4 {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(99);
                let at = (seed >> 33) as usize % clean.len();
                image.bytes[at] = (seed >> 20) as u8;
            }
            let _ = Layouts::read(&image.kernel(), VirtAddr(BASE), end, &WANTED);
        }
        image.put(BASE, &clean);
        for cut in 0..clean.len() {
            let end = VirtAddr(BASE + cut as u64);
            let read = Layouts::read(&image.kernel(), VirtAddr(BASE), end, &WANTED);
            assert!(read.is_err(), "cut at {cut}");
        }
    }
}
