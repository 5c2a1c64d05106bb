//! How close the capture kernel came to the end of its memory: the number by which `crashkernel=` can be chosen.

use std::fs;

/// The least memory that was available at any time that was looked at.
#[derive(Default)]
pub struct LowWater {
    least_kib: Option<u64>,
}

impl LowWater {
    /// Looks now.
    pub fn sample(&mut self) {
        // MemAvailable came with v3.14; free pages alone are a careful guess before.
        let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let now = field(&text, "MemAvailable:").or_else(|| field(&text, "MemFree:"));
        self.least_kib = self.least_kib.into_iter().chain(now).min();
    }

    /// `memory: 23456 KiB of 61234 KiB left at the worst`
    pub fn text(&self) -> String {
        let total = field(
            &fs::read_to_string("/proc/meminfo").unwrap_or_default(),
            "MemTotal:",
        );
        match (self.least_kib, total) {
            (Some(least), Some(total)) => {
                format!("memory: {least} KiB of {total} KiB left at the worst")
            }
            _ => "memory: unknown".to_owned(),
        }
    }
}

/// How many processes the kernel killed for their memory so far; always 0 before v4.13.
pub fn oom_kills() -> u64 {
    field(
        &fs::read_to_string("/proc/vmstat").unwrap_or_default(),
        "oom_kill",
    )
    .unwrap_or(0)
}

/// The most memory this process had resident, in KiB.
pub fn peak_resident_kib() -> Option<u64> {
    field(
        &fs::read_to_string("/proc/self/status").unwrap_or_default(),
        "VmHWM:",
    )
}

/// The number behind the word `name` at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    let mut words = lines.find(|words| words.clone().next() == Some(name))?;
    words.nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_is_kept() {
        let mut memory = LowWater { least_kib: Some(1) };
        memory.sample();
        assert!(memory.text().starts_with("memory: 1 KiB of "));
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "MemTotal:  100 kB\noom_kill_x 7\noom_kill 3\n";
        assert_eq!(
            (
                field(text, "MemTotal:"),
                field(text, "oom_kill"),
                field(text, "x")
            ),
            (Some(100), Some(3), None)
        );
        assert!(peak_resident_kib().unwrap() > 100);
    }
}
