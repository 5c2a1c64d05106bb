//! systemd-journal-remote: the journal export format, posted to `/upload`.
//!
//! ```text
//! __REALTIME_TIMESTAMP=1795289015000000\n      one FIELD=value a line
//! MESSAGE\n <u64 little-endian length> text \n  a value with a newline in it
//! \n                                            ends an entry
//! ```
//!
//! Specified in systemd's "Journal Export Formats". Read it back with `journalctl -D /var/log/journal/remote`.

use std::io::Write;

use super::batch::{self, Context, Format};
use super::text::line;
use super::{Entry, name};

/// The journal's export format.
pub const FORMAT: Format = Format {
    path: "/upload",
    content_type: "application/vnd.fdo.journal",
    open: |_, _| (),
    entry,
    close: |_, _| (),
    check: batch::any,
};

/// A fixed namespace keeps our sequence numbers apart from those of other journals.
fn entry(context: &mut Context<'_>, entry: &Entry<'_>, out: &mut Vec<u8>) {
    let meta = context.meta;
    let _ = writeln!(out, "__REALTIME_TIMESTAMP={}", entry.wall_ns / 1000);
    let since_boot = entry.record.and_then(|r| r.ts_ns);
    let since_boot = since_boot.unwrap_or(meta.last_ts_ns);
    let _ = writeln!(out, "__MONOTONIC_TIMESTAMP={}", since_boot / 1000);
    // journal-remote refuses entries without a boot id.
    let boot = meta.boot_id.as_str();
    let hex = boot.len() == 32 && boot.bytes().all(|b| b.is_ascii_hexdigit());
    field("_BOOT_ID", if hex { boot } else { UNKNOWN_BOOT }, out);
    field("_MACHINE_ID", &meta.machine_id, out);
    field("_HOSTNAME", &name::safe(&context.host), out);
    let _ = writeln!(out, "PRIORITY={}", entry.level);
    field("CRASHDMESG_REPORT_ID", &meta.report_id, out);
    field("CRASHDMESG_SIGNATURE", &meta.signature, out);
    match entry.record {
        Some(record) => {
            field("_TRANSPORT", "kernel", out);
            field("SYSLOG_IDENTIFIER", "kernel", out);
            let _ = writeln!(
                out,
                "SYSLOG_FACILITY={}",
                record.facility.unwrap_or(0).min(23)
            );
            if let Some(ts_ns) = record.ts_ns {
                let _ = writeln!(out, "_SOURCE_MONOTONIC_TIMESTAMP={}", ts_ns / 1000);
            }
            if let Some(seq) = record.seq {
                let _ = writeln!(out, "CRASHDMESG_SEQ={seq}");
            }
            field("CRASHDMESG_CALLER", entry.caller, out);
            field("_KERNEL_SUBSYSTEM", &line(record.subsystem), out);
            field("_KERNEL_DEVICE", &line(record.device), out);
        }
        None => {
            field("_TRANSPORT", "syslog", out);
            field("SYSLOG_IDENTIFIER", "crashdmesg", out);
            field("CRASHDMESG_KIND", &meta.kind, out);
            field("CRASHDMESG_RELEASE", &meta.release, out);
            field("CRASHDMESG_PANIC", &line(meta.panic.as_bytes()), out);
        }
    }
    match entry.text {
        "" => out.extend(b"MESSAGE=\n"),
        text => field("MESSAGE", text, out),
    }
    out.push(b'\n');
}

/// Stands for a boot id that the dump does not tell; all zeros would not be accepted.
const UNKNOWN_BOOT: &str = "00000000000000000000000000000001";

/// Writes a field unless it is empty.
fn field(name: &str, value: &str, out: &mut Vec<u8>) {
    if value.is_empty() {
        return;
    }
    out.extend(name.as_bytes());
    if value.contains('\n') {
        out.push(b'\n');
        out.extend((value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend(value.as_bytes());
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::super::batch::tests::encode;
    use super::*;

    #[test]
    fn an_entry_has_the_fields_that_journalctl_shows() {
        let batch = encode(&FORMAT);
        let text = String::from_utf8_lossy(&batch);
        for want in [
            "__REALTIME_TIMESTAMP=1795289014999999\n",
            "_BOOT_ID=0123456789abcdef0123456789abcdef\n_MACHINE_ID=fedcba9876543210fedcba9876543210\n_HOSTNAME=node17\nPRIORITY=0\n",
            "_TRANSPORT=kernel\n",
            "MESSAGE=record 0\n\n",
            "_KERNEL_DEVICE=+pci:0000:00:1f.2\n",
        ] {
            assert!(text.contains(want), "{want}");
        }
    }

    #[test]
    fn a_message_of_several_lines_carries_its_length() {
        let batch = encode(&FORMAT);
        let message = b"evil\\x1b[2J\\x0d\n<0>1 - forged\n\\xff\"}\\";
        let mut want = b"\nMESSAGE\n".to_vec();
        want.extend((message.len() as u64).to_le_bytes());
        want.extend(message);
        want.extend(b"\n\n");
        assert!(batch.windows(want.len()).any(|w| w == want));
    }
}
