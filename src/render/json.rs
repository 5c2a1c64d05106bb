//! JSON, as far as reports need it.

use core::fmt;

use super::escape;

/// Writes `bytes` as a JSON string with its quotes. Bytes that are no UTF-8 become `\xNN` in the text, with a real
/// backslash, since JSON has no bytes.
///
/// # Errors
/// Those of `out`.
pub fn write_string(out: &mut dyn fmt::Write, bytes: &[u8]) -> fmt::Result {
    out.write_char('"')?;
    let special = |c: char| c.is_control() || c == '"' || c == '\\';
    escape::write_with(
        out,
        bytes,
        &special,
        &|out, piece| match str::from_utf8(piece) {
            Ok("\n") => out.write_str("\\n"),
            Ok("\t") => out.write_str("\\t"),
            Ok("\"") => out.write_str("\\\""),
            Ok("\\") => out.write_str("\\\\"),
            Ok(text) => text
                .chars()
                .try_for_each(|c| write!(out, "\\u{:04x}", u32::from(c))),
            Err(_) => piece
                .iter()
                .try_for_each(|byte| write!(out, "\\\\x{byte:02x}")),
        },
    )?;
    out.write_char('"')
}

/// Writes one object, field by field.
pub struct Object<'w> {
    out: &'w mut dyn fmt::Write,
    empty: bool,
}

impl<'w> Object<'w> {
    /// Opens the object.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(out: &'w mut dyn fmt::Write) -> Result<Self, fmt::Error> {
        out.write_char('{')?;
        Ok(Object { out, empty: true })
    }

    /// Writes a key; the value is written to what is returned.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn key(&mut self, key: &str) -> Result<&mut dyn fmt::Write, fmt::Error> {
        if !self.empty {
            self.out.write_char(',')?;
        }
        self.empty = false;
        write_string(self.out, key.as_bytes())?;
        self.out.write_char(':')?;
        Ok(self.out)
    }

    /// A field with a string.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn string(&mut self, key: &str, value: &[u8]) -> fmt::Result {
        write_string(self.key(key)?, value)
    }

    /// A field with a number or anything else that is written as it stands.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn raw(&mut self, key: &str, value: fmt::Arguments<'_>) -> fmt::Result {
        self.key(key)?.write_fmt(value)
    }

    /// A field with a string, if there is one.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn optional(&mut self, key: &str, value: Option<&str>) -> fmt::Result {
        value.map_or(Ok(()), |value| self.string(key, value.as_bytes()))
    }

    /// A field with a number, if there is one.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn number(&mut self, key: &str, value: Option<u64>) -> fmt::Result {
        value.map_or(Ok(()), |value| self.raw(key, format_args!("{value}")))
    }

    /// A field with what `value` displays, as a string.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn display(&mut self, key: &str, value: &dyn fmt::Display) -> fmt::Result {
        self.string(key, alloc::string::ToString::to_string(value).as_bytes())
    }

    /// Closes the object.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn end(self) -> fmt::Result {
        self.out.write_char('}')
    }
}

/// Writes an array; `each` writes one element.
///
/// # Errors
/// Those of `out`.
pub fn write_array<T>(
    out: &mut dyn fmt::Write,
    elements: impl IntoIterator<Item = T>,
    each: &mut dyn FnMut(&mut dyn fmt::Write, T) -> fmt::Result,
) -> fmt::Result {
    out.write_char('[')?;
    let mut first = true;
    for element in elements {
        if !first {
            out.write_char(',')?;
        }
        first = false;
        each(out, element)?;
    }
    out.write_char(']')
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;

    #[test]
    fn strings_are_escaped_and_fields_separated() {
        let mut out = String::new();
        let mut object = Object::new(&mut out).unwrap();
        object
            .string("msg", b"a\"b\\c\n\x01 \xff \xc3\xa9")
            .unwrap();
        object.raw("pri", format_args!("{}", 6)).unwrap();
        object.end().unwrap();
        assert_eq!(out, r#"{"msg":"a\"b\\c\n\u0001 \\xff é","pri":6}"#);
    }
}
