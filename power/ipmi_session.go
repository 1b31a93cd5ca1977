package power

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/bougou/go-ipmi/pkg/client"
	"github.com/bougou/go-ipmi/pkg/command/app"
	"github.com/bougou/go-ipmi/pkg/rmcpplus"
	"github.com/bougou/go-ipmi/pkg/types"
)

const (
	// ipmiDatagram is more than any answer has: 255 bytes of data, in its wrappings.
	ipmiDatagram = 1024
	// ipmiTry is how long one datagram is waited for.
	ipmiTry = time.Second
	// ipmiQuickTry is the same where the controller is known to be quick.
	ipmiQuickTry = 300 * time.Millisecond
	// ipmiRestart is the first pause before a session's set-up starts anew.
	ipmiRestart = 100 * time.Millisecond
	// ipmiPatience is how long an act is waited for.
	ipmiPatience = 6 * time.Second
	// ipmiIdle is how long a session may rest before a new one is better:
	// controllers end theirs after 60 s (IPMI 2.0, section 6.12.15).
	ipmiIdle = 50 * time.Second
	// ipmiGoodbye is how long the end of a session is waited for.
	ipmiGoodbye = time.Second
)

// cipherSuites are tried in this order (IPMI 2.0, table 22-20): 17 is SHA-256,
// 3 is what the specification makes mandatory. Asking the controller for its
// list instead costs five seconds where it does not answer that.
var cipherSuites = []int{17, 3}

// ipmiSession is one RMCP+ session.
type ipmiSession struct {
	client *client.Client
	conn   *ipmiConn
	id     uint32
	used   time.Time // when something was answered last
	// commanded is when a command was last sent; zero before the first.
	commanded time.Time
	// roundTrip is what the quickest part of the set-up took (where nothing was
	// lost and sent again), and pace how long
	// a datagram is therefore waited for.
	roundTrip, pace time.Duration
	operator        bool // whether the privilege has been raised
}

// openIPMI sets a session up from its parts. go-ipmi's own Connect asks for
// channel capabilities first and raises the privilege at once, hides the
// controller's reasons in text, and starts a goroutine that outlives it.
func openIPMI(ctx context.Context, target Target, suite int, level types.PrivilegeLevel) (*ipmiSession, error) {
	address := endpoint(target.Address, target.Port)

	conn, err := dialIPMI(ctx, address)
	if err != nil && over(ctx) {
		return nil, err
	}

	if err != nil {
		return nil, fail(ErrUnreachable, "%v", err).because(err)
	}

	s := &ipmiSession{conn: conn}
	if err := s.handshake(ctx, target, suite, level); err != nil {
		conn.interrupt()
		s.hangUp()

		return nil, err
	}

	s.used = time.Now()

	return s, nil
}

func (s *ipmiSession) handshake(ctx context.Context, target Target, suite int, level types.PrivilegeLevel) error {
	const longest = 20 // IPMI 2.0, section 22.30
	if len(target.Password.Reveal()) > longest {
		return fail(ErrAuth, "the password is too long for IPMI (%d bytes)", longest)
	}

	c, err := client.NewClient(target.Address, target.Port, target.Username, target.Password.Reveal())
	if err != nil {
		return fail(ErrAuth, "the user name is too long for IPMI (16 bytes)")
	}

	s.client = c.WithUDPProxy(s.conn).WithTimeout(ipmiTry).WithRetry(1).WithBufferSize(ipmiDatagram).
		WithCipherSuiteID(types.CipherSuiteID(suite)).
		WithMaxPrivilegeLevel(level)

	since := time.Now()

	opened, err := s.client.OpenSession(ctx)
	if err != nil {
		return err
	}

	s.lap(&since)
	s.id = opened.ManagedSystemSessionID

	// Some controllers agree to another algorithm than the one asked for.
	if auth, _, _, _ := types.GetCipherSuiteAlgorithms(types.CipherSuiteID(suite)); types.AuthAlg(opened.AuthAlg) != auth {
		return types.NewRmcpStatusError(types.RmcpStatusCodeNoCipherSuiteMatch)
	}

	// Sent again, message 1 makes the controller choose another random number,
	// and the answer to the first one is worthless: better to start anew.
	if _, err := s.client.WithRetry(0).RAKPMessage1(ctx); err != nil {
		s.abort(ctx, opened, err)

		return err
	}

	s.lap(&since)

	if _, err = s.client.WithRetry(1).RAKPMessage3(ctx); err != nil {
		return outOfStep(err)
	}

	s.lap(&since)
	// From here on what is sent again is sent at the controller's own pace.
	s.pace = min(max(8*s.roundTrip, ipmiQuickTry), ipmiTry)
	s.client.WithTimeout(s.pace)

	return nil
}

// abort tells a controller whose message 2 shows another password than ours
// that there will be no session (IPMI 2.0, section 13.22): it has few to wait
// with. Whether it hears that does not matter.
func (s *ipmiSession) abort(ctx context.Context, opened *rmcpplus.OpenSessionResponse, err error) {
	if !errors.Is(err, client.ErrRAKPAuthentication) {
		return
	}

	ctx, cancel := context.WithTimeout(ctx, ipmiQuickTry)
	defer cancel()

	_ = s.client.Exchange(ctx, &rmcpplus.RAKPMessage3{
		RmcpStatusCode:         types.RmcpStatusCodeInvalidIntegrityCheckValue,
		ManagedSystemSessionID: opened.ManagedSystemSessionID,
	}, &rmcpplus.RAKPMessage4{AuthAlg: types.AuthAlg(opened.AuthAlg)})
}

// errOutOfStep marks a set-up that was refused after both sides had shown that
// they have the same password: two of its messages have crossed.
var errOutOfStep = errors.New("the session's set-up got out of step")

func outOfStep(err error) error {
	var status *types.RmcpStatusError
	if errors.As(err, &status) {
		return fmt.Errorf("%w: %w", errOutOfStep, err)
	}

	return err
}

func (s *ipmiSession) lap(since *time.Time) {
	now := time.Now()
	if took := now.Sub(*since); s.roundTrip == 0 || took < s.roundTrip {
		s.roundTrip = took
	}

	*since = now
}

// request sends a command, as often as the time of the try allows, and gives
// the answer's data. Sent again, it is the same datagram, which the controller
// carries out once: that mends a lost request and takes a late answer.
func (s *ipmiSession) request(ctx context.Context, c ipmiCommand, try time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, try)
	defer cancel()

	s.conn.resume()
	s.client.WithRetry(int(try / s.pace))

	if c.lun != 0 {
		to := &client.CommandContext{}
		ctx = client.WithCommandContext(ctx, to.WithResponderLUN(c.lun))
	}

	resp, err := s.client.RawCommand(ctx, c.netFn, c.id, c.data, c.name)
	if over(ctx) {
		s.conn.interrupt()
	}

	if err != nil {
		return nil, err
	}

	return resp.Response, nil
}

// end closes the session on the controller, if it answers, and the socket.
func (s *ipmiSession) end(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, ipmiGoodbye)
	defer cancel()

	s.conn.resume()
	// Without an answer the controller ends the session by its own clock.
	_, _ = s.client.CloseSession(ctx, &app.CloseSessionRequest{SessionID: s.id})
	s.conn.interrupt()
	s.hangUp()
}

func (s *ipmiSession) hangUp() {
	// A UDP socket has nothing to say when it is closed.
	_ = s.conn.Close()
}

// suiteRefused tells whether the controller wants another cipher suite. Some
// say "invalid role" instead.
func suiteRefused(err error) bool {
	var status *types.RmcpStatusError
	if !errors.As(err, &status) {
		return false
	}

	switch status.StatusCode() {
	case types.RmcpStatusCodeInvalidAuthAlg, types.RmcpStatusCodeInvalidIntegrityAlg,
		types.RmcpStatusCodeInvalidConfidentAlg, types.RmcpStatusCodeNoCipherSuiteMatch,
		types.RmcpStatusCodeInvalidRole:
		return true
	default:
		return false
	}
}

// loginFailure is the failure that an error of the session set-up means.
func loginFailure(ctx context.Context, err error, address string, since time.Time) *failure {
	var (
		status *types.RmcpStatusError
		f      *failure
	)

	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, client.ErrRAKPAuthentication):
		return fail(ErrAuth, "%s refused the login: wrong password", address)
	case errors.As(err, &status):
		return statusFailure(status.StatusCode(), address)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fail(ErrUnreachable, "nothing listens at %s", address).because(err)
	default:
		return noAnswer(ctx, address, since)
	}
}

// statusFailure reads an RMCP+ status code (IPMI 2.0, table 13-15).
func statusFailure(code types.RmcpStatusCode, address string) *failure {
	switch code {
	case types.RmcpStatusCodeNoResToCreateSess, types.RmcpStatusCodeNoResToCreateSessAtRole:
		return fail(ErrBusy, "%s has no free session", address)
	case types.RmcpStatusCodeInvalidRole, types.RmcpStatusCodeUnauthorizedRoleOfPriLevel:
		return fail(ErrAuth, "%s refused the login: the user may not be OPERATOR", address).forbidden()
	case types.RmcpStatusCodeUnauthorizedName, types.RmcpStatusCodeUnauthorizedGUID,
		types.RmcpStatusCodeInvalidNameLength:
		return fail(ErrAuth, "%s refused the login: no such user", address)
	case types.RmcpStatusCodeInvalidIntegrityCheckValue:
		return fail(ErrAuth, "%s refused the login: wrong password", address)
	case types.RmcpStatusCodeInvalidSessionID, types.RmcpStatusCodeInactiveSessionID:
		// The set-up's parts arrived out of order, or too late.
		return fail(ErrUnreachable, "%s has forgotten the session while it was set up", address)
	default:
		return fail(ErrRefused, "%s refused the session: RMCP+ status %#02x", address, uint8(code))
	}
}
