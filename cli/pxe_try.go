package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bmctl/bmctl/boot/pxeclient"
)

// pxeFlags are the flags of pxe test.
type pxeFlags struct {
	iface, server, relay string
	arch                 string
	firmware             []string
	mac, uuid            string
	timeout              time.Duration
	fetch                bool
	pcap                 string
}

func (a *app) pxeTestCommand() *cobra.Command {
	var f pxeFlags

	cmd := &cobra.Command{
		Use: "test", Short: "Be a PXE client on this network and say which step fails", Args: cobra.NoArgs,
		Long: `Be a PXE client on this network: DHCP, the offers, the loader over TFTP or HTTP, the
iPXE script up to kernel and initramfs. Each step is told, and one that fails with
the firmware's own error code and what to do. No machine is touched, no address is
leased, and any PXE service can be tested.

The test broadcasts, which needs root, or asks one server by unicast (--server),
which does not. It exits with 8 where a kind of firmware would not boot.`,
		Example: "  sudo bmctl pxe test --interface eno1 --firmware uefi\n  bmctl pxe test --server 10.0.2.5\n  bmctl lab -- bmctl pxe test",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.pxeTest(cmd.Context(), f) },
	}

	flags := cmd.Flags()
	flags.StringVar(&f.iface, "interface", "", "broadcast on this interface (default: the one of the default route)")
	flags.StringVar(&f.server, "server", "", "ask the DHCP or ProxyDHCP server at `ADDR` by unicast; no root is needed")
	flags.StringVar(&f.relay, "relay", "", "with --server, be a relay agent: ask from `ADDR`, an address of this host, port 67")
	choiceVar(flags, &f.arch, "arch", "ARCH", "architecture of the machine", "amd64", "arm64")
	flags.StringSliceVar(&f.firmware, "firmware", nil, "only these kinds of `FIRMWARE`: "+strings.Join(firmwareWords(), " | ")+" (default all that the architecture has, but rpi)")
	flags.StringVar(&f.mac, "mac", "", "the machine's Ethernet `ADDRESS` (default: made up)")
	flags.StringVar(&f.uuid, "uuid", "", "the machine's `UUID` (default: made up; serve answers it and keeps nothing of it)")
	flags.DurationVar(&f.timeout, "timeout", 10*time.Second, "how long a server may be silent")
	flags.BoolVar(&f.fetch, "fetch", false, "download kernel and initramfs too, instead of asking for their size")
	flags.StringVar(&f.pcap, "pcap", "", "write the packets of DHCP and TFTP to `FILE`, for Wireshark")
	must(cmd.RegisterFlagCompletionFunc("firmware", cobra.FixedCompletions(firmwareWords(), cobra.ShellCompDirectiveNoFileComp)))
	must(cmd.RegisterFlagCompletionFunc("interface", completeInterfaces))

	return cmd
}

func completeInterfaces(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	devices, err := net.Interfaces()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}

	var names []string
	for _, device := range devices {
		names = append(names, device.Name)
	}

	return names, cobra.ShellCompDirectiveNoFileComp
}

func firmwareWords() []string { return []string{"bios", "uefi", "http", "ipxe", "uboot", "rpi"} }

// runsOn says whether a kind of firmware exists on the architecture.
func runsOn(word, arch string) bool {
	switch word {
	case "bios":
		return arch == "amd64"
	case "uboot", "rpi":
		return arch == "arm64"
	default:
		return true
	}
}

func firmwareOf(word string) pxeclient.Firmware {
	if word == "http" {
		return pxeclient.UEFIHTTP
	}

	return pxeclient.Firmware(word)
}

// chosen are the kinds of firmware to be, in the order of the help.
func (f pxeFlags) chosen() ([]string, error) {
	for _, word := range f.firmware {
		if !slices.Contains(firmwareWords(), word) {
			return nil, usagef("--firmware %q: want %s", word, strings.Join(firmwareWords(), ", "))
		}

		if !runsOn(word, f.arch) {
			return nil, usagef("--firmware %s: there is none on %s (--arch)", word, f.arch)
		}
	}

	return slices.DeleteFunc(firmwareWords(), func(word string) bool {
		if len(f.firmware) == 0 {
			return !runsOn(word, f.arch) || word == "rpi" // which needs files that few sites have
		}

		return !slices.Contains(f.firmware, word)
	}), nil
}

func (a *app) pxeTest(ctx context.Context, f pxeFlags) (err error) {
	words, err := f.chosen()
	if err != nil {
		return err
	}

	switch {
	case f.timeout <= 0:
		return usagef("--timeout: want a time that is positive")
	case f.iface != "" && f.server != "":
		return usagef("--interface or --server, one at a time")
	}

	client, err := a.pxeClient(f)
	if err != nil {
		return err
	}

	if f.pcap != "" {
		file, err := os.Create(f.pcap)
		if err != nil {
			return usagef("--pcap: %w", err)
		}

		capture := newCapture(file)
		client.OnPacket = capture.add

		defer func() { err = errors.Join(err, capture.err, file.Close()) }()
	}

	report, err := a.newPXEReport()
	if err != nil {
		return err
	}

	for _, word := range words {
		if err := a.pxeTry(ctx, client, word, report); err != nil {
			return err
		}
	}

	return errors.Join(report.print(a.printer()), report.outcome())
}

// pxeTry boots once. An error is that the test could not be made; what it came to
// is in the report.
func (a *app) pxeTry(ctx context.Context, client pxeclient.Client, word string, report *pxeReport) error {
	client.Firmware = firmwareOf(word)
	client.MAC = cmp.Or(client.MAC, client.Firmware.MadeUpMAC())
	madeUp := client.UUID == ""
	client.UUID = cmp.Or(client.UUID, pxeclient.MadeUpUUID())
	client.OnStep = report.step

	report.begin(word, client, madeUp)

	result, err := client.Boot(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}

	var failure *pxeclient.Error
	if errors.As(err, &failure) && failure.Step == "start" {
		return cannotTest(failure)
	}

	report.end(result, err)

	return report.failed
}

func cannotTest(failure *pxeclient.Error) error {
	hint := failure.Hint
	if errors.Is(failure.Err, os.ErrPermission) {
		hint = "sudo bmctl pxe test, or bmctl pxe test --server ADDR"
	}

	return failf(codeUsage, cmp.Or(hint, "bmctl pxe test --help"), "the test cannot be made: %w", failure.Err)
}

// pxeClient is the client without what differs from firmware to firmware.
func (a *app) pxeClient(f pxeFlags) (pxeclient.Client, error) {
	client := pxeclient.Client{
		Arch: f.arch, MAC: strings.ToLower(f.mac), UUID: strings.ToLower(f.uuid), Timeout: f.timeout, Fetch: f.fetch, Examine: true,
		Log: a.logger(slog.LevelWarn),
	}

	if _, err := net.ParseMAC(f.mac); f.mac != "" && err != nil {
		return client, usagef("--mac: %w", err)
	}

	place, err := a.pxePlace(f)
	if err != nil {
		return client, err
	}

	client.DHCP, client.ProxyDHCP, client.TFTPPort = place.dhcp, place.proxy, place.tftp
	client.Interface, client.Local, client.Relay = place.iface, place.local, place.relay

	return client, nil
}

// pxeFailure is the failure of the test as a whole.
func pxeFailure(tests []pxeTest) error {
	var (
		broken []string
		hint   string
	)

	for _, test := range tests {
		if test.Works {
			continue
		}

		text := test.Firmware
		if test.Code != "" {
			text += " (" + test.Code + ")"
		}

		broken = append(broken, text)
		hint = cmp.Or(hint, test.Hint)
	}

	if len(broken) == 0 {
		return nil
	}

	return failf(codePXEFailed, hint, "%s", fmt.Sprintf("%d of %d kinds of firmware do not boot here: %s", len(broken), len(tests), strings.Join(broken, ", ")))
}
