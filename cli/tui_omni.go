package cli

import (
	"context"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/bmctl/bmctl/serve/operator"
	"github.com/bmctl/bmctl/tui"
)

// Do implements tui.Source.
func (s *tuiSource) Do(ctx context.Context, verb tui.Verb, ids ...string) iter.Seq[tui.Result] {
	if act, ok := powerAct(verb); ok {
		return s.inventory.do(ctx, act, s.hostsOf(ids))
	}

	return s.doInOmni(ctx, verb, ids)
}

// hostsOf are the inventory's hosts by machine id; one that is not there has none.
func (s *tuiSource) hostsOf(ids []string) []hostOfMachine {
	s.mu.Lock()
	defer s.mu.Unlock()

	hosts := make([]hostOfMachine, len(ids))

	for i, id := range ids {
		hosts[i] = hostOfMachine{id, s.names[strings.ToLower(id)]}

		if _, known := s.a.file.Hosts[id]; known && hosts[i].host == "" {
			hosts[i].host = id // a host without an id goes by its name
		}

		for _, m := range s.seen {
			if m.ID == id && hosts[i].host == "" {
				hosts[i].host = s.host(m)
			}
		}
	}

	return hosts
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
