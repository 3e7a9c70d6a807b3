package mdns

import (
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/phasebased/phase/internal/discover"
)

// Bounds on what is used of one announcement.
const (
	maxAddrs = 4 // addresses of its host
	maxPeers = 4 // DHT nodes that it names, and of one sender in all
)

// announced is what was heard of one provider on one link. Strangers wrote it.
type announced struct {
	instance string       // the label in front of the service
	from     netip.Addr   // who said it
	addrs    []netip.Addr // on the link, IPv4 first; link-local ones of IPv6 with their zone
	port     uint16
	text     []string
	link     link
}

// offers reports whether a TXT record (RFC 6763, section 6) is about q. Keys are
// compared without regard to case, and the first of equal keys counts, as the
// RFC wants it.
func offers(text []string, q discover.Query) bool {
	return lookup(text, "channel") == q.Channel && lookup(text, "arch") == q.Arch
}

// lookup returns the value of a key, "" if it is absent.
func lookup(text []string, key string) string {
	for _, t := range text {
		k, v, _ := strings.Cut(t, "=")
		if strings.EqualFold(k, key) {
			return v
		}
	}
	return ""
}

// bases are the URLs under which an announced provider may be asked.
func (a announced) bases() []string {
	if a.port == 0 {
		return nil
	}
	var out []string
	for _, addr := range a.addrs[:min(len(a.addrs), maxAddrs)] {
		u := url.URL{Scheme: "http", Host: net.JoinHostPort(addr.String(), strconv.Itoa(int(a.port)))}
		out = append(out, u.String())
	}
	return out
}

// peerKeys name the DHT nodes in a TXT record: p2p, p2p2, … Keys must differ,
// since of equal ones all but the first are to be ignored (RFC 6763, section 6.4).
func peerKeys() []string { return []string{"p2p", "p2p2", "p2p3", "p2p4"} }

// peers are the DHT nodes that an announcement names, as multiaddrs. Whatever is
// not exactly of the form that we announce, or leads away from the link, is left
// out.
func (a announced) peers() []string {
	var out []string
	for _, key := range peerKeys() {
		addr, rest, ok := parsePeer(lookup(a.text, key))
		if ok && a.link.near(addr) {
			out = append(out, formatPeer(addr, a.link.device, rest))
		}
	}
	return out
}

// parsePeer reads /ip4/ADDR/tcp/PORT/p2p/ID, or ip6 with or without an ip6zone in
// front, which says nothing to other machines. rest is what follows the address.
func parsePeer(s string) (addr netip.Addr, rest string, ok bool) {
	if len(s) > 255 {
		return addr, "", false
	}
	parts := strings.Split(s, "/")
	if len(parts) > 3 && parts[0] == "" && parts[1] == "ip6zone" {
		parts = slices.Delete(parts, 1, 3)
	}
	if len(parts) != 7 || parts[0] != "" || parts[3] != "tcp" || parts[5] != "p2p" || !plainID(parts[6]) {
		return addr, "", false
	}
	addr, err := netip.ParseAddr(parts[2])
	if err != nil || addr.Zone() != "" || parts[1] != map[bool]string{true: "ip4", false: "ip6"}[addr.Is4()] {
		return addr, "", false
	}
	port, err := strconv.ParseUint(parts[4], 10, 16)
	if err != nil || port == 0 || strconv.FormatUint(port, 10) != parts[4] {
		return addr, "", false
	}
	return addr, "/" + strings.Join(parts[3:], "/"), true
}

// formatPeer is the multiaddr under which a node on the link of device is reached.
func formatPeer(addr netip.Addr, device, rest string) string {
	switch {
	case addr.Is4():
		return "/ip4/" + addr.String() + rest
	case addr.IsLinkLocalUnicast() && device != "":
		return "/ip6zone/" + device + "/ip6/" + addr.String() + rest
	}
	return "/ip6/" + addr.String() + rest
}

// plainID accepts the letters and lengths of peer IDs, in base 58 and base 32.
func plainID(s string) bool {
	return len(s) >= 40 && len(s) <= 70 && strings.IndexFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	}) < 0
}
