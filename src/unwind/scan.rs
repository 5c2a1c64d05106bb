//! Return addresses by looking at the stack: the last resort, and the way over code that no table describes.
//!
//! A word on the stack counts when it points into the text behind a call instruction. A direct call must go to text;
//! when the function that was called is known, it must go to its start, which leaves hardly a leftover. Only x86 is
//! looked at: there a call can be told from the bytes before the address.

use super::symbols::Code;
use crate::addr::VirtAddr;
use crate::bytes::{Endian, wide};
use crate::kernel::Kernel;

/// What precedes a return address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// `e8 rel32`: a call of this address.
    Direct(VirtAddr),
    /// `ff /2`: a call through a register or memory.
    Indirect,
}

/// The call instruction before `addr`.
pub(super) fn call_before(kernel: &Kernel<'_>, code: &Code<'_>, addr: VirtAddr) -> Option<Call> {
    if !code.is_text(addr.wrapping_sub(1)) {
        return None;
    }
    let mut bytes = [0; 7];
    kernel
        .read_at(addr.wrapping_sub(wide(bytes.len())), &mut bytes)
        .ok()?;
    if bytes.get(2) == Some(&0xe8) {
        let distance = i64::from(Endian::Little.i32(&bytes, 3)?);
        let target = addr.wrapping_add(distance.cast_unsigned());
        if code.is_text(target) {
            return Some(Call::Direct(target));
        }
    }
    let indirect = [2, 3, 4, 6, 7].into_iter().any(|len: usize| {
        let at = bytes.len().saturating_sub(len);
        let modrm = bytes.get(at.saturating_add(1)).copied();
        bytes.get(at) == Some(&0xff) && modrm.is_some_and(|modrm| modrm >> 3 & 7 == 2)
    });
    indirect.then_some(Call::Indirect)
}

/// Where a return address was found.
pub(super) struct Found {
    /// The stack slot.
    pub(super) slot: VirtAddr,
    /// The address in it.
    pub(super) pc: VirtAddr,
}

/// The first return address between `from` and `to` behind a call that `accept` takes.
pub(super) fn find(
    kernel: &Kernel<'_>,
    code: &Code<'_>,
    from: VirtAddr,
    to: VirtAddr,
    accept: &dyn Fn(Call) -> bool,
) -> Option<Found> {
    let word = wide(kernel.word_size().size());
    let mut slot = VirtAddr(from.0 & !word.wrapping_sub(1));
    while slot < to {
        let pc = VirtAddr(kernel.read_word(slot).ok()?);
        if call_before(kernel, code, pc).is_some_and(accept) {
            return Some(Found { slot, pc });
        }
        slot = slot.wrapping_add(word);
    }
    None
}
