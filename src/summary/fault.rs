//! What a faulting access tried to do, decoded from each architecture's own error code.
//!
//! | architecture | where the code stands | specified in |
//! |---|---|---|
//! | x86 | `Oops: 0002 [#1]`, `#PF: error_code(0x0002)` | Intel SDM volume 3, "Page-Fault Exceptions" |
//! | arm64 | `ESR = 0x0000000096000005`, `Internal error: Oops: 96000005` | Arm ARM, `ESR_EL1` |
//! | arm | `Internal error: Oops: 805` | Arm ARMv7 ARM, `DFSR` and `IFSR` |
//! | riscv | `cause: 000000000000000f` | privileged specification, `scause` |
//! | powerpc | `DSISR: 42000000` | Power ISA, `DSISR` |
//! | s390 | `TEID: 0000000000000483`, `Oops: 0011 ilc:2` | Principles of Operation |
//! | mips, loongarch | `ExcCode 02`, `ECode=1` | their manuals, exception codes |

use core::fmt;

/// What the processor tried to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Fetch,
    /// The code does not say.
    Access,
}

/// A decoded page-fault error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// What was tried.
    pub op: Op,
    /// What was in the way.
    pub page: &'static str,
    /// True in user mode; nothing when the code does not say.
    pub user: Option<bool>,
}

const NOT_PRESENT: &str = "a not-present page";
const PROTECTED: &str = "a page that forbids it";

impl Access {
    fn new(op: Op, page: &'static str, user: Option<bool>) -> Option<Self> {
        Some(Access { op, page, user })
    }

    /// Decodes the error code of an x86 page fault.
    pub fn x86(code: u64) -> Option<Self> {
        let bit = |bit: u64| code & bit != 0;
        let page = match () {
            () if bit(1 << 31) => "a page that belongs to another guest (RMP)",
            () if bit(1 << 15) => "a page of an SGX enclave",
            () if bit(1 << 6) => "a shadow stack page",
            () if bit(1 << 5) => "a page whose protection key forbids it",
            () if bit(1 << 3) => "a page table entry with reserved bits set",
            () if bit(1) => PROTECTED,
            () => NOT_PRESENT,
        };
        let op = match () {
            () if bit(1 << 4) => Op::Fetch,
            () if bit(1 << 1) => Op::Write,
            () => Op::Read,
        };
        Access::new(op, page, Some(bit(1 << 2)))
    }

    /// Decodes `ESR_EL1` of arm64; nothing when it is not about memory.
    pub fn arm64(esr: u64) -> Option<Self> {
        let (class, status) = ((esr >> 26) & 0x3f, esr & 0x3f);
        let (op, user) = match class {
            0x20 => (Op::Fetch, true),
            0x21 => (Op::Fetch, false),
            0x24 => (op_of(esr & (1 << 6) != 0), true),
            0x25 => (op_of(esr & (1 << 6) != 0), false),
            _ => return None,
        };
        Access::new(op, long_status(status), Some(user))
    }

    /// Decodes the fault status register of 32-bit arm, in either format, as `Internal error: Oops: ` prints it.
    pub fn arm(fsr: u64) -> Option<Self> {
        // The kernel marks prefetch aborts with bit 31 (FSR_LNX_PF).
        let op = match fsr & (1 << 31) {
            0 => op_of(fsr & (1 << 11) != 0),
            _ => Op::Fetch,
        };
        if fsr & (1 << 9) != 0 {
            return Access::new(op, long_status(fsr & 0x3f), None);
        }
        let page = match (fsr & 0xf) | ((fsr >> 6) & 0x10) {
            0x01 => "an unaligned address",
            0x03 | 0x06 => "a page whose access flag is clear",
            0x05 | 0x07 => NOT_PRESENT,
            0x08 | 0x0c | 0x0e | 0x16 => "an address that the bus refuses (external abort)",
            0x09 | 0x0b => "a page of a forbidden domain",
            0x0d | 0x0f => PROTECTED,
            _ => return None,
        };
        Access::new(op, page, None)
    }

    /// Decodes `scause` of riscv.
    pub fn riscv(cause: u64) -> Option<Self> {
        let (op, page) = match cause {
            0 => (Op::Fetch, "an unaligned address"),
            1 => (Op::Fetch, "an address without access rights"),
            4 => (Op::Read, "an unaligned address"),
            5 => (Op::Read, "an address without access rights"),
            6 => (Op::Write, "an unaligned address"),
            7 => (Op::Write, "an address without access rights"),
            12 => (Op::Fetch, "a page that is not present or forbids it"),
            13 => (Op::Read, "a page that is not present or forbids it"),
            15 => (Op::Write, "a page that is not present or forbids it"),
            _ => return None,
        };
        Access::new(op, page, None)
    }

    /// Decodes `DSISR` of powerpc, for data accesses.
    pub fn powerpc(dsisr: u64) -> Option<Self> {
        let page = match () {
            () if dsisr & 0x4000_0000 != 0 => NOT_PRESENT,
            () if dsisr & 0x0800_0000 != 0 => PROTECTED,
            () if dsisr & 0x0020_0000 != 0 => "a page whose protection key forbids it",
            () => return None,
        };
        Access::new(op_of(dsisr & 0x0200_0000 != 0), page, None)
    }

    /// Decodes the program interruption code of s390 and, where the kernel prints it, its TEID.
    pub fn s390(code: u64, teid: Option<u64>) -> Option<Self> {
        let page = match code {
            0x04 => PROTECTED,
            0x05 => "an address beyond the memory",
            0x10 | 0x11 | 0x38..=0x3b => NOT_PRESENT,
            _ => return None,
        };
        let op = match teid.map(|teid| teid & 0xc00) {
            Some(0x400) => Op::Write,
            Some(0x800) => Op::Read,
            _ => Op::Access,
        };
        Access::new(op, page, None)
    }

    /// Decodes the exception code of mips.
    pub fn mips(code: u64) -> Option<Self> {
        match code {
            1 => Access::new(Op::Write, "a read-only page", None),
            2 => Access::new(Op::Read, NOT_PRESENT, None),
            3 => Access::new(Op::Write, NOT_PRESENT, None),
            4 => Access::new(Op::Read, "an unaligned or forbidden address", None),
            5 => Access::new(Op::Write, "an unaligned or forbidden address", None),
            6 | 7 => Access::new(Op::Access, "an address that the bus refuses", None),
            _ => None,
        }
    }

    /// Decodes the exception code of loongarch.
    pub fn loongarch(code: u64) -> Option<Self> {
        match code {
            1 => Access::new(Op::Read, NOT_PRESENT, None),
            2 => Access::new(Op::Write, NOT_PRESENT, None),
            3 => Access::new(Op::Fetch, NOT_PRESENT, None),
            4 => Access::new(Op::Write, "a read-only page", None),
            5 => Access::new(Op::Read, PROTECTED, None),
            6 => Access::new(Op::Fetch, PROTECTED, None),
            7 => Access::new(Op::Access, "a page of a higher privilege level", None),
            _ => None,
        }
    }
}

fn op_of(write: bool) -> Op {
    if write { Op::Write } else { Op::Read }
}

/// The fault status code that arm64 shares with the long descriptor format of arm.
fn long_status(status: u64) -> &'static str {
    match status {
        0x00..=0x03 => "an address outside of the page tables' size",
        0x04 => "a not-present page (level 0 translation fault)",
        0x05 => "a not-present page (level 1 translation fault)",
        0x06 => "a not-present page (level 2 translation fault)",
        0x07 => "a not-present page (level 3 translation fault)",
        0x08..=0x0b => "a page whose access flag is clear",
        0x0c..=0x0f => PROTECTED,
        0x10 => "an address that the bus refuses (external abort)",
        0x11 => "a memory tag that does not match the pointer",
        0x13..=0x17 => "a page table that the bus refuses (external abort)",
        0x18 => "memory with a parity or ECC error",
        0x1b..=0x1f => "a page table with a parity or ECC error",
        0x21 => "an unaligned address",
        0x23 => "a granule that is protected from this world",
        0x30 => "an address with conflicting TLB entries",
        _ => "an address with a fault of another kind",
    }
}

impl fmt::Display for Access {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let op = match self.op {
            Op::Read => "read from",
            Op::Write => "write to",
            Op::Fetch => "instruction fetch from",
            Op::Access => "access to",
        };
        write!(out, "{op} {}", self.page)?;
        match self.user {
            Some(true) => out.write_str(" in user mode"),
            Some(false) => out.write_str(" in kernel mode"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::{String, ToString};

    fn said(access: Option<Access>) -> String {
        access.map_or_else(String::new, |access| access.to_string())
    }

    #[test]
    fn x86_codes_become_sentences() {
        assert_eq!(
            said(Access::x86(0)),
            "read from a not-present page in kernel mode"
        );
        assert_eq!(
            said(Access::x86(2)),
            "write to a not-present page in kernel mode"
        );
        assert_eq!(
            said(Access::x86(3)),
            "write to a page that forbids it in kernel mode"
        );
        assert_eq!(
            said(Access::x86(0x10)),
            "instruction fetch from a not-present page in kernel mode"
        );
        assert_eq!(
            said(Access::x86(6)),
            "write to a not-present page in user mode"
        );
        assert_eq!(
            said(Access::x86(0xb)),
            "write to a page table entry with reserved bits set in kernel mode"
        );
    }

    #[test]
    fn arm64_syndromes_become_sentences() {
        assert_eq!(
            said(Access::arm64(0x9600_0005)),
            "read from a not-present page (level 1 translation fault) in kernel mode"
        );
        assert_eq!(
            said(Access::arm64(0x9600_0046)),
            "write to a not-present page (level 2 translation fault) in kernel mode"
        );
        assert_eq!(
            said(Access::arm64(0x8600_000e)),
            "instruction fetch from a page that forbids it in kernel mode"
        );
        assert_eq!(said(Access::arm64(0xf200_0800)), "");
    }

    #[test]
    fn other_architectures_say_what_their_codes_say() {
        assert_eq!(said(Access::arm(5)), "read from a not-present page");
        assert_eq!(said(Access::arm(0x805)), "write to a not-present page");
        assert_eq!(said(Access::arm(0x17)), "read from a not-present page");
        assert_eq!(said(Access::arm(0x80f)), "write to a page that forbids it");
        assert_eq!(
            said(Access::arm(0x8000_0005)),
            "instruction fetch from a not-present page"
        );
        assert_eq!(
            said(Access::riscv(15)),
            "write to a page that is not present or forbids it"
        );
        assert_eq!(
            said(Access::powerpc(0x4200_0000)),
            "write to a not-present page"
        );
        assert_eq!(
            said(Access::s390(0x11, Some(0x483))),
            "write to a not-present page"
        );
        assert_eq!(
            said(Access::s390(0x38, None)),
            "access to a not-present page"
        );
        assert_eq!(said(Access::mips(2)), "read from a not-present page");
        assert_eq!(said(Access::loongarch(2)), "write to a not-present page");
    }
}
