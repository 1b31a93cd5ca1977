package localapi_test

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/bmctl/bmctl/serve/localapi"
)

func TestListenSetsModeAndGroup(t *testing.T) {
	group, err := user.LookupGroupId(fmt.Sprint(os.Getgid()))
	if err != nil {
		t.Fatal(err)
	}

	path := filepath.Join(t.TempDir(), "sock")
	server := localapi.NewServer(newFleet(), slog.New(slog.DiscardHandler))

	if err := server.Listen(path, group.Name); err != nil {
		t.Fatal(err)
	}

	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}

	if info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, want 0660", info.Mode())
	}

	if stat, ok := info.Sys().(*syscall.Stat_t); !ok || int(stat.Gid) != os.Getgid() {
		t.Errorf("gid %v, want %d", info.Sys(), os.Getgid())
	}

	if err := server.Close(); err != nil {
		t.Error(err)
	}

	err = localapi.NewServer(newFleet(), slog.New(slog.DiscardHandler)).Listen(path, "no-such-group-here")
	if err == nil || !strings.Contains(err.Error(), "no-such-group-here") {
		t.Errorf("unknown group: %v", err)
	}
}

func TestSocketOfADeadProcessIsReplacedALiveOneRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")

	command := exec.CommandContext(t.Context(), os.Args[0])
	command.Env = append(os.Environ(), "LOCALAPI_TEST_DIE_ON="+path)

	if text, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}

	if _, err := os.Lstat(path); err != nil {
		t.Fatalf("the dead process left no socket: %v", err)
	}

	log := slog.New(slog.DiscardHandler)
	living := localapi.NewServer(newFleet(), log)

	if err := living.Listen(path, ""); err != nil {
		t.Fatalf("replace the dead one: %v", err)
	}

	if err := localapi.NewServer(newFleet(), log).Listen(path, ""); !errors.Is(err, localapi.ErrInUse) {
		t.Errorf("beside a live one: %v, want ErrInUse", err)
	}

	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("the live one was harmed: %v", err)
	}

	if err := errors.Join(conn.Close(), living.Close()); err != nil {
		t.Error(err)
	}
}

func TestListenRefusesWhatIsNotOurs(t *testing.T) {
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)

	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}

	foreign := filepath.Join(dir, "foreign")

	listener, err := net.Listen("unix", foreign)
	if err != nil {
		t.Fatal(err)
	}

	defer listener.Close() //nolint:errcheck // end of the test

	for path, want := range map[string]string{
		file:    "is not a socket",
		foreign: "another process is serving",
		filepath.Join(dir, strings.Repeat("x", 200)): "longer than",
		filepath.Join(dir, "a", "b", "sock"):         "no such file",
	} {
		err := localapi.NewServer(newFleet(), log).Listen(path, "")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Listen(%s) = %v, want %q in it", path, err, want)
		}
	}

	if data, err := os.ReadFile(file); err != nil || string(data) != "precious" {
		t.Errorf("the file was touched: %q, %v", data, err)
	}
}

// TestOfManyThatStartAtOnceOneServes is the race that looking at the socket
// alone loses: two find it dead, and the second removes what the first has bound.
func TestOfManyThatStartAtOnceOneServes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")

	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}

	stale.SetUnlinkOnClose(false)

	if err := stale.Close(); err != nil {
		t.Fatal(err)
	}

	const rivals = 16

	results := make(chan *localapi.Server, rivals)
	begin := make(chan struct{})

	for range rivals {
		go func() {
			server := localapi.NewServer(newFleet(), slog.New(slog.DiscardHandler))

			<-begin

			if err := server.Listen(path, ""); err != nil {
				if !errors.Is(err, localapi.ErrInUse) {
					t.Errorf("Listen: %v, want ErrInUse", err)
				}

				server = nil
			}

			results <- server
		}()
	}

	close(begin)

	var winners []*localapi.Server

	for range rivals {
		if server := <-results; server != nil {
			winners = append(winners, server)
		}
	}

	if len(winners) != 1 {
		t.Errorf("%d servers hold the socket, want 1", len(winners))
	}

	for _, server := range winners {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}
}
