# shellcheck shell=sh
# The machine's network as it is now, written as configuration for the capture kernel. Sourced by build, after lib.sh.
#
#   eth0.100 (VLAN) -> bond0 -> eth0, eth1         every layer's driver, and the bus under each port (virtio, USB, VMBus);
#   br0 -> eth0, vnet3                             a bridge or macvlan only forwards: its first physical port is used instead
#   team0 -> eth0, eth1                            made a bond
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

# net_drivers DEVICE: the modules that drive a sysfs device and every bus device above it, the bus first. A driver that is
# built into this kernel (it has no initstate) may be a module in another one: its name is then given with a question mark.
net_drivers() {
    dev=$(readlink -f "$1") drivers= || return 0
    while [ "$dev" != / ] && [ "$dev" != "$SYS" ]; do
        if [ -e "$dev/driver/module/initstate" ]; then drivers="$(basename "$(readlink -f "$dev/driver/module")") $drivers"
        elif [ -e "$dev/driver" ]; then drivers="?$(basename "$(readlink -f "$dev/driver")") $drivers"; fi
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
        id=$(sed -n 's/.*VID: \([0-9]*\).*/\1/p' "${CRASHDMESG_PROC:-/proc}/net/vlan/$1" 2>/dev/null | head -n 1)
        details=$(ip -d -o link show "$1" 2>/dev/null) || details=
        [ -n "$id" ] || id=$(printf '%s' "$details" | sed -n 's/.* vlan .*id \([0-9]*\) .*/\1/p')
        case $details in *" vlan protocol 802.1ad "*) id=802.1ad:$id ;; esac
        NET_VLAN=$id${NET_VLAN:+,$NET_VLAN} # from the cable upwards
        for p in $(net_ports "$1"); do net_walk "$p"; break; done
    elif [ -e "$d/device" ]; then
        NET_PORT=$1
        NET_MODULES="$NET_MODULES $(net_drivers "$d/device")"
        [ ! -e "$d/phydev" ] || NET_MODULES="$NET_MODULES $(net_drivers "$d/phydev")"
        # netvsc: the SR-IOV function that carries its traffic is a lower device.
        for p in $(net_ports "$1"); do NET_MODULES="$NET_MODULES $(net_drivers "$SYS/class/net/$p/device")"; done
    elif ip -d -o link show "$1" 2>/dev/null | grep -q '[\ ] team \{0,1\}'; then
        NET_BOND=$1 NET_SLAVES=$(net_ports "$1" | tr '\n' ' ') NET_MODULES="bonding $NET_MODULES"
        case $(teamdctl "$1" config dump noports 2>/dev/null | tr -d ' \n') in
        *'"name":"lacp"'*) NET_MODE=802.3ad ;;
        *'"name":"loadbalance"'* | *'"name":"roundrobin"'*) NET_MODE=balance-xor ;;
        *'"name":"broadcast"'*) NET_MODE=broadcast ;;
        *) NET_MODE=active-backup ;;
        esac
        for s in $NET_SLAVES; do net_walk "$s"; done
    else
        for p in $(net_ports "$1"); do
            net_walk "$p"
            [ -z "$NET_PORT" ] || return 0 # a port with hardware under it
        done
    fi
}

# net_twin INTERFACE: walks the hardware that has the same address, for what links to nothing below it (Open vSwitch).
net_twin() {
    for d in "$SYS"/class/net/*; do
        p=${d##*/}
        [ "$p" != "$1" ] && [ -e "$d/device" ] && [ "$(cat "$d/address")" = "$(cat "$SYS/class/net/$1/address")" ] || continue
        [ ! -e "$d/bonding_slave" ] || p=$(basename "$(readlink -f "$d/master")")
        net_walk "$p"
        return 0
    done
}

# net_mac INTERFACE: its permanent Ethernet address; a bond's port or a changed address shows another one now.
net_mac() {
    mac=$(cat "$SYS/class/net/$1/bonding_slave/perm_hwaddr" 2>/dev/null) && [ -n "$mac" ] ||
        mac=$(ip -o link show "$1" 2>/dev/null | sed -n 's/.* permaddr \([0-9a-f:]*\).*/\1/p')
    [ -n "$mac" ] || mac=$(cat "$SYS/class/net/$1/address" 2>/dev/null)
    printf '%s\n' "$mac"
}

# net_set CONF KEY VALUE: one setting, unless the configuration has made it already.
net_set() {
    grep -q "^[[:space:]]*$2[[:space:]]*=" "$1" || printf '%s = %s\n' "$2" "$3" >>"$1"
}

# net_bracketed ADDRESS: IPv6 between brackets, as ip= wants it.
net_bracketed() { case $1 in *:*) printf '[%s]' "$1" ;; *) printf '%s' "$1" ;; esac; }

# net_record HOW CONF TARGETS: appends what CONF does not say about NET_INTERFACE; sets NET_MODULES and NET_SUMMARY.
net_record() {
    NET_PORT='' NET_VLAN='' NET_BOND='' NET_SLAVES='' NET_MODE='' NET_MODULES=''
    net_walk "$NET_INTERFACE"
    [ -n "$NET_PORT" ] || net_twin "$NET_INTERFACE"
    if [ -z "$NET_PORT" ]; then
        warn "$NET_INTERFACE has no hardware below it that could be used"
        NET_SUMMARY="none below $NET_INTERFACE"
    elif [ -n "$NET_BOND" ]; then
        ports=
        for s in $NET_SLAVES; do ports="$ports${ports:+,}$(net_mac "$s")"; done
        net_set "$2" bond "$ports"; NET_SUMMARY="bond of $NET_SLAVES"
        # What the switch was told of must go on; the other modes are this machine's own affair.
        case $NET_MODE in
        active-backup | balance-tlb | balance-alb) ;;
        *) net_set "$2" bond-mode "$NET_MODE"; NET_SUMMARY="$NET_MODE $NET_SUMMARY" ;;
        esac
    elif [ "$(cat "$SYS/class/net/$NET_PORT/addr_assign_type" 2>/dev/null)" = 1 ]; then
        # Chosen by chance at each boot, as by a virtual function whose host gave it none: no way to know it again.
        NET_SUMMARY="any interface ($NET_PORT now)"
    else
        net_set "$2" interface "$(net_mac "$NET_PORT")"
        NET_SUMMARY="$(net_mac "$NET_PORT") ($NET_PORT now)"
    fi
    [ -z "$NET_VLAN" ] || { net_set "$2" vlan "$NET_VLAN"; NET_SUMMARY="$NET_SUMMARY, VLAN $NET_VLAN"; }
    mtu=$(cat "$SYS/class/net/$NET_INTERFACE/mtu" 2>/dev/null || echo 1500)
    [ "$mtu" = 1500 ] || net_set "$2" mtu "$mtu"
    if [ "$1" = dhcp ]; then
        net_set "$2" ip dhcp; NET_SUMMARY="$NET_SUMMARY, DHCP"
        return 0
    fi
    [ -n "$NET_ADDRESS" ] || NET_ADDRESS=$(ip -o addr show dev "$NET_INTERFACE" scope global 2>/dev/null | awk '{sub(/\/.*/, "", $4); print $4; exit}')
    if [ -z "$NET_ADDRESS" ]; then
        warn "$NET_INTERFACE has no address now: the capture kernel will ask by DHCP"
        net_set "$2" ip dhcp; NET_SUMMARY="$NET_SUMMARY, DHCP"
        return 0
    fi
    NET_ADDRESS=$(net_lasting "$NET_ADDRESS")
    own=1; ! grep -q '^[[:space:]]*ip[[:space:]]*=' "$2" || own=''
    recorded='' families=''
    net_address "$NET_ADDRESS" "$2"
    for url in $3; do
        host=$(url_host "$url"); [ -n "$host" ] && peer=$(resolve "$host") || continue
        way=$(ip -o route get "$peer" 2>/dev/null | head -n 1) || continue
        via=$(printf '%s' "$way" | sed -n 's/.* via \(inet6 \)\{0,1\}\([^ ]*\).*/\2/p')
        dev=$(printf '%s' "$way" | sed -n 's/.* dev \([^ ]*\).*/\1/p')
        from=$(printf '%s' "$way" | sed -n 's/.* src \([^ ]*\).*/\1/p')
        if [ "$dev" != "$NET_INTERFACE" ]; then
            warn "$host is reached through ${dev:-nothing} now, but the image has $NET_INTERFACE alone"
            continue
        fi
        # The other family's address, or that of another network on this interface.
        [ -z "$from" ] || net_address "$(net_lasting "$from")" "$2"
        bits=32 family=-4; case $peer in *:*) bits=128 family=-6 ;; esac
        case " $gateways " in *" $via "*) [ -z "$via" ] || continue ;; esac
        # A neighbour needs a route only where no address of ours has it in its network.
        [ -n "$via" ] || [ -z "$(ip -o $family route show match "$peer" dev "$dev" protocol kernel 2>/dev/null)" ] || continue
        grep -q "^route = $peer/" "$2" || printf 'route = %s/%s%s\n' "$peer" $bits "${via:+ via $via}" >>"$2"
    done
    return 0
}

# net_lasting ADDRESS: itself; for a temporary IPv6 address (RFC 8981), which is another one tomorrow, the lasting one
# that looks most like it.
net_lasting() {
    ip -o -6 addr show dev "$NET_INTERFACE" scope global 2>/dev/null | awk -v a="$1" '
    { sub(/\/.*/, "", $4) }
    $4 == a { temporary = / temporary / }
    !/ (temporary|deprecated|tentative|dadfailed) / { lasting[++n] = $4 }
    END {
        if (temporary) for (i = 1; i <= n; i++) {
            for (same = 0; same < length(a) && substr(a, 1, same + 1) == substr(lasting[i], 1, same + 1); same++);
            if (same > most) { most = same; best = lasting[i] }
        }
        print (best != "" ? best : a)
    }'
}

# net_address ADDRESS CONF: records it once, with its prefix, and with the default gateway when it is the first of its family.
net_address() {
    case " $recorded " in *" $1 "*) return 0 ;; esac
    recorded="$recorded $1"
    prefix=$(ip -o addr show dev "$NET_INTERFACE" | awk -v a="$1" '{split($4, x, "/")} x[1] == a {print x[2]; exit}')
    family=-4; case $1 in *:*) family=-6 ;; esac
    gateway=
    case " $families " in
    *" $family "*) ;;
    *)
        gateway=$(ip -o $family route show default dev "$NET_INTERFACE" 2>/dev/null | sed -n 's/.* via \(inet6 \)\{0,1\}\([^ ]*\).*/\2/p' | head -n 1)
        [ -n "$gateway" ] || [ "$1" != "$NET_ADDRESS" ] || gateway=$NET_GATEWAY ;;
    esac
    families="$families $family" gateways="${gateways-} $gateway"
    [ -n "$own" ] || return 0
    printf 'ip = %s/%s::%s\n' "$(net_bracketed "$1")" "${prefix:-32}" "${gateway:+$(net_bracketed "$gateway")}" >>"$2"
    NET_SUMMARY="$NET_SUMMARY, $1/${prefix:-32}${gateway:+ via $gateway}"
}

# net_hosts TARGETS: hosts(5) lines for the targets that are names.
net_hosts() {
    for url in $1; do
        host=$(url_host "$url")
        case $host in '' | *:* | [0-9]*.[0-9]*.[0-9]*.[0-9]*) continue ;; esac
        peer=$(resolve "$host") && printf '%s %s\n' "$peer" "$host"
    done | sort -u
}

# target_modules TARGETS: the modules that they need beside the network's.
target_modules() {
    for url in $1; do
        case $url in
        nfs:*) echo nfsv4; grep -q '^nfsv3 ' "$INDEX" && echo nfsv3 ;;
        pmsg:* | */dev/pmsg0)
            for m in ramoops efi_pstore pstore_blk; do [ ! -d "$SYS/module/$m" ] || echo "$m"; done ;;
        *:/dev/* | *:///dev/*)
            dev=${url#*:} dev=/dev/${dev#*/dev/} dev=${dev%%[?:]*}
            net_drivers "$SYS/class/block/$(basename "$(readlink -f "$dev")")" ;;
        esac
    done
    # A watchdog that runs now goes on counting in the capture kernel, and must be fed there.
    for w in "$SYS"/class/watchdog/watchdog*; do
        [ "$(cat "$w/state" 2>/dev/null)" = active ] && [ -e "$w/device" ] && net_drivers "$w/device"
    done
    return 0
}

# target_program NAME...: the first of these programs that is installed, with the libraries it is linked with.
target_program() {
    for name; do
        program=$(PATH=$PATH:/usr/sbin:/sbin command -v "$name") || continue
        mkdir -p "$STAGE/usr/bin"; cp -L "$program" "$STAGE/usr/bin/$name"
        for lib in $(ldd "$program" 2>/dev/null | sed -n 's|[^/]*\(/[^ ]*\) (0x.*|\1|p'); do
            mkdir -p "$STAGE$(dirname "$lib")"; cp -L "$lib" "$STAGE$lib"
        done
        return 0
    done
    return 1
}

# target_files TARGETS CONF: the ssh client with its key and the host keys it must see.
target_files() {
    case " $(printf '%s' "$1" | tr '\n' ' ')" in *" ssh:"*) ;; *) return 0 ;; esac
    # dropbear's client is a tenth of the size
    target_program dbclient ssh || die "an ssh:// target needs an ssh client (Debian: apt install dropbear-bin, or openssh-client)"
    printf 'root:x:0:0:root:/:/bin/sh\n' >"$STAGE/etc/passwd"
    for key in ssh-key ssh-known-hosts; do
        file=$(sed -n "s/^[ \t]*${key}[ \t]*=[ \t]*//p" "$2" | head -n 1)
        [ -n "$file" ] || { warn "$key is not set; an ssh:// target needs it"; continue; }
        [ -r "$file" ] || die "cannot read $file ($key)"
        mkdir -p "$STAGE$(dirname "$file")"; cp -L "$file" "$STAGE$file"
    done
}
