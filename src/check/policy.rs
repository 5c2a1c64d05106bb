//! The settings that decide which kinds of trouble become a panic at all.

use super::{Findings, Root, Severity};

/// A sysctl, what it should be, and what is missed otherwise.
struct Policy {
    name: &'static str,
    /// The least value that will do.
    least: u64,
    severity: Severity,
    missed: &'static str,
}

const fn policy(name: &'static str, severity: Severity, missed: &'static str) -> Policy {
    Policy {
        name,
        least: 1,
        severity,
        missed,
    }
}

/// In the order of how much they cost when they are off. A kernel without one of them has nothing to set.
#[rustfmt::skip]
const POLICIES: &[Policy] = &[
    policy("kernel.panic_on_oops", Severity::Error, "an oops kills a task and is not reported"),
    policy("kernel.softlockup_panic", Severity::Warning, "a CPU that is stuck in the kernel is not reported"),
    policy("kernel.hardlockup_panic", Severity::Warning, "a CPU that is stuck with interrupts off is not reported"),
    policy("kernel.hung_task_panic", Severity::Warning, "tasks that hang in D state are not reported"),
    policy("kernel.panic_on_rcu_stall", Severity::Warning, "an RCU stall is not reported"),
    policy("kernel.unknown_nmi_panic", Severity::Warning, "the NMI button of a BMC does not make a report"),
    policy("vm.panic_on_oom", Severity::Warning, "running out of memory kills tasks and is not reported"),
    policy("kernel.sysrq", Severity::Warning, "a report cannot be asked for by SysRq-c"),
];

/// Compares the sysctls with what makes reports.
pub fn sysctls(root: &Root, findings: &mut Findings) {
    for policy in POLICIES {
        let path = format!("/proc/sys/{}", policy.name.replace('.', "/"));
        let Some(value) = root.number(&path) else {
            continue;
        };
        if value < policy.least {
            findings.add(
                policy.severity,
                format!("{} is {value}: {}", policy.name, policy.missed),
                format!(
                    "sysctl -w {0}={1}, and '{0} = {1}' in /etc/sysctl.d/crashdmesg.conf",
                    policy.name, policy.least
                ),
            );
        }
    }
}
