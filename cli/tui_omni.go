package cli

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/bmctl/bmctl/serve/operator"
	"github.com/bmctl/bmctl/tui"
)

// Do implements tui.Source.
func (s *tuiSource) Do(ctx context.Context, verb tui.Verb, ids ...string) iter.Seq[tui.Result] {
	if slices.Contains(powerVerbs(), verb) {
		return s.doPower(ctx, verb, ids)
	}

	return s.doInOmni(ctx, verb, ids)
}

// omniActTimeout limits one act on one machine.
const omniActTimeout = 30 * time.Second

func (s *tuiSource) doInOmni(ctx context.Context, verb tui.Verb, ids []string) iter.Seq[tui.Result] {
	return func(yield func(tui.Result) bool) {
		for _, id := range ids {
			err := s.inOmni(ctx, verb, id)

			text := map[tui.Verb]string{tui.Accept: "accepted", tui.Reject: "rejected", tui.Cordon: "cordoned", tui.Uncordon: "uncordoned"}[verb]
			if err != nil {
				text = ""
			}

			if !yield(tui.Result{ID: id, Text: text, Err: err}) {
				return
			}
		}
	}
}

func (s *tuiSource) inOmni(ctx context.Context, verb tui.Verb, id string) error {
	ctx, cancel := context.WithTimeout(ctx, omniActTimeout)
	defer cancel()

	omni, err := s.connected(ctx)
	if err != nil {
		return err
	}

	switch verb {
	case tui.Accept:
		return omni.Accept(ctx, id)
	case tui.Reject:
		return omni.Reject(ctx, id)
	case tui.Cordon:
		return omni.Cordon(ctx, id)
	case tui.Uncordon:
		return omni.Uncordon(ctx, id)
	default:
		return fmt.Errorf("%q is no act on Omni", verb)
	}
}

// connected connects to Omni once. The lock is not held meanwhile: two that try
// at once both connect, and one of them closes again.
func (s *tuiSource) connected(ctx context.Context) (*operator.Client, error) {
	s.mu.Lock()
	omni := s.omni
	s.mu.Unlock()

	if omni != nil {
		return omni, nil
	}

	omni, err := s.a.connectOmni(ctx, omniFlags{})
	if err != nil {
		return nil, err
	}

	s.mu.Lock()
	defer s.mu.Unlock()

	if s.omni != nil {
		_ = omni.Close() // the other one is used

		return s.omni, nil
	}

	s.omni = omni

	return omni, nil
}
