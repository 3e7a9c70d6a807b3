package mdns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/libp2p/zeroconf/v2"

	"github.com/phasebased/phase/internal/discover"
)

// timeToLive is how long, in seconds, others may remember an announcement whose
// end they missed. RFC 6762, section 10, suggests 75 minutes; booting machines
// come and go faster.
const timeToLive = 120

// Announcement is what a provider says about itself.
type Announcement struct {
	// Host is the machine's name; only its first label is used. It is sent to
	// everybody on the network.
	Host string
	// Instance tells several announcements of one machine apart. Empty means
	// plasmd-<host>.
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
	// as they are when somebody asks.
	Addrs []netip.Addr
}

// Announced is what is really being said on the network.
type Announced struct {
	Instance string // full name, such as plasmd-box._phase-image._tcp.local.
	Host     string // such as box.local.
	Port     int
	Addrs    []netip.Addr
	Text     []string
}

// Announcer keeps an announcement on the network until it is closed.
type Announcer struct {
	server    *zeroconf.Server
	announced Announced
}

// Announce starts answering for a provider and tells the network about it. The
// caller must Close the result, which also takes the announcement back.
func Announce(a Announcement) (*Announcer, error) {
	if err := a.Query.Validate(); err != nil {
		return nil, fmt.Errorf("announce: %w", err)
	}
	if a.Port < 1 || a.Port > 65535 {
		return nil, fmt.Errorf("announce: port %d", a.Port)
	}
	host := label(a.Host)
	if host == "" {
		return nil, fmt.Errorf("announce: host name %.80q has no usable character", a.Host)
	}
	instance := label(a.Instance)
	if instance == "" {
		instance = label("plasmd-" + host)
	}
	text, err := a.text()
	if err != nil {
		return nil, err
	}
	addrs, err := a.addrs()
	if err != nil {
		return nil, err
	}
	var fixed []string
	for _, addr := range a.Addrs {
		fixed = append(fixed, addr.String())
	}
	server, err := zeroconf.RegisterProxy(instance, Service, Domain, a.Port, host+"."+Domain+".", fixed, text, nil, zeroconf.TTL(timeToLive))
	if err != nil {
		return nil, fmt.Errorf("announce: %w", err)
	}
	return &Announcer{server: server, announced: Announced{
		Instance: instance + "." + Service + "." + Domain + ".",
		Host:     host + "." + Domain + ".",
		Port:     a.Port,
		Addrs:    addrs,
		Text:     text,
	}}, nil
}

// Announced is what this announcer says.
func (a *Announcer) Announced() Announced { return a.announced }

// Close takes the announcement back and stops answering.
func (a *Announcer) Close() error {
	a.server.Shutdown()
	return nil
}

// text is the TXT record. Each of its strings holds at most 255 bytes.
func (a Announcement) text() ([]string, error) {
	text := []string{
		"channel=" + a.Query.Channel,
		"arch=" + a.Query.Arch,
		"version=" + strconv.FormatInt(a.Version, 10),
		"manifest=" + a.Manifest,
	}
	for _, t := range text {
		if len(t) > 255 {
			return nil, fmt.Errorf("announce: %.40q… is longer than 255 bytes", t)
		}
	}
	return text, nil
}

// addrs are the addresses that others will be told.
func (a Announcement) addrs() ([]netip.Addr, error) {
	var out []netip.Addr
	if len(a.Addrs) > 0 {
		for _, addr := range a.Addrs {
			if !reachable(addr.Unmap()) {
				return nil, fmt.Errorf("announce: %s cannot be reached by other machines", addr)
			}
			out = append(out, addr.Unmap())
		}
		return out, nil
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("announce: %w", err)
	}
	for _, one := range all {
		prefix, err := netip.ParsePrefix(one.String())
		if err == nil && reachable(prefix.Addr().Unmap()) {
			out = append(out, prefix.Addr().Unmap())
		}
	}
	if len(out) == 0 {
		return nil, errors.New("announce: no interface has an address that other machines can reach")
	}
	return out, nil
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
