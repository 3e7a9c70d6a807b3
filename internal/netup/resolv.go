package netup

import (
	"net/netip"
	"os"
	"slices"
	"strings"
)

// mergeDNS collects the name servers of all interfaces, without repetition, as many
// as a resolv.conf can use: first those of interfaces with a gateway, of each the
// first before any second, so that one dead network leaves room for another.
func mergeDNS(links []Link) []netip.Addr {
	return merge(links, maxDNS, func(l Link) []netip.Addr { return l.DNS })
}

// mergeNTP does the same with time servers.
func mergeNTP(links []Link) []netip.Addr {
	return merge(links, maxNTP, func(l Link) []netip.Addr { return l.NTP })
}

// mergeSearch does the same with search domains.
func mergeSearch(links []Link) []string {
	return merge(links, maxSearch, func(l Link) []string { return l.Search })
}

// mergePortal is the first captive portal.
func mergePortal(links []Link) string {
	for _, p := range merge(links, maxLinks, func(l Link) []string { return []string{l.Portal} }) {
		if p != "" {
			return p
		}
	}
	return ""
}

func merge[T comparable](links []Link, limit int, of func(Link) []T) []T {
	var out []T
	for _, withGateway := range []bool{true, false} {
		var lists [][]T
		for _, l := range links {
			if l.Routed() == withGateway {
				lists = append(lists, of(l))
			}
		}
		for _, v := range alternate(limit, lists...) {
			if len(out) < limit && !slices.Contains(out, v) {
				out = append(out, v)
			}
		}
	}
	return out
}

// resolver is what a resolv.conf says.
type resolver struct {
	servers []netip.Addr
	search  []string
}

func (r resolver) equal(o resolver) bool {
	return slices.Equal(r.servers, o.servers) && slices.Equal(r.search, o.search)
}

// alternate mixes lists without repetition, so that a short list has some of each.
func alternate[T comparable](limit int, lists ...[]T) []T {
	out := []T{}
	longest := 0
	for _, list := range lists {
		longest = max(longest, len(list))
	}
	for n := range longest {
		for _, list := range lists {
			if n < len(list) && len(out) < limit && !slices.Contains(out, list[n]) {
				out = append(out, list[n])
			}
		}
	}
	return out
}

// writeResolvConf replaces path in one step, so that a resolver never reads
// half a file. It is not synced: the file is worth nothing after a crash.
func writeResolvConf(path string, names resolver) error {
	var b strings.Builder
	for _, a := range names.servers {
		b.WriteString("nameserver " + a.String() + "\n")
	}
	if len(names.search) > 0 {
		b.WriteString("search " + strings.Join(names.search, " ") + "\n")
	}
	// One second instead of five for a dead server: the next one is asked.
	b.WriteString("options timeout:1 attempts:3\n")
	tmp := path + ".new"
	if err := os.WriteFile(tmp, []byte(b.String()), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
