package node

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/store"
)

func TestIdentityIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.key")
	first, err := LoadOrCreateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadOrCreateKey(path)
	if err != nil || !first.Equal(again) {
		t.Errorf("another identity at the second start: %v", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v %v", info.Mode(), err)
	}
	other, err := EphemeralKey()
	if err != nil || other.Equal(first) {
		t.Errorf("ephemeral key: %v", err)
	}
}

func TestUnusableIdentityIsNeverReplaced(t *testing.T) {
	good := filepath.Join(t.TempDir(), "node.key")
	if _, err := LoadOrCreateKey(good); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(raw)
	for name, c := range map[string]struct {
		content []byte
		mode    os.FileMode
	}{
		"empty":           {nil, 0o600},
		"truncated":       {raw[:len(raw)/2], 0o600},
		"text":            {[]byte("PLACEHOLDER\n"), 0o600},
		"two keys":        {append(bytes.Clone(raw), raw...), 0o600},
		"huge":            {append(bytes.Clone(raw), bytes.Repeat([]byte("\n"), maxKeyFile)...), 0o600},
		"certificate":     {pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes}), 0o600},
		"damaged":         {pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: block.Bytes[:10]}), 0o600},
		"others may read": {raw, 0o644},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "node.key")
			if err := os.WriteFile(path, c.content, c.mode); err != nil {
				t.Fatal(err)
			}
			_, err := LoadOrCreateKey(path)
			var ke *KeyError
			if !errors.As(err, &ke) || ke.Code() != "NODE-020" || ke.Hint() == "" {
				t.Errorf("%v", err)
			}
			if left, _ := os.ReadFile(path); !bytes.Equal(left, c.content) {
				t.Error("the file was changed")
			}
			if err != nil && strings.Contains(err.Error(), string(block.Bytes[len(block.Bytes)-8:])) {
				t.Error("the error holds key material")
			}
		})
	}
	if _, err := LoadOrCreateKey(t.TempDir()); err == nil {
		t.Error("a directory was accepted")
	}
	if _, err := LoadOrCreateKey(filepath.Join(t.TempDir(), "missing", "node.key")); err == nil {
		t.Error("a key without a directory was accepted")
	}
}

func TestModulesAreLookedUpNearestFirst(t *testing.T) {
	s, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	module := []byte("a module")
	d := blob.Of(module)
	downloads := 0
	m := &Modules{Stores: []*store.Store{s}, Keep: s, MaxBytes: 100, Download: func(context.Context, blob.Digest) ([]byte, error) {
		downloads++
		return module, nil
	}}
	get := func() {
		t.Helper()
		if got, err := m.Get(context.Background(), d); err != nil || !bytes.Equal(got, module) {
			t.Fatalf("%q %v", got, err)
		}
	}
	get()
	get()
	if downloads != 1 {
		t.Errorf("%d downloads for two uses", downloads)
	}
	if err := os.Chmod(s.Path(d), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Path(d), []byte("bit rot!"), 0o644); err != nil {
		t.Fatal(err)
	}
	get()
	get()
	if downloads != 2 {
		t.Errorf("%d downloads after the copy had rotted once", downloads)
	}
	m.MaxBytes = 3
	var refused *job.Refusal
	if _, err := m.Get(context.Background(), d); !errors.As(err, &refused) || refused.Reason != job.TooBig || downloads != 2 {
		t.Errorf("a stored module over the limit: %v, after %d downloads", err, downloads)
	}
}

func TestModulesRefuse(t *testing.T) {
	d := blob.Of([]byte("a module"))
	none := &Modules{}
	if _, err := none.Get(context.Background(), d); err == nil || !strings.Contains(err.Error(), d.String()) {
		t.Errorf("nobody to ask: %v", err)
	}
	liar := &Modules{Download: func(context.Context, blob.Digest) ([]byte, error) { return []byte("else"), nil }}
	var mismatch *blob.MismatchError
	if _, err := liar.Get(context.Background(), d); !errors.As(err, &mismatch) || mismatch.Want != d {
		t.Errorf("wrong bytes: %v", err)
	}
	gone := errors.New("gone")
	dead := &Modules{Download: func(context.Context, blob.Digest) ([]byte, error) { return nil, gone }}
	if _, err := dead.Get(context.Background(), d); !errors.Is(err, gone) {
		t.Errorf("failed download: %v", err)
	}
}
