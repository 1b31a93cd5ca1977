// Package e2e is the end-to-end test on real firmware: one QEMU machine with
// OVMF's own PXE stack and a blank disk, powered by OpenIPMI's ipmi_sim, boots
// over the network through a real `bmctl serve`, joins omnisim, is accepted,
// wiped, reported ready and powered off.
//
// It has the build tag e2e, needs root, and is run by `make e2e` (run.sh), which
// installs the Debian packages it uses. It takes place in network, mount and
// process namespaces of its own, which end with it: nothing of it touches the
// host's network or outlives the test. The picture:
//
//	 namespace of the test                          namespace "site"
//	+-------------------------------------------+  +----------------+
//	| bmctl serve, omnisim   br0 10.77.0.1 ------|--| eth0 10.77.0.2 |
//	|                         |                 |  | dnsmasq: plain |
//	| ipmi_sim 10.77.1.1:623  tap0              |  | DHCP, no boot  |
//	|   | power   | /dev/ipmi0 |                |  | options        |
//	|   +-------- QEMU: OVMF, iPXE, guest       |  +----------------+
//	+-------------------------------------------+
//
// The directory guest is the machine's /init.
package e2e
