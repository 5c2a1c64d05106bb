//! What an address of code is called, and whether it is code at all.

use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;

use crate::addr::VirtAddr;
use crate::kallsyms::modules::Module;
use crate::kallsyms::{Kallsyms, Symbol};
use crate::kernel::Kernel;
use crate::limits;

/// The name of a place in the code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) symbol: Option<Symbol>,
    pub(super) module: Option<String>,
}

/// The code of the kernel and its modules.
pub struct Code<'a> {
    kernel: &'a Kernel<'a>,
    kallsyms: &'a Kallsyms<'a>,
    modules: &'a [Module],
    /// The kernel's text and, after it, what is used at boot only.
    ranges: Vec<(VirtAddr, VirtAddr)>,
    /// The last places that were looked up: idle CPUs all stand at the same ones.
    recent: RefCell<Vec<(VirtAddr, Place)>>,
    module_budget: RefCell<u64>,
}

impl<'a> Code<'a> {
    /// The code that these symbols and modules name.
    pub fn new(kernel: &'a Kernel<'a>, kallsyms: &'a Kallsyms<'a>, modules: &'a [Module]) -> Self {
        let range = |start: &'static str, end: &'static str| {
            let exported = kernel.info().symbol(start).ok();
            let start = exported.or_else(|| kallsyms.address_of(start).ok())?;
            let end = kallsyms.address_of(end).ok()?;
            Some((start, end))
        };
        let ranges = [range("_stext", "_etext"), range("_sinittext", "_einittext")];
        Code {
            kernel,
            kallsyms,
            modules,
            ranges: ranges.into_iter().flatten().collect(),
            recent: RefCell::default(),
            module_budget: RefCell::new(limits::MODULE_SYMBOLS_LEN),
        }
    }

    /// The module whose text `addr` is in.
    pub(super) fn module(&self, addr: VirtAddr) -> Option<&'a Module> {
        self.modules.iter().find(|module| module.has_text(addr))
    }

    /// True when `addr` is in the text of the kernel itself.
    pub(super) fn is_kernel_text(&self, addr: VirtAddr) -> bool {
        let inside = |&(start, end): &(VirtAddr, VirtAddr)| (start..end).contains(&addr);
        self.ranges.iter().any(inside)
    }

    /// True when `addr` is in the text of the kernel or a module.
    pub(super) fn is_text(&self, addr: VirtAddr) -> bool {
        self.is_kernel_text(addr) || self.module(addr).is_some()
    }

    /// What `pc` is called. A return address belongs to the call before it, which may be the last instruction of its
    /// function; `exact` says that `pc` is none.
    pub(super) fn place(&self, pc: VirtAddr, exact: bool) -> Place {
        let back = u64::from(!exact);
        let at = pc.wrapping_sub(back);
        let mut recent = self.recent.borrow_mut();
        let mut place = match recent.iter().find(|(known, _)| *known == at) {
            Some((_, place)) => place.clone(),
            None => {
                let place = self.find(at);
                if recent.len() >= limits::RECENT_PLACES {
                    recent.remove(0);
                }
                recent.push((at, place.clone()));
                place
            }
        };
        if let Some(symbol) = &mut place.symbol {
            symbol.offset = symbol.offset.saturating_add(back);
        }
        place
    }

    fn find(&self, at: VirtAddr) -> Place {
        if self.is_kernel_text(at) {
            return Place {
                symbol: self.kallsyms.lookup(at).ok().flatten(),
                module: None,
            };
        }
        let Some(module) = self.module(at) else {
            return Place::default();
        };
        let budget = &mut self.module_budget.borrow_mut();
        Place {
            symbol: module.lookup(self.kernel, at, budget).ok().flatten(),
            module: Some(module.name.clone()),
        }
    }

    /// The start of the function that `addr` is in.
    pub(super) fn function(&self, addr: VirtAddr) -> Option<VirtAddr> {
        let symbol = self.place(addr, true).symbol?;
        Some(addr.wrapping_sub(symbol.offset))
    }
}
