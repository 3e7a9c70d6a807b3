package provider

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// TestMedia serves what lies below media, in ranges, and nothing else.
func TestMedia(t *testing.T) {
	base := t.TempDir()
	for name, text := range map[string]string{
		"media/stable-41/phase.img": "an image", "media/stable-41/SHA256SUMS": "list", "media/media-key.pem": "key",
		"media/.part-1/phase.img": "half", "media/stable-41/vm/deep": "deep", "secret": "secret",
	} {
		path := filepath.Join(base, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	outside := filepath.Join(t.TempDir(), "passwd")
	if err := errors.Join(os.WriteFile(outside, []byte("root"), 0o644), os.Symlink(outside, filepath.Join(base, "media", "stable-41", "link"))); err != nil {
		t.Fatal(err)
	}
	_, url := start(t, Config{Base: base})
	get := func(path, span string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if span != "" {
			r.Header.Set("Range", span)
		}
		a, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		body, err := io.ReadAll(a.Body)
		if err != nil {
			t.Fatal(err)
		}
		return a.StatusCode, string(body)
	}
	for path, want := range map[string]string{
		"/media/stable-41/phase.img": "an image", "/media/stable-41/SHA256SUMS": "list", "/media/media-key.pem": "key",
	} {
		if status, body := get(path, ""); status != http.StatusOK || body != want {
			t.Errorf("%s: %d %q", path, status, body)
		}
	}
	if status, body := get("/media/stable-41/phase.img", "bytes=3-"); status != http.StatusPartialContent || body != "image" {
		t.Errorf("a range: %d %q", status, body)
	}
	for _, path := range []string{
		"/media/", "/media/stable-41", "/media/stable-41/", "/media/.part-1/phase.img", "/media/stable-41/none", "/media/stable-41/link",
		"/media/stable-41/vm/deep", "/media/..%2fsecret", "/media/stable-41/..%2f..%2fsecret", "/media/%2e%2e/secret", "/media/stable-41/a%00b",
	} {
		if status, body := get(path, ""); status != http.StatusNotFound && status != http.StatusBadRequest {
			t.Errorf("%s: %d %q", path, status, body)
		}
	}
}
