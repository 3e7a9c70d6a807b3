package bootcfg

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

const bootstrapSource = "bootstrap-nodes.toml"

// bootstrapFile is bootstrap-nodes.toml.
type bootstrapFile struct {
	Bootstrap []bootstrapNode `toml:"bootstrap"`
}

type bootstrapNode struct {
	PeerID  string `toml:"peer_id"`
	Address string `toml:"address"`
	DNSAddr string `toml:"dnsaddr"`
}

// parseBootstrap returns the nodes as multiaddrs, in the order of the file:
// ending in /p2p/<id>, or /dnsaddr/<name> alone.
func parseBootstrap(raw []byte) ([]string, error) {
	const source = bootstrapSource
	var f bootstrapFile
	if err := decodeTOML(raw, &f); err != nil {
		return nil, err.in(source, BadBootstrapSet, BadBootstrapSet)
	}
	if len(f.Bootstrap) > MaxBootstrap {
		return nil, &Error{Kind: BadBootstrapSet, Source: source, Err: errors.New("more than 32 nodes")}
	}
	var out []string
	for i, n := range f.Bootstrap {
		addr, err := n.multiaddr()
		if err != nil {
			key := fmt.Sprintf("bootstrap[%d]", i)
			return nil, &Error{Kind: BadBootstrapSet, Source: source, Key: key, Value: n.Address + n.DNSAddr, Err: err}
		}
		out = append(out, addr)
	}
	return out, nil
}

// multiaddr checks a node's spelling against the subset of multiaddrs this
// system can dial: host, then tcp or udp+quic-v1, then the peer id. It is
// written by hand because the full parser comes with libp2p, which stays
// behind its wall.
func (n bootstrapNode) multiaddr() (string, error) {
	if n.DNSAddr != "" {
		return n.named()
	}
	if !isPeerID(n.PeerID) {
		return "", fmt.Errorf("%s is not a peer id", quote(n.PeerID))
	}
	if len(n.Address) > 512 || !strings.HasPrefix(n.Address, "/") {
		return "", errors.New("the address is not a multiaddr")
	}
	base, id, found := strings.Cut(n.Address, "/p2p/")
	if found && id != n.PeerID {
		return "", errors.New("the address names another peer")
	}
	if err := checkMultiaddr(strings.Split(base[1:], "/")); err != nil {
		return "", err
	}
	return base + "/p2p/" + n.PeerID, nil
}

// named is a name in the DNS that leads to addresses and peer ids.
func (n bootstrapNode) named() (string, error) {
	switch {
	case n.PeerID != "" || n.Address != "":
		return "", errors.New("dnsaddr stands alone: the DNS gives peer id and address")
	case !isHostName(n.DNSAddr) || !strings.Contains(n.DNSAddr, "."):
		return "", errors.New("dnsaddr is not a name in the DNS")
	}
	if _, err := netip.ParseAddr(n.DNSAddr); err == nil {
		return "", errors.New("dnsaddr is an address, not a name")
	}
	return "/dnsaddr/" + n.DNSAddr, nil
}

func checkMultiaddr(part []string) error {
	if len(part) < 2 || !isMultiaddrHost(part[0], part[1]) {
		return errors.New("the address needs ip4, ip6, dns, dns4, dns6 or dnsaddr first")
	}
	rest := part[2:]
	switch {
	case part[0] == "dnsaddr" && len(rest) == 0:
		return nil
	case len(rest) == 2 && rest[0] == "tcp" && isPort(rest[1]):
		return nil
	case len(rest) == 3 && rest[0] == "udp" && isPort(rest[1]) && rest[2] == "quic-v1":
		return nil
	}
	return errors.New("the address needs /tcp/<port> or /udp/<port>/quic-v1 after the host")
}

func isMultiaddrHost(proto, value string) bool {
	switch proto {
	case "ip4", "ip6":
		a, err := netip.ParseAddr(value)
		return err == nil && a.Zone() == "" && a.Is4() == (proto == "ip4")
	case "dns", "dns4", "dns6", "dnsaddr":
		return isHostName(value)
	}
	return false
}

// isHostName checks the characters and lengths of RFC 1123, and allows the
// underscore that service names use.
func isHostName(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if len(label) == 0 || len(label) > 63 || !isAlnum(label, "-_") {
			return false
		}
	}
	return true
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0 && s == strconv.FormatUint(n, 10)
}

// isPeerID accepts the shapes of base58 hashes and base32 CIDs; libp2p
// decodes them later.
func isPeerID(s string) bool { return len(s) >= 32 && len(s) <= 128 && isAlnum(s, "") }

func isAlnum(s, more string) bool {
	for _, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(more, r)) {
			return false
		}
	}
	return true
}
