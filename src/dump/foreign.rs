//! Files that are no dump that can be read here, by their first bytes: what they are, and what to do about it.

use super::ReadAt;
use crate::error::Error;

/// Bytes that are looked at.
const LEN: usize = 512;

/// One kind of file.
struct Kind {
    /// Where its mark is.
    at: usize,
    mark: &'static [u8],
    what: &'static str,
    advice: &'static str,
}

const UNREAD: &str = "this format cannot be read here";
const QEMU: &str =
    "dump the guest's memory itself: virsh dump --memory-only, or dump-guest-memory in QEMU";

const fn kind(mark: &'static [u8], what: &'static str, advice: &'static str) -> Kind {
    Kind {
        at: 0,
        mark,
        what,
        advice,
    }
}

const KINDS: [Kind; 41] = [
    kind(b"\x1f\x8b", "a gzip file", "unpack it: gzip -dk FILE"),
    kind(b"\xfd7zXZ\0", "an xz file", "unpack it: xz -dk FILE"),
    kind(
        b"\x28\xb5\x2f\xfd",
        "a zstd file",
        "unpack it: zstd -d FILE",
    ),
    kind(b"BZh", "a bzip2 file", "unpack it: bzip2 -dk FILE"),
    kind(b"LZIP", "an lzip file", "unpack it: lzip -dk FILE"),
    kind(b"\x89LZO\0", "an lzop file", "unpack it: lzop -d FILE"),
    kind(
        b"\x04\x22\x4d\x18",
        "an lz4 file",
        "unpack it: lz4 -dk FILE",
    ),
    kind(
        b"\x02\x21\x4c\x18",
        "an lz4 file",
        "unpack it: lz4 -dk FILE",
    ),
    kind(
        b"\x5d\0\0",
        "an lzma file",
        "unpack it: xz -dk --format=lzma FILE",
    ),
    kind(b"PK\x03\x04", "a zip archive", "unpack it: unzip FILE"),
    kind(
        b"7z\xbc\xaf\x27\x1c",
        "a 7-Zip archive",
        "unpack it: 7z x FILE",
    ),
    Kind {
        at: 257,
        mark: b"ustar",
        what: "a tar archive",
        advice: "unpack it: tar -xf FILE",
    },
    kind(b"070701", "a cpio archive", "unpack it: cpio -id < FILE"),
    kind(b"!<arch>\n", "an ar archive (.deb)", "unpack it: ar x FILE"),
    kind(
        b"\xed\xab\xee\xdb",
        "an RPM package",
        "unpack it: rpm2cpio FILE | cpio -id",
    ),
    kind(b"\xed\x23\x8f\x61\x73\x01\x19\xa8", "an LKCD dump", UNREAD),
    kind(b"\xa8\x19\x01\x73\x61\x8f\x23\xed", "an LKCD dump", UNREAD),
    kind(
        b"\xa8\x19\x01\x73\x61\x8f\x23\xfd",
        "an s390 stand-alone dump",
        "convert it: zgetdump -f elf FILE > CORE",
    ),
    kind(
        b"sadump\0\0",
        "an sadump dump of a Fujitsu firmware",
        "convert it: makedumpfile -l -d 31 -x VMLINUX FILE DUMP",
    ),
    kind(b"PAGEDU64", "a crash dump of 64-bit Windows", UNREAD),
    kind(b"PAGEDUMP", "a crash dump of 32-bit Windows", UNREAD),
    kind(b"MDMP", "a minidump of a Windows program", UNREAD),
    kind(
        b"\xd0\xbe\xd0\xbe",
        "a VMware suspend file (vmss)",
        "convert it with its .vmem: vmss2core -N6 FILE VMEM",
    ),
    kind(
        b"\xd1\xbe\xd1\xbe",
        "a VMware suspend file (vmss)",
        "convert it with its .vmem: vmss2core -N6 FILE VMEM",
    ),
    kind(
        b"\xd2\xbe\xd2\xbe",
        "a VMware snapshot (vmsn)",
        "convert it with its .vmem: vmss2core -N6 FILE VMEM",
    ),
    kind(
        b"\xd1\xba\xd1\xba",
        "a VMware suspend file (vmss)",
        "convert it with its .vmem: vmss2core -N6 FILE VMEM",
    ),
    kind(
        b"\xd0\xbe\xd2\xbe",
        "a VMware suspend file (vmss)",
        "convert it with its .vmem: vmss2core -N6 FILE VMEM",
    ),
    kind(
        b"\xd3\xbe\xd3\xbe",
        "a VMware snapshot (vmsn)",
        "convert it with its .vmem: vmss2core -N6 FILE VMEM",
    ),
    kind(
        b"QEVM",
        "a QEMU migration stream (savevm, virsh dump)",
        QEMU,
    ),
    kind(
        b"LibvirtQemudSave",
        "a saved libvirt guest (virsh save)",
        QEMU,
    ),
    kind(
        b"LibvirtQemudPart",
        "a partly saved libvirt guest (virsh save)",
        QEMU,
    ),
    kind(b"QFI\xfb", "a qcow2 disk image", UNREAD),
    kind(b"EMiL", "a LiME memory image", UNREAD),
    kind(b"\xeb\xfe\x0f\xf0", "a Xen core of a guest", UNREAD),
    kind(b"\xed\xeb\x0f\xf0", "a Xen core of a guest", UNREAD),
    kind(b"\xee\xeb\x0f\xf0", "a Xen core of a guest", UNREAD),
    kind(
        b"LinuxGuestRecord",
        "a saved Xen guest",
        "dump its memory instead: xl dump-core",
    ),
    kind(
        b"Xen saved domain",
        "a saved Xen guest",
        "dump its memory instead: xl dump-core",
    ),
    kind(b"minidump FreeBSD", "a FreeBSD minidump", UNREAD),
    kind(
        b"MZ",
        "a kernel image or Windows program",
        "name the dump, not the kernel",
    ),
    kind(
        b"[    0.000000]",
        "the text of a kernel log",
        "it can be read as it is",
    ),
];

/// What stands at the end of the first page of a swap device.
const SWAP: [(&[u8], &str); 4] = [
    (b"S1SUSPEND\0", "a hibernation image"),
    (b"S2SUSPEND\0", "a hibernation image"),
    (b"ULSUSPEND\0", "a hibernation image of uswsusp"),
    (b"SWAPSPACE2", "a swap device"),
];

/// What `file` is, when it is known and no dump of ours.
pub fn recognise(file: &dyn ReadAt) -> Option<Error> {
    let mut buf = [0; LEN];
    let len = file
        .len()
        .map_or(LEN, |len| crate::bytes::index(len).min(LEN));
    let head = buf.get_mut(..len)?;
    file.read_at(0, head).ok()?;
    let marked = |kind: &&Kind| {
        head.get(kind.at..)
            .is_some_and(|at| at.starts_with(kind.mark))
    };
    if let Some(kind) = KINDS.iter().find(marked) {
        return Some(Error::Foreign {
            what: kind.what,
            advice: kind.advice,
        });
    }
    [4096_u64, 16384, 65536].into_iter().find_map(|page| {
        let mut mark = [0; 10];
        file.read_at(page.checked_sub(10)?, &mut mark).ok()?;
        let &(_, what) = SWAP.iter().find(|&&(known, _)| known == mark)?;
        Some(Error::Foreign {
            what,
            advice: UNREAD,
        })
    })
}
