package power

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"
)

// selRecord is the size of a record of the event log (IPMI 2.0, table 32-1).
const selRecord = 16

// eventLog implements logReader: Get SEL Info, then Get SEL Entry from the first
// to the last (IPMI 2.0, section 31). Entries are a list that can be walked in
// one direction only.
func (d *ipmi) eventLog(ctx context.Context, last int) ([]LogEntry, error) {
	count, err := d.logSize(ctx)
	if err != nil || count == 0 {
		return nil, err
	}

	var (
		entries []LogEntry
		id      uint16
	)

	if last == 1 {
		id = lastRecord // the last entry's own name
	}

	for range mostRecords {
		entry, next, err := d.logEntry(ctx, id)
		if completionCode(err) == types.CodeRequestedDataNotPresent {
			return entries, nil // it was cleared meanwhile
		}

		if err != nil {
			return nil, err
		}

		if entries = append(entries, entry); last > 0 && len(entries) > last {
			entries = entries[1:]
		}

		if next == lastRecord || next == id {
			break
		}

		id = next
	}

	return entries, nil
}

func (d *ipmi) logSize(ctx context.Context) (int, error) {
	data, err := d.command(ctx, commandOf(types.CommandGetSELInfo))
	if err != nil {
		return 0, err
	}

	const withCount = 3
	if len(data) < withCount {
		return 0, fail(ErrRefused, "%s answered Get SEL Info with %d bytes", d.address, len(data))
	}

	return int(data[1]) | int(data[2])<<8, nil
}

func (d *ipmi) logEntry(ctx context.Context, id uint16) (LogEntry, uint16, error) {
	data, err := d.command(ctx, commandOf(types.CommandGetSELEntry, 0, 0, byte(id), byte(id>>8), 0, wholeRecord))
	if err != nil {
		return LogEntry{}, 0, err
	}

	const header = 2
	if len(data) < header+selRecord {
		return LogEntry{}, 0, fail(ErrRefused, "%s answered Get SEL Entry with %d bytes", d.address, len(data))
	}

	return logEntryOf([selRecord]byte(data[header:])), uint16(data[0]) | uint16(data[1])<<8, nil
}

// logEntryOf reads a record; what it cannot read it shows as bytes.
func logEntryOf(raw [selRecord]byte) LogEntry {
	entry := LogEntry{ID: fmt.Sprintf("%02x%02x", raw[1], raw[0]), Text: fmt.Sprintf("record %x", raw[2:])}

	record, err := types.ParseSEL(raw[:])
	if err != nil {
		return entry
	}

	switch {
	case record.Standard != nil:
		s := record.Standard
		entry.Time = logTime(s.Timestamp)
		entry.Source = fmt.Sprintf("%s #%02x", s.SensorType, byte(s.SensorNumber))
		entry.Text = logText(s)
		entry.Severity = logSeverity(s.EventSeverity())
	case record.OEMTimestamped != nil:
		o := record.OEMTimestamped
		entry.Time = logTime(o.Timestamp)
		entry.Source = fmt.Sprintf("OEM %d", o.ManufacturerID)
		entry.Text = fmt.Sprintf("record type %02x: %x", raw[2], raw[10:])
	default:
		entry.Source = "OEM"
		entry.Text = fmt.Sprintf("record type %02x: %x", raw[2], raw[3:])
	}

	return entry
}

// logTime: a time before 0x20000000 counts from the controller's start, and all
// ones means that there is none (IPMI 2.0, section 37.1).
func logTime(t time.Time) time.Time {
	const sinceStart, none = 0x20000000, 0xffffffff
	if t.Unix() < sinceStart || t.Unix() == none {
		return time.Time{}
	}

	return t.UTC()
}

func logText(s *types.SELStandard) string {
	text := strings.ToLower(s.EventString())
	if text == "" {
		text = fmt.Sprintf("event %s of type %02x", s.EventData.String(), byte(s.EventReadingType))
	}

	if s.EventDir {
		text += " (over)"
	}

	return text
}

func logSeverity(s types.EventSeverity) Health {
	switch s {
	case types.EventSeverityWarning, types.EventSeverityDegraded, types.EventSeverityNonFatal:
		return HealthWarning
	case types.EventSeverityCritical:
		return HealthCritical
	case types.EventSeverityOK, types.EventSeverityInfo:
		return HealthOK
	default:
		return HealthUnknown
	}
}
