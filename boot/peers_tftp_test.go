package boot_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	peerFile  = "loader.bin"
	peerSize  = 1 << 20
	blockSize = 1468
)

// tftpReader reads one file as firmware does, in windows of blocks (RFC 7440).
type tftpReader struct {
	conn   *net.UDPConn
	server netip.AddrPort
	window uint16
	out    []byte // sent last, and again when nothing comes
	next   uint16 // the block that is awaited
	held   uint16 // blocks since the last acknowledgement
	total  int
}

func readTFTP(server netip.AddrPort, window uint16) (int, error) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: server.Addr().AsSlice()})
	if err != nil {
		return 0, err
	}
	defer conn.Close() //nolint:errcheck // read only

	r := tftpReader{conn: conn, server: server, window: 1, next: 1}
	request := "\x00\x01" + peerFile + "\x00octet\x00blksize\x00" + strconv.Itoa(blockSize) + "\x00"

	if window > 1 {
		request += "windowsize\x00" + strconv.Itoa(int(window)) + "\x00"
	}

	return r.read([]byte(request))
}

func (r *tftpReader) read(request []byte) (int, error) {
	buffer := make([]byte, 4+blockSize)
	r.out = request

	for tries := 0; tries < 10; {
		if r.out != nil {
			if _, err := r.conn.WriteToUDPAddrPort(r.out, r.server); err != nil {
				return r.total, err
			}
		}

		if err := r.conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			return r.total, err
		}

		n, from, err := r.conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			tries++
			r.acknowledge()

			if r.next == 1 {
				r.out = request
			}

			continue
		}

		r.server, tries = from, 0
		if done, err := r.take(buffer[:n]); done || err != nil {
			return r.total, err
		}
	}

	return r.total, errors.New("the server fell silent")
}

// take takes a packet and says what is to be sent next.
func (r *tftpReader) take(packet []byte) (done bool, err error) {
	switch packet[1] {
	case 6: // OACK
		if _, value, found := strings.Cut(string(packet), "windowsize\x00"); found {
			n, _ := strconv.Atoi(strings.TrimRight(value, "\x00"))
			r.window = uint16(n)
		}

		r.acknowledge()
	case 3:
		if binary.BigEndian.Uint16(packet[2:]) != r.next {
			r.acknowledge()

			return false, nil
		}

		r.total += len(packet) - 4
		r.next++
		r.held++

		if done = len(packet) < 4+blockSize; done || r.held == r.window {
			r.acknowledge()
		} else {
			r.out = nil
		}

		if done {
			_, err = r.conn.WriteToUDPAddrPort(r.out, r.server)
		}
	case 5:
		return false, fmt.Errorf("the server refuses: %q", packet)
	default: // tftpd-hpa repeats its packets wrongly when it must wait
		r.out = nil
	}

	return done, err
}

func (r *tftpReader) acknowledge() {
	r.out, r.held = binary.BigEndian.AppendUint16([]byte{0, 4}, r.next-1), 0
}

// tftpServer is a server of the same file.
type tftpServer struct {
	name string
	addr netip.AddrPort
}

// tftpServers starts the servers; each is a process of its own.
func tftpServers(t *testing.T) []tftpServer {
	t.Helper()

	dir := t.TempDir()
	for folder := dir; strings.HasPrefix(folder, os.TempDir()+"/"); folder = filepath.Dir(folder) {
		if err := os.Chmod(folder, 0o755); err != nil { //nolint:gosec // for the peers' users to read
			t.Fatal(err)
		}
	}

	if err := os.WriteFile(filepath.Join(dir, peerFile), make([]byte, peerSize), 0o644); err != nil { //nolint:gosec // the same
		t.Fatal(err)
	}

	free := func() netip.AddrPort {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close() //nolint:errcheck // the peer takes its place

		return conn.LocalAddr().(*net.UDPAddr).AddrPort()
	}

	hpa, atftpd, dnsmasq := free(), free(), netip.MustParseAddrPort("127.0.69.1:69") // dnsmasq knows port 69 alone

	startServer(t, exec.Command("in.tftpd", "-L", "--user", "root", "--address", hpa.String(), "--secure", dir))
	startServer(t, exec.Command("atftpd", "--daemon", "--no-fork", "--user", "root", "--group", "root", "--maxthread", "400", "--verbose=0",
		"--bind-address", "127.0.0.1", "--port", strconv.Itoa(int(atftpd.Port())), "--logfile", os.DevNull, dir))
	startServer(t, exec.Command("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file",
		"--bind-interfaces", "--listen-address="+dnsmasq.Addr().String(), "--enable-tftp", "--tftp-root="+dir, "--tftp-max=400", "--log-facility="+os.DevNull))

	return []tftpServer{{"bmctl", startOurs(t, "127.0.0.1 "+dir)}, {"dnsmasq", dnsmasq}, {"tftpd-hpa", hpa}, {"atftpd", atftpd}}
}

// transfers loads the file with so many clients at once, each as often as told, and
// returns MB/s.
func (p tftpServer) transfers(t *testing.T, clients, each int, window uint16) float64 {
	t.Helper()

	begun := time.Now()

	var loading sync.WaitGroup
	for range clients {
		loading.Go(func() {
			for range each {
				if n, err := readTFTP(p.addr, window); n != peerSize || err != nil {
					t.Errorf("%s: %d bytes, %v", p.name, n, err)
				}
			}
		})
	}

	loading.Wait()

	return float64(clients*each) * peerSize / 1e6 / time.Since(begun).Seconds()
}

// TestBesideTFTPServers prints the rows of docs/design/performance.md for TFTP: all
// send one file of 1 MiB in turns, and medians count.
func TestBesideTFTPServers(t *testing.T) {
	wantPeers(t, "dnsmasq", "in.tftpd", "atftpd")

	peers := tftpServers(t)
	for _, p := range peers {
		for begun := time.Now(); ; {
			if _, err := readTFTP(p.addr, 1); err == nil {
				break
			} else if time.Since(begun) > 20*time.Second {
				t.Fatal(p.name, err)
			}
		}
	}

	fmt.Println("| Window | Clients | bmctl MB/s | dnsmasq | tftpd-hpa | atftpd | Ratio to the best (wanted >= 1.0) |\n|---|---|---|---|---|---|---|")

	for _, window := range []uint16{1, 16} {
		for _, load := range []struct{ clients, each int }{{1, 20}, {50, 2}, {200, 1}} {
			rates := map[string][]float64{}

			for round := range peerRounds + 1 {
				for _, p := range peers {
					rate := p.transfers(t, load.clients, load.each, window)
					if round > 0 { // the first one warms up
						rates[p.name] = append(rates[p.name], rate)
					}
				}
			}

			row, best := fmt.Sprintf("| %d | %d |", window, load.clients), 0.0

			for _, p := range peers {
				median, least, most := spread(rates[p.name])
				row += fmt.Sprintf(" %.0f (%.0f to %.0f) |", median, least, most)

				if p.name != "bmctl" {
					best = max(best, median)
				}
			}

			ours, _, _ := spread(rates["bmctl"])
			fmt.Printf("%s %.2f |\n", row, ours/best)
		}
	}
}
