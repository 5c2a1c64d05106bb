//! Any report on its way out, redacted where that is configured: every report passes here, whatever it is made of.

use std::io::{self, Write};

use crashdmesg::render::redact::{Lines, Redactor};

use crate::config::Config;
use crate::sink::{Meta, Part, Record, Report};

/// A report as its receivers get it.
pub struct Redacted<'r> {
    inner: &'r dyn Report,
    /// `None` when nothing is redacted.
    redactor: Option<Redactor>,
    meta: Meta,
}

impl<'r> Redacted<'r> {
    /// `inner` as `config` wants it shown.
    pub fn new(inner: &'r dyn Report, config: &Config) -> Self {
        let redactor = config.redact.then(|| inner.redactor());
        let mut meta = inner.meta().clone();
        if let Some(redactor) = &redactor {
            let panic = redactor.line(meta.panic.as_bytes());
            meta.panic = String::from_utf8_lossy(&panic).into_owned();
            let mac = redactor.line(meta.mac.as_bytes());
            meta.mac = String::from_utf8_lossy(&mac).into_owned();
        }
        Redacted {
            inner,
            redactor,
            meta,
        }
    }
}

impl Report for Redacted<'_> {
    fn meta(&self) -> &Meta {
        &self.meta
    }

    fn write(&self, part: Part, out: &mut dyn Write) -> io::Result<()> {
        let Some(redactor) = self.redactor else {
            return self.inner.write(part, out);
        };
        let mut text = Text {
            lines: Lines::new(redactor),
            out,
        };
        self.inner.write(part, &mut text)?;
        let rest = text.lines.rest();
        text.out.write_all(&rest)
    }

    fn records(&self, each: &mut dyn FnMut(&Record<'_>) -> io::Result<()>) -> io::Result<()> {
        let Some(redactor) = self.redactor else {
            return self.inner.records(each);
        };
        self.inner.records(&mut |record| {
            let text = redactor.line(record.text);
            each(&Record {
                text: &text,
                ..*record
            })
        })
    }
}

/// Text that is redacted line by line.
struct Text<'w> {
    lines: Lines,
    out: &'w mut dyn Write,
}

impl Write for Text<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let whole = self.lines.push(bytes);
        self.out.write_all(&whole)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "at ffff8881004a2000 of 10.1.2.3";

    struct Fake(Meta);

    impl Report for Fake {
        fn meta(&self) -> &Meta {
            &self.0
        }

        fn write(&self, _: Part, out: &mut dyn Write) -> io::Result<()> {
            // In pieces, and without a newline at the end.
            LINE.as_bytes()
                .chunks(5)
                .try_for_each(|piece| out.write_all(piece))
        }

        fn records(&self, each: &mut dyn FnMut(&Record<'_>) -> io::Result<()>) -> io::Result<()> {
            each(&crate::rehearse::record(6, LINE.as_bytes()))
        }
    }

    /// Everything that a receiver can see of the report.
    fn seen(redact: bool) -> String {
        let inner = Fake(Meta {
            panic: LINE.into(),
            ..Meta::default()
        });
        let report = Redacted::new(
            &inner,
            &Config {
                redact,
                ..Config::default()
            },
        );
        let mut text = Vec::new();
        report.write(Part::Full, &mut text).unwrap();
        let mut record = |record: &Record<'_>| text.write_all(record.text);
        report.records(&mut record).unwrap();
        text.extend_from_slice(report.meta().panic.as_bytes());
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn text_records_and_the_panic_line_are_redacted_in_any_report() {
        let text = seen(true);
        assert!(
            !text.contains("ffff8881004a2000") && !text.contains("10.1.2.3"),
            "{text}"
        );
        let third = text.len() / 3;
        assert_eq!(
            text,
            text[..third].repeat(3),
            "the same pseudonyms everywhere"
        );
    }

    #[test]
    fn the_hardware_address_that_names_the_machine_is_one_of_the_pseudonyms() {
        let mac = "52:54:00:12:34:56";
        let inner = Fake(Meta {
            mac: mac.into(),
            ..Meta::default()
        });
        let config = Config {
            redact: true,
            ..Config::default()
        };
        let shown = Redacted::new(&inner, &config).meta().mac.clone();
        assert!(shown != mac && !shown.is_empty(), "{shown}");
    }

    #[test]
    fn without_redaction_a_report_passes_unchanged() {
        assert_eq!(seen(false), LINE.repeat(3));
    }
}
