package power

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/command/sensor"
	"github.com/bougou/go-ipmi/pkg/types"
)

// What a controller sends may be anything: nothing of it may end the program.

func FuzzSensorRecord(f *testing.F) {
	full := make([]byte, 64)
	copy(full, []byte{1, 0, 0x51, 1, 59, 0x20, 0, 0x30})
	f.Add(full, []byte{45, 0xc0, 0, 0})

	compact := append([]byte{1, 0, 0x51, 2, 40}, make([]byte, 40)...)
	f.Add(compact, []byte{0, 0xc0, 1, 0})
	f.Add([]byte{1, 0, 0x51, 0x11, 255}, []byte{})

	f.Fuzz(func(t *testing.T, record, reading []byte) {
		sdr, err := types.ParseSDR(record, 0)
		if err != nil {
			return
		}

		r, ok := sensorRecordOf(sdr)
		if !ok {
			return
		}

		var told sensor.GetSensorReadingResponse
		if told.Unpack(reading) != nil {
			return
		}

		s := Sensor{Name: r.name, Kind: r.sensorKind()}
		r.fill(&s, told, len(reading))

		if s.Unit == "" && s.Value != 0 {
			t.Errorf("a value without a unit: %+v", s)
		}

		if s.Unit == "" && s.State == "" {
			t.Errorf("neither value nor state: %+v", s)
		}
	})
}

func FuzzLogEntry(f *testing.F) {
	f.Add([]byte{10, 0, 2, 0, 0, 0, 0, 0x20, 0, 4, 9, 2, 0x6f, 0, 0xff, 0xff})
	f.Add([]byte{10, 0, 0xc0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13})
	f.Add([]byte{10, 0, 0xe0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13})

	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) < selRecord {
			return
		}

		if e := logEntryOf([selRecord]byte(raw)); e.ID == "" || e.Text == "" {
			t.Errorf("%x is %+v", raw, e)
		}
	})
}

func FuzzFRU(f *testing.F) {
	fru, err := types.PackFRU(types.FRUPackConfig{
		Chassis: &types.FRUPackChassis{Type: 0x17, Serial: "S"},
		Board:   &types.FRUPackBoard{Mfg: "M", Product: "P", Serial: "S"},
		Product: &types.FRUPackProduct{Manufacturer: "M", Name: "N", Serial: "S"},
	})
	if err != nil {
		f.Fatal(err)
	}

	f.Add(fru)
	f.Add([]byte{1, 0, 1, 2, 3, 0, 0, 0xf9})

	f.Fuzz(func(_ *testing.T, raw []byte) {
		var i Info

		i.readFRU(raw)
		i.readDeviceID(raw)
		_ = partsOf(raw, "PSU1")
	})
}

func FuzzGreeting(f *testing.F) {
	g := greeter{}
	request := g.message(types.CommandGetChannelAuthCapabilities, 0x8e, 3)
	f.Add(request, []byte{0xc0, 17, 3, 0x44, 0x81, 0xc1, 0x80, 1, 2, 3, 1})
	f.Add([]byte{6, 0, 0xff, 6, 0, 0, 0x11, 0xbe, 0x40}, []byte{0xc0})

	f.Fuzz(func(t *testing.T, datagram, records []byte) {
		_ = isPong(datagram)

		if answer, ok := answerTo(request, datagram); ok && len(answer) > len(datagram) {
			t.Errorf("an answer of %d bytes in %d", len(answer), len(datagram))
		}

		for _, suite := range suitesOf(records) {
			if suite < 0 || suite > 255 {
				t.Errorf("suite %d", suite)
			}
		}
	})
}

func FuzzRedfishResources(f *testing.F) {
	f.Add([]byte(`{"Id":"1","Created":"2026-01-01T00:00:00Z","Severity":"OK","Message":"m"}`))
	f.Add([]byte(`{"Name":"n","Reading":"45","ReadingUnits":"Cel","Status":{"State":"Absent"}}`))
	f.Add([]byte(`{"Fans":{"x":1},"Temperatures":[{"ReadingCelsius":null}],"Boot":{"BootSourceOverrideTarget":7}}`))

	f.Fuzz(func(t *testing.T, raw []byte) {
		if e, ok := logEntryFrom(raw, "SEL"); ok && e.Source != "SEL" {
			t.Errorf("%s is %+v", raw, e)
		}

		var (
			r sensorResource
			h thermal
			p powerResource
			s computerSystem
		)

		if fits(json.Unmarshal(raw, &r)) {
			if got := r.sensor(); got.Unit == "" && got.Value != 0 {
				t.Errorf("%s is %+v", raw, got)
			}
		}

		if fits(json.Unmarshal(raw, &h)) {
			_ = h.sensors()
		}

		if fits(json.Unmarshal(raw, &p)) {
			_ = p.sensors()
		}

		if fits(json.Unmarshal(raw, &s)) {
			_ = s.body(true)
			_ = s.Boot.text(overrideTarget)
			_ = etags(s.ETag)
		}
	})
}

func TestNamesInOrder(t *testing.T) {
	t.Parallel()

	// Each before the next one.
	names := []string{"", "12V", "CPU", "CPU1", "CPU2", "CPU10", "CPU10 Temp", "CPU11", "FAN1", "FAN1a", "FAN02", "b"}

	for i, a := range names {
		for j, b := range names {
			got := compareNames(a, b)
			if (got < 0) != (i < j) || (got == 0) != (i == j) {
				t.Errorf("compareNames(%q, %q) = %d", a, b, got)
			}
		}
	}
}

func TestSuites(t *testing.T) {
	t.Parallel()

	records := []byte{0xc0, 3, 0x01, 0x41, 0x81, 0xc1, 0x80, 0x57, 0x01, 0x00, 0x02, 0x42, 0xc0, 17, 0x03, 0x44, 0x81}
	if got := suitesOf(records); len(got) != 2 || got[0] != 3 || got[1] != 17 {
		t.Errorf("got %v, want 3 and 17", got)
	}
}

func TestWords(t *testing.T) {
	t.Parallel()

	for value, want := range map[string]string{
		"UnavailableOffline": "unavailable offline", "Absent": "absent", "": "", "StandbyOffline": "standby offline",
	} {
		if got := words(value); got != want {
			t.Errorf("words(%q) = %q, want %q", value, got, want)
		}
	}
}

// A sequence behind the last one is a doubled packet's; ahead of it is new.
func TestOvertakenConsolePackets(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		theirs, sequence byte
		want             bool
	}{
		{0, 1, false}, {1, 1, false}, {1, 2, false}, {2, 1, true}, {15, 1, false}, {1, 15, true}, {3, 13, true}, {13, 3, false},
	} {
		if got := (&console{theirs: c.theirs}).overtaken(c.sequence); got != c.want {
			t.Errorf("%d after %d: overtaken %t, want %t", c.sequence, c.theirs, got, c.want)
		}
	}
}

func TestChassisHealth(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		status []byte
		want   Health
	}{
		{nil, HealthUnknown}, {[]byte{1, 0}, HealthUnknown}, {[]byte{1, 0, 0}, HealthOK}, {[]byte{0x21, 0, 0x40}, HealthOK},
		{[]byte{0x03, 0, 0}, HealthCritical}, {[]byte{0x09, 0, 0}, HealthCritical}, {[]byte{0x11, 0, 0}, HealthCritical},
		{[]byte{1, 0, 0x04}, HealthCritical}, {[]byte{1, 0, 0x08}, HealthCritical},
	} {
		if got := chassisHealth(c.status); got != c.want {
			t.Errorf("% x is %q, want %q", c.status, got, c.want)
		}
	}
}

// A datagram of a session comes from whoever knows its address and port.
func FuzzDatagram(f *testing.F) {
	header := append([]byte{6, 0, 0xff, 7, 6, 0x41, 1, 0, 0, 0, 1, 0, 0, 0, 4, 0}, 0, 1, 2, 3)
	f.Add(header)
	f.Add(append([]byte{6, 0, 0xff, 7, 6, 0xc1, 1, 0, 0, 0, 1, 0, 0, 0, 16, 0}, make([]byte, 40)...))
	f.Add([]byte{6, 0, 0xff, 7, 6, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 1})

	f.Fuzz(func(_ *testing.T, datagram []byte) {
		c, err := client.NewClient("127.0.0.1", 623, "admin", "secret")
		if err != nil {
			return
		}

		if len(datagram) < sessionHeaderSize {
			return // ipmiConn and the console drop these
		}

		var packet types.SOLPayloadResponse

		_ = c.ParseRmcpResponse(context.Background(), datagram, types.CommandSOLPayload, &packet)
	})
}
