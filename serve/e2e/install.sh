#!/bin/sh
# install.sh [slow]: installs the Debian packages that the end-to-end tests need,
# or the slow ones, and unpacks Debian's kernel and a DHCP relay into .e2e. What is
# there already is left alone.
set -eu
cd "$(dirname "$0")/../.."

packages="qemu-system-x86 ovmf ipxe-qemu openipmi ipmitool dnsmasq-base iproute2 kmod cpio tshark"
[ "${1-}" != slow ] || packages="$packages ipxe qemu-system-arm qemu-efi-aarch64"
[ "$(id -u)" = 0 ] || { echo "install.sh: needs root to install packages" >&2; exit 1; }
command -v apt-get >/dev/null || { echo "install.sh: needs a Debian system (apt-get is missing)" >&2; exit 1; }

# shellcheck disable=SC2086 # a list
if ! dpkg -s $packages >/dev/null 2>&1; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages
fi

# unpack PACKAGE DIR: without installing it.
unpack() {
    mkdir -p "$2/deb"
    (cd "$2/deb" && apt-get download -qq -o APT::Sandbox::User=root "$1")
    dpkg -x "$2"/deb/*.deb "$2"
    rm -r "$2/deb"
}

# Installed, the relay would be started as a service of this host.
relay=.e2e/relay
if ! [ -e $relay/complete ]; then
    rm -rf $relay
    [ -n "$(apt-cache policy isc-dhcp-relay 2>/dev/null)" ] || apt-get update -qq
    unpack isc-dhcp-relay $relay
    touch $relay/complete
fi

# Not the cloud kernel: it has no IPMI drivers.
kernel=.e2e/kernel
if ! [ -e $kernel/complete ]; then
    rm -rf $kernel
    [ -n "$(apt-cache depends linux-image-amd64 2>/dev/null)" ] || apt-get update -qq
    unpack "$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)" $kernel
    depmod -b "$PWD/$kernel" "$(ls $kernel/lib/modules)"
    touch $kernel/complete
fi
