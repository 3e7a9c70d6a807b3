package nettime

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Ports of IANA's registry.
const (
	portNTP   = "123"
	portNTSKE = "4460"
)

const maxAddress = 262 // bytes: a name of 253, brackets, a colon and a port

// target is a server that is asked.
type target struct {
	index int // among Query.Servers
	host  string
	port  string
	nts   bool
}

func newTarget(index int, s Server, localOnly bool) (target, error) {
	t := target{index: index, port: portNTP, nts: s.NTS}
	if s.NTS {
		t.port = portNTSKE
	}
	if err := t.parse(s.Address); err != nil {
		return t, err
	}
	if localOnly && !localHost(t.host) {
		return t, ErrNotLocal
	}
	return t, nil
}

// parse reads host or host:port; it leaves the port alone where there is none.
func (t *target) parse(s string) error {
	if len(s) > maxAddress {
		return ErrAddress
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		t.host = s
		return nil
	}
	t.host = s
	if strings.Contains(s, ":") {
		var err error
		if t.host, t.port, err = net.SplitHostPort(s); err != nil || !isPort(t.port) {
			return ErrAddress
		}
	}
	if !isHost(t.host) {
		return ErrAddress
	}
	return nil
}

func (t target) hostPort() string { return net.JoinHostPort(t.host, t.port) }

// key is the same for two spellings of one server.
func (t target) key() string {
	return strconv.FormatBool(t.nts) + " " + strings.ToLower(net.JoinHostPort(strings.TrimSuffix(t.host, "."), t.port))
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0 && s == strconv.FormatUint(n, 10)
}

// isHost accepts addresses without a zone, and names of the characters and
// lengths of RFC 1123 with the underscore that service names use.
func isHost(s string) bool {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Zone() == ""
	}
	if s = strings.TrimSuffix(s, "."); len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if len(label) == 0 || len(label) > 63 || strings.Trim(strings.ToLower(label), "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return true
}
