package power_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/bmcsim"
	"github.com/bmctl/bmctl/power/bmctest"
)

// lockedBuffer collects a log.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()

	return l.b.String()
}

func (l *lockedBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// requests is the number of Redfish requests in a controller's log.
func (l *lockedBuffer) requests() int { return strings.Count(l.String(), "msg=redfish method=") }

// The password goes to the controller and nowhere else.
func TestPasswordStaysSecret(t *testing.T) {
	t.Parallel()

	for _, protocol := range []power.Protocol{power.ProtocolIPMI, power.ProtocolRedfish, power.ProtocolAuto} {
		var log lockedBuffer

		sim, target := bmctest.Simulated(t, bmcsim.Config{})
		target.Protocol = protocol
		target.Password = power.NewSecret("hunter2-hunter2")

		_, err := bmctest.Open(t, power.NewDialer(power.Options{Log: log.logger()}), target).State(bmctest.Context(t))
		bmctest.WantKind(t, err, target, power.ErrAuth)

		encoded, jsonErr := json.Marshal(target)
		if jsonErr != nil {
			t.Fatal(jsonErr)
		}

		shown := fmt.Sprintf("%v %+v %#v %s %s %s", target, target, target, err, encoded, log.String())
		if strings.Contains(shown, "hunter2") {
			t.Errorf("%s shows the password: %s", protocol, shown)
		}

		if sim.Sessions() != 0 {
			t.Error("a refused login has a session")
		}
	}
}
