//! What the program needs to run, and what its core needs to be built: nothing, and nothing but `core` and `alloc`.

mod data;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The parts of an ELF file that say what it needs, read here because readelf may not be installed.
struct Elf(Vec<u8>);

impl Elf {
    fn number(&self, at: u64, len: usize) -> u64 {
        let raw = &self.0[at as usize..at as usize + len];
        let native = cfg!(target_endian = "little");
        raw.iter().enumerate().fold(0, |value, (n, &byte)| {
            let place = if native { n } else { len - 1 - n };
            value | u64::from(byte) << (8 * place)
        })
    }

    /// (type, file offset, size) of each program header.
    fn program_headers(&self) -> Vec<(u64, u64, u64)> {
        let wide = self.0[4] == 2;
        let (start, size, count) = if wide {
            (self.number(32, 8), self.number(54, 2), self.number(56, 2))
        } else {
            (self.number(28, 4), self.number(42, 2), self.number(44, 2))
        };
        let header = |n: u64| {
            let at = start + n * size;
            if wide {
                (
                    self.number(at, 4),
                    self.number(at + 8, 8),
                    self.number(at + 32, 8),
                )
            } else {
                (
                    self.number(at, 4),
                    self.number(at + 4, 4),
                    self.number(at + 16, 4),
                )
            }
        };
        (0..count).map(header).collect()
    }

    fn has_interpreter(&self) -> bool {
        const PT_INTERP: u64 = 3;
        self.program_headers()
            .iter()
            .any(|header| header.0 == PT_INTERP)
    }

    /// How many shared libraries it asks for.
    fn needed(&self) -> usize {
        const PT_DYNAMIC: u64 = 2;
        const DT_NEEDED: u64 = 1;
        let word = if self.0[4] == 2 { 8 } else { 4 };
        let headers = self.program_headers();
        let dynamic = headers.iter().filter(|header| header.0 == PT_DYNAMIC);
        let tags = dynamic.flat_map(|&(_, start, size)| {
            (start..start + size)
                .step_by(2 * word)
                .map(|at| self.number(at, word))
        });
        tags.filter(|&tag| tag == DT_NEEDED).count()
    }
}

#[test]
fn the_program_is_static() {
    let program = Elf(fs::read(env!("CARGO_BIN_EXE_crashdmesg")).unwrap());
    assert_eq!(&program.0[..4], b"\x7fELF");
    assert!(program.program_headers().len() >= 2);
    assert!(!program.has_interpreter(), "it asks for an interpreter");
    assert_eq!(program.needed(), 0, "it asks for shared libraries");
}

#[test]
fn a_dynamic_program_would_be_noticed() {
    let candidates = ["/bin/ls", "/usr/bin/env", "/usr/bin/xz"];
    let Some(file) = candidates.iter().find_map(|path| fs::read(path).ok()) else {
        println!("SKIPPED: no program of the system to compare with");
        return;
    };
    let other = Elf(file);
    if other.has_interpreter() {
        assert!(other.needed() > 0);
    } else {
        println!("SKIPPED: the programs of this system are static too");
    }
}

fn rustc() -> Command {
    Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
}

fn told_by_rustc(args: &[&str]) -> Option<String> {
    let output = rustc()
        .args(args)
        .output()
        .ok()
        .filter(|output| output.status.success());
    let text = output.map(|output| String::from_utf8(output.stdout).unwrap().trim().to_owned());
    if text.is_none() {
        println!("SKIPPED: rustc cannot be run here");
    }
    text
}

/// A sysroot that has `core`, `alloc` and what they stand on, but no `std`.
fn sysroot_without_std() -> Option<PathBuf> {
    let real = told_by_rustc(&["--print", "sysroot"])?;
    let host = told_by_rustc(&["--print", "host-tuple"])?;
    let inside = Path::new("lib/rustlib").join(host).join("lib");
    let bare = data::scratch_file("sysroot");
    fs::create_dir_all(bare.join(&inside)).unwrap();
    for entry in fs::read_dir(Path::new(&real).join(&inside)).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let kept = ["libcore-", "liballoc-", "libcompiler_builtins-"];
        if kept.iter().any(|start| name.starts_with(start)) {
            symlink(&path, bare.join(&inside).join(name)).unwrap();
        }
    }
    Some(bare)
}

/// Compiles a library against `sysroot`, as far as types go; what the compiler said otherwise.
fn compile(source: &Path, sysroot: &Path) -> Result<(), String> {
    let output = rustc()
        .args([
            "--crate-type=rlib",
            "--crate-name=probe",
            "--edition=2024",
            "--emit=metadata",
        ])
        .args(["--cap-lints=allow", "--sysroot"])
        .arg(sysroot)
        .arg("-o")
        .arg(sysroot.join("libprobe.rmeta"))
        .arg(source)
        .output()
        .unwrap();
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn the_core_is_built_without_std() {
    let Some(sysroot) = sysroot_without_std() else {
        return;
    };
    // That std is out of reach is shown first: what needs it fails for that reason.
    let probe = sysroot.join("probe.rs");
    fs::write(&probe, "#![no_std]\nextern crate std;\n").unwrap();
    let refused = compile(&probe, &sysroot).unwrap_err();
    assert!(refused.contains("can't find crate for `std`"), "{refused}");

    let core = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    let built = compile(&core, &sysroot);
    fs::remove_dir_all(&sysroot).unwrap();
    built.unwrap_or_else(|error| panic!("{error}"));
}
