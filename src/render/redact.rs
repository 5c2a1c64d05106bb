//! Redaction: what a log tells of its machine beyond the crash, replaced by pseudonyms.
//!
//! | in the text | becomes |
//! |---|---|
//! | a kernel address, `ffff8881004a2000`, `0xffff8881004a2000` | `<ptr-5f0c9a31>` |
//! | a hardware address, `52:54:00:12:34:56` | `<mac-8c01d7be>` |
//! | an IPv4 or IPv6 address | `<ip-77e2a004>` |
//! | the value of `password=` and its like | `<secret>` |
//!
//! The same value has the same pseudonym everywhere in the reports of one boot, so that a reader can still follow it. A
//! pseudonym is a keyed hash (SipHash); the key comes from the addresses in VMCOREINFO, which are not sent. Symbols,
//! offsets, small numbers and addresses that mean nothing (loopback, error pointers) stay.

#![allow(
    deprecated,
    reason = "core's SipHasher is deprecated in favour of one that only std has"
)]

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::hash::{Hasher, SipHasher};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::bytes::Word;
use crate::kernel::Kernel;

/// Parts of names whose values are secrets.
const SECRETS: [&str; 8] = [
    "passw",
    "passphrase",
    "secret",
    "token",
    "psk",
    "apikey",
    "api_key",
    "credential",
];

/// Error pointers and negative numbers end the address space; nothing of the kernel is there.
const ERRORS: u64 = 4096;

/// Replaces what identifies a machine.
#[derive(Clone, Copy, Debug)]
pub struct Redactor {
    key: u64,
    word: Word,
}

impl Redactor {
    /// A redactor whose pseudonyms are those of this boot of this machine.
    pub fn new(kernel: &Kernel<'_>) -> Self {
        let mut hash = SipHasher::new();
        hash.write(kernel.info().text());
        Self::keyed(hash.finish(), kernel.word_size())
    }

    /// A redactor with a key of the caller's, for addresses of this size.
    pub fn keyed(key: u64, word: Word) -> Self {
        Redactor { key, word }
    }

    /// `line` with pseudonyms.
    pub fn line(&self, line: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(line.len());
        let mut rest = line;
        while let Some(&first) = rest.first() {
            let taken = match first {
                // An escape of JSON or ours: its letter belongs to nothing that follows.
                b'\\' => rest.len().min(2),
                _ if is_word(first) || first == b':' => self.word(rest, &mut out),
                _ => 0,
            };
            let (copied, behind) = match taken {
                0 => rest.split_at(1),
                _ if first == b'\\' => rest.split_at(taken),
                _ => (&[][..], rest.get(taken..).unwrap_or_default()),
            };
            out.extend_from_slice(copied);
            rest = behind;
        }
        out
    }

    /// Takes a word off `text`, writes it or its pseudonym, and says how long it was.
    fn word(&self, text: &[u8], out: &mut Vec<u8>) -> usize {
        let number = length(text, |byte| {
            byte.is_ascii_hexdigit() || matches!(byte, b'x' | b':' | b'.')
        });
        let number = trimmed(text.get(..number).unwrap_or_default());
        let next = text.get(number.len()).copied().unwrap_or(b' ');
        if !is_word(next)
            && let Some((taken, pseudonym)) = self.pseudonym(number)
        {
            out.extend_from_slice(pseudonym.as_bytes());
            return taken;
        }
        let name = length(text, |byte| is_word(byte) || matches!(byte, b'.' | b'-'));
        let word = text.get(..name.max(1)).unwrap_or_default();
        out.extend_from_slice(word);
        if text.get(name) != Some(&b'=') || !is_secret(word) {
            return word.len();
        }
        let value = text.get(name.saturating_add(1)..).unwrap_or_default();
        let end = length(value, |byte| {
            !byte.is_ascii_whitespace() && !matches!(byte, b'"' | b'\\' | b',')
        });
        out.extend_from_slice(b"=<secret>");
        name.saturating_add(1).saturating_add(end)
    }

    /// The pseudonym of what looks like a number, and how much of it that replaces.
    fn pseudonym(&self, number: &[u8]) -> Option<(usize, String)> {
        let text = str::from_utf8(number).ok()?;
        if is_mac(text) {
            return Some((
                text.len(),
                self.name("mac", text.to_ascii_lowercase().as_bytes()),
            ));
        }
        if let Some(address) = self.address(text) {
            return Some((text.len(), self.name("ptr", &address.to_le_bytes())));
        }
        // A port may follow an IPv4 address, a colon any.
        let host = text
            .split_once(':')
            .filter(|(host, _)| host.contains('.'))
            .map_or(text, |(host, _)| host);
        let ip = host
            .parse::<Ipv4Addr>()
            .map(IpAddr::V4)
            .or_else(|_| text.parse::<Ipv6Addr>().map(IpAddr::V6))
            .ok()?;
        let (len, bytes) = match ip {
            IpAddr::V4(ip)
                if ip.is_loopback() || ip.is_unspecified() || ip.octets().first() == Some(&255) =>
            {
                return None;
            }
            IpAddr::V6(ip) if ip.is_loopback() || ip.is_unspecified() => return None,
            IpAddr::V4(ip) => (host.len(), ip.octets().to_vec()),
            IpAddr::V6(ip) => (text.len(), ip.octets().to_vec()),
        };
        Some((len, self.name("ip", &bytes)))
    }

    /// The kernel address that `text` is.
    fn address(&self, text: &str) -> Option<u64> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let (len, lowest, end) = match self.word {
            Word::W64 => (16, 0x8000_0000_0000_0000, u64::MAX),
            Word::W32 => (8, 0x8000_0000, 0xffff_ffff),
        };
        let value = u64::from_str_radix(digits, 16)
            .ok()
            .filter(|_| digits.len() == len)?;
        (lowest..end.saturating_sub(ERRORS))
            .contains(&value)
            .then_some(value)
    }

    fn name(&self, kind: &str, value: &[u8]) -> String {
        let mut hash = SipHasher::new_with_keys(self.key, !self.key);
        hash.write(kind.as_bytes());
        hash.write(value);
        format!("<{kind}-{:08x}>", hash.finish() >> 32)
    }
}

/// Letters, digits and what joins them to one word.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// How many bytes at the start are of a kind.
fn length(text: &[u8], kind: impl Fn(u8) -> bool) -> usize {
    text.iter()
        .position(|&byte| !kind(byte))
        .unwrap_or(text.len())
}

/// Without the colon or full stop that ends a clause; `::` belongs to an address.
fn trimmed(number: &[u8]) -> &[u8] {
    match number {
        [rest @ .., b':', b':'] if !rest.is_empty() => number,
        [rest @ .., b':' | b'.'] => rest,
        _ => number,
    }
}

fn is_mac(text: &str) -> bool {
    let pair = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.len() == 17 && text.split(':').count() == 6 && text.split(':').all(pair)
}

fn is_secret(name: &[u8]) -> bool {
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    SECRETS.iter().any(|secret| name.contains(secret))
}

/// Text that comes in pieces, redacted once its lines are whole.
pub struct Lines {
    redactor: Redactor,
    /// The start of a line whose end has not come yet.
    line: Vec<u8>,
}

impl Lines {
    /// No text so far.
    pub fn new(redactor: Redactor) -> Self {
        Lines {
            redactor,
            line: Vec::new(),
        }
    }

    /// Takes the next piece, and gives the lines that it completes.
    pub fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut whole = Vec::new();
        for part in piece.split_inclusive(|&byte| byte == b'\n') {
            self.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                whole.extend(self.rest());
            }
        }
        whole
    }

    /// The line that has no end.
    pub fn rest(&mut self) -> Vec<u8> {
        let line = self.redactor.line(&self.line);
        self.line.clear();
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(word: Word, line: &str) -> String {
        String::from_utf8(Redactor { key: 7, word }.line(line.as_bytes())).unwrap()
    }

    /// The line with the digits of pseudonyms left out.
    fn shape(line: &str) -> String {
        let mut out = String::new();
        for (n, piece) in redacted(Word::W64, line).split('<').enumerate() {
            match piece.split_once('>') {
                Some((name, rest)) if n > 0 => {
                    out += &format!("<{}>{rest}", name.split('-').next().unwrap());
                }
                _ => {
                    out += &if n > 0 {
                        format!("<{piece}")
                    } else {
                        piece.into()
                    }
                }
            }
        }
        out
    }

    #[test]
    fn addresses_of_every_kind_get_pseudonyms() {
        for (line, want) in [
            (
                "RSP: 0018:ffffc90000013e18 EFLAGS: 00010246",
                "RSP: 0018:<ptr> EFLAGS: 00010246",
            ),
            (
                "at 0xffff8881004a2000, [<ffffffff8118035d>]",
                "at <ptr>, [<<ptr>>]",
            ),
            ("eth0: 52:54:00:12:34:56 up", "eth0: <mac> up"),
            (
                "from 10.0.2.15:514 to 192.168.1.1.",
                "from <ip>:514 to <ip>.",
            ),
            (
                "addr fe80::5054:ff:fe12:3456 and 2001:db8::, ::1",
                "addr <ip> and <ip>, ::1",
            ),
            (
                "{\"msg\":\"a\\nffffc90000013e18\"}",
                "{\"msg\":\"a\\n<ptr>\"}",
            ),
            (
                "root=/dev/vda password=hunter2 net.psk=\"a b\" x=1",
                "root=/dev/vda password=<secret> net.psk=<secret>\"a b\" x=1",
            ),
        ] {
            assert_eq!(shape(line), want);
        }
    }

    #[test]
    fn what_identifies_nobody_stays() {
        for line in [
            "RIP: 0010:sysrq_handle_crash+0x16/0x20 [mod]",
            "RAX: 0000000000000001 ORIG_RAX: ffffffffffffffff CR0: 0000000080050033",
            "REPORT ID: r1-117d367d9c79b451 c1-null-deref-f-3ac30db9",
            "BUILD-ID: bb603a9147d3efe4744bf83c83eee397c591cc20",
            "pci 0000:00:03.0: [1af4:1000] at 12:34:56, lo 127.0.0.1 mask 255.255.255.0",
            "[   12.768250] Linux version 6.1.0-50 caf\u{e9} face:1",
        ] {
            assert_eq!(redacted(Word::W64, line), line);
        }
    }

    #[test]
    fn the_same_value_has_the_same_pseudonym_however_it_is_written() {
        let both = redacted(
            Word::W64,
            "0xffff8881004a2000 ffff8881004a2000 ffff8881004a2008",
        );
        let words: Vec<_> = both.split(' ').collect();
        assert_eq!(words[0], words[1]);
        assert_ne!(words[1], words[2]);
        assert!(
            redacted(Word::W32, "EIP: c0401234 at 0xc0401234")
                .matches("<ptr-")
                .count()
                == 2
        );
    }

    #[test]
    fn lines_are_redacted_whole_wherever_they_were_cut() {
        let mut lines = Lines::new(Redactor {
            key: 7,
            word: Word::W64,
        });
        let mut out = lines.push(b"at ffff8881");
        assert!(out.is_empty());
        out.extend(lines.push(b"004a2000\nnext 10.0"));
        out.extend(lines.push(b".0.1"));
        out.extend(lines.rest());
        let out = String::from_utf8(out).unwrap();
        assert_eq!(
            out.matches("<ptr-").count() + out.matches("<ip-").count(),
            2,
            "{out}"
        );
    }
}
