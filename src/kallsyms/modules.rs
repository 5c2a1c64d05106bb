//! Loaded modules: the kernel's list of them, and the symbol table that each brought along.
//!
//! ```text
//! modules (list_head) <-> struct module.list <-> ...
//!     module.kallsyms -> struct mod_kallsyms { symtab, num_symtab, strtab }     Elf64_Sym or Elf32_Sym, final addresses
//!     module.mem[]                   parts of the module since 6.4: base and size, the text first
//!     module.core_layout, .init_layout                          since 4.5: base, size, text_size
//! ```
//!
//! `include/linux/module.h`, `kernel/module/kallsyms.c`; where the members are comes from BTF.

use alloc::string::String;
use alloc::vec::Vec;

use super::{Symbol, printable};
use crate::addr::VirtAddr;
use crate::btf::Layouts;
use crate::bytes::{Word, index, wide};
use crate::error::{At, Error, Result};
use crate::kernel::{Kernel, Window};
use crate::limits;

/// A stretch of a module's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Part {
    start: VirtAddr,
    len: u64,
    /// Bytes of its start that can be executed.
    text: u64,
}

/// Where the ORC tables of a module are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModuleOrc {
    /// `orc_unwind_ip`.
    pub ips: VirtAddr,
    /// `orc_unwind`.
    pub entries: VirtAddr,
    /// `num_orcs`.
    pub count: u32,
}

/// A module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Its name.
    pub name: String,
    /// Its `struct module`.
    pub addr: VirtAddr,
    /// `taints`: a bit for each way in which it tainted the kernel.
    pub taints: u64,
    /// `+` while it is being loaded, `-` while it is being removed, as the kernel marks it.
    pub change: Option<char>,
    /// Bytes of memory it takes.
    pub size: u64,
    /// Its ORC tables, on architectures that have them.
    pub orc: Option<ModuleOrc>,
    parts: Vec<Part>,
    kallsyms: Option<VirtAddr>,
}

/// Where the members of `struct module` and its neighbours are.
struct Members {
    list: u64,
    name: (u64, usize),
    state: u64,
    taints: Option<u64>,
    kallsyms: Option<u64>,
}

impl Module {
    /// True when `addr` is in its text.
    pub fn has_text(&self, addr: VirtAddr) -> bool {
        let inside = |part: &Part| {
            addr.offset_from(part.start)
                .is_some_and(|at| at < part.text)
        };
        self.parts.iter().any(inside)
    }

    /// Walks the list of modules, the last loaded first. What ends the walk early is the second answer.
    pub fn list(
        kernel: &Kernel<'_>,
        layouts: &Layouts,
        head: VirtAddr,
    ) -> (Vec<Self>, Option<Error>) {
        let mut modules = Vec::new();
        let error = Self::walk(kernel, layouts, head, &mut modules).err();
        (modules, error)
    }

    fn walk(
        kernel: &Kernel<'_>,
        layouts: &Layouts,
        head: VirtAddr,
        modules: &mut Vec<Self>,
    ) -> Result<()> {
        let name = layouts.member("module.name")?;
        let members = Members {
            list: layouts.offset("module.list")?,
            name: (name.offset, index(name.size).min(64)),
            state: layouts.offset("module.state")?,
            taints: layouts.offset("module.taints").ok(),
            kallsyms: layouts.offset("module.kallsyms").ok(),
        };
        let mut node = kernel.read_ptr(head, "modules.next")?;
        while node != head {
            if modules.len() >= limits::MODULES {
                let max = wide(limits::MODULES);
                return Err(Error::Limit {
                    what: "the number of modules",
                    value: max.saturating_add(1),
                    max,
                });
            }
            let addr = node.wrapping_sub(members.list);
            if let Some(module) = Self::read(kernel, layouts, &members, addr)? {
                modules.push(module);
            }
            let next = kernel.read_ptr(node, "module.list.next")?;
            let back_at = next.wrapping_add(wide(kernel.word_size().size()));
            let back = kernel.read_word(back_at)?;
            if back != node.0 {
                return Err(Error::Invalid {
                    what: "module.list.prev",
                    at: At::Virt(back_at),
                    value: back,
                    why: "does not point back",
                });
            }
            node = next;
        }
        Ok(())
    }

    fn read(
        kernel: &Kernel<'_>,
        layouts: &Layouts,
        members: &Members,
        addr: VirtAddr,
    ) -> Result<Option<Self>> {
        let change = match kernel.read_u32(addr.wrapping_add(members.state))? {
            0 => None,
            1 => Some('+'),
            2 => Some('-'),
            // Being set up: nothing in it can be relied on.
            _ => return Ok(None),
        };
        let (name_at, name_len) = members.name;
        let name = kernel.read_cstr(addr.wrapping_add(name_at), name_len)?;
        let word = |member: Option<u64>| {
            let value = kernel.read_word(addr.wrapping_add(member?)).ok()?;
            Some(value).filter(|&value| value != 0)
        };
        let parts = parts(kernel, layouts, addr);
        Ok(Some(Module {
            name: printable(&name),
            addr,
            taints: word(members.taints).unwrap_or(0),
            change,
            size: parts
                .iter()
                .fold(0, |sum, part| part.len.saturating_add(sum)),
            orc: orc(kernel, layouts, addr),
            parts,
            kallsyms: word(members.kallsyms).map(VirtAddr),
        }))
    }

    /// The symbol that `addr` lies in, as the kernel's own `find_kallsyms_symbol` chooses it. `budget` is how many
    /// bytes may still be read for such searches: symbol tables of large modules take megabytes.
    ///
    /// # Errors
    /// `Missing` without a table, `Limit` when the budget is used up, else what kept it from being read.
    pub fn lookup(
        &self,
        kernel: &Kernel<'_>,
        addr: VirtAddr,
        budget: &mut u64,
    ) -> Result<Option<Symbol>> {
        let missing = Error::Missing {
            key: "module.kallsyms",
        };
        let table = self.kallsyms.ok_or(missing)?;
        let word = wide(kernel.word_size().size());
        let symtab = kernel.read_ptr(table, "mod_kallsyms.symtab")?;
        let count = kernel.read_u32(table.wrapping_add(word))?;
        let strtab = table.wrapping_add(word.wrapping_mul(2));
        let strtab = kernel.read_ptr(strtab, "mod_kallsyms.strtab")?;
        let stride = match kernel.word_size() {
            Word::W64 => 24,
            Word::W32 => 16,
        };
        let len = u64::from(count).saturating_mul(stride);
        *budget = budget.checked_sub(len).ok_or(Error::Limit {
            what: "the symbol table of a module",
            value: len,
            max: *budget,
        })?;
        let part = self
            .parts
            .iter()
            .find(|part| addr.offset_from(part.start).is_some_and(|at| at < part.len));
        let mut end = part.map_or(addr.0, |part| part.start.0.saturating_add(part.text.max(1)));
        let mut best: Option<(u64, String)> = None;
        let mut window = Window::new(kernel, symtab, len);
        for number in 1..u64::from(count) {
            let raw = window.get(number.saturating_mul(stride), index(stride))?;
            let (name, value, section) = elf_symbol(kernel, raw);
            let candidate = section != 0
                && value <= addr.0
                && best.as_ref().is_none_or(|&(start, _)| value > start);
            if candidate {
                let text = kernel.read_cstr(strtab.wrapping_add(name), limits::SYMBOL_LEN)?;
                if !is_mapping_symbol(&text) {
                    best = Some((value, printable(&text)));
                }
            } else if section != 0 && value > addr.0 && value < end {
                let text = kernel.read_cstr(strtab.wrapping_add(name), 3)?;
                if !is_mapping_symbol(&text) {
                    end = value;
                }
            }
        }
        Ok(best.map(|(start, name)| Symbol {
            name,
            offset: addr.0.wrapping_sub(start),
            size: end.saturating_sub(start),
        }))
    }
}

/// Name offset, value and section of an `Elf64_Sym` or `Elf32_Sym`.
fn elf_symbol(kernel: &Kernel<'_>, raw: &[u8]) -> (u64, u64, u16) {
    let endian = kernel.endian();
    let name = u64::from(endian.u32(raw, 0).unwrap_or_default());
    let (value, section) = match kernel.word_size() {
        Word::W64 => (endian.u64(raw, 8), endian.u16(raw, 6)),
        Word::W32 => (endian.u32(raw, 4).map(u64::from), endian.u16(raw, 14)),
    };
    (name, value.unwrap_or_default(), section.unwrap_or_default())
}

/// Names that tools give to places and not to functions: none, `.L*`, `L0*`, `$x`.
fn is_mapping_symbol(name: &[u8]) -> bool {
    name.is_empty() || name.starts_with(b".L") || name.starts_with(b"L0") || name.starts_with(b"$")
}

/// The memory of a module, whichever way this kernel keeps it.
fn parts(kernel: &Kernel<'_>, layouts: &Layouts, addr: VirtAddr) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut push = |base: Result<u64>, size: Result<u32>, text: Result<u32>| {
        if let (Ok(base), Ok(size), Ok(text)) = (base, size, text)
            && base != 0
            && size != 0
        {
            parts.push(Part {
                start: VirtAddr(base),
                len: u64::from(size),
                text: u64::from(text.min(size)),
            });
        }
    };
    let word = |at: Result<u64>| kernel.read_word(addr.wrapping_add(at?));
    let int = |at: Result<u64>| kernel.read_u32(addr.wrapping_add(at?));
    if let (Ok(mem), Ok(stride)) = (layouts.member("module.mem"), layouts.size("module_memory")) {
        let base = layouts.offset("module_memory.base").unwrap_or(0);
        let count = mem.size.checked_div(stride).unwrap_or(0).min(16);
        for number in 0..count {
            let at = mem.offset.saturating_add(number.saturating_mul(stride));
            let size = layouts.offset("module_memory.size");
            let size = int(size.map(|size| at.saturating_add(size)));
            // MOD_TEXT and MOD_INIT_TEXT of `enum mod_mem_type`.
            let text = if matches!(number, 0 | 4) { size } else { Ok(0) };
            push(word(Ok(at.saturating_add(base))), size, text);
        }
    } else {
        push(
            word(layouts.offset("module.core_layout.base")),
            int(layouts.offset("module.core_layout.size")),
            int(layouts.offset("module.core_layout.text_size")),
        );
        push(
            word(layouts.offset("module.init_layout.base")),
            int(layouts.offset("module.init_layout.size")),
            int(layouts.offset("module.init_layout.text_size")),
        );
    }
    parts
}

/// The ORC tables in `module.arch`.
fn orc(kernel: &Kernel<'_>, layouts: &Layouts, addr: VirtAddr) -> Option<ModuleOrc> {
    let arch = addr.wrapping_add(layouts.offset("module.arch").ok()?);
    let at = |path| Some(arch.wrapping_add(layouts.offset(path).ok()?));
    let count = kernel.read_u32(at("mod_arch_specific.num_orcs")?).ok()?;
    let ips = kernel.read_ptr(at("mod_arch_specific.orc_unwind_ip")?, "orc_unwind_ip");
    let entries = kernel.read_ptr(at("mod_arch_specific.orc_unwind")?, "orc_unwind");
    Some(ModuleOrc {
        ips: ips.ok()?,
        entries: entries.ok()?,
        count,
    })
}
