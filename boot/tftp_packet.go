package boot

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Operations and error codes of TFTP (RFC 1350, section 5 and appendix; RFC 2347).
const (
	tftpRead  = 1
	tftpWrite = 2
	tftpData  = 3
	tftpAck   = 4
	tftpError = 5
	tftpOACK  = 6

	tftpNotDefined = 0
	tftpNotFound   = 1
	tftpDenied     = 2
	tftpExceeded   = 3 // "allocation exceeded"
	tftpIllegal    = 4
)

// Limits of what a client may ask for.
const (
	defaultBlock = 512   // without the option (RFC 1350)
	minBlock     = 8     // RFC 2348
	maxBlock     = 65464 // RFC 2348
	// overhead are the IPv4, UDP and TFTP headers of a DATA packet.
	overhead = 20 + 8 + 4
	// etherMTU is assumed where the interface's own is not known.
	etherMTU = 1500
	// maxWindow bounds the packets in flight of one transfer (RFC 7440 allows 65535).
	maxWindow = 64
)

// refusal is an error to be sent to the client.
type refusal struct {
	code    uint16
	message string
}

func (r *refusal) Error() string { return r.message }

func (r *refusal) packet() []byte {
	p := binary.BigEndian.AppendUint16([]byte{0, tftpError}, r.code)
	return append(append(p, r.message...), 0)
}

// readRequest is a request for a file. Zero means that an option was not asked
// for, or not in a way that can be granted, which is answered by not naming it.
type readRequest struct {
	name     string
	netascii bool
	size     bool // tsize (RFC 2349)
	block    int  // blksize (RFC 2348)
	window   int  // windowsize (RFC 7440)
	timeout  time.Duration
}

// parseRequest reads the first packet of a transfer. A refusal is due an answer;
// any other error is not.
func parseRequest(data []byte) (readRequest, error) {
	if len(data) < 2 {
		return readRequest{}, fmt.Errorf("malformed TFTP packet of %d bytes", len(data))
	}
	switch op := binary.BigEndian.Uint16(data); op {
	case tftpRead:
	case tftpWrite:
		return readRequest{}, &refusal{tftpDenied, "this server does not take files"}
	default:
		// Of a transfer that is over; an answer could start a loop of errors.
		return readRequest{}, fmt.Errorf("TFTP operation %d outside of a transfer", op)
	}
	if data[len(data)-1] != 0 {
		return readRequest{}, &refusal{tftpIllegal, "the request is cut off"}
	}
	words := strings.Split(string(bytes.TrimSuffix(data[2:], []byte{0})), "\x00")
	if len(words) < 2 || words[0] == "" {
		return readRequest{}, &refusal{tftpIllegal, "the request has no file name or mode"}
	}
	r := readRequest{name: words[0]}
	switch strings.ToLower(words[1]) {
	case "octet":
	case "netascii":
		r.netascii = true
	default:
		return r, &refusal{tftpIllegal, "the mode is neither octet nor netascii"}
	}
	for i := 2; i+1 < len(words); i += 2 {
		r.option(strings.ToLower(words[i]), words[i+1])
	}
	return r, nil
}

func (r *readRequest) option(name, value string) {
	n, err := strconv.Atoi(value)
	if err != nil {
		return
	}
	switch {
	case name == "tsize" && n == 0:
		r.size = true
	case name == "blksize" && n >= minBlock && n <= maxBlock:
		r.block = n
	case name == "windowsize" && n >= 1 && n <= 65535:
		r.window = min(n, maxWindow)
	case name == "timeout" && n >= 1 && n <= 255:
		r.timeout = time.Duration(n) * time.Second
	}
}

// grant brings a request down to what can be had, and returns the option
// acknowledgement, nil if no option is granted. mtu is that of the interface
// towards the client, 0 if unknown: a block that had to be fragmented would be
// lost on many a firmware.
func (r *readRequest) grant(size int64, mtu int) []byte {
	if mtu <= 0 {
		mtu = etherMTU
	}
	oack := []byte{0, tftpOACK}
	add := func(name string, value int64) {
		oack = append(append(oack, name...), 0)
		oack = append(strconv.AppendInt(oack, value, 10), 0)
	}
	if r.size {
		add("tsize", size)
	}
	if r.block > 0 {
		r.block = min(r.block, max(mtu-overhead, defaultBlock))
		add("blksize", int64(r.block))
	}
	if r.window > 0 {
		add("windowsize", int64(r.window))
	}
	if r.timeout > 0 {
		add("timeout", int64(r.timeout/time.Second))
	}
	if r.block == 0 {
		r.block = defaultBlock
	}
	r.window = max(r.window, 1)
	if len(oack) == 2 {
		return nil
	}
	return oack
}
