package power

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// logService is what the driver reads of a log service.
type logService struct {
	ID      string `json:"Id"`
	Name    string
	Entries odataLink
}

// holdsFiles tells whether the service is one of those whose entries are dumps
// or boot progress codes instead of events (OpenBMC has several).
func (s logService) holdsFiles() bool {
	name := strings.ToLower(s.ID + " " + s.Name)

	return slices.ContainsFunc([]string{"dump", "postcode", "post code", "hostlog"},
		func(word string) bool { return strings.Contains(name, word) })
}

// eventLog implements logReader. Services list their entries in one order or
// the other, so all are read and put in the order of their times.
func (d *redfish) eventLog(ctx context.Context, last int) ([]LogEntry, error) {
	services, err := d.logServices(ctx)
	if err != nil {
		return nil, err
	}

	if len(services) == 0 {
		return nil, fail(ErrUnsupported, "%s has no log service", d.address)
	}

	var entries []LogEntry

	for _, s := range services {
		err := d.members(ctx, s.Entries.ID, func(raw json.RawMessage) {
			if entry, ok := logEntryFrom(raw, cmp.Or(s.ID, s.Name)); ok {
				entries = append(entries, entry)
			}
		})
		if err != nil {
			return nil, err
		}
	}

	slices.SortStableFunc(entries, func(a, b LogEntry) int {
		return compareAll(a.Time.Compare(b.Time), compareNames(a.Source, b.Source), compareNames(a.ID, b.ID))
	})
	entries = slices.Compact(entries)

	if last > 0 {
		entries = entries[max(0, len(entries)-last):]
	}

	return entries, nil
}

// logServices are those of the system, its managers and its chassis, each once.
func (d *redfish) logServices(ctx context.Context) ([]logService, error) {
	s, err := d.system(ctx)
	if err != nil {
		return nil, err
	}

	managers, err := d.managers(ctx, s)
	if err != nil {
		return nil, err
	}

	chassis, err := d.chassis(ctx, s)
	if err != nil {
		return nil, err
	}

	collections := []string{s.LogServices.ID}
	for _, m := range managers {
		collections = append(collections, m.LogServices.ID)
	}

	for _, c := range chassis {
		collections = append(collections, c.LogServices.ID)
	}

	var services []logService

	for _, path := range collections {
		err := d.members(ctx, path, func(raw json.RawMessage) {
			var service logService
			if fits(json.Unmarshal(raw, &service)) && service.Entries.ID != "" && !service.holdsFiles() &&
				!slices.ContainsFunc(services, func(s logService) bool { return s.Entries == service.Entries }) {
				services = append(services, service)
			}
		})
		if err != nil {
			return nil, err
		}
	}

	return services, nil
}

// logEntryFrom reads an entry (LogEntry schema).
func logEntryFrom(raw json.RawMessage, service string) (LogEntry, bool) {
	var e struct {
		ID        string `json:"Id"`
		Created   string
		Severity  string
		Message   string
		MessageID string `json:"MessageId"`
		Name      string
	}

	if !fits(json.Unmarshal(raw, &e)) {
		return LogEntry{}, false
	}

	return LogEntry{
		ID: e.ID, Time: createdTime(e.Created), Severity: healthOf(e.Severity), Source: service,
		Text: strings.TrimSpace(cmp.Or(e.Message, e.MessageID, e.Name)),
	}, true
}

// createdTime: a clock that was not set shows its epoch.
func createdTime(text string) time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || t.Year() <= 1970 {
		return time.Time{}
	}

	return t.UTC()
}
