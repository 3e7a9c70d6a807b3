package lab

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
)

// content is what the provider of these tests has.
var content = bytes.Repeat([]byte("a release "), 300_000)

// mirrorOf starts a provider of content and a mirror of it, and returns the
// content's URL there.
func mirrorOf(t *testing.T, f Fault) (*Mirror, string) {
	t.Helper()
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Unix(1, 0), bytes.NewReader(content))
	}))
	t.Cleanup(provider.Close)
	at, err := url.Parse(provider.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(at.Port())
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewMirror(port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Stop)
	m.Misbehave(f)
	return m, strings.Replace(m.Base(), GuestHost, "127.0.0.1", 1) + blobName(blob.Of(content))
}

// get asks for a range, "" for the whole.
func get(t *testing.T, url, ranged string) ([]byte, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if ranged != "" {
		request.Header.Set("Range", ranged)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return io.ReadAll(response.Body)
}

func TestMirrorCounts(t *testing.T) {
	m, url := mirrorOf(t, Fault{})
	whole, err := get(t, url, "")
	if err != nil || !bytes.Equal(whole, content) {
		t.Fatalf("%d bytes, %v", len(whole), err)
	}
	part, err := get(t, url, "bytes=1000-1099")
	if err != nil || !bytes.Equal(part, content[1000:1100]) {
		t.Fatalf("%q, %v", part, err)
	}
	path := blobName(blob.Of(content))
	if got, want := m.Requests(), []Request{{path, "", int64(len(content))}, {path, "bytes=1000-1099", 100}}; !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := m.Sent(blob.Of(content)); got != int64(len(content))+100 {
		t.Errorf("%d bytes were sent", got)
	}
	if got := m.Asked(); !slices.Equal(got, []string{path}) {
		t.Errorf("asked for %q", got)
	}
	if m.Forget(); len(m.Requests()) != 0 {
		t.Error("what was asked is not forgotten")
	}
}

func TestMirrorDies(t *testing.T) {
	rites := make(chan struct{})
	m, url := mirrorOf(t, Fault{Blob: blob.Of(content), After: 2_000_000, Then: func(m *Mirror) { close(rites); m.Die() }})
	if part, err := get(t, url, "bytes=0-999999"); err != nil || len(part) != 1_000_000 {
		t.Fatalf("%d bytes, %v", len(part), err)
	}
	part, err := get(t, url, "bytes=1000000-2999999")
	if err == nil || len(part) > 1_000_000 || !bytes.HasPrefix(content[1_000_000:], part) {
		t.Errorf("%d bytes, %v", len(part), err)
	}
	<-rites
	<-m.Gone()
	if _, err := get(t, url, ""); err == nil {
		t.Error("a dead mirror answers")
	}
	if got := m.Sent(blob.Of(content)); got != 2_000_000 {
		t.Errorf("it sent %d bytes", got)
	}
}

func TestMirrorLies(t *testing.T) {
	_, url := mirrorOf(t, Fault{Blob: blob.Of(content), Lies: true})
	whole, err := get(t, url, "")
	if err != nil || len(whole) != len(content) {
		t.Fatalf("%d bytes, %v", len(whole), err)
	}
	for i := range content {
		if lie := i%blob.ChunkSize == 0; lie != (whole[i] != content[i]) {
			t.Fatalf("byte %d is %d, of %d", i, whole[i], content[i])
		}
	}
	if part, err := get(t, url, "bytes=1048576-1048577"); err != nil || part[0] == content[blob.ChunkSize] || part[1] != content[blob.ChunkSize+1] {
		t.Errorf("%q, %v", part, err)
	}
}

func TestMirrorGoesOn(t *testing.T) {
	m, url := mirrorOf(t, Fault{Absent: true})
	if body, err := get(t, url, ""); err != nil || len(body) > 100 {
		t.Errorf("%d bytes, %v", len(body), err)
	}
	called := 0
	m.Misbehave(Fault{Blob: blob.Of(content), After: 1000, Then: func(*Mirror) { called++ }, Rate: 1 << 30})
	for range 2 {
		if whole, err := get(t, url, ""); err != nil || !bytes.Equal(whole, content) {
			t.Errorf("%d bytes, %v", len(whole), err)
		}
	}
	if called != 1 {
		t.Errorf("it was told %d times", called)
	}
}

func TestMirrorWithoutProvider(t *testing.T) {
	ports, err := FreePorts()
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewMirror(ports.HTTP)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Stop()
	response, err := http.Get(strings.Replace(m.Base(), GuestHost, "127.0.0.1", 1))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusBadGateway {
		t.Errorf("status %s", response.Status)
	}
}
