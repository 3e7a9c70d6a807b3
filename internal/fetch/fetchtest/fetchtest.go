// Package fetchtest is what every fetch.Source has to do, as a test that each of
// them runs. It trusts nothing that a source says and checks what it does.
package fetchtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/fetch"
)

// patience is how long a source may take to notice something.
const patience = 30 * time.Second

// Source tests the sources that open makes: each has the given blobs, and nothing
// else, as long as the test runs. wholes says that it gives parts of a blob only
// with a chunk list.
func Source(t *testing.T, wholes bool, open func(t *testing.T, blobs ...[]byte) fetch.Source) {
	small, large := content(1, 70_000), content(2, 3*blob.ChunkSize+999)
	src := open(t, small, large)
	if name := src.String(); name == "" || src.String() != name {
		t.Error("it has no name of its own")
	}
	parts := parts(t, small, large, wholes)
	for name, p := range parts {
		t.Run(name, func(t *testing.T) {
			var got bytes.Buffer
			if err := src.Read(context.Background(), p.Part, plain{&got}); err != nil || !bytes.Equal(got.Bytes(), p.want) {
				t.Errorf("%d of %d bytes, %v", got.Len(), len(p.want), err)
			}
			got.Reset()
			if err := src.Read(context.Background(), p.Part, &got); err != nil || !bytes.Equal(got.Bytes(), p.want) {
				t.Errorf("into an io.ReaderFrom: %d of %d bytes, %v", got.Len(), len(p.want), err)
			}
		})
	}
	whole := parts["large, with a list"]
	t.Run("many at once", func(t *testing.T) { together(t, src, parts) })
	t.Run("absent", func(t *testing.T) { absent(t, src) })
	t.Run("writer fails", func(t *testing.T) { writerFails(t, src, whole.Part) })
	t.Run("given up", func(t *testing.T) { givenUp(t, src, whole.Part) })
}

type part struct {
	fetch.Part
	want []byte
}

func parts(t *testing.T, small, large []byte, wholes bool) map[string]part {
	list, d, size, err := blob.ChunksOf(bytes.NewReader(large))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]part{
		"small": {fetch.Part{Blob: blob.Of(small), Size: int64(len(small)), Length: int64(len(small))}, small},
	}
	add := func(name string, from, to int) {
		off, _ := list.Bounds(from)
		last, n := list.Bounds(to - 1)
		p := fetch.Part{Blob: d, Size: size, Offset: off, Length: last + n - off}
		for i := from; i < to; i++ {
			p.Chunks = append(p.Chunks, list.Digest(i))
		}
		all[name] = part{p, large[off : last+n]}
	}
	add("large, with a list", 0, 4)
	add("first chunk", 0, 1)
	add("middle", 1, 3)
	add("last chunk", 3, 4)
	if !wholes {
		all["large, without a list"] = part{fetch.Part{Blob: d, Size: size, Length: size}, large}
	}
	return all
}

func together(t *testing.T, src fetch.Source, parts map[string]part) {
	var readers sync.WaitGroup
	for name, p := range parts {
		for range 3 {
			readers.Go(func() {
				var got bytes.Buffer
				if err := src.Read(context.Background(), p.Part, &got); err != nil || !bytes.Equal(got.Bytes(), p.want) {
					t.Errorf("%s: %d of %d bytes, %v", name, got.Len(), len(p.want), err)
				}
			})
		}
	}
	readers.Wait()
}

func absent(t *testing.T, src fetch.Source) {
	other := content(3, 5000)
	var got bytes.Buffer
	err := src.Read(context.Background(), fetch.Part{Blob: blob.Of(other), Size: 5000, Length: 5000, Chunks: []blob.Digest{blob.Of(other)}}, &got)
	if err == nil || got.Len() > 0 {
		t.Errorf("%d bytes, %v", got.Len(), err)
	}
	if !errors.Is(err, fetch.ErrAbsent) {
		t.Errorf("%v is not ErrAbsent", err)
	}
}

// errFull is what the writer says.
var errFull = errors.New("enough")

func writerFails(t *testing.T, src fetch.Source, p fetch.Part) {
	w := &narrow{room: 1000}
	if err := within(t, func() error { return src.Read(context.Background(), p, w) }); !errors.Is(err, errFull) {
		t.Errorf("%v, want the writer's own error", err)
	}
	if w.after > 0 {
		t.Errorf("%d more writes after the first that failed", w.after)
	}
}

func givenUp(t *testing.T, src fetch.Source, p fetch.Part) {
	ctx, cancel := context.WithCancelCause(context.Background())
	reason := errors.New("somebody else was faster")
	w := &stopping{stop: func() { cancel(reason) }}
	if err := within(t, func() error { return src.Read(ctx, p, w) }); err == nil && w.n < int(p.Length) {
		t.Errorf("no error after %d of %d bytes", w.n, p.Length)
	}
	if err := within(t, func() error { return src.Read(ctx, p, io.Discard) }); err == nil {
		t.Error("began although nobody wanted it any more")
	}
}

// within runs f and fails if it does not come back.
func within(t *testing.T, f func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		t.Fatal("it does not end")
		return nil
	}
}

// narrow takes some bytes and then no more.
type narrow struct {
	room, after int
	failed      bool
}

func (w *narrow) Write(p []byte) (int, error) {
	if w.failed {
		w.after++
	}
	if len(p) > w.room {
		w.failed = true
		return 0, errFull
	}
	w.room -= len(p)
	return len(p), nil
}

// stopping calls stop at its first bytes.
type stopping struct {
	stop func()
	n    int
}

func (w *stopping) Write(p []byte) (int, error) {
	w.stop()
	w.n += len(p)
	return len(p), nil
}

// plain hides what a writer can do beside Write.
type plain struct{ io.Writer }

func content(seed byte, size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// Path is where providers have a blob.
func Path(d blob.Digest) string {
	return fmt.Sprintf("/blobs/%s/%s.bin", d.Hex()[:2], d.Hex())
}
