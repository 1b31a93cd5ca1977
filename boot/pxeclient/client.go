// Package pxeclient is a PXE client: it boots from the network as firmware does,
// up to the kernel, and says of each step what it got. It is the engine of
// `bmctl pxe test` and the firmware of the lab's machines.
//
// It shares no code with package boot: it was written from what firmware
// accepts, and is meant to notice when boot is wrong about that.
package pxeclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Firmware is what kind of machine the client plays.
type Firmware string

// The kinds of firmware.
const (
	BIOS     Firmware = "bios"      // a PXE ROM
	UEFI     Firmware = "uefi"      // EDK2's PXE
	UEFIHTTP Firmware = "uefi-http" // EDK2's HTTP Boot
	IPXE     Firmware = "ipxe"      // iPXE in the ROM: no loader is fetched
	UBoot    Firmware = "uboot"     // U-Boot over TFTP, arm64 alone
	RPi      Firmware = "rpi"       // the Raspberry Pi 4's boot ROM, then what it loads, arm64 alone
)

// arm says that the firmware exists on arm64 alone.
func (f Firmware) arm() bool { return f == UBoot || f == RPi }

// Client boots once per call of Boot. The zero value of each field that has a
// default means that default.
type Client struct {
	// DHCP and ProxyDHCP are servers asked by unicast, in place of a broadcast
	// to port 67 and of port 4011 of the server that the offer names.
	DHCP, ProxyDHCP netip.AddrPort
	// Interface is where the broadcast goes, from 0.0.0.0 as firmware sends it; used,
	// and needed, without DHCP only. It needs the right to open raw sockets, and Linux.
	Interface string
	// Relay makes the client a relay agent too (RFC 2131, section 4.1): it asks DHCP
	// from this address of the host, port 67, and gets the answers there.
	Relay netip.Addr
	// TFTPPort is 69 by default; the port does not travel in an offer.
	TFTPPort int
	// Local is the client's own address, for all it sends; by default the
	// system's choice. With it no lease is asked for: it is taken as leased.
	Local netip.Addr

	Firmware Firmware // default UEFI
	Arch     string   // "amd64" (default) or "arm64" (that of UBoot and RPi)
	MAC      string   // default: made up, locally administered
	UUID     string   // default: made up, see MadeUpUUID
	// Serial and Hostname are what the machine says of itself; may be empty.
	Serial, Hostname string
	// Manufacturer and Product are the system's in its SMBIOS tables; may be empty.
	Manufacturer, Product string

	// Examine looks closer than a machine would: it reads the loader with other block
	// sizes and windows too, judges certificates and clocks, skips the sleeps of
	// scripts, and ends with OutcomeWait where a script goes on sleeping.
	Examine bool
	// Fetch downloads kernel and initramfs; otherwise only HEAD is asked.
	Fetch bool
	// SleepScale shortens the sleeps of scripts: 0.1 is ten times as fast.
	// Default 1.
	SleepScale float64
	// Window is how long offers are collected. Default: until the first usable
	// one with DHCP set, else as long as the firmware does (4 s, iPXE 2 s).
	Window time.Duration
	// Timeout is how long a server may stay silent in an exchange over DHCP or
	// TFTP, repetitions included. Default 15 s.
	Timeout time.Duration
	// Transport fetches http and https URLs; default: a transport of its own
	// that sends from Local.
	Transport http.RoundTripper

	Log *slog.Logger // default: none
	// OnStep gets each step when it ended, from the goroutine that called Boot.
	OnStep func(Step)
	// OnPacket gets each packet of DHCP and TFTP, from several goroutines but one at
	// a time. It must not keep the data.
	OnPacket func(Packet)
}

// Packet is a UDP packet that the client sent or got.
type Packet struct {
	At       time.Time
	From, To netip.AddrPort
	Data     []byte
}

// Outcome is where a boot ended.
type Outcome string

// The outcomes.
const (
	OutcomeKernel Outcome = "kernel" // a kernel was started
	OutcomeDisk   Outcome = "disk"   // iPXE was left for the next boot option, or a disk started
	OutcomeReboot Outcome = "reboot" // the script asked for a reboot
	OutcomeOff    Outcome = "off"    // the script switched the machine off
	OutcomeWait   Outcome = "wait"   // the script sleeps and asks again (Examine only)
	OutcomeStuck  Outcome = "stuck"  // an iPXE shell: nothing happens without a person
	OutcomeFailed Outcome = "failed" // the firmware goes on to its next boot option
)

// Result is what a boot came to.
type Result struct {
	Outcome Outcome
	// Kernel and Initrd are the URLs loaded, Cmdline the kernel's arguments as
	// expanded (OutcomeKernel).
	Kernel, Initrd, Cmdline string
	// Script is the URL of the first script, Loader the file before it.
	Script, Loader string
	// Offers are all DHCP offers seen, the last round's last.
	Offers []Offer
	// Steps are the latest steps, at most 1,000.
	Steps []Step
}

// maxSteps bounds Result.Steps: a machine may be told to wait for days.
const maxSteps = 1000

// Boot boots from the network until a kernel would run, the disk would, the
// machine would reboot, or something fails; a machine that is told to wait asks
// again until ctx ends. The Result is filled in as far as it went, with an error
// too, which is ctx's or an *Error.
func (c *Client) Boot(ctx context.Context) (Result, error) {
	b, err := c.start()
	if err != nil {
		return Result{Outcome: OutcomeFailed}, err
	}
	defer b.close()
	err = b.run(ctx)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("boot of %s: %w", b.MAC, context.Cause(ctx))
	}
	if err != nil && b.result.Outcome == "" {
		b.result.Outcome = OutcomeFailed
	}
	return b.result, err
}

// boot is one run of a client.
type boot struct {
	Client
	mac      net.HardwareAddr
	web      *http.Client
	owned    *http.Transport // closed at the end, if it is ours
	recorder sync.Mutex      // of OnPacket
	warnings []string        // for the next step
	warned   map[string]bool
	result   Result
	// ownScript is what the loader runs whatever DHCP says, as if it was offered.
	ownScript Offer
}

// start fills in the defaults and checks the fields.
func (c *Client) start() (*boot, error) {
	b := &boot{Client: *c, warned: map[string]bool{}}
	b.defaults()
	if err := b.check(); err != nil {
		return nil, &Error{Step: "start", Err: err}
	}
	b.web = &http.Client{Transport: b.Transport}
	if b.Transport == nil {
		b.owned = &http.Transport{DialContext: b.dialer().DialContext, Proxy: nil, TLSHandshakeTimeout: b.httpTimeout(), ResponseHeaderTimeout: b.httpTimeout()}
		b.web.Transport = b.owned
	}
	return b, nil
}

func (b *boot) check() (err error) {
	switch {
	case !slices.Contains([]Firmware{BIOS, UEFI, UEFIHTTP, IPXE, UBoot, RPi}, b.Firmware):
		return fmt.Errorf("unknown firmware %q", b.Firmware)
	case b.Arch != "amd64" && b.Arch != "arm64":
		return fmt.Errorf("unknown architecture %q", b.Arch)
	case b.Firmware == BIOS && b.Arch != "amd64":
		return fmt.Errorf("there is no BIOS on %s", b.Arch)
	case b.Firmware.arm() && b.Arch != "arm64":
		return fmt.Errorf("there is no %s on %s", b.Firmware, b.Arch)
	case !b.DHCP.IsValid() && b.Interface == "":
		return errors.New("neither a DHCP server nor an interface to broadcast on")
	case b.Relay.IsValid() && !b.DHCP.IsValid():
		return errors.New("a relay agent needs a DHCP server to ask")
	}
	if b.mac, err = net.ParseMAC(b.MAC); err != nil || len(b.mac) != 6 {
		return fmt.Errorf("%q is not an Ethernet address", b.MAC)
	}
	_, err = uuidBytes(b.UUID)
	return err
}

func (b *boot) defaults() {
	if b.Firmware == "" {
		b.Firmware = UEFI
	}
	if b.Arch == "" && b.Firmware.arm() {
		b.Arch = "arm64"
	}
	if b.Arch == "" {
		b.Arch = "amd64"
	}
	if b.MAC == "" {
		b.MAC = b.Firmware.MadeUpMAC()
	}
	if b.UUID == "" {
		b.UUID = MadeUpUUID()
	}
	if b.TFTPPort == 0 {
		b.TFTPPort = 69
	}
	if b.Timeout <= 0 {
		b.Timeout = 15 * time.Second
	}
	if b.SleepScale == 0 {
		b.SleepScale = 1
	}
	if b.Log == nil {
		b.Log = slog.New(slog.DiscardHandler)
	}
	if b.OnStep == nil {
		b.OnStep = func(Step) {}
	}
}

func (b *boot) close() {
	if b.owned != nil {
		b.owned.CloseIdleConnections()
	}
}

func (b *boot) dialer() *net.Dialer {
	d := &net.Dialer{Timeout: b.httpTimeout()}
	if b.Local.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(b.Local, 0))
	}
	return d
}

// run is the whole way: the firmware's part, then iPXE's.
func (b *boot) run(ctx context.Context) error {
	if b.Firmware != IPXE {
		if err := b.firmware(ctx); err != nil {
			return err
		}
	}
	if b.result.Outcome != "" {
		return nil
	}
	offer, err := b.ownScript, error(nil)
	if offer.File == "" {
		offer, err = b.negotiate(ctx, b.ipxeIdentity())
	}
	if err != nil {
		return err
	}
	b.result.Script = offer.File
	return b.ipxe(ctx, offer)
}

// firmware finds the loader, fetches it and checks that this machine can run it.
func (b *boot) firmware(ctx context.Context) error {
	offer, err := b.negotiate(ctx, b.firmwareIdentity())
	if err != nil {
		return err
	}
	b.result.Loader = offer.File
	switch b.Firmware {
	case UEFIHTTP:
		return b.loadHTTP(ctx, offer.File)
	case RPi:
		return b.loadPi(ctx, offer)
	default:
		return b.loadTFTP(ctx, offer)
	}
}

// negotiate is DHCP, with the second phase where the offer asks for it.
func (b *boot) negotiate(ctx context.Context, id identity) (Offer, error) {
	offer, err := b.discover(ctx, id)
	if err != nil || !offer.twoPhase() {
		return offer, err
	}
	return b.request(ctx, id, offer)
}
