package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/bmctl/bmctl/cli/config"
	"github.com/bmctl/bmctl/power"
)

// loginFlags say whom to log in to a BMC as, and where the password is. The
// password itself is never a flag: others could read it in the list of processes.
type loginFlags struct {
	username        string
	passwordFile    string
	passwordCommand string
}

const (
	bmcPasswordEnv = "BMCTL_BMC_PASSWORD"
	// maxSecret is more than any BMC takes.
	maxSecret = 4096
	// secretTimeout bounds a password command: it may ask a person for a key.
	secretTimeout = 2 * time.Minute
)

func (f *loginFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.username, "username", "", "`NAME` to log in to the BMC as")
	flags.StringVar(&f.passwordFile, "password-file", "", "`FILE` whose first line is the password; - is stdin (else $"+bmcPasswordEnv+")")
	flags.StringVar(&f.passwordCommand, "password-command", "", "`COMMAND` that prints the password; %h is the host; words are split at spaces, there is no shell")
}

// givenPassword is the password that flags or the environment name, or none: in
// this order a file, the environment, a command.
func (a *app) givenPassword(ctx context.Context, f loginFlags, host string) (power.Secret, error) {
	switch {
	case f.passwordFile == "-":
		return firstLine("stdin", a.stdin)
	case f.passwordFile != "":
		return a.passwordFromFile(f.passwordFile)
	case a.env(bmcPasswordEnv) != "":
		return power.NewSecret(a.env(bmcPasswordEnv)), nil
	case f.passwordCommand != "":
		return a.passwordFromCommand(ctx, strings.Fields(f.passwordCommand), host)
	default:
		return power.Secret{}, nil
	}
}

// credentialPassword is the password of an entry of the configuration file.
func (a *app) credentialPassword(ctx context.Context, c config.Credential, host string) (power.Secret, error) {
	switch {
	case c.PasswordFile != "":
		return a.passwordFromFile(c.PasswordFile)
	case len(c.PasswordCommand) > 0:
		return a.passwordFromCommand(ctx, c.PasswordCommand, host)
	case c.Credential == "":
		return power.Secret{}, nil
	}

	// systemd.exec(5): LoadCredential= puts files into this directory.
	dir := a.env("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return power.Secret{}, failf(codeConfigInvalid, "run it from a unit with LoadCredential="+c.Credential,
			"the password is systemd's credential %s, and CREDENTIALS_DIRECTORY is not set", c.Credential)
	}

	return a.passwordFromFile(filepath.Join(dir, filepath.Base(c.Credential)))
}

func (a *app) passwordFromFile(path string) (power.Secret, error) {
	file, err := os.Open(path)
	if err != nil {
		return power.Secret{}, failf(codeConfigInvalid, "", "read the BMC's password: %w", err)
	}

	defer file.Close() //nolint:errcheck // read only

	if info, err := file.Stat(); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		a.warn("%s may be read by others (mode %04o): chmod 600 %s", path, info.Mode().Perm(), path)
	}

	return firstLine(path, file)
}

// passwordFromCommand runs the command with our standard error, so that it can
// ask for what it needs itself.
func (a *app) passwordFromCommand(ctx context.Context, argv []string, host string) (power.Secret, error) {
	if len(argv) == 0 {
		return power.Secret{}, usagef("--password-command is empty")
	}

	ctx, cancel := context.WithTimeout(ctx, secretTimeout)
	defer cancel()

	words := make([]string, len(argv))
	for i, word := range argv {
		words[i] = strings.ReplaceAll(word, "%h", host)
	}

	var stdout bytes.Buffer

	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = a.environ, a.stdin, &stdout, a.stderr
	cmd.WaitDelay = time.Second

	if err := cmd.Run(); err != nil {
		return power.Secret{}, failf(codeConfigInvalid, "", "the password command %s: %w", words[0], err)
	}

	return firstLine("the password command "+words[0], &stdout)
}

// firstLine is all up to the first line break. An empty one is no password.
func firstLine(where string, r io.Reader) (power.Secret, error) {
	line, err := bufio.NewReader(io.LimitReader(r, maxSecret)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return power.Secret{}, failf(codeConfigInvalid, "", "read the BMC's password from %s: %w", where, err)
	}

	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return power.Secret{}, failf(codeConfigInvalid, "", "there is no password in the first line of %s", where)
	}

	return power.NewSecret(line), nil
}

// askSecret asks on the controlling terminal for something that is not shown
// while it is typed; the question is erased afterwards. An empty answer is a no.
func (a *app) askSecret(ctx context.Context, question, hint string) (power.Secret, error) {
	tty, err := a.openTerminal("a password", hint)
	if err != nil {
		return power.Secret{}, err
	}

	defer tty.Close() //nolint:errcheck // read and written already

	if _, err := fmt.Fprint(tty, question); err != nil {
		return power.Secret{}, fmt.Errorf("ask on the terminal: %w", err)
	}

	typed, err := readHidden(ctx, tty)
	fmt.Fprint(tty, "\r\x1b[K") //nolint:errcheck // ECMA-48: erase the line; nothing is lost without

	if err != nil {
		return power.Secret{}, err
	}

	if typed == "" {
		return power.Secret{}, failf(codeRefused, "", "no password was typed: nothing was changed")
	}

	return power.NewSecret(typed), nil
}

// readHidden reads a line without echo. When ctx ends the terminal is as before;
// the read itself ends with the process.
func readHidden(ctx context.Context, tty *os.File) (string, error) {
	before, err := term.GetState(int(tty.Fd()))
	if err != nil {
		return "", fmt.Errorf("ask on the terminal: %w", err)
	}

	type answer struct {
		typed []byte
		err   error
	}

	answers := make(chan answer, 1)

	go func() {
		typed, err := term.ReadPassword(int(tty.Fd()))
		answers <- answer{typed, err}
	}()

	select {
	case <-ctx.Done():
		return "", errors.Join(context.Cause(ctx), term.Restore(int(tty.Fd()), before))
	case got := <-answers:
		if got.err != nil && !errors.Is(got.err, io.EOF) {
			return "", fmt.Errorf("read from the terminal: %w", got.err)
		}

		return string(got.typed), nil
	}
}
