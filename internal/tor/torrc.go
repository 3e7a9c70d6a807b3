package tor

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
)

// Bounds of what is given.
const (
	MaxBridges = 16
	MaxExtra   = 32
	maxLine    = 1024
)

// errTransport is of bridges that need another program.
var errTransport = errors.New("pluggable transports such as obfs4 are not carried: use a plain bridge, <address>:<port> <fingerprint>")

// extraOptions are the options that Config.Extra may set, in lower case. All decide
// which relays are used and how they are reached. None opens a socket that others
// can use, starts a program, writes a file, or says more in the log.
var extraOptions = map[string]bool{
	"dirauthority": true, "fallbackdir": true, "usedefaultfallbackdirs": true,
	"entrynodes": true, "middlenodes": true, "exitnodes": true, "excludenodes": true, "excludeexitnodes": true, "strictnodes": true,
	"numentryguards": true, "useentryguards": true, "enforcedistinctsubnets": true,
	"fascistfirewall": true, "firewallports": true, "reachableaddresses": true, "reachableoraddresses": true,
	"httpsproxy": true, "httpsproxyauthenticator": true, "socks4proxy": true, "socks5proxy": true, "socks5proxyusername": true, "socks5proxypassword": true,
	"clientuseipv4": true, "clientuseipv6": true, "clientpreferipv6orport": true, "clientautoipv6orport": true,
	"connectionpadding": true, "reducedconnectionpadding": true, "circuitpadding": true, "reducedcircuitpadding": true,
	"circuitbuildtimeout": true, "learncircuitbuildtimeout": true, "pathsneededtobuildcircuits": true, "sockstimeout": true,
	"testingtornetwork": true, "testingclientdownloadinitialdelay": true, "testingclientconsensusdownloadinitialdelay": true,
	"clientbootstrapconsensusauthoritydownloadinitialdelay": true, "clientbootstrapconsensusfallbackdownloadinitialdelay": true,
	"clientbootstrapconsensusauthorityonlydownloadinitialdelay": true,
}

// CheckExtra says what is wrong with a line of Config.Extra, nil if nothing is. The
// error holds the option's name and not its value.
func CheckExtra(line string) error {
	if err := checkLine(line); err != nil {
		return err
	}
	name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
	value = strings.TrimSpace(value)
	switch option := strings.ToLower(name); {
	case !isOption(name):
		return errors.New("it does not begin with the name of an option") // it may be a bridge
	case !extraOptions[option]:
		return fmt.Errorf("the option %.60s is not among those that may be set", name)
	case value == "":
		return fmt.Errorf("the option %s has no value", name)
	case strings.ContainsRune(value, '{'):
		return fmt.Errorf("the option %s names a country: media do not carry the lists of which addresses are in which; name relays by fingerprint or address", name)
	case proxyOptions[option] && !isProxy(value):
		return fmt.Errorf("the option %s takes <address>:<port>: a name would be looked up without Tor", name)
	}
	return nil
}

// isOption accepts the letters and digits that names of options have.
func isOption(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	}) && s[0] > '9'
}

func isProxy(s string) bool {
	at, err := netip.ParseAddrPort(s)
	return err == nil && at.Port() != 0
}

// proxyOptions name machines that Tor connects to as they are written.
var proxyOptions = map[string]bool{"httpsproxy": true, "socks4proxy": true, "socks5proxy": true}

// CheckBridge says what is wrong with a bridge, nil if nothing is. The error does
// not hold the bridge: whoever knows one can block it.
func CheckBridge(line string) error {
	if err := checkLine(line); err != nil {
		return err
	}
	fields := strings.Fields(line)
	at, err := netip.ParseAddrPort(fields[0])
	switch {
	case err != nil && !strings.ContainsAny(fields[0], ":."):
		return errTransport
	case err != nil || at.Port() == 0 || at.Addr().Zone() != "" || at.Addr().IsUnspecified() || at.Addr().IsMulticast():
		return errors.New("a bridge begins with <address>:<port>")
	case len(fields) > 2:
		return errors.New("a bridge is <address>:<port> and a fingerprint, and nothing more")
	case len(fields) == 2 && !isFingerprint(fields[1]):
		return errors.New("a bridge's fingerprint has 40 hexadecimal digits")
	}
	return nil
}

func isFingerprint(s string) bool {
	raw, err := hex.DecodeString(strings.TrimPrefix(s, "$"))
	return err == nil && len(raw) == 20
}

// checkLine accepts printable ASCII without what torrc would take for more than
// this line: comments, quotes and a backslash at the end.
func checkLine(s string) error {
	switch {
	case strings.TrimSpace(s) == "" || len(s) > maxLine:
		return fmt.Errorf("a line has 1 to %d characters", maxLine)
	case strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' }) || strings.ContainsAny(s, `"#\`):
		return errors.New("a line is plain ASCII without quotes, # and backslashes")
	}
	return nil
}

// check tests the configuration as far as that can be done without Tor.
func (c *Config) check() error {
	bad := func(err error, format string, args ...any) error {
		return &Error{Reason: BadConfig, Detail: fmt.Sprintf(format, args...), Err: err}
	}
	if !filepath.IsAbs(c.Dir) || strings.ContainsFunc(c.Dir, func(r rune) bool { return r <= ' ' || r > '~' }) ||
		strings.ContainsAny(c.Dir, `"#\`) || len(c.socket()) > maxSocket {
		return bad(nil, "the folder %.100q cannot hold its socket", c.Dir)
	}
	if len(c.Bridges) > MaxBridges || len(c.Extra) > MaxExtra {
		return bad(nil, "%d bridges and %d further lines; at most %d and %d", len(c.Bridges), len(c.Extra), MaxBridges, MaxExtra)
	}
	for i, b := range c.Bridges {
		if err := CheckBridge(b); err != nil {
			return bad(err, "bridge %d", i+1)
		}
	}
	for i, line := range c.Extra {
		if err := CheckExtra(line); err != nil {
			return bad(err, "further line %d", i+1)
		}
	}
	return nil
}

// maxSocket is what a socket's address holds (unix(7)), with some to spare.
const maxSocket = 100

// torrc is the configuration, as tor(1) describes it. A client, with one socket
// that lies in a folder nobody else may enter, and nothing that others could use or
// that would stay.
func (c *Config) torrc() []byte {
	lines := []string{
		"DataDirectory " + c.data(),
		"SocksPort unix:" + c.socket() + " IsolateSOCKSAuth",
		"ControlPort 0",
		"ClientOnly 1",
		"AvoidDiskWrites 1",
		"SafeLogging 1",
		"WarnUnsafeSocks 0", // the DHT knows its peers by address
		"Log notice stdout",
	}
	if len(c.Bridges) > 0 {
		lines = append(lines, "UseBridges 1")
	}
	for _, b := range c.Bridges {
		lines = append(lines, "Bridge "+strings.TrimSpace(b))
	}
	for _, line := range c.Extra {
		lines = append(lines, strings.TrimSpace(line))
	}
	return []byte(strings.Join(lines, "\n") + "\n")
}
