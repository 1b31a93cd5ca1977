package boot_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/bmctl/bmctl/boot"
)

// tftpPeer is a client that sends what a test tells it.
type tftpPeer struct {
	*net.UDPConn
	t      *testing.T
	server netip.AddrPort
	from   netip.AddrPort
}

func newPeer(t *testing.T, server netip.AddrPort) *tftpPeer {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 77, 1, 9)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &tftpPeer{UDPConn: conn, t: t, server: server, from: server}
}

// ask sends a request to the server's port.
func (p *tftpPeer) ask(op byte, words ...string) {
	p.t.Helper()
	packet := append([]byte{0, op}, strings.Join(words, "\x00")+"\x00"...)
	if _, err := p.WriteToUDPAddrPort(packet, p.server); err != nil {
		p.t.Fatal(err)
	}
}

// say sends a packet of the transfer to where its last packet came from.
func (p *tftpPeer) say(op byte, number uint16, more string) {
	p.t.Helper()
	packet := append(binary.BigEndian.AppendUint16([]byte{0, op}, number), more...)
	if _, err := p.WriteToUDPAddrPort(packet, p.from); err != nil {
		p.t.Fatal(err)
	}
}

// hear returns the next packet: operation, number (of DATA, ACK, ERROR) and rest.
func (p *tftpPeer) hear() (op byte, number uint16, rest string) {
	p.t.Helper()
	if err := p.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		p.t.Fatal(err)
	}
	buffer := make([]byte, 65536)
	n, from, err := p.ReadFromUDPAddrPort(buffer)
	if err != nil {
		p.t.Fatal(err)
	}
	p.from = from
	if buffer[1] == 6 {
		return 6, 0, string(buffer[2:n])
	}
	return buffer[1], binary.BigEndian.Uint16(buffer[2:]), string(buffer[4:n])
}

// hearData expects DATA of a number.
func (p *tftpPeer) hearData(numbers ...uint16) (content string) {
	p.t.Helper()
	for _, want := range numbers {
		op, number, rest := p.hear()
		if op != 3 || number != want {
			p.t.Fatalf("operation %d, number %d (%.60q) instead of DATA %d", op, number, rest, want)
		}
		content += rest
	}
	return content
}

func TestTFTPRefusals(t *testing.T) {
	f := start(t, boot.Config{})
	for _, c := range []struct {
		op     byte
		words  []string
		code   uint16
		text   string
		reason string
	}{
		{1, []string{"nothing", "octet"}, 1, "there is no file \"nothing\"", "there is no file"},
		{1, []string{"../../etc/passwd", "octet"}, 1, "there is no file", "there is no file"},
		{2, []string{"ipxe.efi", "octet"}, 2, "does not take files", "does not take files"},
		{1, []string{"ipxe.efi", "mail"}, 4, "the mode is neither", "the mode is neither"},
		{1, []string{"ipxe.efi"}, 4, "no file name or mode", "no file name or mode"},
		{1, []string{"", "octet"}, 4, "no file name or mode", "no file name or mode"},
	} {
		p := newPeer(t, f.Addrs().TFTP)
		p.ask(c.op, c.words...)
		op, code, text := p.hear()
		if op != 5 || code != c.code || !strings.Contains(text, c.text) || !strings.HasSuffix(text, "\x00") {
			t.Errorf("%q: operation %d, code %d, %q", c.words, op, code, text)
		}
		if e := f.event(t, boot.EventIgnored); !strings.Contains(e.Reason, c.reason) || e.Addr.String() != "127.77.1.9" {
			t.Errorf("%q: event %+v", c.words, e)
		}
	}
	p := newPeer(t, f.Addrs().TFTP)
	for packet, reason := range map[string]string{"": "malformed TFTP packet of 0 bytes", "\x00\x04\x00\x01": "TFTP operation 4 outside", "\x00\x01ipxe.efi": "the request is cut off"} {
		if _, err := p.WriteToUDPAddrPort([]byte(packet), p.server); err != nil {
			t.Fatal(err)
		}
		if e := f.event(t, boot.EventIgnored); !strings.Contains(e.Reason, reason) {
			t.Errorf("%q: event %+v", packet, e)
		}
	}
}

// One address, however greedy, leaves room for the others, and has room again when
// its transfers end.
func TestTFTPOfAGreedyAddress(t *testing.T) {
	const bound = 500
	for _, single := range []bool{false, true} {
		f := start(t, boot.Config{TFTPSinglePort: single})
		var peers []*tftpPeer
		for range bound {
			p := newPeer(t, f.Addrs().TFTP)
			p.ask(1, "ipxe.efi", "octet", "timeout", "30")
			if op, _, _ := p.hear(); op != 6 {
				t.Fatalf("transfer %d: operation %d", len(peers)+1, op)
			}
			peers = append(peers, p)
		}
		one := newPeer(t, f.Addrs().TFTP)
		one.ask(1, "ipxe.efi", "octet")
		if op, code, text := one.hear(); op != 5 || code != 3 || text != "500 transfers to this address run already\x00" {
			t.Errorf("one more: operation %d, number %d, %.60q", op, code, text)
		}
		if e := f.event(t, boot.EventIgnored); !strings.Contains(e.Reason, "500 transfers to this address") || e.Addr.String() != "127.77.1.9" {
			t.Errorf("event %+v", e)
		}
		if got := drainTFTP(f.Addrs().TFTP); got < 1<<20-1<<16 {
			t.Errorf("another address: %d bytes", got)
		}
		peers[7].say(4, 0, "")
		peers[7].hearData(1)
		peers[7].say(4, 1, "")
		peers[7].hearData(2)
		peers[7].say(5, 0, "enough\x00")
		for !strings.Contains(f.event(t, boot.EventIgnored).Reason, "the client aborted") {
		}
		one.ask(1, "ipxe.efi", "octet")
		one.hearData(1)
		for _, p := range append(peers, one) {
			p.say(5, 0, "enough\x00")
		}
	}
}

func TestTFTPOptions(t *testing.T) {
	f := start(t, boot.Config{})
	size := len(fetchHTTP(t, f.http+"/tftp/undionly.kpxe"))
	for _, c := range []struct{ ask, want string }{
		{"tsize 0", fmt.Sprintf("tsize %d", size)},
		{"blksize 1468", "blksize 1468"},
		{"BLKSIZE 8 unknown 1 TSize 0", fmt.Sprintf("tsize %d blksize 8", size)},
		{"blksize 65464 windowsize 65535 timeout 3", "blksize 65464 windowsize 64 timeout 3"},
	} {
		p := newPeer(t, f.Addrs().TFTP)
		p.ask(1, append([]string{"undionly.kpxe", "octet"}, strings.Fields(c.ask)...)...)
		op, _, rest := p.hear()
		if got := strings.TrimSpace(strings.ReplaceAll(rest, "\x00", " ")); op != 6 || got != c.want {
			t.Errorf("asked for %s: operation %d, %s", c.ask, op, got)
		}
		p.say(5, 8, "enough\x00")
	}
	for _, nonsense := range []string{"blksize 7", "blksize 65465", "blksize x", "windowsize 0", "timeout 0", "timeout 256", "tsize 5"} {
		p := newPeer(t, f.Addrs().TFTP)
		p.ask(1, append([]string{"undionly.kpxe", "octet"}, strings.Fields(nonsense)...)...)
		if content := p.hearData(1); len(content) != 512 {
			t.Errorf("%s: a block of %d bytes", nonsense, len(content))
		}
		p.say(5, 0, "enough\x00")
	}
}

func TestTFTPSizeProbeIsNoError(t *testing.T) {
	f := start(t, boot.Config{})
	p := newPeer(t, f.Addrs().TFTP)
	p.ask(1, "ipxe.efi", "octet", "tsize", "0", "blksize", "1468")
	p.hear()
	p.say(5, 8, "User aborted the transfer\x00")
	content := fetchTFTP(t, f, "undionly.kpxe")
	for {
		e := <-f.events
		if e.Type == boot.EventIgnored {
			t.Errorf("event %+v", e)
		}
		if e.Type == boot.EventLoader {
			if e.File != "undionly.kpxe" || e.Bytes != int64(len(content)) {
				t.Errorf("event %+v", e)
			}
			break
		}
	}
}

// Lost, repeated and late packets, with windows of one and of four blocks.
func TestTFTPOverABadWire(t *testing.T) {
	for _, single := range []bool{false, true} {
		f := start(t, boot.Config{TFTPSinglePort: single})
		whole := string(fetchHTTP(t, f.http+"/tftp/undionly.kpxe"))
		block := func(n int) string { return whole[(n-1)*1024 : n*1024] }

		p := newPeer(t, f.Addrs().TFTP)
		p.ask(1, "undionly.kpxe", "octet", "blksize", "1024", "timeout", "1")
		p.hear()
		if single != (p.from == p.server) {
			t.Errorf("single port %v, but the answer came from %v", single, p.from)
		}
		p.say(4, 0, "")
		p.hearData(1)
		p.hearData(1) // sent again after a second without an answer
		p.say(4, 1, "")
		p.hearData(2)
		p.say(4, 1, "") // a duplicate: must not be answered, or all would come twice
		p.say(4, 9, "") // of a block not sent
		p.say(4, 2, "")
		if got := p.hearData(3); got != block(3) {
			t.Error("block 3 is not the file's")
		}
		p.say(5, 0, "enough\x00")

		p = newPeer(t, f.Addrs().TFTP)
		p.ask(1, "undionly.kpxe", "octet", "blksize", "1024", "windowsize", "4")
		p.hear()
		p.say(4, 0, "")
		if got := p.hearData(1, 2, 3, 4); got != whole[:4096] {
			t.Error("the first window is not the file's")
		}
		p.say(4, 2, "") // 3 was lost
		p.hearData(3, 4, 5, 6)
		p.say(4, 2, "") // 3 was lost again
		p.hearData(3, 4, 5, 6)
		p.say(4, 6, "")
		if got := p.hearData(7, 8, 9, 10); got != block(7)+block(8)+block(9)+block(10) {
			t.Error("the third window is not the file's")
		}
		p.say(5, 0, "disk full\x00")
		for {
			if e := f.event(t, boot.EventIgnored); e.Bytes == 6*1024 {
				if !strings.Contains(e.Reason, `the client aborted: "disk full" (TFTP error 0)`) {
					t.Errorf("event %+v", e)
				}
				break
			}
		}
	}
}

func TestTFTPEndsWithAShortBlock(t *testing.T) {
	f := start(t, boot.Config{})
	whole := fetchHTTP(t, f.http+"/tftp/undionly.kpxe")
	p := newPeer(t, f.Addrs().TFTP)
	exact := fmt.Sprint(len(whole) / 2) // two full blocks and an empty one
	if len(whole)%2 != 0 {
		t.Fatalf("the file has %d bytes: choose another", len(whole))
	}
	p.ask(1, "undionly.kpxe", "octet", "blksize", exact)
	p.hear()
	p.say(4, 0, "")
	got := p.hearData(1)
	p.say(4, 1, "")
	got += p.hearData(2)
	p.say(4, 2, "")
	if last := p.hearData(3); last != "" || got != string(whole) {
		t.Errorf("%d bytes and %d in the last block", len(got), len(last))
	}
	p.say(4, 3, "")
	if e := f.event(t, boot.EventLoader); e.File != "undionly.kpxe" {
		f.event(t, boot.EventLoader)
	}
}

// curl is a client by yet another author.
func TestCurlReadsTFTP(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("curl is not installed")
	}
	for _, single := range []bool{false, true} {
		f := start(t, boot.Config{TFTPSinglePort: single})
		for _, args := range [][]string{{"--tftp-no-options"}, {"--tftp-blksize", "1468"}, {"--tftp-blksize", "65464"}} {
			got, err := exec.CommandContext(t.Context(), curl, append(args, "-s", "-S", "tftp://"+f.Addrs().TFTP.String()+"/ipxe.efi")...).Output()
			if err != nil || !bytes.Equal(got, fetchHTTP(t, f.http+"/tftp/ipxe.efi")) {
				t.Errorf("%v: %d bytes, %v", args, len(got), err)
			}
		}
	}
}

// Run waits for a running transfer, but not for a client that died.
func TestShutdownEndsTransfers(t *testing.T) {
	server, err := boot.New(boot.Config{Decider: &decider{}, Advertise: loopback, Interface: "lo", ListenAddr: loopback})
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Bind(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	p := newPeer(t, server.Addrs().TFTP)
	p.ask(1, "ipxe.efi", "octet", "blksize", "1024")
	p.hear()
	cancel()
	p.say(4, 0, "")
	p.hearData(1)
	p.say(4, 1, "")
	p.hearData(2) // still served; then silence
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Run did not return")
	}
}

func BenchmarkTFTP(b *testing.B) {
	for _, clients := range []int{1, 50, 200} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) { benchmarkTFTP(b, clients) })
	}
}

func benchmarkTFTP(b *testing.B, clients int) {
	server, err := boot.New(boot.Config{Decider: &decider{}, Advertise: loopback, Interface: "lo", ListenAddr: loopback})
	if err != nil {
		b.Fatal(err)
	}
	if err := server.Bind(); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	defer func() { cancel(); <-done }()
	results := make(chan int64, clients)
	b.ResetTimer()
	for range b.N {
		for range clients {
			go func() { results <- drainTFTP(server.Addrs().TFTP) }()
		}
		for range clients {
			b.SetBytes(<-results * int64(clients))
		}
	}
}

// drainTFTP reads ipxe.efi in lockstep, with blocks of 1468 bytes.
func drainTFTP(server netip.AddrPort) (total int64) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return 0
	}
	defer conn.Close()
	buffer := make([]byte, 2048)
	out, to := []byte("\x00\x01ipxe.efi\x00octet\x00blksize\x001468\x00"), server
	for {
		if _, err := conn.WriteToUDPAddrPort(out, to); err != nil {
			return 0
		}
		n, from, err := conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			return 0
		}
		if to = from; buffer[1] == 6 {
			out = []byte{0, 4, 0, 0}
			continue
		}
		total += int64(n - 4)
		out = []byte{0, 4, buffer[2], buffer[3]}
		if n < 1472 {
			conn.WriteToUDPAddrPort(out, to)
			return total
		}
	}
}
