//! What the first line of a report says: tables of the kernel's own words.
//!
//! A line is looked at once. At the start of each of its words the table of that word's first byte is tried; the rest
//! of the log costs one table look-up per word. Lines that end in `[#1]` are die messages whatever they say.
//!
//! The words are those of `arch/*/mm/fault.c`, `arch/*/kernel/traps.c`, `lib/bug.c`, `kernel/panic.c`,
//! `kernel/watchdog.c`, `kernel/hung_task.c`, `kernel/rcu/`, `mm/oom_kill.c` and others, from 2.6.32 to 7.x.

use super::kind::Kind::{self, *};

/// What a headline means for the reports around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// `Kernel panic - not syncing`.
    Panic,
    /// An oops: ends the kernel unless an end marker follows.
    Oops,
    /// A report that the kernel survives unless a panic line follows: stalls, sanitizers, `BUG:` complaints.
    Complaint,
    /// The line before the oops or warning that it explains.
    Precursor,
    /// `WARNING: ...` with a report.
    Warning,
    /// `sysrq: Trigger a crash`.
    Trigger,
    /// A sign of trouble of one line.
    Sign,
    /// Ends the report before it.
    Boundary,
    /// Backtrace of another CPU: ends the report before it, or belongs to a stall that has no trace yet.
    Backtrace,
    /// The kernel is on its way to the capture kernel.
    Leaving,
}

/// One row: the words, words that must follow on the line, kind and class.
pub(super) struct Headline {
    text: &'static str,
    also: &'static str,
    pub kind: Kind,
    pub class: Class,
}

const fn h(text: &'static str, kind: Kind, class: Class) -> Headline {
    let also = "";
    Headline {
        text,
        also,
        kind,
        class,
    }
}

const fn h2(text: &'static str, also: &'static str, kind: Kind, class: Class) -> Headline {
    Headline {
        text,
        also,
        kind,
        class,
    }
}

use Class::{
    Backtrace, Boundary, Complaint, Leaving, Oops as Die, Panic as Fatal, Precursor, Sign, Trigger,
    Warning,
};

/// The rows by the first byte of their words; of one byte the first that matches counts.
const HEADLINES: &[(u8, &[Headline])] = &[
    (
        b'-',
        &[
            h("---[ end Kernel panic", None, Boundary),
            h("------------[ cut here ]", None, Boundary),
        ],
    ),
    (b'8', &[h("8<--- cut here ---", None, Boundary)]),
    (
        b'A',
        &[
            h("AMD-Vi: Event logged", None, Sign),
            h("AER: Uncorrected", None, Sign),
            h("An NMI occurred", Nmi, Sign),
        ],
    ),
    (
        b'B',
        &[
            h("BUG: kernel NULL pointer dereference", NullDeref, Die),
            h("BUG: Kernel NULL pointer dereference", NullDeref, Die),
            h2("BUG: unable to handle", "NULL pointer", NullDeref, Die),
            h("BUG: unable to handle", PagingRequest, Die),
            h("BUG: Unable to handle", PagingRequest, Die),
            h("BUG: stack guard page was hit", StackOverflow, Die),
            h2("BUG: ", "stack guard page was hit", StackOverflow, Die),
            h("BUG: Bad page cache", BadPage, Complaint),
            h("BUG: Bad ", BadPage, Complaint),
            h("BUG: scheduling while atomic", AtomicSchedule, Complaint),
            h("BUG: sleeping function called", AtomicSchedule, Complaint),
            h("BUG: using ", AtomicSchedule, Complaint),
            h("BUG: workqueue lockup", WorkqueueLockup, Complaint),
            h("BUG: workqueue leaked", AtomicSchedule, Complaint),
            h("BUG: soft lockup", SoftLockup, Complaint),
            h("BUG: spinlock", Spinlock, Complaint),
            h("BUG: rwlock", Spinlock, Complaint),
            h("BUG: KASAN: ", Kasan, Complaint),
            h("BUG: KASan: ", Kasan, Complaint),
            h("BUG: KFENCE: ", Kfence, Complaint),
            h("BUG: KCSAN: ", Kcsan, Complaint),
            h("BUG: KMSAN: ", Kmsan, Complaint),
            h("BUG: NMI Watchdog detected LOCKUP", HardLockup, Die),
            h("BUG: Invalid wait context", Lockdep, Complaint),
            h2("BUG ", "Not tainted)", SlabCorruption, Complaint),
            h2("BUG ", "Tainted:", SlabCorruption, Complaint),
            h("BUG: ", Bug, Complaint),
            h("Bad page state in process", BadPage, Complaint),
            h("Bad mode in ", BadMode, Precursor),
            h("Bad pagetable: ", PagingRequest, Die),
            h("Buffer I/O error", None, Sign),
            h("BTRFS error", None, Sign),
            h("BTRFS critical", None, Sign),
            h("Break instruction in kernel code", Bug, Die),
            h("Bye!", None, Leaving),
        ],
    ),
    (
        b'C',
        &[
            h("CFI failure", Cfi, Precursor),
            h("Control protection", ControlProtection, Precursor),
            h2("CPU", ": stopping", None, Boundary),
            h("CPU stuck", None, Sign),
        ],
    ),
    (
        b'D',
        &[h("DMAR: [", None, Sign), h("Disabling IRQ #", None, Sign)],
    ),
    (
        b'E',
        &[
            h("EXT2-fs error", None, Sign),
            h("EXT3-fs error", None, Sign),
            h("EXT4-fs error", None, Sign),
            h2("EDAC ", " CE ", None, Sign),
            h2("EDAC ", " UE ", None, Sign),
        ],
    ),
    (b'F', &[h("FAILED Result:", None, Sign)]),
    (b'G', &[h("GHES: ", HardwareError, Sign)]),
    (b'H', &[h("HARDWARE ERROR", MachineCheck, Sign)]),
    (
        b'I',
        &[
            h2(
                "INFO: task ",
                " blocked for more than ",
                HungTask,
                Complaint,
            ),
            h2("INFO: task ", " blocked in I/O wait", HungTask, Complaint),
            h2("INFO: rcu", "stall", RcuStall, Complaint),
            h2("INFO: rcu", "Stall", RcuStall, Complaint),
            h("INFO: possible recursive locking", Lockdep, Complaint),
            h("INFO: possible circular locking", Lockdep, Complaint),
            h("INFO: inconsistent lock state", Lockdep, Complaint),
            h("INFO: suspicious RCU usage", Lockdep, Complaint),
            h("INFO: lockdep is turned off", None, Sign),
            h("I/O error, dev", None, Sign),
            h(
                "Insufficient stack space to handle exception",
                StackOverflow,
                Precursor,
            ),
            h("Internal error: Oops - BUG", Bug, Die),
            h("Internal error: Oops - BRK", Bug, Die),
            h("Internal error: Oops - BTI", Bti, Die),
            h("Internal error: Oops - FPAC", PointerAuth, Die),
            h("Internal error: Oops - CFI", Cfi, Die),
            h("Internal error: Oops - GCS", ControlProtection, Die),
            h("Internal error: Oops - MOPS", UndefinedInstruction, Die),
            h(
                "Internal error: Oops - undefined instruction",
                UndefinedInstruction,
                Die,
            ),
            h(
                "Internal error: Oops - Undefined instruction",
                UndefinedInstruction,
                Die,
            ),
            h("Internal error: Oops - bad mode", BadMode, Die),
            h("Internal error: Oops - bad syscall", BadMode, Die),
            h("Internal error: Oops - data abort", PagingRequest, Die),
            h("Internal error: Oops - SP", Alignment, Die),
            h("Internal error: Oops - PC", Alignment, Die),
            h("Internal error: SP/PC alignment", Alignment, Die),
            h("Internal error: aligment exception", Alignment, Die),
            h("Internal error: alignment", Alignment, Die),
            h(
                "Internal error: synchronous external abort",
                ExternalAbort,
                Die,
            ),
            h("Internal error: synchronous parity", HardwareError, Die),
            h(
                "Internal error: synchronous tag check fault",
                MemoryTag,
                Die,
            ),
            h(
                "Internal error: undefined instruction",
                UndefinedInstruction,
                Die,
            ),
            h("Internal error: UBSAN", Ubsan, Die),
            h("Internal error: KASAN", Kasan, Die),
            h("Internal error: kernel stack overflow", StackOverflow, Die),
            h2("Internal error: ", "external abort", ExternalAbort, Die),
            h2("Internal error: ", "[#", Oops, Die),
        ],
    ),
    (
        b'K',
        &[
            h("Kernel panic - not syncing", Panic, Fatal),
            h("Kernel panic: ", Panic, Fatal),
            h("Kernel BUG at ", Bug, Die),
            h2("Kernel BUG", "[#", Bug, Die),
            h("Kernel bug detected", Bug, Die),
            h("Kernel stack overflow", StackOverflow, Precursor),
            h("Kernel Offset:", None, Boundary),
            h("Kernel unaligned instruction access", Alignment, Die),
        ],
    ),
    (
        b'M',
        &[
            h("Missing ENDBR", ControlProtection, Precursor),
            h("MCE 0x", MachineCheck, Sign),
            h("MCE: ", MachineCheck, Sign),
            h("Machine check", MachineCheck, Sign),
            h("Memory failure", MachineCheck, Sign),
            h("Mem-Info:", None, Boundary),
        ],
    ),
    (
        b'N',
        &[
            h2("NETDEV WATCHDOG:", "transmit queue", None, Sign),
            h2("NMI backtrace for cpu", "skipped", None, Boundary),
            h("NMI backtrace for cpu", None, Backtrace),
            h("NMI: PCI system error", Nmi, Sign),
            h("NMI: IOCK error", Nmi, Sign),
            h("NMI received for unknown reason", Nmi, Sign),
            h("NMI IPI", None, Boundary),
        ],
    ),
    (
        b'O',
        &[
            h2("Oops: ", "System Reset", SystemReset, Die),
            h2("Oops: ", "Machine check", MachineCheck, Die),
            h2("Oops: ", "Unrecoverable", Trap, Die),
            h("Oops: Kernel access of bad area", PagingRequest, Die),
            h2("Oops: ", "Kernel stack overflow", StackOverflow, Die),
            h("Oops - BUG", Bug, Die),
            h("Oops - illegal instruction", UndefinedInstruction, Die),
            h("Oops - load address misaligned", Alignment, Die),
            h("Oops - store (or AMO) address misaligned", Alignment, Die),
            h("Oops - load access fault", ExternalAbort, Die),
            h("Oops - store (or AMO) access fault", ExternalAbort, Die),
            h("Oops - instruction access fault", ExternalAbort, Die),
            h2("Oops", "[#", Oops, Die),
            h("Out of memory and no killable processes", Oom, Sign),
            h("Out of memory", Oom, Sign),
        ],
    ),
    (
        b'P',
        &[
            h("PANIC: double fault", DoubleFault, Die),
            h("PCIe Bus Error: severity=Uncorrected", None, Sign),
            h("PANIC: early exception", Trap, Die),
        ],
    ),
    (
        b'R',
        &[
            h("RCU grace-period kthread stack dump", None, Boundary),
            h("Rebooting in ", None, Boundary),
            h("Remounting filesystem read-only", None, Sign),
            h("Reserved instruction in kernel code", InvalidOpcode, Die),
        ],
    ),
    (
        b'S',
        &[
            h("SError Interrupt on CPU", SError, Precursor),
            h("Synchronous External Abort", ExternalAbort, Precursor),
            h("Stack dump where RCU GP kthread", None, Boundary),
            h("Sending NMI from CPU", None, Boundary),
            h("Sending NMI to", None, Boundary),
            h("Showing all locks held", None, Boundary),
            h("Showing busy workqueues", None, Boundary),
            h("Starting crashdump kernel", None, Leaving),
        ],
    ),
    (b'T', &[h("Trigger a crash", Sysrq, Trigger)]),
    (
        b'U',
        &[
            h2(
                "Unable to handle kernel ",
                "NULL pointer dereference",
                NullDeref,
                Die,
            ),
            h("Unable to handle kernel ", PagingRequest, Die),
            h("Unhandled fault: synchronous tag", MemoryTag, Precursor),
            h2(
                "Unhandled fault: ",
                " domain fault",
                PagingRequest,
                Precursor,
            ),
            h2(
                "Unhandled fault: ",
                " permission fault",
                PagingRequest,
                Precursor,
            ),
            h2(
                "Unhandled fault: ",
                " translation fault",
                PagingRequest,
                Precursor,
            ),
            h2("Unhandled fault: ", "lignment", Alignment, Precursor),
            h("Unhandled fault", ExternalAbort, Precursor),
            h("Unhandled prefetch abort", ExternalAbort, Precursor),
            h("Unhandled 64-bit el1", BadMode, Precursor),
            h("Unhandled kernel unaligned access", Alignment, Die),
            h("UBSAN: ", Ubsan, Complaint),
            h("Uncorrected hardware memory error", MachineCheck, Sign),
        ],
    ),
    (
        b'W',
        &[
            h("WARNING: CPU: ", PanicOnWarn, Warning),
            h("WARNING: at ", PanicOnWarn, Warning),
            h("WARNING: possible ", Lockdep, Complaint),
            h("WARNING: suspicious RCU", Lockdep, Complaint),
            h("WARNING: inconsistent lock", Lockdep, Complaint),
            h("WARNING: bad unlock balance", Lockdep, Complaint),
            h("WARNING: lock held", Lockdep, Complaint),
            h2("WARNING: ", ", CPU#", PanicOnWarn, Warning),
            h2(
                "Watchdog detected hard LOCKUP",
                "on cpu",
                HardLockup,
                Complaint,
            ),
            h("Watchdog CPU:", HardLockup, Complaint),
            h("Watchdog pre-timeout", Watchdog, Sign),
        ],
    ),
    (
        b'X',
        &[
            h2("XFS (", "Internal error", Filesystem, Sign),
            h2("XFS (", "orruption", Filesystem, Sign),
            h2("XFS (", "I/O error", Filesystem, Sign),
            h2("XFS (", "error -", Filesystem, Sign),
        ],
    ),
    (b'[', &[h("[Hardware Error]", MachineCheck, Sign)]),
    (
        b'a',
        &[
            h2("ata", "exception Emask", None, Sign),
            h("alignment check: ", Alignment, Die),
            h("addressing exception:", PagingRequest, Die),
        ],
    ),
    (
        b'b',
        &[h(
            "bad: scheduling from the idle thread",
            AtomicSchedule,
            Complaint,
        )],
    ),
    (
        b'c',
        &[
            h("critical medium error", None, Sign),
            h("critical target error", None, Sign),
            h("controller is down; will reset", None, Sign),
            h2("control protection", "[#", ControlProtection, Die),
            h2("coprocessor segment overrun", "[#", Trap, Die),
        ],
    ),
    (
        b'd',
        &[
            h("double fault: ", DoubleFault, Die),
            h("divide error: ", DivideError, Die),
            h2("double fault, ", "ss at", DoubleFault, Die),
            h("detected buffer overflow in", Fortify, Precursor),
            h("detected field-spanning write", Fortify, Precursor),
            h("data exception: ", Trap, Die),
            h2(
                "detected ",
                "hard LOCKUP on other CPUs",
                HardLockup,
                Complaint,
            ),
        ],
    ),
    (b'e', &[h("end_request: I/O error", None, Sign)]),
    (
        b'f',
        &[
            h("fortify: detected buffer overflow", Fortify, Precursor),
            h("fixpoint divide exception: ", DivideError, Die),
        ],
    ),
    (
        b'g',
        &[h2("general protection fault", "[#", GeneralProtection, Die)],
    ),
    (b'h', &[h("hpwdt: An NMI occurred", Watchdog, Sign)]),
    (
        b'i',
        &[
            h("invalid opcode: ", InvalidOpcode, Die),
            h("invalid TSS: ", Trap, Die),
            h("int3: ", Trap, Die),
            h("invoked oom-killer", Oom, Sign),
            h("illegal operation: ", InvalidOpcode, Die),
        ],
    ),
    (
        b'k',
        &[
            h("kernel BUG at ", Bug, Die),
            h("kernel tried to execute", PagingRequest, Die),
            h("kernel stack overflow (", StackOverflow, Die),
            h("kernel stack overflow: ", StackOverflow, Die),
            h("kernel stack regs at", StackCorrupted, Sign),
        ],
    ),
    (
        b'l',
        &[
            h("list_add corruption", ListCorruption, Precursor),
            h("list_add double add", ListCorruption, Precursor),
            h("list_del corruption", ListCorruption, Precursor),
        ],
    ),
    (b'm', &[h2("mm/", "bad p", BadPage, Sign)]),
    (b'n', &[h2("nvme", " QID ", None, Sign)]),
    (
        b'p',
        &[
            h("page allocation failure", None, Sign),
            h("panic: Redirecting from CPU", None, Sign),
            h("privileged operation: ", InvalidOpcode, Die),
        ],
    ),
    (
        b'r',
        &[
            h("refcount_t: ", Refcount, Precursor),
            h2("rcu", "kthread starved", RcuStall, Sign),
            h("rejecting I/O to offline device", None, Sign),
        ],
    ),
    (
        b's',
        &[
            h2("stack guard page: ", "[#", StackOverflow, Die),
            h2("stack segment: ", "[#", Trap, Die),
            h("scheduling while atomic: ", AtomicSchedule, Complaint),
            h("specification exception: ", Trap, Die),
            h("self-detected hard LOCKUP", HardLockup, Complaint),
            h2("segfault at ", "", None, Sign),
            h2("simd exception: ", "[#", Trap, Die),
            h("slab error in", SlabCorruption, Complaint),
            h("segment not present: ", Trap, Die),
        ],
    ),
    (
        b't',
        &[
            h2("transmit queue", "timed out", None, Sign),
            h("translation specification exception: ", PagingRequest, Die),
            h("trap: hard LOCKUP", HardLockup, Complaint),
        ],
    ),
    (
        b'u',
        &[
            h("usercopy: Kernel memory", Usercopy, Precursor),
            h("usercopy: kernel memory", Usercopy, Precursor),
            h("unable to execute userspace code", PagingRequest, Die),
            h("undefined instruction: ", UndefinedInstruction, Precursor),
            h2(
                "unchecked MSR access error",
                "at rIP",
                GeneralProtection,
                Complaint,
            ),
            h("unregister_netdevice: waiting for", None, Sign),
        ],
    ),
    (
        b'x',
        &[h("x86/split lock detection: #AC: kernel", Trap, Complaint)],
    ),
];

/// Finds the headline of a line with a table look-up per word.
pub(super) struct Headlines {
    rows: [&'static [Headline]; 256],
}

impl Headlines {
    /// Spreads the rows by their first byte.
    pub fn new() -> Self {
        let mut rows: [&'static [Headline]; 256] = [&[]; 256];
        for &(byte, group) in HEADLINES {
            if let Some(slot) = rows.get_mut(usize::from(byte)) {
                *slot = group;
            }
        }
        Headlines { rows }
    }

    /// What the line says, and the number in `[#1]` where it has one.
    pub fn find(&self, line: &[u8]) -> (Option<&'static Headline>, Option<u32>) {
        let (mut found, mut die_count) = (Option::<&'static Headline>::None, Option::None);
        let (mut before, mut rest) = (b' ', line);
        while let Some((&byte, next)) = rest.split_first() {
            let word = matches!(before, b' ' | b'\t' | b'}');
            if word {
                let group = self.rows.get(usize::from(byte)).copied().unwrap_or(&[]);
                if let Some(row) = group.iter().find(|row| row.matches(rest)) {
                    // `Oops: general protection fault` and the like say it more precisely further on.
                    let refines = |old: &Headline| {
                        old.class == Die && row.class == Die && old.kind.rank() < row.kind.rank()
                    };
                    if found.is_none_or(refines) {
                        found = Some(row);
                    }
                }
            }
            if before == b'[' && byte == b'#' {
                die_count = count(next).or(die_count);
            }
            (before, rest) = (byte, next);
        }
        (found, die_count)
    }
}

/// The number of `1]`.
fn count(text: &[u8]) -> Option<u32> {
    let end = text.iter().take(9).position(|&byte| byte == b']')?;
    str::from_utf8(text.get(..end)?).ok()?.parse().ok()
}

impl Headline {
    fn matches(&self, text: &[u8]) -> bool {
        let Some(rest) = text.strip_prefix(self.text.as_bytes()) else {
            return false;
        };
        self.also.is_empty()
            || rest
                .windows(self.also.len())
                .any(|window| window == self.also.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(line: &str) -> Option<(Kind, Class)> {
        let headlines = Headlines::new();
        let (row, _) = headlines.find(line.as_bytes());
        row.map(|row| (row.kind, row.class))
    }

    #[test]
    fn every_row_stands_under_its_first_byte() {
        for (byte, rows) in HEADLINES {
            for row in *rows {
                assert_eq!(row.text.as_bytes().first(), Some(byte), "{}", row.text);
            }
        }
    }

    #[test]
    fn no_row_hides_a_later_one() {
        for (_, rows) in HEADLINES {
            for (place, row) in rows.iter().enumerate() {
                let earlier = rows.iter().take(place);
                let hidden = earlier
                    .filter(|other| other.also.is_empty())
                    .find(|other| row.text.starts_with(other.text));
                assert!(hidden.is_none(), "{}", row.text);
            }
        }
    }

    #[test]
    fn the_more_precise_words_of_a_die_line_count() {
        assert_eq!(
            kind(
                "Oops: general protection fault, probably for non-canonical address 0xdead: 0000 [#1] SMP"
            ),
            Some((GeneralProtection, Die))
        );
        assert_eq!(kind("Oops: Oops: 0002 [#1] SMP NOPTI"), Some((Oops, Die)));
        assert_eq!(
            kind("Internal error: Oops - BUG: 00000000f2000800 [#1] SMP"),
            Some((Bug, Die))
        );
    }

    #[test]
    fn the_number_of_a_die_line_is_read_wherever_it_stands() {
        let headlines = Headlines::new();
        assert_eq!(headlines.find(b"Oops[#12]:").1, Some(12));
        assert_eq!(headlines.find(b"odd: 0001 ilc:1 [#1] SMP").1, Some(1));
        assert_eq!(headlines.find(b"[#").1, Option::None);
        assert_eq!(headlines.find(b"7.2.0 #1 [#x]").1, Option::None);
    }

    #[test]
    fn quoted_words_inside_of_words_are_no_headlines() {
        assert_eq!(kind("xBUG: soft lockup"), Option::None);
        assert_eq!(
            kind("Kernel command line: oops=panic panic=-1"),
            Option::None
        );
        assert_eq!(
            kind("---[ end Kernel panic - not syncing: Fatal exception ]---"),
            Some((None, Boundary))
        );
    }
}
