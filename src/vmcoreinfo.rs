//! VMCOREINFO: what the crashed kernel wrote down about itself, as text.
//!
//! One `KEY=VALUE` a line, at most a page, written at boot by `kernel/crash_core.c` (`vmcore_info.c` since 6.9), with
//! `CRASHTIME` added at the crash. The forms are `SYMBOL(x)` (hexadecimal without 0x), `SIZE(t)`, `OFFSET(t.m)` and
//! `LENGTH(x)` (decimal), `NUMBER(x)` (signed decimal, or hexadecimal with 0x), and bare keys. The last line may lack
//! its newline, and a text that outgrew its page is cut, so any key may be missing. Unknown keys are ignored; of
//! duplicates the last one counts.

use alloc::vec::Vec;

use crate::addr::VirtAddr;
use crate::bytes::wide;
use crate::error::{At, Error, Result};
use crate::limits;

/// The parsed note.
#[derive(Clone, Debug)]
pub struct VmcoreInfo {
    text: Vec<u8>,
}

impl VmcoreInfo {
    /// Takes the text of the note.
    ///
    /// # Errors
    /// `Limit` when it is longer than any kernel writes, `Invalid` when it has no `KEY=VALUE` line at all.
    pub fn parse(text: Vec<u8>) -> Result<Self> {
        if wide(text.len()) > limits::VMCOREINFO_LEN {
            let value = wide(text.len());
            return Err(Error::Limit {
                what: "VMCOREINFO length",
                value,
                max: limits::VMCOREINFO_LEN,
            });
        }
        let info = VmcoreInfo { text };
        if info.lines().next().is_none() {
            let value = wide(info.text.len());
            return Err(Error::Invalid {
                what: "VMCOREINFO",
                at: At::Line(1),
                value,
                why: "bytes without a KEY=VALUE line",
            });
        }
        Ok(info)
    }

    /// The text as the kernel wrote it.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// All `(key, value)` pairs in order.
    pub fn lines(&self) -> impl DoubleEndedIterator<Item = (&str, &str)> {
        self.text.split(|&byte| byte == b'\n').filter_map(|line| {
            let line = str::from_utf8(line).ok()?.trim_end_matches('\0');
            line.split_once('=').filter(|(key, _)| !key.is_empty())
        })
    }

    /// The value of a bare key such as `OSRELEASE`.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.lines()
            .rev()
            .find(|&(k, _)| k == key)
            .map(|(_, value)| value.trim())
    }

    /// The value of `kind(name)`.
    fn get(&self, kind: &str, name: &str) -> Option<&str> {
        let named = |key: &str| {
            let inner = key
                .strip_prefix(kind)?
                .strip_prefix('(')?
                .strip_suffix(')')?;
            (inner == name).then_some(())
        };
        self.lines()
            .rev()
            .find(|(key, _)| named(key).is_some())
            .map(|(_, value)| value.trim())
    }

    /// `SYMBOL(name)`: the address of a variable of the crashed kernel.
    ///
    /// # Errors
    /// `Missing` without the key, or when its value is no address.
    pub fn symbol(&self, name: &'static str) -> Result<VirtAddr> {
        let value = self
            .get("SYMBOL", name)
            .and_then(|value| u64::from_str_radix(value.trim_start_matches("0x"), 16).ok());
        value
            .filter(|&addr| addr != 0)
            .map(VirtAddr)
            .ok_or(Error::Missing { key: name })
    }

    /// `SIZE(name)`: bytes in a structure.
    ///
    /// # Errors
    /// `Missing` without the key, or when its value is no number.
    pub fn size(&self, name: &'static str) -> Result<u64> {
        self.decimal("SIZE", name)
    }

    /// `OFFSET(name)`: bytes from the start of a structure to a member, as in `printk_info.text_len`.
    ///
    /// # Errors
    /// `Missing` without the key, or when its value is no number.
    pub fn offset(&self, name: &'static str) -> Result<u64> {
        self.decimal("OFFSET", name)
    }

    /// `LENGTH(name)`: elements of an array.
    ///
    /// # Errors
    /// `Missing` without the key, or when its value is no number.
    pub fn length(&self, name: &'static str) -> Result<u64> {
        self.decimal("LENGTH", name)
    }

    /// `NUMBER(name)`: any number; a negative one comes as its two's complement.
    ///
    /// # Errors
    /// `Missing` without the key, or when its value is no number.
    pub fn number(&self, name: &'static str) -> Result<u64> {
        self.get("NUMBER", name)
            .and_then(number)
            .ok_or(Error::Missing { key: name })
    }

    /// A bare key with a hexadecimal value, such as `KERNELOFFSET`.
    ///
    /// # Errors
    /// `Missing` without the key, or when its value is no number.
    pub fn hex(&self, key: &'static str) -> Result<u64> {
        let value = self
            .value(key)
            .and_then(|value| u64::from_str_radix(value.trim_start_matches("0x"), 16).ok());
        value.ok_or(Error::Missing { key })
    }

    /// `PAGESIZE`, 4096 when the key is missing or no page size.
    pub fn page_size(&self) -> u64 {
        let size = self
            .value("PAGESIZE")
            .and_then(|value| value.parse().ok())
            .unwrap_or(0_u64);
        if size.is_power_of_two() && (4096..=65536).contains(&size) {
            size
        } else {
            4096
        }
    }

    /// `OSRELEASE`: the release, as `uname -r` prints it.
    pub fn osrelease(&self) -> Option<&str> {
        self.value("OSRELEASE")
    }

    /// `CRASHTIME`: seconds since 1970, UTC. Kernels add it at the crash, so a dump of a live machine has none.
    pub fn crash_time(&self) -> Option<u64> {
        self.value("CRASHTIME")
            .and_then(|value| value.parse().ok())
            .filter(|&time| time != 0)
    }

    fn decimal(&self, kind: &str, name: &'static str) -> Result<u64> {
        self.get(kind, name)
            .and_then(number)
            .ok_or(Error::Missing { key: name })
    }
}

/// A `NUMBER()` value: `0x` hexadecimal, else signed decimal in two's complement.
fn number(value: &str) -> Option<u64> {
    if let Some(hex) = value.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok();
    }
    value
        .parse::<u64>()
        .ok()
        .or_else(|| value.parse::<i64>().ok().map(i64::cast_unsigned))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(text: &str) -> VmcoreInfo {
        VmcoreInfo::parse(text.into()).unwrap()
    }

    #[test]
    fn every_form_of_key_is_read_and_the_last_line_needs_no_newline() {
        let info = info(
            "OSRELEASE=6.1.0\nPAGESIZE=4096\nSYMBOL(prb)=ffffffff82a51c40\nSIZE(prb_desc)=24\n\
             OFFSET(prb_desc.state_var)=0\nLENGTH(free_area.free_list)=6\nNUMBER(phys_base)=-167772160\n\
             NUMBER(VA_BITS)=0x30\nKERNELOFFSET=24c00000\nCRASHTIME=1795289015",
        );
        assert_eq!(info.osrelease(), Some("6.1.0"));
        assert_eq!(info.symbol("prb"), Ok(VirtAddr(0xffff_ffff_82a5_1c40)));
        assert_eq!(info.size("prb_desc"), Ok(24));
        assert_eq!(info.offset("prb_desc.state_var"), Ok(0));
        assert_eq!(info.length("free_area.free_list"), Ok(6));
        assert_eq!(info.number("phys_base"), Ok(0xffff_ffff_f600_0000));
        assert_eq!(info.number("VA_BITS"), Ok(48));
        assert_eq!(info.hex("KERNELOFFSET"), Ok(0x24c0_0000));
        assert_eq!(info.crash_time(), Some(1_795_289_015));
    }

    #[test]
    fn garbage_between_the_lines_is_passed_over_and_the_last_duplicate_counts() {
        let mut text = b"SYMBOL(prb)=1\n=\n\xff\xfe=3\nno value\nSYMBOL(prb)=2\n".to_vec();
        text.extend([0; 7]);
        let info = VmcoreInfo::parse(text).unwrap();
        assert_eq!(info.symbol("prb"), Ok(VirtAddr(2)));
        assert_eq!(
            info.symbol("log_buf"),
            Err(Error::Missing { key: "log_buf" })
        );
    }

    #[test]
    fn a_value_that_is_no_number_counts_as_missing() {
        let info = info("SIZE(prb_desc)=many\nSYMBOL(prb)=0\nPAGESIZE=17\n");
        assert_eq!(
            info.size("prb_desc"),
            Err(Error::Missing { key: "prb_desc" })
        );
        assert_eq!(info.symbol("prb"), Err(Error::Missing { key: "prb" }));
        assert_eq!(info.page_size(), 4096);
    }

    #[test]
    fn a_text_that_is_too_long_or_has_no_line_is_refused() {
        assert!(matches!(
            VmcoreInfo::parse(alloc::vec![b'a'; 65537]),
            Err(Error::Limit { .. })
        ));
        assert!(matches!(
            VmcoreInfo::parse(b"\0\0\0\0".to_vec()),
            Err(Error::Invalid { .. })
        ));
    }
}
