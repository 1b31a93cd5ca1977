package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/bmctl/bmctl/cli/config"
	"github.com/bmctl/bmctl/cli/out"
	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/serve"
	"github.com/bmctl/bmctl/serve/localapi"
	"github.com/bmctl/bmctl/serve/operator"
)

func TestExitCodeOfEachKind(t *testing.T) {
	wrap := func(err error) error { return fmt.Errorf("r1n07: %w", err) }

	for _, test := range []struct {
		err  error
		code code
		exit int
	}{
		{errors.New("disk full"), codeInternal, 1},
		{usagef("no"), codeUsage, 2},
		{config.Problems{{Text: "a"}, {Text: "b"}}, codeConfigInvalid, 2},
		{wrap(localapi.ErrNotRunning), codeServeDown, 5},
		{wrap(localapi.ErrPermission), codeServeDenied, 4},
		{wrap(localapi.ErrNotFound), codeNoMatch, 6},
		{wrap(&localapi.RemoteError{Kind: localapi.ErrRefused, Message: "no"}), codeRefused, 7},
		{wrap(power.ErrUnreachable), codeBMCUnreachable, 5},
		{wrap(power.ErrAuth), codeBMCAuth, 4},
		{wrap(localapi.ErrNotYet), codeNotYet, 1},
		{wrap(power.ErrBusy), codeBMCBusy, 1},
		{wrap(power.ErrRefused), codeBMCRefused, 1},
		{wrap(power.ErrUnsupported), codeBMCUnsupported, 1},
		{wrap(power.ErrAmbiguous), codeBMCAmbiguous, 1},
		{wrap(context.DeadlineExceeded), codeTimeout, 5},
		{&operator.Error{Kind: operator.ErrConfig}, codeConfigInvalid, 2},
		{&operator.Error{Kind: operator.ErrAuth}, codeOmniAuth, 4},
		{&operator.Error{Kind: operator.ErrPermission}, codeOmniAuth, 4},
		{&operator.Error{Kind: operator.ErrUnreachable, Cause: context.DeadlineExceeded}, codeOmniUnreachable, 5},
		{&operator.Error{Kind: operator.ErrNotFound}, codeNoMatch, 6},
		{&operator.Error{Kind: operator.ErrRefused}, codeRefused, 7},
		{&operator.Error{Kind: operator.ErrPending}, codeTimeout, 5},
		{&operator.Error{Kind: operator.ErrUnknown, Cause: context.Canceled}, codeOmniFailed, 1},
	} {
		var stderr bytes.Buffer

		a := newApp(nil, nil, &stderr, nil)
		a.global.output = out.JSON
		exit := a.finish(t.Context(), nil, test.err)

		var document errorDocument
		if err := json.Unmarshal(stderr.Bytes(), &document); err != nil {
			t.Fatalf("%v: %v in %s", test.err, err, stderr.String())
		}

		if exit != test.exit || document.Error.Exit != test.exit || document.Error.Code != test.code {
			t.Errorf("%v: exit %d and %+v, want %d and %s", test.err, exit, document.Error, test.exit, test.code)
		}
	}
}

func TestAReaderThatWentAwayIsNoError(t *testing.T) {
	var stderr bytes.Buffer

	a := newApp(nil, nil, &stderr, nil)
	for _, err := range []error{nil, &fs.PathError{Op: "write", Err: syscall.EPIPE}} {
		if exit := a.finish(t.Context(), nil, err); exit != 0 || stderr.Len() > 0 {
			t.Errorf("%v: exit %d, %q", err, exit, stderr.String())
		}
	}
}

func TestReportIsPlainLines(t *testing.T) {
	var stderr bytes.Buffer

	a := newApp(nil, nil, &stderr, nil)
	a.finish(t.Context(), nil, failf(codeRefused, "try \x1b[1m", "no\n\x1b]0;x\a"))

	want := "bmctl: error: no\\x0a\\x1b]0;x\\x07\nbmctl: hint: try \\x1b[1m\n"
	if diff := cmp.Diff(want, stderr.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestEveryCodeIsDocumentedAndUsed keeps three lists one: the constants, the
// table of kinds and docs/errors.md.
func TestEveryCodeIsDocumentedAndUsed(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "docs", "errors.md"))
	if err != nil {
		t.Fatal(err)
	}

	documented := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (\\d+ \\| (?:yes|no)) \\|").FindAllStringSubmatch(string(page), -1) {
		documented[row[1]] = row[2]
	}

	coded := map[string]string{}
	for name, kind := range codes() {
		coded[string(name)] = fmt.Sprintf("%d | %s", kind.exit, yesNo(kind.retryable))
	}

	if diff := cmp.Diff(coded, documented); diff != "" {
		t.Errorf("codes (-) and docs/errors.md (+) differ:\n%s", diff)
	}

	sources := ""

	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}

	for _, file := range files {
		if file == "codes.go" || strings.HasSuffix(file, "_test.go") {
			continue
		}

		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}

		sources += string(data)
	}

	constants, err := os.ReadFile("codes.go")
	if err != nil {
		t.Fatal(err)
	}

	found := regexp.MustCompile(`(?m)^\t(code[A-Za-z]+) +code = "([a-z_]+)"`).FindAllStringSubmatch(string(constants), -1)
	if len(found) != len(coded) {
		t.Errorf("%d constants, %d kinds", len(found), len(coded))
	}

	for _, constant := range found {
		if !regexp.MustCompile(`\b` + constant[1] + `\b`).MatchString(sources) {
			t.Errorf("%s (%s) is used nowhere", constant[1], constant[2])
		}
	}
}

func TestLogHasTheOperatorsShape(t *testing.T) {
	var text bytes.Buffer

	log := slog.New(logHandler(&text, true, slog.LevelInfo)).With("component", "boot")
	log.Debug("not shown")
	log.Warn("boot machine: Talos agent mode", "machine_id", machineID, "took", 1500*time.Millisecond, "password", power.NewSecret("hunter2"))

	shape := regexp.MustCompile(`^\{"ts":(\d+\.\d+),"level":"warn","msg":"boot machine: Talos agent mode","component":"boot","machine_id":"` + machineID +
		`","took":1.5,"password":"\*\*\*"\}\n$`)

	found := shape.FindStringSubmatch(text.String())
	if found == nil {
		t.Fatalf("%s does not match %s", text.String(), shape)
	}

	var seconds float64
	if _, err := fmt.Sscan(found[1], &seconds); err != nil || time.Since(time.UnixMicro(int64(seconds*1e6))).Abs() > time.Minute {
		t.Errorf("ts %s is not now", found[1])
	}

	if strings.Contains(text.String(), "hunter2") {
		t.Error("the secret is in the log")
	}
}

const machineID = "9c41e0aa-7a1e-4b02-9f3c-1b5d3c9be6f1"

// TestServeHasEveryFlagWithItsDefault is the list that operators of the existing
// provider have in their unit files.
func TestServeHasEveryFlagWithItsDefault(t *testing.T) {
	want := map[string]string{
		"id": "bare-metal", "omni-api-endpoint": "", "insecure-skip-tls-verify": "false", "provider-name": "Bare Metal",
		"provider-description": "Bare metal infrastructure provider", "debug": "false", "api-listen-address": "", "api-advertise-address": "",
		"api-port": "50042", "dhcp-proxy-iface-or-ip": "", "disable-dhcp-proxy": "false", "disable-dhcp-proxy-broadcast": "false",
		"image-factory-base-url": "https://factory.talos.dev", "image-factory-pxe-base-url": "https://pxe.factory.talos.dev",
		"agent-mode-talos-version": "v1.13.7", "use-local-boot-assets": "false", "boot-assets-path": "/assets", "agent-test-mode": "false",
		"api-power-mgmt-state-dir": "", "boot-from-disk-method": "ipxe-exit", "ipmi-pxe-boot-mode": "uefi", "machine-labels": "[]",
		"min-reboot-interval": "15m0s", "secure-boot-enabled": "false", "extra-machine-config-path": "", "enable-resource-cache": "false",
		"tls-enabled": "false", "tls-api-port": "50043", "tls-agent-skip-verify": "false", "tls-ca-ttl": "262800h0m0s", "tls-cert-ttl": "24h0m0s",
		"tls-ca-cert-file": "", "tls-cert-file": "", "tls-key-file": "", "tls-custom-ipxe-ca-cert-file": "", "redfish-use-always": "false",
		"redfish-use-when-available": "true", "redfish-use-https": "true", "redfish-port": "443", "redfish-insecure-skip-tls-verify": "true",
		"redfish-set-boot-source-override-mode": "true", "wipe-with-zeroes": "false", "agent-call-timeout": "30s",
		"agent-fast-wipe-timeout": "5m0s", "agent-zeroes-wipe-timeout": "24h0m0s",
		// Ours.
		"state-dir": "/var/lib/bmctl", "metrics-address": "127.0.0.1:50044", "poll-interval": "30s", "poll-concurrency": "64", "poll-timeout": "5s",
		"pxe-style": "auto", "dhcp-reply-delay": "0s", "dhcp-port": "67", "pxe-port": "4011", "tftp-port": "69", "tftp-single-port": "false",
		"ipxe-dir": "", "asset-cache-dir": "", "asset-cache-size": "20GiB", "extra-ca-file": "", "socket-group": "", "agent-source-check": "warn",
		"max-staleness": "10m0s", "max-disruptions": "3", "takeover": "false",
	}

	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	cfg := serve.DefaultConfig()
	serveFlags(flags, &cfg)

	got := map[string]string{}

	flags.VisitAll(func(flag *pflag.Flag) {
		got[flag.Name] = flag.DefValue

		if group := flag.Annotations[flagGroup]; len(group) != 1 || !slices.Contains(flagGroups(), group[0]) {
			t.Errorf("--%s stands in no group of the help", flag.Name)
		}
	})

	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("flags (-want +got):\n%s", diff)
	}
}

func TestServeReadsEveryFlagFromItsVariable(t *testing.T) {
	flags := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	cfg := serve.DefaultConfig()
	serveFlags(flags, &cfg)

	values := map[string]string{
		"bool": "true", "int": "7", "duration": "7s", "string": "x", "stringSlice": "a=b,c", "SIZE": "1MiB", "METHOD": "http-404",
		"STYLE": "binl", "MODE": "",
	}

	env := map[string]string{"BMCTL_IPMI_PXE_BOOT_MODE": "bios", "BMCTL_AGENT_SOURCE_CHECK": "enforce"}

	flags.VisitAll(func(flag *pflag.Flag) {
		if value, known := values[flag.Value.Type()]; !known {
			t.Errorf("--%s has the type %s", flag.Name, flag.Value.Type())
		} else if value != "" {
			env[config.EnvName(flag.Name)] = value
		}
	})

	before := map[string]string{}
	flags.VisitAll(func(flag *pflag.Flag) { before[flag.Name] = flag.Value.String() })

	a := newApp(nil, nil, nil, nil)
	a.env = func(name string) string { return env[name] }

	origins, problems := a.resolveServe(flags)
	if len(problems) > 0 {
		t.Fatal(problems)
	}

	onTrue := []string{}

	flags.VisitAll(func(flag *pflag.Flag) {
		if origins[flag.Name] != "env "+config.EnvName(flag.Name) {
			t.Errorf("--%s comes from %s", flag.Name, origins[flag.Name])
		}

		if flag.Value.String() == before[flag.Name] {
			onTrue = append(onTrue, flag.Name)
		}
	})

	// These were true already.
	want := []string{"redfish-insecure-skip-tls-verify", "redfish-set-boot-source-override-mode", "redfish-use-https", "redfish-use-when-available"}
	if diff := cmp.Diff(want, onTrue); diff != "" {
		t.Errorf("flags that did not change:\n%s", diff)
	}

	if cfg.AssetCacheSize != 1<<20 || cfg.APIPort != 7 || cfg.PollTimeout != 7*time.Second || !slices.Equal(cfg.MachineLabels, []string{"a=b", "c"}) {
		t.Errorf("the configuration has not the values: %+v", cfg)
	}
}

func TestLookupTakesTheLast(t *testing.T) {
	env := lookup([]string{"A=1", "B=2=3", "A=4", "C"})
	got := map[string]string{"A": env("A"), "B": env("B"), "C": env("C"), "D": env("D")}

	if diff := cmp.Diff(map[string]string{"A": "4", "B": "2=3", "C": "", "D": ""}, got); diff != "" {
		t.Error(diff)
	}
}

func TestWantsJSON(t *testing.T) {
	for line, want := range map[string]bool{
		"machines -o json": true, "machines --output json": true, "-ojson x": true, "--output=json": true, "-o=json": true,
		"machines -o yaml": false, "lab -- cmd -o json": false, "json": false, "get json": false, "": false,
	} {
		if got := newApp(nil, nil, nil, nil).wantsJSON(strings.Fields(line)); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
}

func TestSetFailure(t *testing.T) {
	unreachable := &operator.Error{Kind: operator.ErrUnreachable}

	for name, test := range map[string]struct {
		errs []error
		want code
	}{
		"one":        {[]error{unreachable}, codeOmniUnreachable},
		"all":        {[]error{unreachable, unreachable}, codeOmniUnreachable},
		"some":       {[]error{nil, unreachable}, codeSomeFailed},
		"some, last": {[]error{unreachable, nil}, codeSomeFailed},
	} {
		results := make([]actResult, len(test.errs))
		for i, err := range test.errs {
			results[i].err = err
		}

		if got := classify(setFailure(results)).code; got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}

	if err := setFailure(make([]actResult, 2)); err != nil {
		t.Errorf("none failed: %v", err)
	}
}

func TestExitHelpIsTheTable(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "docs", "errors.md"))
	if err != nil {
		t.Fatal(err)
	}

	exits := map[string]bool{}
	for _, kind := range codes() {
		exits[fmt.Sprint(kind.exit)] = true
	}

	for exit := range maps.Keys(exits) {
		if !regexp.MustCompile(`(?m)^  `+exit+` +\w`).MatchString(exitHelp) || !regexp.MustCompile(`(?m)^\| `+exit+` \| \w`).Match(page) {
			t.Errorf("exit code %s is not in the help or not in docs/errors.md", exit)
		}
	}
}
