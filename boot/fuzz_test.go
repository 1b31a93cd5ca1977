package boot

import (
	"bytes"
	"context"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// FuzzAnswer: no packet may bring the classifier or the answer down, and an
// answer always parses, is addressed to its asker and carries option 54.
func FuzzAnswer(f *testing.F) {
	f.Add(packetBytes(1, 0x8000, none, none, none, "", "", option(53, "\x01"), option(60, "PXEClient:Arch:00007:UNDI:003016"), option(93, "\x00\x07"), option(97, guid)))
	f.Add(packetBytes(1, 0, theirs, none, relay, "", "", option(53, "\x03"), option(60, "PXEClient"), option(43, "\x47\x04\x00\x01\x00\x00\xff")))
	f.Add(packetBytes(1, 0, none, none, none, "", "", option(53, "\x01"), option(60, "HTTPClient:Arch:00016"), option(77, "\x04iPXE")))
	f.Add(piDiscover())
	f.Add([]byte("\x01\x01\x06\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		request, err := dhcpv4.FromBytes(data)
		if err != nil {
			return
		}
		c, err := classify(request)
		if err != nil {
			if err.Error() == "" {
				t.Error("no reason")
			}
			return
		}
		s := &Server{}
		for _, kind := range []dhcpv4.MessageType{dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeAck} {
			a := answer{kind: kind, server: netip.AddrFrom4(ours), single: len(data)%2 == 0}
			a.file = s.offer(c, a.server)
			back, err := dhcpv4.FromBytes(reply(request, c, a).ToBytes())
			if err != nil {
				t.Fatalf("the answer does not parse: %v", err)
			}
			if back.TransactionID != request.TransactionID || back.ClientHWAddr.String() != request.ClientHWAddr.String() || back.ServerIdentifier() == nil {
				t.Errorf("answer %v", back)
			}
		}
	})
}

// FuzzBootQuery: whatever a machine says of itself, with a reason that repeats
// it, the answer is a 400 or a script with exactly the lines of a wait script.
func FuzzBootQuery(f *testing.F) {
	for _, query := range []string{
		"uuid=4c4c4544-0042-3610-8054-b4c04f564433&mac=02-00-00-00-00-01&serial=A1&hostname=r1&arch=x86_64",
		"uuid=4C4C4544-0042-3610-8054-B4C04F564433&hostname=%0areboot%0d||&&;%23${uuid}", "uuid=&arch=i386", "uuid=%zz", "",
	} {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		echo := deciderFunc(func(_ context.Context, m Machine) (Decision, error) {
			if m.UUID != strings.ToLower(m.UUID) || len(m.Serial) > maxWord || len(m.Hostname) > maxWord || (m.Arch != "amd64" && m.Arch != "arm64") {
				t.Errorf("machine %+v", m)
			}
			return Decision{Kind: Wait, Reason: "asked by " + m.Hostname + " " + m.Serial}, nil
		})
		s, err := New(Config{Decider: echo, Advertise: netip.AddrFrom4(ours), HTTPPort: 50042})
		if err != nil {
			t.Fatal(err)
		}
		request := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/ipxe/boot.ipxe", RawQuery: query}, RemoteAddr: "10.0.2.141:1"}
		response := httptest.NewRecorder()
		s.Handler().ServeHTTP(response, request)
		if response.Code == http.StatusBadRequest {
			return
		}
		lines := strings.Split(response.Body.String(), "\n")
		plain, err := scriptFor(Decision{Kind: Wait, Reason: "x"}, s.baseURL(netip.AddrFrom4(ours)))
		if err != nil {
			t.Fatal(err)
		}
		want := strings.Split(plain, "\n")
		if len(lines) != len(want) || !strings.HasPrefix(lines[1], "echo bmctl: ") || strings.Contains(lines[1], "${") {
			t.Fatalf("script\n%s", response.Body)
		}
		for n := range lines {
			if n != 1 && lines[n] != want[n] {
				t.Errorf("line %d is %q, not %q", n, lines[n], want[n])
			}
		}
	})
}

type deciderFunc func(context.Context, Machine) (Decision, error)

func (d deciderFunc) Decide(ctx context.Context, m Machine) (Decision, error) { return d(ctx, m) }

func TestConsoleKeepsPlainWords(t *testing.T) {
	const plain = "allocated to prod (3 of 5), wants v1.13.7; see https://omni.example.com/x?y=1&z=2"
	if got := console(plain); got != plain {
		t.Errorf("%q became %q", plain, got)
	}
}

// FuzzTFTPRequest: a request is refused, or granted within the limits.
func FuzzTFTPRequest(f *testing.F) {
	for _, seed := range []string{
		"\x00\x01ipxe.efi\x00octet\x00tsize\x000\x00blksize\x001468\x00windowsize\x0016\x00", "\x00\x02x\x00octet\x00", "\x00\x01\x00\x00", "\x00\x04\x00\x01", "\x00",
	} {
		f.Add([]byte(seed), 1500)
	}
	f.Fuzz(func(t *testing.T, data []byte, mtu int) {
		request, err := parseRequest(data)
		if err != nil {
			return
		}
		oack := request.grant(1<<20, mtu)
		if request.name == "" || request.block < minBlock || request.block > max(mtu-overhead, defaultBlock, etherMTU-overhead) || request.window < 1 || request.window > maxWindow {
			t.Errorf("%+v", request)
		}
		if oack != nil && (len(oack) > 512 || oack[1] != tftpOACK || oack[len(oack)-1] != 0) {
			t.Errorf("acknowledged %q", oack)
		}
		if strings.ContainsRune(cleanName(request.name), '\\') {
			t.Errorf("name %q", cleanName(request.name))
		}
	})
}

// FuzzUUIDOption: option 97 is a UUID that says the same bytes, or nothing.
func FuzzUUIDOption(f *testing.F) {
	f.Add([]byte(guid))
	f.Add([]byte("\x00DELLB\x00\x106\x80T\xb4\xc0OVD3"))
	f.Add(bytes.Repeat([]byte{0xff}, 17))
	f.Add([]byte{0})
	f.Fuzz(func(t *testing.T, data []byte) {
		request, err := dhcpv4.FromBytes(packetBytes(1, 0, none, none, none, "", "", option(53, "\x01"), option(60, "PXEClient"), option(97, string(data[:min(len(data), 255)]))))
		if err != nil {
			t.Fatal(err)
		}
		uuid := uuidOf(request)
		if uuid == "" {
			if len(data) == 17 && data[0] == 0 && !slices.ContainsFunc(placeholders, func(p string) bool { return bytes.Equal(smbios(t, p), data[1:]) }) {
				t.Errorf("%x says nothing", data)
			}
			return
		}
		if !uuidForm.MatchString(uuid) || Placeholder(uuid) || !bytes.Equal(smbios(t, uuid), data[1:]) {
			t.Errorf("%x is %s", data, uuid)
		}
	})
}

// smbios are the bytes of a UUID with its first three parts turned round.
func smbios(t *testing.T, uuid string) []byte {
	t.Helper()
	id, err := hex.DecodeString(strings.ReplaceAll(uuid, "-", ""))
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(id[:4])
	slices.Reverse(id[4:6])
	slices.Reverse(id[6:8])
	return id
}
