package serve

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/bmctl/bmctl/serve/controllers"
	"github.com/bmctl/bmctl/serve/pins"
)

// DryRun is New and Preview that leave no trace on this host either: what the
// last run kept in --state-dir is read from a copy, so that a serve that runs
// beside it keeps its file. The configuration must be valid. Omni refusing the
// key is ErrCredentials.
func DryRun(ctx context.Context, cfg Config, log *slog.Logger) (plans []controllers.Preview, err error) {
	dir, err := os.MkdirTemp("", "bmctl-dry-run-")
	if err != nil {
		return nil, fmt.Errorf("a place for the copy of --state-dir: %w", err)
	}

	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	if err := borrowState(cfg.StateDir, dir); err != nil {
		log.Warn("what the last run kept is not known, such as which machines are held", "error", err)
	}

	cfg.StateDir, cfg.StateDirGiven, cfg.AssetCacheDir = dir, true, ""

	s, err := New(cfg, log)
	if err != nil {
		return nil, err
	}

	defer s.omni.Close() //nolint:errcheck // nothing is lost with it

	return s.Preview(ctx)
}

// borrowState copies what the last run kept, if there is something.
func borrowState(from, to string) error {
	for _, name := range []string{controllers.StateFile, pins.File} {
		data, err := os.ReadFile(filepath.Join(from, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}

		if err != nil {
			return err
		}

		if err := os.WriteFile(filepath.Join(to, name), data, 0o600); err != nil {
			return err
		}
	}

	return nil
}
