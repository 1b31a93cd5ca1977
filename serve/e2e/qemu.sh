#!/bin/sh
# qemu.sh DIR OVERRIDE: becomes the machine: UEFI firmware with fresh variables,
# a disk, a NIC and a BMC. OVERRIDE pxe boots the network first, anything else
# the disk. Always emulated: /dev/kvm may open in a virtual machine and still
# not work. DIR/firmware may set rom and options, for another firmware.
set -eu
dir=$1
disk=1 nic=2
[ "$2" != pxe ] || nic=0

# An empty ROM leaves out QEMU's own for the NIC, which is iPXE: the firmware's
# own PXE stack is what is to be tested.
rom='' options=''
# shellcheck disable=SC1091
[ ! -e "$dir/firmware" ] || . "$dir/firmware"

cp /usr/share/OVMF/OVMF_VARS_4M.fd "$dir/vars.fd"

# shellcheck disable=SC2086 # a list
exec qemu-system-x86_64 -accel tcg,thread=multi -cpu max -machine q35,smm=off -smp 1 -m 512 \
    -nodefaults -display none -vga none -serial stdio -uuid "$(cat "$dir/uuid")" \
    -drive if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd \
    -drive if=pflash,format=raw,unit=1,file="$dir/vars.fd" \
    -drive file="$dir/disk.img",if=none,id=disk,format=raw -device virtio-blk-pci,drive=disk,bootindex=$disk \
    -netdev tap,id=net,ifname=tap0,script=no,downscript=no \
    -device virtio-net-pci,netdev=net,mac=52:54:00:77:00:01,romfile=$rom,bootindex=$nic \
    -device virtio-rng-pci $options \
    -chardev socket,id=ipmi,host=10.77.1.1,port=9002,reconnect=1 \
    -device ipmi-bmc-extern,id=bmc,chardev=ipmi -device isa-ipmi-kcs,bmc=bmc
