package power

import (
	"context"
	"net/http"
	"slices"
	"strings"
)

// resetTypes are Redfish's words for an action, the best first (Resource.ResetType).
var resetTypes = map[Action][]string{
	On:    {"On", "ForceOn"},
	Off:   {"ForceOff"},
	Soft:  {"GracefulShutdown"},
	Cycle: {"PowerCycle"},
	Reset: {"ForceRestart"},
	NMI:   {"Nmi"},
}

// act implements driver.
func (d *redfish) act(ctx context.Context, action Action) error {
	s, err := d.system(ctx)
	if err != nil {
		return err
	}

	reset := s.Actions.Reset
	if reset.Target == "" {
		return fail(ErrUnsupported, "the system at %s has no reset action", d.address)
	}

	allowed, err := d.allowedResets(ctx, s)
	if err != nil {
		return err
	}

	kind := chooseReset(resetTypes[action], allowed)
	if kind == "" {
		return fail(ErrUnsupported, "the system at %s has no reset type for %s (it has %s)",
			d.address, action, strings.Join(allowed, ", "))
	}

	// No If-Match here: some controllers refuse actions that carry one.
	return d.request(ctx, http.MethodPost, reset.Target, nil, map[string]string{"ResetType": kind}, nil)
}

// allowedResets are the reset types on offer; none: the controller does not tell.
func (d *redfish) allowedResets(ctx context.Context, s computerSystem) ([]string, error) {
	reset := s.Actions.Reset
	if len(reset.Types) > 0 || reset.ActionInfo == "" {
		return reset.Types, nil
	}

	var info struct {
		Parameters []struct {
			Name            string
			AllowableValues []string
		}
	}

	err := d.request(ctx, http.MethodGet, reset.ActionInfo, nil, nil, &info)
	if err != nil && !isKind(err, ErrUnsupported) {
		return nil, err
	}

	for _, p := range info.Parameters {
		if p.Name == "ResetType" {
			return p.AllowableValues, nil
		}
	}

	return nil, nil
}

// chooseReset picks a word that is on offer. A firmware that lost the comma
// between two of its words offers both.
func chooseReset(words, allowed []string) string {
	for _, word := range words {
		if len(allowed) == 0 || slices.ContainsFunc(allowed, func(a string) bool { return strings.Contains(a, word) }) {
			return word
		}
	}

	return ""
}
