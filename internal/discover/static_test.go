package discover_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/phasebased/phase/internal/discover"
	"github.com/phasebased/phase/internal/discover/discovertest"
	"github.com/phasebased/phase/manifest"
)

// static is a source without a network: the suite's own check.
type static map[discover.Query][]byte

func (s static) Name() string { return "static" }

func (s static) Search(ctx context.Context, q discover.Query, found func(discover.Candidate)) error {
	if err := q.Validate(); err != nil {
		return err
	}
	if p, ok := s[q]; ok {
		found(discover.Candidate{Pointer: bytes.Clone(p), Origin: "static"})
	}
	return nil
}

type stuck struct{ static }

func (stuck) Search(ctx context.Context, _ discover.Query, _ func(discover.Candidate)) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestStaticConformance(t *testing.T) {
	discovertest.Run(t, discovertest.World{
		Source: func(t *testing.T, pointers ...[]byte) discover.Source {
			s := static{}
			for _, raw := range pointers {
				p, err := manifest.InspectPointer(raw)
				if err != nil {
					t.Fatal(err)
				}
				s[discover.Query{Channel: p.Channel, Arch: p.Arch}] = raw
			}
			return s
		},
		Silent: func(*testing.T) discover.Source { return stuck{} },
	})
}
