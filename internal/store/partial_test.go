package store

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
)

func partial(t *testing.T, s *Store, data string) *Partial {
	t.Helper()
	p, err := s.Partial(blob.Of([]byte(data)), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Abort() })
	return p
}

func writeAt(t *testing.T, p *Partial, data string, off int64) {
	t.Helper()
	if n, err := p.WriteAt([]byte(data), off); err != nil || n != len(data) {
		t.Fatalf("WriteAt: %d, %v", n, err)
	}
}

func partPath(s *Store, d blob.Digest) string {
	return filepath.Join(s.Dir(), tempDir, d.Hex()+partSuffix)
}

// A part is gone on with by another store, as after a crash or a reboot.
func TestPartialIsResumed(t *testing.T) {
	dir := t.TempDir()
	data := strings.Repeat("0123456789", 2000)
	d := blob.Of([]byte(data))
	s := open(t, dir, Limit{})
	p := partial(t, s, data)
	writeAt(t, p, data[15_000:], 15_000)
	writeAt(t, p, data[:4096], 0)
	if p.Size() != 20_000 {
		t.Errorf("size %d", p.Size())
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if s.Has(d) {
		t.Fatal("half a blob has its name")
	}

	s = open(t, dir, Limit{})
	p = partial(t, s, data)
	got := make([]byte, 20_000)
	if n, err := p.ReadAt(got, 0); err != nil || n != 20_000 {
		t.Fatalf("ReadAt: %d, %v", n, err)
	}
	if want := data[:4096] + strings.Repeat("\x00", 15_000-4096) + data[15_000:]; string(got) != want {
		t.Error("what was written is not there")
	}
	writeAt(t, p, data[4096:15_000], 4096)
	if err := p.Commit(); err != nil {
		t.Fatal(err)
	}
	if got, err := read(s, d, 20_000); err != nil || got != data {
		t.Errorf("the blob: %v", err)
	}
	if left := tempFiles(t, s); len(left) != 0 {
		t.Errorf("left: %q", left)
	}
}

func TestPartialTakesManyWriters(t *testing.T) {
	s := open(t, t.TempDir(), Limit{})
	data := strings.Repeat("abcdefgh", 8<<10)
	p := partial(t, s, data)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			from := i * 4096
			if _, err := p.WriteAt([]byte(data[from:from+4096]), int64(from)); err != nil {
				t.Error(err)
			}
			got := make([]byte, 4096)
			if _, err := p.ReadAt(got, int64(from)); err != nil || string(got) != data[from:from+4096] {
				t.Errorf("read back: %v", err)
			}
		})
	}
	wg.Wait()
	if err := p.Commit(); err != nil {
		t.Error(err)
	}
}

func TestPartialIsExclusive(t *testing.T) {
	dir := t.TempDir()
	s, other := open(t, dir, Limit{}), open(t, dir, Limit{})
	p := partial(t, s, "data")
	for _, s := range []*Store{s, other} {
		var busy *BusyError
		if _, err := s.Partial(blob.Of([]byte("data")), 4); !errors.As(err, &busy) || busy.Hint() == "" || !strings.Contains(err.Error(), "somebody else") {
			t.Errorf("a second writer: %v", err)
		}
	}
	p.Close()
	partial(t, other, "data").Abort()
}

func TestPartialEndsOnce(t *testing.T) {
	s := open(t, t.TempDir(), Limit{})
	for name, end := range map[string]func(p *Partial) error{
		"commit": (*Partial).Commit, "close": (*Partial).Close, "abort": (*Partial).Abort,
	} {
		p := partial(t, s, "data")
		writeAt(t, p, "data", 0)
		if err := end(p); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_, wrote := p.WriteAt([]byte("x"), 0)
		_, got := p.ReadAt(make([]byte, 1), 0)
		for what, err := range map[string]error{"write": wrote, "read": got, "commit": p.Commit(), "close": p.Close()} {
			if !errors.Is(err, os.ErrClosed) {
				t.Errorf("%s after %s: %v", what, name, err)
			}
		}
		if err := p.Abort(); err != nil {
			t.Errorf("abort after %s: %v", name, err)
		}
	}
}

// TestPartialRefusesWrongBytes: they never get a name, and what is wrong is not
// gone on with.
func TestPartialRefusesWrongBytes(t *testing.T) {
	s := open(t, t.TempDir(), Limit{})
	d := blob.Of([]byte("data"))
	for name, spoil := range map[string]func(p *Partial){
		"other bytes":   func(p *Partial) { writeAt(t, p, "Data", 0) },
		"a gap":         func(p *Partial) { writeAt(t, p, "da", 0) },
		"nothing":       func(*Partial) {},
		"cut on disk":   func(p *Partial) { writeAt(t, p, "data", 0); os.Truncate(partPath(s, d), 3) },
		"grown on disk": func(p *Partial) { writeAt(t, p, "data", 0); os.Truncate(partPath(s, d), 1<<40) },
		"rot on disk":   func(p *Partial) { writeAt(t, p, "data", 0); os.WriteFile(partPath(s, d), []byte("dat!"), 0o644) },
	} {
		p := partial(t, s, "data")
		spoil(p)
		var corrupt *CorruptError
		if err := p.Commit(); !errors.As(err, &corrupt) || corrupt.Digest != d || corrupt.Path != partPath(s, d) {
			t.Errorf("%s: %v, want a CorruptError", name, err)
		}
		if s.Has(d) || len(tempFiles(t, s)) != 0 {
			t.Errorf("%s: something was left", name)
		}
	}
	p := partial(t, s, "data")
	for _, off := range []int64{-1, 1, 4, 5, 1<<63 - 1} {
		var mismatch *blob.MismatchError
		if n, err := p.WriteAt([]byte("data"), off); n != 0 || !errors.As(err, &mismatch) || mismatch.GotSize == 4 {
			t.Errorf("write at %d: %d, %v", off, n, err)
		}
	}
	if _, err := p.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("read before the beginning")
	}
	if n, err := p.ReadAt(make([]byte, 9), 2); n != 2 || err != io.EOF {
		t.Errorf("read over the end: %d, %v", n, err)
	}
	for _, size := range []int64{-1, 1 << 62} {
		if p, err := open(t, t.TempDir(), Limit{Bytes: 1000}).Partial(d, size); err == nil {
			p.Abort()
			t.Errorf("size %d was taken", size)
		}
	}
	if _, err := s.Partial(blob.Digest{}, 4); err == nil {
		t.Error("no digest was taken")
	}
}

// TestPartialOfAnotherSize: a part that is longer than the blob is none of it.
func TestPartialOfAnotherSize(t *testing.T) {
	s := open(t, t.TempDir(), Limit{})
	os.WriteFile(partPath(s, blob.Of([]byte("data"))), []byte("longer"), 0o644)
	p := partial(t, s, "data")
	got := make([]byte, 4)
	if _, err := p.ReadAt(got, 0); err != nil || !bytes.Equal(got, make([]byte, 4)) {
		t.Errorf("%q, %v", got, err)
	}
	writeAt(t, p, "data", 0)
	if err := p.Commit(); err != nil {
		t.Error(err)
	}
}

func TestOpenKeepsYoungParts(t *testing.T) {
	s := open(t, t.TempDir(), Limit{})
	old, unset := "an old one", "one of a machine without a clock"
	for _, data := range []string{"young", old, unset} {
		p := partial(t, s, data)
		writeAt(t, p, data[:2], 0)
		p.Close()
	}
	living := partial(t, s, "old but alive")
	age := func(data string, when time.Time) {
		if err := os.Chtimes(partPath(s, blob.Of([]byte(data))), when, when); err != nil {
			t.Fatal(err)
		}
	}
	age(old, time.Now().Add(-partAge-time.Hour))
	age("old but alive", time.Now().Add(-partAge-time.Hour))
	age(unset, time.Unix(1000, 0))
	again := open(t, s.Dir(), Limit{})
	for data, want := range map[string]bool{"young": true, old: false, unset: true, "old but alive": true} {
		if _, err := os.Stat(partPath(again, blob.Of([]byte(data)))); (err == nil) != want {
			t.Errorf("%s: %v", data, err)
		}
	}
	writeAt(t, living, "old but alive", 0)
	if err := living.Commit(); err != nil {
		t.Error(err)
	}
}

func TestPartsCountAgainstTheLimit(t *testing.T) {
	dir := t.TempDir()
	s, other := open(t, dir, Limit{Bytes: 1000}), open(t, dir, Limit{Bytes: 900})
	first := strings.Repeat("a", 600)
	p := partial(t, s, first)
	var full *FullError
	if _, err := other.Create(blob.Of([]byte("b")), 400); !errors.As(err, &full) || full.Protected != 600 || full.Hint() == "" {
		t.Errorf("beside a part at work of another store: %v", err)
	}
	w, err := s.Create(blob.Of([]byte("b")), 400)
	if err != nil {
		t.Fatal(err)
	}
	w.Abort()
	p.Close()
	// One that nobody goes on with makes room.
	put(t, other, strings.Repeat("b", 400))
	if left := tempFiles(t, s); len(left) != 0 {
		t.Errorf("the idle part is still there: %q", left)
	}
	// Going on counts what is there only once.
	p = partial(t, s, first)
	p.Close()
	partial(t, s, first).Close()
}

// TestNobodyPromisesTheSameRoom: of many stores on one folder, as in many
// processes, only as many begin a blob as there is room for.
func TestNobodyPromisesTheSameRoom(t *testing.T) {
	dir := t.TempDir()
	var stores []*Store
	for range 12 {
		stores = append(stores, open(t, dir, Limit{Bytes: 1000}))
	}
	for round := range 20 {
		start := make(chan struct{})
		begun := make(chan *Writer, len(stores))
		var wg sync.WaitGroup
		for i, s := range stores {
			wg.Go(func() {
				<-start
				w, err := s.Create(blob.Of([]byte{byte(i)}), 300)
				if full := (*FullError)(nil); err != nil && !errors.As(err, &full) {
					t.Error(err)
				}
				begun <- w
			})
		}
		close(start)
		wg.Wait()
		close(begun)
		n := 0
		for w := range begun {
			if w != nil {
				n++
				w.Abort()
			}
		}
		if n != 3 {
			t.Fatalf("round %d: %d blobs of 300 bytes were begun under a limit of 1000", round, n)
		}
	}
}

// Who hashed the bytes itself is believed about right bytes, and its wrong sum
// costs the part.
func TestPartialWithASum(t *testing.T) {
	s := open(t, t.TempDir(), Limit{})
	const data = "hashed on the way"
	d := blob.Of([]byte(data))
	p := partial(t, s, data)
	writeAt(t, p, data, 0)
	if err := p.CommitHashed(d); err != nil {
		t.Fatal(err)
	}
	if got, err := read(s, d, int64(len(data))); err != nil || got != data {
		t.Errorf("%q, %v", got, err)
	}
	if err := p.CommitHashed(d); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the second end: %v", err)
	}
	const other = "something else"
	p = partial(t, s, other)
	writeAt(t, p, other, 0)
	var corrupt *CorruptError
	if err := p.CommitHashed(d); !errors.As(err, &corrupt) || s.Has(blob.Of([]byte(other))) || len(tempFiles(t, s)) > 0 {
		t.Errorf("a sum of other bytes: %v, left %v", err, tempFiles(t, s))
	}
}
