// Package e2e are the end-to-end tests on real firmware: QEMU machines with OVMF
// or SeaBIOS, powered by OpenIPMI's ipmi_sim, boot over the network. One goes the
// whole way through a real `bmctl serve`: it joins omnisim, is accepted, wiped,
// reported ready and powered off.
//
// It has the build tag e2e, needs root, and is run by `make e2e` (run.sh), which
// installs the Debian packages it uses. Each test takes place in network, mount
// and process namespaces of its own, which end with it: nothing of it touches the
// host's network or outlives the test, and as many tests run at once as there are
// processors. The picture:
//
//	 namespace of the test                          namespace "site"
//	+-------------------------------------------+  +----------------+
//	| bmctl serve, omnisim   br0 10.77.0.1 ------|--| eth0 10.77.0.2 |
//	|                         | |               |  | dnsmasq: plain |
//	| ipmi_sim 10.77.1.1:623  | tap1            |  | DHCP, no boot  |
//	|   | power   | /dev/ipmi0| |               |  | options        |
//	|   +-------- QEMU: OVMF, iPXE, guest       |  +----------------+
//	+-------------------------|-----------------+
//	                          |  namespace "bench"
//	                        +----------------------------------+
//	                        | eth0 10.77.0.3: bmctl pxe test,  |
//	                        | to foretell what firmware does   |
//	                        +----------------------------------+
//
// The directory guest is the machine's /init.
package e2e
