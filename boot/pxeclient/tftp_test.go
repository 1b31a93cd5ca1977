package pxeclient

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pin/tftp/v3"
	"github.com/tinkerbell/ipxedust/binary"
)

func mustAddrPort(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }

// tftpServer serves files with somebody else's server.
func tftpServer(t *testing.T, files map[string][]byte) netip.AddrPort {
	t.Helper()
	server := tftp.NewServer(func(name string, to io.ReaderFrom) error {
		content, found := files[name]
		if !found {
			return errors.New("no such file")
		}
		to.(tftp.OutgoingTransfer).SetSize(int64(len(content)))
		_, err := to.ReadFrom(bytes.NewReader(content))
		return err
	}, nil)
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(conn) }()
	t.Cleanup(func() {
		server.Shutdown()
		<-done
	})
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

func TestTFTPReadsWhatAnotherServerSends(t *testing.T) {
	files := map[string][]byte{}
	for name, size := range map[string]int{"small": 1, "block": 1468, "blocks": 2936, "large": 300001} {
		files[name] = bytes.Repeat([]byte("0123456789a"), size/11+1)[:size]
	}
	server := tftpServer(t, files)
	client := &boot{Client: Client{Local: netip.MustParseAddr("127.77.1.2"), Timeout: 5 * time.Second}}
	for name, want := range files {
		content, size, err := client.readTFTP(t.Context(), server, name, false)
		if err != nil || !bytes.Equal(content, want) || size != int64(len(want)) {
			t.Errorf("%s: %d bytes, size %d, %v", name, len(content), size, err)
		}
		content, size, err = client.readTFTP(t.Context(), server, name, true)
		if err != nil || content != nil || size != int64(len(want)) {
			t.Errorf("%s, size probe: %d bytes, size %d, %v", name, len(content), size, err)
		}
	}
	var refused *tftpError
	if _, _, err := client.readTFTP(t.Context(), server, "nothing", false); !errors.As(err, &refused) || refused.code != 1 || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a missing file: %v", err)
	}
}

func TestRunnable(t *testing.T) {
	arm := &boot{Client: Client{Firmware: UEFI, Arch: "arm64"}}
	bios := &boot{Client: Client{Firmware: BIOS, Arch: "amd64"}}
	for name, err := range map[string]error{
		"empty":                  bios.runnable(nil),
		"an EFI program on BIOS": bios.runnable([]byte("MZ\x90")),
		"no EFI program on UEFI": arm.runnable([]byte("#!ipxe")),
		"for another machine":    arm.runnable(binary.IpxeEFI),
		"truncated":              arm.runnable([]byte("MZ")),
	} {
		if !errors.Is(err, errWrongLoader) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := arm.runnable(binary.SNP); err != nil {
		t.Error(err)
	}
	if err := bios.runnable([]byte("\xea\x05\x00")); err != nil {
		t.Error(err)
	}
}

func TestCodesOfTFTPFailures(t *testing.T) {
	uefi, bios := &boot{Client: Client{Firmware: UEFI}}, &boot{Client: Client{Firmware: BIOS}}
	missing := &tftpError{1, "not found"}
	for _, c := range [][2]string{
		{uefi.tftpCode(missing), "PXE-E23"}, {bios.tftpCode(missing), "PXE-T01"}, {bios.tftpCode(&tftpError{2, "denied"}), "PXE-E23"},
		{uefi.tftpCode(os.ErrDeadlineExceeded), "PXE-E18"}, {bios.tftpCode(os.ErrDeadlineExceeded), "PXE-E32"}, {uefi.tftpCode(io.EOF), "PXE-E99"},
	} {
		if c[0] != c[1] {
			t.Errorf("%s, not %s", c[0], c[1])
		}
	}
}
