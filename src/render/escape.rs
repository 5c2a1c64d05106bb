//! Bytes as text that no terminal and no parser trips over.

use core::fmt;

/// Writes `bytes`: valid UTF-8 as it is, control characters (but tab) and invalid bytes as `\xNN`.
///
/// # Errors
/// Those of `out`.
pub fn write_text(out: &mut dyn fmt::Write, bytes: &[u8]) -> fmt::Result {
    if let Some(text) = plain(bytes) {
        return out.write_str(text);
    }
    write_with(
        out,
        bytes,
        &|c| c != '\t' && c.is_control(),
        &|out, piece| {
            piece
                .iter()
                .try_for_each(|byte| write!(out, "\\x{byte:02x}"))
        },
    )
}

/// `bytes` as they are when they are printable ASCII alone, as nearly all of a log is; no newline is among them.
pub fn plain(bytes: &[u8]) -> Option<&str> {
    // Eight bytes at once, in any order; looking at each apart takes a third of the time of printing a log.
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let odd = |word: u64| {
        let below_space = !(word | HIGH).wrapping_sub(ONES << 5);
        let delete = (word & !HIGH).wrapping_add(ONES);
        (word | below_space | delete) & HIGH
    };
    let (words, rest) = bytes.as_chunks::<8>();
    let plain = words.iter().all(|&word| odd(u64::from_ne_bytes(word)) == 0)
        && rest.iter().all(|byte| (b' '..=b'~').contains(byte));
    if plain {
        str::from_utf8(bytes).ok()
    } else {
        None
    }
}

/// Writes `bytes` in pieces: `escaped` gets the bytes of every character that `special` picks, and those that are no
/// UTF-8.
///
/// # Errors
/// Those of `out`.
pub fn write_with(
    out: &mut dyn fmt::Write,
    bytes: &[u8],
    special: &dyn Fn(char) -> bool,
    escaped: &dyn Fn(&mut dyn fmt::Write, &[u8]) -> fmt::Result,
) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        let mut rest = chunk.valid();
        while let Some((at, c)) = rest.char_indices().find(|&(_, c)| special(c)) {
            let (plain, from) = rest.split_at(at);
            let (piece, behind) = from.split_at(c.len_utf8());
            out.write_str(plain)?;
            escaped(out, piece.as_bytes())?;
            rest = behind;
        }
        out.write_str(rest)?;
        if !chunk.invalid().is_empty() {
            escaped(out, chunk.invalid())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;

    #[test]
    fn what_is_plain_is_told_byte_by_byte_too() {
        for place in 0..20 {
            for byte in 0..=255 {
                let mut text = *b"sixteen and some bit";
                text[place] = byte;
                assert_eq!(
                    plain(&text).is_some(),
                    (b' '..=b'~').contains(&byte),
                    "{byte} at {place}"
                );
            }
        }
        assert_eq!(plain(b""), Some(""));
    }

    #[test]
    fn utf8_and_tabs_stay_control_and_stray_bytes_are_escaped() {
        let mut out = String::new();
        write_text(
            &mut out,
            b"gr\xc3\xbc\xc3\x9fe\ta\x1b[0m \x7f \xe9\xff\xc2\x85\r",
        )
        .unwrap();
        assert_eq!(out, "grüße\ta\\x1b[0m \\x7f \\xe9\\xff\\xc2\\x85\\x0d");
    }
}
