package pxeclient

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// examiner is a client that examines, ready for single steps.
func examiner(t *testing.T, change func(*Client)) *boot {
	t.Helper()
	c := &Client{DHCP: mustAddrPort("127.0.0.1:1"), Local: netip.MustParseAddr("127.0.0.1"), Firmware: UEFI, Examine: true, Timeout: 600 * time.Millisecond}
	if change != nil {
		change(c)
	}
	b, err := c.start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.close)
	return b
}

func TestClocksThatAreWrong(t *testing.T) {
	for ahead, want := range map[time.Duration]string{
		0: "", time.Minute: "", -time.Minute: "", 9*time.Minute + 10*time.Second: "is 9 min ahead", -9*time.Minute - 10*time.Second: "is 9 min behind", 50 * time.Hour: "is 50 h ahead",
	} {
		web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
		}))
		b := examiner(t, nil)
		for range 2 {
			if _, err := b.head(t.Context(), web.URL); err != nil {
				t.Error(err)
			}
		}
		web.Close()
		if got := strings.Join(b.warnings, "\n"); !strings.Contains(got, want) || (got == "") != (want == "") || len(b.warnings) > 1 {
			t.Errorf("%v: %q", ahead, b.warnings)
		}
	}
}

// secure is a web server whose certificate ends then, and the roots to trust.
func secure(t *testing.T, name string, notAfter time.Time) (string, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "factory"}, NotBefore: notAfter.Add(-1000 * 24 * time.Hour), NotAfter: notAfter,
		IsCA: true, BasicConstraintsValid: true, DNSNames: []string{name}, IPAddresses: []net.IP{net.ParseIP(name)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	web.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	web.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	web.StartTLS()
	t.Cleanup(web.Close)
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return web.URL, roots
}

func TestCertificates(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		name    string
		host    string
		left    time.Duration
		trusted bool
		warning string
		hint    string
	}{
		{"good", "127.0.0.1", 100 * day, true, "", ""},
		{"ends soon", "127.0.0.1", 3 * day, true, `certificate of "factory" expires at`, ""},
		{"over", "127.0.0.1", -day, true, "", "renew the certificate"},
		{"not trusted", "127.0.0.1", 100 * day, false, "", "must trust its root"},
		{"of another name", "10.9.9.9", 100 * day, true, "", "a name that the certificate has"},
	} {
		t.Run(c.name, func(t *testing.T) {
			url, roots := secure(t, c.host, time.Now().Add(c.left))
			b := examiner(t, nil)
			b.owned.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool()}
			if c.trusted {
				b.owned.TLSClientConfig.RootCAs = roots
			}
			_, err := b.head(t.Context(), url)
			if (err == nil) != (c.hint == "") || err != nil && !strings.Contains(webHint(err), c.hint) {
				t.Errorf("%v, hint %q", err, webHint(err))
			}
			if got := strings.Join(b.warnings, "\n"); !strings.Contains(got, c.warning) || (got == "") != (c.warning == "") {
				t.Errorf("warnings %q", got)
			}
		})
	}
}

func TestHintsOfTheWeb(t *testing.T) {
	web := httptest.NewServer(http.NotFoundHandler())
	b := examiner(t, nil)
	_, missing := b.head(t.Context(), web.URL)
	web.Close()
	_, refused := b.head(t.Context(), web.URL)
	_, unknown := b.head(t.Context(), "http://nowhere.invalid/")
	for _, c := range []struct {
		err  error
		hint string
	}{
		{missing, "curl -I"}, {refused, "reachable from the machines' network"}, {unknown, "must resolve"}, {errors.New("else"), ""},
	} {
		if got := webHint(c.err); c.err == nil || !strings.Contains(got, c.hint) || (got == "") != (c.hint == "") {
			t.Errorf("%v: %q", c.err, got)
		}
	}
}

// What a script or a URL holds of secrets does not get into errors and steps.
func TestSecretsStayInside(t *testing.T) {
	for _, script := range []string{
		"#!ipxe\nkernel http://user:hunter2@127.0.0.1:1/k?token=hunter2 key=hunter2",
		"#!ipxe\nchain http://user:hunter2@127.0.0.1:1/k?token=hunter2",
		"#!ipxe\nset key hunter2\niseq ${key} other && kernel gopher://user:hunter2@x/?hunter2 || kernel http://127.0.0.1:1%zz/hunter2",
		"#!ipxe\nkernel tftp://hunter2@example/?hunter2",
	} {
		result, _, err := runScript(t.Context(), t, script, nil)
		if err == nil {
			t.Errorf("%q works", script)
		}
		if text := fmt.Sprintf("%+v %v", result.Steps, err); strings.Contains(text, "hunter2") {
			t.Errorf("%q tells its secret: %s", script, text)
		}
	}
}

// windows is a TFTP server that knows RFC 7440, and counts the acknowledgements. It
// loses a block once.
func windows(t *testing.T, content []byte) (netip.AddrPort, *atomic.Int64) {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	acks, done := &atomic.Int64{}, make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() {
		defer close(done)
		buffer := make([]byte, 2048)
		block, window, lost := 512, 1, false
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			first := 1
			switch binary.BigEndian.Uint16(buffer) {
			case opRead:
				words := strings.Split(string(buffer[2:n]), "\x00")
				for i, word := range words {
					if word == "blksize" {
						block, _ = strconv.Atoi(words[i+1])
					}
					if word == "windowsize" {
						window, _ = strconv.Atoi(words[i+1])
					}
				}
				if len(words) > 3 {
					_, _ = conn.WriteToUDPAddrPort([]byte(fmt.Sprintf("\x00\x06blksize\x00%d\x00windowsize\x00%d\x00", block, window)), from)
					continue
				}
			case opAck:
				acks.Add(1)
				first = int(binary.BigEndian.Uint16(buffer[2:])) + 1
			default:
				continue
			}
			for number := first; number < first+window && (number-1)*block <= len(content); number++ {
				if number == 6 && !lost {
					lost = true
					continue
				}
				data := binary.BigEndian.AppendUint16([]byte{0, opData}, uint16(number))
				data = append(data, content[(number-1)*block:min(number*block, len(content))]...)
				_, _ = conn.WriteToUDPAddrPort(data, from)
			}
		}
	}()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort(), acks
}

func TestWindows(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 3000)
	for window, want := range map[int]int{1: 22, 4: 7} {
		server, acks := windows(t, content)
		b := examiner(t, nil)
		got, err := b.again(t.Context(), server, "x", wish{block: 1468, window: window, options: true})
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("window %d: %d bytes, %v", window, len(got), err)
		}
		if n := int(acks.Load()); n < want || n > want+2 {
			t.Errorf("window %d: %d acknowledgements, not about %d", window, n, want)
		}
	}
}

func TestOtherWaysOverTFTP(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789a"), 50000)
	server := tftpServer(t, map[string][]byte{"good": content, "changed": content[1:]})
	b := examiner(t, nil)
	b.examineTFTP(t.Context(), server, "good", content)
	if len(b.warnings) > 0 {
		t.Errorf("warns of %q", b.warnings)
	}
	b.examineTFTP(t.Context(), server, "changed", content)
	if len(b.warnings) != len(otherWays) || !strings.Contains(b.warnings[0], "another content came") {
		t.Errorf("warns of %q", b.warnings)
	}
}

func TestWaitingEndsTheExamination(t *testing.T) {
	for script, want := range map[string]Outcome{
		"#!ipxe\necho held\nsleep 15\nchain ${n}":                                                   OutcomeWait,
		"#!ipxe\nsleep 3\nsleep 3\nsanboot":                                                         OutcomeDisk,
		"#!ipxe\n:again\nsleep 4\ngoto again":                                                       OutcomeWait,
		"#!ipxe\nmenu x\nitem --gap -- y\nitem disk z\nchoose t && goto ${t}\n:disk\nsanboot":       OutcomeDisk,
		"#!ipxe\nmenu x\nitem a b\nchoose --timeout 5 --default off t && goto ${t}\n:off\npoweroff": OutcomeOff,
		"#!ipxe\ncpuid --ext 29 && poweroff || reboot":                                              OutcomeOff,
	} {
		b := examiner(t, func(c *Client) { c.Firmware = IPXE })
		i := &interpreter{boot: b, builtins: builtins(), settings: b.settings(Offer{})}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		var e ended
		if err := i.run(ctx, script, nil); !errors.As(err, &e) || e.outcome != want {
			t.Errorf("%q: %v", script, err)
		}
		cancel()
	}
}
