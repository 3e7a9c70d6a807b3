package mdns

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/phasebased/phase/internal/discover"
)

// timeToLive is how long, in seconds, others may remember an announcement whose
// end they missed. RFC 6762, section 10, suggests 75 minutes; booting machines
// come and go faster.
const timeToLive = 120

// Limits of a TXT record: of one string by its length byte, of all by what fits
// one packet beside the rest (RFC 6763, section 6.2).
const (
	maxString   = 255
	maxTextSent = 1000
)

// patience is how long Announce waits until something is really announced. It
// takes a second, and one more for each name that is taken.
const patience = 15 * time.Second

// ErrNameTaken says that others insisted on every name that was tried.
var ErrNameTaken = errors.New("announce: other machines hold every name that was tried")

// Announcement is what a provider says about itself.
type Announcement struct {
	// Host is the machine's name; only its first label is used. It is sent to
	// everybody on the network, as plasmd-<host>: the name itself belongs to the
	// machine's own multicast DNS, if it runs one.
	Host string
	// Instance tells several announcements of one machine apart. Empty means
	// plasmd-<host>. If others use the name it gets a number behind it.
	Instance string
	// Query is the stream that is served.
	Query discover.Query
	// Version is the manifest version that is served.
	Version int64
	// Manifest is the URL or path of the manifest.
	Manifest string
	// Port is the provider's HTTP port.
	Port int
	// Addrs are the addresses it listens on. Empty means those of each interface
	// as they are when somebody asks. Addresses of no interface are not told.
	Addrs []netip.Addr
	// P2P are the multiaddrs of the provider's DHT node, each with its /p2p/<id>
	// at the end. On each interface those of its own addresses are told, at most
	// four; addresses of other kinds than TCP over IP are left out.
	P2P []string
}

// Announced is what is really being said on the network.
type Announced struct {
	Instance string // full name, such as plasmd-box._phase-image._tcp.local.
	Host     string // such as plasmd-box.local.
	Port     int
	Addrs    []netip.Addr // on all interfaces
	Text     []string     // on all interfaces
	At       time.Time    // when it was said first under this name
	Renamed  int          // how often a name turned out to be another machine's
}

// Announcer keeps an announcement on the network until it is closed.
type Announcer struct {
	stop    chan struct{}
	stopped chan struct{}
	closing sync.Once

	mu   sync.Mutex
	said Announced
}

// Announce takes a name on the local network (RFC 6762, section 8), tells
// everybody about the provider, and keeps answering for it, on interfaces that
// come later as well. It returns when the announcement was made, which takes about
// a second; it fails with ErrNoLink if there is no interface to make it on, and
// with ErrNameTaken if no name could be had. The caller must Close the result,
// which also takes the announcement back.
func Announce(a Announcement) (*Announcer, error) {
	r, err := newResponder(a)
	if err != nil {
		return nil, err
	}
	if r.conn, err = open(false); err != nil {
		return nil, fmt.Errorf("announce: %w", err)
	}
	r.relink(time.Now())
	if len(r.ports) == 0 {
		r.conn.close()
		return nil, fmt.Errorf("announce: %w", ErrNoLink)
	}
	out := &Announcer{stop: make(chan struct{}), stopped: make(chan struct{})}
	ready := make(chan struct{})
	var once sync.Once
	r.announced = func(said Announced) {
		out.mu.Lock()
		out.said = said
		out.mu.Unlock()
		once.Do(func() { close(ready) })
	}
	go func() {
		defer close(out.stopped)
		r.run(out.stop)
	}()
	select {
	case <-ready:
		return out, nil
	case <-time.After(patience):
		_ = out.Close()
		return nil, ErrNameTaken
	}
}

// Announced is what this announcer says now.
func (a *Announcer) Announced() Announced {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.said
}

// Close takes the announcement back and stops answering. It may be called again.
func (a *Announcer) Close() error {
	a.closing.Do(func() { close(a.stop) })
	<-a.stopped
	return nil
}

// check refuses what cannot be announced.
func (a Announcement) check() error {
	if err := a.Query.Validate(); err != nil {
		return fmt.Errorf("announce: %w", err)
	}
	if a.Port < 1 || a.Port > 65535 {
		return fmt.Errorf("announce: port %d", a.Port)
	}
	if label(a.Host) == "" {
		return fmt.Errorf("announce: host name %.80q has no usable character", a.Host)
	}
	for _, addr := range a.Addrs {
		if !possible(addr.Unmap()) {
			return fmt.Errorf("announce: %s cannot be reached by other machines", addr)
		}
	}
	return checkText(a.text(link{}))
}

func checkText(text []string) error {
	size := 0
	for _, t := range text {
		if len(t) > maxString {
			return fmt.Errorf("announce: %.40q… is longer than %d bytes", t, maxString)
		}
		size += 1 + len(t)
	}
	if size > maxTextSent {
		return fmt.Errorf("announce: %d bytes of text, limit %d", size, maxTextSent)
	}
	return nil
}

// text is the TXT record on a link.
func (a Announcement) text(l link) []string {
	text := []string{
		"channel=" + a.Query.Channel,
		"arch=" + a.Query.Arch,
		"version=" + strconv.FormatInt(a.Version, 10),
		"manifest=" + a.Manifest,
	}
	keys := peerKeys()
	for _, p := range a.P2P {
		addr, rest, ok := parsePeer(p)
		if !ok || !l.has(addr) || len(keys) == 0 {
			continue
		}
		if t := keys[0] + "=" + formatPeer(addr, "", rest); checkText(append(text, t)) == nil {
			text, keys = append(text, t), keys[1:]
		}
	}
	return text
}

// addrs are the addresses to tell on a link: the interface's, or those of them
// that were asked for.
func (a Announcement) addrs(l link) []netip.Addr {
	var out []netip.Addr
	for _, p := range l.addrs {
		wanted := len(a.Addrs) == 0
		for _, want := range a.Addrs {
			wanted = wanted || want.Unmap().WithZone("") == p.Addr()
		}
		if wanted {
			out = append(out, p.Addr())
		}
	}
	return out
}

// label makes one DNS label of a host name: its first one, in lower case, with
// anything but letters, digits and '-' left out, at most 63 bytes.
func label(name string) string {
	name, _, _ = strings.Cut(name, ".")
	name = strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return -1
	}, name)
	return strings.Trim(name[:min(len(name), 63)], "-")
}

// numbered is a label with the number that tells it from others', from 2 on.
func numbered(base string, n int) string {
	suffix := ""
	if n > 1 {
		suffix = "-" + strconv.Itoa(n)
	}
	return strings.TrimRight(base[:min(len(base), 63-len(suffix))], "-") + suffix
}
