package pxeclient

import (
	"context"
	"errors"
)

// newMenu forgets the items of the menu before.
func (i *interpreter) newMenu(context.Context, []string) error {
	i.menu = nil
	return nil
}

// item adds to the menu; a gap has no key.
func (i *interpreter) item(_ context.Context, args []string) error {
	given, rest, err := options(args)
	if err != nil {
		return err
	}
	if len(rest) > 0 && !given.has("--gap", "-g") {
		i.menu = append(i.menu, rest[0])
	}
	return nil
}

// choose takes what a menu takes when nobody presses a key: its default, else the
// first item.
func (i *interpreter) choose(_ context.Context, args []string) error {
	given, rest, err := options(args)
	if err != nil {
		return err
	}
	if len(rest) != 1 {
		return errors.New("choose: want one setting")
	}
	for _, name := range []string{"--default", "-d"} {
		if value, found := given[name]; found {
			i.settings.store(rest[0], value)
			return nil
		}
	}
	if len(i.menu) == 0 {
		return errors.New("choose: the menu is empty")
	}
	i.settings.store(rest[0], i.menu[0])
	return nil
}

// cpuid is asked whether the processor has 64 bits, and has.
func (i *interpreter) cpuid(context.Context, []string) error {
	if i.Arch != "amd64" {
		return errors.New("cpuid: not on this architecture")
	}
	return nil
}
