//! The reservation, the loaded capture kernel, the clock and what the kernel forbids.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Findings, Root};

/// What a booted capture kernel takes beside its own image and the initramfs, in MiB: `struct page`, per-CPU areas, slab,
/// drivers, the first programs. Measured as the difference between the smallest reservation that works and the other
/// terms; see the table in the README.
const BOOTED_MIB: u64 = 40;
/// Reservations are recommended in steps of this.
const STEP_MIB: u64 = 16;
/// Sizes in `/proc/iomem` read as zero without privilege; then a kernel counts as this.
const KERNEL_MIB: u64 = 48;
/// Clocks that differ by more than this give reports a wrong date.
const CLOCK_DRIFT_S: u64 = 300;
/// 2024-01-01: no clock that is right shows less.
const CLOCK_LEAST_S: u64 = 1_704_067_200;

const MIB: u64 = 1 << 20;

/// MiB of memory that a capture kernel like this one needs.
pub fn needed_mib(root: &Root) -> u64 {
    let kernel = root
        .read("/proc/iomem")
        .map_or(0, |iomem| kernel_bytes(&iomem));
    let kernel = if kernel < MIB {
        KERNEL_MIB
    } else {
        kernel.div_ceil(MIB)
    };
    let release = root.read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let image = root.path(&super::armed::image_path(&release));
    let packed = std::fs::metadata(image).map_or(2 * MIB, |meta| meta.len());
    // Loaded, and unpacked to about three times that.
    kernel + (packed * 4).div_ceil(MIB) + BOOTED_MIB
}

/// MiB to reserve: what is needed, a quarter more for what another boot may find (firmware tables, slower devices), in
/// round figures.
pub fn recommended_mib(root: &Root) -> u64 {
    let needed = needed_mib(root);
    (needed + needed / 4).next_multiple_of(STEP_MIB)
}

/// The bytes of the kernel's own image: the sum of its sections.
fn kernel_bytes(iomem: &str) -> u64 {
    let section = |line: &str| {
        let (range, name) = line.trim().split_once(" : ")?;
        let (first, last) = range.split_once('-')?;
        let [first, last] = [first, last].map(|hex| u64::from_str_radix(hex, 16).ok());
        name.starts_with("Kernel ").then_some(last? - first?)
    };
    iomem.lines().filter_map(section).sum()
}

/// Whether memory is reserved, and enough of it.
pub fn reservation(root: &Root, findings: &mut Findings) {
    let recommended = recommended_mib(root);
    let fix = format!("boot with crashkernel={recommended}M");
    match root.number("/sys/kernel/kexec_crash_size") {
        None => findings.error(
            "this kernel cannot load a capture kernel (no /sys/kernel/kexec_crash_size)",
            "use one built with CONFIG_KEXEC and CONFIG_CRASH_DUMP",
        ),
        Some(0) => findings.error("no memory is reserved for a capture kernel", fix),
        Some(size) if size / MIB < needed_mib(root) => findings.error(
            format!(
                "{} MiB are reserved, but about {} are needed",
                size / MIB,
                needed_mib(root)
            ),
            fix,
        ),
        Some(_) => {}
    }
}

/// Whether a capture kernel is loaded, and will be at the next boot.
pub fn loaded(root: &Root, findings: &mut Findings) {
    if root.number("/sys/kernel/kexec_crash_loaded") != Some(1) {
        findings.error("no capture kernel is loaded", "crashdmesg-arm");
    }
    let (ours, theirs) = (
        "crashdmesg.service",
        ["kdump.service", "kdump-tools.service"],
    );
    let joined = super::armed::kdump_image(root).is_some();
    if root.exists("/run/systemd/system") {
        match (
            enabled(root, ours),
            theirs.into_iter().find(|unit| enabled(root, unit)),
        ) {
            (true, Some(other)) => findings.warning(
                format!("{other} loads a capture kernel, too: the last one loaded wins"),
                format!("systemctl disable {other}, or join it with crashdmesg-arm --kdump"),
            ),
            (false, None) if joined => findings.warning(
                "the distribution's kdump is not enabled: the next boot does not arm this machine",
                "systemctl enable kdump.service (Debian: kdump-tools.service)",
            ),
            (false, _) if !joined => findings.warning(
                "crashdmesg.service is not enabled: the next boot does not arm this machine",
                "systemctl enable crashdmesg.service",
            ),
            _ => {}
        }
    }
}

/// Whether a target of systemd wants a unit. A link to it counts even where the unit itself is not seen.
fn enabled(root: &Root, unit: &str) -> bool {
    let system = "/etc/systemd/system";
    root.names(system).iter().any(|name| {
        let link = root.path(&format!("{system}/{name}/{unit}"));
        name.ends_with(".wants") && link.symlink_metadata().is_ok()
    })
}

/// Whether the clock that dates a crash is right.
pub fn clock(root: &Root, findings: &mut Findings) {
    let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) else {
        return;
    };
    let now = now.as_secs();
    if now < CLOCK_LEAST_S {
        findings.warning(
            "the clock is not set: reports get a wrong date",
            "set it, and run an NTP client",
        );
    }
    // The capture kernel reads the hardware clock.
    match root.number("/sys/class/rtc/rtc0/since_epoch") {
        Some(rtc) if rtc.abs_diff(now) > CLOCK_DRIFT_S => findings.warning(
            format!("the hardware clock is {} s off", rtc.abs_diff(now)),
            "hwclock --systohc --utc",
        ),
        _ => {}
    }
}

/// Whether the kernel lets a capture kernel be loaded.
pub fn lockdown(root: &Root, findings: &mut Findings) {
    let loaded = root.number("/sys/kernel/kexec_crash_loaded") == Some(1);
    if root.number("/proc/sys/kernel/kexec_load_disabled") == Some(1) && !loaded {
        findings.error(
            "kernel.kexec_load_disabled is 1: nothing can be loaded until the next boot",
            "load the capture kernel before it is set (crashdmesg.service), then reboot",
        );
    }
    let mode = root
        .read("/sys/kernel/security/lockdown")
        .unwrap_or_default();
    if mode.contains("[confidentiality]") {
        findings.error(
            "lockdown is in confidentiality mode: the kernel refuses to give its memory to a capture kernel",
            "boot with lockdown=integrity",
        );
    }
    let sealed = root
        .read("/proc/cmdline")
        .is_some_and(|line| line.contains("mem_encrypt=on"));
    if sealed && root.number("/sys/kernel/kexec_crash_loaded") != Some(1) {
        findings.warning(
            "memory is encrypted (SME)",
            "use a capture kernel with SME support",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_sections_are_summed() {
        let iomem = "00100000-3fffffff : System RAM\n  01000000-01ffffff : Kernel code\n  02000000-020fffff : Kernel rodata\n\
                     20000000-27ffffff : Crash kernel\n";
        assert_eq!(kernel_bytes(iomem), 0xff_ffff + 0xf_ffff);
        assert_eq!(kernel_bytes("00000000-00000000 : Kernel code\n"), 0);
    }
}
