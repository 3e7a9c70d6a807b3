package bootcfg

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Limits on what is read. Foreign files are refused above them, not cut.
const (
	MaxCommandLine = 8 << 10  // bytes; Linux itself allows 2048 on our architectures
	MaxFile        = 64 << 10 // bytes of policy.toml and of bootstrap-nodes.toml
	MaxProviders   = 16
	MaxGateways    = 8
	MaxBootstrap   = 32
	MaxTimeServers = 4 // with NTS, and without
	MaxInterfaces  = 16
	MaxDNS         = 3 // as many as a resolv.conf can use

	MaxWiFiNetworks = 8
	maxURL          = 2048
)

// Range of Interface.VLAN, where it is given: IEEE 802.1Q keeps 0 and 4095.
const (
	MinVLAN = 1
	MaxVLAN = 4094
)

// Range of Network.Timeout.
const (
	MinTimeout = 5 * time.Second
	MaxTimeout = 10 * time.Minute
)

// Config is everything the corridor needs to know before its first step.
// It is a value; whoever holds it may copy it.
type Config struct {
	// Mode is the promise of this boot; its methods state the limits.
	Mode Mode
	// Channel is "stable", "testing" or "nightly".
	Channel string
	// Arch is the canonical name of the running machine's architecture,
	// "x86_64" or "arm64". It comes from the caller, never from the medium.
	Arch string
	// Cache says that the cache partition is wanted, that the mode allows
	// it, and that writing is allowed.
	Cache bool
	// NoWrite is the person's wish that nothing be written, in any mode. It
	// is always set in Private.
	NoWrite bool
	// Providers are the base URLs given by hand (http or https, no trailing
	// slash). In Local mode only addresses of the local network are left.
	Providers []string
	// Gateways are the base URLs of trustless IPFS gateways (http or https, no
	// trailing slash), which are asked for the artifacts of a verified release.
	// They are set in Internet mode only.
	Gateways []string
	// Bootstrap are the DHT's entry points as multiaddrs ending in
	// /p2p/<peer id>. Their syntax is checked, their ids are not decoded. One of
	// the form /dnsaddr/<name> alone stands for the addresses that are found in
	// the DNS under that name.
	Bootstrap []string
	// MinVersion is the lowest manifest version that may boot; 0: any.
	MinVersion int64
	// Menu is how long a person may choose another mode before the first step; 0:
	// nobody is asked. Media whose boot loader has a menu do without.
	Menu time.Duration
	// Handover is how the verified system is started, one of the Handover
	// constants. HandoverRestart is left only where writing is allowed.
	Handover string
	// Overlay is where the running system keeps what it writes over its root
	// file system, OverlayMemory or OverlayCache. The latter is left only where
	// Cache is set.
	Overlay string
	// Tor is whether everything is asked through Tor. Outside Private it is the
	// zero value.
	Tor Tor
	// Medium is the unique GUID, in lower case, of the seed partition of the medium
	// that was started; "": its boot entry does not say.
	Medium string
	// PolicyDigest is the SHA-256 that policy.toml had to have, "sha256:" and 64
	// digits; "": any.
	PolicyDigest string
	// Network is how the interfaces are configured.
	Network Network
	// Time is who may be asked for the time.
	Time Time
	// Warnings are sentences to show loudly before the first step.
	Warnings []string
}

// Time is the part of Config for the clock. In Local mode only servers that
// are certainly on the local network are left. The zero value asks nobody.
type Time struct {
	// DHCP asks the servers that DHCP names as well.
	DHCP bool
	// Servers answer plain NTP, which anybody on the path can forge. Each is
	// a host or host:port.
	Servers []string
	// NTS answer authenticated NTP (RFC 8915); host or host:port of the key
	// exchange.
	NTS []string
}

// Network is the part of Config for bring-up.
type Network struct {
	// Off leaves every interface but the loopback alone.
	Off bool
	// Timeout is how long to wait for the first usable interface.
	Timeout time.Duration
	// LinkLocal allows an IPv4 link-local address (RFC 3927) on a network
	// without a DHCP server.
	LinkLocal bool
	// Interfaces are the exceptions. Interfaces not named here use DHCP.
	Interfaces []Interface
	// Proxy is through which everything is asked over HTTP that is not on the
	// local network; "" for none. It is never set in Local mode.
	Proxy Proxy
	// PortalCheck is the URL by whose answer a captive portal is told; "": none
	// is looked for. It is set in Internet mode only.
	PortalCheck string
	// KeepMAC keeps the cards' own hardware addresses in Private mode, which
	// otherwise makes up one for each boot.
	KeepMAC bool
	// WiFi is how wireless interfaces join a network.
	WiFi WiFi
}

// Interface is what was said about one network interface. Its fields are
// those of netup.Interface, in the same order, so that one converts to the
// other.
type Interface struct {
	// Name is the kernel's name, such as "eth0"; "" matches any.
	Name string
	// MAC is the hardware address in lower-case hex with colons; "" matches
	// any. With neither name nor MAC the entry belongs to the first
	// interface that has a carrier.
	MAC string
	// VLAN is the tag (IEEE 802.1Q) of the network that this entry is about,
	// MinVLAN to MaxVLAN; 0: the one without a tag.
	VLAN int
	// Off leaves the interface alone.
	Off bool
	// Address is the static address and prefix length; the zero value asks
	// for DHCP.
	Address netip.Prefix
	// Gateway is the default router, if any; same family as Address.
	Gateway netip.Addr
	// DNS are the name servers that go with Address.
	DNS []netip.Addr
}

// MayWrite reports whether anything may be written, by the mode and by the
// person's wish.
func (c Config) MayWrite() bool { return !c.NoWrite && c.Mode.MayWrite() }

// Default returns what applies where neither the command line nor a file
// says anything. media/policy.toml spells out the same values.
func Default(arch string) Config {
	return Config{
		Mode:    Internet,
		Channel: "stable",
		Arch:    arch,
		Cache:   true,

		Handover: HandoverAuto,
		Overlay:  OverlayMemory,

		Network: Network{Timeout: 60 * time.Second, LinkLocal: true, PortalCheck: "http://network-test.debian.org/nm"},
		Time:    Time{DHCP: true, NTS: []string{"time.cloudflare.com", "nts.netnod.se", "ptbtime1.ptb.de"}},
	}
}

// Parse reads the kernel command line, policy.toml and
// bootstrap-nodes.toml. A file that does not exist is passed as nil. arch
// is the canonical architecture of the running machine.
//
// Errors are of type *Error and name the key, its value and what is
// allowed. There is one exception: an unknown mode gives Private's limits
// and a warning, because a machine that boots too carefully is better than
// one that does not boot.
func Parse(cmdline string, policyTOML, bootstrapTOML []byte, arch string) (Config, error) {
	s, err := read(cmdline, policyTOML, bootstrapTOML, arch)
	if err != nil {
		return Config{}, err
	}
	return s.config(arch), nil
}

// said is what the three inputs ask for.
type said struct {
	line      line
	policy    policy
	bootstrap []string
}

func read(cmdline string, policyTOML, bootstrapTOML []byte, arch string) (s said, err error) {
	if arch != "x86_64" && arch != "arm64" {
		return s, &Error{Kind: BadArch, Source: "architecture", Value: arch, Allowed: "x86_64, arm64"}
	}
	if s.line, err = parseLine(cmdline); err != nil {
		return s, err
	}
	if err = s.line.checkPolicy(policyTOML); err != nil {
		return s, err
	}
	if s.policy, err = parsePolicy(policyTOML); err != nil {
		return s, err
	}
	s.bootstrap, err = parseBootstrap(bootstrapTOML)
	return s, err
}

// wishes are the defaults, the policy and the line, one over the other.
func (s said) wishes(arch string) Config {
	c := Default(arch)
	c.Bootstrap = s.bootstrap
	s.policy.apply(&c)
	s.line.apply(&c)
	return c
}

// config is what the mode's limits leave of the wishes.
func (s said) config(arch string) Config {
	c := s.wishes(arch)
	combine(&c)
	s.line.explain(&c)
	return c
}

// combine applies the mode's limits to the wishes. It only ever forbids.
func combine(c *Config) {
	c.NoWrite = c.NoWrite || !c.Mode.MayWrite()
	// Even a read-only mount of ext4 may replay its journal.
	c.Cache = c.Cache && !c.NoWrite && c.Mode.MayUseCache()
	if !c.Mode.MayUseWAN() {
		c.keepLocalProviders()
		c.keepLocalTimeServers()
		if c.Network.Proxy != "" {
			c.warn("the proxy is not used: %s mode stays on the local network", c.Mode)
			c.Network.Proxy = ""
		}
	}
	if c.Mode != Internet {
		c.Network.PortalCheck = ""
		c.dropGateways()
	}
	limitStart(c)
}

// keepLocalProviders drops every provider that is not certainly on the
// local network, and says so.
func (c *Config) keepLocalProviders() {
	var kept []string
	for _, p := range c.Providers {
		if isLocalURL(p) {
			kept = append(kept, p)
			continue
		}
		c.warn("provider %s is not used: %s mode stays on the local network", quote(p), c.Mode)
	}
	c.Providers = kept
}

// dropGateways lets nobody hear of a boot who is not needed for it.
func (c *Config) dropGateways() {
	if len(c.Gateways) > 0 {
		c.warn("gateways are not used: %s mode asks none", c.Mode)
	}
	c.Gateways = nil
}

// keepLocalTimeServers does the same with time servers. It says nothing of the
// list that nobody asked for.
func (c *Config) keepLocalTimeServers() {
	if slices.Equal(c.Time.NTS, Default(c.Arch).Time.NTS) {
		c.Time.NTS = nil
	}
	for _, list := range []*[]string{&c.Time.Servers, &c.Time.NTS} {
		var kept []string
		for _, s := range *list {
			if isLocalHost(timeHost(s)) {
				kept = append(kept, s)
				continue
			}
			c.warn("time server %s is not used: %s mode stays on the local network", quote(s), c.Mode)
		}
		*list = kept
	}
}

// setMode takes a mode by name, and the strictest one for a name it does
// not know.
func (c *Config) setMode(name, source string) {
	mode, err := ParseMode(name)
	if err != nil {
		c.warn("%s: %s is not a mode (internet, local, private); booting with the limits of private mode", source, quote(name))
	}
	c.Mode = mode
}

func (c *Config) warn(format string, args ...any) {
	c.Warnings = append(c.Warnings, fmt.Sprintf(format, args...))
}
