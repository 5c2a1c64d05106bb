//! The crash signature: the same for the same bug, on any machine and any build of a kernel line.
//!
//! ```text
//! c1-null-deref-zcrash_do_null-1f0a93bd
//! |  |          |              `-- FNV-1a of all that counts, 64 bits folded to 32
//! |  |          `-- innermost function that is not the kernel's own machinery of dying
//! |  `-- kind
//! `-- version of these rules
//! ```
//!
//! What counts, in this order: the kind; what a sanitizer found; the panic message with its numbers, names in quotes
//! and in parentheses removed, for kinds whose message tells them apart, and where there is no function; the names of
//! at most three functions. Left out are addresses, offsets, sizes, module names, CPU and process numbers, task
//! names, line numbers, times, releases, compiler suffixes (`.isra.0`, `.cold`, `.llvm.123`), hashes in mangled Rust
//! names, the prefixes of system call stubs, frames that the kernel doubts (`?`), and the functions of [`GENERIC`]:
//! those through which every crash, interrupt or system call goes.
//!
//! Functions come from the log if it has any: the instruction pointer of the reason's report (or, where it
//! has no name, the link register), then its call trace, then
//! the trace of the panic. Only when the log has none do unwound functions count. So a second try that could read
//! less of the memory makes the same signature from the same log.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

use super::frame::{Frame, Section};
use super::kind::Kind;
use super::report::Report;
use super::{TextSummary, words::keep};

/// Functions that count.
const FUNCTIONS: usize = 3;

/// Longest function name in a signature.
const NAME_LEN: usize = 48;

/// Names of functions that say nothing about the bug: of dying, exceptions, interrupts and watchdogs, ways into the
/// kernel, formatting, which meets any caller's bad pointer, and waiting, where a lockup or a hung task happens to stand. A `*` stands for any rest.
const GENERIC: &str = "\
    panic vpanic nmi_panic nmi_panic_self_stop dump_stack* show_stack* dump_backtrace* show_regs* \
    __show_regs* unwind_backtrace __warn warn_slowpath* __warn_printk report_bug* __report_bug* \
    handle_bug* bug_handler* die* __die* oops_* show_trace* ___die _exception* check_panic_on_warn \
    end_report* kasan_report* print_report* print_address_desc* kasan_check* __kasan_check* \
    check_memory_region* __asan_* __hwasan_* __tsan_* __msan_* kcsan_* kmsan_* kfence_* __ubsan_* \
    ubsan_* __stack_chk_fail* __fortify_panic __fortify_report fortify_panic usercopy_abort \
    __check_object_size* __check_heap_object* __list_add_valid* __list_del_entry_valid* \
    refcount_warn_saturate refcount_dec_not_one crash_kexec __crash_kexec printk _printk vprintk* \
    printk_sprint vsnprintf vscnprintf vsprintf snprintf scnprintf sprintf kvasprintf* string string_nocheck pointer \
    abort add_taint make_task_dead rewind_stack* do_exit do_group_exit test_taint print_tainted \
    bad_mode panic_bad_stack handle_bad_stack __bad_stack __schedule_bug ___might_sleep __might_sleep __might_resched nmi_cpu_backtrace* \
    nmi_trigger_cpumask_backtrace rcu_dump_cpu_stacks* trigger_*backtrace* arch_trigger_* \
    sched_show_task show_task rust_helper_BUG __rustc.* core.panicking* core.option* core.result* \
    exc_* asm_exc_* page_fault* async_page_fault no_context bad_area* __bad_area* do_user_addr_fault \
    do_kern_addr_fault __do_page_fault do_page_fault* bad_page_fault __bad_page_fault do_trap* \
    do_error_trap do_invalid_op invalid_op do_general_protection general_protection* do_double_fault \
    double_fault divide_error do_divide_error error_entry error_code* common_exception* el1_* el1h_* \
    el1t_* el0_* el0t_* do_mem_abort do_translation_fault do_bad* die_kernel_fault __do_kernel_fault \
    do_kernel_fault do_undefinstr do_serror arm64_serror_panic arm64_is_fatal_ras_serror do_sea \
    do_sp_pc_abort brk_handler call_break_hook do_debug_exception __dabt_svc __pabt_svc __und_svc* \
    do_DataAbort do_PrefetchAbort do_undefinstr* arm_notify_die handle_page_fault handle_exception* \
    data_access_common_virt data_access_slb* instruction_access* program_check_common* \
    program_check_exception do_program_check hash__do_page_fault handle_mips_exception do_ade do_bp \
    do_tr_or_bp do_ri tlb_do_page_fault* do_protection_exception do_dat_exception pgm_check* \
    __do_pgm_check do_asce_exception kernelmode_fixup_or_oops \
    sysrq_* __handle_sysrq handle_sysrq write_sysrq_trigger nmi* end_repeat_nmi do_nmi \
    default_do_nmi watchdog* softlockup_fn is_softlockup perf_event_overflow __perf_event_overflow \
    intel_pmu_handle_irq* handle_pmi_common perf_event_nmi_handler hrtimer_* __hrtimer_* \
    local_apic_timer_interrupt smp_apic_timer_interrupt apic_timer_interrupt __sysvec_* sysvec_* \
    asm_sysvec_* asm_common_interrupt common_interrupt ret_from_intr irq_exit* __irq_exit* tick_* \
    update_process_times scheduler_tick sched_tick rcu_check* rcu_sched_clock_irq check_cpu_stall* \
    print_cpu_stall* rcu_pending check_hung* khungtaskd __irq_svc gic_handle_irq generic_handle_* \
    handle_domain_irq handle_percpu_* arch_timer_handler* call_on_irq_stack do_interrupt_handler \
    timer_interrupt __timer_interrupt decrementer_common* \
    entry_* do_syscall_* x64_sys_call ia32_sys_call do_int80* do_fast_syscall_32 \
    __do_fast_syscall_32 do_SYSENTER_32 system_call* sysenter_* syscall_call stub_* invoke_syscall* \
    el0_svc* __sys_trace* ret_fast_syscall ret_from_* ret_to_user* kthread kernel_thread* child_rip \
    worker_thread process_one_work process_scheduled_works handle_syscall do_trap_ecall_u \
    __do_syscall kernel_thread_starter start_kernel_thread smpboot_thread_fn ret_from_kernel_thread \
    secondary_start* start_secondary* start_kernel x86_64_start_* secondary_startup* rest_init \
    cpu_startup_entry do_idle cpu_idle* default_idle* arch_cpu_idle native_safe_halt cpuidle_* \
    acpi_idle_* intel_idle* mwait_idle* pv_native_safe_halt \
    __schedule schedule schedule_timeout* schedule_preempt_disabled io_schedule* __switch_to* \
    context_switch* wait_for_completion* __wait_for_common do_wait_for_common wait_for_common* \
    native_queued_spin_lock_slowpath queued_spin_lock_slowpath __pv_queued_spin_lock_slowpath \
    _raw_spin_* _raw_read_* _raw_write_* do_raw_spin_lock* __mutex_lock* mutex_lock* \
    mutex_spin_on_owner osq_lock rwsem_* down __down* down_* smp_call_function* csd_lock_wait* \
    on_each_cpu* _printk_deferred delay_tsc __const_udelay __delay __udelay";

/// Names after which an interrupted task's own frames begin; they are not the crash's.
const INTERRUPTS: &str = "\
    asm_sysvec_* asm_common_interrupt common_interrupt ret_from_intr apic_timer_interrupt el1_irq \
    el1h_64_irq __irq_svc call_on_irq_stack do_softirq_own_stack handle_riscv_irq do_IRQ \
    hardware_interrupt_common* do_io_irq do_ext_irq";

/// Prefixes of system call stubs: the same call has another one on each architecture.
const STUBS: &str = "\
    __x64_sys_ __ia32_compat_sys_ __ia32_sys_ __arm64_compat_sys_ __arm64_sys_ __riscv_sys_ \
    __s390x_sys_ __s390_sys_ __powerpc_sys_ __se_sys_ __se_compat_sys_ __do_sys_ __do_compat_sys_ \
    SyS_ SYSC_ ksys_ sys_";

/// A fingerprint of a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The kind.
    pub kind: Kind,
    /// The innermost function that counts.
    pub function: Option<String>,
    /// The hash of all that counts.
    pub hash: u32,
}

impl Signature {
    /// The signature of a crash, from its log first.
    pub(super) fn of(summary: &TextSummary, unwound: &[&str]) -> Self {
        let mut functions = Vec::new();
        for report in summary.reason.iter().chain(&summary.panic) {
            if functions.is_empty() {
                functions = in_report(report);
            }
        }
        if functions.is_empty() {
            let names = unwound.iter().map(|name| function_name(name));
            functions = names.filter(|name| counts(name)).take(FUNCTIONS).collect();
        }
        let reason = summary.reason.as_ref();
        let detail = reason
            .and_then(|reason| reason.detail.as_ref())
            .filter(|_| is_sanitizer(summary.kind))
            .map_or("", |found| &found.value);
        let message = summary.panic_message().map(|(message, _)| message);
        let message = message.or_else(|| Some(summary.headline()?.text.as_str()));
        Signature::new(
            summary.kind,
            detail,
            message.unwrap_or_default(),
            &functions,
        )
    }

    /// The signature of a kind, what a sanitizer found, a message and functions, innermost first.
    pub fn new(kind: Kind, detail: &str, message: &str, functions: &[String]) -> Self {
        let functions = if kind.without_frames() {
            &[]
        } else {
            functions
        };
        let mut hash = Fnv::new();
        hash.field(kind.name());
        hash.field(detail);
        let asked = matches!(kind, Kind::Sysrq | Kind::None);
        if kind.by_message() || functions.is_empty() && !asked {
            hash.field(&normalised(message));
        }
        for function in functions.iter().take(FUNCTIONS) {
            hash.field(function);
        }
        Signature {
            kind,
            function: functions.first().cloned(),
            hash: hash.folded(),
        }
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "c1-{}-", self.kind)?;
        if let Some(function) = &self.function {
            for letter in function.chars().take(NAME_LEN) {
                let plain = letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.');
                out.write_char(if plain { letter } else { '_' })?;
            }
            out.write_char('-')?;
        }
        write!(out, "{:08x}", self.hash)
    }
}

fn is_sanitizer(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Kasan | Kind::Kfence | Kind::Kcsan | Kind::Kmsan | Kind::Ubsan
    )
}

/// The functions of a report that count, innermost first.
fn in_report(report: &Report) -> Vec<String> {
    // After a jump to nowhere the link register tells who jumped.
    let places = report.ip.iter().chain(&report.lr);
    let mut named = places
        .map(|found| &found.value)
        .filter(|place| !place.is_unnamed());
    let here = named.next().map(|place| function_name(&place.symbol));
    let mut names: Vec<String> = here.into_iter().filter(|name| counts(name)).collect();
    let mut section = Section::Task;
    for frame in &report.frames {
        if frame.doubtful {
            continue;
        }
        let entered = names.is_empty() || frame.section == section;
        if !entered || !names.is_empty() && is_interrupt(frame) {
            break;
        }
        let name = function_name(&frame.place.symbol);
        if counts(&name) && names.last() != Some(&name) {
            names.push(name);
        }
        section = frame.section;
        if names.len() >= FUNCTIONS {
            break;
        }
    }
    names
}

fn is_interrupt(frame: &Frame) -> bool {
    matches_any(&frame.place.symbol, INTERRUPTS)
}

/// True for a function that says something about the bug.
fn counts(name: &str) -> bool {
    !name.is_empty() && !matches_any(name, GENERIC)
}

fn matches_any(name: &str, patterns: &str) -> bool {
    let mut patterns = patterns.split(' ');
    patterns.any(|pattern| match pattern.split_once('*') {
        Some((start, rest)) => name.starts_with(start) && name.contains(rest.trim_end_matches('*')),
        None => name == pattern,
    })
}

/// A function's name as its author wrote it: without compiler suffixes, stub prefixes and the hashes of Rust.
pub fn function_name(symbol: &str) -> String {
    if let Some(path) = symbol.strip_prefix("_R") {
        return rust_path(path, true);
    }
    if let Some(path) = symbol.strip_prefix("_ZN") {
        return rust_path(path, false);
    }
    // Powerpc names of the first ABI begin with a dot.
    let name = symbol.trim_start_matches('.');
    let name = name.split(['.', '$', '@', '+']).next().unwrap_or_default();
    let stub = STUBS.split(' ').find_map(|stub| name.strip_prefix(stub));
    let Some(call) = stub.filter(|call| !call.is_empty()) else {
        return keep(name, NAME_LEN.saturating_mul(2));
    };
    let mut full = String::from("sys_");
    full.push_str(call);
    full
}

/// The identifiers of a mangled Rust name, joined by dots; what tells builds apart (disambiguators, hashes) is dropped.
fn rust_path(path: &str, v0: bool) -> String {
    let mut name = String::new();
    let mut rest = path;
    while let Some(first) = rest.chars().next() {
        if first.is_ascii_digit() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (length, after) = rest.split_at_checked(digits).unwrap_or((rest, ""));
            let after = if v0 {
                after.strip_prefix('_').unwrap_or(after)
            } else {
                after
            };
            let length = length.parse().unwrap_or(usize::MAX);
            let Some((part, after)) = after.split_at_checked(length) else {
                break;
            };
            let hash = !v0 && length == 17 && part.starts_with('h');
            if !hash && length > 0 && name.len() < NAME_LEN {
                if !name.is_empty() {
                    name.push('.');
                }
                name.push_str(part);
            }
            rest = after;
        } else if first == '.' {
            break;
        } else if v0 && matches!(first, 's' | 'B') {
            // A disambiguator or a back reference: base 62 up to an underscore.
            rest = rest.split_once('_').map_or("", |(_, after)| after);
        } else {
            rest = rest.get(first.len_utf8()..).unwrap_or_default();
        }
    }
    name
}

/// A message without what differs from machine to machine: numbers, and words in quotes, parentheses and brackets.
fn normalised(message: &str) -> String {
    let mut out = String::new();
    let mut close = None;
    for word in message.split_ascii_whitespace() {
        if close.is_none() && !out.is_empty() {
            out.push(' ');
        }
        let hexadecimal = word.len() >= 8 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        let numbered = word.contains("0x") || hexadecimal;
        for letter in word.chars() {
            match close {
                Some(end) if letter == end => close = None,
                Some(_) => {}
                None => match letter {
                    '(' => close = Some(')'),
                    '[' => close = Some(']'),
                    '"' => close = Some('"'),
                    _ if numbered || letter.is_ascii_digit() => {
                        if !out.ends_with('#') {
                            out.push('#');
                        }
                    }
                    _ => out.push(letter.to_ascii_lowercase()),
                },
            }
        }
    }
    out
}

/// The identity of a report: the same for each try to deliver the same crash of the same machine.
///
/// `identity` are the names that tell the machine from others (node name, hashed machine id, MAC address), `boot_id` the
/// crashed kernel's where it is known, `crash_time` its `CRASHTIME` or the time of its last log record. The first 16
/// hexadecimal digits of FNV-1a with 64 bits.
pub fn report_id(identity: &[&str], boot_id: Option<&str>, crash_time: u64) -> String {
    let mut hash = Fnv::new();
    for part in identity {
        hash.field(part);
    }
    hash.field(boot_id.unwrap_or(""));
    hash.bytes(&crash_time.to_le_bytes());
    let mut id = String::new();
    // Writing to a string does not fail.
    let _ = write!(id, "r1-{:016x}", hash.0);
    id
}

/// FNV-1a with 64 bits: small, and nobody gains by a collision here.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// A part with its end, so that `ab`, `c` and `a`, `bc` differ.
    fn field(&mut self, text: &str) {
        self.bytes(text.as_bytes());
        self.bytes(&[0]);
    }

    fn folded(&self) -> u32 {
        let low = self.0 & 0xffff_ffff;
        u32::try_from((self.0 >> 32) ^ low).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Line, TextScan};
    use super::*;
    use alloc::string::ToString;

    fn summary(log: &str) -> TextSummary {
        let mut scan = TextScan::new();
        for (seq, line) in (1..).zip(log.lines()) {
            scan.feed(&Line {
                seq,
                text: line.as_bytes(),
                ..Line::default()
            });
        }
        scan.finish()
    }

    fn signature(log: &str) -> String {
        summary(log).signature(&[]).to_string()
    }

    const ONE_BUILD: &str = "BUG: kernel NULL pointer dereference, address: 0000000000000018
Oops: 0000 [#1] PREEMPT SMP NOPTI
CPU: 1 PID: 501 Comm: reader Not tainted 6.1.0-50-amd64 #1
RIP: 0010:victim_read.isra.0+0x1c/0x40 [victim]
Call Trace:
 <TASK>
 ? __die+0x1f/0x70
 vfs_read+0xa1/0x2f0
 ksys_read+0x6b/0xe0
 do_syscall_64+0x5d/0x90";

    const OTHER_BUILD: &str =
        "BUG: unable to handle kernel NULL pointer dereference at 0000000000000020
Oops: 0000 [#3] SMP
CPU: 7 PID: 99 Comm: cat Tainted: G        W         6.1.0-90-amd64 #1
RIP: 0010:victim_read.constprop.7+0x2c/0x50 [victim]
Call Trace:
 ? page_fault+0x1e/0x30
 vfs_read+0xb1/0x310
 __x64_sys_read+0x15/0x20
 do_syscall_64+0x45/0x1d0";

    #[test]
    fn another_build_and_machine_have_the_same_signature() {
        assert_eq!(signature(ONE_BUILD), signature(OTHER_BUILD));
        assert!(signature(ONE_BUILD).starts_with("c1-null-deref-victim_read-"));
    }

    #[test]
    fn other_bugs_have_other_signatures() {
        let other = [
            ONE_BUILD.replace("victim_read", "victim_write"),
            ONE_BUILD.replace("vfs_read", "vfs_splice"),
            ONE_BUILD.replace(
                "NULL pointer dereference, address: 0000000000000018",
                "BUG at fs/victim.c:12!",
            ),
        ];
        for log in other {
            assert_ne!(signature(&log), signature(ONE_BUILD), "{log}");
        }
    }

    #[test]
    fn unwound_functions_count_only_where_the_log_has_none() {
        let bare = "Kernel panic - not syncing: foo_driver: fatal error 17 on unit 3";
        let unwound = [
            "panic",
            "foo_fatal.cold",
            "foo_irq",
            "__handle_irq_event_percpu",
        ];
        let with = summary(bare).signature(&unwound).to_string();
        assert!(with.starts_with("c1-panic-foo_fatal-"), "{with}");
        let other_unit = summary(&bare.replace("17 on unit 3", "4 on unit 12"));
        assert_eq!(other_unit.signature(&unwound).to_string(), with);
        let logged = summary(ONE_BUILD);
        assert_eq!(logged.signature(&unwound), logged.signature(&[]));
    }

    #[test]
    fn what_was_interrupted_is_not_part_of_a_crash_in_an_interrupt() {
        let log = |task: &str| {
            let start = ONE_BUILD
                .replace("<TASK>", "<IRQ>")
                .replace(" ksys_read+0x6b/0xe0\n", "");
            let start = start.replace(" do_syscall_64+0x5d/0x90", "");
            signature(&alloc::format!(
                "{start} </IRQ>\n <TASK>\n {task}+0x1/0x2\n"
            ))
        };
        assert_eq!(log("ext4_writepages"), log("btrfs_search_slot"));
    }

    #[test]
    fn a_bad_pointer_that_was_to_be_printed_is_its_owners() {
        let log = |inner: &str| {
            signature(&alloc::format!(
                "general protection fault, probably for non-canonical address 0x1122334455667788: 0000 [#1] SMP NOPTI
RIP: 0010:{inner}+0x49/0xd0
Call Trace:
 vsnprintf+0x27a/0x4f0
 vscnprintf+0x9/0x30
 vprintk_store+0x46/0x210
 vprintk_emit+0xf2/0x270
 printk+0x58/0x73
 zp_init+0x27/0x1000 [zprintk]
 do_one_initcall+0x44/0x1e0
"
            ))
        };
        assert_eq!(log("string"), log("string_nocheck"));
        let signature = log("string");
        assert!(
            signature.starts_with("c1-general-protection-zp_init-"),
            "{signature}"
        );
    }

    #[test]
    fn sysrq_is_one_signature() {
        let text = "Kernel panic - not syncing: sysrq triggered crash\nCPU: 0 PID: 1 Comm: init Not tainted 6.1";
        let old = "SysRq : Trigger a crash
BUG: unable to handle kernel NULL pointer dereference at           (null)
Oops: 0002 [#1] SMP 
RIP: 0010:[<ffffffff8118035d>]  [<ffffffff8118035d>] sysrq_handle_crash+0xd/0x20";
        assert_eq!(signature(text), signature(old));
    }

    #[test]
    fn names_lose_what_compilers_and_architectures_add() {
        let names = [
            ("do_thing.isra.0.constprop.1", "do_thing"),
            ("do_thing.part.0.cold", "do_thing"),
            ("do_thing.llvm.1234567890", "do_thing"),
            (".do_thing", "do_thing"),
            (
                "type_show.d5e1ad21498a5fd14edbc5c320906598.cfi_jt",
                "type_show",
            ),
            ("__x64_sys_write", "sys_write"),
            ("SyS_write", "sys_write"),
            (
                "_RNvMCs5kY3iWhBqzH_12rust_minimalNtB2_11RustMinimal4init",
                "rust_minimal.RustMinimal.init",
            ),
            (
                "_ZN12rust_minimal4init17h0123456789abcdefE",
                "rust_minimal.init",
            ),
            ("_RNv99999999999999999999x", ""),
            ("", ""),
        ];
        for (symbol, name) in names {
            assert_eq!(function_name(symbol), name, "{symbol}");
        }
    }

    #[test]
    fn messages_lose_numbers_and_names_of_this_machine() {
        let message =
            normalised("EXT4-fs (device sda1): panic forced after error 0xffff8881004aa008 12");
        assert_eq!(message, "ext#-fs : panic forced after error # #");
        assert_eq!(
            normalised("VFS: Unable to mount root fs on \"UUID=1 2\" or unknown-block(0,0)"),
            normalised("VFS: Unable to mount root fs on \"/dev/sda\" or unknown-block(8,1)")
        );
    }

    #[test]
    fn a_report_id_depends_on_each_of_its_parts() {
        let id = report_id(&["host", "aa:bb"], Some("boot"), 7);
        assert_eq!(id, report_id(&["host", "aa:bb"], Some("boot"), 7));
        assert_eq!(id.len(), 19);
        for other in [
            report_id(&["hosta", "a:bb"], Some("boot"), 7),
            report_id(&["host", "aa:bb"], None, 7),
            report_id(&["host", "aa:bb"], Some("boot"), 8),
        ] {
            assert_ne!(id, other);
        }
    }
}
