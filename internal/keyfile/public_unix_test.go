//go:build unix

package keyfile

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/phasebased/phase/internal/durable"
)

// TestReadPublicOfAPipe: whoever fills a folder with keys cannot keep its reader
// waiting, and a link is as good as the key it leads to.
func TestReadPublicOfAPipe(t *testing.T) {
	dir := t.TempDir()
	pipe, good, link := filepath.Join(dir, "pipe.pub"), filepath.Join(dir, "good.pub"), filepath.Join(dir, "link.pub")
	key := public(testKey("a"))
	if err := errors.Join(syscall.Mkfifo(pipe, 0o600), WritePublic(good, key), os.Symlink(good, link)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, dir, "/dev/zero"} {
		if got, err := ReadPublic(path); got != nil || !errors.Is(err, durable.ErrNotRegular) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if got, err := ReadPublic(link); err != nil || !got.Equal(key) {
		t.Errorf("a link: %v", err)
	}
}
