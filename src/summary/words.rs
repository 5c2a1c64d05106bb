//! Picking words and numbers out of a line of the kernel log.
//!
//! Lines are text that nobody vouches for: every function here answers `None` or less instead of failing.

use alloc::string::String;

/// What follows the first `needle` of `text`.
pub fn after<'a>(text: &'a str, needle: &str) -> Option<&'a str> {
    text.split_once(needle).map(|(_, rest)| rest)
}

/// The hexadecimal number `text` begins with, with or without `0x`; `(null)` and `(ptrval)` forms count as their value
/// or as nothing.
pub fn hex(text: &str) -> Option<u64> {
    let text = text.trim_start();
    if text.starts_with("(null)") || text.starts_with("NULL") {
        return Some(0);
    }
    let text = text.strip_prefix("0x").unwrap_or(text);
    let digits = text
        .bytes()
        .take_while(u8::is_ascii_hexdigit)
        .count()
        .min(16);
    u64::from_str_radix(text.get(..digits)?, 16).ok()
}

/// The decimal number `text` begins with.
pub fn decimal(text: &str) -> Option<u32> {
    let text = text.trim_start();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text.get(..digits)?.parse().ok()
}

/// The number after `needle`.
pub fn decimal_after(text: &str, needle: &str) -> Option<u32> {
    decimal(after(text, needle)?)
}

/// The hexadecimal number after `needle`.
pub fn hex_after(text: &str, needle: &str) -> Option<u64> {
    hex(after(text, needle)?)
}

/// At most `max` bytes of `text`, cut between characters and trimmed.
pub fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default().trim()
}

/// An owned copy of at most `max` bytes of `text`.
pub fn keep(text: &str, max: usize) -> String {
    String::from(cut(text, max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_where_their_digits_end() {
        assert_eq!(hex("0x1f/0x60"), Some(0x1f));
        assert_eq!(hex("ffff88000f03fe50>"), Some(0xffff_8800_0f03_fe50));
        assert_eq!(hex("          (null)"), Some(0));
        assert_eq!(hex("xyz"), None);
        assert_eq!(hex(""), None);
        assert_eq!(decimal(" 12 Comm"), Some(12));
        assert_eq!(decimal("99999999999"), None);
        assert_eq!(decimal_after("CPU: 3 PID: 112", "PID: "), Some(112));
    }

    #[test]
    fn a_cut_never_splits_a_character() {
        assert_eq!(cut("aé", 2), "a");
        assert_eq!(cut("  b ", 9), "b");
    }
}
