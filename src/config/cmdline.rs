//! The kernel command line, cut into parameters the way the kernel cuts it.
//!
//! ```text
//! console=ttyS0 crashdmesg.send=relp://10.0.2.2:2514 crashdmesg.host="node 17" -- ignored
//! ```
//!
//! A space ends a parameter unless it stands between double quotes; quotes around a whole parameter or a whole value
//! are dropped; `-` and `_` are the same in a name; what follows `--` is for init, not for us. Specified in
//! `lib/cmdline.c` (`next_arg`) and `kernel/params.c` of the kernel.

/// The parameters of `line` as (name, value); a word without `=` has no value.
pub fn parameters(line: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    Words { rest: line }
        .take_while(|word| *word != "--")
        .map(split)
}

struct Words<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let text = self.rest.trim_start();
        if text.is_empty() {
            return None;
        }
        let mut in_quotes = false;
        let end = text.find(|c: char| {
            in_quotes ^= c == '"';
            c.is_ascii_whitespace() && !in_quotes
        });
        let (word, rest) = text.split_at(end.unwrap_or(text.len()));
        self.rest = rest;
        Some(word)
    }
}

fn split(word: &str) -> (&str, Option<&str>) {
    let word = match word.strip_prefix('"') {
        Some(inner) => inner.strip_suffix('"').unwrap_or(inner),
        None => word,
    };
    match word.split_once('=') {
        None => (word, None),
        Some((name, value)) => (name, Some(unquoted(value))),
    }
}

/// `value` without the double quotes around it, if there are any.
pub fn unquoted(value: &str) -> &str {
    match value.strip_prefix('"') {
        Some(inner) => inner.strip_suffix('"').unwrap_or(inner),
        None => value,
    }
}

/// True when two parameter names are the same to the kernel.
pub fn same_name(one: &str, other: &str) -> bool {
    let dashes = |c: u8| if c == b'_' { b'-' } else { c };
    one.len() == other.len() && one.bytes().map(dashes).eq(other.bytes().map(dashes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(line: &str) -> Vec<(&str, Option<&str>)> {
        parameters(line).collect()
    }

    #[test]
    fn words_are_cut_at_spaces_and_values_at_the_first_equals_sign() {
        assert_eq!(
            all("quiet  ip=dhcp a=b=c\n"),
            [("quiet", None), ("ip", Some("dhcp")), ("a", Some("b=c"))]
        );
        assert!(all(" \n").is_empty());
    }

    #[test]
    fn quotes_keep_spaces_and_are_dropped() {
        assert_eq!(
            all(r#"a.host="node 17" b"#),
            [("a.host", Some("node 17")), ("b", None)]
        );
        assert_eq!(
            all(r#""a.host=node 17" b"#),
            [("a.host", Some("node 17")), ("b", None)]
        );
    }

    #[test]
    fn an_open_quote_reaches_to_the_end_and_harms_nothing() {
        assert_eq!(all(r#"a="b c"#), [("a", Some("b c"))]);
        assert_eq!(all("\""), [("", None)]);
    }

    #[test]
    fn what_follows_two_dashes_is_for_init() {
        assert_eq!(all("a=1 -- b=2"), [("a", Some("1"))]);
    }

    #[test]
    fn dashes_and_underscores_are_the_same_in_names() {
        assert!(same_name("net_timeout", "net-timeout"));
        assert!(!same_name("net-timeout", "net-timeouts"));
    }
}
