package power_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/bmctl/bmctl/power"
	"github.com/bmctl/bmctl/power/bmcsim"
	"github.com/bmctl/bmctl/power/bmctest"
)

// habits are the rows of the list of quirks that one fault, or a few together,
// stand for.
var habits = map[string][]string{
	"A1 no mode":                       {bmcsim.FaultNoMode},
	"A2 mode falls back":               {bmcsim.FaultModeFallsBack},
	"A3 mode refused":                  {bmcsim.FaultRefusesMode},
	"A5 target None refused":           {bmcsim.FaultKeepsTarget},
	"A6 mode needed":                   {bmcsim.FaultNeedsMode},
	"A7 all in the settings":           {bmcsim.FaultSettingsAll, bmcsim.FaultNeedsETag},
	"A8 only a complete override":      {bmcsim.FaultNeedsFullBoot},
	"A10 settings that do not list it": {bmcsim.FaultSettingsHidden},
	"A11 needless mode":                {bmcsim.FaultModeLosesBoot},
	"A12 Enabled is there already":     {bmcsim.FaultSameEnabled},
	"A14 once becomes continuous":      {bmcsim.FaultBecomesContinuous},
	"B3 needless, it says":             {bmcsim.FaultAlready},
	"B8 power on its way":              {bmcsim.FaultTransitional},
	"B10 no If-Match on actions":       {bmcsim.FaultNoIfMatch, bmcsim.FaultWeakETag},
	"B15 members end with a slash":     {bmcsim.FaultSlashMembers},
	"C2 refusals break off":            {bmcsim.FaultBrokenRefusal},
	"C3 sessions are elsewhere":        {bmcsim.FaultSessionsElsewhere},
	"C5 login must not be basic":       {},
	"C8 gzip ETag":                     {bmcsim.FaultGzipETag, bmcsim.FaultNeedsETag},
	"C11 empty ETag":                   {bmcsim.FaultEmptyETag},
	"C11 empty ETag, one needed":       {bmcsim.FaultEmptyETag, bmcsim.FaultNeedsETag},
	"C14 volatile ETag needed":         {bmcsim.FaultVolatileETag, bmcsim.FaultNeedsETag},
	"C12 unquoted ETag":                {bmcsim.FaultUnquotedETag},
	"C14 volatile ETag":                {bmcsim.FaultVolatileETag},
	"C18 broken ETag":                  {bmcsim.FaultBrokenETag},
	"C18 misfits":                      {bmcsim.FaultMisfits},
	"C21 a task that is gone":          {bmcsim.FaultTaskGone},
	"C22 accepted without a Location":  {bmcsim.FaultAccepted},
	"A9 settings of other things":      {bmcsim.FaultSettingsOther},
	"A10 mode in the settings":         {bmcsim.FaultSettingsMode},
	"B6 missing comma":                 {bmcsim.FaultMissingComma},
	"B7 ActionInfo only":               {bmcsim.FaultActionInfoOnly},
	"C1 session limit":                 {bmcsim.FaultSessionLimit},
	"C4 no session service":            {bmcsim.FaultNoSessionService},
	"C6 C7 redirects":                  {bmcsim.FaultRedirects},
	"C10 weak ETag":                    {bmcsim.FaultWeakETag},
	"C11 If-Match refused":             {bmcsim.FaultRefusesETag},
	"C13 If-Match needed":              {bmcsim.FaultNeedsETag},
	"C10 C13 weak ETag needed":         {bmcsim.FaultNeedsETag, bmcsim.FaultWeakETag},
	"C16 errors as pages":              {bmcsim.FaultHTMLErrors, bmcsim.FaultKeepsTarget, bmcsim.FaultRefusesMode},
	"C17 messages as an object":        {bmcsim.FaultInfoObject, bmcsim.FaultKeepsTarget, bmcsim.FaultRefusesMode},
	"C20 Accept needed":                {bmcsim.FaultNoAccept},
	"A3 A5 B7 C4 C10 all at once":      {bmcsim.FaultRefusesMode, bmcsim.FaultKeepsTarget, bmcsim.FaultActionInfoOnly, bmcsim.FaultNoSessionService, bmcsim.FaultWeakETag},
	"A10 C13 settings and their ETags": {bmcsim.FaultSettingsMode, bmcsim.FaultNeedsETag},
}

// Whatever its habits, a Redfish service is led through the whole of a boot
// over the network, and back.
func TestRedfishHabits(t *testing.T) {
	t.Parallel()

	for name, faults := range habits {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			vendor := "Contoso"
			if strings.HasPrefix(name, "A2 ") {
				vendor = "Supermicro"
			}

			sim, target := bmctest.Simulated(t, bmcsim.Config{Vendor: vendor})
			target.Protocol = power.ProtocolRedfish

			for _, fault := range faults {
				setFault(t, sim, fault, true)
			}

			bmc := open(t, target)
			want := power.Boot{Device: power.DevicePXE, Mode: power.ModeUEFI}

			for range 2 {
				if err := bmc.SetBoot(bmctest.Context(t), want); err != nil {
					t.Fatal(err)
				}

				if got := sim.Boot(); got != want {
					t.Fatalf("the override is %+v, want %+v", got, want)
				}
			}

			if err := bmc.SetBoot(bmctest.Context(t), power.Boot{}); err != nil {
				t.Fatal(err)
			}

			if got := sim.Boot(); got != (power.Boot{}) {
				t.Fatalf("the override is %+v after it was cleared", got)
			}

			bmctest.Do(t, bmc, power.On, power.Reset, power.Soft, power.On, power.Cycle, power.Off)
		})
	}
}

// C21: a task is not what an act is judged by, so whether it is there makes no
// difference; an act that a task was made of and that does not happen fails.
func TestC21TasksAreNotFollowed(t *testing.T) {
	t.Parallel()

	var log lockedBuffer

	sim, target := bmctest.Simulated(t, bmcsim.Config{Log: log.logger()})
	target.Protocol = power.ProtocolRedfish
	setFault(t, sim, bmcsim.FaultTaskGone, true)

	bmc := open(t, target)
	bmctest.Do(t, bmc, power.On)

	if log.requests() == 0 || strings.Contains(log.String(), "TaskService") {
		t.Errorf("a task was asked for:\n%s", log.String())
	}

	setFault(t, sim, bmcsim.FaultLyingPower, true)
	setFault(t, sim, bmcsim.FaultLyingBoot, true)

	bmctest.WantKind(t, bmc.Do(within(t, 2*time.Second), power.Off), target, power.ErrRefused)
	bmctest.WantKind(t, bmc.SetBoot(bmctest.Context(t), power.Boot{Device: power.DevicePXE}), target, power.ErrRefused)
}

// A17: what the system does not have is said, and nothing breaks.
func TestNoBootOverrideAtAll(t *testing.T) {
	t.Parallel()

	sim, target := bmctest.Simulated(t, bmcsim.Config{})
	target.Protocol = power.ProtocolRedfish
	setFault(t, sim, bmcsim.FaultNoBoot, true)

	bmc := open(t, target)
	err := bmc.SetBoot(bmctest.Context(t), power.Boot{Device: power.DevicePXE})
	bmctest.WantKind(t, err, target, power.ErrUnsupported)
	bmctest.Do(t, bmc, power.On)
}

// A4, B2: "later" is retried, and only that.
func TestRedfishLater(t *testing.T) {
	t.Parallel()

	for fault, act := range map[string]func(t *testing.T, bmc power.BMC) error{
		bmcsim.FaultBusyInPOST: func(t *testing.T, bmc power.BMC) error {
			return bmc.SetBoot(within(t, 5*time.Second), power.Boot{Device: power.DevicePXE})
		},
		bmcsim.FaultConflict: func(t *testing.T, bmc power.BMC) error {
			return bmc.Do(within(t, 5*time.Second), power.On)
		},
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()

			sim, target := bmctest.Simulated(t, bmcsim.Config{})
			target.Protocol = power.ProtocolRedfish
			setFault(t, sim, fault, true)

			timer := time.AfterFunc(500*time.Millisecond, func() { setFault(t, sim, fault, false) })
			defer timer.Stop()

			if err := act(t, open(t, target)); err != nil {
				t.Error(err)
			}
		})
	}
}

// B4, B5: what is not on offer is not sent.
func TestResetTypeThatIsNotOnOffer(t *testing.T) {
	t.Parallel()

	sim, target := bmctest.Simulated(t, bmcsim.Config{On: true})
	target.Protocol = power.ProtocolRedfish
	setFault(t, sim, bmcsim.FaultMissingComma, true)

	// Without a PowerCycle in the list it is off and on.
	bmctest.Do(t, open(t, target), power.Cycle)
	wantActs(t, sim, bmcsim.ActOff, bmcsim.ActOn)
}

// One login, one read of the root and the collection; then one GET a status.
func TestRedfishKeepsItsSession(t *testing.T) {
	t.Parallel()

	var log lockedBuffer

	_, target := bmctest.Simulated(t, bmcsim.Config{Log: log.logger()})
	target.Protocol = power.ProtocolRedfish
	bmc := open(t, target)

	bmctest.WantState(t, bmc, power.StateOff)
	cold := log.requests()
	bmctest.WantState(t, bmc, power.StateOff)

	if warm := log.requests() - cold; warm != 1 || cold != 5 {
		t.Errorf("a cold status took %d requests and a warm one %d, want 5 and 1", cold, warm)
	}
}

// What a controller is known to refuse, or does not offer, is not tried first.
func TestNoNeedlessRefusals(t *testing.T) {
	t.Parallel()

	for name, c := range map[string]struct {
		cfg    bmcsim.Config
		faults []string
		do     func(ctx context.Context, bmc power.BMC) error
		method string
		want   int
	}{
		"A5 HPE keeps its target": {
			cfg: bmcsim.Config{Vendor: "HPE"}, faults: []string{bmcsim.FaultKeepsTarget},
			do:     func(ctx context.Context, bmc power.BMC) error { return bmc.SetBoot(ctx, power.Boot{}) },
			method: "PATCH", want: 1,
		},
		"B7 ActionInfo has no PowerCycle": {
			cfg: bmcsim.Config{On: true}, faults: []string{bmcsim.FaultActionInfoOnly, bmcsim.FaultNoCycle},
			do:     func(ctx context.Context, bmc power.BMC) error { return bmc.Do(ctx, power.Cycle) },
			method: "POST", want: 3, // the login, off and on
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			var log lockedBuffer

			c.cfg.Log = log.logger()
			sim, target := bmctest.Simulated(t, c.cfg)
			target.Protocol = power.ProtocolRedfish

			for _, fault := range c.faults {
				setFault(t, sim, fault, true)
			}

			if err := c.do(bmctest.Context(t), open(t, target)); err != nil {
				t.Fatal(err)
			}

			if n := strings.Count(log.String(), "msg=redfish method="+c.method); n != c.want {
				t.Errorf("%d requests with %s, want %d:\n%s", n, c.method, c.want, log.String())
			}
		})
	}
}

// C7: a controller cannot send us, and our credentials, elsewhere.
func TestRedirectsStayOnTheOrigin(t *testing.T) {
	t.Parallel()

	var strayed atomic.Int64

	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { strayed.Add(1) }))
	t.Cleanup(elsewhere.Close)

	for _, status := range []int{
		http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect,
	} {
		server := httptest.NewServer(http.RedirectHandler(elsewhere.URL+"/redfish/v1/", status))
		t.Cleanup(server.Close)

		target := power.Target{Name: "r1n07", Address: "127.0.0.1", Protocol: power.ProtocolRedfish}
		target.RedfishPort = server.Listener.Addr().(*net.TCPAddr).Port

		bmc := bmctest.Open(t, power.NewDialer(power.Options{PlainHTTP: true}), target)
		if _, err := bmc.State(bmctest.Context(t)); err == nil {
			t.Errorf("%d: no error", status)
		}
	}

	if n := strayed.Load(); n != 0 {
		t.Errorf("%d requests went elsewhere", n)
	}
}
