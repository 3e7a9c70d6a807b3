package bootcfg

import (
	"fmt"
	"strings"
)

// Mode is the promise a boot makes to the person in front of the machine.
//
// The zero value is Private, the strictest, and a value out of range has
// Private's limits: forgetting to set a mode can only forbid too much.
type Mode uint8

// The modes, strictest first.
const (
	Private  Mode = iota // nothing is written, one identity per boot
	Local                // the wide area network is never contacted
	Internet             // everything is allowed
)

// limit is one row of the mode table.
type limit struct {
	name            string
	networkRequired bool // no network is a failure, not a smaller boot
	wan             bool // hosts outside the local network may be contacted
	lan             bool // local discovery (mDNS) may ask and announce
	dht             bool // the DHT may be searched
	cache           bool // the cache partition may be mounted
	write           bool // anything may be written to a disk or to firmware
	keepIdentity    bool // the node key may survive this boot
}

// row returns the limits of m: the whole table of modes, in one place.
func (m Mode) row() limit {
	switch m {
	case Internet:
		return limit{name: "internet", networkRequired: true, wan: true, lan: true, dht: true, cache: true, write: true, keepIdentity: true}
	case Local:
		return limit{name: "local", lan: true, cache: true, write: true, keepIdentity: true}
	default:
		return limit{name: "private", networkRequired: true, wan: true, dht: true}
	}
}

// String returns the name used on the kernel command line.
func (m Mode) String() string { return m.row().name }

// Title returns the name as the boot menu shows it.
func (m Mode) Title() string {
	name := m.row().name
	return strings.ToUpper(name[:1]) + name[1:] + " Mode"
}

// NetworkRequired reports whether a boot without network has failed. Local
// boots may go on from the cache.
func (m Mode) NetworkRequired() bool { return m.row().networkRequired }

// MayUseWAN reports whether hosts outside the local network may be
// contacted at all.
func (m Mode) MayUseWAN() bool { return m.row().wan }

// MayUseLAN reports whether local discovery may ask and announce. Private
// boots stay silent on the local network.
func (m Mode) MayUseLAN() bool { return m.row().lan }

// MayUseDHT reports whether the DHT may be searched.
func (m Mode) MayUseDHT() bool { return m.row().dht }

// MayUseCache reports whether the cache partition may be mounted, even
// read-only. Config.Cache says whether it is wanted as well.
func (m Mode) MayUseCache() bool { return m.row().cache }

// MayWrite reports whether anything may be written to a disk or to
// firmware variables. Config.MayWrite adds the person's own wish.
func (m Mode) MayWrite() bool { return m.row().write }

// PersistentIdentity reports whether the node key may be kept for the next
// boot.
func (m Mode) PersistentIdentity() bool { return m.row().keepIdentity }

// ParseMode accepts exactly the three names. On error the mode is Private.
func ParseMode(s string) (Mode, error) {
	for m := Private; m <= Internet; m++ {
		if s == m.String() {
			return m, nil
		}
	}
	return Private, fmt.Errorf("unknown mode %s", quote(s))
}
