//! What `panic()` was called with, and where the reason of such a panic is to be looked for.
//!
//! The messages are those of the calls of `panic()` and `nmi_panic()` from 2.6.32 to 7.x. A message in no row is a
//! panic of its own kind, which its text tells from others.

use super::kind::Kind::{self, *};

/// Where the kind of a panic comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The message itself.
    Message,
    /// A report of the same kind before it tells more.
    SameKind,
    /// The oops before it.
    Oops,
    /// The oops before it if the dead task is the one that oopsed, else the message.
    OopsOfTask,
    /// The warning or complaint before it.
    Complaint,
}

/// What `panic()` was called with; the first row whose words are in the message counts.
const PANICS: &[(&str, Kind, Source)] = &[
    ("sysrq triggered crash", Sysrq, Source::Message),
    ("KASAN: panic_on_warn", Kasan, Source::SameKind),
    ("kasan.fault=panic", Kasan, Source::SameKind),
    ("KFENCE: panic_on_warn", Kfence, Source::SameKind),
    ("KCSAN: panic_on_warn", Kcsan, Source::SameKind),
    ("KMSAN: panic_on_warn", Kmsan, Source::SameKind),
    ("kmsan.panic", Kmsan, Source::SameKind),
    ("UBSAN: panic_on_warn", Ubsan, Source::SameKind),
    (
        "scheduling while atomic: panic_on_warn",
        AtomicSchedule,
        Source::SameKind,
    ),
    ("panic_on_warn set", PanicOnWarn, Source::Complaint),
    ("system warned too often", WarnLimit, Source::Message),
    ("warn_limit", WarnLimit, Source::Message),
    ("Oopsed too often", OopsLimit, Source::Message),
    ("oops_limit", OopsLimit, Source::Message),
    ("panic_on_taint", PanicOnTaint, Source::Message),
    ("Fatal exception", Oops, Source::Oops),
    ("fatal exception", Oops, Source::Oops),
    ("Fatal trap", Oops, Source::Oops),
    ("Attempted to kill init", InitKilled, Source::OopsOfTask),
    ("Attempted to kill the idle task", IdleKilled, Source::Oops),
    ("killing interrupt handler", InterruptKilled, Source::Oops),
    ("softlockup: hung tasks", SoftLockup, Source::SameKind),
    ("soft lockup", SoftLockup, Source::SameKind),
    ("hung_task: blocked tasks", HungTask, Source::SameKind),
    ("ard LOCKUP", HardLockup, Source::SameKind),
    ("NMI Watchdog detected LOCKUP", HardLockup, Source::SameKind),
    ("RCU Stall", RcuStall, Source::SameKind),
    ("workqueue lockup", WorkqueueLockup, Source::SameKind),
    ("panic_on_oom is enabled", Oom, Source::Message),
    ("panic_on_oom", Oom, Source::Message),
    ("no killable processes", Oom, Source::Message),
    ("deadlocked on memory", Oom, Source::Message),
    ("ut of memory", Oom, Source::Message),
    ("nable to mount root", NoRoot, Source::Message),
    ("nable to open an initial console", NoInit, Source::Message),
    ("No working init found", NoInit, Source::Message),
    ("No init found", NoInit, Source::Message),
    ("Requested init", NoInit, Source::Message),
    ("stack-protector", StackProtector, Source::Message),
    ("corrupted stack end", StackCorrupted, Source::Message),
    ("Thread overran stack", StackOverflow, Source::Message),
    ("ernel stack overflow", StackOverflow, Source::SameKind),
    ("Corrupt kernel stack", StackOverflow, Source::Message),
    ("stack overflow", StackOverflow, Source::Message),
    ("double fault", DoubleFault, Source::Message),
    ("Double fault", DoubleFault, Source::Message),
    ("An NMI occurred", Watchdog, Source::Message),
    ("atchdog pre-timeout", Watchdog, Source::Message),
    ("watchdog pretimeout", Watchdog, Source::Message),
    ("Software Watchdog", Watchdog, Source::Message),
    ("hpwdt", Watchdog, Source::Message),
    ("atchdog timer expired", Watchdog, Source::Message),
    ("Watchdog Timeout", Watchdog, Source::Message),
    ("Fatal hardware error", HardwareError, Source::Message),
    ("Hardware error from", HardwareError, Source::Message),
    ("hardware error", HardwareError, Source::Message),
    ("AER: ", HardwareError, Source::Message),
    ("PCI system error", HardwareError, Source::Message),
    ("EDAC", HardwareError, Source::Message),
    ("Uncorrected Error", HardwareError, Source::Message),
    ("UE row", HardwareError, Source::Message),
    (
        "ncorrected hardware memory error",
        MachineCheck,
        Source::Message,
    ),
    ("achine check", MachineCheck, Source::Message),
    ("achine Check", MachineCheck, Source::Message),
    ("MCE", MachineCheck, Source::Message),
    (
        "Not all CPUs entered broadcast",
        MachineCheck,
        Source::Message,
    ),
    ("Timeout synchronizing", MachineCheck, Source::Message),
    ("Unrecoverable machine", MachineCheck, Source::Message),
    ("NMI", Nmi, Source::Message),
    ("SError", SError, Source::SameKind),
    ("external abort", ExternalAbort, Source::SameKind),
    ("bad mode", BadMode, Source::SameKind),
    ("nhandled exception", BadMode, Source::SameKind),
    ("System Reset", SystemReset, Source::Message),
    ("system reset", SystemReset, Source::Message),
    ("panic forced after error", Filesystem, Source::Message),
    ("BTRFS panic", Filesystem, Source::Message),
    ("GFS2: ", Filesystem, Source::Message),
    ("EXT4-fs", Filesystem, Source::Message),
    ("EXT3-fs", Filesystem, Source::Message),
    ("EXT2-fs", Filesystem, Source::Message),
    ("JBD2", Filesystem, Source::Message),
    ("XFS", Filesystem, Source::Message),
    ("F2FS", Filesystem, Source::Message),
    ("FAT-fs", Filesystem, Source::Message),
    ("OCFS2", Filesystem, Source::Message),
    ("ocfs2", Filesystem, Source::Message),
    ("UBIFS", Filesystem, Source::Message),
    ("dm-verity", Filesystem, Source::Message),
    ("reiserfs", Filesystem, Source::Message),
    ("REISERFS", Filesystem, Source::Message),
    ("SysV-fs", Filesystem, Source::Message),
    ("UFS-fs", Filesystem, Source::Message),
    ("fips", SelfTest, Source::Message),
    ("FIPS", SelfTest, Source::Message),
    ("elf-test", SelfTest, Source::Message),
    ("CFI failure", Cfi, Source::SameKind),
    ("Control flow integrity", Cfi, Source::SameKind),
    ("control protection", ControlProtection, Source::SameKind),
    ("kernel paging request", PagingRequest, Source::SameKind),
    ("page fault", PagingRequest, Source::SameKind),
    ("cheduling while atomic", AtomicSchedule, Source::SameKind),
    ("list corruption", ListCorruption, Source::SameKind),
    ("buffer overflow", Fortify, Source::SameKind),
    ("BUG!", Bug, Source::SameKind),
    ("kernel BUG", Bug, Source::SameKind),
    ("Spinlock", Spinlock, Source::SameKind),
];

/// The kind of a panic message and where its reason is to be looked for.
pub(super) fn panic_message(message: &str) -> (Kind, Source) {
    let row = PANICS.iter().find(|(words, ..)| message.contains(words));
    row.map_or((Panic, Source::Message), |&(_, kind, source)| {
        (kind, source)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_row_hides_a_later_one() {
        for (place, (words, ..)) in PANICS.iter().enumerate() {
            let hidden = PANICS[..place].iter().find(|row| words.contains(row.0));
            assert!(hidden.is_none(), "{words}");
        }
    }

    #[test]
    fn a_message_of_nobody_is_a_kind_of_its_own() {
        assert_eq!(panic_message("foo: bar"), (Panic, Source::Message));
        assert_eq!(
            panic_message("Fatal exception in interrupt"),
            (Oops, Source::Oops)
        );
    }
}
