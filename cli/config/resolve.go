package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// The places a value can come from, as Origin spells them; of the environment
// the variable's name follows, and a place in the file stands as path:line:column.
const (
	OriginDefault = "default"
	OriginFlag    = "flag"
	originEnv     = "env "
)

// Source is where Resolve looks for the flags that the command line left out.
type Source struct {
	// Env returns a variable's value; an empty one counts as not set.
	Env func(string) string
	// Fallback names, by flag, the foreign variable that gives the default.
	Fallback map[string]string
	// Path and Values are the file's: its section of flag values.
	Path   string
	Values map[string]Value
}

// Origins tells, by flag name, the place each value came from.
type Origins map[string]string

// Given tells whether the value is anything but the built-in default.
func (o Origins) Given(flag string) bool { return cmp.Or(o[flag], OriginDefault) != OriginDefault }

// EnvName returns the variable of a flag: BMCTL_API_PORT of api-port.
func EnvName(flag string) string {
	return "BMCTL_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Resolve fills in the flags that the command line did not set: from
// BMCTL_<FLAG>, else from the file, else from the fallback variable, else they
// keep their default. Problems are values that a flag does not take, and keys
// of the file that are no flag.
func Resolve(flags *pflag.FlagSet, source Source) (Origins, Problems) {
	origins := Origins{}

	var problems Problems

	flags.VisitAll(func(flag *pflag.Flag) {
		origin, problem := source.fill(flag)
		origins[flag.Name] = origin

		if problem != nil {
			problems = append(problems, *problem)
		}
	})

	for _, name := range slices.Sorted(maps.Keys(source.Values)) {
		if flags.Lookup(name) == nil {
			value := source.Values[name]
			problems = append(problems, Problem{Path: source.Path, Line: value.Line, Column: value.Column, Text: fmt.Sprintf("unknown key %q", name)})
		}
	}

	problems.sort()

	return origins, problems
}

func (s Source) fill(flag *pflag.Flag) (string, *Problem) {
	if flag.Changed {
		return OriginFlag, nil
	}

	if text := s.Env(EnvName(flag.Name)); text != "" {
		return s.fromEnv(flag, EnvName(flag.Name), text)
	}

	if value, ok := s.Values[flag.Name]; ok {
		place := Problem{Path: s.Path, Line: value.Line, Column: value.Column}
		origin := strings.TrimSuffix(place.String(), ": ")

		if err := flag.Value.Set(value.Text); err != nil {
			place.Text = fmt.Sprintf("%s: %q: %v", flag.Name, value.Text, err)

			return origin, &place
		}

		return origin, nil
	}

	if variable := s.Fallback[flag.Name]; variable != "" && s.Env(variable) != "" {
		return s.fromEnv(flag, variable, s.Env(variable))
	}

	return OriginDefault, nil
}

func (s Source) fromEnv(flag *pflag.Flag, variable, text string) (string, *Problem) {
	if err := flag.Value.Set(text); err != nil {
		return originEnv + variable, &Problem{Text: fmt.Sprintf("%s=%q: %v", variable, text, err)}
	}

	return originEnv + variable, nil
}
