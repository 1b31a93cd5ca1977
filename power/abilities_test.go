package power_test

import (
	"context"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/bmcsim"
	"github.com/bmctl/bmctl/power/bmctest"
)

// readings are what a simulated machine that is on shows over both protocols.
var readings = []power.Sensor{
	{Name: "CPU1 Temp", Kind: power.SensorTemperature, Value: 45, Unit: "C", Health: power.HealthOK},
	{Name: "Inlet Temp", Kind: power.SensorTemperature, Value: 22, Unit: "C", Health: power.HealthOK},
	{Name: "FAN1", Kind: power.SensorFan, Value: 5400, Unit: "RPM", Health: power.HealthOK},
	{Name: "FAN2", Kind: power.SensorFan, Value: 5500, Unit: "RPM", Health: power.HealthOK},
	{Name: "PSU1 Power", Kind: power.SensorPower, Value: 184, Unit: "W", Health: power.HealthOK},
	{Name: "12V", Kind: power.SensorVoltage, Value: 12.1, Unit: "V", Health: power.HealthOK},
}

func sensors(t *testing.T, bmc power.BMC) []power.Sensor {
	t.Helper()

	got, err := bmc.(power.Sensors).Sensors(bmctest.Context(t))
	if err != nil {
		t.Fatal(err)
	}

	return got
}

func TestSensors(t *testing.T) {
	t.Parallel()
	eachProtocol(t, bmcsim.Config{On: true}, func(t *testing.T, sim *bmcsim.BMC, target power.Target) {
		want := readings
		if target.Protocol == power.ProtocolIPMI {
			want = append(want[:len(want):len(want)],
				power.Sensor{Name: "PS1 Status", Kind: power.SensorOther, State: "presence detected"})
		}

		bmc := open(t, target)
		if got := sensors(t, bmc); !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}

		setFault(t, sim, bmcsim.FaultHot, true)

		if got := sensors(t, bmc)[0]; got.Value != 98 || got.Health != power.HealthCritical {
			t.Errorf("a processor that is too hot reads %+v", got)
		}

		// What is switched off has no reading, and is listed all the same.
		bmctest.Do(t, bmc, power.Off)

		if got := sensors(t, bmc); len(got) != len(want) || got[2].Unit != "" || got[2].State == "" {
			t.Errorf("while the machine is off: %+v", got)
		}
	})
}

// A controller that sends records in small parts only.
func TestSensorsInParts(t *testing.T) {
	t.Parallel()

	sim, target := bmctest.Simulated(t, bmcsim.Config{On: true})
	target.Protocol = power.ProtocolIPMI
	setFault(t, sim, bmcsim.FaultShortReads, true)

	if got := sensors(t, open(t, target)); len(got) != len(readings)+1 || got[0] != readings[0] {
		t.Errorf("got %+v", got)
	}
}

func TestEventLog(t *testing.T) {
	t.Parallel()
	eachProtocol(t, bmcsim.Config{}, func(t *testing.T, sim *bmcsim.BMC, target power.Target) {
		bmc := open(t, target)
		log := bmc.(power.EventLog)

		bmctest.Do(t, bmc, power.On, power.Off)

		got, err := log.EventLog(bmctest.Context(t), 0)
		if err != nil || len(got) != 3 {
			t.Fatalf("%v: got %+v, want three entries", err, got)
		}

		if !got[0].Time.IsZero() || !strings.Contains(strings.ToLower(got[0].Text), "cleared") {
			t.Errorf("the first entry is %+v", got[0])
		}

		if age := time.Since(got[2].Time); age < -time.Second || age > time.Minute || got[2].Source == "" || got[2].ID == "" {
			t.Errorf("the last entry is %+v", got[2])
		}

		for n := 1; n <= 2; n++ {
			last, err := log.EventLog(bmctest.Context(t), n)
			if err != nil || !reflect.DeepEqual(last, got[len(got)-n:]) {
				t.Errorf("%v: the last %d are %+v", err, n, last)
			}
		}

		setFault(t, sim, bmcsim.FaultHot, true)

		hot, err := log.EventLog(bmctest.Context(t), 0)
		if err != nil {
			t.Fatal(err)
		}

		found := false
		for _, e := range hot {
			found = found || e.Severity == power.HealthCritical && strings.Contains(e.Text, "critical")
		}

		if !found {
			t.Errorf("no critical entry in %+v", hot)
		}
	})
}

func TestInventory(t *testing.T) {
	t.Parallel()
	cfg := bmcsim.Config{Vendor: "Contoso", Model: "X1", Serial: "C0FFEE"}
	eachProtocol(t, cfg, func(t *testing.T, _ *bmcsim.BMC, target power.Target) {
		got, err := open(t, target).(power.Inventory).Inventory(bmctest.Context(t))
		if err != nil {
			t.Fatal(err)
		}

		var serials, versions, owners []string
		for _, p := range got.Parts {
			serials = append(serials, p.Name+"="+p.Serial)
		}

		for _, f := range got.Firmware {
			versions = append(versions, f.Name+"="+f.Version)
		}

		for _, i := range got.Interfaces {
			if len(i.MAC) != 17 || i.MAC != strings.ToLower(i.MAC) {
				t.Errorf("the address %q is none", i.MAC)
			}

			owners = append(owners, i.Owner)
		}

		want := map[power.Protocol][3]string{
			power.ProtocolIPMI: {
				"PSU1 product=PSC0FFEE board=C0FFEE chassis=C0FFEE product=C0FFEE", "BMC=1.10", "bmc",
			},
			power.ProtocolRedfish: {
				"PSU1=PSC0FFEE chassis 1=C0FFEE system=C0FFEE", "BIOS=2.4 BMC=1.10", "bmc system system",
			},
		}[target.Protocol]

		for i, list := range [][]string{serials, versions, owners} {
			if text := strings.Join(list, " "); text != want[i] {
				t.Errorf("got %q, want %q", text, want[i])
			}
		}
	})
}

// E22: fourteen is not everywhere "the channel that is spoken over".
func TestE22OddChannel(t *testing.T) {
	t.Parallel()

	sim, target := bmctest.Simulated(t, bmcsim.Config{})
	target.Protocol = power.ProtocolIPMI
	setFault(t, sim, bmcsim.FaultOddChannel, true)

	got, err := open(t, target).(power.Inventory).Inventory(bmctest.Context(t))
	if err != nil || len(got.Interfaces) != 1 || got.Interfaces[0].Name != "channel 8" || got.Interfaces[0].Address != "127.0.0.1" {
		t.Errorf("%v: got %+v", err, got.Interfaces)
	}
}

// A controller without repository and log lacks these abilities, and the rest
// of its inventory is told.
func TestNoRecords(t *testing.T) {
	t.Parallel()

	sim, target := bmctest.Simulated(t, bmcsim.Config{})
	target.Protocol = power.ProtocolIPMI
	setFault(t, sim, bmcsim.FaultNoRecords, true)
	bmc := open(t, target)

	_, err := bmc.(power.Sensors).Sensors(bmctest.Context(t))
	bmctest.WantKind(t, err, target, power.ErrUnsupported)

	_, err = bmc.(power.EventLog).EventLog(bmctest.Context(t), 0)
	bmctest.WantKind(t, err, target, power.ErrUnsupported)

	got, err := bmc.(power.Inventory).Inventory(bmctest.Context(t))
	if err != nil || len(got.Parts) != 3 {
		t.Errorf("%v: got %+v", err, got)
	}
}

func TestIdentify(t *testing.T) {
	t.Parallel()
	eachProtocol(t, bmcsim.Config{}, func(t *testing.T, sim *bmcsim.BMC, target power.Target) {
		bmc := open(t, target)
		lamp := bmc.(power.Identify)

		for _, on := range []bool{true, false, true} {
			if err := lamp.Identify(bmctest.Context(t), on, 0); err != nil {
				t.Fatal(err)
			}

			if sim.Lit() != on {
				t.Errorf("the lamp is lit: %t, want %t", sim.Lit(), on)
			}
		}

		err := lamp.Identify(bmctest.Context(t), true, time.Second)
		if target.Protocol == power.ProtocolRedfish {
			bmctest.WantKind(t, err, target, power.ErrUnsupported)

			return
		}

		if err != nil || !sim.Lit() {
			t.Errorf("for a second: %v, lit: %t", err, sim.Lit())
		}

		bmctest.WantKind(t, lamp.Identify(bmctest.Context(t), true, 256*time.Second), target, power.ErrUnsupported)
		bmctest.WantKind(t, lamp.Identify(bmctest.Context(t), true, -1), target, power.ErrUnsupported)

		setFault(t, sim, bmcsim.FaultTimedLamp, true)
		bmctest.WantKind(t, lamp.Identify(bmctest.Context(t), true, 0), target, power.ErrUnsupported)

		if err := lamp.Identify(bmctest.Context(t), true, time.Second); err != nil {
			t.Error(err)
		}
	})
}

func console(t *testing.T, bmc power.BMC) io.ReadWriteCloser {
	t.Helper()

	c, err := bmc.(power.Console).Console(bmctest.Context(t))
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { c.Close() })

	return c
}

func expect(t *testing.T, c io.Reader, want string) {
	t.Helper()

	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("read %q (%v), want %q", got[:n], err, want)
	}
}

// The console goes over IPMI, also where Redfish is preferred, and leaves no session.
func TestConsole(t *testing.T) {
	t.Parallel()

	for _, protocol := range []power.Protocol{power.ProtocolIPMI, power.ProtocolAuto} {
		t.Run(string(protocol), func(t *testing.T) {
			t.Parallel()

			sim, target := bmctest.Simulated(t, bmcsim.Config{})
			target.Protocol = protocol
			bmc := open(t, target)
			c := console(t, bmc)

			long := strings.Repeat("0123456789abcdef", 256)
			go c.Write([]byte(long))
			expect(t, c, long)

			sim.Print([]byte("login: "))
			expect(t, c, "login: ")

			// There is one console, and it is not taken away.
			_, err := open(t, target).(power.Console).Console(bmctest.Context(t))
			bmctest.WantKind(t, err, target, power.ErrBusy)

			// The conversation goes on beside it, and its end is not the console's.
			bmctest.WantState(t, bmc, power.StateOff)

			if err := bmc.Close(); err != nil {
				t.Fatal(err)
			}

			if _, err := c.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}

			expect(t, c, "x")

			for range 2 {
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			}

			if n := sim.Sessions(); n != 0 {
				t.Errorf("%d sessions are left open", n)
			}

			if _, err := c.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("read after the close: %v", err)
			}

			_, err = c.Write([]byte("x"))
			bmctest.WantKind(t, err, target, power.ErrUnreachable)

			// And somebody else may have it now.
			expectEcho(t, console(t, open(t, target)))
		})
	}
}

func expectEcho(t *testing.T, c io.ReadWriter) {
	t.Helper()

	if _, err := c.Write([]byte("ping\r")); err != nil {
		t.Fatal(err)
	}

	expect(t, c, "ping\r")
}

// Whatever the network does to datagrams, characters neither get lost nor
// come twice.
func TestConsoleOnBadNetworks(t *testing.T) {
	t.Parallel()

	for name, network := range map[string]bmctest.Network{
		"doubled":   {Duplicate: true},
		"loss":      {Loss: 0.1, Seed: 5},
		"reordered": {Delay: 3 * time.Millisecond, Reorder: 0.2, Duplicate: true, Seed: 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			_, target := bmctest.Simulated(t, bmcsim.Config{})
			target.Protocol = power.ProtocolIPMI
			_, target = bmctest.Through(t, network, target)

			ctx := within(t, 40*time.Second)

			c, err := open(t, target).(power.Console).Console(ctx)
			if err != nil {
				t.Fatal(err)
			}

			defer c.Close()

			var text strings.Builder
			for i := range 100 {
				text.WriteString(strings.Repeat(string(rune('a'+i%26)), 10))
			}

			go c.Write([]byte(text.String()))
			expect(t, c, text.String())
		})
	}
}

func TestConsoleThatIsNotThere(t *testing.T) {
	t.Parallel()

	sim, target := bmctest.Simulated(t, bmcsim.Config{})
	setFault(t, sim, bmcsim.FaultNoConsole, true)

	for _, protocol := range []power.Protocol{power.ProtocolIPMI, power.ProtocolRedfish, power.ProtocolQEMU} {
		target.Protocol = protocol
		_, err := open(t, target).(power.Console).Console(bmctest.Context(t))
		bmctest.WantKind(t, err, target, power.ErrUnsupported)
	}

	if n := sim.Sessions(); n != 0 {
		t.Errorf("%d sessions are left open", n)
	}
}

// A console whose controller dies says so, to the writer and to the reader.
func TestConsoleOfADeadController(t *testing.T) {
	t.Parallel()

	_, target := bmctest.Simulated(t, bmcsim.Config{})
	target.Protocol = power.ProtocolIPMI
	link, target := bmctest.Through(t, bmctest.Network{}, target)
	c := console(t, open(t, target))
	expectEcho(t, c)
	link.Mute(true)

	_, err := c.Write([]byte("x"))
	bmctest.WantKind(t, err, target, power.ErrUnreachable)

	_, err = c.Read(make([]byte, 1))
	bmctest.WantKind(t, err, target, power.ErrUnreachable)
}

// What a QEMU machine's power API does not have is said as such.
func TestAbilitiesOfQEMU(t *testing.T) {
	t.Parallel()

	target := power.Target{Name: "r1n07", Address: "127.0.0.1", Port: 9, Protocol: power.ProtocolQEMU}
	bmc := open(t, target)
	ctx := bmctest.Context(t)

	for name, ask := range map[string]func(context.Context) error{
		"sensors":   func(ctx context.Context) error { _, err := bmc.(power.Sensors).Sensors(ctx); return err },
		"log":       func(ctx context.Context) error { _, err := bmc.(power.EventLog).EventLog(ctx, 0); return err },
		"inventory": func(ctx context.Context) error { _, err := bmc.(power.Inventory).Inventory(ctx); return err },
		"identify":  func(ctx context.Context) error { return bmc.(power.Identify).Identify(ctx, true, 0) },
	} {
		t.Run(name, func(t *testing.T) { bmctest.WantKind(t, ask(ctx), target, power.ErrUnsupported) })
	}
}

// What Redfish services have in more than one shape is read in each.
func TestShapesOfRedfishHardware(t *testing.T) {
	t.Parallel()

	for name, faults := range map[string][]string{
		"sensors as a collection": {bmcsim.FaultSensorsOnly},
		"lamp of the chassis":     {bmcsim.FaultChassisLamp},
		"weak ETags":              {bmcsim.FaultWeakETag},
		"entries as links":        {bmcsim.FaultLinkedLog},
		"B13 no power state":      {bmcsim.FaultNoPowerState},
		"C23 no manager named":    {bmcsim.FaultNoManagedBy},
		"redirects":               {bmcsim.FaultRedirects},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			sim, target := bmctest.Simulated(t, bmcsim.Config{On: true})
			target.Protocol = power.ProtocolRedfish

			for _, fault := range faults {
				setFault(t, sim, fault, true)
			}

			bmc := open(t, target)
			if got := sensors(t, bmc); !reflect.DeepEqual(got, readings) {
				t.Errorf("got %+v", got)
			}

			if err := bmc.(power.Identify).Identify(bmctest.Context(t), true, 0); err != nil || !sim.Lit() {
				t.Errorf("%v, lit: %t", err, sim.Lit())
			}

			bmctest.Do(t, bmc, power.Off, power.On)

			log, err := bmc.(power.EventLog).EventLog(bmctest.Context(t), 0)
			if err != nil || len(log) != 3 || log[0].ID != "1" || log[2].ID != "3" {
				t.Errorf("%v: got %+v", err, log)
			}

			if info, err := bmc.Info(bmctest.Context(t)); err != nil || info.Firmware != "1.10" {
				t.Errorf("%v: got %+v", err, info)
			}
		})
	}
}

// The last entry is asked for by itself, and the serial port is given back.
func TestCommandsThatAreSent(t *testing.T) {
	t.Parallel()

	var log lockedBuffer

	_, target := bmctest.Simulated(t, bmcsim.Config{Log: log.logger()})
	target.Protocol = power.ProtocolIPMI
	bmc := open(t, target)
	bmctest.Do(t, bmc, power.On, power.Off)

	if _, err := bmc.(power.EventLog).EventLog(bmctest.Context(t), 1); err != nil {
		t.Fatal(err)
	}

	if got := sent(&log, "Get SEL Entry"); len(got) != 1 {
		t.Errorf("the last entry took %d requests", len(got))
	}

	c := console(t, bmc)
	expectEcho(t, c)

	if err := c.Close(); err != nil {
		t.Fatal(err)
	}

	if got := sent(&log, "Deactivate Payload"); len(got) != 1 {
		t.Errorf("the serial port was given back %d times", len(got))
	}
}

// A console at which nothing happens asks for a sign of life, and lives on.
func TestQuietConsole(t *testing.T) {
	t.Parallel()

	var log lockedBuffer

	_, target := bmctest.Simulated(t, bmcsim.Config{Log: log.logger()})
	target.Protocol = power.ProtocolIPMI
	c := console(t, open(t, target))
	expectEcho(t, c)

	deadline := time.Now().Add(20 * time.Second)
	for len(sent(&log, "Get Device ID")) == 0 {
		if time.Now().After(deadline) {
			t.Fatal("no sign of life was asked for in 20s")
		}

		time.Sleep(100 * time.Millisecond)
	}

	expectEcho(t, c)
}
