package vm_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/manifest"
)

// succession is a chain of three reigns: the lab's own, one with other root keys,
// and one with other keys for manifests and pointers.
func (b *bench) succession() []lab.Reign {
	b.Helper()
	chain := []lab.Reign{b.lab.First()}
	for _, roles := range [][]manifest.Role{{manifest.RoleRoot}, {manifest.RoleTargets, manifest.RoleTimestamp}} {
		next, err := chain[len(chain)-1].Successor(roles...)
		if err != nil {
			b.Fatal(err)
		}
		chain = append(chain, next)
	}
	return chain
}

// under returns what publishes a release under the newest of the given roots,
// which are all that lies beside it.
func under(chain ...lab.Reign) func(*release.Published) error {
	newest := chain[len(chain)-1]
	root, err := manifest.ParseRoot(newest.Root)
	return func(p *release.Published) error {
		if err != nil {
			return err
		}
		if err := lab.Crown(p, chain...); err != nil {
			return err
		}
		return lab.Resign(p, lab.Resigning{
			Pointer: func(p *manifest.Pointer) { p.RootVersion = root.Version() },
			Targets: newest.Keys.Targets[:2], Timestamp: newest.Keys.Timestamp,
		})
	}
}

// TestOldMediumAfterRotation boots a medium whose keys for manifests and pointers
// were replaced since it was made, and the root's own before that. From then on
// it knows the new keys, also where nobody offers the chain any more, and nothing
// that the replaced keys sign boots again.
func TestOldMediumAfterRotation(t *testing.T) {
	t.Parallel()
	b := setup(t)
	chain := b.succession()
	b.offer(b.release(1), under(chain...))
	outcome, console := b.boot(lab.BootOptions{})
	b.verified(outcome, console)
	b.shows(console, "version 3 holds from now on")

	// Another release, and no root beside it that the medium could climb by.
	b.replace(b.release(2), func(p *release.Published) error {
		if err := under(chain...)(p); err != nil {
			return err
		}
		return withhold(p, 2, 3)
	})
	outcome, console = b.boot(lab.BootOptions{})
	b.verified(outcome, console)

	b.replace(b.release(3), under(chain[0]))
	outcome, console = b.boot(lab.BootOptions{})
	b.refused(outcome, console, codeSignature, "FATAL: Pointer signature verification failed")
}

// withhold removes roots by their versions.
func withhold(p *release.Published, versions ...int) error {
	for _, version := range versions {
		if err := os.Remove(filepath.Join(p.Dir, strconv.Itoa(version)+".root.json")); err != nil {
			return err
		}
	}
	return nil
}

// TestRevokedKeys boots media that have seen nothing newer than their own root.
// Thieves of replaced keys cannot make them boot where the chain is to be had.
func TestRevokedKeys(t *testing.T) {
	t.Parallel()
	b := setup(t)
	chain := b.succession()
	b.offer(b.release(1), func(p *release.Published) error {
		if err := under(chain[0])(p); err != nil {
			return err
		}
		return lab.Crown(p, chain...)
	})
	outcome, console := b.boot(lab.BootOptions{})
	b.refused(outcome, console, codeSignature, "FATAL: Pointer signature verification failed")
}

// TestThiefBesidePublisher lets a thief of replaced keys offer a newer release
// than the publisher, and hide the roots: one honest place is enough to boot the
// publisher's.
func TestThiefBesidePublisher(t *testing.T) {
	t.Parallel()
	b := setup(t)
	chain := b.succession()
	thief, err := newListener()
	if err != nil {
		t.Fatal(err)
	}
	stolen := b.release(9)
	stolen.Bases = []string{"http://" + lab.GuestHost + ":" + thief.port}
	folder := filepath.Join(b.run, "stolen")
	if _, err := b.lab.Publish(folder, stolen, ""); err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.FileServer(http.Dir(folder))}
	go server.Serve(thief) // ends with Close
	t.Cleanup(func() { server.Close() })

	b.publish(b.release(2), "")
	if err := under(chain...)(b.published); err != nil {
		t.Fatal(err)
	}
	b.serve()
	b.medium(lab.ImageOptions{Options: "phase.provider=" + stolen.Bases[0] + " phase.provider=" + b.ports.Base()})
	outcome, console := b.boot(lab.BootOptions{})
	b.verified(outcome, console)
	b.shows(console, "version 3 holds from now on")
}

// TestWithheldRoots is a provider that has the current pointer and hides the
// roots that it was made under, so that a medium would believe keys that were
// replaced: it must not.
func TestWithheldRoots(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first := b.lab.First()
	b.offer(b.release(1), func(p *release.Published) error {
		return lab.Resign(p, lab.Resigning{
			Pointer: func(p *manifest.Pointer) { p.RootVersion = 3 },
			Targets: first.Keys.Targets[:2], Timestamp: first.Keys.Timestamp,
		})
	})
	outcome, console := b.boot(lab.BootOptions{})
	b.refused(outcome, console, codeRootVersion, "FATAL: pointer refused (root-version)")
	b.says(outcome, "root version 3", "version 1")
}
