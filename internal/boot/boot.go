// Package boot is the only composer of the corridor: network, discover,
// verify, fetch, hand over. Each room takes the previous room's value; nothing
// flows back, and nothing that was not verified can reach the last one, because
// handover takes only files that fetch hashed for a *manifest.Verified.
//
// A bad candidate is skipped inside the search, a bad source inside fetch. Any
// other failure ends Run with one error; what to do about it (show it, wait,
// try again) is the caller's decision. In Local mode alone there is something to
// fall back on, also where a new kernel cannot be loaded: the release that this
// medium booted before.
//
// What is trusted is the root inside the medium, and the roots that follow from
// it. The search looks for those beside the releases, asks for the time where
// there are servers, and judges everything again when one of the two moved.
//
// A captive portal is asked for beside it as well. What is heard of one is only
// ever told to a person, as the likely reason why nothing was found.
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
	"github.com/phasebased/phase/logproof"
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
// The stages are network, time (beside the others, where it is asked for),
// discovery (until the first verified pointer), verify (until its manifest is
// verified), fetch, and hand-over. Each is begun and ended once, with two
// exceptions. When another release takes the place of the one that is being
// fetched, its fetch ends with a note and without an error, and is begun for the
// other; and when none is left, verify is begun once more. In Local mode, fetch
// may follow on a stage that failed: it is that of the last good release. So may
// hand-over then, once.
type Observer interface {
	Begin(stage string)
	End(stage, note string, err error)
	Note(stage, text string)          // a line worth a person's attention
	Skipped(origin string, err error) // a candidate that did not verify
	Progress(p fetch.Progress)
	Fetched(r fetch.Report) // where an artifact came from, or that it did not come
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
	Roots   *Roots                                            // the keys inside the medium, and their successors
	Log     *logproof.Policy                                  // the log that releases must stand in; nil: they need not
	State   *trust.State                                      // nil: this boot keeps no state
	Floor   manifest.Floor                                    // built into the image; the stored one may be higher
	Fetcher *fetch.Fetcher                                    // its Progress is set by Run
	Network func(ctx context.Context) (*netup.Network, error) // brings the network up, or fails in words
	Time    TimeSource                                        // nil: network time is not asked for
	Portal  PortalSource                                      // asked in Internet mode only; nil: captive portals are not looked for
	Info    func(n *netup.Network) handover.Info              // what the next system is told, but for the release; of Documents at most the medium's root; n is nil without a network
	Load    func(handover.Set) (Loaded, error)                // handover.Ladder.Load
	Leave   func() error                                      // last act before the jump: unmount, quiet the devices
	Clock   *Clock                                            // judges dates; learns from signed documents and time servers
	Stages  func() []timeline.Stage                           // the timeline so far
	Observe Observer                                          // never nil

	// Fits finds out, before it is fetched, whether this machine can take a
	// release; see handover.Ladder.
	Fits func(m manifest.Manifest, rootfsInCache bool) error
	// Keep leaves a root file system with a hash tree in the Fetcher's store, where
	// the next system opens it: it can find it there by Info. False: it is loaded.
	Keep bool
	// SetClock is told the time whenever the Clock has moved; nil: nobody is. It
	// must not take time.
	SetClock func(time.Time)
	// Sources are where to look, by mode. What closes them is called once, when
	// nobody uses them any more and before a kernel is loaded.
	Sources func(ctx context.Context, n *netup.Network) Reach
}

// choice is a release that is complete and verified: what the machine is given
// over to.
type choice struct {
	verified        *manifest.Verified
	manifest, proof []byte // its documents, to be kept
	pointer         []byte // that named it; nil if it was remembered
	bases           []string
	files           *files
	kept            bool // it comes from this medium's own memory
}

// Run walks the corridor once. It returns only on failure: success ends this
// kernel. Cancelling ctx ends every stage but the jump itself.
func (c *Corridor) Run(ctx context.Context) error {
	floor := c.floors()
	release, network, err := c.find(ctx, floor)
	if err != nil {
		return err
	}
	defer func() { release.files.Close() }()
	if err := ctx.Err(); err != nil {
		return err
	}
	loaded, err := c.load(network, release)
	if err != nil && c.Config.Mode == bootcfg.Local && !release.kept {
		release.files.Close() // their memory is needed
		if other := c.instead(ctx, release, floor, err); other != nil {
			release = other
			loaded, err = c.load(network, release)
		}
	}
	if err != nil {
		return err
	}
	return c.jump(loaded, release)
}

// find obtains the newest release or, where the mode has it so, the one that
// was booted before.
func (c *Corridor) find(ctx context.Context, floor floors) (*choice, *netup.Network, error) {
	if c.Config.Mode == bootcfg.Local {
		return c.findLocal(ctx, floor)
	}
	network, err := c.network(ctx)
	if err != nil {
		return nil, nil, err
	}
	release, err := c.obtain(ctx, network, &floor)
	return release, network, err
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

// floors are what a release must not be below.
type floors struct {
	stored, builtIn manifest.Floor
	withdrawn       int64 // all releases before it are, by one that was verified now
}

// floors are the one that is remembered and the one built in. One that cannot be
// read is not zero: refusing for ever would strand the machine, so the built-in
// floor holds, and the person is told. The built-in floor also holds for
// releases that were booted before.
func (c *Corridor) floors() floors {
	builtIn := c.Floor
	builtIn.SecurityFloor = max(builtIn.SecurityFloor, builtIn.ManifestVersion)
	stored, err := c.State.Floor(c.want())
	if err != nil {
		c.Observe.Note(timeline.StageVerify, fmt.Sprintf("WARNING: the stored version floor cannot be read (%v); the one built into the image holds", err))
		stored = manifest.Floor{}
	}
	return floors{stored: stored, builtIn: builtIn}
}

// under is the higher one, by what they are worth under a root.
func (f floors) under(root *manifest.Root, channel string) manifest.Floor {
	floor, builtIn := root.EffectiveFloor(channel, f.stored), root.EffectiveFloor(channel, f.builtIn)
	security := max(floor.SecurityFloor, builtIn.SecurityFloor, f.withdrawn)
	if builtIn.ManifestVersion > floor.ManifestVersion {
		floor = builtIn
	}
	floor.SecurityFloor = security
	return floor
}

// judge runs a verification by what is known at this moment, and once more if
// it taught the clock something, which it reports.
func (c *Corridor) judge(floor floors, verify func(v manifest.Verifier, now time.Time) error) (moved bool, err error) {
	root := c.Roots.Newest()
	by := func() (manifest.Verifier, time.Time) {
		reading := c.Clock.Reading()
		return manifest.Verifier{
			Root: root, Log: c.Log, Want: c.want(), Floor: floor.under(root, c.Config.Channel), ClockSource: reading.Source,
		}, reading.Time
	}
	if err = verify(by()); c.Clock.Learn(err) {
		c.clockMoved()
		return true, verify(by())
	}
	return false, err
}

func (c *Corridor) want() manifest.Want {
	return manifest.Want{Channel: c.Config.Channel, Arch: c.Config.Arch}
}

func (c *Corridor) query() discover.Query {
	return discover.Query{Channel: c.Config.Channel, Arch: c.Config.Arch}
}

// obtain finds, verifies and fetches the newest release. When the search turns
// up a newer one while an older is being fetched, or a root or a time by which
// the chosen one is refused, it goes on with the next. Nothing of the search runs
// any more when it returns. If it fails, floor knows what was withdrawn.
func (c *Corridor) obtain(ctx context.Context, network *netup.Network, floor *floors) (*choice, error) {
	c.Observe.Begin(timeline.StageDiscover)
	h := c.startHunt(ctx, network, *floor)
	defer h.stop()
	g, err := c.discover(ctx, h)
	for err == nil {
		var f *files
		f, err = c.fetch(ctx, h, g)
		if err == nil && h.conclude(ctx, g) {
			return h.choice(g, f), nil
		}
		f.Close()
		if err == nil || errors.Is(err, errGaveWay) {
			g, err = c.next(ctx, h, g)
		}
	}
	floor.withdrawn = h.withdrawn()
	return nil, err
}

// discover waits for the first release, through the stages discovery and
// verify.
func (c *Corridor) discover(ctx context.Context, h *hunt) (*group, error) {
	found, err := h.pointer(ctx)
	note := ""
	if err == nil {
		note = found
	}
	c.Observe.End(timeline.StageDiscover, note, err)
	if err != nil {
		return nil, err
	}
	return c.verify(ctx, h)
}

// verify is the stage verify.
func (c *Corridor) verify(ctx context.Context, h *hunt) (*group, error) {
	c.Observe.Begin(timeline.StageVerify)
	g, err := h.release(ctx)
	note := ""
	if err == nil {
		verified, _ := h.verified(g)
		note = signedBy(verified)
	}
	c.Observe.End(timeline.StageVerify, note, err)
	return g, err
}

// signedBy says in one line who stands for a release.
func signedBy(v *manifest.Verified) string {
	text := fmt.Sprintf("release %d, signed by %d keys", v.Manifest().ManifestVersion, len(v.KeyIDs()))
	if logged, ok := v.Logged(); ok {
		text += fmt.Sprintf(", entry %d of %s", logged.Index, logged.Origin)
	}
	return text
}

// next is the release to go on with instead of g.
func (c *Corridor) next(ctx context.Context, h *hunt, g *group) (*group, error) {
	other := h.newest()
	switch {
	case other == nil:
		c.Observe.Note(timeline.StageVerify, fmt.Sprintf("release %d is not accepted any more", g.version))
		return c.verify(ctx, h)
	case other.version > g.version:
		c.Observe.Note(timeline.StageDiscover, fmt.Sprintf("a newer release was found: %d", other.version))
	default:
		c.Observe.Note(timeline.StageVerify, fmt.Sprintf("release %d is not accepted any more; going on with release %d", g.version, other.version))
	}
	return other, nil
}

// load gives the release's kernel to the running one. It begins the stage
// hand-over, which jump ends.
func (c *Corridor) load(network *netup.Network, release *choice) (Loaded, error) {
	c.Observe.Begin(timeline.StageHandover)
	info := c.Info(network)
	info.Bases = release.bases
	if c.Config.Tor.Allow { // the next system would ask them without Tor
		info.Tor, info.Bases, info.Bootstrap = true, nil, nil
	}
	info.ClockState = c.Clock.State().String()
	info.Timeline = c.Stages()
	if d := info.Documents; d != nil {
		d.Manifest, d.Proof, d.Pointer = release.manifest, release.proof, release.pointer
		d.Roots = append(d.Roots, c.Roots.files()...)
	}
	f := release.files
	loaded, err := c.Load(handover.Set{
		Verified: release.verified, Kernel: f.kernel, Initramfs: f.initramfs, Rootfs: f.rootfs, Kept: f.kept,
		Info: info,
	})
	if err != nil {
		c.Observe.End(timeline.StageHandover, "", err)
		return nil, err
	}
	return loaded, nil
}

// jump remembers the release as seen and starts its kernel. It comes after
// loading, because a release that cannot even be loaded must not lock out the one
// before it.
func (c *Corridor) jump(loaded Loaded, release *choice) error {
	err := c.remember(release)
	c.Observe.End(timeline.StageHandover, fmt.Sprintf("release %d", release.verified.Manifest().ManifestVersion), err)
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

// remember raises the stored floor and time and keeps the release's documents.
// A floor that is higher meanwhile ends the boot; a medium that cannot be
// written does not, but the person is told.
func (c *Corridor) remember(release *choice) error {
	v, want := release.verified, c.want()
	err := c.State.SaveFloor(want, v.Floor(), c.Roots.Newest())
	if errors.Is(err, trust.ErrLower) || errors.Is(err, trust.ErrOtherDigest) {
		return err
	}
	if err != nil {
		c.Observe.Note(timeline.StageHandover, fmt.Sprintf("WARNING: the version floor could not be stored, so an older release will not be noticed next time: %v", err))
	}
	// The publisher's offline keys vouch for this time, and for no later one.
	if err := c.State.SaveTime(v.Manifest().CreatedAt); err != nil {
		c.Observe.Note(timeline.StageHandover, fmt.Sprintf("WARNING: the time could not be stored: %v", err))
	}
	if release.kept {
		return nil
	}
	if err := c.State.Tried(want, v.Digest(), release.manifest, release.proof); err != nil {
		c.Observe.Note(timeline.StageHandover, fmt.Sprintf("WARNING: this release cannot be started without a network next time: %v", err))
	}
	return nil
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
