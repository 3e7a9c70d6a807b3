package boot

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/bootcfg"
	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/handover"
	"github.com/phasebased/phase/internal/netup"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/internal/timeline"
	"github.com/phasebased/phase/internal/trust"
	"github.com/phasebased/phase/manifest"
)

var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

var want = manifest.Want{Channel: "stable", Arch: "x86_64"}

// errJumped is what the test's kernel answers instead of starting.
var errJumped = errors.New("jumped")

// world is a publisher with a web server, and a corridor that trusts it. The
// network is in this process, so that a test may run in a synctest bubble.
type world struct {
	*testing.T
	keys     *release.Keys
	root     []byte
	folder   string // what the web server serves
	base     string
	hosts    map[string]http.Handler // others; nil never answers
	corridor *Corridor
	stateDir string
	state    *trust.State
	started  time.Time

	mu      sync.Mutex
	loaded  *handover.Set
	asked   []string                 // host and path of each request
	told    []string                 // what the observer was told
	at      map[string]time.Duration // when it was first told that
	notes   map[string][]string      // the notes with which stages ended
	fail    error                    // what Load answers
	reports []fetch.Report
	clocks  []time.Time // to what the machine's clock was set

	unloaded int // how often the loaded kernel was
}

func newWorld(t *testing.T) *world {
	t.Helper()
	keys, err := release.NewKeys()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, keys: keys, folder: t.TempDir(), base: "http://publisher.test", started: time.Now(),
		at: map[string]time.Duration{}, notes: map[string][]string{}}
	w.hosts = map[string]http.Handler{"publisher.test": http.FileServer(http.Dir(w.folder))}
	if w.root, err = keys.RootFile(now.AddDate(1, 0, 0)); err != nil {
		t.Fatal(err)
	}
	root, err := manifest.ParseRoot(w.root)
	if err != nil {
		t.Fatal(err)
	}
	w.stateDir = filepath.Join(t.TempDir(), "state")
	w.state = trust.OpenState(w.stateDir)
	roots, err := NewRoots(root, w.state)
	if err != nil {
		t.Fatal(err)
	}
	w.corridor = &Corridor{
		Config: bootcfg.Config{Mode: bootcfg.Internet, Channel: want.Channel, Arch: want.Arch},
		Roots:  roots, State: w.state, Clock: NewClock(now, now.AddDate(0, -1, 0), time.Time{}),
		Fetcher: &fetch.Fetcher{Backoff: time.Millisecond, Client: &http.Client{Transport: w}},
		Network: func(context.Context) (*netup.Network, error) {
			return &netup.Network{Interfaces: []netup.Link{{Name: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24")}}}}, nil
		},
		Fits: func(manifest.Manifest, bool) error { return nil },
		Info: func(*netup.Network) handover.Info {
			return handover.Info{SchemaVersion: handover.SchemaVersion, Documents: &handover.Documents{Roots: [][]byte{w.root}}}
		},
		Load:    w.load,
		Leave:   func() error { return nil },
		Stages:  func() []timeline.Stage { return nil },
		Observe: w,
	}
	w.ask(&discover.HTTP{Base: w.base, Get: w.corridor.Fetcher.Get})
	return w
}

// RoundTrip is the network.
func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	w.asked = append(w.asked, r.URL.Host+r.URL.Path)
	w.mu.Unlock()
	handler, known := w.hosts[r.URL.Host]
	if !known {
		return nil, errors.New("no such host")
	}
	if handler == nil {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	recorder, served := httptest.NewRecorder(), make(chan any)
	go func() {
		defer func() { served <- recover() }()
		handler.ServeHTTP(recorder, r)
	}()
	select {
	case defect := <-served:
		if defect != nil {
			panic(defect)
		}
		return recorder.Result(), nil
	case <-r.Context().Done():
		go func() { <-served }()
		return nil, r.Context().Err()
	}
}

// ask makes these the sources of the search.
func (w *world) ask(sources ...discover.Source) {
	w.corridor.Sources = func(context.Context, *netup.Network) Reach { return Reach{Search: sources} }
}

func (w *world) load(set handover.Set) (Loaded, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.loaded = &set
	return w, w.fail
}

// Execute is the jump.
func (w *world) Execute() error { return errJumped }

func (w *world) Unload() error {
	w.unloaded++
	return nil
}

func (w *world) tell(parts ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := strings.Join(parts, " ")
	w.told = append(w.told, text)
	if _, known := w.at[text]; !known {
		w.at[text] = time.Since(w.started)
	}
}

func (w *world) Begin(stage string) { w.tell("begin", stage) }
func (w *world) End(stage, note string, err error) {
	w.mu.Lock()
	w.notes[stage] = append(w.notes[stage], note)
	w.mu.Unlock()
	if err != nil {
		w.tell("fail", stage)
		return
	}
	w.tell("end", stage)
}
func (w *world) Note(_, text string)            { w.tell("note", text) }
func (w *world) Skipped(origin string, _ error) { w.tell("skipped", origin) }
func (w *world) Progress(fetch.Progress)        {}
func (w *world) Fetched(r fetch.Report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.reports = append(w.reports, r)
}

// publish puts a release into the web server's folder and returns its pointer.
func (w *world) publish(version int64, keys *release.Keys) []byte {
	w.Helper()
	return w.publishAt(version, keys, w.base)
}

// publishAt is publish with other bases in the pointer.
func (w *world) publishAt(version int64, keys *release.Keys, bases ...string) []byte {
	w.Helper()
	return w.publishFiles(version, keys, []byte("kernel"), bases...)
}

// publishWith is publish with another kernel.
func (w *world) publishWith(version int64, keys *release.Keys, kernel []byte) []byte {
	w.Helper()
	return w.publishFiles(version, keys, kernel, w.base)
}

func (w *world) publishFiles(version int64, keys *release.Keys, kernel []byte, bases ...string) []byte {
	w.Helper()
	dir := w.TempDir()
	r := release.Release{
		Channel: want.Channel, Arch: want.Arch, Version: version, Created: now.Add(-time.Hour),
		Expires: now.AddDate(0, 3, 0), PointerExpiry: now.AddDate(0, 0, 7), Bases: bases,
	}
	for name, into := range map[string]*string{"kernel": &r.Kernel, "initramfs": &r.Initramfs, "rootfs": &r.Rootfs} {
		*into = filepath.Join(dir, name)
		content := []byte(name)
		if name == "kernel" {
			content = kernel
		}
		if err := os.WriteFile(*into, content, 0o644); err != nil {
			w.Fatal(err)
		}
	}
	published, err := release.Publish(w.folder, r, keys, w.root)
	if err != nil {
		w.Fatal(err)
	}
	pointer, err := os.ReadFile(filepath.Join(published.Dir, "pointer.json"))
	if err != nil {
		w.Fatal(err)
	}
	return pointer
}

func (w *world) strangers() *release.Keys {
	w.Helper()
	keys, err := release.NewKeys()
	if err != nil {
		w.Fatal(err)
	}
	return keys
}

// refused runs the corridor and asserts that it failed with the code and that
// no kernel was loaded.
func (w *world) refused(code string) error {
	w.Helper()
	err := w.corridor.Run(w.Context())
	var coded interface{ Code() string }
	if !errors.As(err, &coded) || coded.Code() != code {
		w.Errorf("got %v, want code %s", err, code)
	}
	if w.loaded != nil {
		w.Error("a kernel was loaded")
	}
	return err
}

// source is a source with one answer, given when it may.
type source struct {
	name    string
	pointer []byte
	bases   []string
	when    <-chan struct{} // nil: at once
}

func (s source) Name() string { return s.name }

func (s source) Search(ctx context.Context, _ discover.Query, found func(discover.Candidate)) error {
	if s.when != nil {
		select {
		case <-s.when:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	found(discover.Candidate{Pointer: s.pointer, Bases: s.bases, Origin: s.name})
	return nil
}

func TestWalk(t *testing.T) {
	w := newWorld(t)
	w.publish(3, w.keys)
	if err := w.corridor.Run(t.Context()); !errors.Is(err, errJumped) {
		t.Fatal(err)
	}
	stages := []string{"begin network", "end network", "begin discovery", "end discovery", "begin verify", "end verify",
		"begin fetch", "end fetch", "begin hand-over", "end hand-over"}
	if !slices.Equal(w.told, stages) {
		t.Errorf("the observer was told %q", w.told)
	}
	set := w.loaded
	if set.Kernel.Digest() != blob.Of([]byte("kernel")) || set.Initramfs.Digest() != blob.Of([]byte("initramfs")) || set.Rootfs.Digest() != blob.Of([]byte("rootfs")) {
		t.Error("other files were loaded than published")
	}
	if set.Verified.Manifest().ManifestVersion != 3 || !slices.Contains(set.Info.Bases, w.base) {
		t.Errorf("the next system is told %+v", set.Info)
	}
	if w.unloaded != 1 {
		t.Errorf("after the jump failed the kernel was unloaded %d times", w.unloaded)
	}
	floor, err := w.state.Floor(want)
	if err != nil || floor != set.Verified.Floor() {
		t.Errorf("the floor is %+v, %v", floor, err)
	}
}

// handsOn compares the documents that the next system is given.
func (w *world) handsOn(pointer []byte, roots ...[]byte) {
	w.Helper()
	d := w.loaded.Info.Documents
	file, err := os.ReadFile(w.folder + "/stable/x86_64/manifest.json")
	if err != nil {
		w.Fatal(err)
	}
	if !bytes.Equal(d.Manifest, file) || !bytes.Equal(d.Pointer, pointer) || !slices.EqualFunc(d.Roots, roots, bytes.Equal) {
		w.Errorf("the next system is given %d roots, the manifest %.40q… and the pointer %.40q…", len(d.Roots), d.Manifest, d.Pointer)
	}
}

func TestNewestWins(t *testing.T) {
	w := newWorld(t)
	older := w.publish(1, w.keys)
	newer := w.publish(2, w.keys)
	late := make(chan struct{})
	w.ask(source{name: "quick", pointer: older}, source{name: "slow", pointer: newer, when: late})
	// The slow source answers while the older release is being fetched.
	w.corridor.Fits = func(manifest.Manifest, bool) error {
		select {
		case <-late:
		default:
			close(late)
		}
		return nil
	}
	if err := w.corridor.Run(t.Context()); !errors.Is(err, errJumped) {
		t.Fatal(err)
	}
	if got := w.loaded.Verified.Manifest().ManifestVersion; got != 2 {
		t.Errorf("release %d was loaded, want 2", got)
	}
}

func TestBadCandidatesAreSkipped(t *testing.T) {
	w := newWorld(t)
	stranger := w.publish(9, w.strangers())
	good := w.publish(1, w.keys)
	w.ask(source{name: "garbage", pointer: []byte("{}")}, source{name: "stranger", pointer: stranger}, source{name: "honest", pointer: good})
	if err := w.corridor.Run(t.Context()); !errors.Is(err, errJumped) {
		t.Fatal(err)
	}
	for _, told := range []string{"skipped garbage", "skipped stranger"} {
		if !slices.Contains(w.told, told) {
			t.Errorf("the observer was not told %q: %q", told, w.told)
		}
	}
}

func TestStrangersOnly(t *testing.T) {
	w := newWorld(t)
	w.publish(9, w.strangers())
	err := w.refused("VFY-004")
	if !strings.Contains(err.Error(), "Pointer signature verification failed") {
		t.Error(err)
	}
}

func TestOlderThanTheFloor(t *testing.T) {
	w := newWorld(t)
	if err := w.state.SaveFloor(want, manifest.Floor{ManifestVersion: 5, Digest: blob.Of([]byte("5"))}, nil); err != nil {
		t.Fatal(err)
	}
	w.publish(4, w.keys)
	w.refused("VFY-010")
}

func TestOlderThanTheBuiltInFloor(t *testing.T) {
	w := newWorld(t)
	w.corridor.Floor, w.corridor.State = manifest.Floor{ManifestVersion: 5}, nil
	w.publish(4, w.keys)
	w.refused("VFY-010")
}

func TestDamagedFloorIsNotZero(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(t.TempDir(), "state")
	w.corridor.State = trust.OpenState(dir)
	if err := w.corridor.State.SaveFloor(want, manifest.Floor{ManifestVersion: 9, Digest: blob.Of([]byte("9"))}, nil); err != nil {
		t.Fatal(err)
	}
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		return os.WriteFile(path, []byte("rot"), 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	w.corridor.Floor = manifest.Floor{ManifestVersion: 5}
	w.publish(4, w.keys)
	w.refused("VFY-010") // below the built-in floor
	if !slices.ContainsFunc(w.told, func(s string) bool { return strings.HasPrefix(s, "note WARNING") }) {
		t.Errorf("nobody was told that the floor is damaged: %q", w.told)
	}
}

func TestNothingFound(t *testing.T) {
	w := newWorld(t)
	w.refused("DISC-001")
}

// tooLittle is a machine with less memory than any hand-over takes.
func tooLittle(m manifest.Manifest, rootfsInCache bool) error {
	return handover.CheckMemory(m, handover.RungFile, rootfsInCache, 1<<20)
}

func TestTooLittleMemory(t *testing.T) {
	w := newWorld(t)
	w.publish(1, w.keys)
	w.corridor.Fits = tooLittle
	w.refused("KEXEC-001")
	kernel := blob.Of([]byte("kernel")).Hex()
	for _, path := range w.asked {
		if strings.Contains(path, kernel) {
			t.Errorf("%s was downloaded before memory was checked", path)
		}
	}
}

func TestTamperedKernel(t *testing.T) {
	w := newWorld(t)
	w.publish(1, w.keys)
	hex := blob.Of([]byte("kernel")).Hex()
	if err := os.WriteFile(filepath.Join(w.folder, "blobs", hex[:2], hex+".bin"), []byte("kerneL"), 0o644); err != nil {
		t.Fatal(err)
	}
	err := w.refused("FETCH-002")
	if wanted := "Artifact kernel hash mismatch (expected sha256:" + hex + ")"; !strings.Contains(err.Error(), wanted) {
		t.Errorf("%v does not say %q", err, wanted)
	}
}

func TestFloorOnlyAfterLoading(t *testing.T) {
	w := newWorld(t)
	w.publish(7, w.keys)
	w.fail = errors.New("this kernel cannot be loaded")
	if err := w.corridor.Run(t.Context()); !errors.Is(err, w.fail) {
		t.Fatal(err)
	}
	if floor, err := w.state.Floor(want); err != nil || floor.ManifestVersion != 0 {
		t.Errorf("a release that did not load is remembered: %+v, %v", floor, err)
	}
}

func TestDeadClockLearns(t *testing.T) {
	w := newWorld(t)
	w.publish(1, w.keys)
	w.corridor.Clock = NewClock(time.Unix(0, 0), now.AddDate(0, -1, 0), time.Time{})
	if state := w.corridor.Clock.State(); state != trust.Floored {
		t.Fatalf("the clock is %v", state)
	}
	if err := w.corridor.Run(t.Context()); !errors.Is(err, errJumped) {
		t.Fatal(err)
	}
	if w.corridor.Clock.Now().Before(now.Add(-time.Hour)) {
		t.Error("the clock did not learn from the signed pointer")
	}
}

func TestNetworkFails(t *testing.T) {
	w := newWorld(t)
	w.corridor.Network = func(context.Context) (*netup.Network, error) {
		return nil, &netup.Error{Reason: netup.NoInterface}
	}
	w.refused("NET-001")
}
