//! SSH through a client in the image: OpenSSH's `ssh` or Dropbear's `dbclient`.
//!
//! ```text
//! ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile=... -i KEY user@host
//!     'umask 077; cat >f.part && [ $(wc -c <f.part) -eq 81234 ] && mv -f f.part f'
//! ```
//!
//! Nothing asks a question: there is nobody to answer. The host's key must be known, from the file that `known_hosts`
//! names; an unknown host is refused. The length is compared because a connection that breaks looks like the
//! end of the file to the far side.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::url::{Url, decode};
use super::{Delivered, Failure, Payload, Reason, name, program};
use crate::deadline::Deadline;

/// SSH's port.
const PORT: u16 = 22;

/// Where a client may be.
const PLACES: [&str; 6] = [
    "/usr/bin",
    "/bin",
    "/usr/sbin",
    "/sbin",
    "/usr/local/bin",
    "/",
];

/// Checks the options.
///
/// # Errors
/// One line.
pub fn check(url: &Url) -> Result<(), String> {
    if url.host.starts_with('-') || url.user.starts_with('-') {
        return Err("a host or user that starts with a dash".into());
    }
    if url.password.is_some() {
        return Err("ssh takes a key (key=FILE), not a password".into());
    }
    if url.option("known_hosts").is_none() {
        return Err("ssh needs known_hosts=FILE (or ssh-known-hosts) with the host's key".into());
    }
    Ok(())
}

/// `ssh://user@host:22/path?key=FILE&known_hosts=FILE`.
pub fn send(url: &Url, payload: &Payload<'_>, deadline: Deadline) -> Delivered {
    check(url).map_err(Failure::lasting)?;
    let client = client(url)?;
    let remote = remote(url, payload)?;
    let dropbear = client
        .file_name()
        .is_some_and(|name| name == "dbclient" || name == "dropbearmulti");
    let mut home = None;
    let mut command = Command::new(&client);
    if dropbear {
        let made = dropbear_home(url)?;
        command.env("HOME", &made);
        home = Some(made);
        command.args(["-T"]);
    } else {
        // No file of the image's may change what is configured here.
        command.args(["-T", "-F", "none", "-a", "-x"]);
        for option in [
            "BatchMode=yes".to_string(),
            "StrictHostKeyChecking=yes".into(),
            format!("UserKnownHostsFile={}", known_hosts(url)),
            "GlobalKnownHostsFile=none".into(),
            "UpdateHostKeys=no".into(),
            "CheckHostIP=no".into(),
            "IdentitiesOnly=yes".into(),
            "LogLevel=ERROR".into(),
            format!("ConnectTimeout={}", deadline.left().as_secs().max(1)),
        ] {
            command.arg("-o").arg(option);
        }
    }
    if let Some(key) = url.option("key") {
        command.args(["-i", key]);
    }
    if !url.user.is_empty() {
        command.args(["-l", &url.user]);
    }
    let port = url.port.unwrap_or(PORT).to_string();
    command.args(["-p", &port, &url.host, &remote]);
    let outcome = program::run(command, payload, deadline);
    if let Some(home) = home {
        let _ = fs::remove_dir_all(home);
    }
    outcome
}

fn known_hosts(url: &Url) -> &str {
    url.option("known_hosts").unwrap_or("/nonexistent")
}

/// The client to use.
fn client(url: &Url) -> Result<PathBuf, Failure> {
    if let Some(path) = url.option("program") {
        return Ok(path.into());
    }
    let places = || PLACES.iter().map(Path::new);
    let mut found = ["ssh", "dbclient"]
        .iter()
        .flat_map(|name| places().map(move |place| place.join(name)))
        .filter(|path| path.exists());
    let none = "neither ssh nor dbclient is there";
    found.next().ok_or_else(|| Failure::lasting(none))
}

/// A home directory for dbclient, which looks for known hosts nowhere else.
fn dropbear_home(url: &Url) -> Result<PathBuf, Failure> {
    let home = std::env::temp_dir().join(format!("crashdmesg-ssh-{}", std::process::id()));
    let _ = fs::remove_dir_all(&home);
    let make = || {
        DirBuilder::new().mode(0o700).create(&home)?;
        DirBuilder::new().mode(0o700).create(home.join(".ssh"))?;
        let known = fs::read_to_string(known_hosts(url))?;
        fs::write(home.join(".ssh/known_hosts"), for_dropbear(&known, url))
    };
    make().reason(&format!("copy {}", known_hosts(url)))?;
    Ok(home)
}

/// Known hosts as dbclient looks them up: it takes no account of the port, and so knows no `[host]:port`.
fn for_dropbear(known: &str, url: &Url) -> String {
    let here = format!("[{}]:{}", url.host, url.port.unwrap_or(PORT));
    let mut out = String::new();
    for line in known.lines() {
        let (names, key) = line.split_once(' ').unwrap_or((line, ""));
        for name in names.split(',') {
            let name = if name == here { &url.host } else { name };
            out += &format!("{name} {key}\n");
        }
    }
    out
}

/// What the far side runs.
fn remote(url: &Url, payload: &Payload<'_>) -> Result<String, Failure> {
    let path = name::fill(&url.path, payload.meta());
    let path = decode(&path).map_err(Failure::lasting)?;
    // As in other clients, /~/ leads to the home directory, where the shell starts.
    let path = path.strip_prefix("/~/").unwrap_or(&path);
    let directory = match path.rsplit_once('/') {
        Some(("", _)) | None => String::new(),
        Some((directory, _)) => format!("mkdir -p {} && ", quoted(directory)),
    };
    let part = quoted(&format!("{path}.part"));
    Ok(format!(
        "umask 077; {directory}cat >{part} && [ $(wc -c <{part}) -eq {} ] && mv -f {part} {}",
        payload.len(),
        quoted(path)
    ))
}

/// For a POSIX shell; `./` keeps a leading dash from being an option.
fn quoted(path: &str) -> String {
    let dash = if path.starts_with('-') { "./" } else { "" };
    format!("'{dash}{}'", path.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::super::Part;
    use super::super::payload::tests::fake;
    use super::*;

    fn url(path: &str) -> Url {
        Url {
            host: "h".into(),
            path: path.into(),
            ..Url::default()
        }
    }

    #[test]
    fn the_far_side_gets_quoted_names_and_the_length() {
        let fake = fake(1);
        let payload = Payload::new(&fake, Part::Summary, "");
        assert_eq!(
            remote(&url("/var/cr'ash/%h"), &payload).unwrap(),
            "umask 077; mkdir -p '/var/cr'\\''ash' && cat >'/var/cr'\\''ash/node17.part' && \
             [ $(wc -c <'/var/cr'\\''ash/node17.part') -eq 42 ] && \
             mv -f '/var/cr'\\''ash/node17.part' '/var/cr'\\''ash/node17'"
        );
        assert!(
            remote(&url("/~/-rf"), &payload)
                .unwrap()
                .contains("cat >'./-rf.part'")
        );
    }

    #[test]
    fn a_host_without_a_pinned_key_is_refused_when_configured() {
        assert!(check(&url("/x")).unwrap_err().contains("known_hosts"));
        let mut pinned = url("/x");
        pinned.options.push(("known_hosts".into(), "/k".into()));
        check(&pinned).unwrap();
        pinned.host = "-oProxyCommand=x".into();
        assert!(check(&pinned).is_err());
    }
}
