//! The packages: each is made by the distribution's own tool and holds what `initramfs/install` puts, no less and no
//! more; and it is installed, updated and removed in a tree of its own, after which that is as it was before.
//!
//! What stands for the binary is a script, so that no release build is needed. The trees hold BusyBox for the packages'
//! scripts, which run in them. What is not installed is skipped aloud.

#[path = "../program/mod.rs"]
mod program;
#[path = "../support/mod.rs"]
mod support;
mod tree;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use program::is_installed;
use support::Scratch;
use tree::{Files, as_root, assert_same, is_root, listed, put, sh, small_machine, stdout, tree};

const TOP: &str = env!("CARGO_MANIFEST_DIR");
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What other distributions than Debian leave out, as the spec file and the PKGBUILD say.
const NOT_RPM: &str = "sysvinit ifupdown initramfs-tools mkinitcpio";
const NOT_ARCH: &str = "sysvinit ifupdown initramfs-tools";

/// True when all of these are there; what is not, is said.
fn have(programs: &[&str]) -> bool {
    programs.iter().all(|program| is_installed(program))
}

/// What is packaged as the binary.
fn binary(scratch: &Scratch) -> PathBuf {
    let path = scratch.file("binary", "#!/bin/sh\necho stands for crashdmesg\n");
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

fn install(scratch: &Scratch, destination: &Path) -> Command {
    let mut command = Command::new("sh");
    command
        .arg(format!("{TOP}/initramfs/install"))
        .env("DESTDIR", destination)
        .env("PREFIX", "/usr")
        .env("BINARY", binary(scratch));
    command
}

/// What `install` puts for a package, with these settings.
fn staged(scratch: &Scratch, settings: &[(&str, &str)]) -> Files {
    let destination = scratch.path("staged");
    let mut command = install(scratch, &destination);
    stdout(&command.envs(settings.iter().copied()).output().unwrap());
    let files = tree(&destination);
    assert!(files.len() > 40, "{files:?}");
    fs::remove_dir_all(destination).unwrap();
    files
}

/// What a .deb holds beside the installation.
fn with_debians_own(mut files: Files) -> Files {
    for name in ["copyright", "changelog.Debian.gz"] {
        let path = format!("usr/share/doc/crashdmesg/{name}");
        files.insert(path, "-rw-r--r--".to_owned());
    }
    files
}

/// The strings in double quotes of a line.
fn quoted(line: &str) -> Vec<&str> {
    line.split('"').skip(1).step_by(2).collect()
}

#[test]
fn the_assets_of_cargo_deb_are_what_is_installed() {
    let scratch = Scratch::new("assets");
    let manifest = fs::read_to_string(format!("{TOP}/Cargo.toml")).unwrap();
    let (_, assets) = manifest.split_once("\nassets = [\n").unwrap();
    let (assets, _) = assets.split_once("\n]\n").unwrap();
    let mut files = Files::new();
    for line in assets.lines() {
        match (quoted(line).as_slice(), line.contains("link_name")) {
            ([path, link], true) => put(&mut files, "l", path, link),
            ([source, path, mode], false) => {
                let name = source.rsplit('/').next().unwrap();
                let path = if path.ends_with('/') {
                    format!("{path}{name}")
                } else {
                    (*path).to_owned()
                };
                let mode = match *mode {
                    "755" => "-rwxr-xr-x",
                    "644" => "-rw-r--r--",
                    _ => panic!("{line}"),
                };
                put(&mut files, mode, &path, "");
                let exists = source.starts_with("target/") || Path::new(TOP).join(source).is_file();
                assert!(exists, "there is no {source}");
            }
            _ => panic!("{line}"),
        }
    }
    assert_same(&files, &staged(&scratch, &[]));
    // Beside these it puts what Debian asks for, from here.
    for key in ["maintainer-scripts", "license-file", "changelog"] {
        let line = manifest.lines().find(|line| line.starts_with(key)).unwrap();
        assert!(Path::new(TOP).join(quoted(line)[0]).exists(), "{line}");
    }
}

#[test]
fn every_packaging_has_the_version_and_the_description_of_the_manifest() {
    let read =
        |name: &str| fs::read_to_string(format!("{TOP}/initramfs/packaging/{name}")).unwrap();
    let description = env!("CARGO_PKG_DESCRIPTION");
    let (spec, pkgbuild) = (read("rpm/crashdmesg.spec"), read("arch/PKGBUILD"));
    assert!(spec.contains(&format!("\nVersion:        {VERSION}\n")));
    assert!(spec.contains(&format!("\nSummary:        {description}\n")));
    assert!(spec.contains(&format!("- {VERSION}-1\n")));
    assert!(pkgbuild.contains(&format!("\npkgver={VERSION}\n")));
    assert!(pkgbuild.contains(&format!("\npkgdesc='{description}'\n")));
    assert!(read("debian/changelog").starts_with(&format!("crashdmesg ({VERSION}-1) ")));
    // What else they leave out than is compared here would not be seen.
    assert!(
        spec.contains(&format!("WITHOUT=\"{NOT_RPM}\""))
            && pkgbuild.contains(&format!("WITHOUT='{NOT_ARCH}'"))
    );
}

/// Makes a package in `scratch/out` and returns its path.
fn package(scratch: &Scratch, kind: &str) -> PathBuf {
    let output = Command::new("sh")
        .args([format!("{TOP}/initramfs/package"), kind.to_owned()])
        .arg(scratch.path("out"))
        .env("BINARY", binary(scratch))
        .output();
    the_package(scratch, &output.unwrap())
}

fn the_package(scratch: &Scratch, output: &Output) -> PathBuf {
    stdout(output);
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    let mut made = fs::read_dir(scratch.path("out")).unwrap();
    let path = made.next().unwrap().unwrap().path();
    assert!(made.next().is_none());
    assert!(said.lines().any(|line| Path::new(line) == path), "{said}");
    path
}

#[test]
fn the_debian_package_is_the_installation_and_leaves_nothing_behind() {
    if !have(&["dpkg-deb", "dpkg", "busybox"]) {
        return;
    }
    let scratch = Scratch::new("deb");
    let made = package(&scratch, "deb");
    let list = sh("dpkg-deb --fsys-tarfile \"$1\" | tar -tv", &[&made]);
    assert_same(&listed(&list), &with_debians_own(staged(&scratch, &[])));
    assert_eq!(
        sh("dpkg-deb -f \"$1\" Package Version Depends", &[&made]),
        format!("Package: crashdmesg\nVersion: {VERSION}-1\nDepends: kexec-tools, iproute2\n")
    );
    assert_eq!(
        sh("dpkg-deb -I \"$1\" conffiles", &[&made]),
        "/etc/init.d/crashdmesg\n/etc/network/if-up.d/90-crashdmesg\n"
    );

    // The same sources give the same bytes.
    let bytes = fs::read(&made).unwrap();
    fs::remove_file(&made).unwrap();
    assert!(fs::read(package(&scratch, "deb")).unwrap() == bytes);

    // The version before, with a file that this one has no longer.
    let text = "dpkg-deb -R \"$1\" \"$2\"; sed -i 's/^Version: .*/Version: 0.0.1-1/' \"$2/DEBIAN/control\"
                : >\"$2/usr/lib/crashdmesg/gone\"; dpkg-deb --root-owner-group -b \"$2\" \"$2.deb\"";
    let old = scratch.path("old");
    sh(text, &[&made, &old]);
    let root = small_machine(&scratch, "root");
    let text = "mkdir -p \"$1/var/lib/dpkg/info\" \"$1/var/lib/dpkg/updates\" \"$1/var/lib/dpkg/triggers\" \"$1/var/log\" \"$1/etc/default/grub.d\"
                : >\"$1/var/lib/dpkg/status\"";
    sh(text, &[&root]);
    let before = tree(&root);
    let dpkg = |arguments: &[&str], path: &Path| {
        let mut command = as_root("dpkg")?;
        command
            .arg(format!("--root={}", root.display()))
            .arg("--force-depends,not-root");
        Some(stdout(&command.args(arguments).arg(path).output().unwrap()))
    };
    let Some(_) = dpkg(&["-i"], &scratch.path("old.deb")) else {
        return;
    };
    assert!(root.join("usr/lib/crashdmesg/gone").exists());
    dpkg(&["-i"], &made);
    assert!(
        !root.join("usr/lib/crashdmesg/gone").exists() && root.join("usr/sbin/crashdmesg").exists()
    );
    // What crashdmesg-arm leaves on a machine.
    for file in [
        "etc/crashdmesg.conf",
        "etc/sysctl.d/60-crashdmesg.conf",
        "etc/default/grub.d/crashdmesg.cfg",
        "var/lib/crashdmesg/capture-6.1.img",
    ] {
        fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
        fs::write(root.join(file), "x").unwrap();
    }
    dpkg(&["-r"], Path::new("crashdmesg"));
    assert!(
        root.join("etc/crashdmesg.conf").exists() && root.join("etc/init.d/crashdmesg").exists()
    );
    assert!(
        !root.join("etc/sysctl.d/60-crashdmesg.conf").exists()
            && !root.join("usr/sbin/crashdmesg-arm").exists()
    );
    dpkg(&["-P"], Path::new("crashdmesg"));
    let mut after = tree(&root);
    after.retain(|path, _| !path.starts_with("var/lib/dpkg/") && !path.starts_with("var/log/"));
    let mut before = before;
    before.retain(|path, _| !path.starts_with("var/lib/dpkg/"));
    assert_same(&after, &before);
}

#[test]
fn the_rpm_package_is_the_installation_and_leaves_nothing_behind() {
    if !have(&["rpmbuild", "rpm", "busybox"]) {
        return;
    }
    let scratch = Scratch::new("rpm");
    let made = package(&scratch, "rpm");
    let mut expected = staged(&scratch, &[("WITHOUT", NOT_RPM)]);
    let licence = format!("usr/share/licenses/crashdmesg-{VERSION}/LICENSE");
    expected.insert(licence, "-rw-r--r--".to_owned());
    let format = "[%{FILEMODES:perms}|%{FILENAMES}|%{FILELINKTOS}|%{FILEUSERNAME}\\n]";
    let list = sh(&format!("rpm -qp --qf '{format}' \"$1\""), &[&made]);
    let mut files = Files::new();
    for line in list.lines() {
        let parts: Vec<&str> = line.split('|').collect();
        assert_eq!(parts[3], "root", "{line}");
        put(&mut files, parts[0], parts[1], parts[2]);
    }
    // Some distributions have it elsewhere.
    files.retain(|path, _| !path.ends_with("/LICENSE"));
    expected.retain(|path, _| !path.ends_with("/LICENSE"));
    assert_same(&files, &expected);
    let requires = sh("rpm -qp --requires \"$1\"", &[&made]);
    assert!(
        requires.contains("kexec-tools\n") && !requires.contains("busybox"),
        "{requires}"
    );

    let root = small_machine(&scratch, "root");
    let rpm = |arguments: &[&str], what: &Path| {
        let mut command = as_root("rpm")?;
        let command =
            command
                .arg("--root")
                .arg(&root)
                .args(["--dbpath", "/var/lib/rpm", "--nodeps"]);
        let output = command.args(arguments).arg(what).output().unwrap();
        Some(stdout(&output))
    };
    let before = tree(&root);
    let Some(_) = rpm(&["-i"], &made) else { return };
    assert!(root.join("usr/sbin/crashdmesg-arm").exists());
    rpm(&["-U", "--force"], &made);
    assert!(root.join("usr/lib/crashdmesg/lib.sh").exists());
    fs::create_dir_all(root.join("var/lib/crashdmesg/plan")).unwrap();
    rpm(&["-e"], Path::new("crashdmesg"));
    let keep = |files: Files| -> Files {
        files
            .into_iter()
            .filter(|(path, _)| !path.starts_with("var/lib/rpm/"))
            .collect()
    };
    assert_same(&keep(tree(&root)), &keep(before));
    assert!(!root.join("var/lib/crashdmesg").exists() && !root.join("usr/lib/crashdmesg").exists());
}

/// A copy of what packages are made from that its owner may build in: makepkg refuses to run as root.
fn sources_of_nobody(scratch: &Scratch) -> PathBuf {
    let copy = scratch.directory("sources");
    let text = "cd \"$1\"; cp -R Cargo.toml Cargo.lock README.md LICENSE initramfs qemu \"$2\"/; cp \"$3\" \"$2\"/binary
                mkdir \"$4\"; [ \"$(id -u)\" != 0 ] || chown -R 65534:65534 \"$2\" \"$4\"";
    let binary = binary(scratch);
    sh(
        text,
        &[Path::new(TOP), &copy, &binary, &scratch.path("out")],
    );
    copy
}

#[test]
fn the_arch_package_is_the_installation_and_leaves_nothing_behind() {
    if !have(&["makepkg", "fakeroot", "setpriv", "busybox"]) {
        return;
    }
    let scratch = Scratch::new("arch");
    let sources = sources_of_nobody(&scratch);
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
    }
    command
        .arg(sources.join("initramfs/package"))
        .args(["arch".as_ref(), scratch.path("out").as_os_str()])
        .env("BINARY", sources.join("binary"))
        .env("HOME", &sources);
    let made = the_package(&scratch, &command.output().unwrap());
    let mut files = listed(&sh("tar -tvf \"$1\"", &[&made]));
    for own in [".BUILDINFO", ".INSTALL", ".MTREE", ".PKGINFO"] {
        assert!(files.remove(own).is_some(), "{own}");
    }
    let settings = [("WITHOUT", NOT_ARCH), ("SBINDIR", "/usr/bin")];
    let mut expected = staged(&scratch, &settings);
    let licence = "usr/share/licenses/crashdmesg/LICENSE".to_owned();
    expected.insert(licence, "-rw-r--r--".to_owned());
    assert_same(&files, &expected);

    if !have(&["pacman"]) {
        return;
    }
    let root = small_machine(&scratch, "root");
    let database = root.join("var/lib/pacman");
    fs::create_dir_all(&database).unwrap();
    let before = tree(&root);
    let pacman = |arguments: &[&str], what: &Path| {
        let mut command = as_root("pacman")?;
        command
            .arg("--root")
            .arg(&root)
            .arg("--dbpath")
            .arg(&database);
        command.arg("--cachedir").arg(&root).args([
            "--logfile",
            "/dev/null",
            "--noconfirm",
            "--disable-download-timeout",
        ]);
        Some(stdout(&command.args(arguments).arg(what).output().unwrap()))
    };
    let Some(_) = pacman(&["-Udd"], &made) else {
        return;
    };
    assert!(root.join("usr/bin/crashdmesg-arm").exists());
    pacman(&["-Udd"], &made);
    fs::create_dir_all(root.join("var/lib/crashdmesg/plan")).unwrap();
    pacman(&["-Rdd"], Path::new("crashdmesg"));
    let mut after = tree(&root);
    after.retain(|path, _| !path.starts_with("var/lib/pacman/"));
    assert_same(&after, &before);
    assert!(!root.join("var/lib/crashdmesg").exists());
}

#[test]
fn an_installation_goes_over_itself_and_away_again() {
    let scratch = Scratch::new("with spaces");
    let destination = scratch.path("a tree");
    // The user's umask is not the package's.
    let text = format!("umask 077; exec sh '{TOP}/initramfs/install' \"$@\"");
    let run = |arguments: &[&str]| {
        let mut command = Command::new("sh");
        command.args(["-c", &text, "sh"]).args(arguments);
        command
            .env("DESTDIR", &destination)
            .env("PREFIX", "/opt/crash+1");
        stdout(&command.env("BINARY", binary(&scratch)).output().unwrap())
    };
    run(&[]);
    let first = tree(&destination);
    run(&[]);
    assert_same(&tree(&destination), &first);
    let modes = sh("cd \"$1\" && find . -type d ! -perm 755", &[&destination]);
    assert!(modes.is_empty() || modes == ".\n", "{modes}");
    // Nothing but what was put for /usr knows of /usr/lib/crashdmesg.
    for path in [
        "usr/lib/systemd/system/crashdmesg.service",
        "usr/lib/udev/rules.d/99-crashdmesg.rules",
        "etc/init.d/crashdmesg",
        "etc/network/if-up.d/90-crashdmesg",
    ] {
        let text = fs::read_to_string(destination.join(path)).unwrap();
        assert!(
            text.contains("/opt/crash+1/lib/crashdmesg/") && !text.contains("/usr/lib/crashdmesg"),
            "{path}: {text}"
        );
    }
    // What is somebody else's stays, in our directories, too.
    let theirs = destination.join("opt/crash+1/lib/crashdmesg/theirs");
    fs::write(&theirs, "").unwrap();
    run(&["--uninstall"]);
    let left: Vec<String> = tree(&destination).into_keys().collect();
    assert_eq!(left, ["opt/crash+1/lib/crashdmesg/theirs"]);
    fs::remove_file(theirs).unwrap();
    run(&["--uninstall"]);
    assert!(tree(&destination).is_empty());
}

#[test]
fn a_machine_is_as_before_after_install_and_uninstall() {
    if !have(&["busybox"]) {
        return;
    }
    let scratch = Scratch::new("live");
    let root = small_machine(&scratch, "root");
    let text = "cd \"$1\"; mkdir \"$2/src\"; cp -R README.md LICENSE initramfs qemu \"$2/src\"; cp \"$3\" \"$2/src/binary\"
                cd \"$2\"; mkdir -p etc/init.d etc/sysctl.d etc/default/grub.d usr/local/sbin usr/lib/systemd/system usr/lib/dracut/modules.d usr/share/initramfs-tools/hooks usr/share/initramfs-tools/scripts usr/local/lib usr/local/share/man var/lib";
    let binary = binary(&scratch);
    sh(text, &[Path::new(TOP), &root, &binary]);
    let directories = |root: &Path| sh("cd \"$1\" && find . -type d | sort", &[root]);
    let directories_before = directories(&root);
    let before = tree(&root);
    let inside = |text: &str| {
        let mut command = as_root("chroot")?;
        let output = command
            .arg(&root)
            .args(["/bin/sh", "-ec"])
            .arg(format!("export PATH=/bin BINARY=/src/binary; {text}"))
            .output();
        Some(stdout(&output.unwrap()))
    };
    let Some(_) = inside("cd /src && initramfs/install") else {
        return;
    };
    assert!(
        root.join("etc/init.d/crashdmesg").exists()
            && root
                .join("usr/local/share/man/man8/crashdmesg-arm.8")
                .exists()
    );
    assert!(
        !root.join("usr/lib/NetworkManager").exists() && !root.join("usr/lib/initcpio").exists()
    );
    let said = inside("/usr/local/sbin/crashdmesg; /usr/local/sbin/crashdmesg-arm --help").unwrap();
    assert!(
        said.starts_with("stands for crashdmesg\nUsage: crashdmesg-arm"),
        "{said}"
    );
    // BusyBox is all that the scripts need, and it makes the bytes that this machine's programs make.
    let build =
        "build --kernel 6.1 --network none --send udp://192.0.2.1 --compress gzip --quiet --output";
    inside(&format!(
        "mkdir -p /lib/modules/6.1; /usr/local/sbin/crashdmesg-{build} /capture.img; gunzip -c /capture.img >/capture"
    ));
    let here = format!(
        "{TOP}/initramfs/{build} \"$1\" --root \"$2\" --binary \"$2/src/binary\" --config /dev/null; gunzip -c \"$1\""
    );
    let image = scratch.path("capture.img");
    assert_eq!(
        sh(&here, &[&image, &root]),
        fs::read_to_string(root.join("capture")).unwrap()
    );
    inside("rm -r /lib /capture*");
    // What crashdmesg-arm leaves on a machine.
    let arm = "mkdir -p /var/lib/crashdmesg; : >/etc/crashdmesg.conf; : >/etc/sysctl.d/60-crashdmesg.conf; : >/etc/default/grub.d/crashdmesg.cfg";
    inside(arm);
    inside("cd /src && initramfs/install --uninstall");
    let mut expected = before.clone();
    for kept in ["etc/crashdmesg.conf", "etc/default/grub.d/crashdmesg.cfg"] {
        expected.insert(kept.to_owned(), "-rw-r--r--".to_owned());
    }
    assert_same(&tree(&root), &expected);
    inside("cd /src && initramfs/install && initramfs/install --uninstall --purge");
    assert_same(&tree(&root), &before);
    assert_eq!(directories(&root), directories_before);
}
