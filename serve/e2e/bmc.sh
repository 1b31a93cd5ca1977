#!/bin/sh
# bmc.sh DIR check|get|set ...: what ipmi_sim asks of the hardware, both as its
# chassis_control and as its lan_config_program (ipmi_lan(5)). DIR is the machine;
# in it are kept:
#   machine  its traits, as qemu.sh has them
#   pid      of the QEMU while the machine is on
#   boot     the boot override for the next start (ipmi_sim passes no firmware
#            mode on: the machine has the firmware that it has)
#   acts     a line for every power act and every start
dir=$1
what=$2
shift 2

# shellcheck disable=SC1091
. "$dir/machine"

# Nobody may be there to bury a QEMU that has ended: a zombie is off.
on() { [ -s "$dir/pid" ] && grep -q '^State:	[^Z]' "/proc/$(cat "$dir/pid")/status" 2>/dev/null; }

note() { echo "$(date +%T.%3N) $*" >>"$dir/acts"; }

start() {
    on && return
    override=$(cat "$dir/boot" 2>/dev/null)
    rm -f "$dir/boot" # it holds for one boot
    note "start override=${override:-none}"
    # fd 3 and up are ipmi_sim's sockets: a QEMU that kept them would outlive its BMC.
    setsid "$(dirname "$0")/qemu.sh" "$dir" "${override:-none}" </dev/null >>"$dir/serial.log" 2>&1 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&- &
    echo $! >"$dir/pid"
}

stop() {
    on || return
    note stop
    kill "$(cat "$dir/pid")"
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        on || break
        sleep 0.1
    done
    on && kill -9 "$(cat "$dir/pid")"
    rm -f "$dir/pid"
}

get() {
    for name; do
        case $name in
        power) if on; then echo power:1; else echo power:0; fi ;;
        boot) echo "boot:$(cat "$dir/boot" 2>/dev/null || echo default)" ;;
        ip_addr) echo "ip_addr:$bmc" ;;
        ip_addr_src) echo ip_addr_src:static ;;
        mac_addr) echo mac_addr:52:54:00:bb:00:00 ;;
        subnet_mask) echo subnet_mask:255.255.0.0 ;;
        *_ip_addr) echo "$name:0.0.0.0" ;;
        *_mac_addr) echo "$name:00:00:00:00:00:00" ;;
        esac
    done
}

set_() {
    while [ $# -ge 2 ]; do
        case "$1 $2" in
        "power 1") start ;;
        "power 0" | "shutdown "*) stop ;;
        "reset "*) stop; start ;;
        "boot none" | "boot default") rm -f "$dir/boot" ;;
        "boot "*) echo "$2" >"$dir/boot" ;;
        esac
        shift 2
    done
}

case $what in
get) get "$@" ;;
set) set_ "$@" ;;
esac
exit 0
