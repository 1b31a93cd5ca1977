package cli

import (
	"bytes"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bmctl/bmctl/boot/pxeclient"
)

// Somebody else's program reads the capture: addresses, ports and a DHCP message.
func TestCaptureIsReadByTshark(t *testing.T) {
	tshark, err := exec.LookPath("tshark")
	if err != nil && os.Getenv("CI") != "true" {
		t.Skip("skipped: no tshark (CI=true makes this a failure)")
	}

	var file bytes.Buffer

	at := time.Date(2026, 11, 22, 8, 0, 0, 123456000, time.UTC)
	c := newCapture(&file)
	c.add(pxeclient.Packet{
		At: at, From: netip.MustParseAddrPort("0.0.0.0:68"), To: netip.MustParseAddrPort("255.255.255.255:67"), Data: discover(),
	})
	c.add(pxeclient.Packet{
		At: at, From: netip.MustParseAddrPort("10.77.0.99:40000"), To: netip.MustParseAddrPort("10.77.0.5:69"),
		Data: []byte("\x00\x01ipxe.efi\x00octet\x00"),
	})

	path := filepath.Join(t.TempDir(), "x.pcap")
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil || c.err != nil {
		t.Fatal(err, c.err)
	}

	text, err := exec.CommandContext(t.Context(), tshark, "-r", path, "-o", "ip.check_checksum:TRUE", "-T", "fields", "-E", "separator=|",
		"-e", "frame.time_epoch", "-e", "ip.src", "-e", "ip.dst", "-e", "udp.srcport", "-e", "udp.dstport", "-e", "dhcp.option.dhcp", "-e", "tftp.source_file",
		"-e", "ip.checksum.status", "-e", "_ws.malformed").Output()
	if err != nil {
		t.Fatal(err)
	}

	want := "1795334400.123456000|0.0.0.0|255.255.255.255|68|67|1||1|\n1795334400.123456000|10.77.0.99|10.77.0.5|40000|69||ipxe.efi|1|\n"
	if got := string(text); got != want {
		t.Errorf("tshark reads\n%s, not\n%s", got, want)
	}
}

// discover is a DISCOVER with option 53 alone.
func discover() []byte {
	packet := make([]byte, 240, 300)
	packet[0], packet[1], packet[2] = 1, 1, 6
	copy(packet[236:], "\x63\x82\x53\x63")

	return append(packet, 53, 1, 1, 255)
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestCaptureTellsAFullDisk(t *testing.T) {
	c := newCapture(fullDisk{})
	if c.err == nil || !strings.Contains(c.err.Error(), "--pcap: no space left") {
		t.Errorf("%v", c.err)
	}
}
