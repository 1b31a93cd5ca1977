package serve

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cosi-project/runtime/pkg/state"
	"github.com/cosi-project/runtime/pkg/state/impl/inmem"
	"github.com/cosi-project/runtime/pkg/state/impl/namespaced"
	"github.com/google/go-cmp/cmp"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve/localapi"
)

// key is a well-formed service account key; nobody knows it.
const key = "eyJuYW1lIjoieCIsInBncF9rZXkiOiJ5In0="

// TestValidate: everything that is wrong is told at once, in one order, and never
// with the key in it.
func TestValidate(t *testing.T) {
	good := DefaultConfig()
	good.OmniAPIEndpoint, good.OmniServiceAccountKey = "https://omni.example.com", power.NewSecret(key)

	if problems := good.Validate(); len(problems) != 0 {
		t.Fatalf("the defaults with Omni's address and key: %v", problems)
	}

	bad := good
	bad.ID = ""
	bad.OmniAPIEndpoint = "omni"
	bad.OmniServiceAccountKey = power.NewSecret("hunter2")
	bad.MachineLabels = []string{"a=b", "=c"}
	bad.APIAdvertiseAddress = "here"
	bad.APIPort, bad.TFTPPort = -1, 70000
	bad.BootFromDiskMethod = "floppy"
	bad.PXEStyle = "x"
	bad.ImageFactoryBaseURL = "factory"
	bad.AgentModeTalosVersion = "1.13"
	bad.IPMIPXEBootMode = "bios"
	bad.SecureBootEnabled, bad.UseLocalBootAssets, bad.BootAssetsPath = true, true, t.TempDir()
	bad.MaxDisruptions, bad.PollInterval = 0, 0
	bad.TLSKeyFile = "key.pem"

	var flags []string
	for _, p := range bad.Validate() {
		flags = append(flags, p.Flag)

		if strings.Contains(p.Text, "hunter2") {
			t.Errorf("the key stands in %q", p.Text)
		}
	}

	want := []string{
		"id", "omni-api-endpoint", "omni-service-account-key", "machine-labels", "api-advertise-address", "api-port", "tftp-port",
		"boot-from-disk-method", "pxe-style", "image-factory-base-url", "agent-mode-talos-version", "secure-boot-enabled",
		"secure-boot-enabled", "boot-assets-path", "max-disruptions", "poll-interval", "tls-cert-file",
	}
	if diff := cmp.Diff(want, flags); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func joinConfig(config string) func() (string, error) {
	return func() (string, error) { return config, nil }
}

// TestMachineConfig: the documents are put together, and the join token in them
// never reaches the log.
func TestMachineConfig(t *testing.T) {
	var log bytes.Buffer

	m := &machineConfig{
		join:  joinConfig("apiVersion: v1alpha1\nkind: SideroLinkConfig\napiUrl: grpc://omni?jointoken=MARKED\n\n"),
		ca:    func() (string, error) { return "-----BEGIN CERTIFICATE-----\n", nil },
		extra: "apiVersion: v1alpha1\nkind: WatchdogTimerConfig\n",
		log:   slog.New(slog.NewTextHandler(&log, nil)),
	}

	w := httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/config?u=7f00", nil))

	for _, want := range []string{"jointoken=MARKED", "name: infra-provider-ca", "WatchdogTimerConfig"} {
		if !strings.Contains(w.Body.String(), want) {
			t.Errorf("no %q in\n%s", want, w.Body)
		}
	}

	if n := strings.Count(w.Body.String(), "\n---\n"); w.Code != http.StatusOK || n != 2 {
		t.Errorf("status %d, %d separators, want three documents:\n%s", w.Code, n, w.Body)
	}

	if strings.Contains(log.String(), "MARKED") || !strings.Contains(log.String(), "uuid=7f00") {
		t.Errorf("the log has the token, or not the machine: %s", &log)
	}

	m.ca = func() (string, error) { return "", errNoCA }
	w = httptest.NewRecorder()
	m.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/config", nil))

	if w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), "MARKED") {
		t.Errorf("without the CA: status %d, %s", w.Code, w.Body)
	}
}

// TestExtraConfigIsRefused where it would contradict what Omni and we provide.
func TestExtraConfigIsRefused(t *testing.T) {
	for name, test := range map[string]struct{ text, want string }{
		"a whole machine config": {"version: v1alpha1\nmachine: {type: worker}\ncluster: {controlPlane: {endpoint: https://a:6443}}\n", "v1alpha1"},
		"another Omni":           {"apiVersion: v1alpha1\nkind: SideroLinkConfig\napiUrl: grpc://other\n", "SideroLinkConfig"},
		"another event sink":     {"apiVersion: v1alpha1\nkind: EventSinkConfig\nendpoint: 10.0.0.1:80\n", "EventSinkConfig"},
		"our own name":           {"apiVersion: v1alpha1\nkind: TrustedRootsConfig\nname: infra-provider-ca\ncertificates: x\n", "infra-provider-ca"},
		"no YAML":                {"a: b: c", ""},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "extra.yaml")
			if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}

			if _, err := loadExtraConfig(path); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}

	path := filepath.Join(t.TempDir(), "extra.yaml")
	if err := os.WriteFile(path, []byte("apiVersion: v1alpha1\nkind: TrustedRootsConfig\nname: mine\ncertificates: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	if _, err := loadExtraConfig(path); err != nil {
		t.Errorf("the operator's own roots: %v", err)
	}
}

// TestIdentity: one CA for every serve of the provider, certificates that reach
// into the past and are renewed before they end.
func TestIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		omni := state.WrapCore(namespaced.NewState(inmem.Build))
		cfg := DefaultConfig()
		log := slog.New(slog.DiscardHandler)
		addr := netip.MustParseAddr("10.0.2.5")

		var ids [2]*identity

		var wg sync.WaitGroup

		for i := range ids {
			id, err := newIdentity(cfg, addr, log)
			if err != nil {
				t.Fatal(err)
			}

			if _, err = id.certificate(); err == nil {
				t.Error("a certificate before there is a CA")
			}

			ids[i] = id

			wg.Go(func() { id.keep(t.Context(), omni, "bare-metal") })
		}

		wg.Wait()

		ca, err := ids[0].CA()
		if other, err2 := ids[1].CA(); err != nil || err2 != nil || ca != other {
			t.Fatalf("two serves have two CAs: %v, %v", err, err2)
		}

		first := valid(t, ids[0], ca)
		if early := time.Until(first.NotBefore); early > -23*time.Hour {
			t.Errorf("valid only since %s", -early)
		}

		time.Sleep(10 * time.Hour)

		if again := valid(t, ids[0], ca); !again.Equal(first) {
			t.Error("renewed although it is valid for long")
		}

		time.Sleep(10 * time.Hour)

		if again := valid(t, ids[0], ca); again.Equal(first) {
			t.Error("not renewed in the last third of its life")
		}
	})
}

// valid has the identity's certificate checked as an agent does.
func valid(t *testing.T, id *identity, ca string) *x509.Certificate {
	t.Helper()

	cert, err := id.config().GetCertificate(&tls.ClientHelloInfo{})
	if err != nil {
		t.Fatal(err)
	}

	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(ca)) {
		t.Fatal("the CA is no PEM")
	}

	if _, err := cert.Leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: time.Now()}); err != nil {
		t.Error(err)
	}

	if err := cert.Leaf.VerifyHostname("10.0.2.5"); err != nil {
		t.Error(err)
	}

	return cert.Leaf
}

// TestEventRing: who follows sees each event once and in order, also after more
// events than are kept, and one who comes from an earlier run sees all.
func TestEventRing(t *testing.T) {
	ring := newEventRing()

	for range 3 * eventsKept {
		ring.add(localapi.Event{Type: "test"})
	}

	all, newest, _ := ring.after(0)
	if len(all) != eventsKept || all[0].Seq != newest-eventsKept+1 || newest != 3*eventsKept {
		t.Fatalf("%d kept, the first is %d of %d", len(all), all[0].Seq, newest)
	}

	if some, _, _ := ring.after(newest - 2); len(some) != 2 {
		t.Errorf("%d since the last but two, want 2", len(some))
	}

	if earlier, _, _ := ring.after(newest + 1000); len(earlier) != eventsKept {
		t.Errorf("%d for one who comes from an earlier run, want all", len(earlier))
	}

	if now, _, _ := ring.after(localapi.Now); len(now) != 0 {
		t.Errorf("%d for one who wants new ones only", len(now))
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()

	go func() {
		for range 100 {
			ring.add(localapi.Event{Type: "test"})
		}
	}()

	next := newest + 1

	for e := range ring.follow(ctx, newest) {
		if e.Seq != next {
			t.Fatalf("got %d, want %d", e.Seq, next)
		}

		if next++; next == newest+101 {
			break
		}
	}
}

// TestLabels of the operator are keys with or without a value.
func TestLabels(t *testing.T) {
	if diff := cmp.Diff(map[string]string{"rack": "r1", "spare": ""}, labels([]string{"rack=r1", " spare "})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
