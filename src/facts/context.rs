//! What facts are read from: the kernel's memory, and where in it the symbols and structures are that they need.

use super::{Facts, names};
use crate::addr::VirtAddr;
use crate::btf::{Layouts, Member};
use crate::bytes::wide;
use crate::error::{Error, Result};
use crate::kallsyms::Kallsyms;
use crate::kernel::Kernel;

/// What facts are read from.
pub(super) struct Context<'k> {
    pub(super) kernel: &'k Kernel<'k>,
    pub(super) kallsyms: Option<Kallsyms<'k>>,
    pub(super) layouts: Layouts,
    /// Why there are no symbols.
    pub(super) no_symbols: Error,
    /// Why there are no layouts, when there are none.
    no_layouts: Option<Error>,
}

impl<'k> Context<'k> {
    pub(super) fn new(kernel: &'k Kernel<'k>, facts: &mut Facts) -> Self {
        let mut context = Context {
            kernel,
            kallsyms: None,
            layouts: Layouts::default(),
            no_symbols: Error::Missing { key: "kallsyms" },
            no_layouts: None,
        };
        match Kallsyms::locate(kernel, names::SYMBOLS) {
            Ok(kallsyms) => {
                if let Some(why) = kallsyms.cut() {
                    facts.gap("some kernel symbols", why);
                }
                context.kallsyms = Some(kallsyms);
            }
            Err(why) => {
                facts.gap("kernel symbols", why);
                context.no_symbols = why;
            }
        }
        let bounds = context.symbol("__start_BTF");
        let bounds = bounds.and_then(|start| Ok((start, context.symbol("__stop_BTF")?)));
        let layouts =
            bounds.and_then(|(start, stop)| Layouts::read(kernel, start, stop, names::LAYOUTS));
        match layouts {
            Ok(layouts) => context.layouts = layouts,
            Err(why) => {
                facts.gap("structure layouts (BTF)", why);
                context.no_layouts = Some(why);
                context.layouts = names::without_btf(kernel.word_size());
            }
        }
        context
    }

    /// The address of a symbol on the list of [`names::SYMBOLS`], or of one that VMCOREINFO names.
    pub(super) fn symbol(&self, name: &'static str) -> Result<VirtAddr> {
        let exported = self.kernel.info().symbol(name);
        exported.or_else(|_| match &self.kallsyms {
            Some(kallsyms) => kallsyms.address_of(name),
            None => Err(self.no_symbols),
        })
    }

    /// A member of a structure.
    pub(super) fn member(&self, path: &'static str) -> Result<Member> {
        self.layouts
            .member(path)
            .map_err(|error| self.no_layouts.unwrap_or(error))
    }

    /// Bytes from the start of a structure to a member.
    pub(super) fn offset(&self, path: &'static str) -> Result<u64> {
        self.member(path).map(|member| member.offset)
    }

    /// What is added to a per-CPU symbol for this CPU.
    pub(super) fn per_cpu_offset(&self, cpu: u32) -> Result<u64> {
        let Ok(table) = self.symbol("__per_cpu_offset") else {
            // Kernels for one CPU have no such table, nor copies of the variables.
            return self.symbol("init_task").map(|_| 0);
        };
        let size = wide(self.kernel.word_size().size());
        let at = table.wrapping_add(u64::from(cpu).wrapping_mul(size));
        self.kernel.read_word(at)
    }

    /// The address of a per-CPU variable on one CPU.
    pub(super) fn per_cpu(&self, name: &'static str, cpu: u32) -> Result<VirtAddr> {
        let addr = self.symbol(name)?.wrapping_add(self.per_cpu_offset(cpu)?);
        Ok(VirtAddr(self.kernel.word_size().wrap(addr.0)))
    }
}
