package jobapi

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
)

// countingBlobs note what is brought and claimed, and have "m" from the beginning.
type countingBlobs struct {
	fakeBlobs
	mu   *sync.Mutex
	said *[]string
}

func (b countingBlobs) note(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	*b.said = append(*b.said, text)
}

func (b countingBlobs) PutFor(who string, d blob.Digest, size int64, r io.Reader) error {
	if err := b.Put(d, size, r); err != nil {
		return err
	}
	b.note(fmt.Sprintf("%s brings %d", who, size))
	return nil
}

func (b countingBlobs) Claim(who string, d blob.Digest) {
	b.note(fmt.Sprintf("%s claims %.10s", who, d.Hex()))
}

// TestUploadsAreCountedByCaller: what is brought, what is there already, and nothing of
// what is refused. An input may be as large as the largest, and is read from the beginning.
func TestUploadsAreCountedByCaller(t *testing.T) {
	var mu sync.Mutex
	var said []string
	c := NewClient(start(t, func(c *Config) {
		c.Blobs = countingBlobs{mu: &mu, said: &said}
		c.Caller = func(net.Conn) (job.Caller, error) { return job.Caller{Name: "local:7"}, nil }
	}))
	defer c.Close()
	input := bytes.Repeat([]byte("i"), 1<<20)
	if err := c.UploadFrom(t.Context(), blob.Of(input), int64(len(input)), bytes.NewReader(input)); err != nil {
		t.Error(err)
	}
	if err := c.UploadFrom(t.Context(), named("m"), 1, strings.NewReader("m")); err != nil {
		t.Error(err)
	}
	for what, refused := range map[string][]byte{"larger": append(input, 'i'), "other bytes": []byte("x")} {
		d := blob.Of(refused)
		if what == "other bytes" {
			d = blob.Of([]byte("y"))
		}
		if err := c.UploadFrom(t.Context(), d, int64(len(refused)), bytes.NewReader(refused)); err == nil {
			t.Errorf("%s: taken", what)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"local:7 brings 1048576", fmt.Sprintf("local:7 claims %.10s", named("m").Hex())}; !slices.Equal(said, want) {
		t.Errorf("%q, want %q", said, want)
	}
}
