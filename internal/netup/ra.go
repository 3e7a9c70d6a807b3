package netup

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"time"
)

// Neighbour Discovery options that name servers (RFC 8106) and portals (RFC 8910).
const (
	ndRDNSS  = 25
	ndDNSSL  = 31
	ndPortal = 37
)

// forever stands for a lifetime without an end.
const forever = time.Duration(1<<63 - 1)

// raOption is what one option of a router advertisement says of names.
type raOption struct {
	servers  []netip.Addr
	search   []string
	lifetime time.Duration // of those; 0: use them no more
	portal   string        // holds as long as the router
}

// parseRAOptions reads the options of a router advertisement (RFC 4861,
// section 4.6) and keeps those that name servers or domains. It fails where the
// options do not add up, and drops addresses and names that nobody can have.
func parseRAOptions(b []byte) ([]raOption, error) {
	var out []raOption
	for len(b) > 0 {
		if len(b) < 8 || b[1] == 0 || int(b[1])*8 > len(b) {
			return nil, errors.New("router advertisement: options do not add up")
		}
		body := b[:int(b[1])*8]
		b = b[len(body):]
		var o raOption
		lifetime := seconds(binary.BigEndian.Uint32(body[4:]))
		switch body[0] {
		case ndRDNSS:
			o = raOption{servers: parseRDNSS(body[8:]), lifetime: lifetime}
		case ndDNSSL:
			o = raOption{search: parseDNSSL(body[8:]), lifetime: lifetime}
		case ndPortal:
			o = raOption{portal: parsePortal(body[2:])}
		}
		if len(o.servers)+len(o.search)+len(o.portal) > 0 {
			out = append(out, o)
		}
	}
	return out, nil
}

// seconds reads a lifetime of which all bits set mean for ever.
func seconds(n uint32) time.Duration {
	if n == infinite {
		return forever
	}
	return time.Duration(n) * time.Second
}

func parseRDNSS(b []byte) (out []netip.Addr) {
	for ; len(b) >= 16; b = b[16:] {
		if a := hostAddr6(netip.AddrFrom16([16]byte(b))); a.IsValid() && len(out) < maxDNS {
			out = append(out, a)
		}
	}
	return out
}

// parseDNSSL reads uncompressed names (RFC 1035, section 3.1), each ended by an
// empty label and the last followed by padding.
func parseDNSSL(b []byte) (out []string) {
	var labels []string
	for len(b) > 0 {
		n := int(b[0])
		switch {
		case n == 0 && len(labels) == 0:
			return out // padding
		case n == 0:
			out = appendDomain(out, strings.Join(labels, "."))
			labels, b = nil, b[1:]
		case n > 63 || n >= len(b):
			return out
		default:
			labels, b = append(labels, string(b[1:1+n])), b[1+n:]
		}
	}
	return out
}

// appendDomain adds a domain that can stand in a resolv.conf.
func appendDomain(list []string, name string) []string {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if len(list) >= maxSearch || len(name) > maxDomain || !isDomain(name) {
		return list
	}
	for _, known := range list {
		if known == name {
			return list
		}
	}
	return append(list, name)
}

// isDomain accepts letters, digits, hyphens and underscores between dots, in
// lower case.
func isDomain(name string) bool {
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return true
}

// hostAddr6 returns a if one machine can have it, else the zero address.
func hostAddr6(a netip.Addr) netip.Addr {
	if !a.Is6() || a.Is4In6() || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() {
		return netip.Addr{}
	}
	return a
}

// timed is something that a router said, and until when it holds.
type timed[T comparable] struct {
	value T
	until time.Time // zero: for ever
}

// keepTimed adds a value or changes its time; a lifetime of 0 removes it. A full
// list takes no more.
func keepTimed[T comparable](list []timed[T], value T, now time.Time, lifetime time.Duration, limit int) []timed[T] {
	var out []timed[T]
	entry, known := timed[T]{value: value}, false
	if lifetime != forever {
		entry.until = now.Add(lifetime)
	}
	for _, old := range list {
		switch {
		case old.value != value:
			out = append(out, old)
		case lifetime > 0:
			out, known = append(out, entry), true
		}
	}
	if !known && lifetime > 0 && len(out) < limit {
		out = append(out, entry)
	}
	return out
}

// current are the values that still hold.
func current[T comparable](list []timed[T], now time.Time) []T {
	var out []T
	for _, e := range list {
		if e.until.IsZero() || now.Before(e.until) {
			out = append(out, e.value)
		}
	}
	return out
}

// nextEnd is when the next value of a list ends after now; zero: never.
func nextEnd[T comparable](list []timed[T], now time.Time) (next time.Time) {
	for _, e := range list {
		if e.until.After(now) && (next.IsZero() || e.until.Before(next)) {
			next = e.until
		}
	}
	return next
}
