package provider

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/nettest"
)

// Whoever owns one IPv6 /48 has thousands of clients, and no more than half of
// the places.
func TestOneNetworkLeavesRoom(t *testing.T) {
	const total = 100
	g := newGate(10, total)
	in := func(format string) (list []client, last verdict) {
		for i := range 2 * total {
			c := clientOf(fmt.Sprintf(format, i))
			if last = g.enter(c); last == admitted {
				list = append(list, c)
			}
		}
		return list, last
	}
	many, last := in("[2001:db8:1:%x::1]:1")
	if len(many) != total/2 || last != networkBusy {
		t.Errorf("one network has %d places, then %d", len(many), last)
	}
	others, last := in("192.0.2.%d:1")
	if len(others) != total/2 || last != allBusy {
		t.Errorf("others have %d places, then %d", len(others), last)
	}
	for _, c := range append(many, others...) {
		g.leave(c)
	}
	if all, _ := g.inside(); all != 0 || len(g.open) != 0 || len(g.networks) != 0 {
		t.Errorf("left over: %d, %v, %v", all, g.open, g.networks)
	}
	if local, _ := in("[fd00:1:1:%x::1]:1"); len(local) != total {
		t.Errorf("a local network has %d places", len(local))
	}
}

// What is counted while files come and go is what a new count says.
func TestSumsFollowTheFolder(t *testing.T) {
	base := t.TempDir()
	publish(t, base, 7)
	p, _ := start(t, Config{Base: base})
	rotten := filepath.Join(base, blobPath([]byte("lost")))
	for i, change := range []func(){
		func() { write(t, "/", rotten, []byte("l0st")) },
		func() { write(t, "/", rotten, []byte("rotten in another way")) },
		func() { write(t, base, "stable/x86_64/kernel", []byte("another")) },
		func() { os.Remove(rotten) },
		func() { os.RemoveAll(filepath.Join(base, "stable")) },
	} {
		change()
		if err := p.Refresh(context.Background()); err != nil {
			t.Fatal(err)
		}
		fresh, _ := start(t, Config{Base: base})
		if got, want := p.files.sum(), fresh.files.sum(); got != want || i < 2 && got.rotten != 1 {
			t.Errorf("change %d: %+v, want %+v", i, got, want)
		}
	}
}

// A file from outside is read through once, whatever comes of it, and nobody waits
// for that who asks for another.
func TestOthersAreReadOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "blob")
	var o others
	d := blob.Of([]byte("right"))
	open := func(blob.Digest) (*os.File, error) { return os.Open(path) }
	is := func(content string, at time.Time, right bool) {
		t.Helper()
		write(t, "/", path, []byte(content))
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
		b, err := o.open(d, open)
		if (err == nil) != right {
			t.Errorf("%s: %v", content, err)
		}
		if b != nil {
			b.Close()
		}
	}
	is("wrong", now, false)
	is("right", now, false) // as if nothing had changed
	is("right", now.Add(time.Second), true)
	o.reading.Lock() // somebody's large file is read
	defer o.reading.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		is("right", now.Add(time.Second), true)
	}()
	select {
	case <-done:
	case <-time.After(nettest.Limit):
		t.Error("a blob that was read through waits for another")
	}
}

// A provider that can open no more files has not lost what it has.
func TestOutOfDescriptors(t *testing.T) {
	p, _ := start(t, Config{Blob: func(blob.Digest) (*os.File, error) { return nil, &os.PathError{Op: "open", Err: unix.EMFILE} }})
	if _, err := p.OpenBlob(blob.Of([]byte("elsewhere"))); !errors.Is(err, ErrUnchecked) {
		t.Errorf("from outside: %v", err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/stable/x86_64/kernel", "/" + blobPath(contents["kernel"])} {
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", path, nil)
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1, Max: limit.Max}); err != nil {
			t.Fatal(err)
		}
		p.ServeHTTP(w, r)
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
			t.Fatal(err)
		}
		if w.Code != 503 || w.Header().Get("Retry-After") == "" {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}
