package bootcfg

import (
	"errors"
	"fmt"
	"slices"

	"github.com/phasebased/phase/internal/tor"
)

// The values of Config.Handover.
const (
	HandoverAuto    = "auto"            // whatever this machine can, in the order below
	HandoverFile    = "kexec_file_load" // the kernel takes the new one apart
	HandoverLoad    = "kexec_load"      // this program does
	HandoverRestart = "restart"         // by the firmware, from the medium, which is written to
)

// The values of Config.Overlay.
const (
	OverlayMemory = "memory" // lost when the machine is switched off
	OverlayCache  = "cache"  // on the cache partition
)

const (
	handoverNames = "auto, kexec_file_load, kexec_load, restart"
	overlayNames  = "memory, cache"
	torNames      = "on, off"
)

// Tor is the part of Config for asking through Tor. Who finds Allow set, and
// cannot use Tor, refuses the boot. Then neither time servers nor a proxy are left.
type Tor struct {
	// Allow asks everything through Tor, and nothing beside it.
	Allow bool
	// Bridges are bridge lines, as Tor's option Bridge takes them, at most
	// tor.MaxBridges. Whoever knows one can block it, so they are not shown.
	Bridges []string
	// Extra are further lines of Tor's configuration, at most tor.MaxExtra.
	Extra []string
}

// torPolicy is [tor].
type torPolicy struct {
	Allow   *bool    `toml:"allow"`
	Bridges []string `toml:"bridges"`
	Extra   []string `toml:"extra"`
}

func checkHandover(s string) error {
	switch s {
	case HandoverAuto, HandoverFile, HandoverLoad, HandoverRestart:
		return nil
	}
	return errors.New("unknown way to start the system")
}

func checkOverlay(s string) error {
	if s != OverlayMemory && s != OverlayCache {
		return errors.New("unknown place")
	}
	return nil
}

// parseTor reads phase.tor, and takes what other switches take as well.
func parseTor(s string) (bool, error) {
	switch s {
	case "on":
		return true, nil
	case "off":
		return false, nil
	}
	return parseSwitch(s)
}

// check tests each line of [tor], whether or not this boot will use it: the medium is
// for other boots as well. A refused one is not shown: it may be a bridge.
func (t torPolicy) check(bad refusal) error {
	for _, list := range []struct {
		key   string
		lines []string
		most  int
		check func(string) error
	}{{"tor.bridges", t.Bridges, tor.MaxBridges, tor.CheckBridge}, {"tor.extra", t.Extra, tor.MaxExtra, tor.CheckExtra}} {
		if n := len(list.lines); n > list.most {
			return bad(list.key, fmt.Sprint(n, " entries"), fmt.Sprint("at most ", list.most), nil)
		}
		for i, l := range list.lines {
			if err := list.check(l); err != nil {
				return bad(fmt.Sprintf("%s[%d]", list.key, i), Secret(l).String(), "see docs/tor.md", err)
			}
		}
	}
	return nil
}

func (t torPolicy) apply(c *Tor) {
	if t.Allow != nil {
		c.Allow = *t.Allow
	}
	c.Bridges, c.Extra = t.Bridges, t.Extra
}

// limitStart applies the limits to how the system is started and where it writes.
func limitStart(c *Config) {
	if c.Handover == HandoverRestart && !c.MayWrite() {
		c.warn("handover by restart is not used: it writes to the medium, and nothing may be written")
		c.Handover = HandoverAuto
	}
	if c.Overlay == OverlayCache && !c.Cache {
		c.warn("the overlay is kept in memory: the cache is not used")
		c.Overlay = OverlayMemory
	}
	if c.Mode != Private {
		if c.Tor.Allow {
			c.warn("Tor is not used: only private mode asks through it")
		}
		c.Tor = Tor{}
	}
	if c.Tor.Allow {
		limitToTor(c)
	}
}

// limitToTor drops what cannot go through Tor. It says nothing of the lists that
// nobody asked for.
func limitToTor(c *Config) {
	if len(c.Time.Servers) > 0 || len(c.Time.NTS) > 0 && !slices.Equal(c.Time.NTS, Default(c.Arch).Time.NTS) {
		c.warn("time servers are not used: Tor cannot ask them")
	}
	c.Time = Time{}
	if c.Network.Proxy != "" {
		c.warn("the proxy is not used: Tor finds its own way; behind a proxy, give it to Tor in policy.toml (extra)")
		c.Network.Proxy = ""
	}
}
