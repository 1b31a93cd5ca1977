package cli

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/bmctl/bmctl/serve/assetcache"
)

func (a *app) cacheExportCommand(s *cacheSettings) *cobra.Command {
	return &cobra.Command{
		Use: "export FILE|-", Short: "Write all boot assets into a tar archive, for a site without a way out", Args: cobra.ExactArgs(1),
		Example: "  bmctl cache export assets.tar\n  bmctl cache export - | ssh host bmctl cache import -",
		RunE:    func(cmd *cobra.Command, args []string) error { return a.cacheExport(cmd.Context(), s, args[0]) },
	}
}

func (a *app) cacheExport(ctx context.Context, s *cacheSettings, path string) error {
	cache, err := a.openCache(s, true)
	if err != nil {
		return err
	}
	defer cache.Close() //nolint:errcheck // nothing is being downloaded

	if path == "-" {
		if terminal(a.stdout) {
			return usagef("an archive is nothing for a terminal: name a file, or send it into a pipe")
		}

		_, err = cache.Export(ctx, a.stdout, nil)

		return err
	}

	var assets []assetcache.Asset

	err = writeNew(path, func(w io.Writer) error {
		assets, err = cache.Export(ctx, w, nil)

		return err
	})
	if err != nil {
		return err
	}

	return a.printStored(cache, assets)
}

// writeNew has a file written, which appears under its name when it is complete.
func writeNew(path string, write func(io.Writer) error) error {
	if _, err := os.Lstat(path); err == nil {
		return failf(codeRefused, "name another file, or remove that one", "%s exists and is left as it is", path)
	}

	fresh := path + ".part"

	file, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}

	if err = write(file); err == nil {
		err = file.Sync()
	}

	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(fresh))
	}

	return os.Rename(fresh, path)
}

func (a *app) cacheImportCommand(s *cacheSettings) *cobra.Command {
	return &cobra.Command{
		Use: "import FILE|-", Short: "Store the boot assets of an archive, each compared with its digest", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.cacheImport(cmd.Context(), s, args[0]) },
	}
}

func (a *app) cacheImport(ctx context.Context, s *cacheSettings, path string) error {
	from := a.stdin

	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return failf(codeNoMatch, "", "import: %w", err)
		}
		defer file.Close() //nolint:errcheck // opened for reading

		from = file
	}

	cache, err := a.openCache(s, false)
	if err != nil {
		return err
	}
	defer cache.Close() //nolint:errcheck // nothing is being downloaded

	stored, importErr := cache.Import(ctx, from)
	if len(stored) == 0 {
		return importErr
	}

	if err := a.printStored(cache, stored); err != nil || importErr == nil {
		return errors.Join(err, importErr)
	}

	return failf(codeSomeFailed, "", "%w", importErr)
}
