//! The same crash in every container: made by makedumpfile where it is installed, and by a writer of our own for what
//! it lacks. All must give the same text as the ELF original.

#[path = "../data/mod.rs"]
mod data;
#[path = "../program/mod.rs"]
mod program;
mod writer;

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crashdmesg::addr::PhysAddr;
use crashdmesg::dump::{ReadAt, Vmcore};
use crashdmesg::error::{At, Error, Result};
use program::{Output, crashdmesg, is_installed, run};
use writer::{Codec, Core, Kdump, PAGE};

/// A directory, gone when dropped.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        let path = data::scratch_file("containers");
        fs::create_dir(&path).unwrap();
        Dir(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The whole output for `paths`: the report and the log, or what `args` ask for.
fn shown(args: &[&str], paths: &[&Path]) -> String {
    let output = run(crashdmesg(args).args(paths));
    assert_eq!(
        output.code,
        Some(0),
        "{args:?} {paths:?}: {}",
        output.stderr
    );
    assert_eq!(output.stderr, "", "{args:?} {paths:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Checks that `paths` give what `original` gives.
fn assert_same(original: &Path, paths: &[&Path], what: &str) {
    for args in [
        &["--log"][..],
        &["--log", "--json", "--caller"],
        &["--summary"],
        &["--vmcoreinfo"],
    ] {
        let same = shown(args, &[original]) == shown(args, paths);
        assert!(same, "{what}: {args:?} is not the same");
    }
}

fn core(name: &str) -> Option<(PathBuf, Core)> {
    let path = data::dump(name)?;
    let core = Core::parse(&fs::read(&path).unwrap());
    Some((path, core))
}

/// Runs `crashdmesg ARGS -` with `bytes` in a pipe.
fn piped(args: &[&str], bytes: &[u8]) -> Output {
    let mut child = crashdmesg(args.iter().chain(&["-"]))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    // The program may have enough before the end.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&bytes)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    Output {
        code: output.status.code(),
        signal: None,
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into(),
        elapsed: Default::default(),
    }
}

#[test]
fn every_kind_of_dump_that_makedumpfile_writes_gives_the_same() {
    let Some(original) = data::dump("m61-amd64").filter(|_| is_installed("makedumpfile")) else {
        return;
    };
    let dir = Dir::new();
    let make = |args: &[&str], outputs: &[&str]| -> Vec<PathBuf> {
        let paths: Vec<PathBuf> = outputs.iter().map(|name| dir.0.join(name)).collect();
        let output = Command::new("makedumpfile")
            .args(args)
            .arg(&original)
            .args(&paths)
            .output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "makedumpfile {args:?}: {said}");
        paths
    };
    for (args, name) in [
        (&["-c", "-d", "0"][..], "zlib-0"),
        (&["-c", "-d", "1"], "zlib-1"),
        (&["-l", "-d", "1"], "lzo"),
        (&["-d", "1"], "plain"),
        (&["-E", "-d", "0"], "elf-0"),
        (&["-E", "-d", "1"], "elf-1"),
        (&["-p", "-d", "1"], "snappy"),
        (&["-z", "-d", "1"], "zstd"),
    ] {
        let codec = args[0].trim_start_matches('-');
        if matches!(codec, "l" | "p" | "z") && !makedumpfile_has(name) {
            println!("SKIPPED: this makedumpfile has no {name}");
            continue;
        }
        let path = &make(args, &[name])[0];
        assert_same(&original, &[path], name);
    }
    let parts = make(&["-c", "-d", "1", "--split"], &["part1", "part2", "part3"]);
    let parts: Vec<&Path> = parts.iter().map(PathBuf::as_path).collect();
    assert_same(
        &original,
        &[parts[2], parts[0], parts[1]],
        "all parts of a split dump",
    );
    assert_same(
        &original,
        &[parts[1]],
        "one part of a split dump, the others beside it",
    );
    for args in [&["-F", "-c", "-d", "1"][..], &["-F", "-E", "-d", "1"]] {
        let output = Command::new("makedumpfile")
            .args(args)
            .arg(&original)
            .output()
            .unwrap();
        assert!(output.status.success(), "makedumpfile {args:?}");
        let path = dir.file("flat", &output.stdout);
        assert_same(&original, &[&path], "flattened");
        let through = piped(&["--log"], &output.stdout);
        assert_eq!(through.code, Some(0), "{}", through.stderr);
        assert!(through.stdout == shown(&["--log"], &[&original]).as_bytes());
    }
}

/// Whether this build of makedumpfile has a compression.
fn makedumpfile_has(name: &str) -> bool {
    let output = Command::new("makedumpfile").arg("-v").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    text.lines()
        .any(|line| line.starts_with(name) && line.ends_with("enabled"))
}

#[test]
fn all_codecs_in_one_dump_give_the_same() {
    let Some((original, core)) = core("b61-odd") else {
        return;
    };
    let dir = Dir::new();
    let all = Kdump::default();
    for codec in &all.codecs {
        let kdump = Kdump {
            codecs: vec![*codec],
            ..all.clone()
        };
        let path = dir.file("one", &kdump.writes(&core).file());
        assert_same(&original, &[&path], &format!("{codec:?}"));
    }
    let writes = all.writes(&core);
    let path = dir.file("all", &writes.file());
    assert_same(&original, &[&path], "all codecs");
    let path = dir.file("flat", &writes.flattened());
    assert_same(&original, &[&path], "flattened, out of order");
}

#[test]
fn every_header_version_gives_the_same() {
    let Some((original, mut core)) = core("t612-amd64") else {
        return;
    };
    let dir = Dir::new();
    for version in 4..=6 {
        let kdump = Kdump {
            version,
            codecs: vec![Codec::Plain],
            ..Kdump::default()
        };
        let path = dir.file("dump", &kdump.writes(&core).file());
        assert_same(&original, &[&path], &format!("version {version}"));
    }
    // Before version 4 there are no registers, before version 3 no VMCOREINFO but in memory.
    core.keep_note();
    for version in 0..4 {
        let kdump = Kdump {
            version,
            codecs: vec![Codec::Plain],
            ..Kdump::default()
        };
        let path = dir.file("dump", &kdump.writes(&core).file());
        assert_eq!(
            shown(&["--log"], &[&path]),
            shown(&["--log"], &[&original]),
            "version {version}"
        );
    }
}

#[test]
fn a_32_bit_dump_gives_the_same() {
    let Some((original, core)) = core("a61-i386-pae") else {
        return;
    };
    let dir = Dir::new();
    for version in [4, 5, 6] {
        let kdump = Kdump {
            version,
            machine: "i686",
            wide: false,
            codecs: vec![Codec::Zlib],
            ..Kdump::default()
        };
        let path = dir.file("dump", &kdump.writes(&core).file());
        let log = |path: &Path| run(crashdmesg(["--log"]).arg(path));
        let (ours, theirs) = (log(&path), log(&original));
        assert_eq!(
            (ours.code, ours.stdout),
            (theirs.code, theirs.stdout),
            "version {version}"
        );
        let identity = shown(&["--identify"], &[&path]);
        assert!(identity.contains("i386 32-bit little-endian"), "{identity}");
    }
}

#[test]
fn parts_of_a_split_dump_are_found_by_their_headers() {
    let Some((original, core)) = core("b61-odd") else {
        return;
    };
    let dir = Dir::new();
    let middle = *core.pages.keys().nth(core.pages.len() / 2).unwrap();
    let last = *core.pages.keys().next_back().unwrap() + 1;
    let part = |split| {
        Kdump {
            split: Some(split),
            codecs: vec![Codec::Zlib],
            ..Kdump::default()
        }
        .writes(&core)
        .file()
    };
    let first = dir.file("core.1", &part((0, middle)));
    let second = dir.file("anything", &part((middle, last)));
    dir.file("other", b"KDUMP   but no dump");
    assert_same(&original, &[&second, &first], "both named");
    assert_same(&original, &[&first], "the second found");
    fs::remove_file(&second).unwrap();
    let identity = shown(&["--identify"], &[&first]);
    assert!(
        identity.contains("incomplete: parts of it are missing"),
        "{identity}"
    );
    let twice = run(crashdmesg(["--log"]).args([&first, &original]));
    assert_eq!(twice.code, Some(3), "an ELF core is no part");
    assert_eq!(twice.stderr.lines().count(), 1, "{}", twice.stderr);
}

#[test]
fn a_dump_through_a_pipe_gives_the_same() {
    let Some((original, core)) = core("b61-odd") else {
        return;
    };
    let log = shown(&["--log"], &[&original]);
    let kdump = Kdump {
        codecs: vec![Codec::Zlib],
        ..Kdump::default()
    }
    .writes(&core);
    let elf = fs::read(&original).unwrap();
    for (bytes, what) in [
        (&elf, "ELF"),
        (&kdump.file(), "kdump"),
        (&kdump.flattened(), "flattened"),
    ] {
        let output = piped(&["--log"], bytes);
        assert_eq!(
            (output.code, output.stderr.as_str()),
            (Some(0), ""),
            "{what}"
        );
        assert!(output.stdout == log.as_bytes(), "{what}");
    }
    let empty = piped(&["--log"], b"");
    assert_eq!(empty.code, Some(3), "{}", empty.stderr);
    // A file as stdin is no pipe.
    let file = run_with_stdin(&["--log", "-"], &original);
    assert!(
        file.stdout == log.as_bytes(),
        "{}",
        String::from_utf8_lossy(&file.stderr)
    );
}

fn run_with_stdin(args: &[&str], path: &Path) -> std::process::Output {
    crashdmesg(args)
        .stdin(File::open(path).unwrap())
        .output()
        .unwrap()
}

#[test]
fn a_dump_without_vmcoreinfo_is_searched_for_it() {
    let Some((original, mut core)) = core("b61-odd") else {
        return;
    };
    let note = core.keep_note();
    let dir = Dir::new();
    let log = shown(&["--log"], &[&original]);
    let kdump = Kdump {
        with_vmcoreinfo: false,
        codecs: vec![Codec::Plain],
        ..Kdump::default()
    };
    let without = dir.file("without", &kdump.writes(&core).file());
    assert_eq!(shown(&["--log"], &[&without]), log);
    // With the page gone too, only the user can help.
    core.pages.remove(&note);
    let poor = dir.file("poor", &kdump.writes(&core).file());
    let output = run(crashdmesg(["--log"]).arg(&poor));
    assert_eq!(output.code, Some(3));
    assert!(
        output.stderr.contains("VMCOREINFO") && output.stderr.lines().count() == 1,
        "{}",
        output.stderr
    );
    let info = dir.file("info", shown(&["--vmcoreinfo"], &[&original]).as_bytes());
    let option = format!("--vmcoreinfo={}", info.display());
    assert_eq!(shown(&["--log", &option], &[&poor]), log);
}

#[test]
fn a_terabyte_of_memory_costs_neither_time_nor_memory() {
    let Some((original, mut core)) = core("b61-odd") else {
        return;
    };
    let dir = Dir::new();
    // One page at the very end of 1 TiB, so that the whole bitmap is counted for it.
    let frames = 1 << 28;
    core.pages.insert(frames - 1, vec![0x42; PAGE]);
    let kdump = Kdump {
        max_mapnr: frames,
        codecs: vec![Codec::Plain],
        ..Kdump::default()
    };
    let path = dir.0.join("terabyte");
    let mut file = File::create(&path).unwrap();
    for (at, bytes) in kdump.writes(&core).0 {
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(&bytes).unwrap();
    }
    drop(file);
    let log = shown(&["--log"], &[&original]);
    let output = run(crashdmesg(["--log"]).arg(&path));
    assert!(output.stdout == log.as_bytes(), "{}", output.stderr);
    assert!(output.elapsed.as_secs() < 5, "{:?}", output.elapsed);
    let identity = shown(&["--identify"], &[&path]);
    assert!(identity.contains(", complete"), "{identity}");
    let mut command = crashdmesg(["--log"]);
    command
        .arg(&path)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some((status, cost)) = program::measure(&mut command, false) {
        assert!(status.success());
        assert!(cost.peak_kib <= 8 << 10, "{cost:?}");
    }
}

#[test]
fn what_is_no_dump_is_named_with_the_way_out() {
    let dir = Dir::new();
    let mut swap = vec![0; 8192];
    swap[4086..4096].copy_from_slice(b"S1SUSPEND\0");
    for (bytes, name, advice) in [
        (
            &b"\x1f\x8b\x08\0............"[..],
            "a gzip file",
            "gzip -dk",
        ),
        (b"\xfd7zXZ\0...........", "an xz file", "xz -dk"),
        (b"\x28\xb5\x2f\xfd.........", "a zstd file", "zstd -d"),
        (
            b"\xed\x23\x8f\x61\x73\x01\x19\xa8....",
            "an LKCD dump",
            "cannot be read here",
        ),
        (b"sadump\0\0.......", "an sadump dump", "makedumpfile"),
        (
            b"\xd2\xbe\xd2\xbe........",
            "a VMware snapshot",
            "vmss2core",
        ),
        (
            b"QEVM\0\0\0\x03.......",
            "a QEMU migration stream",
            "--memory-only",
        ),
        (
            b"PAGEDU64........",
            "a crash dump of 64-bit Windows",
            "cannot be read here",
        ),
        (&swap, "a hibernation image", "cannot be read here"),
    ] {
        let path = dir.file("file", bytes);
        let output = run(crashdmesg(["--log"]).arg(&path));
        assert_eq!(output.code, Some(3), "{name}");
        assert!(
            output.stderr.contains(name) && output.stderr.contains(advice),
            "{}",
            output.stderr
        );
        assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
        let identified = run(crashdmesg(["--identify"]).arg(&path));
        assert!(String::from_utf8_lossy(&identified.stdout).contains(name));
        assert_eq!(identified.code, Some(3));
    }
}

#[test]
fn a_dump_is_identified_in_a_line_or_as_json() {
    let Some((_, core)) = core("b61-odd") else {
        return;
    };
    let dir = Dir::new();
    let path = dir.file("dump", &Kdump::default().writes(&core).file());
    let line = shown(&["--identify"], &[&path]);
    for part in [
        "kdump-compressed version 6 with zlib+lzo+snappy+zstd",
        "x86_64 64-bit little-endian, 4096-byte pages",
        "Linux 6.1.0-50-cloud-amd64 #1 SMP",
        "build id bb603a9147d3efe4744bf83c83eee397c591cc20",
        "crashed 2026-11-21T19:43:14Z",
        "dump level 1",
        ", complete\n",
    ] {
        assert!(line.contains(part), "{part:?} in {line:?}");
    }
    let json = shown(&["--identify", "--json"], &[&path]);
    for part in [
        r#""compression":["zlib","lzo","snappy","zstd"]"#,
        r#""complete":true"#,
        r#""page_size":4096"#,
    ] {
        assert!(json.contains(part), "{part:?} in {json:?}");
    }
    let whole = fs::read(&path).unwrap();
    let cut = dir.file("cut", &whole[..whole.len() - 1]);
    assert!(shown(&["--identify"], &[&cut]).contains("incomplete: the file is cut short"));
}

#[test]
fn dumps_that_are_cut_anywhere_end_in_a_message_or_in_less_of_the_log() {
    let Some((original, core)) = core("b61-odd") else {
        return;
    };
    let dir = Dir::new();
    let kdump = Kdump {
        codecs: vec![Codec::Zlib, Codec::Plain],
        ..Kdump::default()
    }
    .writes(&core);
    let log = shown(&["--log"], &[&original]);
    for (whole, name) in [(kdump.file(), "kdump"), (kdump.flattened(), "flattened")] {
        // Both sides of the start of each structure, and through the pages.
        let mut ends = vec![
            0, 1, 8, 12, 404, 455, 456, 463, 4096, 4104, 4200, 8192, 8193, 12288, 12300, 16384,
            20480,
        ];
        ends.extend((0..whole.len()).step_by(whole.len() / 12));
        ends.push(whole.len() - 1);
        for end in ends {
            let path = dir.file("cut", &whole[..end.min(whole.len())]);
            let output = run(crashdmesg(["--log"]).arg(&path));
            assert!(
                matches!(output.code, Some(0 | 1 | 3 | 4)),
                "{name} at {end}: {output:?}"
            );
            let stderr = output.stderr.as_str();
            assert_eq!(
                output.code == Some(0),
                stderr.is_empty(),
                "{name} at {end}: {stderr}"
            );
            let lines = String::from_utf8_lossy(&output.stdout);
            let known = lines.lines().all(|line| log.contains(line));
            assert!(
                known || output.code == Some(4),
                "{name} at {end}: other lines"
            );
        }
    }
}

#[test]
fn a_symbol_table_serves_where_there_is_no_vmcoreinfo_at_all() {
    const START_KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;
    let Some((original, mut core)) = core("b61-odd") else {
        return;
    };
    let info = String::from_utf8(core.vmcoreinfo.clone()).unwrap();
    let value = |key: &str| {
        info.lines()
            .find_map(|line| line.strip_prefix(key))
            .unwrap()
    };
    let hex = |key: &str| u64::from_str_radix(value(key), 16).unwrap();
    let phys_base = value("NUMBER(phys_base)=").parse::<i64>().unwrap() as u64;
    let shift = hex("KERNELOFFSET=");
    // The kernel's own symbols, as they were before it was moved.
    let names = ["prb", "init_uts_ns", "_stext"];
    let mut symbols: Vec<(u64, &str)> = names
        .map(|name| (hex(&format!("SYMBOL({name})=")) - shift, name))
        .into();
    symbols.push((hex("SYMBOL(swapper_pg_dir)=") - shift, "init_top_pgt"));
    let prb = hex("SYMBOL(prb)=")
        .wrapping_sub(START_KERNEL_MAP)
        .wrapping_add(phys_base);
    let page = &core.pages[&(prb / PAGE as u64)];
    let ring = u64::from_le_bytes(page[prb as usize % PAGE..][..8].try_into().unwrap());
    symbols.push((ring - shift, "printk_rb_dynamic"));
    // The banner is not in the fixture: it gets a page of the image that is free.
    let stext = hex("SYMBOL(_stext)=")
        .wrapping_sub(START_KERNEL_MAP)
        .wrapping_add(phys_base);
    let free = (stext / PAGE as u64..)
        .find(|pfn| !core.pages.contains_key(pfn))
        .unwrap();
    let banner = format!("Linux version {} (test) #1 SMP\n", value("OSRELEASE="));
    let mut page = banner.into_bytes();
    page.resize(PAGE, 0);
    core.pages.insert(free, page);
    let linked = (free * PAGE as u64)
        .wrapping_sub(phys_base)
        .wrapping_add(START_KERNEL_MAP);
    symbols.push((linked - shift, "linux_banner"));

    let dir = Dir::new();
    let lines = symbols
        .iter()
        .map(|(addr, name)| format!("{addr:016x} D {name}\n"));
    let map = dir.file("System.map", lines.collect::<String>().as_bytes());
    let kdump = Kdump {
        with_vmcoreinfo: false,
        codecs: vec![Codec::Plain],
        ..Kdump::default()
    };
    let poor = dir.file("poor", &kdump.writes(&core).file());
    assert_eq!(run(crashdmesg(["--log"]).arg(&poor)).code, Some(3));
    let option = format!("--system-map={}", map.display());
    assert_eq!(
        shown(&["--log", &option], &[&poor]),
        shown(&["--log"], &[&original])
    );
    let stub = dir.file(
        "stub",
        b"ffffffffffffffff B The real System.map is elsewhere\n",
    );
    let refused = run(crashdmesg(["--system-map"]).args([&stub, &poor]));
    assert_eq!(refused.code, Some(2), "{}", refused.stderr);
}

/// A file, read by the library.
struct OnDisk(File);

impl ReadAt for OnDisk {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<()> {
        let truncated = Error::Truncated {
            what: "file",
            at: At::File(offset),
            need: buf.len() as u64,
            have: 0,
        };
        self.0.read_exact_at(buf, offset).map_err(|_| truncated)
    }

    fn len(&self) -> Option<u64> {
        self.0.metadata().ok().map(|metadata| metadata.len())
    }
}

/// What QEMU says to monitor commands given to a machine that does not run, with `data` in its memory at 16 MiB.
fn qemu(data: &Path, commands: &str) -> String {
    let loader = format!("loader,file={},addr=0x1000000,force-raw=on", data.display());
    let mut child = Command::new("qemu-system-x86_64")
        .args([
            "-S",
            "-m",
            "48",
            "-display",
            "none",
            "-nodefaults",
            "-monitor",
            "stdio",
        ])
        .args(["-device", &loader])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(commands.as_bytes()).unwrap();
    stdin.write_all(b"quit\n").unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn dumps_of_qemus_monitor_hold_the_memory_of_the_machine() {
    if !is_installed("qemu-system-x86_64") {
        return;
    }
    let dir = Dir::new();
    // Text, noise and zeros, so that some pages are compressed and some are not.
    let mut seed = 1_u32;
    let data: Vec<u8> = (0..2_u32 << 20)
        .map(|n| match n >> 14 & 3 {
            0 => b"a line of text\n"[n as usize % 15],
            1 => 0,
            _ => {
                seed = seed.wrapping_mul(1664525).wrapping_add(1013904223);
                (seed >> 24) as u8
            }
        })
        .collect();
    let memory = dir.file("memory", &data);
    let kinds = [
        ("", "ELF"),
        ("-p", "ELF"),
        ("-z", "kdump-compressed version 6 with zlib"),
        ("-l", "kdump-compressed version 6 with lzo"),
        ("-s", "kdump-compressed version 6 with snappy"),
    ];
    let dump = |flag: &str| dir.0.join(format!("dump{flag}"));
    let commands =
        kinds.map(|(flag, _)| format!("dump-guest-memory {flag} {}\n", dump(flag).display()));
    let said = qemu(&memory, &commands.concat());
    let mut opened = 0;
    for (flag, name) in kinds {
        let path = dump(flag);
        if fs::metadata(&path).map_or(0, |metadata| metadata.len()) == 0 {
            println!("SKIPPED: this QEMU makes no dump with {flag}");
            continue;
        }
        opened += 1;
        let identity = shown(&["--identify"], &[&path]);
        assert!(identity.contains(name), "{flag}: {identity}");
        assert!(identity.contains(", complete"), "{flag}: {identity}");
        let file = OnDisk(File::open(&path).unwrap());
        let sources: [&dyn ReadAt; 1] = [&file];
        let vmcore = Vmcore::open(&sources).unwrap();
        use crashdmesg::dump::PhysMem;
        let mut read = vec![0x55; data.len()];
        vmcore.read_phys(PhysAddr(0x100_0000), &mut read).unwrap();
        assert!(read == data, "{flag}: the memory is another one");
        let beyond = vmcore.read_phys(PhysAddr(0x1_0000_0000_0000), &mut [0]);
        assert!(matches!(beyond, Err(Error::NotInDump { .. })), "{flag}");
    }
    assert!(opened >= 2, "{said}");
}
