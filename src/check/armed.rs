//! What was armed, against the machine as it is now: the image, the drivers and the addresses in it.
//!
//! `crashdmesg-arm` leaves in `/var/lib/crashdmesg`, for each kernel VERSION:
//!
//! ```text
//! capture-VERSION.img          the image that was loaded
//! capture-VERSION.plan/        what build put into it: crashdmesg.conf, modules ("NAME OPTIONS" lines), hosts
//! ```
//!
//! The hooks in the image of a distribution's own kdump leave the plan alone; the image is then where that kdump has it.

use std::net::IpAddr;

use crate::config::ip::Method;
use crate::config::{Config, Interface, Settings};

use super::{Findings, Root};

const STATE: &str = "/var/lib/crashdmesg";

/// Where the image of a kernel is.
pub fn image_path(release: &str) -> String {
    format!("{STATE}/capture-{release}.img")
}

fn plan_path(release: &str) -> String {
    format!("{STATE}/capture-{release}.plan")
}

/// The configuration in the image, if there is a plan.
pub fn config(root: &Root) -> Option<Config> {
    let release = root.read("/proc/sys/kernel/osrelease")?;
    let path = root.path(&format!("{}/crashdmesg.conf", plan_path(&release)));
    let mut settings = Settings::default();
    settings.read_file(&path).ok()?;
    Some(settings.config())
}

/// The image of the distribution's own kdump that crashdmesg has joined, where there is no image of ours.
pub fn kdump_image(root: &Root) -> Option<String> {
    let release = root.read("/proc/sys/kernel/osrelease")?;
    if root.exists(&image_path(&release)) || !root.exists(&plan_path(&release)) {
        return None;
    }
    let candidates = [
        format!("/var/lib/kdump/initrd.img-{release}"), // Debian, Ubuntu
        format!("/boot/initramfs-{release}kdump.img"),  // Fedora, RHEL
        format!("/var/lib/kdump/initramfs-{release}kdump.img"),
        "/var/lib/kdump/initrd".to_owned(), // openSUSE
    ];
    candidates.into_iter().find(|path| root.exists(path))
}

/// Whether the image is there, for this kernel, and no older than what it was made from.
pub fn image(root: &Root, findings: &mut Findings) {
    let release = root.read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let time = |path: &str| {
        let meta = std::fs::metadata(root.path(path));
        meta.and_then(|meta| meta.modified()).ok()
    };
    let (path, fix) = match kdump_image(root) {
        Some(path) => (path, "crashdmesg-arm --kdump"),
        None => (image_path(&release), "crashdmesg-arm"),
    };
    let Some(made) = time(&path) else {
        findings.error(
            format!("there is no capture image of kernel {release} ({path})"),
            fix,
        );
        return;
    };
    if time(&plan_path(&release)).is_some_and(|planned| planned > made) {
        findings.error(format!("{path} was made without crashdmesg"), fix);
    }
    if time(crate::config::CONFIG_FILE).is_some_and(|changed| changed > made) {
        findings.error(
            "the configuration was changed after the image was made",
            fix,
        );
    }
}

/// Whether the interface that the image will look for is here, with its driver and address in the image.
pub fn network(root: &Root, findings: &mut Findings) {
    let Some(config) = config(root) else {
        return;
    };
    let names = root.names("/sys/class/net");
    for wanted in std::iter::once(&config.interface).chain(&config.bond) {
        let here = match wanted {
            Interface::Auto => continue,
            Interface::Name(name) => names.iter().find(|other| *other == name),
            Interface::Mac(mac) => {
                let mac = mac.to_string();
                // A bridge or bond shows its port's address, too; the port is the one with a device.
                let has = |name: &&String| {
                    let class = format!("/sys/class/net/{name}");
                    let is = |file: &str| {
                        root.read(&format!("{class}/{file}")).as_deref() == Some(mac.as_str())
                    };
                    is("address") || is("bonding_slave/perm_hwaddr")
                };
                let device = |name: &&String| root.exists(&format!("/sys/class/net/{name}/device"));
                let mut having = names.iter().filter(has).collect::<Vec<_>>();
                having.sort_by_key(|name| !device(name));
                having.first().copied()
            }
        };
        match here {
            None => findings.error(
                format!(
                    "the image wants the network interface {wanted}, which is not here any more"
                ),
                "crashdmesg-arm",
            ),
            Some(name) => driver(root, name, findings),
        }
    }
    super::layers::check(root, &config, findings);
    for option in &config.ip {
        if let Method::Static { address, .. } = option.method
            && !addresses().contains(&address)
        {
            findings.error(
                format!(
                    "the image has the address {address}, which this machine does not have any more"
                ),
                "crashdmesg-arm",
            );
        }
    }
}

/// Whether every module that drives an interface, and the bus under it, is in the image.
fn driver(root: &Root, interface: &str, findings: &mut Findings) {
    let release = root.read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let plan = root
        .read(&format!("{}/modules", plan_path(&release)))
        .unwrap_or_default();
    let in_image = |module: &str| {
        plan.lines()
            .any(|line| line.split(' ').next() == Some(module))
    };
    let Ok(mut device) = root
        .path(&format!("/sys/class/net/{interface}/device"))
        .canonicalize()
    else {
        return;
    };
    loop {
        // What is built in may have a directory in /sys/module, too, but never came or goes.
        if let Ok(module) = device.join("driver/module").canonicalize()
            && module.join("initstate").exists()
        {
            let module = module
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .replace('-', "_");
            if !in_image(&module) {
                findings.error(
                    format!("the module {module}, which drives {interface}, is not in the image"),
                    "crashdmesg-arm",
                );
            }
        }
        if !device.pop() || device == root.path("/sys").canonicalize().unwrap_or_default() {
            return;
        }
    }
}

/// The addresses of this machine: those that a socket can be bound to.
fn addresses() -> AddressTest {
    AddressTest
}

/// Asks the kernel instead of listing: no netlink, no parsing.
struct AddressTest;

impl AddressTest {
    fn contains(&self, address: &IpAddr) -> bool {
        std::net::UdpSocket::bind((*address, 0)).is_ok()
    }
}
