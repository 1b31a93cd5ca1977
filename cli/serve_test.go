package cli_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bmctl/bmctl/serve/localapi"
)

// serveCommand is bmctl serve on loopback ports of its own.
func serveCommand(t *testing.T, dir, endpoint, key string) *exec.Cmd {
	t.Helper()

	cmd := exec.CommandContext(t.Context(), "bmctl", "serve", "-o", "json",
		"--api-listen-address=127.0.0.1", "--api-advertise-address=127.0.0.1", "--dhcp-proxy-iface-or-ip=127.0.0.1",
		"--api-port=0", "--dhcp-port=0", "--pxe-port=0", "--tftp-port=0", "--metrics-address=",
		"--state-dir="+filepath.Join(dir, "state"), "--socket="+filepath.Join(dir, "serve.sock"))
	cmd.Env = append(os.Environ(), "HOME="+dir, "OMNI_ENDPOINT="+endpoint, "OMNI_SERVICE_ACCOUNT_KEY="+key)

	return cmd
}

func TestServeWithAKeyThatOmniRefuses(t *testing.T) {
	here, elsewhere := newWorld(t), newWorld(t)
	dir := t.TempDir()
	cmd := serveCommand(t, dir, here.omni.Endpoint(), elsewhere.omni.ProviderKey())

	var stderr bytes.Buffer

	cmd.Stderr = &stderr

	if code := exitCode(t, cmd.Run()); code != 4 {
		t.Errorf("exit code %d, want 4\n%s", code, stderr.String())
	}

	lines := strings.Split(strings.TrimSpace(stderr.String()), "\n")

	var last struct {
		Error struct{ Code, Message string }
	}

	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last.Error.Code != "omni_auth" {
		t.Errorf("%v: the last line is %s", err, lines[len(lines)-1])
	}

	if strings.Contains(stderr.String(), elsewhere.omni.ProviderKey()) {
		t.Error("the key is in the output")
	}

	if _, err := os.Stat(filepath.Join(dir, "serve.sock")); err == nil {
		t.Error("the socket was bound")
	}
}

func TestServeRunsUntilSIGTERM(t *testing.T) {
	w := newWorld(t)

	dir, err := os.MkdirTemp("", "serve") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})

	cmd := serveCommand(t, dir, w.omni.Endpoint(), w.omni.ProviderKey())

	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}

	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	// Read the log all the while, or serve would wait for it.
	logged := make(chan []string)

	go func() {
		var lines []string
		for scanner := bufio.NewScanner(stderr); scanner.Scan(); {
			lines = append(lines, scanner.Text())
		}

		logged <- lines
	}()

	health := awaitHealth(t, filepath.Join(dir, "serve.sock"))
	if health.PID != cmd.Process.Pid || health.ProviderID != provider {
		t.Errorf("health is %+v", health)
	}

	conn, err := net.Dial("tcp", health.HTTP)
	if err != nil {
		t.Errorf("the HTTP listener that health names: %v", err)
	} else if err := conn.Close(); err != nil {
		t.Error(err)
	}

	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}

	lines := <-logged

	if code := exitCode(t, cmd.Wait()); code != 0 {
		t.Errorf("exit code %d after SIGTERM, want 0\n%s", code, strings.Join(lines, "\n"))
	}

	for _, line := range lines {
		var entry struct {
			Level, Msg string
			TS         float64
		}

		if err := json.Unmarshal([]byte(line), &entry); err != nil || entry.Msg == "" || entry.TS < 1e9 || entry.Level != strings.ToLower(entry.Level) {
			t.Errorf("not a line that operators parse (%v): %s", err, line)
		}
	}

	if len(lines) == 0 || !strings.Contains(lines[0], `"msg":"starting provider"`) {
		t.Errorf("the log begins with %q", lines)
	}
}

func awaitHealth(t *testing.T, socket string) localapi.Health {
	t.Helper()

	client := localapi.Dial(socket)
	defer client.Close()

	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		health, err := client.Health(t.Context())
		if err == nil {
			return health
		}

		if time.Now().After(deadline) {
			t.Fatalf("serve does not answer: %v", err)
		}
	}
}
