package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/mdns"
	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/manifest"
)

// TestServeFollowsTheFolder renews the pointer and rotates its key under a
// provider that serves, and asks the DHT as a seed does.
func TestServeFollowsTheFolder(t *testing.T) {
	w := newSite(t)
	first := w.pointer(1, w.keys.Timestamp, 24*time.Hour)
	w.write("root.json", w.root)
	w.write("pointer.json", first)
	w.serve()
	w.await("at the start", first)

	renewed := w.pointer(1, w.keys.Timestamp, 48*time.Hour)
	w.write("pointer.json", renewed)
	w.await("after the pointer was renewed", renewed)

	// What is no use displaces nothing, and ends nothing.
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	w.write("pointer.json", w.pointer(1, stranger, 72*time.Hour))
	w.awaitLog("not published on the DHT")
	w.write("root.json", []byte("half a ro"))
	w.awaitLog("the new root.json is not used")
	w.await("after rubbish", renewed)

	// The pointer comes before the root that it needs.
	root, timestamp := w.rotate()
	rotated := w.pointer(2, timestamp, 24*time.Hour)
	w.write("pointer.json", rotated)
	w.awaitLog("VFY-004")
	w.write("root.json", root)
	w.await("after the rotation", rotated)

	// Going back to a root before is not believed.
	w.write("root.json", w.root)
	w.awaitLog("it is older")
	w.await("after an old root", rotated)
}

// TestServeStartsWithoutARoot takes the documents that come later.
func TestServeStartsWithoutARoot(t *testing.T) {
	w := newSite(t)
	w.serve()
	w.awaitLog("not published on the DHT")
	pointer := w.pointer(1, w.keys.Timestamp, 24*time.Hour)
	w.write("pointer.json", pointer)
	w.awaitLog("there is no root.json beside the pointer")
	w.write("root.json", w.root)
	w.await("once both are there", pointer)
}

// TestServeSaysTheNewVersion: the local network hears of a new release, and
// nothing where only the pointer was renewed.
func TestServeSaysTheNewVersion(t *testing.T) {
	w := newSite(t)
	w.write("root.json", w.root)
	w.write("pointer.json", w.pointer(1, w.keys.Timestamp, 24*time.Hour))
	w.serve()
	w.awaitLog("version=7")
	w.write("pointer.json", w.pointer(1, w.keys.Timestamp, 48*time.Hour))
	w.awaitLog("published on the DHT")
	w.version = 8
	w.write("pointer.json", w.pointer(1, w.keys.Timestamp, 48*time.Hour))
	w.awaitLog("version=8")
	if got := strings.Count(w.log.String(), "announced on the local network"); got != 2 {
		t.Errorf("announced %d times:\n%s", got, w.log.String())
	}
	if spoken, silenced := w.voices.spoken.Load(), w.voices.silenced.Load(); spoken != 2 || silenced != 1 {
		t.Errorf("%d announcements, %d taken back", spoken, silenced)
	}
}

// TestNetworkThatComesLater: without a network there is nobody to tell, until a
// cable is plugged in. Neighbours are told of the DHT node as well.
func TestNetworkThatComesLater(t *testing.T) {
	w := newSite(t)
	w.voices.deaf.Store(2)
	w.write("root.json", w.root)
	w.write("pointer.json", w.pointer(1, w.keys.Timestamp, 24*time.Hour))
	w.serve()
	w.awaitLog("not announced on the local network")
	w.awaitLog("announced on the local network\" instance")
	if got := w.voices.p2p.Load(); got == nil || len(*got) == 0 {
		t.Error("neighbours cannot join the DHT")
	}
	if got := strings.Count(w.log.String(), "not announced"); got != 1 {
		t.Errorf("told %d times that there is no network:\n%s", got, w.log.String())
	}
}

// voices stands for the local network.
type voices struct {
	spoken, silenced atomic.Int64
	deaf             atomic.Int64 // so many times there is no network
	p2p              atomic.Pointer[[]string]
}

func (v *voices) speak(a mdns.Announcement) (announcer, error) {
	if v.deaf.Add(-1) >= 0 {
		return nil, mdns.ErrNoLink
	}
	v.spoken.Add(1)
	v.p2p.Store(&a.P2P)
	return v, nil
}

func (v *voices) Announced() mdns.Announced { return mdns.Announced{} }

func (v *voices) Close() error {
	v.silenced.Add(1)
	return nil
}

// site is a published folder, its provider, and somebody who asks.
type site struct {
	*testing.T
	dir, ready string
	keys       *release.Keys
	root       []byte
	version    int64 // of the manifest that pointers name
	log        logBuffer
	voices     voices
	asker      *p2p.Node
}

func newSite(t *testing.T) *site {
	w := &site{T: t, version: 7, dir: t.TempDir(), ready: filepath.Join(t.TempDir(), "ready.json")}
	var err error
	if w.keys, err = release.NewKeys(); err != nil {
		t.Fatal(err)
	}
	if w.root, err = w.keys.RootFile(time.Now().AddDate(1, 0, 0)); err != nil {
		t.Fatal(err)
	}
	return w
}

// serve runs plasmd serve until the test ends, and returns what it said first.
func (w *site) serve() (ready readyFile) {
	w.Helper()
	f := &serveFlags{
		artifacts: w.dir, channel: "stable", arch: "x86_64", bind: "127.0.0.1", speak: w.voices.speak, ephemeral: true,
		state: w.TempDir(), readyFor: w.ready, lookEvery: 10 * time.Millisecond,
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.serve(ctx, slog.New(slog.NewTextHandler(&w.log, nil))) }()
	w.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			w.Errorf("serve: %v", err)
		}
	})
	w.until("the provider is ready", func() bool {
		raw, err := os.ReadFile(w.ready)
		return err == nil && json.Unmarshal(raw, &ready) == nil
	})
	var err error
	if w.asker, err = p2p.New(p2p.Config{Bootstrap: ready.P2PAddrs}); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = w.asker.Close() })
	return ready
}

func (w *site) write(name string, data []byte) {
	w.Helper()
	folder := filepath.Join(w.dir, "stable", "x86_64")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		w.Fatal(err)
	}
	// At once: a look at half of a document is another story.
	if err := durable.WriteFile(filepath.Join(folder, name), data, 0o644); err != nil {
		w.Fatal(err)
	}
}

func (w *site) pointer(root int64, key ed25519.PrivateKey, life time.Duration) []byte {
	w.Helper()
	now := time.Now().UTC().Truncate(time.Second)
	raw, err := manifest.SignPointer(manifest.Pointer{
		Channel: "stable", Arch: "x86_64", ManifestVersion: w.version, ManifestHash: blob.Of([]byte("m")), ManifestSize: 1,
		RootVersion: root, CreatedAt: now, ExpiresAt: now.Add(life),
	}, key)
	if err != nil {
		w.Fatal(err)
	}
	return raw
}

// rotate returns the next root, with another timestamp key.
func (w *site) rotate() (root []byte, timestamp ed25519.PrivateKey) {
	w.Helper()
	trusted, err := manifest.ParseRoot(w.root)
	if err != nil {
		w.Fatal(err)
	}
	spec, err := trusted.Spec()
	if err != nil {
		w.Fatal(err)
	}
	public, timestamp, err := ed25519.GenerateKey(nil)
	if err != nil {
		w.Fatal(err)
	}
	spec.Version++
	spec.Roles[manifest.RoleTimestamp] = manifest.RoleKeys{Keys: []ed25519.PublicKey{public}, Threshold: 1}
	if root, err = manifest.NewRoot(spec, w.keys.Root[:]...); err != nil {
		w.Fatal(err)
	}
	return root, timestamp
}

// await asks the DHT until it gives this pointer and no other.
func (w *site) await(when string, pointer []byte) {
	w.Helper()
	w.until("the DHT gives the pointer "+when, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		var found [][]byte
		_ = w.asker.Search(ctx, discover.Query{Channel: "stable", Arch: "x86_64"}, func(c discover.Candidate) {
			found = append(found, c.Pointer)
		})
		return len(found) == 1 && bytes.Equal(found[0], pointer)
	})
}

func (w *site) awaitLog(text string) {
	w.Helper()
	w.until("the log says "+text, func() bool { return w.log.take(text) })
}

func (w *site) until(what string, ok func() bool) {
	w.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.Fatalf("never happened: %s\n%s", what, w.log.String())
		}
	}
}

// logBuffer is a log that can be read meanwhile.
type logBuffer struct {
	mu   sync.Mutex
	all  bytes.Buffer
	read int // up to where take has looked
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

// take reports whether text was logged since the text that was taken last.
func (b *logBuffer) take(text string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := bytes.Index(b.all.Bytes()[b.read:], []byte(text))
	if at >= 0 {
		b.read += at + len(text)
	}
	return at >= 0
}
