//! NFS through the kernel's own client: mount, write, rename, unmount. No helper program.
//!
//! ```text
//! nfs://10.0.0.7/export/crash/%h/%t.txt       mounts 10.0.0.7:/export/crash, writes %h/%t.txt
//! ```
//!
//! What stands before the first name is mounted, or what `export` says. Version 4.2 is tried first, then 4.0, then 3 without locks, unless
//! `vers` tells. The options that mount.nfs(8) would add, the addresses above all, are made here; see nfs(5). The
//! kernel needs its modules loaded (nfs, nfsv4 or nfsv3) before.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::connect::Stream;
use super::url::{Url, decode};
use super::{Delivered, Failure, Payload, Reason, file, name};
use crate::deadline::Deadline;
use crate::sys::mount::{MNT_DETACH, MS_DATA_ONLY, attach, detach};

/// NFS's port.
const PORT: u16 = 2049;

/// Where version 3 asks for the ports of the mount service.
const RPCBIND_PORT: u16 = 111;

/// Versions in the order in which they are tried.
const VERSIONS: [&str; 3] = ["4.2", "4.0", "3"];

/// Longest wait for a first answer; a mount call cannot be interrupted.
const PROBE: Duration = Duration::from_secs(10);

/// Checks the options.
///
/// # Errors
/// One line.
pub fn check(url: &Url) -> Result<(), String> {
    match url.option("vers") {
        None | Some("3" | "4" | "4.0" | "4.1" | "4.2") => {}
        Some(other) => return Err(format!("option vers: \"{other}\" is not 3 or 4 to 4.2")),
    }
    let (export, file) = split(url)?;
    if !export.starts_with('/') || file.split('/').any(|part| part == "..") {
        return Err(format!("\"{}\" is not an absolute path", url.path));
    }
    Ok(())
}

/// The path to mount and the path below it, names not filled in.
fn split(url: &Url) -> Result<(String, String), String> {
    let path = url.path.as_str();
    if let Some(export) = url.option("export") {
        let rest = path.strip_prefix(export.trim_end_matches('/'));
        let rest = rest.ok_or_else(|| format!("\"{path}\" is not below export \"{export}\""))?;
        return Ok((export.into(), rest.trim_start_matches('/').into()));
    }
    // A percent sign that is an escape does not end the fixed part; a name does.
    let names = ["%h", "%t", "%s", "%i", "%m", "%r"];
    let first = names.iter().filter_map(|n| path.find(n)).min();
    let fixed = &path[..first.unwrap_or(path.len())];
    let at = fixed.rfind('/').ok_or("nfs needs a path")?;
    let export = if at == 0 { "/" } else { &path[..at] };
    Ok((decode(export)?, path[at + 1..].into()))
}

/// `nfs://host/export/path`.
pub fn send(url: &Url, payload: &Payload<'_>, deadline: Deadline) -> Delivered {
    let (export, below) = split(url).map_err(Failure::lasting)?;
    let below = decode(&name::fill(&below, payload.meta())).map_err(Failure::lasting)?;
    let mounted = mount(url, &export, deadline)?;
    let outcome = file::store(&mounted.point.join(below), payload, deadline);
    let unmounted = mounted.end();
    let outcome = outcome?;
    // Everything was forced to the server before; a failure here means that this was not so.
    unmounted.reason("unmount")?;
    Ok(outcome)
}

/// A mount that ends with the attempt.
struct Mounted {
    point: PathBuf,
    done: bool,
}

impl Mounted {
    fn end(mut self) -> io::Result<()> {
        self.done = true;
        detach(&self.point.to_string_lossy(), 0)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if !self.done {
            let _ = detach(&self.point.to_string_lossy(), MNT_DETACH);
        }
        let _ = fs::remove_dir(&self.point);
    }
}

fn mount(url: &Url, export: &str, deadline: Deadline) -> Result<Mounted, Failure> {
    let point = std::env::temp_dir().join(format!("crashdmesg-nfs-{}", std::process::id()));
    fs::create_dir_all(&point).reason(&format!("make {}", point.display()))?;
    let asked = url.option("vers").map(|version| [version]);
    let versions = asked.as_ref().map_or(&VERSIONS[..], |one| &one[..]);
    let mut tried = Vec::new();
    for version in versions {
        match mount_version(url, export, version, &point, deadline) {
            Ok(()) => return Ok(Mounted { point, done: false }),
            Err(failure) => tried.push(format!("version {version}: {}", failure.why)),
        }
        if deadline.passed() {
            break;
        }
    }
    let _ = fs::remove_dir(&point);
    Err(Failure::passing(tried.join("; ")))
}

fn mount_version(
    url: &Url,
    export: &str,
    version: &str,
    point: &Path,
    deadline: Deadline,
) -> Result<(), Failure> {
    let v3 = version == "3";
    // A server that is not there would hold the mount call for minutes.
    let probe = match (v3, url.port) {
        (true, None) => RPCBIND_PORT,
        (_, port) => port.unwrap_or(PORT),
    };
    let mut probed = url.clone();
    probed.port = Some(probe);
    let stream = Stream::open(&probed, probe, deadline.within(PROBE))?;
    let server = stream.peer().reason("find the server's address")?;
    let client = stream.local().reason("find our address")?;
    drop(stream);
    let options = options(version, server, client.ip(), url.port);
    let host = match server.ip() {
        IpAddr::V6(ip) => format!("[{ip}]"),
        IpAddr::V4(ip) => ip.to_string(),
    };
    attach(
        &format!("{host}:{export}"),
        &point.to_string_lossy(),
        "nfs",
        MS_DATA_ONLY,
        Some(&options),
    )
    .map_err(|error| {
        Failure::passing(match error.raw_os_error() {
            Some(19) => "the kernel has no NFS client: load its modules".into(),
            _ => format!("mount {host}:{export}: {error}"),
        })
    })
}

/// The options of nfs(5) that a mount call needs.
fn options(version: &str, server: SocketAddr, client: IpAddr, port: Option<u16>) -> String {
    let server = server.ip();
    let proto = if server.is_ipv6() { "tcp6" } else { "tcp" };
    // `soft`: an error after three tries of five seconds, instead of waiting for ever.
    let mut out =
        format!("vers={version},addr={server},proto={proto},soft,timeo=50,retrans=2,sec=sys,noac");
    if version == "3" {
        out += &format!(",nolock,mountproto={proto},mountaddr={server}");
    } else {
        out += &format!(",clientaddr={client}");
    }
    if let Some(port) = port {
        out += &format!(",port={port}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(path: &str, options: &[(&str, &str)]) -> Url {
        let options = options.iter().map(|&(k, v)| (k.into(), v.into()));
        Url {
            host: "h".into(),
            path: path.into(),
            options: options.collect(),
            ..Url::default()
        }
    }

    fn parts(path: &str) -> (String, String) {
        split(&url(path, &[])).unwrap()
    }

    #[test]
    fn what_stands_before_the_first_name_is_mounted() {
        let pair = |a: &str, b: &str| (a.to_string(), b.to_string());
        assert_eq!(parts("/export/crash/"), pair("/export/crash", ""));
        assert_eq!(parts("/export/cr%20ash/x"), pair("/export/cr ash", "x"));
        assert_eq!(parts("/e/d-%h/%t"), pair("/e", "d-%h/%t"));
        assert_eq!(parts("/%h"), pair("/", "%h"));
        assert_eq!(
            split(&url("/e/a/%h", &[("export", "/e")])).unwrap(),
            pair("/e", "a/%h")
        );
        assert!(split(&url("/x/a", &[("export", "/e")])).is_err());
        assert!(split(&url("", &[])).is_err());
        assert!(check(&url("/e/../x", &[("export", "/e")])).is_err());
        assert!(check(&url("/e/", &[("vers", "2")])).is_err());
    }

    #[test]
    fn the_addresses_are_among_the_options() {
        let server = "10.0.0.7:2049".parse().unwrap();
        let client = "10.0.0.9".parse().unwrap();
        let v4 = options("4.2", server, client, None);
        assert!(v4.starts_with("vers=4.2,addr=10.0.0.7,proto=tcp,soft"));
        assert!(v4.ends_with(",clientaddr=10.0.0.9"));
        let v3 = options("3", server, client, Some(2050));
        assert!(v3.ends_with(",nolock,mountproto=tcp,mountaddr=10.0.0.7,port=2050"));
    }
}
