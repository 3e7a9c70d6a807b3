package netup

import (
	"net/netip"
	"time"
)

// Defaults of Config, and bounds on what is kept.
const (
	DefaultTimeout       = 60 * time.Second // a switch with spanning tree forwards after 30 to 50 s
	DefaultAppear        = 10 * time.Second // drivers are loaded in parallel with the bring-up
	DefaultFallbackAfter = 10 * time.Second // DHCP servers that check for conflicts answer within 3 s
	DefaultRemindAfter   = 3 * time.Second  // most networks are up by then
	weakGrace            = 3 * time.Second  // how long a network without a router waits for a better one
	claimLife            = time.Minute      // how long after the start Config.Claims count

	maxLinks     = 32
	maxAddresses = 16 // per interface
	maxDNS       = 3  // per interface and in all: what a resolv.conf can use
	maxNTP       = 4  // per interface and in all
	maxRoutes    = 32 // per lease
	maxLeased6   = 4  // IPv6 addresses of a lease
	maxSearch    = 6  // search domains, per interface and in all
	maxDomain    = 200
)

// Config is what to bring up and how long to try. The zero value brings up
// every Ethernet interface by DHCP and writes no file.
type Config struct {
	// Off leaves every interface but the loopback alone.
	Off bool
	// Interfaces are the exceptions; interfaces not matched use DHCP.
	Interfaces []Interface
	// Timeout is how long Wait tries; 0: DefaultTimeout.
	Timeout time.Duration
	// Appear is how long Wait lets the first interface take to show up; 0:
	// DefaultAppear. Interfaces that come later are still used by Run.
	Appear time.Duration
	// FallbackAfter is how long DHCP may stay unanswered before IPv6
	// autoconfiguration alone, or a link-local address, is good enough; 0:
	// DefaultFallbackAfter. DHCP goes on being tried.
	FallbackAfter time.Duration
	// RemindAfter is how long Wait waits until it reports what it waits for, on
	// each interface, as Waiting; again after twice the time, and so on. 0:
	// DefaultRemindAfter.
	RemindAfter time.Duration
	// LinkLocal allows an IPv4 link-local address when nobody answers DHCP.
	LinkLocal bool
	// Claims are the link-local addresses that this machine held a moment ago,
	// under an earlier kernel: nobody answered DHCP there. Such an address is
	// claimed again at once instead of after FallbackAfter, with DHCP asked beside.
	Claims []Claim
	// Private draws the link-local addresses anew at every boot, so that the
	// machine is not known again by them.
	Private bool
	// RandomMAC gives every card a fresh hardware address before its link is set
	// up. A card whose driver refuses is not used. Interfaces are still matched
	// by the card's own address.
	RandomMAC bool
	// Hostname is sent to the DHCP server (option 12); "" sends none.
	Hostname string
	// ResolvConf is the path of the resolv.conf to keep up to date, usually
	// /etc/resolv.conf; "" writes none.
	ResolvConf string
	// LoadModule loads a kernel module by name, where the kernel does not do
	// so itself; nil: nobody does. It is asked for 8021q when a VLAN is needed.
	LoadModule func(name string) error
	// Report receives what happens, one call at a time, in order for each
	// interface; nil: nobody listens. It must not block for long.
	Report func(Event)
}

// Interface is an exception from plain DHCP.
type Interface struct {
	// Name is the kernel's name of the interface; "" matches any.
	Name string
	// MAC is the hardware address in lower-case hex with colons; "" matches
	// any. With neither name nor MAC the entry belongs to the first
	// interface that has a carrier and is not named by another entry.
	MAC string
	// VLAN is the tag (1 to 4094, IEEE 802.1Q) of the network that this entry
	// is about; 0: the one without a tag. An interface that only entries with
	// a tag name, or take, is not used without one.
	VLAN int
	// Off leaves the interface alone.
	Off bool
	// Address is the static address; the zero value asks for DHCP.
	Address netip.Prefix
	// Gateway is the default router, if any.
	Gateway netip.Addr
	// DNS are the name servers that go with Address; at most three.
	DNS []netip.Addr
}

// A Claim is a link-local address of an interface.
type Claim struct {
	MAC     string // as in Link
	VLAN    int
	Address netip.Addr
}

func (i Interface) named() bool { return i.Name != "" || i.MAC != "" }

func (i Interface) matches(name, mac string) bool {
	return i.named() && (i.Name == "" || i.Name == name) && (i.MAC == "" || i.MAC == mac)
}

func (c Config) withDefaults() Config {
	if c.Timeout <= 0 {
		c.Timeout = DefaultTimeout
	}
	if c.Appear <= 0 {
		c.Appear = DefaultAppear
	}
	if c.FallbackAfter <= 0 {
		c.FallbackAfter = DefaultFallbackAfter
	}
	if c.RemindAfter <= 0 {
		c.RemindAfter = DefaultRemindAfter
	}
	if c.Report == nil {
		c.Report = func(Event) {}
	}
	return c
}
