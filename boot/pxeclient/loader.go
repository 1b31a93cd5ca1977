package pxeclient

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/pe"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"time"
)

// loadTFTP fetches the loader: EDK2 asks for its size first, and aborts.
func (b *boot) loadTFTP(ctx context.Context, offer Offer) error {
	s := Step{Name: "tftp", At: time.Now(), File: offer.File}
	server := netip.AddrPortFrom(offer.Server, uint16(b.TFTPPort))
	content, err := b.tftp(ctx, server, offer.File)
	if err == nil {
		err = b.runnable(content)
	}
	if err == nil && b.Examine {
		b.examineTFTP(ctx, server, offer.File, content)
	}
	if err != nil {
		err = &Error{Step: "tftp", Code: b.tftpCode(err), Err: fmt.Errorf("%s from %s: %w", offer.File, server, err), Hint: b.loaderHint(err)}
	}
	b.ownScript = Offer{Server: offer.Server, Address: offer.Address, File: embedded(content)}
	s.loaded(content)
	s.Detail = fmt.Sprintf("%s from %s: %d bytes, sha256 %s", offer.File, server, len(content), s.SHA256)
	return b.report(s, err)
}

func (s *Step) loaded(content []byte) {
	s.Bytes, s.SHA256 = int64(len(content)), fmt.Sprintf("%x", sha256.Sum256(content))
}

func (b *boot) tftp(ctx context.Context, server netip.AddrPort, name string) ([]byte, error) {
	told := int64(-1)
	if b.Firmware == UEFI {
		var err error
		if _, told, err = b.readTFTP(ctx, server, name, true); err != nil {
			return nil, fmt.Errorf("ask for the size: %w", err)
		}
	}
	content, size, err := b.readTFTP(ctx, server, name, false)
	if err != nil {
		return nil, err
	}
	for _, n := range []int64{told, size} {
		if n >= 0 && n != int64(len(content)) {
			return nil, fmt.Errorf("%d bytes came where %d were announced", len(content), n)
		}
	}
	return content, nil
}

// tftpCode is what the firmware shows.
func (b *boot) tftpCode(err error) string {
	var refused *tftpError
	bios, timeout := b.Firmware == BIOS, errors.Is(err, os.ErrDeadlineExceeded)
	switch {
	case b.Firmware.arm():
		return "" // it has no codes
	case errors.As(err, &refused) && bios && refused.code == 1:
		return "PXE-T01"
	case errors.As(err, &refused):
		return "PXE-E23"
	case timeout && bios:
		return "PXE-E32"
	case timeout:
		return "PXE-E18"
	case errors.Is(err, errWrongLoader):
		return ""
	default:
		return "PXE-E99"
	}
}

func (b *boot) loaderHint(err error) string {
	var refused *tftpError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "UDP port 69 and the answers, from ports of their own, must pass the firewalls; behind a port mapping use --tftp-single-port"
	case errors.As(err, &refused):
		return "the offer names a file that the TFTP server does not give out: compare names and folders, and the rights of the file"
	case errors.Is(err, errWrongLoader):
		return fmt.Sprintf("offer a loader for %s %s: the server must choose by option 93 (architecture)", b.Firmware, b.Arch)
	default:
		return ""
	}
}

// loadHTTP fetches the loader as HTTP Boot does: HEAD for the size, then GET.
func (b *boot) loadHTTP(ctx context.Context, url string) error {
	s := Step{Name: "http", At: time.Now(), File: url}
	size, err := b.head(ctx, url)
	var content []byte
	if err == nil {
		content, _, err = b.get(ctx, url, maxLoader)
	}
	if err == nil && size != int64(len(content)) {
		err = fmt.Errorf("%d bytes came where HEAD announced %d", len(content), size)
	}
	if err == nil {
		err = b.runnable(content)
	}
	if err != nil {
		hint := b.loaderHint(err)
		if hint == "" {
			hint = webHint(err)
		}
		err = &Error{Step: "http", Err: fmt.Errorf("loader %s: %w", url, err), Hint: hint}
	}
	b.ownScript.File = embedded(content)
	s.loaded(content)
	s.Detail = fmt.Sprintf("%s: %d bytes, sha256 %s", url, len(content), s.SHA256)
	return b.report(s, err)
}

// embeddedChain is how a script built into iPXE names the next one. Stock builds
// and ipxedust's have none, and take what DHCP names.
var embeddedChain = regexp.MustCompile(`#!ipxe[^\x00]*?\bchain (https?://[^\s\x00]+)`)

// embedded is the URL that the loader's built-in script chains, "" where there is
// none, or where the loader is compressed.
func embedded(loader []byte) string {
	if found := embeddedChain.FindSubmatch(loader); found != nil {
		return string(found[1])
	}
	return ""
}

var errWrongLoader = errors.New("this machine cannot run it")

// runnable checks that the firmware could start the loader: on UEFI by the
// machine type in its PE/COFF header, on BIOS only that there is something.
func (b *boot) runnable(content []byte) error {
	if len(content) == 0 {
		return fmt.Errorf("%w: the file is empty", errWrongLoader)
	}
	if b.Firmware == BIOS {
		if bytes.HasPrefix(content, []byte("MZ")) {
			return fmt.Errorf("%w: an EFI program on a BIOS", errWrongLoader)
		}
		return nil
	}
	program, err := pe.NewFile(bytes.NewReader(content))
	if err != nil {
		return fmt.Errorf("%w: not an EFI program: %w", errWrongLoader, err)
	}
	wanted := map[string]uint16{"amd64": pe.IMAGE_FILE_MACHINE_AMD64, "arm64": pe.IMAGE_FILE_MACHINE_ARM64}[b.Arch]
	if program.Machine != wanted {
		return fmt.Errorf("%w: an EFI program for machine type %#x, not %#x (%s)", errWrongLoader, program.Machine, wanted, b.Arch)
	}
	return nil
}
