//! A strict reader of JSON (RFC 8259), so that what the program prints is judged by the grammar and not by its looks.

// Every test program uses its own part of this module.
#![allow(dead_code)]

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(f64),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Reads a whole document.
    pub fn parse(text: &str) -> Result<Json, String> {
        let mut parser = Parser { text, at: 0 };
        let value = parser.value(0)?;
        parser.space();
        match &text[parser.at..] {
            "" => Ok(value),
            rest => Err(format!("at {}: {:.20}", parser.at, rest)),
        }
    }

    /// The member of an object.
    pub fn get(&self, key: &str) -> Option<&Json> {
        match self {
            Json::Object(members) => members
                .iter()
                .find(|(name, _)| name == key)
                .map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Json::String(text) => Some(text),
            _ => None,
        }
    }

    /// The number.
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Json::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The elements of an array.
    pub fn elements(&self) -> &[Json] {
        match self {
            Json::Array(elements) => elements,
            _ => &[],
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn space(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.text[self.at..].starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        self.space();
        if self.take(token) {
            return Ok(());
        }
        Err(format!(
            "at {}: expected {token}, found {:.20}",
            self.at,
            &self.text[self.at..]
        ))
    }

    fn value(&mut self, depth: u32) -> Result<Json, String> {
        self.space();
        if depth > 50 {
            return Err("nested too deeply".into());
        }
        for (token, value) in [
            ("null", Json::Null),
            ("true", Json::Bool(true)),
            ("false", Json::Bool(false)),
        ] {
            if self.take(token) {
                return Ok(value);
            }
        }
        if self.take("{") {
            return self.members(depth);
        }
        if self.take("[") {
            return self.list(depth);
        }
        if self.text[self.at..].starts_with('"') {
            return self.string().map(Json::String);
        }
        self.number()
    }

    fn members(&mut self, depth: u32) -> Result<Json, String> {
        let mut members = Vec::new();
        self.space();
        if self.take("}") {
            return Ok(Json::Object(members));
        }
        loop {
            self.space();
            let key = self.string()?;
            if members.iter().any(|(name, _)| *name == key) {
                return Err(format!("{key} twice"));
            }
            self.expect(":")?;
            members.push((key, self.value(depth + 1)?));
            self.space();
            if !self.take(",") {
                self.expect("}")?;
                return Ok(Json::Object(members));
            }
        }
    }

    fn list(&mut self, depth: u32) -> Result<Json, String> {
        let mut elements = Vec::new();
        self.space();
        if self.take("]") {
            return Ok(Json::Array(elements));
        }
        loop {
            elements.push(self.value(depth + 1)?);
            self.space();
            if !self.take(",") {
                self.expect("]")?;
                return Ok(Json::Array(elements));
            }
        }
    }

    fn string(&mut self) -> Result<String, String> {
        self.expect("\"")?;
        let mut units = Vec::new();
        loop {
            let c = self.text[self.at..]
                .chars()
                .next()
                .ok_or("an open string")?;
            self.at += c.len_utf8();
            match c {
                '"' => {
                    return String::from_utf16(&units).map_err(|_| "half a surrogate pair".into());
                }
                '\\' => units.push(self.escape()?),
                '\0'..='\x1f' => return Err(format!("at {}: a control character", self.at)),
                c => units.extend(c.encode_utf16(&mut [0; 2]).iter()),
            }
        }
    }

    fn escape(&mut self) -> Result<u16, String> {
        let c = self.text[self.at..]
            .chars()
            .next()
            .ok_or("an open escape")?;
        self.at += c.len_utf8();
        Ok(match c {
            '"' | '\\' | '/' => c as u16,
            'b' => 8,
            'f' => 12,
            'n' => 10,
            'r' => 13,
            't' => 9,
            'u' => {
                let digits = self.text.get(self.at..self.at + 4).ok_or("a cut \\u")?;
                self.at += 4;
                u16::from_str_radix(digits, 16).map_err(|_| format!("\\u{digits}"))?
            }
            other => return Err(format!("\\{other}")),
        })
    }

    fn number(&mut self) -> Result<Json, String> {
        let rest = &self.text[self.at..];
        let len = rest.find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'));
        let digits = &rest[..len.unwrap_or(rest.len())];
        let unsigned = digits.trim_start_matches('-');
        let leading_zero =
            unsigned.len() > 1 && unsigned.starts_with('0') && !unsigned.starts_with("0.");
        let bare_point = unsigned.starts_with('.') || unsigned.ends_with('.');
        match digits.parse() {
            Ok(number) if !leading_zero && !bare_point && !digits.starts_with('+') => {
                self.at += digits.len();
                Ok(Json::Number(number))
            }
            _ => Err(format!("at {}: {:.20}", self.at, rest)),
        }
    }
}
