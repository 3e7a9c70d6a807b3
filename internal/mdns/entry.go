package mdns

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/libp2p/zeroconf/v2"

	"github.com/phasebased/phase/internal/discover"
)

// maxAddrs bounds how many addresses of one announcement are used.
const maxAddrs = 4

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

// bases are the URLs under which an announced provider may be asked, IPv4 first.
func bases(e *zeroconf.ServiceEntry) []string {
	if e.Port < 1 || e.Port > 65535 {
		return nil
	}
	var out []string
	for _, ip := range append(append([]net.IP(nil), e.AddrIPv4...), e.AddrIPv6...) {
		addr, ok := netip.AddrFromSlice(ip)
		if !ok || !reachable(addr.Unmap()) {
			continue
		}
		if out = append(out, base(addr.Unmap(), e.Port)); len(out) == maxAddrs {
			break
		}
	}
	return out
}

func base(addr netip.Addr, port int) string {
	return "http://" + net.JoinHostPort(addr.String(), strconv.Itoa(port))
}

// reachable reports whether an announced address can be another machine's. It
// refuses loopback, unspecified, multicast and broadcast addresses, and IPv6
// link-local ones, which mean nothing without the interface they were heard on.
func reachable(a netip.Addr) bool {
	switch {
	case a.IsLoopback(), a.IsUnspecified(), a.IsMulticast():
		return false
	case a.Is4() && (a.As4()[0] == 0 || a.As4()[0] >= 240): // "this network", reserved, broadcast
		return false
	case a.Is6() && a.IsLinkLocalUnicast():
		return false
	}
	return true
}
