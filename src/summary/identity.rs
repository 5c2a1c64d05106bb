//! The line that says which CPU, task and kernel a report is of.
//!
//! ```text
//! CPU: 9 UID: 0 PID: 138 Comm: kswapd0 Kdump: loaded Tainted: G      D    OE       7.2.0 #1 PREEMPT(lazy)    6.12 on
//! CPU: 0 PID: 1 Comm: init Not tainted 6.1.0-50-amd64 #1  Debian 6.1.176-1                                  3.10 on
//! CPU: 0    Not tainted  (3.2.0-rc3 #1)                                                                     arm, older
//! Pid: 1, comm: init Not tainted 3.4-4.0 #2 QEMU Standard PC                                                x86, older
//! ```
//!
//! Printed by `dump_stack_print_info` (`lib/dump_stack.c`) and, before, by each architecture.

use super::report::{Excerpt, Found, Report, put};
use super::taint::Taint;
use super::words::{after, decimal, decimal_after, keep};

impl Report {
    /// `0 UID: 0 PID: 1 Comm: init Kdump: loaded Tainted: G  W  6.1.0 #1 ...`.
    pub(super) fn identity(&mut self, line: &Excerpt, rest: &str) -> bool {
        let Some(cpu) = decimal(rest) else {
            return false;
        };
        let bare = rest.trim().bytes().all(|byte| byte.is_ascii_digit());
        let arm = rest.contains("ainted") && !rest.contains("PID: ");
        if !bare && !arm && !rest.contains("Comm: ") {
            return false;
        }
        if self.pid.is_some() && self.release.is_some() {
            // The backtrace of another CPU without its own headline.
            return true;
        }
        let at = self.evidence(line);
        // A stall that another CPU found is about that CPU: the identity line is of the stalled one.
        put(&mut self.cpu, Some(cpu), at);
        put(&mut self.uid, decimal_after(rest, "UID: "), at);
        let after_pid = after(rest, "PID: ");
        let pid = after_pid
            .and_then(decimal)
            .map(|value| Found { value, line: at });
        self.pid = pid.or(self.pid.take());
        if let Some(task) = after(rest, "Comm: ") {
            self.comm_and_rest(task, at);
        } else if arm {
            self.taint_and_release(
                rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' '),
                at,
            );
        }
        true
    }

    /// `1, comm: init Not tainted 3.4-4.0 #2 QEMU Standard PC`.
    pub(super) fn old_identity(&mut self, line: &Excerpt, rest: &str) {
        let at = self.evidence(line);
        put(&mut self.pid, decimal(rest), at);
        if let Some(task) = after(rest, "comm: ") {
            self.comm_and_rest(task, at);
        }
    }

    /// The name, which may hold spaces, ends where one of three fixed phrases begins.
    fn comm_and_rest(&mut self, task: &str, at: usize) {
        let ends = [" Kdump: ", " Tainted: ", " Not tainted"];
        let end = ends.iter().filter_map(|words| task.find(words)).min();
        let (comm, rest) = task
            .split_at_checked(end.unwrap_or(task.len()))
            .unwrap_or((task, ""));
        self.comm = Some(Found {
            value: keep(comm, 16),
            line: at,
        });
        if rest.starts_with(" Kdump: loaded") {
            put(&mut self.kdump_loaded, Some(true), at);
        }
        self.taint_and_release(rest, at);
    }

    fn taint_and_release(&mut self, rest: &str, at: usize) {
        let (taint, rest) = if let Some(rest) = after(rest, "Tainted: ") {
            (Taint::parse(rest), rest)
        } else if let Some(rest) = after(rest, "Not tainted") {
            (Taint::default(), rest)
        } else {
            return;
        };
        put(&mut self.taint, Some(taint), at);
        let mut words = rest.split_ascii_whitespace();
        let release = words.find(|word| {
            let word = word.trim_start_matches('(');
            word.bytes()
                .next()
                .is_some_and(|byte| byte.is_ascii_digit())
        });
        let release = release.map(|word| keep(word.trim_start_matches('('), 64));
        put(&mut self.release, release, at);
        // Before 3.10 the machine stood at the end of this line.
        let old = self
            .lines
            .get(at)
            .is_some_and(|line| line.text.starts_with("Pid: "));
        if old && let Some(rest) = after(rest, " #") {
            let machine = after(rest, " ").unwrap_or_default();
            let machine = Some(keep(machine, 200)).filter(|machine| !machine.is_empty());
            put(&mut self.hardware, machine, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::events::Class;
    use super::super::kind::Kind;
    use super::*;
    use alloc::format;
    use alloc::string::String;

    /// CPU, user, task, its name, taint letters and release that a line tells.
    fn told(text: &str) -> String {
        let mut report = Report::new(1, Kind::Oops, Class::Oops, None);
        let line = Excerpt {
            text: text.into(),
            ..Excerpt::default()
        };
        report.detail(&line, text);
        let number = |field: &Option<Found<u32>>| {
            let value = field.as_ref().map(|found| format!("{}", found.value));
            value.unwrap_or_else(|| "-".into())
        };
        let taint = report
            .taint
            .map(|found| String::from(found.value.letters()));
        format!(
            "{} {} {} {:?} {:?} {:?}",
            number(&report.cpu),
            number(&report.uid),
            number(&report.pid),
            report.comm.map_or_else(String::new, |found| found.value),
            taint.unwrap_or_else(|| "-".into()),
            report.release.map_or_else(String::new, |found| found.value)
        )
    }

    #[test]
    fn every_form_of_the_line_is_read() {
        let forms = [
            (
                "CPU: 9 UID: 0 PID: 138 Comm: kswapd0 Tainted: G      D    OE       7.2.0-rc1 #1 PREEMPT(lazy) ",
                r#"9 0 138 "kswapd0" "DOE" "7.2.0-rc1""#,
            ),
            (
                "CPU: 0 PID: 1 Comm: my init 2 Kdump: loaded Not tainted 6.1.0-50-amd64 #1  Debian 6.1.176-1",
                r#"0 - 1 "my init 2" "" "6.1.0-50-amd64""#,
            ),
            (
                "CPU: 0    Not tainted  (3.2.0-rc3 #1)",
                r#"0 - - "" "" "3.2.0-rc3""#,
            ),
            (
                "Pid: 0, comm: swapper Tainted: G   M       ---------------    2.6.32-431.el6.x86_64 #1 Supermicro X8DTL",
                r#"- - 0 "swapper" "M" "2.6.32-431.el6.x86_64""#,
            ),
            (
                "Process swapper (pid: 7, stack limit = 0xc04d02e8)",
                r#"- - 7 "swapper" "-" """#,
            ),
            (
                "TASK = c0000001[1234] 'comm 1' THREAD: c0000002 CPU: 3",
                r#"3 - 1234 "comm 1" "-" """#,
            ),
            ("CPU 5 ", r#"5 - - "" "-" """#),
            ("CPU: 0 frequency: 100 MHz", r#"- - - "" "-" """#),
        ];
        for (line, want) in forms {
            assert_eq!(told(line), want, "{line}");
        }
    }
}
