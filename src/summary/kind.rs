//! The kinds of crash: "how this dump was created".
//!
//! Each has a stable name for machines, which never changes once released, and a sentence for people.

use core::fmt;

macro_rules! kinds {
    ($($variant:ident $name:literal $how:literal,)*) => {
        /// How a dump was created.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind {
            $(#[doc = $how] $variant,)*
        }

        impl Kind {
            /// Every kind, in the order of the documentation.
            pub const ALL: &'static [Kind] = &[$(Kind::$variant,)*];

            /// The stable kebab-case name.
            pub const fn name(self) -> &'static str {
                match self { $(Kind::$variant => $name,)* }
            }

            /// What happened, as a clause for people.
            pub const fn how(self) -> &'static str {
                match self { $(Kind::$variant => $how,)* }
            }
        }
    };
}

kinds! {
    None "none" "no panic: nothing in the log ended this kernel",
    Sysrq "sysrq" "an operator or a script asked for the crash (sysrq-c), not a bug",
    NullDeref "null-deref" "the kernel dereferenced a NULL pointer",
    PagingRequest "paging-request" "the kernel accessed a bad address",
    GeneralProtection "general-protection" "the kernel used a non-canonical address or did what its privilege forbids",
    Bug "bug" "an assertion in the kernel failed (BUG)",
    DoubleFault "double-fault" "an exception came while another one was being delivered",
    StackOverflow "stack-overflow" "a kernel stack overflowed",
    DivideError "divide-error" "the kernel divided by zero",
    InvalidOpcode "invalid-opcode" "the kernel executed an invalid instruction",
    UndefinedInstruction "undefined-instruction" "the kernel executed an undefined instruction",
    Trap "trap" "a processor exception that the kernel does not handle",
    Alignment "alignment" "the kernel made an unaligned access that the processor does not allow",
    SoftLockup "soft-lockup" "a CPU was stuck in the kernel without scheduling",
    HardLockup "hard-lockup" "a CPU was stuck with interrupts disabled",
    HungTask "hung-task" "a task was blocked for too long",
    RcuStall "rcu-stall" "a CPU or a task held up RCU's grace period",
    WorkqueueLockup "workqueue-lockup" "a workqueue pool made no progress",
    Oom "oom" "out of memory, and the kernel was told to panic or had nothing left to kill",
    InitKilled "init-killed" "init (PID 1) exited or was killed",
    PanicOnWarn "panic-on-warn" "a kernel warning, with panic_on_warn set",
    MachineCheck "machine-check" "the processor reported a hardware error",
    HardwareError "hardware-error" "the firmware or the platform reported a fatal hardware error",
    Nmi "nmi" "a non-maskable interrupt, with a panic configured for it",
    Watchdog "watchdog" "a hardware or BMC watchdog expired (pre-timeout)",
    Kasan "kasan" "KASAN found an invalid memory access",
    Kfence "kfence" "KFENCE found an invalid memory access",
    Kcsan "kcsan" "KCSAN found a data race",
    Kmsan "kmsan" "KMSAN found a use of uninitialised memory",
    Ubsan "ubsan" "UBSAN found undefined behaviour",
    Filesystem "filesystem" "a file system or storage driver panicked over an error",
    NoRoot "no-root" "no root file system could be mounted",
    NoInit "no-init" "no init program could be started",
    StackProtector "stack-protector" "the stack protector found a corrupted kernel stack",
    StackCorrupted "stack-corrupted" "the end of a kernel stack was overwritten",
    AtomicSchedule "scheduling-while-atomic" "the kernel scheduled or slept in atomic context",
    ListCorruption "list-corruption" "a linked list was corrupted",
    Refcount "refcount" "a reference count went wrong",
    Usercopy "usercopy" "a copy to or from user space went outside of its object",
    Fortify "fortify" "a buffer overflow was detected (FORTIFY_SOURCE)",
    BadPage "bad-page" "a page or its reference counts were corrupted",
    SlabCorruption "slab-corruption" "a slab object was overwritten or freed wrongly",
    Spinlock "spinlock" "a spinlock was misused or locked up",
    Lockdep "lockdep" "lockdep found a possible deadlock",
    SError "serror" "the system reported an asynchronous hardware error",
    ExternalAbort "external-abort" "the bus refused a memory access (external abort)",
    MemoryTag "memory-tag" "a memory tag did not match its pointer",
    ControlProtection "control-protection" "a branch or a return went to a forbidden target",
    Bti "bti" "a branch went to what is no branch target",
    PointerAuth "pointer-auth" "pointer authentication failed",
    Cfi "cfi" "an indirect call went to a function of another type",
    BadMode "bad-mode" "an exception that the processor should not take here",
    OopsLimit "oops-limit" "the kernel oopsed as often as kernel.oops_limit allows",
    WarnLimit "warn-limit" "the kernel warned as often as kernel.warn_limit allows",
    PanicOnTaint "panic-on-taint" "the kernel became tainted in a way that panic_on_taint forbids",
    IdleKilled "idle-killed" "the idle task was killed",
    InterruptKilled "interrupt-killed" "an interrupt handler was killed",
    SystemReset "system-reset" "a system reset exception, usually from the management console",
    SelfTest "self-test" "a self-test failed that must not (FIPS mode)",
    Oops "oops" "the kernel oopsed",
    Panic "panic" "the kernel panicked with a message of its own",
}

impl Kind {
    /// How much a kind tells; of two lines of one report the higher one names it.
    pub(super) const fn rank(self) -> u8 {
        match self {
            Kind::None | Kind::Oops => 0,
            Kind::InvalidOpcode | Kind::UndefinedInstruction | Kind::Trap | Kind::PanicOnWarn => 1,
            Kind::Bug => 2,
            _ => 3,
        }
    }

    /// True when the message, not the place, tells two crashes of this kind apart.
    pub(super) const fn by_message(self) -> bool {
        matches!(
            self,
            Kind::Panic
                | Kind::Filesystem
                | Kind::NoRoot
                | Kind::NoInit
                | Kind::InitKilled
                | Kind::HardwareError
                | Kind::MachineCheck
                | Kind::Nmi
                | Kind::Watchdog
                | Kind::Oom
                | Kind::SelfTest
        )
    }

    /// True when the frames of the crash belong to whoever was hit, not to the cause.
    pub(super) const fn without_frames(self) -> bool {
        matches!(
            self,
            Kind::None
                | Kind::Sysrq
                | Kind::Nmi
                | Kind::Watchdog
                | Kind::MachineCheck
                | Kind::HardwareError
                | Kind::Oom
                | Kind::NoRoot
                | Kind::NoInit
                | Kind::InitKilled
                | Kind::SystemReset
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_kebab_case_and_unique() {
        for (place, kind) in Kind::ALL.iter().enumerate() {
            let name = kind.name();
            assert!(
                name.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
            );
            assert!(!kind.how().is_empty());
            assert!(Kind::ALL[..place].iter().all(|other| other.name() != name));
        }
    }
}
