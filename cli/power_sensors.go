package cli

import (
	"cmp"
	"context"
	"strconv"
	"time"

	"github.com/bmctl/bmctl/cli/out"
	"github.com/bmctl/bmctl/power"
)

type sensorItem struct {
	Name   string   `json:"name"`
	Kind   string   `json:"kind"`
	Value  *float64 `json:"value,omitempty"`
	Unit   string   `json:"unit,omitempty"`
	State  string   `json:"state,omitempty"`
	Health string   `json:"health"` // ok, warning, critical or empty: not judged
}

func sensorsQuestion() question {
	return question{
		verb: "sensors", short: "Read temperatures, fans, voltages and the other sensors", kind: "SensorsList",
		columns: []out.Column{{Head: "MACHINE"}, {Head: "KIND"}, {Head: "SENSOR"}, {Head: "READING"}, {Head: "HEALTH"}},
		ask: func(ctx context.Context, bmc power.BMC, _ readFlags, item *readItem) error {
			able, ok := bmc.(power.Sensors)
			if !ok {
				return unable("no sensors")
			}

			sensors, err := able.Sensors(ctx)
			for _, s := range sensors {
				item.Sensors = append(item.Sensors, sensorOf(s))
			}

			return err
		},
		rows: func(item readItem) (rows [][]out.Cell) {
			for _, s := range item.Sensors {
				rows = append(rows, []out.Cell{{Text: item.Name}, {Text: s.Kind}, {Text: s.Name}, {Text: s.reading()}, healthCell(s.Health)})
			}

			return rows
		},
	}
}

func sensorOf(s power.Sensor) sensorItem {
	item := sensorItem{Name: s.Name, Kind: string(s.Kind), Unit: s.Unit, State: s.State, Health: string(s.Health)}
	if s.Unit != "" {
		item.Value = &s.Value
	}

	return item
}

func (s sensorItem) reading() string {
	switch {
	case s.Value == nil:
		return cmp.Or(s.State, "-")
	case s.Unit == "1":
		return strconv.FormatFloat(*s.Value, 'f', -1, 64)
	default:
		return strconv.FormatFloat(*s.Value, 'f', -1, 64) + " " + s.Unit
	}
}

func healthCell(health string) out.Cell {
	styles := map[string]out.Style{"ok": out.Good, "warning": out.Warn, "critical": out.Bad}

	return out.Cell{Text: cmp.Or(health, "-"), Style: styles[health]}
}

type logItem struct {
	ID       string    `json:"id"`
	Time     time.Time `json:"time,omitzero"`
	Severity string    `json:"severity"` // ok, warning, critical or empty: not told
	Source   string    `json:"source"`
	Text     string    `json:"text"`
}

func logQuestion() question {
	return question{
		verb: "log", short: "Read the BMCs' event logs, the newest entry last", kind: "EventLogList",
		columns: []out.Column{{Head: "MACHINE"}, {Head: "TIME"}, {Head: "SEVERITY"}, {Head: "SOURCE"}, {Head: "ID", Wide: true}, {Head: "EVENT"}},
		ask: func(ctx context.Context, bmc power.BMC, f readFlags, item *readItem) error {
			able, ok := bmc.(power.EventLog)
			if !ok {
				return unable("no event log")
			}

			entries, err := able.EventLog(ctx, f.last)
			for _, e := range entries {
				item.Log = append(item.Log, logItem{ID: e.ID, Time: e.Time.UTC(), Severity: string(e.Severity), Source: e.Source, Text: e.Text})
			}

			return err
		},
		rows: func(item readItem) (rows [][]out.Cell) {
			for _, e := range item.Log {
				at := "clock not set"
				if !e.Time.IsZero() {
					at = e.Time.Format(time.RFC3339)
				}

				rows = append(rows, []out.Cell{{Text: item.Name}, {Text: at}, healthCell(e.Severity), {Text: cmp.Or(e.Source, "-")}, {Text: e.ID}, {Text: e.Text}})
			}

			return rows
		},
	}
}
