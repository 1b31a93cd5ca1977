package assetcache_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bmctl/bmctl/serve/assetcache"
)

// peersEnv asks for the comparison, which takes minutes and a quiet machine.
const peersEnv = "BMCTL_BENCH_PEERS"

const (
	peerSize   = 200 << 20
	peerRounds = 7
)

// serveFrom is the cache as a process of its own: its CPU time is the server's alone.
func serveFrom(dir string) {
	cache, err := assetcache.Open(assetcache.Config{Dir: dir})
	if err != nil {
		panic(err)
	}

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}

	fmt.Println(listener.Addr())

	server := &http.Server{Handler: cache}
	context.AfterFunc(untilStdinEnds(), func() { _ = server.Close() })

	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		panic(err)
	}

	os.Exit(0)
}

func untilStdinEnds() context.Context {
	ctx, cancel := context.WithCancel(context.Background())

	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()

	return ctx
}

// peer is a server of the same file.
type peer struct {
	name, url string
	pid       int
}

// cpu is the time that the process and its children spent, in the kernel's ticks of
// 10 ms.
func (p peer) cpu(t *testing.T) time.Duration {
	t.Helper()

	children, err := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", p.pid))
	if err != nil {
		t.Fatal(err)
	}

	spent := cpuOf(t, strconv.Itoa(p.pid))
	for _, child := range strings.Fields(string(children)) {
		spent += cpuOf(t, child)
	}

	return spent
}

func cpuOf(t *testing.T, pid string) time.Duration {
	t.Helper()

	data, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		t.Fatal(err)
	}

	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	ticks := 0

	for _, field := range fields[11:13] { // utime and stime, proc(5)
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}

		ticks += n
	}

	return time.Duration(ticks) * 10 * time.Millisecond
}

// transfers downloads the file with so many clients at once, each as often as told,
// and returns MB/s and the server's CPU seconds for each GB.
func (p peer) transfers(t *testing.T, clients, each int) (rate, cpu float64) {
	t.Helper()

	transport := &http.Transport{MaxIdleConnsPerHost: clients, ReadBufferSize: 256 << 10}
	defer transport.CloseIdleConnections()

	client := &http.Client{Transport: transport}
	spent, begun := p.cpu(t), time.Now()

	var loading sync.WaitGroup
	for range clients {
		loading.Go(func() {
			for range each {
				response, err := client.Get(p.url)
				if err != nil {
					t.Error(err)

					return
				}

				n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{response.Body}, make([]byte, 256<<10))
				if err = errors.Join(err, response.Body.Close()); n != peerSize || err != nil {
					t.Errorf("%s: %d bytes, %v", p.name, n, err)
				}
			}
		})
	}

	loading.Wait()

	total := float64(clients*each) * peerSize

	return total / 1e6 / time.Since(begun).Seconds(), (p.cpu(t) - spent).Seconds() / total * 1e9
}

// start runs a server until the test ends.
func startPeer(t *testing.T, cmd *exec.Cmd) *bufio.Reader {
	t.Helper()

	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}

	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}

	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})

	return bufio.NewReader(stdout)
}

func startOurs(t *testing.T, dir string) peer {
	t.Helper()

	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "ASSETCACHE_TEST_SERVE="+dir)

	addr, err := startPeer(t, cmd).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}

	return peer{"bmctl", "http://" + strings.TrimSpace(addr) + initrd.Path(), cmd.Process.Pid}
}

func startNginx(t *testing.T, file string) peer {
	t.Helper()

	nginx, err := exec.LookPath("nginx")
	if err != nil {
		t.Skipf("nginx is not installed (apt-get install nginx-light): %v", err)
	}

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}

	addr, dir := listener.Addr().String(), t.TempDir()
	_ = listener.Close() // nginx takes its place

	config := fmt.Sprintf("daemon off; user root; worker_processes auto; pid %[1]s/pid; error_log %[1]s/error.log;\nevents {}\n"+
		"http { access_log off; sendfile on; tcp_nopush on; server { listen %[2]s; root %[3]s; } }\n", dir, addr, filepath.Dir(file))

	path := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}

	cmd := exec.Command(nginx, "-c", path) // killed by a context it would leave its workers
	startPeer(t, cmd)

	for t.Context().Err() == nil {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()

			break
		}

		time.Sleep(10 * time.Millisecond) // until it listens
	}

	return peer{"nginx", "http://" + addr + "/" + filepath.Base(file), cmd.Process.Pid}
}

func median(values []float64) float64 {
	slices.Sort(values)

	return values[len(values)/2]
}

// TestBesideNginx prints the row of docs/design/performance.md for boot assets: both
// serve one file of 200 MB from the page cache, in turns, and medians count.
func TestBesideNginx(t *testing.T) {
	if os.Getenv(peersEnv) == "" {
		t.Skip("a comparison for a quiet machine: set " + peersEnv + "=1")
	}

	o, dir := newOrigin(t), t.TempDir()
	o.size = peerSize

	cache := open(t, dir, o)
	if _, err := cache.Fetch(t.Context(), initrd, nil); err != nil {
		t.Fatal(err)
	}

	peers := []peer{startOurs(t, dir), startNginx(t, fileOf(t, dir, "initramfs"))}

	for _, load := range []struct{ clients, each int }{{1, 10}, {20, 1}} {
		rates, cpus := map[string][]float64{}, map[string][]float64{}

		for round := range peerRounds + 1 {
			for _, p := range peers {
				rate, cpu := p.transfers(t, load.clients, load.each)
				if round > 0 { // the first one warms up, and we verify the digest
					rates[p.name], cpus[p.name] = append(rates[p.name], rate), append(cpus[p.name], cpu)
				}
			}
		}

		ours, theirs := median(rates["bmctl"]), median(rates["nginx"])
		ourCPU, theirCPU := median(cpus["bmctl"]), median(cpus["nginx"])
		fmt.Printf("| %d | %.0f | %.0f | %.2f | %.3f | %.3f | %.2f |\n", load.clients, ours, theirs, ours/theirs, ourCPU, theirCPU, ourCPU/theirCPU)
	}
}
