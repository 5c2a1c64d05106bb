//! Trees of files as lists, and small machines to install into.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::Scratch;

/// Path, and "-rwxr-xr-x" or "-> target", of all but directories. Manual pages are named without ".gz".
pub type Files = BTreeMap<String, String>;

/// What a run printed; it has to have succeeded.
pub fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Runs a command line of sh, with `$1`, `$2`... as given.
pub fn sh(text: &str, arguments: &[&Path]) -> String {
    let output = Command::new("sh")
        .args(["-ec", text, "sh"])
        .args(arguments)
        .output();
    stdout(&output.unwrap())
}

/// Adds one entry as a listing has it: "-rwxr-xr-x" or "lrwxrwxrwx", path, target.
pub fn put(files: &mut Files, mode: &str, path: &str, link: &str) {
    if mode.starts_with('d') {
        return;
    }
    let path = path.trim_start_matches("./").trim_start_matches('/');
    let path = match path.strip_suffix(".gz") {
        Some(plain) if path.contains("/man/") => plain,
        _ => path,
    };
    let what = if mode.starts_with('l') {
        format!("-> {link}")
    } else {
        mode.to_owned()
    };
    files.insert(path.to_owned(), what);
}

/// What is below a directory.
pub fn tree(root: &Path) -> Files {
    let mut files = Files::new();
    for line in sh("cd \"$1\" && find . -printf '%M|%p|%l\\n'", &[root]).lines() {
        let parts: Vec<&str> = line.split('|').collect();
        put(&mut files, parts[0], parts[1], parts[2]);
    }
    files
}

/// The lines of `tar -tv`, all of which have to be root's.
pub fn listed(listing: &str) -> Files {
    let mut files = Files::new();
    for line in listing.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[1], "root/root", "{line}");
        put(&mut files, words[0], words[5], words.get(7).unwrap_or(&""));
    }
    files
}

/// Says the difference alone; the lists are long.
pub fn assert_same(found: &Files, expected: &Files) {
    let differ = |a: &Files, b: &Files| -> Vec<String> {
        let only = a.iter().filter(|(path, what)| b.get(*path) != Some(what));
        only.map(|(path, what)| format!("{what} {path}")).collect()
    };
    let (more, less) = (differ(found, expected), differ(expected, found));
    assert!(
        more.is_empty() && less.is_empty(),
        "too much: {more:#?}\nmissing: {less:#?}"
    );
}

/// True when this is root; what is not can be, in a user namespace.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// A tree with BusyBox and a null device (a file, as others than root cannot make the real one).
pub fn small_machine(scratch: &Scratch, name: &str) -> PathBuf {
    let root = scratch.directory(name);
    let text = "mkdir -p \"$1/bin\" \"$1/dev\" \"$1/tmp\" \"$1/run\"; : >\"$1/dev/null\"; cp \"$(command -v busybox)\" \"$1/bin/busybox\"
                for applet in $(busybox --list); do [ \"$applet\" = busybox ] || ln -s busybox \"$1/bin/$applet\"; done; ln -s busybox \"$1/bin/bash\"";
    sh(text, &[&root]);
    root
}

/// As root of a user namespace, unless this is root; None where that is not allowed.
pub fn as_root(program: &str) -> Option<Command> {
    if is_root() {
        return Some(Command::new(program));
    }
    let allowed = Command::new("unshare").args(["-r", "true"]).status();
    if !allowed.is_ok_and(|status| status.success()) {
        println!("skipped: not root, and no user namespaces: {program} was not run");
        return None;
    }
    let mut command = Command::new("unshare");
    command.args(["-r", program]);
    Some(command)
}
