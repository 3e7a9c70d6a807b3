package netup

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
)

// lease6 is what a DHCPv6 reply means, checked.
type lease6 struct {
	addresses []leased6
	dns       []netip.Addr
	ntp       []netip.Addr
	search    []string
	portal    string
	server    []byte        // its identifier (DUID), to name it in renewals
	t1, t2    time.Duration // renew from the same server, then from any; 0: never
	length    time.Duration // until the last address ends; 0: for ever
	refresh   time.Duration // for a reply without addresses: when to ask again
}

// leased6 is an address and for how long it holds; forever is a lifetime.
type leased6 struct {
	address          netip.Addr
	preferred, valid time.Duration
}

var errNoAddress6 = errors.New("the server has no IPv6 address for us")

// Bounds on times a server may ask for. RFC 8415, section 21.23 for refresh.
const (
	minRefresh     = 10 * time.Minute
	defaultRefresh = 24 * time.Hour
	maxServerID    = 130 // bytes: RFC 8415, section 11.1
)

// parseLease6 reads a reply or an advertisement. It drops addresses that no
// host can use; a message without any is good for its name servers only.
func parseLease6(m *dhcpv6.Message, iaid [4]byte) (lease6, error) {
	if s := m.Options.Status(); s != nil && s.StatusCode != iana.StatusSuccess {
		return lease6{}, fmt.Errorf("the server refused: %s", s.StatusCode)
	}
	l := lease6{
		dns: hostAddrs6(m.Options.DNS(), maxDNS), ntp: hostAddrs6(slices.Concat(m.Options.NTPServers(), m.Options.SNTP()), maxNTP),
		refresh: min(max(m.Options.InformationRefreshTime(defaultRefresh), minRefresh), defaultRefresh),
	}
	if id := m.Options.ServerID(); id != nil {
		l.server = id.ToBytes()
	}
	if len(l.server) == 0 || len(l.server) > maxServerID {
		return lease6{}, errors.New("no server identifier")
	}
	if o := m.Options.GetOne(dhcpv6.OptionCaptivePortal); o != nil {
		l.portal = parsePortal(o.ToBytes())
	}
	if labels := m.Options.DomainSearchList(); labels != nil {
		for _, name := range labels.Labels {
			l.search = appendDomain(l.search, name)
		}
	}
	for _, ia := range m.Options.IANA() {
		if ia.IaId == iaid {
			l.take(ia)
		}
	}
	return l, nil
}

// take reads the addresses of an identity association and its times.
func (l *lease6) take(ia *dhcpv6.OptIANA) {
	shortest := forever
	for _, a := range ia.Options.Addresses() {
		ip, ok := netip.AddrFromSlice(a.IPv6Addr)
		got := leased6{ip, unlimited(a.PreferredLifetime), unlimited(a.ValidLifetime)}
		if s := a.Options.Status(); s != nil && s.StatusCode != iana.StatusSuccess {
			continue
		}
		if !ok || !hostAddr6(ip).IsValid() || ip.IsLinkLocalUnicast() || got.valid == 0 || got.preferred > got.valid || len(l.addresses) == maxLeased6 {
			continue
		}
		l.addresses = append(l.addresses, got)
		shortest = min(shortest, got.preferred)
		l.length = max(l.length, got.valid)
	}
	if len(l.addresses) == 0 {
		return
	}
	if l.length == forever {
		l.length = 0
	}
	l.t1, l.t2 = renewalTimes6(ia.T1, ia.T2, shortest)
}

// renewalTimes6 are the server's, or those of RFC 8415, section 21.4 where it
// leaves them to us or they make no sense.
func renewalTimes6(t1, t2, shortest time.Duration) (time.Duration, time.Duration) {
	if shortest == forever {
		return 0, 0
	}
	shortest = max(shortest, minLease)
	if t2 <= 0 || t2 >= shortest {
		t2 = shortest / 10 * 8
	}
	if t1 <= 0 || t1 >= t2 {
		t1 = t2 / 8 * 5
	}
	return t1, t2
}

// unlimited turns the number that means for ever into forever.
func unlimited(d time.Duration) time.Duration {
	if d >= infinite*time.Second {
		return forever
	}
	return d
}

func hostAddrs6(ips []net.IP, limit int) []netip.Addr {
	var out []netip.Addr
	for _, ip := range ips {
		a, _ := netip.AddrFromSlice(ip)
		if a = hostAddr6(a); a.IsValid() && len(out) < limit && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}
