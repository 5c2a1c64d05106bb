//! kallsyms: the symbol table that the kernel keeps of itself, read where it lies.
//!
//! ```text
//! kallsyms_num_syms      u32 n
//! kallsyms_names         n times: length, then that many token numbers of one byte; sorted by address
//! kallsyms_token_table   256 NUL-terminated pieces of names; the first character of a name is its type letter
//! kallsyms_token_index   256 u16: where each piece starts in the token table
//! kallsyms_offsets       n i32 (or kallsyms_addresses: n words): the addresses, see `Encoding`
//! ```
//!
//! `scripts/kallsyms.c` writes the tables and `kernel/kallsyms.c` reads them. Since 6.0 VMCOREINFO tells where they are;
//! before, `search` finds them. They stay in the dump: one pass over the names finds the wanted ones and remembers where
//! every 256th starts (the kernel has such a table too, but does not export it); an address is looked up by binary
//! search over the offsets.

use alloc::string::String;
use alloc::vec::Vec;

use crate::addr::VirtAddr;
use crate::bytes::{Word, index, wide};
use crate::error::{At, Error, Result};
use crate::filter::NameFilter;
use crate::kernel::{Kernel, Window};
use crate::limits;

pub mod modules;
mod search;
mod tokens;

use tokens::Tokens;

/// A symbol and where in it an address lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Its name, without the type letter.
    pub name: String,
    /// Bytes from its start to the address.
    pub offset: u64,
    /// Bytes from its start to the next symbol, which is what the kernel calls its size.
    pub size: u64,
}

/// How an address follows from an entry of the table of offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    /// Addresses as words: up to 4.5, and later where the linker cannot do better.
    Absolute,
    /// Addresses in 32 bits: 32-bit kernels since 7.0.
    Absolute32,
    /// Unsigned distances from a base: since 4.6, on x86_64 with SMP since 6.15.
    Relative(u64),
    /// Negative values are distances from a base, minus one; others are per-CPU offsets that stand for themselves
    /// (CONFIG_KALLSYMS_ABSOLUTE_PERCPU): x86_64 with SMP from 4.6 to 6.14.
    AbsolutePerCpu(u64),
    /// Signed distances from the entry itself: since 7.0.
    Place,
}

/// Where the tables are.
#[derive(Clone, Debug)]
struct Tables {
    count: u32,
    names: VirtAddr,
    /// Bytes from the names to what surely follows them.
    names_len: u64,
    token_table: VirtAddr,
    token_index: VirtAddr,
    /// What the table of addresses may be; the right one gives `_stext` its known address.
    addresses: Vec<(VirtAddr, Encoding)>,
}

/// The kernel's symbols.
pub struct Kallsyms<'k> {
    kernel: &'k Kernel<'k>,
    tables: Tables,
    tokens: Tokens,
    encoding: (VirtAddr, Encoding),
    /// Where in the names every 256th symbol starts.
    markers: Vec<u32>,
    /// True when a length of 128 and more takes two bytes, as since 6.1.
    long_lengths: bool,
    /// Symbols whose names could be read: all, unless the dump lacks a page.
    readable: u32,
    /// Why not all could.
    cut: Option<Error>,
    found: Vec<(&'static str, VirtAddr)>,
    static_buffers: Vec<VirtAddr>,
}

/// What one pass over the names gave.
struct Pass {
    markers: Vec<u32>,
    readable: u32,
    cut: Option<Error>,
    /// Where the names end.
    end: u64,
    /// True when a length byte of 128 and more was met, so that the rule for lengths mattered.
    rule_mattered: bool,
    /// Indexes of wanted names.
    found: Vec<(&'static str, u32)>,
    /// Indexes of static variables called `buf`.
    buffers: Vec<u32>,
}

/// Symbols that VMCOREINFO has exported in all versions, by which the encoding of addresses is found.
const ANCHORS: [&str; 3] = ["_stext", "init_uts_ns", "swapper_pg_dir"];

impl<'k> Kallsyms<'k> {
    /// Finds the tables, and in them the symbols called `wanted`, in one pass.
    ///
    /// # Errors
    /// `Missing` when the kernel does not export the tables and a search does not find them; else what is wrong with
    /// them.
    pub fn locate(kernel: &'k Kernel<'k>, wanted: &[&'static str]) -> Result<Self> {
        let tables = Tables::exported(kernel).or_else(|error| match error {
            Error::Missing { .. } => search::find(kernel),
            other => Err(other),
        })?;
        let tokens = Tokens::read(kernel, tables.token_table, tables.token_index)?;
        let mut names: Vec<&'static str> = wanted.to_vec();
        names.extend(ANCHORS);
        names.sort_unstable();
        names.dedup();

        let mut long_lengths = release_at_least(kernel, 6, 1);
        let mut pass = tables.pass(kernel, &tokens, &names, long_lengths);
        let complete = |pass: &Pass| pass.cut.is_none() && tables.markers_follow(kernel, pass);
        if pass.rule_mattered && !complete(&pass) {
            let other = tables.pass(kernel, &tokens, &names, !long_lengths);
            if complete(&other) || other.readable > pass.readable {
                long_lengths = !long_lengths;
                pass = other;
            }
        }
        let mut kallsyms = Kallsyms {
            kernel,
            encoding: (VirtAddr(0), Encoding::Absolute),
            tables,
            tokens,
            markers: pass.markers,
            long_lengths,
            readable: pass.readable,
            cut: pass.cut,
            found: Vec::new(),
            static_buffers: Vec::new(),
        };
        kallsyms.choose_encoding(&pass.found)?;
        for (name, number) in pass.found {
            if let Ok(addr) = kallsyms.address(number) {
                kallsyms.found.push((name, addr));
            }
        }
        let buffers = pass.buffers.iter();
        kallsyms.static_buffers = buffers
            .filter_map(|&number| kallsyms.address(number).ok())
            .collect();
        Ok(kallsyms)
    }

    /// Tries each encoding on a symbol whose address VMCOREINFO tells.
    fn choose_encoding(&mut self, found: &[(&'static str, u32)]) -> Result<()> {
        let mut wrong = Error::Missing {
            key: "_stext in kallsyms",
        };
        for anchor in ANCHORS {
            let number = found.iter().find(|(name, _)| *name == anchor);
            let (Some(&(_, number)), Ok(addr)) = (number, self.kernel.info().symbol(anchor)) else {
                continue;
            };
            for &candidate in &self.tables.addresses.clone() {
                self.encoding = candidate;
                match self.address(number) {
                    Ok(found) if found == addr => return Ok(()),
                    Ok(found) => {
                        wrong = Error::Invalid {
                            what: "kallsyms_offsets",
                            at: At::Virt(candidate.0),
                            value: found.0,
                            why: "which is not where VMCOREINFO has that symbol",
                        }
                    }
                    Err(error) => wrong = error,
                }
            }
        }
        Err(wrong)
    }

    /// Number of symbols.
    pub fn count(&self) -> u32 {
        self.tables.count
    }

    /// Why not all names could be read, when they could not.
    pub fn cut(&self) -> Option<Error> {
        self.cut
    }

    /// The address of a symbol that was wanted in [`Kallsyms::locate`]; of several of that name, the lowest.
    ///
    /// # Errors
    /// `Missing` when there is none, or it was not wanted.
    pub fn address_of(&self, name: &'static str) -> Result<VirtAddr> {
        let found = self.found.iter().find(|(known, _)| *known == name);
        found
            .map(|&(_, addr)| addr)
            .ok_or(Error::Missing { key: name })
    }

    /// The addresses of all static variables called `buf` (the compiler may have numbered them).
    pub fn static_buffers(&self) -> &[VirtAddr] {
        &self.static_buffers
    }

    /// The address of symbol `number`.
    fn address(&self, number: u32) -> Result<VirtAddr> {
        let (table, encoding) = self.encoding;
        let number = u64::from(number);
        let word = self.kernel.word_size();
        if encoding == Encoding::Absolute {
            let stride = wide(word.size());
            let at = table.wrapping_add(number.wrapping_mul(stride));
            return self.kernel.read_word(at).map(VirtAddr);
        }
        let at = table.wrapping_add(number.wrapping_mul(4));
        let value = self.kernel.read_u32(at)?;
        let signed = i64::from(value.cast_signed()).cast_unsigned();
        let addr = match encoding {
            Encoding::Absolute | Encoding::Absolute32 => u64::from(value),
            Encoding::Relative(base) => base.wrapping_add(u64::from(value)),
            Encoding::AbsolutePerCpu(_) if value.cast_signed() >= 0 => u64::from(value),
            Encoding::AbsolutePerCpu(base) => base.wrapping_sub(1).wrapping_sub(signed),
            Encoding::Place => at.0.wrapping_add(signed),
        };
        Ok(VirtAddr(word.wrap(addr)))
    }

    /// The lowest symbol number for which `above` holds, given that it then holds for all that follow.
    fn first_where(&self, above: &dyn Fn(VirtAddr) -> bool) -> Result<u32> {
        let (mut low, mut high) = (0, self.tables.count);
        while low < high {
            let middle = low.midpoint(high);
            if above(self.address(middle)?) {
                high = middle;
            } else {
                low = middle.saturating_add(1);
            }
        }
        Ok(low)
    }

    /// The symbol that `addr` lies in: of aliases the first, as the kernel chooses. `None` below the first symbol.
    ///
    /// # Errors
    /// What kept the tables from being read.
    pub fn lookup(&self, addr: VirtAddr) -> Result<Option<Symbol>> {
        let next = self.first_where(&|found| found > addr)?;
        let Some(last) = next.checked_sub(1) else {
            return Ok(None);
        };
        let start = self.address(last)?;
        let first = self.first_where(&|found| found >= start)?;
        let end = if next < self.tables.count {
            self.address(next)?
        } else {
            start
        };
        Ok(Some(Symbol {
            name: self.name(first)?,
            offset: addr.0.wrapping_sub(start.0),
            size: end.0.wrapping_sub(start.0),
        }))
    }

    /// The bytes from the start of the symbol at `addr` to the next one; 0 when that is not known.
    pub fn extent(&self, addr: VirtAddr) -> u64 {
        let next = self.first_where(&|found| found > addr);
        let end = next.ok().filter(|&next| next < self.tables.count);
        let end = end.and_then(|next| self.address(next).ok());
        end.and_then(|end| end.offset_from(addr)).unwrap_or(0)
    }

    /// The name of symbol `number`.
    fn name(&self, number: u32) -> Result<String> {
        let unreadable = self.cut.unwrap_or(Error::Missing {
            key: "kallsyms_names",
        });
        let block = number / 256;
        let marker = self.markers.get(index(u64::from(block)));
        let start = marker.filter(|_| number < self.readable);
        let start = u64::from(*start.ok_or(unreadable)?);
        let end = self.markers.get(index(u64::from(block.saturating_add(1))));
        let end = end.map_or(self.tables.names_len, |&end| u64::from(end));
        let len = end.saturating_sub(start).min(limits::KALLSYMS_BLOCK_LEN);
        let mut names = Names {
            window: Window::new(self.kernel, self.tables.names.wrapping_add(start), len),
            at: 0,
            long_lengths: self.long_lengths,
            rule_mattered: false,
        };
        let skip = number & 255;
        for _ in 0..skip {
            names.next()?;
        }
        let mut text = Vec::new();
        self.tokens.expand(names.next()?, &mut text);
        let name = text.get(1..).unwrap_or_default();
        Ok(printable(name))
    }
}

impl Tables {
    /// The tables where VMCOREINFO says they are.
    fn exported(kernel: &Kernel<'_>) -> Result<Self> {
        let info = kernel.info();
        let names = info.symbol("kallsyms_names")?;
        let token_table = info.symbol("kallsyms_token_table")?;
        let at = info.symbol("kallsyms_num_syms")?;
        let count = kernel.read_u32(at)?;
        if !(1..=limits::KALLSYMS).contains(&count) {
            return Err(Error::Limit {
                what: "kallsyms_num_syms",
                value: u64::from(count),
                max: u64::from(limits::KALLSYMS),
            });
        }
        let mut addresses = Vec::new();
        if let Ok(table) = info.symbol("kallsyms_addresses") {
            addresses.push((table, Encoding::Absolute));
        }
        if let Ok(table) = info.symbol("kallsyms_offsets") {
            match info.symbol("kallsyms_relative_base") {
                Ok(base) => {
                    let base = kernel.read_word(base)?;
                    addresses.push((table, Encoding::AbsolutePerCpu(base)));
                    addresses.push((table, Encoding::Relative(base)));
                }
                Err(_) => {
                    addresses.push((table, Encoding::Place));
                    addresses.push((table, Encoding::Absolute32));
                }
            }
        }
        let names_len = token_table.offset_from(names).unwrap_or(0);
        Ok(Tables {
            count,
            names,
            names_len: names_len.min(limits::KALLSYMS_NAMES_LEN),
            token_table,
            token_index: info.symbol("kallsyms_token_index")?,
            addresses,
        })
    }

    /// Goes over all names once. `wanted` is sorted.
    fn pass(
        &self,
        kernel: &Kernel<'_>,
        tokens: &Tokens,
        wanted: &[&'static str],
        long_lengths: bool,
    ) -> Pass {
        let mut pass = Pass {
            markers: Vec::new(),
            readable: 0,
            cut: None,
            end: 0,
            rule_mattered: false,
            found: Vec::new(),
            buffers: Vec::new(),
        };
        let mut filter = NameFilter::new(wanted.iter().copied());
        for len in 3..=12 {
            filter.add(b'b', len);
        }
        let mut names = Names::new(kernel, self, long_lengths);
        let mut text = Vec::new();
        for number in 0..self.count {
            if number & 255 == 0 {
                pass.markers
                    .push(u32::try_from(names.at).unwrap_or(u32::MAX));
            }
            let packed = match names.next() {
                Ok(packed) => packed,
                Err(error) => {
                    pass.cut = Some(error);
                    break;
                }
            };
            pass.readable = number.saturating_add(1);
            let len = tokens.expanded_len(packed).saturating_sub(1);
            if !filter.may_be_wanted(tokens.first(packed), len) {
                continue;
            }
            text.clear();
            tokens.expand(packed, &mut text);
            let name = text.get(1..).unwrap_or_default();
            if let Ok(place) = wanted.binary_search_by(|known| known.as_bytes().cmp(name)) {
                let name = wanted.get(place).copied().unwrap_or_default();
                if !pass.found.iter().any(|(known, _)| *known == name) {
                    pass.found.push((name, number));
                }
            } else if is_static_buffer(name) && pass.buffers.len() < limits::STATIC_BUFFERS {
                pass.buffers.push(number);
            }
        }
        pass.rule_mattered = names.rule_mattered;
        pass.end = names.at;
        pass
    }

    /// True when `kallsyms_markers`, the next object behind the names, agrees with what the pass found: proof that
    /// lengths were understood.
    fn markers_follow(&self, kernel: &Kernel<'_>, pass: &Pass) -> bool {
        let align = wide(kernel.word_size().size());
        let end = self.names.wrapping_add(pass.end).0;
        let table = VirtAddr(end.checked_next_multiple_of(align).unwrap_or(end));
        // Words until 4.20, u32 since.
        [4, 8].iter().any(|&stride: &u64| {
            let mut same = pass.markers.iter().take(64).zip(0_u64..);
            same.all(|(&marker, place)| {
                let at = table.wrapping_add(place.wrapping_mul(stride));
                let found = match (stride, kernel.word_size()) {
                    (8, Word::W64) => kernel.read_u64(at),
                    _ => kernel.read_u32(at).map(u64::from),
                };
                found == Ok(u64::from(marker))
            })
        })
    }
}

/// The names one after another, still packed.
struct Names<'k> {
    window: Window<'k>,
    at: u64,
    long_lengths: bool,
    rule_mattered: bool,
}

impl<'k> Names<'k> {
    fn new(kernel: &'k Kernel<'k>, tables: &Tables, long_lengths: bool) -> Self {
        Names {
            window: Window::new(kernel, tables.names, tables.names_len),
            at: 0,
            long_lengths,
            rule_mattered: false,
        }
    }

    /// The token numbers of the next name.
    fn next(&mut self) -> Result<&[u8]> {
        let first = self.window.get(self.at, 1)?.first().copied();
        let first = usize::from(first.unwrap_or_default());
        let mut len = first;
        let mut head = 1;
        if first & 0x80 != 0 {
            self.rule_mattered = true;
            if self.long_lengths {
                let raw = self.window.get(self.at.saturating_add(1), 1)?;
                let second = usize::from(raw.first().copied().unwrap_or_default());
                len = first & 0x7f | second << 7;
                head = 2;
            }
        }
        let start = self.at.saturating_add(head);
        self.at = start.saturating_add(wide(len));
        self.window.get(start, len)
    }
}

/// True for `buf` and the names that compilers give to further static variables of that name.
fn is_static_buffer(name: &[u8]) -> bool {
    let Some(rest) = name.strip_prefix(b"buf") else {
        return false;
    };
    match rest.split_first() {
        None => true,
        Some((b'.', digits)) => digits.iter().all(u8::is_ascii_digit),
        Some(_) => false,
    }
}

/// A name as text: what no symbol contains becomes a question mark.
pub(crate) fn printable(name: &[u8]) -> String {
    let name = name.get(..limits::SYMBOL_LEN).unwrap_or(name);
    let chars = name.iter().map(|&byte| {
        if byte.is_ascii_graphic() {
            char::from(byte)
        } else {
            '?'
        }
    });
    chars.collect()
}

/// True when OSRELEASE is `major.minor` or later.
pub(crate) fn release_at_least(kernel: &Kernel<'_>, major: u32, minor: u32) -> bool {
    let release = kernel.info().osrelease().unwrap_or_default();
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse().unwrap_or(0_u32));
    let found = (
        numbers.next().unwrap_or_default(),
        numbers.next().unwrap_or_default(),
    );
    found >= (major, minor)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::image::{BASE, Image};
    use alloc::{format, vec};

    /// Which tables [`write`] writes.
    #[derive(Clone, Copy, PartialEq)]
    pub(crate) enum Layout {
        Absolute,
        Relative,
        PerCpu,
        Place,
    }

    fn align(bytes: &mut Vec<u8>) {
        while !bytes.len().is_multiple_of(8) {
            bytes.push(0);
        }
    }

    /// Writes tables for `symbols` (type letter and name, address; sorted) at `at`: the old order for the layouts of
    /// old kernels, the new one for place-relative. Exports them when `export` says so.
    pub(crate) fn write(
        image: &mut Image,
        at: u64,
        symbols: &[(String, u64)],
        layout: Layout,
        long_lengths: bool,
        export: bool,
    ) {
        // Token n is character n, but for a few that no name uses and that stand for longer pieces.
        let token = |n: usize| match n {
            0..0x20 => format!("piece{n}"),
            0x80..=0xff => format!("more{n}"),
            _ => String::from(char::from(n as u8)),
        };
        let (mut table, mut token_index) = (Vec::new(), Vec::new());
        for n in 0..256 {
            token_index.extend((table.len() as u16).to_le_bytes());
            table.extend(token(n).into_bytes());
            table.push(0);
        }
        align(&mut table);
        let (mut names, mut markers) = (Vec::new(), Vec::new());
        for (number, (name, _)) in symbols.iter().enumerate() {
            if number % 256 == 0 {
                markers.extend((names.len() as u32).to_le_bytes());
            }
            if name.len() >= 128 && long_lengths {
                names.extend([name.len() as u8 & 0x7f | 0x80, (name.len() >> 7) as u8]);
            } else {
                names.push(name.len() as u8);
            }
            names.extend(name.bytes());
        }
        align(&mut names);
        align(&mut markers);
        let base = BASE;
        let stride = if layout == Layout::Absolute { 8 } else { 4 };
        let mut offsets_len = symbols.len() * stride;
        offsets_len = offsets_len.next_multiple_of(8);
        let offsets = |start: u64| {
            let mut bytes = Vec::new();
            for (number, &(_, addr)) in symbols.iter().enumerate() {
                let here = start + number as u64 * 4;
                match layout {
                    Layout::Absolute => bytes.extend(addr.to_le_bytes()),
                    Layout::Relative => bytes.extend(((addr - base) as u32).to_le_bytes()),
                    Layout::PerCpu if addr < base => bytes.extend((addr as u32).to_le_bytes()),
                    Layout::PerCpu => {
                        bytes.extend(((base - 1).wrapping_sub(addr) as u32).to_le_bytes())
                    }
                    Layout::Place => bytes.extend((addr.wrapping_sub(here) as u32).to_le_bytes()),
                }
            }
            bytes.resize(offsets_len, 0);
            bytes
        };
        let mut here = at;
        let mut put = |image: &mut Image, name: &str, bytes: &[u8]| {
            image.put(here, bytes);
            if export {
                image.symbol(name, here);
            }
            here += bytes.len() as u64;
        };
        if layout != Layout::Place {
            let name = if stride == 8 {
                "kallsyms_addresses"
            } else {
                "kallsyms_offsets"
            };
            put(image, name, &offsets(at));
            if stride == 4 {
                put(image, "kallsyms_relative_base", &base.to_le_bytes());
            }
        }
        put(
            image,
            "kallsyms_num_syms",
            &(symbols.len() as u64).to_le_bytes(),
        );
        put(image, "kallsyms_names", &names);
        put(image, "kallsyms_markers", &markers);
        put(image, "kallsyms_token_table", &table);
        put(image, "kallsyms_token_index", &token_index);
        if layout == Layout::Place {
            let start = at + 8 + (names.len() + markers.len() + table.len() + 512) as u64;
            put(image, "kallsyms_offsets", &offsets(start));
        }
    }

    fn symbols() -> Vec<(String, u64)> {
        let mut symbols = vec![(String::from("Aper_cpu_thing"), 0x1f0)];
        symbols.push((String::from("T_stext"), BASE));
        symbols.push((String::from("Talias"), BASE + 0x40));
        symbols.push((String::from("tsecond_alias"), BASE + 0x40));
        for n in 0..5000 {
            symbols.push((format!("tfunction_{n}"), BASE + 0x100 + n * 0x10));
        }
        symbols.push((format!("T{}", "long_name_".repeat(20)), BASE + 0x2_0000));
        symbols.push((String::from("bbuf"), BASE + 0x3_0000));
        symbols.push((String::from("bbuf.12"), BASE + 0x3_0400));
        symbols.push((String::from("bbuffer"), BASE + 0x3_0800));
        symbols.push((String::from("Binit_task"), BASE + 0x4_0000));
        symbols
    }

    fn check(layout: Layout, long_lengths: bool, export: bool) {
        let mut image = Image::new(0x10_0000);
        image.symbol("_stext", BASE);
        image.symbol("init_uts_ns", BASE + 0xf_0000);
        let mut symbols = symbols();
        if layout == Layout::Relative || layout == Layout::Place {
            symbols.remove(0);
        }
        write(
            &mut image,
            BASE + 0x8_0000,
            &symbols,
            layout,
            long_lengths,
            export,
        );
        let kernel = image.kernel();
        let kallsyms = Kallsyms::locate(&kernel, &["init_task", "nothing"]).unwrap();
        assert_eq!(kallsyms.count() as usize, symbols.len());
        assert_eq!(
            kallsyms.address_of("init_task"),
            Ok(VirtAddr(BASE + 0x4_0000))
        );
        assert_eq!(
            kallsyms.address_of("nothing"),
            Err(Error::Missing { key: "nothing" })
        );
        assert_eq!(
            kallsyms.static_buffers(),
            [VirtAddr(BASE + 0x3_0000), VirtAddr(BASE + 0x3_0400)]
        );
        assert_eq!(kallsyms.extent(VirtAddr(BASE + 0x3_0000)), 1024);
        let found = |addr| {
            let symbol = kallsyms.lookup(VirtAddr(addr)).unwrap().unwrap();
            format!("{}+{:#x}/{:#x}", symbol.name, symbol.offset, symbol.size)
        };
        assert_eq!(found(BASE + 0x45), "alias+0x5/0xc0");
        assert_eq!(
            found(BASE + 0x100 + 0x10 * 4321 + 0xf),
            "function_4321+0xf/0x10"
        );
        assert_eq!(
            found(BASE + 0x2_0007),
            format!("{}+0x7/0x10000", "long_name_".repeat(20))
        );
        assert_eq!(kallsyms.lookup(VirtAddr(0x10)), Ok(None));
    }

    #[test]
    fn every_encoding_of_addresses_is_told_by_a_known_symbol() {
        check(Layout::Relative, true, true);
        check(Layout::PerCpu, true, true);
        check(Layout::Place, true, true);
        check(Layout::Absolute, true, true);
    }

    #[test]
    fn lengths_of_one_byte_are_told_by_the_markers_behind_the_names() {
        // The release says 6.1, where lengths of two bytes came.
        check(Layout::PerCpu, false, true);
        check(Layout::Relative, false, true);
    }

    #[test]
    fn tables_that_are_not_exported_are_searched_for() {
        check(Layout::PerCpu, false, false);
        check(Layout::Relative, false, false);
        check(Layout::Absolute, false, false);
    }

    #[test]
    fn damaged_tables_are_an_error_or_a_wrong_name_but_never_more() {
        let mut image = Image::new(0x10_0000);
        image.symbol("_stext", BASE);
        write(
            &mut image,
            BASE + 0x8_0000,
            &symbols(),
            Layout::PerCpu,
            true,
            true,
        );
        let clean = image.bytes.clone();
        let mut seed = 1_u64;
        for _ in 0..60 {
            image.bytes.copy_from_slice(&clean);
            for _ in 0..4 {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(99);
                let at = 0x8_0000 + (seed >> 33) as usize % 0x2_0000;
                image.bytes[at] = (seed >> 20) as u8;
            }
            let kernel = image.kernel();
            if let Ok(kallsyms) = Kallsyms::locate(&kernel, &["init_task"]) {
                let _ = kallsyms.lookup(VirtAddr(BASE + 0x1234));
                let _ = kallsyms.lookup(VirtAddr(u64::MAX));
            }
        }
        image.info = image.info.replace("kallsyms", "nothing");
        let kernel = image.kernel();
        let key = "kallsyms_names";
        assert_eq!(
            Kallsyms::locate(&kernel, &[]).err(),
            Some(Error::Missing { key })
        );
    }
}
