package fetch_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cid "github.com/ipfs/go-cid"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/fetch/fetchtest"
)

// routed is an HTTP source of several blobs, as a provider is: one URL for each.
type routed struct {
	client *http.Client
	base   string
}

func (r routed) String() string { return r.base }
func (r routed) Read(ctx context.Context, p fetch.Part, w io.Writer) error {
	return fetch.NewHTTP(r.client, r.base+fetchtest.Path(p.Blob)).Read(ctx, p, w)
}

func server(t *testing.T, path func([]byte) string, blobs ...[]byte) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, data := range blobs {
			if r.URL.Path == path(data) {
				w.Header().Set("ETag", `"x"`)
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
				return
			}
		}
		http.NotFound(w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func client(t *testing.T) *http.Client {
	c := fetch.NewClient(nil, nil)
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func TestHTTPSource(t *testing.T) {
	fetchtest.Source(t, false, func(t *testing.T, blobs ...[]byte) fetch.Source {
		return routed{client(t), server(t, func(b []byte) string { return fetchtest.Path(blob.Of(b)) }, blobs...)}
	})
}

func TestLocalSource(t *testing.T) {
	fetchtest.Source(t, false, func(t *testing.T, blobs ...[]byte) fetch.Source {
		dir := t.TempDir()
		for _, b := range blobs {
			path := filepath.Join(dir, fetchtest.Path(blob.Of(b)))
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, b, 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		s, err := fetch.NewLocal("file://" + dir)
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

// TestGatewaySource: a gateway has blocks, which are chunks.
func TestGatewaySource(t *testing.T) {
	fetchtest.Source(t, true, func(t *testing.T, blobs ...[]byte) fetch.Source {
		var blocks [][]byte
		for _, b := range blobs {
			for ; len(b) > 0; b = b[min(len(b), blob.ChunkSize):] {
				blocks = append(blocks, b[:min(len(b), blob.ChunkSize)])
			}
		}
		return fetch.NewGateway(client(t), server(t, func(b []byte) string { return "/ipfs/" + fetch.CID(blob.Of(b)) }, blocks...)+"/")
	})
}

// TestCID compares with the library that IPFS uses.
func TestCID(t *testing.T) {
	for _, data := range []string{"", "x", "hello world", strings.Repeat("phase", 1000)} {
		want, err := cid.V1Builder{Codec: cid.Raw, MhType: 0x12}.Sum([]byte(data))
		if err != nil {
			t.Fatal(err)
		}
		if got := fetch.CID(blob.Of([]byte(data))); got != want.String() {
			t.Errorf("%.10q is %s, want %s", data, got, want)
		}
	}
}

func TestNewLocal(t *testing.T) {
	for _, at := range []string{"", "file:", "file://host/x", "file:x", "file:///x?y", "file:///x#y", "a\x00b"} {
		if s, err := fetch.NewLocal(at); !errors.Is(err, fetch.ErrURL) {
			t.Errorf("%q: %v, %v", at, s, err)
		}
	}
	dir := t.TempDir()
	data := []byte("content")
	path := filepath.Join(dir, "with space")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{path, "file://" + path, "FILE://localhost" + strings.ReplaceAll(path, " ", "%20")} {
		s, err := fetch.NewLocal(at)
		if err != nil {
			t.Errorf("%q: %v", at, err)
			continue
		}
		var got bytes.Buffer
		if err := s.Read(t.Context(), fetch.Part{Blob: blob.Of(data), Size: 7, Length: 7}, &got); err != nil || got.String() != "content" {
			t.Errorf("%q: %q, %v", at, &got, err)
		}
		var mismatch *blob.MismatchError
		if err := s.Read(t.Context(), fetch.Part{Blob: blob.Of(data), Size: 8, Length: 8}, &got); !errors.As(err, &mismatch) {
			t.Errorf("%q: other size: %v", at, err)
		}
	}
}
