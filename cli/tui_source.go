package cli

import (
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/bmctl/bmctl/serve/localapi"
	"github.com/bmctl/bmctl/serve/operator"
	"github.com/bmctl/bmctl/tui"
)

// tuiSource adapts serve's socket, the inventory's BMCs and Omni to the view.
type tuiSource struct {
	a         *app
	kind      string
	client    *localapi.Client
	inventory *tuiInventory
	names     map[string]string // inventory hosts by machine id
	addresses map[string]string // and by BMC address
	console   bool              // there is a console command
	stderr    io.Writer         // of a program that gets the terminal
	consoles  consoles

	mu    sync.Mutex
	omni  *operator.Client
	seen  []localapi.Machine        // of the last snapshot
	since uint64                    // the last event
	last  map[string]localapi.Event // by machine id
}

var _ tui.Source = (*tuiSource)(nil)

func (a *app) newSource(ctx context.Context, root *cobra.Command, kind string) (*tuiSource, error) {
	if kind == sourceInventory && len(a.file.Hosts) == 0 {
		return nil, failf(codeNoMatch, "bmctl config init", "the inventory is empty")
	}

	_, rest, err := root.Find([]string{"console", "x"})

	return &tuiSource{
		a: a, stderr: a.stderr, kind: kind, client: a.serveClient(), inventory: newInventory(ctx, a), console: err == nil && len(rest) == 1,
		consoles: consoles{last: map[string]*heard{}}, last: map[string]localapi.Event{}, names: a.file.NamesByID(), addresses: a.file.NamesByAddress(),
	}, nil
}

func (s *tuiSource) close() {
	s.client.Close()
	s.inventory.close()

	s.mu.Lock()
	defer s.mu.Unlock()

	if s.omni != nil {
		_ = s.omni.Close() // nothing is lost with it
	}
}

// Snapshot implements tui.Source.
func (s *tuiSource) Snapshot(ctx context.Context) (tui.Snapshot, error) {
	if s.kind == sourceInventory {
		return s.inventorySnapshot("the inventory alone: power and nothing else; boot, status and events come from bmctl serve"), nil
	}

	list, err := s.client.Machines(ctx)
	if err == nil || errors.Is(err, localapi.ErrNotYet) {
		return s.serveSnapshot(ctx, list) // its health says what is missing
	}

	if s.kind == sourceAuto && away(err) && len(s.a.file.Hosts) > 0 {
		return s.inventorySnapshot("serve does not answer: power only; boot, status and events are empty. Start it: bmctl serve"), nil
	}

	return tui.Snapshot{}, err
}

// away tells whether nobody serves, or not for us.
func away(err error) bool {
	return errors.Is(err, localapi.ErrNotRunning) || errors.Is(err, localapi.ErrPermission)
}

func (s *tuiSource) serveSnapshot(ctx context.Context, list localapi.MachineList) (tui.Snapshot, error) {
	health, err := s.client.Health(ctx)
	if err != nil {
		return tui.Snapshot{}, err
	}

	s.notice(list.Items)

	snapshot := tui.Snapshot{Health: viewHealth(health), Cannot: s.cannot(), Rows: make([]tui.Row, 0, len(list.Items))}
	refusals := s.refusals()

	for _, m := range list.Items {
		row := viewRow(m)
		host := s.host(m)
		row.Cannot = refusals(host, unserved(m))

		if host != "" && m.BMC.Address == "" { // serve may not ask its BMC before it is accepted
			s.fromInventory(&row, host)
		}

		snapshot.Rows = append(snapshot.Rows, row)
	}

	snapshot.Rows = append(snapshot.Rows, s.newcomers(list.Items, time.Now())...)

	return snapshot, nil
}

// fromInventory fills in the power that serve does not know.
func (s *tuiSource) fromInventory(row *tui.Row, host string) {
	r := s.inventory.look(host)
	if r.err != nil || r.at.IsZero() {
		return
	}

	row.Power, row.PowerAt = r.state.String(), r.at
	row.BMC = tui.BMC{Protocol: s.a.file.Hosts[host].Protocol, Address: s.a.file.Hosts[host].Address, Latency: r.latency}
}

// newcomerLasts is how long a machine is shown that was heard, and that Omni does
// not know.
const newcomerLasts = 10 * time.Minute

// newcomers are the machines that boot and that Omni does not know yet.
func (s *tuiSource) newcomers(known []localapi.Machine, now time.Time) []tui.Row {
	s.mu.Lock()
	defer s.mu.Unlock()

	heard := maps.Clone(s.last)
	for _, m := range known {
		delete(heard, m.ID)
	}

	const why = "Omni does not know it yet"

	refusals := s.refusals()

	var rows []tui.Row

	for _, id := range slices.Sorted(maps.Keys(heard)) {
		event := heard[id]
		if id == "" || !slices.Contains(tui.Stages(), event.Type) || now.Sub(event.At) > newcomerLasts {
			continue
		}

		host := s.names[strings.ToLower(id)]
		cannot := maps.Clone(refusals(host, why))

		for _, verb := range omniVerbs() {
			cannot[verb] = why
		}

		rows = append(rows, tui.Row{
			ID: id, Name: cmp.Or(host, firstBlock(id)), Power: "on", Stage: event.Type, Reason: why,
			LastEvent: event.Text, LastEventAt: event.At, MAC: event.MAC, FirstSeen: event.At, Cannot: cannot,
		})
	}

	return rows
}

// notice remembers the machines, and fills in what serve's events told of those
// whose last event it does not keep.
func (s *tuiSource) notice(machines []localapi.Machine) {
	s.mu.Lock()
	defer s.mu.Unlock()

	for i := range machines {
		if event, known := s.last[machines[i].ID]; known && machines[i].LastEvent.Text == "" {
			machines[i].LastEvent = localapi.LastEvent{At: event.At, Text: event.Text}
		}
	}

	s.seen = machines
}

// host is the machine's name in the inventory, or empty.
func (s *tuiSource) host(m localapi.Machine) string {
	if name := s.names[strings.ToLower(m.ID)]; name != "" {
		return name
	}

	if m.BMC.Address == "" {
		return ""
	}

	return s.addresses[m.BMC.Address]
}

func viewHealth(h localapi.Health) tui.Health {
	view := tui.Health{
		Source: sourceServe, Omni: hostOf(h.Omni), Serve: hostOf(h.HTTP),
		OmniDown: !h.OmniConnected, OmniSince: h.OmniSince, OmniError: h.OmniError, OmniRetry: h.OmniRetryAt,
	}

	if view.OmniDown && h.OmniError != "" {
		view.Notice = "omni: " + h.OmniError
	} else if !h.Acting {
		view.Notice = "serve does not act on machines: " + cmp.Or(h.ActingReason, "it does not say why")
	}

	return view
}

// hostOf is the host of a URL or of host:port.
func hostOf(address string) string {
	if parsed, err := url.Parse(address); err == nil && parsed.Host != "" {
		return parsed.Host
	}

	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}

	return address
}

func viewRow(m localapi.Machine) tui.Row {
	return tui.Row{
		ID: m.ID, Name: m.Name, Power: m.Power, PowerAt: m.PowerAt, LastPower: m.LastPower, Stage: m.Stage, Status: m.Status, Reason: m.Reason,
		Cluster: m.Cluster, Role: roleText(m.Role), Talos: m.TalosVersion, LastEvent: m.LastEvent.Text, LastEventAt: m.LastEvent.At, Labels: m.Labels,
		BMC: tui.BMC{
			Protocol: m.BMC.Protocol, Address: m.BMC.Address, Error: m.BMC.Error,
			Latency: time.Duration(m.BMC.LatencySeconds * float64(time.Second)),
		},
		Accepted: m.Accepted, Cordoned: m.Cordoned, ReadyToUse: m.ReadyToUse, Installed: m.Installed,
		Held: m.Held, MAC: m.MAC, Address: m.Address, Serial: m.Serial, FirstSeen: m.FirstSeen, AgentSince: m.AgentSince,
		BootDecision: m.BootDecision, BootReason: m.BootReason,
	}
}
