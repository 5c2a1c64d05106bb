# shellcheck shell=sh
# The machine's network as it is now, written as configuration for the capture kernel. Sourced by build, after lib.sh.
#
#   eth0.100 (VLAN) -> bond0 -> eth0, eth1         every layer's driver, and the bus under each port (virtio, USB, VMBus);
#   br0 -> eth0, vnet3                             a bridge or macvlan only forwards: its first physical port is used instead
#
# Everything is read from sysfs and ip(8); nothing is changed.

SYS=${CRASHDMESG_SYS:-/sys}

# url_host URL: the host between :// or @ and the port; brackets of IPv6 removed. Nothing for file:, exec:, /dev/...
url_host() {
    case $1 in *://*) ;; *) return 0 ;; esac
    h=${1#*://} h=${h%%[/?#]*} h=${h##*@}
    case $h in
    \[*) h=${h#\[} h=${h%%\]*} ;;
    *) h=${h%%:*} ;;
    esac
    printf '%s\n' "$h"
}

# resolve HOST: its first address, IPv4 preferred; an address stays as it is.
resolve() {
    case $1 in *:* | [0-9]*.[0-9]*.[0-9]*.[0-9]*) printf '%s\n' "$1"; return 0 ;; esac
    { getent ahostsv4 "$1" 2>/dev/null || getent ahosts "$1" 2>/dev/null; } | awk '{print $1; exit}' | grep .
}

# net_interface NAME TARGETS: sets NET_INTERFACE, NET_ADDRESS (its source address), NET_GATEWAY, NET_PEER.
net_interface() {
    NET_INTERFACE=$1 NET_ADDRESS='' NET_GATEWAY='' NET_PEER=''
    for url in $2; do
        host=$(url_host "$url"); [ -n "$host" ] || continue
        NET_PEER=$(resolve "$host") && break
        warn "cannot resolve $host now; the capture kernel will have to"
    done
    command -v ip >/dev/null || { [ -n "$NET_INTERFACE" ] || warn "ip is not installed: no network is recorded"; return 0; }
    if [ -n "$NET_PEER" ]; then
        route=$(ip -o route get "$NET_PEER" ${NET_INTERFACE:+oif "$NET_INTERFACE"} 2>/dev/null | head -n 1) || route=
        case $route in local*) warn "$NET_PEER is this machine itself" ; return 0 ;; esac
    else
        route=$(ip -o -4 route show default ${NET_INTERFACE:+dev "$NET_INTERFACE"} 2>/dev/null | head -n 1) || route=
        [ -n "$route" ] || route=$(ip -o -6 route show default ${NET_INTERFACE:+dev "$NET_INTERFACE"} 2>/dev/null | head -n 1) || route=
    fi
    NET_GATEWAY=$(printf '%s' "$route" | sed -n 's/.* via \(inet6 \)\{0,1\}\([^ ]*\).*/\2/p')
    [ -n "$NET_INTERFACE" ] || NET_INTERFACE=$(printf '%s' "$route" | sed -n 's/.* dev \([^ ]*\).*/\1/p')
    NET_ADDRESS=$(printf '%s' "$route" | sed -n 's/.* src \([^ ]*\).*/\1/p')
    [ -n "$NET_INTERFACE" ] || warn "no route leads to ${NET_PEER:-the default gateway}: no network is recorded"
    [ -z "$NET_INTERFACE" ] || [ -e "$SYS/class/net/$NET_INTERFACE" ] || die "there is no interface $NET_INTERFACE"
}

# net_drivers DEVICE: the modules that drive a sysfs device and every bus device above it, the bus first.
net_drivers() {
    dev=$(readlink -f "$1") drivers= || return 0
    while [ "$dev" != / ] && [ "$dev" != "$SYS" ]; do
        [ ! -e "$dev/driver/module" ] || drivers="$(basename "$(readlink -f "$dev/driver/module")") $drivers"
        dev=$(dirname "$dev")
    done
    printf '%s' "$drivers"
}

# net_ports INTERFACE: the interfaces directly below it.
net_ports() {
    for lower in "$SYS/class/net/$1"/lower_*; do [ -e "$lower" ] && printf '%s\n' "${lower##*/lower_}"; done
    return 0
}

# net_walk INTERFACE: sets NET_PORT (what carries the address in the capture kernel), NET_VLAN, NET_BOND, NET_MODULES.
net_walk() {
    d=$SYS/class/net/$1
    if [ -f "$d/bonding/slaves" ]; then
        NET_BOND=$1 NET_SLAVES=$(cat "$d/bonding/slaves") NET_MODULES="bonding $NET_MODULES"
        NET_MODE=$(sed 's/ .*//' "$d/bonding/mode")
        for s in $NET_SLAVES; do net_walk "$s"; done
    elif grep -qs '^DEVTYPE=vlan' "$d/uevent"; then
        NET_MODULES="8021q $NET_MODULES"
        NET_VLAN=$(sed -n 's/.*VID: \([0-9]*\).*/\1/p' "${CRASHDMESG_PROC:-/proc}/net/vlan/$1" 2>/dev/null | head -n 1)
        [ -n "$NET_VLAN" ] || NET_VLAN=$(ip -d -o link show "$1" | sed -n 's/.* vlan .*id \([0-9]*\) .*/\1/p')
        for p in $(net_ports "$1"); do net_walk "$p"; break; done
    elif [ -e "$d/device" ]; then
        NET_PORT=$1
        NET_MODULES="$NET_MODULES $(net_drivers "$d/device")"
        [ ! -e "$d/phydev" ] || NET_MODULES="$NET_MODULES $(net_drivers "$d/phydev")"
        # netvsc: the SR-IOV function that carries its traffic is a lower device.
        for p in $(net_ports "$1"); do NET_MODULES="$NET_MODULES $(net_drivers "$SYS/class/net/$p/device")"; done
    else
        for p in $(net_ports "$1"); do
            below=$NET_PORT; net_walk "$p"
            [ "$NET_PORT" = "$below" ] || return 0 # a port with hardware under it
        done
        warn "$1 has no hardware below it that could be used"
    fi
}

# net_record HOW CONF: appends the configuration of NET_INTERFACE to CONF; sets NET_MODULES and NET_SUMMARY.
net_record() {
    NET_PORT='' NET_VLAN='' NET_BOND='' NET_SLAVES='' NET_MODE='' NET_MODULES=''
    net_walk "$NET_INTERFACE"
}
net_hosts() { :; }
target_modules() { :; }
target_files() { :; }
