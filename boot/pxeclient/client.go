// Package pxeclient is a PXE client: it boots from the network as firmware does,
// up to the kernel, and says of each step what it got. It is the engine of
// `bmctl pxe test` and the firmware of the lab's machines.
//
// It shares no code with package boot: it was written from what firmware
// accepts, and is meant to notice when boot is wrong about that.
package pxeclient

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
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
)

// Client boots once per call of Boot. The zero value of each field that has a
// default means that default.
type Client struct {
	// DHCP and ProxyDHCP are servers asked by unicast, in place of a broadcast
	// to port 67 and of port 4011 of the server that the offer names.
	DHCP, ProxyDHCP netip.AddrPort
	// Interface is where the broadcast goes; used, and needed, without DHCP only.
	Interface string
	// TFTPPort is 69 by default; the port does not travel in an offer.
	TFTPPort int
	// Local is the client's own address, for all it sends; by default the
	// system's choice. With it no lease is asked for: it is taken as leased.
	Local netip.Addr

	Firmware Firmware // default UEFI
	Arch     string   // "amd64" (default) or "arm64"
	MAC      string   // default: made up, locally administered
	UUID     string   // default: made up
	// Serial and Hostname are what the machine says of itself; may be empty.
	Serial, Hostname string

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
}

// Outcome is where a boot ended.
type Outcome string

// The outcomes.
const (
	OutcomeKernel Outcome = "kernel" // a kernel was started
	OutcomeDisk   Outcome = "disk"   // iPXE was left for the next boot option, or a disk started
	OutcomeReboot Outcome = "reboot" // the script asked for a reboot
	OutcomeOff    Outcome = "off"    // the script switched the machine off
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

// Step is one thing that the client did, or read on its console.
type Step struct {
	// Name is one of dhcp, request, tftp, http, script, console, sleep, kernel,
	// initrd, disk, reboot.
	Name string
	// OK is false where it failed; Detail then says why.
	OK       bool
	Detail   string
	At       time.Time
	Duration time.Duration
}

// Error is a failed boot, in the firmware's terms.
type Error struct {
	// Step is the name of the step that failed.
	Step string
	// Code is what the firmware shows ("PXE-E16"), if it has a code for it.
	Code string
	// Hint is one line of what to do, if there is something to say.
	Hint string
	Err  error
}

// Error implements error.
func (e *Error) Error() string {
	if e.Code == "" {
		return fmt.Sprintf("%s: %v", e.Step, e.Err)
	}
	return fmt.Sprintf("%s: %s: %v", e.Step, e.Code, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

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
	mac    net.HardwareAddr
	web    *http.Client
	owned  *http.Transport // closed at the end, if it is ours
	result Result
}

// start fills in the defaults and checks the fields.
func (c *Client) start() (*boot, error) {
	b := &boot{Client: *c}
	b.defaults()
	if err := b.check(); err != nil {
		return nil, &Error{Step: "start", Err: err}
	}
	b.web = &http.Client{Transport: b.Transport}
	if b.Transport == nil {
		b.owned = &http.Transport{DialContext: b.dialer().DialContext, Proxy: nil, TLSHandshakeTimeout: httpTimeout}
		b.web.Transport = b.owned
	}
	return b, nil
}

func (b *boot) check() (err error) {
	switch {
	case b.Firmware != BIOS && b.Firmware != UEFI && b.Firmware != UEFIHTTP && b.Firmware != IPXE:
		return fmt.Errorf("unknown firmware %q", b.Firmware)
	case b.Arch != "amd64" && b.Arch != "arm64":
		return fmt.Errorf("unknown architecture %q", b.Arch)
	case b.Firmware == BIOS && b.Arch != "amd64":
		return fmt.Errorf("there is no BIOS on %s", b.Arch)
	case !b.DHCP.IsValid() && b.Interface == "":
		return errors.New("neither a DHCP server nor an interface to broadcast on")
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
	if b.Arch == "" {
		b.Arch = "amd64"
	}
	if b.MAC == "" {
		mac := make(net.HardwareAddr, 6)
		rand.Read(mac) // never fails
		mac[0] = 0x02  // locally administered, unicast
		b.MAC = mac.String()
	}
	if b.UUID == "" {
		b.UUID = madeUpUUID()
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
	d := &net.Dialer{Timeout: httpTimeout}
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
	offer, err := b.discover(ctx, b.ipxeIdentity())
	if err != nil {
		return err
	}
	b.result.Script = offer.File
	return b.ipxe(ctx, offer)
}

// firmware finds the loader, fetches it and checks that this machine can run it.
func (b *boot) firmware(ctx context.Context) error {
	offer, err := b.discover(ctx, b.firmwareIdentity())
	if err != nil {
		return err
	}
	if offer.Kind.twoPhase() {
		if offer, err = b.request(ctx, offer); err != nil {
			return err
		}
	}
	b.result.Loader = offer.File
	if b.Firmware == UEFIHTTP {
		return b.loadHTTP(ctx, offer.File)
	}
	return b.loadTFTP(ctx, offer)
}

// step reports what was done since started; a failed step is an *Error.
func (b *boot) step(started time.Time, name, detail string, err error) error {
	s := Step{Name: name, OK: err == nil, Detail: detail, At: started, Duration: time.Since(started)}
	if err != nil {
		s.Detail = err.Error()
	}
	b.result.Steps = append(b.result.Steps, s)
	if len(b.result.Steps) > maxSteps {
		b.result.Steps = b.result.Steps[1:]
	}
	b.Log.Debug("pxe client", "step", name, "ok", s.OK, "detail", s.Detail, "mac", b.MAC)
	b.OnStep(s)
	return err
}

func madeUpUUID() string {
	var u [16]byte
	rand.Read(u[:])         // never fails
	u[6] = u[6]&0x0f | 0x40 // version 4 (RFC 9562, section 5.4)
	u[8] = u[8]&0x3f | 0x80 // its variant
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

func uuidBytes(text string) (u [16]byte, err error) {
	var parts [5][]byte
	n, err := fmt.Sscanf(text, "%8x-%4x-%4x-%4x-%12x", &parts[0], &parts[1], &parts[2], &parts[3], &parts[4])
	if err != nil || n != 5 || len(text) != 36 {
		return u, fmt.Errorf("uuid %q is malformed", text)
	}
	at := 0
	for _, p := range parts {
		at += copy(u[at:], p)
	}
	return u, nil
}
