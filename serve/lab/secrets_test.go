package lab_test

import (
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cosi-project/runtime/pkg/safe"
	"github.com/siderolabs/omni/client/api/omni/specs"
	"github.com/siderolabs/omni/client/pkg/omni/resources/omni"
	"github.com/siderolabs/omni/client/pkg/omni/resources/siderolink"

	"github.com/bmctl/bmctl/power/bmcsim"
	"github.com/bmctl/bmctl/serve/lab"
	"github.com/bmctl/bmctl/serve/localapi"
)

// The secrets that a test can choose; the others are made by those who use them.
const (
	wrongLogin  = "Marked-Wrong-1!"
	rightLogin  = "Marked-Right-2!"
	kernelArg   = "markedkernelargument"
	kernelToken = "vault.token=" + kernelArg
)

// TestNoSecretGetsOut drives a serve at its most talkative through logins that work
// and logins that fail, faults, a crash and an outage, and then searches whatever it
// wrote, answers and shows for every secret that it was given or made.
func TestNoSecretGetsOut(t *testing.T) {
	for _, tls := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %t", tls), func(t *testing.T) {
			metrics := "127.0.0.1:" + freePort(t)
			flags := []string{"--debug", "--metrics-address=" + metrics}

			if tls {
				flags = append(flags, "--tls-enabled", "--tls-api-port="+freePort(t))
			}

			l := start(t, lab.Config{Speed: 4, MinRebootInterval: time.Second, Machines: 3, ServeFlags: flags})

			drive(t, l)
			search(t, secretsOf(t, l), output(t, l, metrics))
		})
	}
}

// drive takes the lab through what touches a secret.
func drive(t *testing.T, l *lab.Lab) {
	t.Helper()

	byUser, byAgent := l.Machines()[1], l.Machines()[2]

	must(t, byUser.BMC.SetUser("root", rightLogin))
	must(t, l.Omni().Configure(byAgent.UUID, func(s *specs.InfraMachineConfigSpec) { s.ExtraKernelArgs = kernelToken }))
	acceptAll(t, l)
	must(t, setBMC(t, l, byUser, wrongLogin))
	eventually(t, l, "a wrong login is shown", func() bool { return strings.Contains(view(t, l, byUser).Reason, "refused the login") })
	must(t, setBMC(t, l, byUser, rightLogin))

	for _, m := range l.Machines() {
		settled(t, l, m)
	}

	must(t, l.Omni().Allocate(byAgent.UUID, "prod", "1.13.5", nil))
	eventually(t, l, "running, with the secret argument", func() bool { return view(t, l, byAgent).Status == localapi.StatusRunning })

	for _, m := range []*lab.Machine{byUser, byAgent} {
		must(t, m.BMC.SetFault(bmcsim.FaultBadLogin, true))
		m.BMC.DropSessions() // a session that is open needs no login
	}

	for _, m := range []*lab.Machine{byUser, byAgent} {
		eventually(t, l, "a refused login is noticed", func() bool { return view(t, l, m).BMC.Error != "" })
		must(t, m.BMC.SetFault(bmcsim.FaultBadLogin, false))
		within(t, l, time.Minute, "the login is taken again", func() bool { return view(t, l, m).BMC.Error == "" })
	}

	l.KillServe()
	must(t, l.StartServe(t.Context()))
	restartOmni(t, l, func() error { return l.Omni().Close() })
	eventually(t, l, "Omni is missed", func() bool { return !health(t, l).OmniSince.IsZero() })
	within(t, l, time.Minute, "Omni is back, the BMCs are asked", func() bool {
		return health(t, l).OmniConnected && view(t, l, l.Machines()[0]).BMC.LatencySeconds > 0
	})
}

func health(t *testing.T, l *lab.Lab) localapi.Health {
	t.Helper()

	client := localapi.Dial(l.SocketPath())
	defer client.Close()

	h, err := client.Health(t.Context())
	must(t, err)

	return h
}

func setBMC(t *testing.T, l *lab.Lab, m *lab.Machine, password string) error {
	t.Helper()

	return safe.StateModify(t.Context(), l.Omni().State(), omni.NewInfraMachineBMCConfig(m.UUID), func(r *omni.InfraMachineBMCConfig) error {
		r.TypedSpec().Value.Ipmi = &specs.InfraMachineBMCConfigSpec_IPMI{
			Address: m.BMC.Addr().String(), Port: uint32(m.BMC.IPMIPort()), Username: "root", Password: password, //nolint:gosec // a port
		}

		return nil
	})
}

// secretsOf is every secret that there is, by what it is.
func secretsOf(t *testing.T, l *lab.Lab) map[string]string {
	t.Helper()

	secrets := map[string]string{
		"the service account key": l.Omni().ProviderKey(), "a user's wrong BMC password": wrongLogin, "a user's BMC password": rightLogin,
		"a kernel argument": kernelArg,
	}

	password, err := os.ReadFile(filepath.Join(filepath.Dir(l.SocketPath()), "bmc-password"))
	must(t, err)

	secrets["the inventory's BMC password"] = strings.TrimSpace(string(password))

	join, err := safe.StateGetByID[*siderolink.ProviderJoinConfig](t.Context(), l.Omni().State(), provider)
	must(t, err)

	secrets["the join token"] = join.TypedSpec().Value.JoinToken
	_, token, _ := strings.Cut(join.TypedSpec().Value.Config.KernelArgs[0], "jointoken=")
	token, err = url.QueryUnescape(token)
	must(t, err)

	secrets["the token in the join config"] = token

	for _, m := range l.Machines() {
		for i, token := range m.BMC.Tokens() {
			secrets[fmt.Sprintf("Redfish token %d of %s", i, m.Name)] = token
		}
	}

	for _, r := range (site{Lab: l}).dump(t) {
		switch fields := r.fields(t); r.Type {
		case "BMCConfiguration":
			secrets["the stored BMC password of "+r.ID], _ = fields["1.4"].(string)
		case "TLSConfig":
			key, _ := fields["2"].(string)
			secrets["the CA's key"] = strings.Split(key, "\n")[1]
		}
	}

	return secrets
}

// output is all that serve wrote, shows and answers, by where that was.
func output(t *testing.T, l *lab.Lab, metrics string) map[string]string {
	t.Helper()

	all := map[string]string{}
	dir := filepath.Dir(l.SocketPath())

	for _, place := range []string{"serve.log", "state"} {
		must(t, filepath.WalkDir(filepath.Join(dir, place), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}

			data, err := os.ReadFile(path)
			all[path] = string(data)

			return err
		}))
	}

	socket := &http.Client{Transport: &http.Transport{Dial: func(string, string) (net.Conn, error) { return net.Dial("unix", l.SocketPath()) }}}
	defer socket.CloseIdleConnections()

	for _, path := range []string{"/v1/machines", "/v1/machines/" + l.Machines()[1].UUID, "/v1/health", "/v1/history"} {
		all[path] = fetch(t, socket, "http://serve"+path)
	}

	for _, path := range []string{"/metrics", "/debug/pprof/goroutine?debug=2"} {
		all[path] = fetch(t, http.DefaultClient, "http://"+metrics+path)
	}

	pid := health(t, l).PID
	for _, name := range []string{"cmdline", "comm"} {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		must(t, err)

		all["/proc: "+name] = string(data)
	}

	for _, args := range [][]string{
		{"machines"}, {"machines", "-o", "json"}, {"machines", "get", l.Machines()[1].UUID}, {"config", "view", "--origin"},
		{"power", "status", "r1n01", "r1n02"}, {"power", "status", "r1n01", "-o", "json"},
	} {
		all["bmctl "+strings.Join(args, " ")] = bmctl(t, l, args...)
	}

	return all
}

func fetch(t *testing.T, client *http.Client, target string) string {
	t.Helper()

	response, err := client.Get(target)
	must(t, err)

	defer response.Body.Close() //nolint:errcheck // read only

	body, err := io.ReadAll(response.Body)
	must(t, err)

	if response.StatusCode != http.StatusOK || len(body) == 0 {
		t.Errorf("%s: %s, %d bytes", target, response.Status, len(body))
	}

	return string(body)
}

// bmctl is what the command says in the lab, at its most talkative.
func bmctl(t *testing.T, l *lab.Lab, args ...string) string {
	t.Helper()

	exe, err := os.Executable()
	must(t, err)

	cmd := exec.CommandContext(t.Context(), exe, args...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())

	for _, v := range l.Environment(os.Getenv("PATH")) {
		cmd.Env = append(cmd.Env, v.Name+"="+v.Value)
	}

	text, err := cmd.CombinedOutput()
	if len(text) == 0 {
		t.Errorf("bmctl %v says nothing (%v)", args, err)
	}

	return string(text)
}

// search looks for every secret, as it is and as it travels, in every output.
func search(t *testing.T, secrets, output map[string]string) {
	t.Helper()

	for what, secret := range secrets {
		if len(secret) < 8 {
			t.Errorf("%s is %q: too short to be looked for", what, secret)

			continue
		}

		for _, form := range []string{secret, url.QueryEscape(secret), base64.StdEncoding.EncodeToString([]byte(secret))} {
			for where, text := range output {
				if i := strings.Index(text, form); i >= 0 {
					t.Errorf("%s is in %s: %.120q", what, where, text[max(0, i-100):i])
				}
			}
		}
	}

	t.Logf("looked for %d secrets in %d outputs", len(secrets), len(output))
}
