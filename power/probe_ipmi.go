package power

import (
	"bytes"
	"context"
	"net"
	"time"

	"github.com/bougou/go-ipmi/pkg/types"
)

const (
	// greetAgain is the pause before a greeting is sent again: some controllers
	// miss the first while they learn our address.
	greetAgain = 700 * time.Millisecond
	// suitesWithin is how long the list of cipher suites is waited for. Several
	// controllers never send it.
	suitesWithin = 600 * time.Millisecond
)

// RMCP (ASF 2.0, 3.2.2): version 6, no sequence number, and the class.
var (
	rmcpASF  = []byte{0x06, 0x00, 0xff, 0x06}
	rmcpIPMI = []byte{0x06, 0x00, 0xff, 0x07}
	// presencePing is ASF's, whose enterprise number is 4542 (ASF 2.0, 3.2.4.2).
	presencePing = append(rmcpASF[:4:4], 0x00, 0x00, 0x11, 0xbe, 0x80, 0x00, 0x00, 0x00)
)

// greetIPMI sends what a controller answers without a session: the presence
// ping and, as not all answer that, Get Channel Authentication Capabilities.
func greetIPMI(ctx context.Context, target Target, _ Options) (greeting, error) {
	address := endpoint(target.Address, target.Port)
	since := time.Now()

	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", address)
	if err != nil {
		if over(ctx) {
			return greeting{}, noAnswer(ctx, address, since)
		}

		return greeting{}, fail(ErrUnreachable, "%s: %v", address, shortCause(err)).because(err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })()

	g := greeter{conn: conn}

	version, err := g.version(ctx)
	if err != nil {
		return greeting{}, greetFailure(ctx, err, address, since)
	}

	return greeting{version: version, suites: g.suites(ctx)}, nil
}

func greetFailure(ctx context.Context, err error, address string, since time.Time) error {
	if isRoute(err) {
		return fail(ErrUnreachable, "nothing listens at %s", address).because(err)
	}

	return noAnswer(ctx, address, since)
}

// greeter asks outside of a session.
type greeter struct {
	conn     net.Conn
	sequence byte
	ponged   bool // the presence ping was answered
}

// version is the controller's IPMI version; empty where it is there, as its
// pong says, and does not tell.
func (g *greeter) version(ctx context.Context) (string, error) {
	const (
		extended, channelSelf, operator = 0x80, 0x0e, 0x03
		has20                           = 0x02
	)

	for {
		g.sequence++
		capabilities := g.message(types.CommandGetChannelAuthCapabilities, extended|channelSelf, operator)

		answer, err := g.ask(ctx, greetAgain, capabilities, presencePing)

		switch {
		case err == nil && len(answer) > 3 && answer[1]&extended != 0 && answer[3]&has20 != 0:
			return "2.0", nil
		case err == nil && len(answer) > 3:
			return "1.5", nil
		case err == nil, g.ponged:
			return "", nil
		case !isTimeout(err) || over(ctx):
			return "", err
		}
	}
}

// suites are the cipher suites on offer: Get Channel Cipher Suites (IPMI 2.0,
// section 22.15), sixteen bytes at a time; none where the controller does not tell.
func (g *greeter) suites(ctx context.Context) []int {
	const byAlgorithm, channelSelf, part, most = 0x80, 0x0e, 16, 64

	var records []byte

	for index := range byte(most) {
		g.sequence++

		answer, err := g.ask(ctx, suitesWithin, g.message(types.CommandGetChannelCipherSuites, channelSelf, 0, byAlgorithm|index))
		if err != nil || len(answer) < 1 {
			return nil
		}

		records = append(records, answer[1:]...)
		if len(answer)-1 < part {
			break
		}
	}

	return suitesOf(records)
}

// suitesOf reads cipher suite records (IPMI 2.0, table 22-18): a tag, the
// number, three more bytes where the maker defined it, then the algorithms.
func suitesOf(records []byte) []int {
	const standard, oem, mask = 0xc0, 0xc1, 0xc0

	var suites []int

	for i := 0; i+1 < len(records); {
		switch records[i] {
		case standard:
			suites = append(suites, int(records[i+1]))
			i += 2
		case oem:
			i += 5
		default:
			i++
		}

		for i < len(records) && records[i]&mask != mask {
			i++
		}
	}

	return suites
}

// message is a request outside of a session, in the format of IPMI 1.5, which
// all controllers understand (IPMI 2.0, tables 13-8 and 13-9).
func (g *greeter) message(c types.Command, data ...byte) []byte {
	const bmc, console = 0x20, 0x81

	head := []byte{bmc, byte(c.NetFn) << 2}
	body := append([]byte{console, g.sequence << 2, c.ID}, data...)
	message := bytes.Join([][]byte{head, {checksum(head)}, body, {checksum(body)}}, nil)

	// No authentication, sequence number 0, session 0.
	session := append(make([]byte, 9), byte(len(message)))

	return bytes.Join([][]byte{rmcpIPMI, session, message}, nil)
}

// checksum makes the sum of all bytes zero (IPMI 2.0, section 13.8).
func checksum(p []byte) byte {
	var sum byte
	for _, b := range p {
		sum += b
	}

	return -sum
}

// ask sends, and gives the data of the answer to the first message. Pongs are
// noted on the way.
func (g *greeter) ask(ctx context.Context, within time.Duration, messages ...[]byte) ([]byte, error) {
	deadline := time.Now().Add(within)
	if err := g.conn.SetReadDeadline(deadline); err != nil {
		return nil, err
	}

	if err := ctx.Err(); err != nil {
		return nil, err // its end came before the deadline that was just set
	}

	for _, m := range messages {
		if _, err := g.conn.Write(m); err != nil {
			return nil, err
		}
	}

	buffer := make([]byte, 1024)

	for {
		n, err := g.conn.Read(buffer)
		if err != nil {
			return nil, err
		}

		g.ponged = g.ponged || isPong(buffer[:n])

		if data, ok := answerTo(messages[0], buffer[:n]); ok {
			return data, nil
		}
	}
}

func isPong(p []byte) bool {
	const typeAt, pong = 8, 0x40

	return len(p) > typeAt && bytes.Equal(p[:4], rmcpASF) && p[typeAt] == pong
}

// answerTo reads an answer outside of a session; a refusal has no data.
func answerTo(request, p []byte) (answer []byte, ok bool) {
	const sequence, command, code, data, trailer = 18, 19, 20, 21, 1

	switch {
	case len(p) < data+trailer, !bytes.Equal(p[:4], rmcpIPMI), p[4] != 0,
		p[sequence] != request[sequence], p[command] != request[command]:
		return nil, false
	case p[code] != 0:
		return []byte{}, true
	default:
		return p[data : len(p)-trailer], true
	}
}
