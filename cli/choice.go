package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/pflag"
)

// choice is a flag that takes one of a few words.
type choice struct {
	value    *string
	typeName string
	allowed  []string
}

// choiceVar defines a flag whose default is the first word, unless the variable
// already holds one of them.
func choiceVar(flags *pflag.FlagSet, value *string, name, typeName, usage string, allowed ...string) {
	if *value == "" {
		*value = allowed[0]
	}

	flags.Var(&choice{value, typeName, allowed}, name, usage+": "+strings.Join(allowed, " | "))
}

// Set implements pflag.Value.
func (c *choice) Set(text string) error {
	if !slices.Contains(c.allowed, text) {
		return fmt.Errorf("want %s", strings.Join(c.allowed, ", "))
	}

	*c.value = text

	return nil
}

// String implements pflag.Value.
func (c *choice) String() string {
	if c.value == nil {
		return ""
	}

	return *c.value
}

// Type implements pflag.Value.
func (c *choice) Type() string { return c.typeName }

// size is a flag in bytes: 20GiB, 500MB or a plain number.
type size struct{ bytes *int64 }

// Set implements pflag.Value.
func (s size) Set(text string) error {
	bytes, err := humanize.ParseBytes(text)
	if err != nil || bytes > 1<<62 {
		return fmt.Errorf("want a size like 20GiB")
	}

	*s.bytes = int64(bytes)

	return nil
}

// String implements pflag.Value.
func (s size) String() string {
	if s.bytes == nil {
		return ""
	}

	return strings.ReplaceAll(humanize.IBytes(uint64(max(0, *s.bytes))), " ", "")
}

// Type implements pflag.Value.
func (s size) Type() string { return "SIZE" }
