//! Text that is not yet in the log: where it is, see [`crate::printk::pending`].

use alloc::vec::Vec;

use super::{Context, cpus};
use crate::bytes::wide;
use crate::error::{Error, Result};
use crate::limits;
use crate::printk::pending::{Pending, Place};

/// All of it, in the order in which the kernel would have logged it, and what kept some from being read. Should there
/// be more than is kept, that of the CPU which panicked is.
pub(super) fn collect(
    context: &Context<'_>,
    panicked: Option<u32>,
) -> (Vec<Pending>, Option<Error>) {
    let mut all = All {
        context,
        found: Vec::new(),
        room: limits::PENDING_LEN,
        error: None,
    };
    // The lockless ring, which came later, holds unfinished lines itself.
    if context.kernel.info().symbol("log_first_idx").is_ok()
        && let Ok(cont) = context.symbol("cont")
    {
        all.take(Pending::read_cont(context.kernel, cont));
    }
    let has = |name| context.symbol(name).is_ok();
    if has("nmi_print_seq") || has("safe_print_seq") {
        let cpus = cpus::possible(context);
        let first = cpus.iter().filter(|&&cpu| Some(cpu) == panicked);
        let others = cpus.iter().filter(|&&cpu| Some(cpu) != panicked);
        first.chain(others).for_each(|&cpu| all.take_cpu(cpu));
    }
    let order = |pending: &Pending| (pending.place.cpu(), pending.place.name());
    all.found.sort_by_key(order);
    (all.found, all.error)
}

/// What has been found so far.
struct All<'c, 'k> {
    context: &'c Context<'k>,
    found: Vec<Pending>,
    /// Bytes that may still be kept.
    room: u64,
    error: Option<Error>,
}

impl All<'_, '_> {
    fn take_cpu(&mut self, cpu: u32) {
        let context = self.context;
        for place in [Place::Nmi(cpu), Place::Safe(cpu)] {
            let Ok(symbol) = context.symbol(place.name()) else {
                continue;
            };
            let size = || {
                let symbols = context.kallsyms.as_ref();
                let extent = symbols.map_or(0, |symbols| symbols.extent(symbol));
                // Less than the smallest is the distance to another name of the same place.
                if extent < 1 << 10 { u64::MAX } else { extent }
            };
            let buffer = context.offset("printk_safe_seq_buf.buffer").ok();
            let read = context.per_cpu(place.name(), cpu).and_then(|at| {
                Pending::read_seq_buf(context.kernel, place, at, buffer, &size, self.room)
            });
            self.take(read);
        }
    }

    fn take(&mut self, read: Result<Option<Pending>>) {
        match read {
            Ok(None) => {}
            Ok(Some(_)) if self.found.len() >= limits::PENDING_PLACES => {
                self.error = Some(Error::Limit {
                    what: "the number of buffers",
                    value: wide(limits::PENDING_PLACES).saturating_add(1),
                    max: wide(limits::PENDING_PLACES),
                });
            }
            Ok(Some(pending)) => {
                self.room = self.room.saturating_sub(wide(pending.text.len()));
                self.found.push(pending);
            }
            Err(why) => self.error = self.error.or(Some(why)),
        }
    }
}
