package cli

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/bmctl/bmctl/cli/out"
)

type versionDocument struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Version    string `json:"version"`
	Commit     string `json:"commit"`
	CommitTime string `json:"commitTime"`
	Modified   bool   `json:"modified"`
	Go         string `json:"go"`
	Platform   string `json:"platform"`
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:         "version",
		Short:       "Print the version of this binary",
		Args:        cobra.NoArgs,
		Annotations: map[string]string{withoutConfig: "true"},
		RunE: func(*cobra.Command, []string) error {
			v := version()

			return a.printer().Print(out.View{
				Columns: []out.Column{{Head: "VERSION"}, {Head: "COMMIT"}, {Head: "GO"}, {Head: "PLATFORM"}},
				Rows:    [][]out.Cell{out.Text(v.Version, cmp.Or(v.Commit, "-"), v.Go, v.Platform)}, Document: v, Names: []string{v.Version},
			})
		},
	}
}

// version reads what the Go tool recorded at build time; a release is built
// from a tag, which it records as the version.
func version() versionDocument {
	v := versionDocument{
		APIVersion: "bmctl/v1", Kind: "Version", Version: "unknown",
		Go: runtime.Version(), Platform: fmt.Sprintf("%s/%s", runtime.GOOS, runtime.GOARCH),
	}

	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}

	v.Version = cmp.Or(info.Main.Version, "unknown")

	for _, setting := range info.Settings {
		switch setting.Key {
		case "vcs.revision":
			v.Commit = setting.Value
		case "vcs.time":
			v.CommitTime = setting.Value
		case "vcs.modified":
			v.Modified = setting.Value == "true"
		}
	}

	return v
}

func buildVersion() string { return version().Version }
