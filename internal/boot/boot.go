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
	"errors"
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
	// SearchBudget bounds the whole search, manifests included.
	SearchBudget = 30 * time.Second
	// SettleBudget is how long after its start the search may still hold up
	// a release that is fetched and ready, in case a slower source knows a
	// newer one, or the failure of one that could not be fetched, in case it
	// knows another provider. A DHT with half of its nodes black-holed needs
	// 3.4 s.
	SettleBudget = 5 * time.Second
)

// Observer is told what happens, and nothing after Run has returned. It must be
// safe for concurrent use: the search goes on while artifacts are fetched.
//
// The stages are network, discovery (until the first verified pointer), verify
// (until its manifest is verified), fetch, and hand-over. Each is begun and ended
// once, but for fetch: when a newer release turns up, fetching the older one ends
// with a note and without an error, and is begun for the newer one.
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
	Unload() error  // gives its memory back when there is no jump after all
}

// Corridor holds what the walk needs from outside. All fields are required
// unless they say otherwise; Run may be called again after a failure.
type Corridor struct {
	Config  bootcfg.Config
	Root    *manifest.Root                                    // the keys inside the medium
	Floors  *trust.Floors                                     // nil: this boot keeps no state
	Floor   manifest.Floor                                    // built into the image; the stored one may be higher
	Fetcher *fetch.Fetcher                                    // its Progress is set by Run
	Network func(ctx context.Context) (*netup.Network, error) // brings the network up, or fails in words
	Memory  func() (available int64, err error)               // bytes that can still be used
	Info    func(n *netup.Network) handover.Info              // what the next system is told, but for the release
	Load    func(handover.Set) (Loaded, error)                // handover.Load
	Leave   func() error                                      // last act before the jump: unmount, quiet the devices
	Clock   *Clock                                            // judges dates; learns from signed documents
	Stages  func() []timeline.Stage                           // the timeline so far
	Observe Observer                                          // never nil

	// Sources are where to look, by mode, and what closes them: nil if nothing
	// need be closed. It is called once, when nobody uses them any more and
	// before Run returns or jumps, and may take 3 s.
	Sources func(ctx context.Context, n *netup.Network) (sources []discover.Source, end func())
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
	if err := ctx.Err(); err != nil {
		return err
	}
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

func (c *Corridor) query() discover.Query {
	return discover.Query{Channel: c.Config.Channel, Arch: c.Config.Arch}
}

// obtain finds, verifies and fetches the newest release. When the search turns
// up a newer one while an older is being fetched, it goes on with that. Nothing
// of the search runs any more when it returns.
func (c *Corridor) obtain(ctx context.Context, network *netup.Network, floor manifest.Floor) (*group, *files, error) {
	c.Observe.Begin(timeline.StageDiscover)
	h := c.startHunt(ctx, network, floor)
	defer h.stop()
	release, err := c.verify(ctx, h)
	for err == nil {
		var f *files
		f, err = c.fetch(ctx, h, release)
		if err == nil && !h.superseded(ctx, release) {
			return release, f, nil
		}
		f.Close()
		if err == nil || errors.Is(err, errGaveWay) {
			release, err = h.newest(), nil
			c.Observe.Note(timeline.StageDiscover, fmt.Sprintf("a newer release was found: %d", release.version))
		}
	}
	return nil, nil, err
}

// verify waits for the first release, through the stages discovery and verify.
func (c *Corridor) verify(ctx context.Context, h *hunt) (*group, error) {
	found, err := h.pointer(ctx)
	note := ""
	if err == nil {
		note = found.origin
	}
	c.Observe.End(timeline.StageDiscover, note, err)
	if err != nil {
		return nil, err
	}
	c.Observe.Begin(timeline.StageVerify)
	release, err := h.release(ctx)
	note = ""
	if err == nil {
		note = fmt.Sprintf("release %d, signed by %d keys", release.version, len(release.verified.KeyIDs()))
	}
	c.Observe.End(timeline.StageVerify, note, err)
	return release, err
}

// handOver loads the kernel, and only then remembers the release as seen: a
// release that cannot even be loaded must not lock out the one before it.
func (c *Corridor) handOver(network *netup.Network, release *group, f *files) error {
	c.Observe.Begin(timeline.StageHandover)
	loaded, err := c.load(network, release, f)
	if err != nil {
		c.Observe.End(timeline.StageHandover, "", err)
		return err
	}
	err = c.remember(release)
	c.Observe.End(timeline.StageHandover, fmt.Sprintf("release %d", release.version), err)
	if err == nil {
		err = c.Leave()
	}
	if err == nil {
		err = loaded.Execute()
	}
	if fault := loaded.Unload(); fault != nil { // the next try needs the memory
		c.Observe.Note(timeline.StageHandover, fmt.Sprintf("WARNING: %v", fault))
	}
	return err
}

// remember raises the stored floor. A floor that is higher meanwhile ends the
// boot; a medium that cannot be written does not, but the person is told.
func (c *Corridor) remember(release *group) error {
	if c.Floors == nil {
		return nil
	}
	err := c.Floors.Save(c.want(), release.verified.Floor())
	if errors.Is(err, trust.ErrLower) || errors.Is(err, trust.ErrOtherDigest) {
		return err
	}
	if err != nil {
		c.Observe.Note(timeline.StageHandover, fmt.Sprintf("WARNING: the version floor could not be stored, so an older release will not be noticed next time: %v", err))
	}
	return nil
}

func (c *Corridor) load(network *netup.Network, release *group, f *files) (Loaded, error) {
	info := c.Info(network)
	info.Bases = release.bases()
	info.ClockState = c.Clock.State().String()
	info.Timeline = c.Stages()
	return c.Load(handover.Set{
		Verified: release.verified, Kernel: f.kernel, Initramfs: f.initramfs, Rootfs: f.rootfs,
		Info: info,
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
