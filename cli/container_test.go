package cli_test

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/bmctl/bmctl/serve"
	"github.com/bmctl/bmctl/serve/localapi"
)

// TestTheContainersEntryPoints runs what the container file puts into the image,
// with nothing else in the root directory, as an engine would: with the flags of the
// existing provider's docker line.
func TestTheContainersEntryPoints(t *testing.T) {
	if os.Getuid() != 0 && os.Getenv("CI") != "true" {
		t.Skip("needs root, to change the root directory")
	}

	image, entryPoint := layImage(t)
	w := newWorld(t)

	run := func(argv ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), argv[0], append(argv[1:], "--api-advertise-address=127.0.0.1")...)
		cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Chroot: image}
		cmd.Env = []string{
			"OMNI_ENDPOINT=" + w.omni.Endpoint(), "OMNI_SERVICE_ACCOUNT_KEY=" + w.omni.ProviderKey(), "BMCTL_API_LISTEN_ADDRESS=127.0.0.1",
			"BMCTL_API_PORT=0", "BMCTL_DHCP_PORT=0", "BMCTL_PXE_PORT=0", "BMCTL_TFTP_PORT=0", "BMCTL_METRICS_ADDRESS=127.0.0.1:0",
			"BMCTL_IMAGE_FACTORY_BASE_URL=" + w.omni.Endpoint(), "BMCTL_USE_LOCAL_BOOT_ASSETS=false",
		}

		return cmd
	}

	// The factory's check fails, as there is none; everything of ours is well.
	text, err := run("/provider", "--check").CombinedOutput()
	if ok := strings.Count("\n"+string(text), "\nok "); exitCode(t, err) > 1 || ok < 6 || !strings.Contains(string(text), "dhcp-proxy") {
		t.Errorf("/provider --check: %v\n%s", err, text)
	}

	cmd := run(entryPoint...)

	var log bytes.Buffer

	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}

	await(t, "serve's socket", func() bool {
		conn, err := net.Dial("unix", filepath.Join(image, "run", "bmctl", "bmctl.sock"))
		if err == nil {
			report(t, conn.Close())
		}

		return err == nil
	})

	client := localapi.Dial(filepath.Join(image, "run", "bmctl", "bmctl.sock"))
	defer client.Close()

	if health, err := client.Health(t.Context()); err != nil || health.ProviderID != provider {
		t.Errorf("health %+v, %v", health, err)
	}

	report(t, cmd.Process.Signal(syscall.SIGTERM))

	if code := exitCode(t, cmd.Wait()); code != 0 || !strings.Contains(log.String(), `"msg":"starting provider"`) {
		t.Errorf("%v: exit code %d\n%s", entryPoint, code, log.String())
	}
}

// TestTheManifestRunsOneOnTheHostsNetwork reads what the guide promises out of the
// manifest; the probe asks where serve answers by default.
func TestTheManifestRunsOneOnTheHostsNetwork(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "deploy", "kubernetes.yaml"))
	if err != nil {
		t.Fatal(err)
	}

	var found deployment

	for _, part := range bytes.Split(text, []byte("\n---\n")) {
		if report(t, yaml.Unmarshal(part, &found)); found.Kind == "Deployment" {
			break
		}
	}

	pod := found.Spec.Template.Spec
	if found.Spec.Replicas != 1 || found.Spec.Strategy.Type != "Recreate" || !pod.HostNetwork || len(pod.Containers) != 1 {
		t.Fatalf("not one replica on the host's network: %+v", found)
	}

	probe := pod.Containers[0].ReadinessProbe.HTTPGet
	if address := net.JoinHostPort(probe.Host, strconv.Itoa(probe.Port)); address != serve.DefaultConfig().MetricsAddress || probe.Path != "/readyz" {
		t.Errorf("the probe asks %s for %s", address, probe.Path)
	}
}

// deployment is what the test reads of the manifest.
type deployment struct {
	Kind string `yaml:"kind"`
	Spec struct {
		Replicas int `yaml:"replicas"`
		Strategy struct {
			Type string `yaml:"type"`
		} `yaml:"strategy"`
		Template struct {
			Spec struct {
				HostNetwork bool `yaml:"hostNetwork"`
				Containers  []struct {
					ReadinessProbe struct {
						HTTPGet struct {
							Host, Path string
							Port       int
						} `yaml:"httpGet"`
					} `yaml:"readinessProbe"`
				} `yaml:"containers"`
			} `yaml:"spec"`
		} `yaml:"template"`
	} `yaml:"spec"`
}

// layImage does what the container file does after the build, and returns the image's
// root directory and its entry point.
func layImage(t *testing.T) (image string, entryPoint []string) {
	t.Helper()

	text, err := os.ReadFile(filepath.Join("..", "docs", "deploy", "Containerfile"))
	if err != nil {
		t.Fatal(err)
	}

	lay := regexp.MustCompile(`(?m)^RUN (mkdir (?:.*\\\n)*.*)$`).FindStringSubmatch(string(text))
	entry := regexp.MustCompile(`(?m)^ENTRYPOINT (.*)$`).FindStringSubmatch(string(text))

	if lay == nil || entry == nil {
		t.Fatalf("the container file lays out no image: %q, %q", lay, entry)
	}

	report(t, json.Unmarshal([]byte(entry[1]), &entryPoint))

	image = t.TempDir()
	binary := filepath.Join(t.TempDir(), "bmctl")

	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "../cmd/bmctl")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")

	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}

	cmd := exec.CommandContext(t.Context(), "sh", "-c", strings.NewReplacer("/image", image, "bin/bmctl", binary).Replace(lay[1]))
	cmd.Dir = ".."

	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", lay[1], err, text)
	}

	return image, entryPoint
}
