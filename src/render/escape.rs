//! Bytes as text that no terminal and no parser trips over.

use core::fmt;

/// Writes `bytes`: valid UTF-8 as it is, control characters (but tab) and invalid bytes as `\xNN`.
///
/// # Errors
/// Those of `out`.
pub fn write_text(out: &mut dyn fmt::Write, bytes: &[u8]) -> fmt::Result {
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
