//! What the first line of a report says: tables of the kernel's own words.
//!
//! A line is looked at once. At the start of each of its words the table of that word's first byte is tried; the rest
//! of the log costs one table look-up per word. Lines that end in `[#1]` are die messages whatever they say.
//!
//! The words are those of `arch/*/mm/fault.c`, `arch/*/kernel/traps.c`, `lib/bug.c`, `kernel/panic.c`,
//! `kernel/watchdog.c`, `kernel/hung_task.c`, `kernel/rcu/`, `mm/oom_kill.c` and others, from 2.6.32 to 7.x.

mod rows;

use super::kind::Kind;
use rows::HEADLINES;

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
        let (mut found, mut die_count) = (None::<&'static Headline>, None);
        let (mut before, mut rest) = (b' ', line);
        while let Some((&byte, next)) = rest.split_first() {
            let word = matches!(before, b' ' | b'\t' | b'}');
            if word {
                let group = self.rows.get(usize::from(byte)).copied().unwrap_or(&[]);
                if let Some(row) = group.iter().find(|row| row.matches(rest)) {
                    // `Oops: general protection fault` and the like say it more precisely further on.
                    let refines = |old: &Headline| {
                        old.class == Class::Oops
                            && row.class == Class::Oops
                            && old.kind.rank() < row.kind.rank()
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
    use super::super::kind::Kind::*;
    use super::Class::{Boundary, Oops as Die};
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
