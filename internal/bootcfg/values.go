package bootcfg

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

const (
	switchNames  = "enabled, disabled, true, false"
	channelNames = "stable, testing, nightly"
	timeNames    = "<host> or <host>:<port>"
)

// parseSwitch is the only parser of on/off values on the command line.
func parseSwitch(s string) (bool, error) {
	switch s {
	case "enabled", "true":
		return true, nil
	case "disabled", "false":
		return false, nil
	}
	return false, errors.New("neither on nor off")
}

func checkChannel(s string) error {
	switch s {
	case "stable", "testing", "nightly":
		return nil
	}
	return errors.New("unknown channel")
}

// checkProvider accepts the base URL of an artifact server and returns it
// without its trailing slashes.
func checkProvider(s string) (string, error) {
	if len(s) > maxURL {
		return "", errors.New("longer than 2048 bytes")
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return "", errors.New("not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return "", errors.New("neither http nor https")
	case u.Hostname() == "":
		return "", errors.New("no host")
	case u.User != nil:
		return "", errors.New("user names and passwords are not supported")
	case u.RawQuery != "" || u.ForceQuery || strings.Contains(s, "#"):
		return "", errors.New("neither query nor fragment is allowed")
	}
	return strings.TrimRight(s, "/"), nil
}

// isLocalURL reports whether the host of a checked URL is certainly on the
// local network: an address that is not routed on the Internet, or a name
// that is asked by mDNS only (RFC 6762).
func isLocalURL(s string) bool {
	u, err := url.Parse(s)
	if err != nil {
		return false
	}
	return isLocalHost(u.Hostname())
}

// isLocalHost does the same with a host.
func isLocalHost(host string) bool {
	if addr, err := netip.ParseAddr(host); err == nil {
		addr = addr.Unmap()
		return addr.IsPrivate() || addr.IsLinkLocalUnicast() || addr.IsLoopback()
	}
	return strings.HasSuffix(strings.ToLower(host), ".local")
}

// checkTimeServer accepts a host, or host:port with IPv6 addresses in brackets.
func checkTimeServer(s string) error {
	host := timeHost(s)
	if a, err := netip.ParseAddr(host); err == nil {
		if a.Zone() != "" || a.IsUnspecified() || a.IsMulticast() {
			return errors.New("not the address of one machine")
		}
	} else if !isHostName(host) {
		return errors.New("not a host or host:port")
	}
	if s == host {
		return nil
	}
	if _, port, err := net.SplitHostPort(s); err != nil || !isPort(port) {
		return errors.New("not a host or host:port")
	}
	return nil
}

// timeHost is the host of a time server.
func timeHost(s string) string {
	if host, _, err := net.SplitHostPort(s); err == nil {
		return host
	}
	return s
}

// netWish is what phase.ip asks for.
type netWish struct {
	off        bool
	interfaces []Interface
}

// parseIP reads the value of phase.ip. Gateway and DNS may be left empty.
func parseIP(s string) (netWish, error) {
	switch s {
	case "dhcp":
		return netWish{}, nil
	case "off":
		return netWish{off: true}, nil
	}
	f := strings.Split(s, ",")
	if len(f) < 3 || len(f) > 4 {
		return netWish{}, errors.New("three or four parts separated by commas are needed")
	}
	spec := InterfaceSpec{Method: "static", Address: f[0], Gateway: f[1]}
	if f[2] != "" {
		spec.DNS = []string{f[2]}
	}
	if len(f) == 4 {
		spec.setNameOrMAC(f[3])
	}
	i, err := spec.Check()
	return netWish{interfaces: []Interface{i}}, err
}

// parseVLAN reads the value of phase.vlan: a tag, and perhaps the interface it
// is on.
func parseVLAN(s string) (Interface, error) {
	tag, selector, named := strings.Cut(s, ",")
	id, err := strconv.ParseInt(tag, 10, 64)
	if err != nil || strconv.FormatInt(id, 10) != tag || named && selector == "" {
		return Interface{}, errors.New("a number is needed, and after a comma an interface")
	}
	spec := InterfaceSpec{VLAN: &id}
	spec.setNameOrMAC(selector)
	return spec.Check()
}

// addVLAN puts the one interface that the wish is about on a VLAN.
func (w *netWish) addVLAN(vlan Interface) error {
	if w.off {
		return errors.New("the network is switched off by phase.ip")
	}
	if len(w.interfaces) == 0 {
		w.interfaces = []Interface{vlan}
		return nil
	}
	i := &w.interfaces[0]
	if vlan.Name != "" || vlan.MAC != "" {
		if (i.Name != "" || i.MAC != "") && (i.Name != vlan.Name || i.MAC != vlan.MAC) {
			return errors.New("phase.ip names another interface")
		}
		i.Name, i.MAC = vlan.Name, vlan.MAC
	}
	i.VLAN = vlan.VLAN
	return nil
}

// InterfaceSpec is an interface as it is written down: in policy.toml, on the
// command line, or in a form. The zero value of a field is one left out.
type InterfaceSpec struct {
	Name    string   `toml:"name"`
	MAC     string   `toml:"mac"`
	VLAN    *int64   `toml:"vlan"`
	Method  string   `toml:"method"` // "dhcp", "static", "off"; by default static if there is an address
	Address string   `toml:"address"`
	Gateway string   `toml:"gateway"`
	DNS     []string `toml:"dns"`
}

func (s *InterfaceSpec) setNameOrMAC(v string) {
	if strings.Contains(v, ":") {
		s.MAC = v
	} else {
		s.Name = v
	}
}

// Check turns the spelling into values.
func (s InterfaceSpec) Check() (Interface, error) {
	var i Interface
	if err := s.checkSelector(&i); err != nil {
		return i, err
	}
	if s.VLAN != nil {
		if *s.VLAN < MinVLAN || *s.VLAN > MaxVLAN {
			return i, fmt.Errorf("%d is not a VLAN (%d to %d)", *s.VLAN, MinVLAN, MaxVLAN)
		}
		i.VLAN = int(*s.VLAN)
	}
	if s.Method == "static" && s.Address == "" {
		return i, errors.New("a static interface needs an address")
	}
	switch s.Method {
	case "", "static":
	case "dhcp", "off":
		i.Off = s.Method == "off"
		if i.Off && s.Name == "" && s.MAC == "" {
			return i, errors.New("method off needs a name or a MAC address")
		}
		if i.Off && i.VLAN > 0 {
			return i, errors.New("method off does not go with a VLAN")
		}
		if s.Address != "" {
			return i, fmt.Errorf("method %s does not go with an address", s.Method)
		}
	default:
		return i, fmt.Errorf("unknown method %s", quote(s.Method))
	}
	return i, s.checkAddress(&i)
}

func (s InterfaceSpec) checkSelector(i *Interface) error {
	if s.Name != "" && !isInterfaceName(s.Name) {
		return fmt.Errorf("%s is not the name of an interface", quote(s.Name))
	}
	i.Name = s.Name
	if s.MAC == "" {
		return nil
	}
	mac, err := net.ParseMAC(s.MAC)
	if err != nil || len(mac) != 6 {
		return fmt.Errorf("%s is not a MAC address", quote(s.MAC))
	}
	i.MAC = mac.String()
	return nil
}

// isInterfaceName follows dev_valid_name of the kernel, and further leaves
// out what no driver uses.
func isInterfaceName(s string) bool {
	if len(s) > 15 || s == "." || s == ".." {
		return false
	}
	for _, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r)) {
			return false
		}
	}
	return true
}

func (s InterfaceSpec) checkAddress(i *Interface) error {
	if s.Address == "" {
		if s.Gateway != "" || len(s.DNS) > 0 {
			return errors.New("gateway and DNS need an address")
		}
		return nil
	}
	var err error
	if i.Address, err = netip.ParsePrefix(s.Address); err != nil || !isHost(i.Address.Addr()) || i.Address.Bits() == 0 {
		return fmt.Errorf("%s is not an address with a prefix length, such as 192.168.1.10/24", quote(s.Address))
	}
	if s.Gateway != "" {
		i.Gateway, err = netip.ParseAddr(s.Gateway)
		if err != nil || !isHost(i.Gateway) || i.Gateway.Is4() != i.Address.Addr().Is4() {
			return fmt.Errorf("%s is not a gateway for that address", quote(s.Gateway))
		}
	}
	if len(s.DNS) > MaxDNS {
		return errors.New("more than three name servers")
	}
	for _, d := range s.DNS {
		a, err := netip.ParseAddr(d)
		if err != nil || !isHost(a) {
			return fmt.Errorf("%s is not the address of a name server", quote(d))
		}
		i.DNS = append(i.DNS, a)
	}
	return nil
}

// isHost reports whether a can be the address of one machine.
func isHost(a netip.Addr) bool {
	return !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && a.Zone() == "" && !a.Is4In6() &&
		a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}
