#!/bin/sh
# qemu.sh DIR OVERRIDE: becomes the machine whose traits stand in DIR/machine:
#   uuid, mac, tap, bmc   which machine it is
#   host                  the network namespace that tap is in, '' being this one
#   firmware              uefi (with fresh variables), bios, legacy (bios with what
#                         stands in for a PXE ROM) or arm64 (UEFI; nothing in the
#                         machine leads to its BMC)
#   rom                   of the NIC, '' being none; QEMU's own, an iPXE, if unset
#   options               more for QEMU
# OVERRIDE pxe boots the network first, anything else the disk. Always emulated:
# /dev/kvm may open in a virtual machine and still not work.
set -eu
dir=$1
disk=1 nic=2
[ "$2" != pxe ] || nic=0
options=''
# shellcheck disable=SC1091
. "$dir/machine"
# A kernel given to QEMU, which the stand-in is, has the first place.
[ "$firmware" != legacy ] || nic=2

set -- -accel tcg,thread=multi -smp 1 -m 512 -nodefaults -display none -vga none -serial stdio -uuid "$uuid" \
    -drive file="$dir/disk.img",if=none,id=disk,format=raw -device virtio-blk-pci,drive=disk,bootindex=$disk \
    -netdev tap,id=net,ifname="$tap",script=no,downscript=no \
    -device virtio-net-pci,netdev=net,mac="$mac",bootindex=$nic${rom+,romfile=$rom} \
    -device virtio-rng-pci
bmc="-chardev socket,id=ipmi,host=$bmc,port=9002,reconnect=1 -device ipmi-bmc-extern,id=bmc,chardev=ipmi -device isa-ipmi-kcs,bmc=bmc"
on=''
[ -z "$host" ] || on="ip netns exec $host"

# shellcheck disable=SC2086 # lists
case $firmware in
uefi)
    cp /usr/share/OVMF/OVMF_VARS_4M.fd "$dir/vars.fd"
    exec $on qemu-system-x86_64 -machine q35,smm=off -cpu max "$@" $bmc $options \
        -drive if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd \
        -drive if=pflash,format=raw,unit=1,file="$dir/vars.fd"
    ;;
bios) exec $on qemu-system-x86_64 -machine pc,graphics=off -cpu max "$@" $bmc $options ;;
legacy)
    exec $on qemu-system-x86_64 -machine pc,graphics=off -cpu max "$@" $bmc $options \
        -kernel /usr/lib/ipxe/ipxe.lkrn -initrd "$(dirname "$0")/legacy.ipxe"
    ;;
arm64)
    cp /usr/share/AAVMF/AAVMF_VARS.fd "$dir/vars.fd"
    exec $on qemu-system-aarch64 -machine virt -cpu cortex-a57 "$@" $options \
        -drive if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/AAVMF/AAVMF_CODE.fd \
        -drive if=pflash,format=raw,unit=1,file="$dir/vars.fd"
    ;;
*)
    echo "qemu.sh: no firmware \"$firmware\"" >&2
    exit 2
    ;;
esac
