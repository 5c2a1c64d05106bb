//! Drivers: loaded from a list, in its order.
//!
//! /etc/crashdmesg.modules has one module a line, an absolute path and then its parameters, if any. Whoever made the
//! image put them in the order of their dependencies; nothing is looked for here.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use crate::sys::module;

const LIST: &str = "/etc/crashdmesg.modules";

/// Loads every module of the list; one that cannot be loaded is told and passed over.
pub fn load_all(say: &mut dyn FnMut(&str)) {
    let list = match fs::read_to_string(LIST) {
        Ok(list) => list,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => return say(&format!("modules: {LIST}: {error}")),
    };
    let (mut loaded, mut failed) = (0, 0);
    for (path, parameters) in entries(&list) {
        match load(path, parameters) {
            Ok(()) => loaded += 1,
            Err(error) => {
                failed += 1;
                say(&format!("modules: {path}: {error}"));
            }
        }
    }
    let failures = if failed == 0 {
        String::new()
    } else {
        format!(", {failed} failed")
    };
    say(&format!("modules: {loaded} loaded{failures}"));
}

fn entries(list: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = list
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| {
        line.split_once(char::is_whitespace)
            .map_or((line, ""), |(path, rest)| (path, rest.trim()))
    })
}

fn load(path: &str, parameters: &str) -> io::Result<()> {
    let file = File::open(path)?;
    let compressed = Path::new(path)
        .extension()
        .is_some_and(|ending| ending != "ko");
    match module::load(&file, parameters, compressed) {
        // Built in or loaded already: that is all that was wanted.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_path_and_then_parameters() {
        let list = "# order matters\n/lib/a.ko\n\n /lib/bonding.ko  max_bonds=0 miimon=100 \n";
        let found: Vec<_> = entries(list).collect();
        assert_eq!(
            found,
            [
                ("/lib/a.ko", ""),
                ("/lib/bonding.ko", "max_bonds=0 miimon=100")
            ]
        );
    }
}
