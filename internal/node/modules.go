package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/store"
)

// Modules finds modules by digest: first in the node's own store, then by
// downloading, keeping what was downloaded. Its method Get serves as
// Config.Module.
type Modules struct {
	Stores   []*store.Store // asked in this order
	Keep     *store.Store   // receives downloads; nil keeps nothing
	MaxBytes int64          // what is stored and larger is refused as too big
	// Download gets d from other machines; its bytes are not trusted. Nil
	// means that there are none to ask.
	Download func(ctx context.Context, d blob.Digest) ([]byte, error)
	Log      *slog.Logger // nil discards
}

// Get returns the bytes of the module d, checked against d. A copy on disk
// that cannot be read or has rotted is passed over, and replaced by what is
// downloaded; a download that cannot be kept is still used.
func (m *Modules) Get(ctx context.Context, d blob.Digest) ([]byte, error) {
	for _, s := range m.Stores {
		module, err := m.read(s, d)
		if err == nil || errors.As(err, new(*job.Refusal)) {
			return module, err
		}
		if !errors.Is(err, fs.ErrNotExist) {
			m.log().Warn("stored module not usable", "module", d, "err", err)
		}
	}
	if m.Download == nil {
		return nil, fmt.Errorf("module %s is not on this machine and no provider is known", d)
	}
	module, err := m.Download(ctx, d)
	if err != nil {
		return nil, err
	}
	if got := blob.Of(module); got != d {
		return nil, &blob.MismatchError{Want: d, Got: got, WantSize: int64(len(module)), GotSize: int64(len(module))}
	}
	if m.Keep != nil {
		if err := m.Keep.Put(d, int64(len(module)), bytes.NewReader(module)); err != nil {
			m.log().Warn("downloaded module not kept", "module", d, "err", err)
		}
	}
	return module, nil
}

func (m *Modules) log() *slog.Logger {
	if m.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return m.Log
}

func (m *Modules) read(s *store.Store, d blob.Digest) ([]byte, error) {
	info, err := os.Lstat(s.Path(d))
	if err != nil {
		return nil, err
	}
	if info.Size() > m.MaxBytes {
		return nil, &job.Refusal{Reason: job.TooBig, Detail: fmt.Sprintf("the module has %d bytes, this node takes at most %d", info.Size(), m.MaxBytes)}
	}
	r, err := s.Open(d, info.Size())
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}
