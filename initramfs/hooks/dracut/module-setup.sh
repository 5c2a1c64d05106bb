#!/bin/bash
# dracut module: puts crashdmesg into the kdump image (Fedora, RHEL, openSUSE), or where it is asked for (--add crashdmesg).

check() {
    # Of its own accord only in kdump's image, which has one of these modules; kdump-utils says so in the environment, too.
    [[ ${IN_KDUMP-} || " ${dracutmodules-} ${add_dracutmodules-} ${force_add_dracutmodules-} " =~ \ (kdumpbase|kdump)\  ]] && return 0
    return 255
}

depends() {
    return 0
}

# crashdmesg_plan: makes the plan once for both steps, and prints its directory.
crashdmesg_plan() {
    # Beside the tree that becomes the image, in dracut's own temporary directory.
    local plan=${initdir%/*}/crashdmesg-plan lib=/usr/lib/crashdmesg
    [[ -x $lib/build ]] || lib=/usr/local/lib/crashdmesg
    if [[ ! -s $plan/crashdmesg.conf ]]; then
        "$lib/hooks/plan" "$kernel" "$plan" >&2 || {
            derror "crashdmesg: no plan could be made, left out"
            return 1
        }
    fi
    echo "$plan"
}

installkernel() {
    local plan module
    plan=$(crashdmesg_plan) || return 0
    while read -r module _; do
        hostonly='' instmods "$module"
    done < "$plan/modules"
}

install() {
    local plan file lib=/usr/lib/crashdmesg
    [[ -x $lib/build ]] || lib=/usr/local/lib/crashdmesg
    plan=$(crashdmesg_plan) || return 0
    inst "$(readlink -f "$lib/../../sbin/crashdmesg")" /usr/sbin/crashdmesg
    inst_simple "$plan/crashdmesg.conf" /etc/crashdmesg.conf
    inst_simple "$plan/modules" /etc/crashdmesg.load
    [[ ! -s $plan/hosts ]] || inst_simple "$plan/hosts" /etc/crashdmesg.hosts
    # The client and the keys of an ssh:// target.
    while read -r file; do
        [[ -e $initdir/$file ]] || inst_simple "$plan/files/$file" "/$file"
    done < <(cd "$plan/files" && find . -type f -printf '%P\n')
    inst_script "$lib/hooks/ship" /usr/lib/crashdmesg/ship
    # kdump-utils runs this before the dump, when its own network is up: the second try, if one is needed.
    ! dracut_module_included kdumpbase || inst_script "$lib/hooks/ship" /etc/kdump/pre.d/crashdmesg
    inst_multiple modprobe
    # Before anything that asks for a root file system: the text needs none.
    inst_hook cmdline 01 "$moddir/crashdmesg-hook.sh"
}
