//! The lines of a call trace, as every architecture and age of the kernel prints them.
//!
//! ```text
//!  func+0x1f/0x60 [mod 0123..ef]              x86 since 4.10, arm64, i386 (the hexadecimal word is a build id)
//!  ? func+0x1f/0x60                           found on the stack, not by unwinding
//!  <IRQ>  [<ffffffff81234567>] func+0x1f/0x60 x86 up to 4.9, riscv, s390, mips, loongarch, arm64 up to 4.13
//! [c0000000fe5b3b80] [c0000000000a1234] func+0x84/0xc0 (unreliable)              powerpc
//! [<c010f3d4>] (unwind_backtrace) from [<c010b2b4>] (show_stack+0x10/0x14)       arm up to 5.17
//!  unwind_backtrace from show_stack+0x10/0x14                                    arm since
//!  func+0x20/0x30 (P)                         arm64 since 6.13: where the frame came from
//! ```
//!
//! Printed by `show_trace_log_lvl`, `dump_backtrace` and their like through `%pS` and `%pB` (`kernel/kallsyms.c`).

use alloc::string::String;
use core::fmt;

use super::words::{hex, keep};

/// Longest symbol kept; the kernel's own limit is 512 (`KSYM_NAME_LEN`).
const SYMBOL_LEN: usize = 160;

/// Longest module name kept; the kernel's own limit is 56 (`MODULE_NAME_LEN`).
const MODULE_LEN: usize = 56;

/// A place in the kernel's code, as `%pS` names it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The function, or nothing when the address has no name.
    pub symbol: String,
    /// Bytes from the start of the function.
    pub offset: Option<u64>,
    /// Bytes in the function.
    pub size: Option<u64>,
    /// The module the function is in, nothing for the kernel itself.
    pub module: Option<String>,
    /// The address, where the line has it.
    pub address: Option<u64>,
}

/// Which stack a frame is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Section {
    /// The stack of the task, or the kernel does not say.
    #[default]
    Task,
    /// The stack of a hardware or software interrupt.
    Irq,
    /// The stack of a non-maskable interrupt.
    Nmi,
    /// The stack of another exception, such as a double fault.
    Exception,
}

/// One frame of a call trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Where it returns to, or where it was interrupted.
    pub place: Place,
    /// True when the kernel itself doubted the frame (`?`, `(unreliable)`).
    pub doubtful: bool,
    /// True when the place was interrupted by an exception rather than left by a call.
    pub interrupted: bool,
    /// The stack it is on.
    pub section: Section,
}

impl Place {
    /// Reads `func+0x1f/0x60 [mod]` at the start of `text`, with the `[<address>]`, parentheses and such before it.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, text) = addresses(text);
        let text = text.trim_start_matches(['(', ' ']);
        let end = text
            .bytes()
            .position(|byte| !is_symbol(byte))
            .unwrap_or(text.len());
        let (symbol, rest) = text.split_at_checked(end)?;
        let mut place = Place {
            address,
            ..Place::default()
        };
        let Some(numbers) = rest.strip_prefix("+0x") else {
            // A bare address: nothing names it, or the kernel has no kallsyms.
            let bare = symbol.is_empty() || symbol.starts_with("0x");
            let alone = rest.is_empty() || rest.starts_with([' ', '(', ')']);
            place.address = symbol.strip_prefix("0x").and_then(hex).or(address);
            return place.address.filter(|_| bare && alone).map(|_| place);
        };
        if symbol.is_empty() {
            return None;
        }
        place.symbol = keep(symbol, SYMBOL_LEN);
        place.offset = hex(numbers);
        let sized = numbers.split_once("/0x");
        let sized = sized.filter(|(offset, _)| offset.bytes().all(|byte| byte.is_ascii_hexdigit()));
        place.size = sized.and_then(|(_, size)| hex(size));
        place.module = sized.and_then(|(_, size)| module(size));
        Some(place)
    }

    /// True when nothing names the place.
    pub fn is_unnamed(&self) -> bool {
        self.symbol.is_empty()
    }
}

/// The module in ` [mod]` or ` [mod <build id>]` after a frame.
fn module(text: &str) -> Option<String> {
    let text = text.trim_start_matches(|letter: char| letter.is_ascii_hexdigit());
    let inner = text
        .trim_start_matches(')')
        .trim_start()
        .strip_prefix('[')?;
    let (inner, _) = inner.split_once(']')?;
    let name = inner.split(' ').next()?;
    let named = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    named.then(|| keep(name, MODULE_LEN))
}

/// What a symbol may be made of: C names, compiler suffixes, mangled Rust names of both manglings.
fn is_symbol(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'$' | b'<' | b'>' | b':' | b'@')
}

/// Moves past `[<address>]` and `[address]` groups; the last one is the code address.
fn addresses(text: &str) -> (Option<u64>, &str) {
    let mut rest = text.trim_start_matches([' ', '(']);
    let mut address = None;
    while let Some(inner) = rest.strip_prefix('[') {
        let inner = inner.trim_start_matches('<');
        let digits = inner.trim_start_matches([' ', '>', ']']);
        let value = hex(digits);
        let Some((number, after)) = inner.split_once(']') else {
            break;
        };
        let plain = number
            .bytes()
            .all(|byte| byte.is_ascii_hexdigit() || b" >x()nul.".contains(&byte));
        if value.is_none() || !plain {
            break;
        }
        address = value;
        rest = after.trim_start();
    }
    (address, rest)
}

impl Section {
    /// The section that `<IRQ>`, `</NMI>`, `<EOI>` and the like begin, with what follows on the line.
    pub fn parse(text: &str) -> Option<(Self, &str)> {
        let (tag, rest) = text.trim_start().strip_prefix('<')?.split_once('>')?;
        let section = match tag {
            "IRQ" | "SOFTIRQ" => Section::Irq,
            "NMI" => Section::Nmi,
            "TASK" | "/TASK" | "/IRQ" | "/SOFTIRQ" | "/NMI" | "EOI" | "EOE" | "<EOE" => {
                Section::Task
            }
            _ if tag.starts_with("/#") || tag.starts_with("/ENTRY") => Section::Task,
            _ if tag.starts_with('#') || tag.starts_with("ENTRY") => Section::Exception,
            _ => return None,
        };
        Some((section, rest.trim_start_matches('>')))
    }
}

impl Frame {
    /// Reads a line of a call trace; of arm's `callee from caller` the caller.
    pub fn parse(text: &str, section: Section) -> Option<Self> {
        let text = text.trim();
        let code = text.split_once(" from ").map_or(text, |(_, code)| code);
        let (address, tail) = addresses(code);
        let (doubtful, place) = match tail.strip_prefix("? ") {
            Some(rest) => (true, Place::parse(rest)),
            None => (false, Place::parse(code)),
        };
        let mut place = place?;
        place.address = place.address.or(address);
        Some(Frame {
            place,
            doubtful: doubtful || text.ends_with("(unreliable)"),
            interrupted: false,
            section,
        })
    }

    /// The function that arm's ` func from caller+0x10/0x14` names before the caller.
    pub fn callee(text: &str) -> Option<Self> {
        let (callee, caller) = text.split_once(" from ")?;
        Place::parse(caller)?;
        let place = Place::parse(callee).filter(|place| !place.is_unnamed());
        let place = place.or_else(|| {
            let (address, name) = addresses(callee);
            let name = name.trim_matches(['(', ')', ' ']);
            let (name, module_of) = name.split_once(' ').unwrap_or((name, ""));
            let named = !name.is_empty() && name.bytes().all(is_symbol);
            named.then(|| Place {
                symbol: keep(name, SYMBOL_LEN),
                module: module(module_of),
                address,
                ..Place::default()
            })
        });
        Some(Frame {
            place: place?,
            ..Frame::default()
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.symbol.is_empty() {
            return write!(out, "{:#x}", self.address.unwrap_or_default());
        }
        out.write_str(&self.symbol)?;
        if let Some(offset) = self.offset {
            write!(out, "+{offset:#x}")?;
        }
        if let Some(size) = self.size {
            write!(out, "/{size:#x}")?;
        }
        match &self.module {
            Some(module) => write!(out, " [{module}]"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let doubt = if self.doubtful { "? " } else { "" };
        write!(out, "{doubt}{}", self.place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn shown(line: &str) -> String {
        Frame::parse(line, Section::Task).map_or_else(|| "-".into(), |frame| frame.to_string())
    }

    #[test]
    fn frames_of_every_shape_are_read() {
        let frames = [
            (" vfs_write+0xc7/0x240", "vfs_write+0xc7/0x240"),
            (" ? vfs_write+0xc7/0x240", "? vfs_write+0xc7/0x240"),
            ("  ? 0xffffffffc03f5000", "? 0xffffffffc03f5000"),
            (
                " zcrash_init+0x280/0x1000 [zcrash]",
                "zcrash_init+0x280/0x1000 [zcrash]",
            ),
            (
                " f+0x1/0x2 [mod 0123456789012345678901234567890123456789]",
                "f+0x1/0x2 [mod]",
            ),
            (
                " [<ffffffff811f392c>] ? __handle_sysrq.cold+0x45/0x109",
                "? __handle_sysrq.cold+0x45/0x109",
            ),
            (
                "[<ffffffff80a5b90c>] panic+0x11a/0x35a",
                "panic+0x11a/0x35a",
            ),
            (
                "([<00000000001d6a8e>] f.isra.0+0x12/0x100 [qeth])",
                "f.isra.0+0x12/0x100 [qeth]",
            ),
            (
                "[c0000000fe5b3b80] [c0000000000a1234] .die+0x84/0xc0 (unreliable)",
                "? .die+0x84/0xc0",
            ),
            (
                "[<c010f3d4>] (unwind_backtrace) from [<c010b2b4>] (show_stack+0x10/0x14)",
                "show_stack+0x10/0x14",
            ),
            (
                " unwind_backtrace from show_stack+0x10/0x14",
                "show_stack+0x10/0x14",
            ),
            (
                " arm_smmu_write_s2cr+0x98/0xb4 (P)",
                "arm_smmu_write_s2cr+0x98/0xb4",
            ),
            (" f+0x98/0xb4 [mod] (PL)", "f+0x98/0xb4 [mod]"),
            (
                " _RNvCs1234_7mycrate3foo+0x1/0x2",
                "_RNvCs1234_7mycrate3foo+0x1/0x2",
            ),
            ("Code: 00 00 65 48 2b 04", "-"),
            ("RAX: 0000000000000000 RBX: ffff", "-"),
            ("", "-"),
        ];
        for (line, want) in frames {
            assert_eq!(shown(line), want, "{line}");
        }
    }

    #[test]
    fn arm_names_the_first_function_before_from() {
        let callee = |line| Frame::callee(line).map(|frame| frame.to_string());
        assert_eq!(
            callee(
                "[<c0016f30>] (dump_backtrace+0x0/0x10c) from [<c0017188>] (show_stack+0x18/0x1c)"
            ),
            Some("dump_backtrace+0x0/0x10c".into())
        );
        assert_eq!(
            callee(" unwind_backtrace from show_stack+0x10/0x14"),
            Some("unwind_backtrace".into())
        );
    }

    #[test]
    fn sections_begin_with_their_tag() {
        assert_eq!(Section::parse(" <IRQ>"), Some((Section::Irq, "")));
        assert_eq!(
            Section::parse(" <EOI>  [<ff>] f"),
            Some((Section::Task, "  [<ff>] f"))
        );
        assert_eq!(Section::parse(" <<EOE>> "), Some((Section::Task, " ")));
        assert_eq!(Section::parse(" <#DF>"), Some((Section::Exception, "")));
        assert_eq!(Section::parse(" <unknown>"), None);
    }
}
