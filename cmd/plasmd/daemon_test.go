package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/node"
	"github.com/phasebased/phase/manifest"
)

const (
	remoteBase = "http://93.184.216.34:8080"
	namedBase  = "https://example.org"
	localBase  = "http://10.0.2.2:8080"
)

func TestModesLimitTheNode(t *testing.T) {
	everywhere := []string{remoteBase, localBase, namedBase, localBase}
	for _, c := range []struct {
		asked          []string
		booted         string // "none": without hand-over file
		listens, dials bool
		limits         limits
		warns          bool
	}{
		{nil, "none", true, true, limits{}, false},
		{nil, "internet", true, true, limits{}, false},
		{nil, "local", true, false, limits{local: true}, false},
		{nil, "private", false, true, limits{quiet: true}, false},
		{nil, "Internet", false, true, limits{quiet: true}, true},
		{nil, "", false, true, limits{quiet: true}, true},
		{[]string{"internet"}, "none", true, true, limits{}, false},
		{[]string{"local"}, "none", true, false, limits{local: true}, false},
		{[]string{"private"}, "none", false, true, limits{quiet: true}, false},
		{[]string{"LOCAL"}, "none", false, true, limits{quiet: true}, true},
		{[]string{""}, "none", false, true, limits{quiet: true}, true},
		// The stricter of both.
		{[]string{"private"}, "internet", false, true, limits{quiet: true}, false},
		{[]string{"internet"}, "private", false, true, limits{quiet: true}, false},
		{[]string{"local"}, "internet", true, false, limits{local: true}, false},
		{[]string{"internet"}, "local", true, false, limits{local: true}, false},
		{[]string{"private"}, "local", false, false, limits{local: true, quiet: true}, false},
		{[]string{"local"}, "private", false, false, limits{local: true, quiet: true}, false},
	} {
		t.Run(fmt.Sprintf("%q booted %s", c.asked, c.booted), func(t *testing.T) {
			var log bytes.Buffer
			d := &daemon{log: slog.New(slog.NewTextHandler(&log, nil))}
			if c.booted != "none" {
				d.booted = &node.Booted{Mode: c.booted, Bootstrap: []string{"c"}, Bases: everywhere[:2]}
			}
			d.cfg.ListenAddrs, d.cfg.BootstrapPeers, d.cfg.PeerAddrs = []string{"l"}, []string{"a"}, []string{"b"}
			d.cfg.Providers = everywhere[2:]
			d.applyModes(c.asked)
			dials := len(d.cfg.bootstrap()) > 0 || d.booted != nil && len(d.booted.Bootstrap) > 0
			if listens := len(d.cfg.ListenAddrs) > 0; listens != c.listens || dials != c.dials || d.limits != c.limits {
				t.Errorf("listens %t, dials %t, limits %+v", listens, dials, d.limits)
			}
			if warns := strings.Contains(log.String(), "not a mode"); warns != c.warns {
				t.Errorf("warning %t: %s", warns, &log)
			}
			bases := d.bases()
			remote := slices.Contains(bases, remoteBase) || slices.Contains(bases, namedBase)
			if remote == c.limits.local || !slices.Contains(bases, localBase) {
				t.Errorf("bases %q", bases)
			}
		})
	}
}

// A node whose seed asked everything through Tor contacts nobody, whatever its own
// configuration says: it would do so directly.
func TestThroughTorTheNodeIsSilent(t *testing.T) {
	d := &daemon{log: slog.New(slog.DiscardHandler), booted: &node.Booted{Mode: "private", Tor: true, Bootstrap: []string{"c"}, Bases: []string{remoteBase}}}
	d.cfg.ListenAddrs, d.cfg.BootstrapPeers, d.cfg.PeerAddrs = []string{"l"}, []string{"a"}, []string{"b"}
	d.cfg.Providers = []string{localBase}
	d.applyModes([]string{"internet"})
	if d.limits != (limits{quiet: true, silent: true}) {
		t.Errorf("limits %+v", d.limits)
	}
	if left := slices.Concat(d.cfg.ListenAddrs, d.cfg.bootstrap(), d.booted.Bootstrap, d.bases()); len(left) > 0 {
		t.Errorf("it knows whom to ask: %q", left)
	}
}

// taker counts the receipts that a provider is given, and answers with status.
func taker(t *testing.T, status int) (base string, got *atomic.Int32) {
	t.Helper()
	got = new(atomic.Int32)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.URL.Path == "/receipts" {
			got.Add(1)
		}
		if status == http.StatusFound {
			w.Header().Set("Location", remoteBase)
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	return s.URL, got
}

func testNetwork(t *testing.T, local bool, bases ...string) *network {
	n := newNetwork(bases, local, nil, slog.New(slog.DiscardHandler))
	t.Cleanup(n.close)
	return n
}

func TestReceiptGoesToTheFirstThatTakesIt(t *testing.T) {
	full, fullGot := taker(t, http.StatusInsufficientStorage)
	moved, movedGot := taker(t, http.StatusFound)
	good, goodGot := taker(t, http.StatusCreated)
	other, otherGot := taker(t, http.StatusCreated)
	got, err := testNetwork(t, true, full, moved, good, other).deliver(t.Context(), []byte("{}"))
	if err != nil || got != good {
		t.Errorf("deliver = %q, %v", got, err)
	}
	if fullGot.Load() != 1 || movedGot.Load() != 1 || goodGot.Load() != 1 || otherGot.Load() != 0 {
		t.Errorf("given to %d, %d, %d, %d", fullGot.Load(), movedGot.Load(), goodGot.Load(), otherGot.Load())
	}
	if got, err := testNetwork(t, false, full).deliver(t.Context(), []byte("{}")); err == nil || got != "" || fullGot.Load() != 1+rounds {
		t.Errorf("nobody takes it: %q, %v, %d tries", got, err, fullGot.Load())
	}
}

// TestReceiptGoesToTheConfiguredFirst: those that served the boot may be strangers. They
// get a receipt only where nobody of the configuration takes it.
func TestReceiptGoesToTheConfiguredFirst(t *testing.T) {
	booted, bootedGot := taker(t, http.StatusCreated)
	good, goodGot := taker(t, http.StatusCreated)
	full, fullGot := taker(t, http.StatusInsufficientStorage)
	deliver := func(configured ...string) string {
		d := &daemon{booted: &node.Booted{}}
		d.booted.Bases, d.cfg.Providers = []string{booted}, configured
		n := testNetwork(t, true, d.bases()...)
		n.receivers = d.receivers()
		got, err := n.deliver(t.Context(), []byte("{}"))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := deliver(full, good); got != good || bootedGot.Load() != 0 || goodGot.Load() != 1 || fullGot.Load() != 1 {
		t.Errorf("delivered to %s; the boot's got %d", got, bootedGot.Load())
	}
	if got := deliver(full); got != booted || fullGot.Load() != 1+rounds {
		t.Errorf("nobody configured takes it: delivered to %s after %d", got, fullGot.Load())
	}
	if got := deliver(); got != booted {
		t.Errorf("nobody is configured: delivered to %s", got)
	}
}

func TestLocalNetworkRefusesTheRest(t *testing.T) {
	n := testNetwork(t, true, remoteBase)
	if err := n.post(t.Context(), remoteBase+"/receipts", []byte("{}")); !errors.Is(err, fetch.ErrNotLocal) {
		t.Errorf("post: %v", err)
	}
	if err := n.post(t.Context(), namedBase+"/receipts", []byte("{}")); !errors.Is(err, fetch.ErrNotLocal) {
		t.Errorf("post to a name: %v", err)
	}
	if _, err := n.module(t.Context(), "hello", blob.Of([]byte("x"))); !errors.Is(err, fetch.ErrNotLocal) {
		t.Errorf("module: %v", err)
	}
}

func TestSeverity(t *testing.T) {
	d := blob.Of([]byte("x"))
	mismatch := &blob.MismatchError{Want: d}
	for _, c := range []struct {
		err  error
		want string
	}{
		{&fetch.Error{Artifact: "hello", Want: d, Rounds: 1, Mismatch: true, Attempts: []fetch.Attempt{{Err: mismatch}}}, "FATAL"},
		{&fetch.Error{Artifact: "hello", Want: d, Rounds: 3, Attempts: []fetch.Attempt{{Err: mismatch}, {Err: io.EOF}}}, "ERROR"},
		{&fetch.Error{Artifact: "hello", Want: d, Rounds: 3}, "ERROR"},
		{fmt.Errorf("job: %w", mismatch), "FATAL"},
		{fmt.Errorf("root: %w", &manifest.Error{}), "FATAL"},
		{io.EOF, "ERROR"},
	} {
		if got := severity(c.err); got != c.want {
			t.Errorf("%v: %s, want %s", c.err, got, c.want)
		}
	}
}
