package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bmctl/bmctl/serve/operator"
)

func (a *app) labelCommand() *cobra.Command {
	var f actFlags

	cmd := &cobra.Command{
		Use:   "label MACHINE... KEY=VALUE... KEY-...",
		Short: "Set labels of machines in Omni; KEY- removes one",
		Long: `Set labels of machines in Omni. KEY=VALUE sets a label and KEY- removes it; all
others stay. Omni's own labels (omni.sidero.dev/...) cannot be set.
` + needsOperator,
		Example: "  bmctl machines label r1n[01-16] rack=r1 spare-",
		Args:    machineArgs, ValidArgsFunction: a.completeMachines,
		RunE: func(cmd *cobra.Command, args []string) error { return a.label(cmd.Context(), args, f) },
	}

	f.add(cmd.Flags())

	return cmd
}

func (a *app) label(ctx context.Context, args []string, f actFlags) error {
	targets, set, unset, err := splitLabels(args)
	if err != nil {
		return err
	}

	return a.actOn(ctx, targets, f, machineAct{
		verb: "label", done: "labelled", kind: "LabelResultList",
		do: func(ctx context.Context, omni *operator.Client, id string) error {
			return omni.Label(ctx, id, set, unset...)
		},
	})
}

// splitLabels tells machines from labels: no machine's name has an equals sign
// or ends in a dash.
func splitLabels(args []string) (targets []string, set map[string]string, unset []string, err error) {
	set = map[string]string{}
	seen := map[string]bool{}

	for _, arg := range args {
		key, value, isSet := strings.Cut(arg, "=")
		if !isSet {
			var isUnset bool
			if key, isUnset = strings.CutSuffix(arg, "-"); !isUnset || key == "" {
				targets = append(targets, arg) // a lone dash is stdin

				continue
			}

			unset = append(unset, key)
		} else {
			set[key] = value
		}

		if key == "" {
			return nil, nil, nil, usagef("%q: a label needs a key", arg)
		}

		if seen[key] {
			return nil, nil, nil, usagef("the label %s is given twice", key)
		}

		seen[key] = true
	}

	switch {
	case len(targets) == 0:
		return nil, nil, nil, usagef("name the machines")
	case len(seen) == 0:
		return nil, nil, nil, usagef("say which labels: KEY=VALUE, or KEY- to remove one")
	}

	return targets, set, unset, nil
}
