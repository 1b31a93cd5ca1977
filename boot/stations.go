package boot

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"golang.org/x/time/rate"
)

const (
	// maxStations bounds the memory that a flood of invented MACs can take.
	maxStations = 16384
	// sameAttempt is how long one xid is taken for one attempt: EDK2 repeats a
	// DISCOVER after 4, 8, 16 and 32 s.
	sameAttempt = 90 * time.Second
	// A NIC that asks more often than this gets no answer.
	packetsPerSecond = 10
	packetsBurst     = 20
)

// station is what is remembered of one MAC.
type station struct {
	mac    [6]byte
	limit  *rate.Limiter
	single bool // the style of its last offer: option 43 or two phases
	asked  time.Time
	xid    dhcpv4.TransactionID
	// followed: after the last offer it went on to the next step, so that offer's
	// style suits its firmware.
	followed bool
	// addr is the address that it had last, and arch what it said to be; they name
	// the NIC of a TFTP request, which carries neither.
	addr netip.Addr
	arch string
}

// stations remembers the MACs seen last. It is safe for concurrent use.
type stations struct {
	mu     sync.Mutex
	byMAC  map[[6]byte]*list.Element
	recent *list.List // of *station, the latest in front
	byAddr map[netip.Addr]*station
	// lost has something in it when a machine did not follow an offer.
	lost chan struct{}
}

func newStations() *stations {
	return &stations{byMAC: map[[6]byte]*list.Element{}, recent: list.New(), byAddr: map[netip.Addr]*station{}, lost: make(chan struct{}, 1)}
}

// get returns the station of a MAC, made if need be. The caller holds the lock.
func (s *stations) get(mac [6]byte) *station {
	if e, ok := s.byMAC[mac]; ok {
		s.recent.MoveToFront(e)
		return e.Value.(*station)
	}
	if s.recent.Len() >= maxStations {
		oldest := s.recent.Remove(s.recent.Back()).(*station)
		delete(s.byMAC, oldest.mac)
		if s.byAddr[oldest.addr] == oldest {
			delete(s.byAddr, oldest.addr)
		}
	}
	st := &station{mac: mac, limit: rate.NewLimiter(packetsPerSecond, packetsBurst)}
	s.byMAC[mac] = s.recent.PushFront(st)
	return st
}

// allow says whether a MAC may have another answer now.
func (s *stations) allow(mac [6]byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.get(mac).limit.Allow()
}

// followed notes that a MAC took the step after an offer.
func (s *stations) followed(mac [6]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.get(mac).followed = true
}

// moved notes that a MAC has an address now.
func (s *stations) moved(mac [6]byte, addr netip.Addr, arch string) {
	if addr = addr.Unmap(); !addr.IsValid() || addr.IsUnspecified() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.get(mac)
	if s.byAddr[st.addr] == st {
		delete(s.byAddr, st.addr)
	}
	st.addr, st.arch = addr, arch
	s.byAddr[addr] = st
}

// loads notes that whoever has the address loads a file, which is the step after
// an offer, and says who that is; empty if nobody said to have it.
func (s *stations) loads(addr netip.Addr) (mac, arch string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.byAddr[addr.Unmap()]
	if st == nil {
		return "", ""
	}
	st.followed = true
	return net.HardwareAddr(st.mac[:]).String(), st.arch
}

// singlePhase chooses the style of the next offer to an EFI machine: two phases
// first; the other one each time that it starts over without having followed
// the last offer. A repetition of the same DISCOVER gets the same offer.
func (s *stations) singlePhase(mac [6]byte, xid dhcpv4.TransactionID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	st, now := s.get(mac), time.Now()
	fresh := st.asked.IsZero()
	again := st.xid == xid && now.Sub(st.asked) < sameAttempt
	if again {
		return st.single
	}
	if !fresh && !st.followed {
		st.single = !st.single
		select {
		case s.lost <- struct{}{}:
		default:
		}
	}
	st.xid, st.asked = xid, now
	return st.single
}
