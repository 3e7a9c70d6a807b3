package provider

import (
	"bytes"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
)

// age makes a published file old enough for its date to be told.
func age(t testing.TB, path string) time.Time {
	t.Helper()
	when := time.Now().Add(-time.Hour).Truncate(time.Second)
	if err := os.Chtimes(path, when, when); err != nil {
		t.Fatal(err)
	}
	return when
}

func TestRangesAndConditions(t *testing.T) {
	base := t.TempDir()
	publish(t, base, 7)
	when := age(t, filepath.Join(base, "stable/x86_64/kernel"))
	date := func(d time.Duration) string { return when.Add(d).UTC().Format(http.TimeFormat) }
	_, url := start(t, Config{Base: base})
	kernel := contents["kernel"]
	tag := `"` + blob.Of(kernel).String() + `"`
	eight := "bytes=0-0" + strings.Repeat(",2-2", maxRanges-1)
	for _, c := range []struct {
		name   string
		method string
		head   http.Header
		status int
		want   []byte // nil: any
	}{
		{"middle", "GET", http.Header{"Range": {"bytes=7-13"}}, 206, kernel[7:14]},
		{"from", "GET", http.Header{"Range": {"bytes=3000000-"}}, 206, kernel[3000000:]},
		{"last", "GET", http.Header{"Range": {"bytes=-5"}}, 206, kernel[len(kernel)-5:]},
		{"more than there is", "GET", http.Header{"Range": {"bytes=3499999-9999999999"}}, 206, kernel[3499999:]},
		{"beyond", "GET", http.Header{"Range": {"bytes=4000000-"}}, 416, nil},
		{"nonsense", "GET", http.Header{"Range": {"bytes=x"}}, 416, nil},
		{"backwards", "GET", http.Header{"Range": {"bytes=9-5"}}, 416, nil},
		{"out of any number", "GET", http.Header{"Range": {"bytes=0-99999999999999999999999999"}}, 416, nil},
		{"other unit", "GET", http.Header{"Range": {"pages=1-2"}}, 416, nil},
		{"same file", "GET", http.Header{"Range": {"bytes=7-13"}, "If-Range": {tag}}, 206, kernel[7:14]},
		{"other file", "GET", http.Header{"Range": {"bytes=7-13"}, "If-Range": {`"other"`}}, 200, kernel},
		{"weak tag", "GET", http.Header{"Range": {"bytes=7-13"}, "If-Range": {"W/" + tag}}, 200, kernel},
		{"a date continues nothing", "GET", http.Header{"Range": {"bytes=7-13"}, "If-Range": {date(0)}}, 200, kernel},
		{"known", "GET", http.Header{"If-None-Match": {tag}}, 304, []byte{}},
		{"one of several", "GET", http.Header{"If-None-Match": {`"x", ` + tag}}, 304, []byte{}},
		{"other known", "GET", http.Header{"If-None-Match": {`"other"`}, "If-Modified-Since": {date(0)}}, 200, kernel},
		{"must be other", "GET", http.Header{"If-Match": {`"other"`}}, 412, nil},
		{"of this date", "GET", http.Header{"If-Modified-Since": {date(0)}}, 304, []byte{}},
		{"of a later date", "GET", http.Header{"If-Modified-Since": {date(time.Minute)}}, 200, kernel},
		{"of an earlier date", "GET", http.Header{"If-Modified-Since": {date(-time.Minute)}}, 200, kernel},
		{"not a date", "GET", http.Header{"If-Modified-Since": {"yesterday"}}, 200, kernel},
		{"HEAD has no ranges", "HEAD", http.Header{"Range": {"bytes=7-13"}}, 200, []byte{}},
		{"HEAD of what is known", "HEAD", http.Header{"If-None-Match": {tag}}, 304, []byte{}},
		{"a few ranges", "GET", http.Header{"Range": {eight}}, 206, nil},
		{"too many ranges", "GET", http.Header{"Range": {eight + ",4-4"}}, 416, nil},
		{"thousands of ranges", "GET", http.Header{"Range": {"bytes=0-0" + strings.Repeat(",0-0", 3000)}}, 416, nil},
		{"more than the file in ranges", "GET", http.Header{"Range": {"bytes=0-,0-,0-"}}, 200, kernel},
	} {
		resp, data := do(t, c.method, url+"/stable/x86_64/kernel", c.head, nil)
		if resp.StatusCode != c.status || c.want != nil && !bytes.Equal(data, c.want) {
			t.Errorf("%s: %s, %d bytes", c.name, resp.Status, len(data))
		}
		if resp.StatusCode == 416 && (resp.Header.Get("Content-Range") != "bytes */3500000" && c.name != "nonsense" &&
			c.name != "backwards" && c.name != "out of any number" && c.name != "other unit" || len(data) > 200) {
			t.Errorf("%s: Content-Range %q, %d bytes", c.name, resp.Header.Get("Content-Range"), len(data))
		}
	}
}

// Several ranges come as parts, in the order asked for.
func TestSeveralRanges(t *testing.T) {
	_, url := start(t, Config{})
	resp, data := do(t, "GET", url+"/stable/x86_64/kernel", http.Header{"Range": {"bytes=7-13, 3499993-"}}, nil)
	_, params, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || resp.StatusCode != 206 {
		t.Fatalf("%s, %v", resp.Status, err)
	}
	parts := multipart.NewReader(bytes.NewReader(data), params["boundary"])
	for _, want := range []string{"bytes 7-13/3500000", "bytes 3499993-3499999/3500000"} {
		part, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(part)
		if err != nil || part.Header.Get("Content-Range") != want || string(body) != "kernel " {
			t.Errorf("part %q: %q, %v", part.Header.Get("Content-Range"), body, err)
		}
	}
	if _, err := parts.NextPart(); err != io.EOF {
		t.Errorf("more parts: %v", err)
	}
}

// What may be kept, for how long.
func TestCaching(t *testing.T) {
	base := t.TempDir()
	publish(t, base, 7)
	age(t, filepath.Join(base, "stable/x86_64/manifest.json"))
	_, url := start(t, Config{Base: base})
	for path, want := range map[string]struct {
		control string
		dated   bool
	}{
		"/" + blobPath(contents["kernel"]): {"public, max-age=31536000, immutable", true},
		"/stable/x86_64/pointer.json":      {"no-cache", false}, // too young for its date to mean anything
		"/stable/x86_64/manifest.json":     {"no-cache", true},
		"/manifest.json":                   {"no-cache", true},
		"/status":                          {"no-store", false},
		"/health":                          {"no-store", false},
		"/metrics":                         {"no-store", false},
	} {
		resp, _ := get(t, url+path)
		if got := resp.Header.Get("Cache-Control"); got != want.control || (resp.Header.Get("Last-Modified") != "") != want.dated {
			t.Errorf("%s: Cache-Control %q, Last-Modified %q", path, got, resp.Header.Get("Last-Modified"))
		}
	}
	for _, path := range []string{"/blobs/aa/" + strings.Repeat("a", 64) + ".bin", "/nothing"} {
		if resp, _ := get(t, url+path); strings.Contains(resp.Header.Get("Cache-Control"), "immutable") {
			t.Errorf("%s: that nothing is here may be kept for ever", path)
		}
	}
}
