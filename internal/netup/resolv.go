package netup

import (
	"net/netip"
	"os"
	"slices"
	"strings"
)

// mergeDNS collects the name servers of all interfaces, those with a
// gateway first, without repetition, as many as a resolv.conf can use.
func mergeDNS(links []Link) []netip.Addr {
	return merge(links, maxDNS, func(l Link) []netip.Addr { return l.DNS })
}

// mergeNTP does the same with time servers.
func mergeNTP(links []Link) []netip.Addr {
	return merge(links, maxNTP, func(l Link) []netip.Addr { return l.NTP })
}

func merge(links []Link, limit int, of func(Link) []netip.Addr) []netip.Addr {
	var out []netip.Addr
	for _, withGateway := range []bool{true, false} {
		for _, l := range links {
			if l.Gateway.IsValid() != withGateway {
				continue
			}
			for _, a := range of(l) {
				if len(out) < limit && !slices.Contains(out, a) {
					out = append(out, a)
				}
			}
		}
	}
	return out
}

// writeResolvConf replaces path in one step, so that a resolver never reads
// half a file. It is not synced: the file is worth nothing after a crash.
func writeResolvConf(path string, servers []netip.Addr) error {
	var b strings.Builder
	for _, a := range servers {
		b.WriteString("nameserver " + a.String() + "\n")
	}
	// One second instead of five for a dead server: the next one is asked.
	b.WriteString("options timeout:1 attempts:3\n")
	tmp := path + ".new"
	if err := os.WriteFile(tmp, []byte(b.String()), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
