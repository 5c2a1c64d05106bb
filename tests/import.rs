//! Settings of other systems' kdump, translated by `initramfs/import`: each keyword and setting that their manuals have is
//! translated or named, and what is written is a configuration that the program takes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A directory of its own for each call.
fn scratch() -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let path =
        std::env::temp_dir().join(format!("crashdmesg-import-{}-{count}", std::process::id()));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

/// Runs `import` on one file: the configuration, and what has no equivalent.
fn import(text: &str) -> (String, String) {
    let scratch = scratch();
    let file = scratch.join("settings");
    fs::write(&file, text).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("initramfs/import");
    let output = Command::new("sh").arg(script).arg(&file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    fs::remove_dir_all(scratch).unwrap();
    let conf = String::from_utf8(output.stdout).unwrap();
    (conf.split_once('\n').unwrap().1.to_owned(), said)
}

/// What `import` writes is a configuration that the program takes.
fn assert_valid(conf: &str) {
    let scratch = scratch();
    let file = scratch.join("conf");
    fs::write(&file, conf).unwrap();
    let check = Command::new(env!("CARGO_BIN_EXE_crashdmesg"))
        .arg("--check-config")
        .arg(&file)
        .output();
    assert!(
        check.as_ref().unwrap().status.success(),
        "{check:?}\n{conf}"
    );
    fs::remove_dir_all(scratch).unwrap();
}

#[test]
fn kdump_conf_is_translated() {
    let (conf, said) = import(
        "# RHEL\nnfs filer.example:/export/tmp\npath /var/crash\ncore_collector makedumpfile -l -d 31\n\
         final_action poweroff\nfailure_action shell\nlink_delay 60\nkdump_pre /bin/pre\n",
    );
    let expected = "send = nfs://filer.example/export/tmp/var/crash/?export=/export/tmp\nfinal = poweroff\n\
                    net-timeout = 60\n";
    assert_eq!(conf, expected);
    assert!(
        said.contains("core_collector") && said.contains("kdump_pre /bin/pre"),
        "{said}"
    );
    assert_valid(&conf);
    let (conf, _) = import("ssh me@collector.example\nsshkey /root/.ssh/kdump\n");
    assert!(
        conf.starts_with(
            "send = ssh://me@collector.example/var/crash/\nssh-key = /root/.ssh/kdump\n"
        ),
        "{conf}"
    );
    assert_valid(&conf);
}

#[test]
fn kdump_conf_is_read_as_kdump_reads_it() {
    // Comments behind a value, quotes, tabs; IPv6 with brackets for NFS and without for SSH.
    let (conf, _) =
        import("  nfs\t[2001:db8::7]:/export   # the filer\n#path /old\npath \"/crash\"\n");
    assert_eq!(
        conf,
        "send = nfs://[2001:db8::7]/export/crash/?export=/export\n"
    );
    assert_valid(&conf);
    let (conf, _) = import("ssh me@2001:db8::8\npath /d\n");
    assert!(
        conf.starts_with("send = ssh://me@[2001:db8::8]/d/\n"),
        "{conf}"
    );
    assert_valid(&conf);
}

/// Asserts that each of these settings alone, and with them none that the documentation of their program has, is called
/// unknown: each is translated, or named with the reason why not.
fn assert_known(settings: &[&str], silent: &[&str]) {
    for setting in settings {
        let (conf, said) = import(&format!("{setting}\n"));
        for unknown in ["unknown keyword", "no equivalent\n", "not understood"] {
            assert!(!said.contains(unknown), "{setting}: {said}");
        }
        let is_silent = silent.iter().any(|name| setting.starts_with(name));
        assert!(
            is_silent || !conf.is_empty() || !said.is_empty(),
            "{setting}: neither translated nor named"
        );
        assert!(
            conf.is_empty() || !conf.contains("send =") || {
                assert_valid(&conf);
                true
            }
        );
    }
}

#[test]
fn every_keyword_of_kdump_conf_is_translated_or_named() {
    let keywords = [
        "auto_reset_crashkernel yes",
        "raw /dev/vg/dump",
        "nfs host:/export",
        "ssh user@host",
        "sshkey /root/.ssh/id",
        "ext4 LABEL=/boot",
        "ext3 /dev/sda3",
        "ext2 /dev/sda3",
        "xfs UUID=1-2",
        "btrfs /dev/sdb",
        "minix /dev/sdc",
        "virtiofs myfs",
        "path /var/crash",
        "core_collector scp",
        "kdump_post /bin/post",
        "kdump_pre /bin/pre",
        "extra_bins /usr/bin/lftp",
        "extra_modules gfs2 nic",
        "options nic rings=4",
        "failure_action dump_to_rootfs",
        "failure_action shell",
        "default halt",
        "final_action poweroff",
        "force_rebuild 1",
        "force_no_rebuild 1",
        "override_resettable 1",
        "dracut_args --add-drivers ext2",
        "dracut_args --mount \"host:/e /mnt nfs defaults\"",
        "fence_kdump_args -p 7410",
        "fence_kdump_nodes node1 node2",
        "link_delay 30",
        "net user@host",
        "net host:/export",
        "blacklist gfs2",
        "disk_timeout 60",
        "debug_mem_level 3",
    ];
    assert_known(&keywords, &["path ", "sshkey "]);
}

#[test]
fn every_setting_of_suses_kdump_is_translated_or_named() {
    let settings = [
        "KDUMP_KERNELVER=\"6.4.0-default\"",
        "KDUMP_CPUS=1",
        "KDUMP_COMMANDLINE=\"root=/dev/sda1\"",
        "KDUMP_COMMANDLINE_APPEND=\"net_delay=20\"",
        "KDUMP_AUTO_RESIZE=\"false\"",
        "KDUMP_FADUMP=\"false\"",
        "KDUMP_FADUMP_SHELL=\"false\"",
        "KEXEC_OPTIONS=\"-s\"",
        "MAKEDUMPFILE_OPTIONS=\"-X\"",
        "KDUMP_IMMEDIATE_REBOOT=\"true\"",
        "KDUMP_TRANSFER=\"/bin/mine\"",
        "KDUMP_SAVEDIR=\"/var/crash\"",
        "KDUMP_SAVEDIR=\"file:///var/crash\"",
        "KDUMP_SAVEDIR=\"cifs://u:p@host/share\"",
        "KDUMP_SAVEDIR=\"smb://host/share\"",
        "KDUMP_KEEP_OLD_DUMPS=5",
        "KDUMP_FREE_DISK_SIZE=64",
        "KDUMP_VERBOSE=3",
        "KDUMP_DUMPLEVEL=31",
        "KDUMP_DUMPFORMAT=\"zstd\"",
        "KDUMP_CONTINUE_ON_ERROR=\"true\"",
        "KDUMP_REQUIRED_PROGRAMS=\"/bin/a /bin/b\"",
        "KDUMP_PRESCRIPT=\"/bin/a\"",
        "KDUMP_POSTSCRIPT=\"/bin/b\"",
        "KDUMP_COPY_KERNEL=\"yes\"",
        "KDUMPTOOL_FLAGS=\"\"NOSPARSE",
        "KDUMP_NETCONFIG=\"auto\"",
        "KDUMP_NETCONFIG=\"auto:force\"",
        "KDUMP_NETCONFIG=\"eth0:static\"",
        "KDUMP_NETCONFIG=\"eth0:dhcp\"",
        "KDUMP_NETCONFIG=\"eth0:dhcp4:force\"",
        "KDUMP_NETCONFIG=\"default:dhcp6\"",
        "KDUMP_NETCONFIG=\"eth0:auto6\"",
        "KDUMP_NET_TIMEOUT=30",
        "KDUMP_NET_TIMEOUT=0",
        "KDUMP_SMTP_SERVER=\"relay:25\"",
        "KDUMP_SMTP_USER=\"me\"",
        "KDUMP_SMTP_PASSWORD=\"secret\"",
        "KDUMP_NOTIFICATION_TO=\"root@example.org\"",
        "KDUMP_NOTIFICATION_CC=\"a@example.org\"",
        "KDUMP_HOST_KEY=\"*\"",
        "KDUMP_SSH_IDENTITY=\"id_kdump\"",
    ];
    // What is as it would be anyway, an empty value, and the relay without an address.
    let silent = [
        "KDUMP_NETCONFIG=\"auto",
        "KDUMPTOOL_FLAGS=\"\"",
        "KDUMP_SMTP_SERVER",
    ];
    assert_known(&settings, &silent);
}

#[test]
fn every_form_of_suses_savedir_names_a_directory() {
    for (url, send) in [
        ("ftp://h/var/crash", "ftp://h/var/crash/"),
        ("ftp://u:p@h:123/var/crash/", "ftp://u:p@h:123/var/crash/"),
        (
            "nfs://10.0.0.1/var/crash",
            "nfs://10.0.0.1/var/crash/?export=/var/crash",
        ),
        (
            "ssh://kdump@h:2222/srv/dump",
            "ssh://kdump@h:2222/srv/dump/",
        ),
        ("ssh://kdump:secret@h/srv", "ssh://kdump@h/srv/"),
        ("sftp://dump@h:22/srv", "ssh://dump@h:22/srv/"),
        ("scp://h/srv", "ssh://h/srv/"),
        ("SSH://h/srv", "ssh://h/srv/"),
    ] {
        let text = format!("KDUMP_SAVEDIR=\"{url}\" # where\nKDUMP_SSH_IDENTITY=/k\n");
        let (conf, said) = import(&text);
        assert!(conf.contains(&format!("send = {send}\n")), "{url}: {conf}");
        assert!(!conf.contains("secret"), "{conf}");
        assert_eq!(
            said.contains("a password is not used"),
            url.contains("secret")
        );
        assert_valid(&conf);
    }
}

#[test]
fn sysconfig_kdump_is_translated() {
    let (conf, said) = import(
        "KDUMP_SAVEDIR=\"ftp://user:pw@192.0.2.1:2121/var/crash file:///var/crash\"\nKDUMP_NETCONFIG=\"eth0:dhcp4\"\n\
         KDUMP_IMMEDIATE_REBOOT=\"no\"\nKDUMP_DUMPLEVEL=\"31\"\nKDUMP_NOTIFICATION_TO=\"root@example.org\"\n\
         KDUMP_SMTP_SERVER=\"relay.example:26\"\nKDUMP_COMMANDLINE_APPEND=\"cio_ignore=all\"\n",
    );
    let mut lines: Vec<&str> = conf.lines().collect();
    lines.sort_unstable();
    let expected = [
        "final = shell",
        "ip = dhcp",
        "send = ftp://user:pw@192.0.2.1:2121/var/crash/",
        "send = smtp://relay.example:26/root@example.org",
    ];
    assert_eq!(lines, expected);
    for word in [
        "file:///var/crash",
        "KDUMP_DUMPLEVEL",
        "--interface eth0",
        "cio_ignore=all",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_valid(&conf);
}

#[test]
fn kdump_tools_settings_are_translated() {
    let (conf, said) = import(
        "USE_KDUMP=1\nKDUMP_COREDIR=\"/var/crash\"\nSSH=\"kdump@netcrash\"\nSSH_KEY=/root/.ssh/key\n\
         NFS=\"netcrash:/var/nfs\"\nHOSTTAG=\"ip\"\nMAKEDUMP_ARGS=\"-c -d 31\"\n\
         FTP=\"ftp.example:incoming\"\nFTP_USER=u\nFTP_PASSWORD=p\nFTP_PORT=2121\nNFS_TIMEO=\"600\"\n\
         KDUMP_COMPRESSION=\nKDUMP_NUM_DUMPS=3\nKDUMP_FAIL_CMD=\"reboot -f\"\n",
    );
    for line in [
        "send = ssh://kdump@netcrash/var/crash/\n",
        "ssh-key = /root/.ssh/key\n",
        "send = nfs://netcrash/var/nfs/?export=/var/nfs\n",
        "send = ftp://u:p@ftp.example:2121/incoming/\n",
        "final = reboot\n",
    ] {
        assert!(conf.contains(line), "{conf}");
    }
    for name in ["HOSTTAG", "MAKEDUMP_ARGS", "NFS_TIMEO", "KDUMP_NUM_DUMPS"] {
        assert!(said.contains(name), "{said}");
    }
    assert_valid(&conf);
}

#[test]
fn kdumpst_settings_are_named_one_by_one() {
    let settings = [
        "USE_PSTORE_RAM=1",
        "PSTORE_MEM_AMOUNT=5242880",
        "PSTORE_RECORD_SZ=2097152",
        "MOUNT_FOLDER=\"/home/.kdumpst\"",
        "FULL_COREDUMP=0",
        "MAKEDUMPFILE_COREDUMP_CMD=\"-z -d 31\"",
        "MAKEDUMPFILE_DMESG_CMD=\"--dump-dmesg\"",
        "KDUMP_APPEND_CMDLINE=\"panic=-1 nr_cpus=1\"",
        "GRUB_AUTOSET=1",
        "GRUB_BOOT_FILE=\"/boot/grub.cfg\"",
        "GRUB_CFG_FILE=\"/etc/default/grub\"",
        "GRUB_CMDLINE=\"crashkernel=256M \"",
    ];
    let (conf, said) = import(&settings.join("\n"));
    assert_eq!(conf, "");
    for setting in settings {
        let name = setting.split('=').next().unwrap();
        assert!(said.contains(name), "{name}: {said}");
    }
    assert!(said.contains("loads no capture kernel"), "{said}");
}
