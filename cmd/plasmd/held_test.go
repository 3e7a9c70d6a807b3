package main

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/p2p"
	"github.com/phasebased/phase/internal/timeline"
	"github.com/phasebased/phase/manifest"
)

// verified is the lender's release, as a seed sees it.
func (l *lender) verified() *manifest.Verified {
	l.Helper()
	root, err := manifest.ParseRoot(l.root)
	if err != nil {
		l.Fatal(err)
	}
	file, err := os.ReadFile(l.path("manifest.json"))
	if err != nil {
		l.Fatal(err)
	}
	v := manifest.Verifier{Root: root, Want: manifest.Want{Channel: "stable", Arch: "x86_64"}}
	release, err := v.Manifest(file, nil, nil, time.Now())
	if err != nil {
		l.Fatal(err)
	}
	return release
}

// TestSeedFetchesOverStreams: where every connection to a web server is blocked,
// and the URLs of the release lead nowhere, a seed gets the release of the machine
// that booted it through the DHT.
func TestSeedFetchesOverStreams(t *testing.T) {
	l := newLender(t, "local")
	l.start()
	ready := l.awaitEvent(timeline.EventNodeReady, func(timeline.Event) bool { return true })
	var node struct {
		Addrs []string `json:"p2p_addrs"`
	}
	if err := json.Unmarshal(ready.Data, &node); err != nil || len(node.Addrs) == 0 {
		t.Fatalf("%s: %v", ready.Data, err)
	}
	release := l.verified()
	want := append([]blob.Digest{}, blobsOf(release.Manifest())...)
	e := l.awaitEvent(timeline.EventAnnounced, func(e timeline.Event) bool {
		var said told
		return json.Unmarshal(e.Data, &said) == nil && len(said.Held) == len(want)+1
	})
	var said told
	if err := json.Unmarshal(e.Data, &said); err != nil {
		t.Fatal(err)
	}
	for i, h := range said.Held[1:] {
		if h.Blob != want[i] || !h.Self || len(h.AcknowledgedBy) != 0 || !h.Expires.After(h.At) {
			t.Errorf("held: %+v, want %s", h, want[i])
		}
	}

	seed, err := p2p.New(p2p.Config{Bootstrap: node.Addrs, LocalOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer seed.Close()
	f := &fetch.Fetcher{Finders: []fetch.Finder{p2p.Finder{Node: seed}}, LocalOnly: true}
	for _, name := range []string{"kernel", "initramfs", "rootfs"} {
		var report fetch.Report
		f.Report = func(r fetch.Report) { report = r }
		file, err := f.Artifact(t.Context(), release, name, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, file.Size())
		if _, err := file.File().ReadAt(got, 0); err != nil || string(got) != "the "+name {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		file.Close()
		if !slices.ContainsFunc(report.Sources, func(s fetch.SourceReport) bool { return strings.HasPrefix(s.Source, "p2p ") && s.Bytes > 0 }) {
			t.Errorf("%s came from %+v", name, report.Sources)
		}
	}
}

func TestBlobsOfARelease(t *testing.T) {
	d := func(s string) blob.Digest { return blob.Of([]byte(s)) }
	m := manifest.Manifest{
		Kernel:    manifest.Artifact{Hash: d("kernel"), Chunks: d("kernel's list")},
		Initramfs: manifest.Artifact{Hash: d("initramfs"), Deltas: []manifest.Delta{{From: d("old"), Hash: d("patch")}}},
		Rootfs:    &manifest.Artifact{Hash: d("rootfs"), Deltas: []manifest.Delta{{From: d("older"), Hash: d("patch")}}},
		DTBs:      map[string]manifest.Artifact{"b.dtb": {Hash: d("b")}, "a.dtb": {Hash: d("a")}},
	}
	want := []blob.Digest{d("kernel"), d("kernel's list"), d("initramfs"), d("rootfs"), d("patch"), d("a"), d("b")}
	if got := blobsOf(m); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got := blobsOf(manifest.Manifest{Kernel: m.Kernel, Initramfs: m.Initramfs}); len(got) != 4 {
		t.Errorf("without a root file system: %v", got)
	}
}
