//! The taint letters of a kernel, spelled out.
//!
//! `Tainted: G        W  OE` has one letter per bit of `tainted_mask`, in bit order, a space where the bit is clear (`G`
//! where bit 0 is). Bits and letters are in `kernel/panic.c` (`taint_flags`); those marked "distribution" are not in
//! the mainline kernel.

use alloc::string::String;
use core::fmt;

/// Letter, bit of `tainted_mask`, meaning.
const TAINTS: &[(char, u8, &str)] = &[
    ('P', 0, "proprietary module"),
    ('F', 1, "module force-loaded"),
    ('S', 2, "CPU or kernel out of specification"),
    ('R', 3, "module force-unloaded"),
    ('M', 4, "machine check occurred"),
    ('B', 5, "bad page or page flags"),
    ('U', 6, "taint requested by user space"),
    ('D', 7, "kernel died before (oops or BUG)"),
    ('A', 8, "ACPI table overridden"),
    ('W', 9, "kernel warned before"),
    ('C', 10, "staging driver"),
    ('I', 11, "firmware bug worked around"),
    ('O', 12, "out-of-tree module"),
    ('E', 13, "unsigned module"),
    ('L', 14, "soft lockup occurred"),
    ('K', 15, "live patched"),
    ('X', 16, "auxiliary taint of the distribution"),
    ('T', 17, "structure layout randomised"),
    ('N', 18, "in-kernel test run"),
    ('J', 19, "firmware control interface used"),
    // Distribution kernels of Red Hat: bits 28 and 29.
    ('H', 28, "hardware not supported by the distribution"),
];

/// The taint letters of a kernel without the spaces between them; empty when it is not tainted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taint {
    letters: String,
}

impl Taint {
    /// Takes the letters after `Tainted: `; stops at what is no letter, such as the release.
    pub fn parse(text: &str) -> Self {
        let mut letters = String::new();
        for word in text.split_ascii_whitespace() {
            // Red Hat kernels print dashes for their reserved bits.
            let word = word.trim_end_matches('-');
            if !word.bytes().all(|byte| byte.is_ascii_uppercase()) {
                break;
            }
            letters.push_str(word);
        }
        letters.retain(|letter| letter != 'G');
        letters.truncate(32);
        Taint { letters }
    }

    /// Takes the bits of `tainted_mask`; bits without a letter are left out.
    pub fn from_mask(mask: u64) -> Self {
        let set = |bit: u8| mask.checked_shr(u32::from(bit)).unwrap_or(0) & 1 == 1;
        let known = TAINTS.iter().filter(|(_, bit, _)| set(*bit));
        Taint {
            letters: known.map(|(letter, ..)| *letter).collect(),
        }
    }

    /// The letters, in the order of their bits.
    pub fn letters(&self) -> &str {
        &self.letters
    }

    /// Each letter with its meaning.
    pub fn meanings(&self) -> impl Iterator<Item = (char, &'static str)> {
        self.letters
            .chars()
            .map(|letter| (letter, meaning(letter).unwrap_or("unknown taint")))
    }
}

/// What a taint letter means; modules carry letters of their own too.
pub fn meaning(letter: char) -> Option<&'static str> {
    let known = TAINTS.iter().find(|(known, ..)| *known == letter);
    known.map(|(_, _, meaning)| *meaning)
}

impl fmt::Display for Taint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.letters.is_empty() {
            return out.write_str("not tainted");
        }
        for (place, (letter, meaning)) in self.meanings().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(out, "{comma}{letter} ({meaning})")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn letters_are_read_past_their_spaces_up_to_the_release() {
        let taint = Taint::parse("G        W  OE      6.1.0-50-cloud-amd64 #1  Debian 6.1.176-1");
        assert_eq!(taint.letters(), "WOE");
        assert_eq!(
            taint.to_string(),
            "W (kernel warned before), O (out-of-tree module), E (unsigned module)"
        );
        assert_eq!(
            Taint::parse("P   M      OE K------------   3.10.0-862").letters(),
            "PMOEK"
        );
        assert_eq!(
            Taint::parse("G        W  (2.6.32-5-amd64 #1)").letters(),
            "W"
        );
        assert_eq!(Taint::parse("G      D    OE       7.2.0").letters(), "DOE");
    }

    #[test]
    fn a_mask_gives_the_same_letters() {
        assert_eq!(
            Taint::from_mask(1 << 9 | 1 << 12 | 1 << 13).letters(),
            "WOE"
        );
        assert_eq!(Taint::from_mask(0).to_string(), "not tainted");
        assert_eq!(Taint::from_mask(1 << 40).letters(), "");
    }
}
