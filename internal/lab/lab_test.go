package lab

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/phasebased/phase/manifest"
)

// TestTrust: media can be for the root of somebody else, whose keys are not here and
// are not made; what machines could not use is refused, and so is publishing.
func TestTrust(t *testing.T) {
	_, reign := published(t)
	work := filepath.Join(t.TempDir(), "work")
	keys, root, err := Config{Work: work, Time: day, Root: reign.Root, MediumOnly: true}.trust()
	if err != nil || keys != nil || !bytes.Equal(root, reign.Root) {
		t.Error(keys, err)
	}
	for name, cfg := range map[string]Config{
		"empty":     {Root: []byte{}, MediumOnly: true},
		"no root":   {Root: []byte("{}"), MediumOnly: true},
		"changed":   {Root: bytes.Replace(reign.Root, []byte(`"version":1`), []byte(`"version":2`), 1), MediumOnly: true},
		"published": {Root: reign.Root},
	} {
		cfg.Work, cfg.Time = work, day
		_, _, err := cfg.trust()
		if err == nil || name != "published" && !errors.As(err, new(*manifest.Error)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := os.Stat(work); !errors.Is(err, fs.ErrNotExist) {
		t.Error("keys were made:", err)
	}
	keys, root, err = Config{Work: work, Time: day}.trust()
	if _, bad := manifest.ParseRoot(root); err != nil || bad != nil || keys == nil {
		t.Error(err, bad)
	}
}
