// Package boot is the only composer of the corridor: network, discover,
// verify, fetch, hand over. Each room takes the previous room's value; nothing
// flows back, and nothing that was not verified can reach the last one, because
// handover takes only files that fetch hashed for a *manifest.Verified.
//
// A bad candidate is skipped inside the search, a bad source inside fetch. Any
// other failure ends Run with one error; what to do about it (show it, wait,
// try again) is the caller's decision.
package boot

import (
	"context"
	"fmt"
	"time"

	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/handover"
	"github.com/phasebased/phase/internal/netup"
	"github.com/phasebased/phase/internal/timeline"
	"github.com/phasebased/phase/internal/trust"
	"github.com/phasebased/phase/manifest"
)

// Budgets of the search.
const (
	// SearchBudget bounds the whole search when nothing verifies.
	SearchBudget = 30 * time.Second
	// SettleBudget is how long after its start the search may still hold up
	// a release that is fetched and ready, in case a slower source knows a
	// newer one. A DHT with half of its nodes black-holed needs 3.4 s.
	SettleBudget = 5 * time.Second
)

// Observer is told what happens. It must be safe for concurrent use: the
// search goes on while artifacts are fetched.
type Observer interface {
	Begin(stage string)
	End(stage, note string, err error)
	Note(stage, text string)          // a line worth a person's attention
	Skipped(origin string, err error) // a candidate that did not verify
	Progress(p fetch.Progress)
}

// Loaded is a kernel ready to be jumped into.
type Loaded interface {
	Execute() error // returns only when it failed
}

// Corridor holds what the walk needs from outside. All fields are required
// unless they say otherwise; Run may be called again after a failure.
type Corridor struct {
	Config  bootcfg.Config
	Root    *manifest.Root                                                // the keys inside the medium
	Floors  *trust.Floors                                                 // nil: this boot keeps no state
	Floor   manifest.Floor                                                // built into the image; the stored one may be higher
	Fetcher *fetch.Fetcher                                                // its Progress is set by Run
	Network func(ctx context.Context) (*netup.Network, error)             // brings the network up, or fails in words
	Sources func(ctx context.Context, n *netup.Network) []discover.Source // where to look, by mode
	Memory  func() (available int64, err error)                           // bytes that can still be used
	Info    func(n *netup.Network) handover.Info                          // what the next system is told, but for the release
	Load    func(handover.Set) (Loaded, error)                            // handover.Load
	Leave   func() error                                                  // last act before the jump: unmount, quiet the devices
	Clock   *Clock                                                        // judges dates; learns from signed documents
	Stages  func() []timeline.Stage                                       // the timeline so far
	Observe Observer                                                      // never nil
}

// Run walks the corridor once. It returns only on failure: success ends this
// kernel. Cancelling ctx ends every stage but the jump itself.
func (c *Corridor) Run(ctx context.Context) error {
	network, err := c.network(ctx)
	if err != nil {
		return err
	}
	floor, err := c.floor()
	if err != nil {
		return err
	}
	release, files, err := c.obtain(ctx, network, floor)
	if err != nil {
		return err
	}
	defer files.Close()
	return c.handOver(network, release, files)
}

func (c *Corridor) network(ctx context.Context) (*netup.Network, error) {
	c.Observe.Begin(timeline.StageNetwork)
	network, err := c.Network(ctx)
	note := ""
	if err == nil {
		note = describe(network)
	}
	c.Observe.End(timeline.StageNetwork, note, err)
	return network, err
}

// floor is the newest release this medium knows of: the stored one, never
// below the one built in. A state that cannot be read is an error, not zero.
func (c *Corridor) floor() (manifest.Floor, error) {
	if c.Floors == nil {
		return c.Floor, nil
	}
	stored, err := c.Floors.Load(c.want())
	if err != nil {
		// Both slots are damaged. Refusing for ever would strand the machine,
		// so the built-in floor holds, and the person is told.
		c.Observe.Note(timeline.StageVerify, fmt.Sprintf("WARNING: the stored version floor cannot be read (%v); the one built into the image holds", err))
		return c.Floor, nil
	}
	if stored.ManifestVersion < c.Floor.ManifestVersion {
		return c.Floor, nil
	}
	return stored, nil
}

func (c *Corridor) want() manifest.Want {
	return manifest.Want{Channel: c.Config.Channel, Arch: c.Config.Arch}
}

// obtain finds, verifies and fetches the newest release. When the search turns
// up a newer one while an older is being fetched, it starts again with that.
func (c *Corridor) obtain(ctx context.Context, network *netup.Network, floor manifest.Floor) (*candidate, *files, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	hunt := c.startHunt(ctx, network, floor)
	var newest int64
	for {
		release, err := hunt.next(ctx, newest)
		if err != nil {
			return nil, nil, err
		}
		newest = release.version()
		files, err := c.fetch(hunt.untilNewer(ctx, newest), release)
		if hunt.settled(ctx) > newest {
			files.Close()
			c.Observe.Note(timeline.StageDiscover, "a newer release was found")
			continue
		}
		return release, files, err
	}
}

// handOver loads the kernel, and only then remembers the release as seen: a
// release that cannot even be loaded must not lock out the one before it.
func (c *Corridor) handOver(network *netup.Network, r *candidate, f *files) error {
	c.Observe.Begin(timeline.StageHandover)
	loaded, err := c.load(network, r, f)
	if err == nil && c.Floors != nil {
		err = c.Floors.Save(c.want(), r.verified.Floor())
	}
	c.Observe.End(timeline.StageHandover, fmt.Sprintf("release %d", r.version()), err)
	if err != nil {
		return err
	}
	if err := c.Leave(); err != nil {
		return err
	}
	return loaded.Execute()
}

func (c *Corridor) load(network *netup.Network, r *candidate, f *files) (Loaded, error) {
	info := c.Info(network)
	info.Manifest = handover.Manifest{
		Version: r.version(), Digest: r.verified.Digest(), KeyIDs: r.verified.KeyIDs(),
	}
	info.Bases = r.bases
	info.ClockState = c.Clock.State().String()
	info.Timeline = c.Stages()
	return c.Load(handover.Set{
		Verified: r.verified, Kernel: f.kernel, Initramfs: f.initramfs, Rootfs: f.rootfs,
		Cmdline: r.verified.Manifest().Cmdline, Info: info,
	})
}

// describe says in one line how this machine reaches the network.
func describe(n *netup.Network) string {
	for _, link := range n.Interfaces {
		if len(link.Addresses) > 0 {
			return fmt.Sprintf("%s %s", link.Name, link.Addresses[0])
		}
	}
	return "no address"
}
