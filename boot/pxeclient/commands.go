package pxeclient

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// command is one of iPXE's; its error is its failure, or a control.
type command func(*interpreter, context.Context, []string) error

// builtins are the commands that boot scripts use. Those that only show
// something do nothing.
func builtins() map[string]command {
	nothing := func(*interpreter, context.Context, []string) error { return nil }
	return map[string]command{
		magic: nothing, "ifstat": nothing, "imgstat": nothing, "route": nothing, "show": nothing, "console": nothing, "cpair": nothing,
		"colour": nothing, "color": nothing, "ntp": nothing, "nslookup": nothing, "imgtrust": nothing, "imgverify": nothing, "params": nothing, "param": nothing,
		"cpuid": (*interpreter).cpuid, "menu": (*interpreter).newMenu, "item": (*interpreter).item, "choose": (*interpreter).choose,
		"echo": (*interpreter).echo, "set": (*interpreter).set, "clear": (*interpreter).clear, "inc": (*interpreter).inc,
		"isset": (*interpreter).isset, "iseq": (*interpreter).iseq, "goto": (*interpreter).jump, "exit": (*interpreter).exit,
		"sleep": (*interpreter).sleep, "prompt": (*interpreter).prompt,
		"ifopen": (*interpreter).ifopen, "ifclose": (*interpreter).ifclose, "iflinkwait": (*interpreter).ifopen,
		"dhcp": (*interpreter).dhcp, "ifconf": (*interpreter).dhcp,
		"kernel": (*interpreter).loadKernel, "imgselect": (*interpreter).loadKernel,
		"initrd": (*interpreter).loadInitrd, "imgfetch": (*interpreter).loadInitrd, "module": (*interpreter).loadInitrd,
		"imgargs": (*interpreter).imgargs, "imgfree": (*interpreter).imgfree,
		"boot": (*interpreter).start, "imgexec": (*interpreter).start, "chain": (*interpreter).chain,
		"sanboot": (*interpreter).sanboot,
		"reboot":  end(OutcomeReboot), "poweroff": end(OutcomeOff), "shell": end(OutcomeStuck),
	}
}

func end(outcome Outcome) command {
	return func(i *interpreter, _ context.Context, _ []string) error {
		_ = i.step(time.Now(), string(outcome), "", nil)
		return ended{outcome}
	}
}

// valued are the options that take the next word as their value.
var valued = []string{"--name", "-n", "--timeout", "-t", "--key", "-k", "--drive", "-d", "--default", "--menu", "-m", "--filename", "-f", "--configurator", "-c", "--extra", "-e"}

// flags are the options of a command, with their values.
type flags map[string]string

func (f flags) has(names ...string) bool {
	for _, name := range names {
		if _, found := f[name]; found {
			return true
		}
	}
	return false
}

// options separates a command's options from the rest, which begins at the first
// word that is none.
func options(args []string) (given flags, rest []string, err error) {
	given = flags{}
	for len(args) > 0 && strings.HasPrefix(args[0], "-") && args[0] != "-" {
		name, value, inline := strings.Cut(args[0], "=")
		args = args[1:]
		if slices.Contains(valued, name) && !inline {
			if len(args) == 0 {
				return nil, nil, fmt.Errorf("option %s needs a value", name)
			}
			value, args = args[0], args[1:]
		}
		given[name] = value
	}
	return given, args, nil
}

func (i *interpreter) echo(_ context.Context, args []string) error {
	if len(args) > 0 && args[0] == "-n" {
		args = args[1:]
	}
	return i.step(time.Now(), "console", strings.Join(args, " "), nil)
}

func (i *interpreter) set(_ context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("set: what?")
	}
	i.settings.store(args[0], strings.Join(args[1:], " "))
	return nil
}

func (i *interpreter) clear(_ context.Context, args []string) error {
	for _, name := range args {
		i.settings.store(name, "")
	}
	return nil
}

func (i *interpreter) inc(_ context.Context, args []string) error {
	if len(args) == 0 || len(args) > 2 {
		return errors.New("inc: want a setting and perhaps an amount")
	}
	value, by := int64(0), int64(1)
	var err error
	if old := i.settings.value(args[0]); old != "" {
		if value, err = number(old); err != nil {
			return fmt.Errorf("inc %s: %w", args[0], err)
		}
	}
	if len(args) == 2 {
		if by, err = number(args[1]); err != nil {
			return fmt.Errorf("inc %s: %w", args[0], err)
		}
	}
	i.settings.store(args[0], strconv.FormatInt(value+by, 10))
	return nil
}

func (i *interpreter) isset(_ context.Context, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return errors.New("isset: not set")
	}
	return nil
}

func (i *interpreter) iseq(_ context.Context, args []string) error {
	if len(args) != 2 || args[0] != args[1] {
		return errors.New("iseq: not equal")
	}
	return nil
}

func (i *interpreter) jump(_ context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("goto: want one label")
	}
	return jump{args[0]}
}

func (i *interpreter) exit(_ context.Context, args []string) error {
	if len(args) == 0 {
		return leave{}
	}
	code, err := number(args[0])
	if err != nil {
		return fmt.Errorf("exit: %w", err)
	}
	return leave{code}
}

func (i *interpreter) sleep(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("sleep: want seconds")
	}
	seconds, err := number(args[0])
	if err != nil || seconds < 0 {
		return fmt.Errorf("sleep: %q are no seconds", args[0])
	}
	if i.Examine {
		return i.skip(time.Duration(seconds) * time.Second)
	}
	i.commands = 0
	started := time.Now()
	timer := time.NewTimer(time.Duration(float64(seconds) * i.SleepScale * float64(time.Second)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return i.step(started, "sleep", args[0]+" s", nil)
	}
}

// prompt waits for a key that nobody presses.
func (i *interpreter) prompt(context.Context, []string) error {
	return errors.New("prompt: no key was pressed")
}

// ifopen is for one NIC, net0; iflinkwait finds its link there.
func (i *interpreter) ifopen(_ context.Context, args []string) error {
	_, nics, err := options(args)
	if err != nil {
		return err
	}
	for _, nic := range nics {
		if nic != "net0" && nic != "netX" {
			return fmt.Errorf("no such network device: %s", nic)
		}
	}
	return nil
}

func (i *interpreter) ifclose(ctx context.Context, args []string) error {
	if err := i.ifopen(ctx, args); err != nil {
		return err
	}
	delete(i.settings.nic, "ip")
	return nil
}

func (i *interpreter) dhcp(ctx context.Context, args []string) error {
	if err := i.ifopen(ctx, args); err != nil {
		return err
	}
	offer, err := i.discover(ctx, i.ipxeIdentity())
	if err != nil {
		return err
	}
	i.settings.configure(i.Local, offer)
	return nil
}

func (i *interpreter) loadKernel(ctx context.Context, args []string) error {
	_, rest, err := options(args)
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		return errors.New("kernel: which?")
	}
	at, err := i.load(ctx, "kernel", rest[0])
	if err != nil {
		return err
	}
	i.kernel = image{at, rest[1:]}
	return nil
}

func (i *interpreter) loadInitrd(ctx context.Context, args []string) error {
	_, rest, err := options(args)
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		return errors.New("initrd: which?")
	}
	at, err := i.load(ctx, "initrd", rest[0])
	if err != nil {
		return err
	}
	i.initrds = append(i.initrds, at)
	return nil
}

// load fetches an image, or asks whether it is there.
func (i *interpreter) load(ctx context.Context, what, ref string) (string, error) {
	started := time.Now()
	u, err := i.resolve(ref)
	if err != nil {
		return "", err
	}
	size, err := i.size(ctx, u)
	if err == nil && size == 0 && i.Examine {
		err = errors.New("the file is empty")
	}
	if err != nil {
		err = &Error{Step: what, Err: fmt.Errorf("%s: %w", shown(u), err), Hint: webHint(err)}
	}
	s := Step{Name: what, Detail: fmt.Sprintf("%s: %d bytes", shown(u), size), At: started, File: shown(u), Bytes: size}
	return u.String(), i.report(s, err)
}

// size fetches an image, or asks how large it is.
func (i *interpreter) size(ctx context.Context, u *url.URL) (int64, error) {
	switch {
	case u.Scheme == "tftp":
		_, size, err := i.readURL(ctx, u, !i.Fetch)
		return size, err
	case i.Fetch:
		return i.download(ctx, u.String())
	default:
		return i.head(ctx, u.String())
	}
}

func (i *interpreter) imgargs(_ context.Context, args []string) error {
	if len(args) == 0 || i.kernel.url == "" {
		return errors.New("imgargs: no such image")
	}
	i.kernel.args = args[1:]
	return nil
}

func (i *interpreter) imgfree(context.Context, []string) error {
	i.kernel, i.initrds = image{}, nil
	return nil
}

// start starts the kernel.
func (i *interpreter) start(context.Context, []string) error {
	if i.kernel.url == "" {
		return errors.New("boot: no kernel was loaded")
	}
	return i.started()
}

func (i *interpreter) started() error {
	r := &i.result
	r.Kernel, r.Initrd, r.Cmdline = i.kernel.url, strings.Join(i.initrds, " "), strings.Join(i.kernel.args, " ")
	return ended{OutcomeKernel}
}

// chain runs another script, or starts a program: a unified kernel image.
func (i *interpreter) chain(ctx context.Context, args []string) error {
	given, rest, err := options(args)
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		return errors.New("chain: what?")
	}
	started := time.Now()
	text, at, err := i.fetch(ctx, rest[0])
	if err != nil {
		return i.scriptFailed(started, rest[0], err)
	}
	if !isScript(text) {
		_ = i.report(Step{Name: "kernel", Detail: shown(at), At: started, File: shown(at), Bytes: -1}, nil)
		i.kernel = image{at.String(), rest[1:]}
		return i.started()
	}
	_ = i.scriptLoaded(started, at)
	if given.has("--replace", "-r") {
		return replace{text, at}
	}
	if i.depth++; i.depth > maxDepth {
		return halted{fmt.Errorf("%d scripts within each other", maxDepth)}
	}
	defer func() { i.depth-- }()
	err = i.run(ctx, text, at)
	var code leave
	if errors.As(err, &code) && code.code == 0 {
		return nil
	}
	if code.code != 0 {
		return fmt.Errorf("%s: %s", shown(at), code.Error())
	}
	return err
}

func (i *interpreter) sanboot(_ context.Context, args []string) error {
	_, rest, err := options(args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return fmt.Errorf("sanboot %s: network disks are not supported", rest[0])
	}
	_ = i.step(time.Now(), "disk", "sanboot starts the first disk", nil)
	return ended{OutcomeDisk}
}
