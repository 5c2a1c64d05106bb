//! A JSON reader for answers: walks a text once, hands over every scalar with its path, keeps nothing.
//!
//! RFC 8259. Enough to find `errors` and `partialSuccess`, not fooled by the same words inside strings. Nesting is bounded.

/// Deepest nesting that is read.
const DEPTH: usize = 16;

/// A text under way.
pub struct Json<'a> {
    rest: &'a [u8],
}

/// Takes a path of keys (`"#"` for a position in an array) and a scalar, strings decoded.
type Each<'e> = dyn FnMut(&[&str], &str) + 'e;

impl<'a> Json<'a> {
    /// Of these bytes.
    pub fn new(text: &'a [u8]) -> Self {
        Json { rest: text }
    }

    /// Hands every scalar to `each`; `None` when the text is no JSON, cut short or nested too deep. What was handed over
    /// until then is right.
    pub fn walk(&mut self, each: &mut Each<'_>) -> Option<()> {
        self.value(&mut Vec::new(), each)?;
        self.space();
        self.rest.is_empty().then_some(())
    }

    fn space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    fn take(&mut self, byte: u8) -> bool {
        self.space();
        match self.rest.split_first() {
            Some((first, rest)) if *first == byte => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    fn value(&mut self, path: &mut Vec<String>, each: &mut Each<'_>) -> Option<()> {
        if path.len() >= DEPTH {
            return None;
        }
        if self.take(b'{') {
            return self.members(b'}', path, each);
        }
        if self.take(b'[') {
            return self.members(b']', path, each);
        }
        let scalar = if self.take(b'"') {
            self.string()?
        } else {
            let word = |b: &u8| b.is_ascii_alphanumeric() || b"+-.".contains(b);
            let len = self.rest.iter().take_while(|b| word(b)).count();
            let (word, rest) = self.rest.split_at(len);
            self.rest = rest;
            let word = std::str::from_utf8(word).ok().filter(|w| !w.is_empty())?;
            word.to_string()
        };
        let keys: Vec<&str> = path.iter().map(String::as_str).collect();
        each(&keys, &scalar);
        Some(())
    }

    /// The members of an object or the elements of an array.
    fn members(&mut self, end: u8, path: &mut Vec<String>, each: &mut Each<'_>) -> Option<()> {
        if self.take(end) {
            return Some(());
        }
        loop {
            let mut key = String::from("#");
            if end == b'}' {
                if !self.take(b'"') {
                    return None;
                }
                key = self.string()?;
                if !self.take(b':') {
                    return None;
                }
            }
            path.push(key);
            self.value(path, each)?;
            path.pop();
            if self.take(end) {
                return Some(());
            }
            if !self.take(b',') {
                return None;
            }
        }
    }

    /// The rest of a string after its opening quote.
    fn string(&mut self) -> Option<String> {
        let mut out = Vec::new();
        loop {
            let (byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            match byte {
                b'"' => return Some(String::from_utf8_lossy(&out).into_owned()),
                b'\\' => {
                    let (escape, rest) = self.rest.split_first()?;
                    self.rest = rest;
                    match escape {
                        b'n' | b'r' | b't' | b'b' | b'f' => out.push(b' '),
                        b'u' => {
                            let (digits, rest) = self.rest.split_at_checked(4)?;
                            self.rest = rest;
                            let digits = std::str::from_utf8(digits).ok()?;
                            let code = u32::from_str_radix(digits, 16).ok()?;
                            let c = char::from_u32(code).unwrap_or('\u{fffd}');
                            out.extend(c.encode_utf8(&mut [0; 4]).bytes());
                        }
                        other => out.push(*other),
                    }
                }
                other => out.push(*other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> (Vec<String>, bool) {
        let mut seen = Vec::new();
        let whole = Json::new(text.as_bytes())
            .walk(&mut |path, value| seen.push(format!("{}={value}", path.join("/"))));
        (seen, whole.is_some())
    }

    #[test]
    fn every_scalar_comes_with_its_path() {
        let (seen, whole) =
            all(" {\"a\": [1, {\"b\\\"\":\"x\\u0041\\n\"} , []], \"c\" :true, \"d\":{}} ");
        assert_eq!(seen, ["a/#=1", "a/#/b\"=xA ", "c=true"]);
        assert!(whole);
    }

    #[test]
    fn what_is_no_json_is_noticed() {
        for bad in [
            "",
            "{",
            "[1",
            "{\"a\"}",
            "{\"a\":1,}",
            "\"x",
            "1 2",
            "\"\\u12",
            "{]",
            "nul\u{7f}",
        ] {
            assert!(!all(bad).1, "{bad}");
        }
        assert!(!all(&"[".repeat(100_000)).1);
    }
}
