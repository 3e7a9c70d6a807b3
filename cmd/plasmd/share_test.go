package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/examples"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/node"
	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/internal/store"
	"github.com/phasebased/phase/internal/timeline"
)

// lender is a node that booted a release of the site and may offer it.
type lender struct {
	*site
	mode   string
	port   int
	state  string
	events string
	stop   func() error
}

// newLender publishes a release and gives the node the hello job to run.
func newLender(t *testing.T, mode string) *lender {
	l := &lender{site: newSite(t), mode: mode, state: t.TempDir(), events: filepath.Join(t.TempDir(), "events")}
	l.release(l.dir)
	hello, err := job.New(job.Spec{Version: job.SpecVersion, Module: blob.Of(examples.Hello), Args: []string{"x"}})
	if err != nil {
		t.Fatal(err)
	}
	l.write("hello.json", hello.Payload())
	modules, err := store.Open(l.state)
	if err != nil {
		t.Fatal(err)
	}
	defer modules.Close()
	for _, module := range [][]byte{examples.Hello, []byte("of somebody else's job")} {
		if err := modules.Put(blob.Of(module), int64(len(module)), bytes.NewReader(module)); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// release publishes the site's version.
func (l *lender) release(dir string) {
	l.Helper()
	now := time.Now().UTC().Truncate(time.Second)
	r := release.Release{
		Channel: "stable", Arch: "x86_64", Version: l.version, Created: now.Add(-time.Minute), Expires: now.AddDate(0, 0, 30),
		PointerExpiry: now.AddDate(0, 0, 7), Bases: []string{"http://127.0.0.1:1"},
	}
	for name, path := range map[string]*string{"kernel": &r.Kernel, "initramfs": &r.Initramfs, "rootfs": &r.Rootfs} {
		*path = filepath.Join(l.TempDir(), name)
		if err := os.WriteFile(*path, []byte("the "+name), 0o644); err != nil {
			l.Fatal(err)
		}
	}
	if _, err := release.Publish(dir, r, l.keys, l.root); err != nil {
		l.Fatal(err)
	}
}

// start runs plasmd start until the test ends or stop is called.
func (l *lender) start() {
	l.Helper()
	if l.port == 0 {
		free, err := net.Listen("tcp", ":0")
		if err != nil {
			l.Fatal(err)
		}
		l.port = free.Addr().(*net.TCPAddr).Port
		free.Close()
	}
	l.write("config.json", fmt.Appendf(nil, `{"serve_port":%d,"listen_addrs":["/ip4/127.0.0.1/tcp/0"],"boot_jobs":[%q]}`, l.port, l.path("hello.json")))
	l.write("handover.json", fmt.Appendf(nil, `{"mode":%q,"channel":"stable","arch":"x86_64","manifest":{"version":7,"digest":%q}}`, l.mode, blob.Of([]byte("m"))))
	f := startFlags{
		config: l.path("config.json"), booted: l.path("handover.json"), publish: l.dir, events: l.events, state: l.state, speak: l.voices.speak, service: systemService,
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.start(ctx, &l.log) }()
	l.stop = func() error {
		cancel()
		err := <-ended
		ended <- err
		return err
	}
	l.Cleanup(func() {
		if err := l.stop(); err != nil {
			l.Errorf("start: %v", err)
		}
	})
}

func (l *lender) path(name string) string { return filepath.Join(l.dir, "stable", "x86_64", name) }

// awaitEvent waits for an event and returns the last of its kind.
func (l *lender) awaitEvent(name string, ok func(timeline.Event) bool) (last timeline.Event) {
	l.Helper()
	l.until("the event "+name, func() bool {
		raw, _ := os.ReadFile(l.events)
		for line := range strings.Lines(string(raw)) {
			if e, err := timeline.ParseEvent([]byte(line)); err == nil && e.Event == name {
				last = e
			}
		}
		return last.Event != "" && ok(last)
	})
	return last
}

func (l *lender) get(path string) (string, error) {
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/%s", l.port, path))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return string(body), err
}

func blobPath(data []byte) string {
	hex := blob.Of(data).Hex()
	return "blobs/" + hex[:2] + "/" + hex + ".bin"
}

// TestNodeSharesWhatItBooted asks a node for all that a seed asks for, and for
// what is nobody's business.
func TestNodeSharesWhatItBooted(t *testing.T) {
	for _, mode := range []string{"internet", "local"} {
		t.Run(mode, func(t *testing.T) {
			l := newLender(t, mode)
			l.start()
			l.awaitEvent(timeline.EventReceipt, func(timeline.Event) bool { return true })
			e := l.awaitEvent(timeline.EventAnnounced, func(timeline.Event) bool { return true })
			var said told
			if err := json.Unmarshal(e.Data, &said); err != nil {
				t.Fatal(err)
			}
			if said.Announced == nil || said.Announced.Version != 7 || said.AnnounceError != "" || said.PublishError != "" {
				t.Errorf("announced: %s", e.Data)
			}
			if len(said.Published) != 1 || len(said.Published[0].AcknowledgedBy) != 0 || !said.Published[0].Self || !strings.Contains(e.Text, "release 7 announced on the local network") ||
				!strings.HasSuffix(e.Text, "confirmed by no other node") {
				t.Errorf("published: %s %s", e.Text, e.Data)
			}
			for path, want := range map[string]string{
				"stable/x86_64/kernel": "the kernel", "stable/x86_64/initramfs": "the initramfs", "stable/x86_64/rootfs": "the rootfs",
				"stable/x86_64/root.json": string(l.root), blobPath([]byte("the kernel")): "the kernel", blobPath(examples.Hello): string(examples.Hello),
			} {
				if got, err := l.get(path); err != nil || got != want {
					t.Errorf("%s: %.40q, %v", path, got, err)
				}
			}
			if got, err := l.get(blobPath([]byte("of somebody else's job"))); err == nil {
				t.Errorf("the node gave away %q", got)
			}
			if got, err := l.get("status"); err != nil || !strings.Contains(got, said.Published[0].Key) {
				t.Errorf("status: %s, %v", got, err)
			}
		})
	}
}

// TestLocalNodeServesTheLocalNetwork: to answer somebody beyond it is to send
// something there.
func TestLocalNodeServesTheLocalNetwork(t *testing.T) {
	for mode, beyond := range map[string]bool{"internet": true, "local": false} {
		d := &daemon{limits: limitsOf([]string{mode}, slog.New(slog.DiscardHandler)), booted: &node.Booted{}}
		o := d.offer()
		for from, want := range map[string]bool{"192.168.1.2": true, "169.254.3.4": true, "fe80::1%eth0": true, "192.0.2.1": beyond, "2001:db8::1": beyond} {
			if got := o.serves == nil || o.serves(netip.MustParseAddr(from)); got != want {
				t.Errorf("%s mode: %s is served: %t", mode, from, got)
			}
		}
	}
	w := newSite(t)
	s, err := openServer(offer{
		folder: w.dir, channel: "stable", arch: "x86_64", bind: "127.0.0.1", lookEvery: time.Hour,
		serves: func(from netip.Addr) bool { return !from.IsLoopback() },
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx) }()
	if resp, err := http.Get(s.url() + "/health"); err == nil {
		t.Errorf("somebody who is not served got %s", resp.Status)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestPrivateNodeSharesNothing(t *testing.T) {
	l := newLender(t, "private")
	l.start()
	l.awaitEvent(timeline.EventReceipt, func(timeline.Event) bool { return true })
	l.awaitLog("nothing is offered to other machines")
	if got, err := l.get("status"); err == nil {
		t.Errorf("a private node answers: %s", got)
	}
	if l.voices.spoken.Load() != 0 || strings.Contains(l.log.String(), "published on") {
		t.Errorf("a private node speaks:\n%s", l.log.String())
	}
}

// TestNodeAnnouncesOnlyWhatIsInOrder: others would come, and be refused.
func TestNodeAnnouncesOnlyWhatIsInOrder(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*lender)
		want  string
	}{
		"rotten kernel": {func(l *lender) { l.write("kernel", []byte("teh kernel")) }, "kernel does not match"},
		"no kernel":     {func(l *lender) { l.remove("kernel") }, "kernel is missing"},
		"no pointer":    {func(l *lender) { l.remove("pointer.json") }, "no such file"},
		"other release": {func(l *lender) { l.write("pointer.json", l.pointer(1, l.keys.Timestamp, time.Hour)) }, "is that of release 7"},
		"expired": {func(l *lender) {
			l.write("pointer.json", l.pointer(1, l.keys.Timestamp, time.Second))
			time.Sleep(1100 * time.Millisecond) // there is no event for the end of a life
		}, "expired"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLender(t, "internet")
			c.spoil(l)
			l.start()
			var said told
			e := l.awaitEvent(timeline.EventAnnounced, func(timeline.Event) bool { return true })
			if err := json.Unmarshal(e.Data, &said); err != nil {
				t.Fatal(err)
			}
			if said.Announced != nil || len(said.Published) > 0 || l.voices.spoken.Load() != 0 {
				t.Errorf("told: %s", e.Data)
			}
			if !strings.Contains(said.AnnounceError, c.want) || !strings.Contains(said.PublishError, c.want) {
				t.Errorf("told: %s, want %q", e.Data, c.want)
			}
			if _, err := l.get("stable/x86_64/root.json"); err != nil {
				t.Error(err)
			}
		})
	}
}

func (l *lender) remove(name string) {
	l.Helper()
	if err := os.Remove(l.path(name)); err != nil {
		l.Fatal(err)
	}
}

// TestPortInUse: a node that cannot share says so, and is a node all the same.
func TestPortInUse(t *testing.T) {
	l := newLender(t, "internet")
	taken, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	l.port = taken.Addr().(*net.TCPAddr).Port
	l.start()
	l.awaitEvent(timeline.EventFailed, func(e timeline.Event) bool { return strings.Contains(e.Text, "not offered to others") })
	l.awaitEvent(timeline.EventReceipt, func(timeline.Event) bool { return true })
}

// dht stands for the node of the DHT: what becomes of a record takes its time.
type dht struct {
	publisher
	mu   sync.Mutex
	list []p2p.Publication
}

func (d *dht) ID() string { return "a" }

func (d *dht) Addrs() []string { return nil }

func (d *dht) Publish(context.Context, []byte) (p2p.Published, error) { return p2p.Published{}, nil }

func (d *dht) Lend(p2p.Offer) {}

func (d *dht) Hold([]blob.Digest) error { return nil }

func (d *dht) Held() []p2p.Holding { return nil }

func (d *dht) Publications() []p2p.Publication {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.list)
}

func (d *dht) becomes(list ...p2p.Publication) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = list
}

// TestReportFollowsTheDHT: who holds the record changes while nothing is published
// here, and so may that it could not be renewed.
func TestReportFollowsTheDHT(t *testing.T) {
	w := newSite(t)
	w.write("root.json", w.root)
	w.write("pointer.json", w.pointer(1, w.keys.Timestamp, 24*time.Hour))
	s, err := openServer(offer{folder: w.dir, channel: "stable", arch: "x86_64", bind: "127.0.0.1", lookEvery: 5 * time.Millisecond}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	peer, reports := &dht{}, make(chan told, 16)
	s.peer, s.report = peer, func(t told) error { reports <- t; return nil }
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx) }()

	at := time.Now().Truncate(time.Second).UTC()
	p := p2p.Publication{Expires: at.Add(time.Hour), Last: p2p.Published{Key: "k", At: at, AcknowledgedBy: []string{"a"}, Size: 9}}
	holds := published{Key: "k", At: at, AcknowledgedBy: []string{}, Self: true, Size: 9, Expires: at.Add(time.Hour)}
	renewed, more := p, holds
	renewed.Last.AcknowledgedBy, more.AcknowledgedBy = []string{"a", "b"}, []string{"b"}
	failing, expired := renewed, renewed
	failing.Err, expired.Expires = errors.New("nobody answered"), at.Add(-time.Hour)
	for _, step := range []struct {
		list []p2p.Publication
		want told
	}{
		{nil, told{Published: []published{}, Held: []held{}}},
		{[]p2p.Publication{p}, told{Published: []published{holds}, Held: []held{}}},
		{[]p2p.Publication{renewed}, told{Published: []published{more}, Held: []held{}}},
		{[]p2p.Publication{failing}, told{Published: []published{more}, PublishError: "nobody answered", Held: []held{}}},
		{[]p2p.Publication{expired}, told{Published: []published{}, Held: []held{}}},
	} {
		peer.becomes(step.list...)
		select {
		case got := <-reports:
			if !reflect.DeepEqual(got, step.want) || !reflect.DeepEqual(s.network(), any(step.want)) {
				t.Errorf("reported %+v, want %+v", got, step.want)
			}
		case <-time.After(time.Minute):
			t.Fatalf("no report of %+v", step.want)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestSpoiltFilesAreTakenBack: a node announces what it has, not what it had.
func TestSpoiltFilesAreTakenBack(t *testing.T) {
	l := newLender(t, "internet")
	s, err := openServer(offer{
		folder: l.dir, channel: "stable", arch: "x86_64", bind: "127.0.0.1", lookEvery: time.Millisecond, checked: true, speak: l.voices.speak,
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	reports := make(chan told, 16)
	s.report = func(t told) error { reports <- t; return nil }
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx) }()
	for _, step := range []struct{ kernel, want string }{{"", ""}, {"teh kernel", "kernel does not match"}, {"the kernel", ""}} {
		if step.kernel != "" {
			l.write("kernel", []byte(step.kernel))
			if err := s.provider.Refresh(ctx); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case got := <-reports:
			if (got.Announced == nil) != (step.want != "") || !strings.Contains(got.AnnounceError, step.want) {
				t.Errorf("with %q: told %+v, want %q", step.kernel, got, step.want)
			}
		case <-time.After(time.Minute):
			t.Fatalf("no report with %q", step.kernel)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// slowDHT notes what had been said on the local network when it was asked.
type slowDHT struct {
	dht
	voices *voices
	spoken chan int64
}

func (d *slowDHT) Publish(context.Context, []byte) (p2p.Published, error) {
	d.spoken <- d.voices.spoken.Load()
	return p2p.Published{}, errors.New("nobody is there")
}

// TestNeighboursAreToldFirst: the DHT may take its time.
func TestNeighboursAreToldFirst(t *testing.T) {
	w := newSite(t)
	w.write("root.json", w.root)
	w.write("pointer.json", w.pointer(1, w.keys.Timestamp, 24*time.Hour))
	s, err := openServer(offer{
		folder: w.dir, channel: "stable", arch: "x86_64", bind: "127.0.0.1", lookEvery: time.Hour, speak: w.voices.speak,
	}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	peer := &slowDHT{voices: &w.voices, spoken: make(chan int64, 1)}
	s.peer = peer
	s.announce(t.Context())
	s.fallSilent()
	if n := <-peer.spoken; n != 1 || s.publishErr == nil {
		t.Errorf("%d announcements before the DHT was asked; %v", n, s.publishErr)
	}
}

// TestOwnWordConfirmsNothing: a node alone on its DHT holds what it published.
func TestOwnWordConfirmsNothing(t *testing.T) {
	for _, c := range []struct {
		p    published
		want string
	}{
		{published{}, "no other node"},
		{published{Self: true}, "no other node"},
		{published{AcknowledgedBy: []string{"b"}}, "1 other node"},
		{published{AcknowledgedBy: []string{"b", "c"}, Self: true}, "2 other nodes"},
	} {
		if got := confirmed(c.p.AcknowledgedBy); got != c.want {
			t.Errorf("%+v: %s, want %s", c.p, got, c.want)
		}
	}
}

// TestExpiredPointerFallsSilent: what nobody may use any more is taken back.
func TestExpiredPointerFallsSilent(t *testing.T) {
	w := newSite(t)
	w.write("root.json", w.root)
	w.write("pointer.json", w.pointer(1, w.keys.Timestamp, 8*time.Second)) // it has to be announced before
	w.serve()
	w.awaitLog("no longer announced on the local network")
	if spoken, silenced := w.voices.spoken.Load(), w.voices.silenced.Load(); spoken != 1 || silenced != 1 {
		t.Errorf("%d announcements, %d taken back", spoken, silenced)
	}
	w.until("the ready file says so", func() bool {
		raw, err := os.ReadFile(w.ready)
		var ready readyFile
		return err == nil && json.Unmarshal(raw, &ready) == nil && ready.Announced == nil && len(ready.Published) == 0 &&
			strings.Contains(ready.AnnounceError, "expired")
	})
}
