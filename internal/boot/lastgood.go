package boot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/phasebased/phase/internal/netup"
	"github.com/phasebased/phase/internal/timeline"
	"github.com/phasebased/phase/internal/trust"
	"github.com/phasebased/phase/manifest"
)

const (
	// localNetwork is how long Local mode waits for a network when there is a
	// release to start without one.
	localNetwork = 15 * time.Second
	// missingLimit bounds the attempt to get an artifact of the last good
	// release that the cache has lost from one source.
	missingLimit = 10 * time.Second
)

// findLocal is find for Local mode, which may be without a network. A release
// that the local network offers is verified and preferred as in every mode.
// Where there is none, the one that this medium booted before is started: it
// may have expired, which the person is told, but it may not be older than any
// security floor that was accepted since, nor one of a release that was verified
// just now and could not be had.
func (c *Corridor) findLocal(ctx context.Context, floor floors) (*choice, *netup.Network, error) {
	kept, err := c.State.LastGood(c.want())
	if err != nil {
		c.Observe.Note(timeline.StageVerify, fmt.Sprintf("WARNING: %v", err))
	}
	network, err := c.localNetwork(ctx, len(kept) > 0)
	var release *choice
	if err == nil {
		release, err = c.obtain(ctx, network, &floor)
	}
	if err != nil && len(kept) > 0 && ctx.Err() == nil {
		release, err = c.lastGood(ctx, kept, floor, err)
	}
	return release, network, err
}

// instead is a kept release to start where the kernel of a new one could not be
// loaded, nil if there is none. What the new one withdrew stays withdrawn. failure
// is why it could not be loaded.
func (c *Corridor) instead(ctx context.Context, release *choice, floor floors, failure error) *choice {
	kept, _ := c.State.LastGood(c.want()) // what is wrong with it was said
	kept = slices.DeleteFunc(kept, func(k trust.Release) bool { return k.Payload == release.verified.Digest() })
	floor.withdrawn = release.verified.Floor().SecurityFloor
	failure = fmt.Errorf("release %d: %w", release.verified.Manifest().ManifestVersion, failure)
	other, err := c.lastGood(ctx, kept, floor, failure)
	if err != nil {
		return nil // each reason was said
	}
	return other
}

func (c *Corridor) localNetwork(ctx context.Context, optional bool) (*netup.Network, error) {
	if optional {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, localNetwork)
		defer cancel()
	}
	return c.network(ctx)
}

// lastGood is the first of the kept releases that verifies and is complete.
// online is why there is no other.
func (c *Corridor) lastGood(ctx context.Context, kept []trust.Release, floor floors, online error) (*choice, error) {
	failure := &LastGoodError{Online: online}
	for _, k := range kept {
		release, err := c.revive(ctx, k, floor, online)
		if err == nil {
			return release, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		c.Observe.Note(timeline.StageVerify, fmt.Sprintf("A release that was booted before cannot be started: %v", err))
		failure.Kept = append(failure.Kept, err)
	}
	return nil, failure
}

// revive verifies a kept release and gets its artifacts out of the cache.
func (c *Corridor) revive(ctx context.Context, k trust.Release, floor floors, online error) (*choice, error) {
	verify := func() (v *manifest.Verified, err error) {
		_, err = c.judge(floor, func(by manifest.Verifier, now time.Time) (err error) {
			v, err = by.LastGood(k.Manifest, k.Proof, now)
			return err
		})
		return v, err
	}
	verified, err := verify()
	if err != nil {
		return nil, err
	}
	c.announce(verified, k.Confirmed, online)
	f, err := c.fetchStage(verified.Manifest(), func(f *files) error {
		c.pin(verified.Manifest(), k.Manifest)
		fetcher := *c.Fetcher
		fetcher.Retries, fetcher.Timeout = 1, missingLimit
		fetcher.Progress = c.progress("cache", verified.Manifest(), f)
		fetcher.Report = c.Observe.Fetched
		return c.fetchAll(ctx, fetcher, verified, nil, f)
	})
	if err != nil {
		return nil, err
	}
	if verified, err = verify(); err != nil { // time has passed
		f.Close()
		return nil, err
	}
	return &choice{verified: verified, manifest: k.Manifest, proof: k.Proof, files: f, kept: true}, nil
}

// announce tells the person what is going to be started, and why.
func (c *Corridor) announce(v *manifest.Verified, confirmed bool, online error) {
	version := v.Manifest().ManifestVersion
	note := fmt.Sprintf("No current release can be started (%v). Going back to release %d, which this medium booted before.", online, version)
	if !confirmed {
		note += " Its system never said that it came up."
	}
	c.Observe.Note(timeline.StageVerify, note)
	object, since, stale := v.Stale()
	if !stale {
		return
	}
	if object == "root" {
		object = fmt.Sprintf("root %d, which release %d rests on,", c.Roots.Newest().Version(), version)
	} else {
		object = fmt.Sprintf("the %s of release %d", object, version)
	}
	c.Observe.Note(timeline.StageVerify, fmt.Sprintf("WARNING: %s expired at %s; the clock says %s. Local mode starts it all the same.",
		object, since.UTC().Format(time.RFC3339), c.Clock.Reading()))
}

// LastGoodError says that neither a current release was found nor the one that
// was booted before could be started. It speaks with the text, code and hint of
// what tells more: that a kept release is refused, or else why none was found.
type LastGoodError struct {
	Kept   []error // why each kept release was not started, the best one first; at least one
	Online error   // why no current release was found
}

func (e *LastGoodError) Error() string {
	if refused := e.refused(); refused != nil {
		return fmt.Sprintf("%v (the release that was booted before; no current one was found: %v)", refused, e.Online)
	}
	return fmt.Sprintf("%v; and the release that was booted before cannot be started: %v", e.Online, e.Kept[0])
}

// Unwrap gives the causes, the most telling first.
func (e *LastGoodError) Unwrap() []error {
	if e.refused() != nil {
		return append(append([]error{}, e.Kept...), e.Online)
	}
	return append([]error{e.Online}, e.Kept...)
}

// refused is the first verifier's refusal of a kept release, or nil.
func (e *LastGoodError) refused() error {
	for _, err := range e.Kept {
		var refused *manifest.Error
		if errors.As(err, &refused) {
			return refused
		}
	}
	return nil
}

// Code is that of the most telling cause.
func (e *LastGoodError) Code() string {
	var coded interface{ Code() string }
	for _, err := range append([]error{e.refused()}, e.Unwrap()...) {
		if err != nil && errors.As(err, &coded) {
			return coded.Code()
		}
	}
	return "BOOT-011"
}

// Hint says what to do next.
func (e *LastGoodError) Hint() string {
	var hinted interface{ Hint() string }
	for _, err := range append([]error{e.refused()}, e.Unwrap()...) {
		if err != nil && errors.As(err, &hinted) {
			return hinted.Hint()
		}
	}
	return "Bring this machine to a network that has a provider."
}
