#!/bin/sh
# install.sh: installs the Debian packages that the end-to-end test needs, and
# unpacks Debian's kernel into .e2e/kernel. What is there already is left alone.
set -eu
cd "$(dirname "$0")/../.."

packages="qemu-system-x86 ovmf ipxe-qemu openipmi ipmitool dnsmasq-base iproute2 kmod cpio tshark"
[ "$(id -u)" = 0 ] || { echo "install.sh: needs root to install packages" >&2; exit 1; }
command -v apt-get >/dev/null || { echo "install.sh: needs a Debian system (apt-get is missing)" >&2; exit 1; }

# shellcheck disable=SC2086 # a list
if ! dpkg -s $packages >/dev/null 2>&1; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages
fi

# Not the cloud kernel: it has no IPMI drivers.
kernel=.e2e/kernel
[ -e $kernel/complete ] && exit 0
rm -rf $kernel
mkdir -p $kernel/deb
[ -n "$(apt-cache depends linux-image-amd64 2>/dev/null)" ] || apt-get update -qq
image=$(apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
(cd $kernel/deb && apt-get download -qq -o APT::Sandbox::User=root "$image")
dpkg -x $kernel/deb/*.deb $kernel
rm -r $kernel/deb
depmod -b "$PWD/$kernel" "$(ls $kernel/lib/modules)"
touch $kernel/complete
