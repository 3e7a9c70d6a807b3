package store

import (
	"context"
	"errors"
	"time"
)

// Report is what GC did.
type Report struct {
	Blobs []Info        // that were removed to get under the limit
	Parts []PartialInfo // that were removed because of their age or the limit
	Files int           // other files that were removed: abandoned, or in quarantine
	Freed int64         // bytes of all that was removed
	Used  int64         // bytes that are left, all that counts against a limit
}

// GC removes what interrupted writers left and, with a limit, what was used
// longest ago until no more is left than that; see Limit. It honours pins, and
// fails with a *PinError if it cannot tell what they protect. If what may not be
// removed is more than the limit, it removes all else and the error is a
// *FullError. The report holds for what was done before an error, too.
func (s *Store) GC(ctx context.Context, limit Limit) (Report, error) {
	var report Report
	err := s.locked(func() error {
		swept, err := s.sweep(time.Now())
		for _, t := range swept {
			report.add(item{kind: part, digest: t.part, size: t.size, used: t.used})
		}
		if limit.Bytes > 0 { // also beside what could not be swept
			evicted, evictErr := s.evictAll(ctx, limit)
			for _, i := range evicted {
				report.add(i)
			}
			err = errors.Join(err, evictErr)
		}
		left, listErr := s.items()
		for _, i := range left {
			report.Used += i.size
		}
		return errors.Join(err, listErr)
	})
	return report, err
}

// evictAll is evict that comes as near to the limit as it may.
func (s *Store) evictAll(ctx context.Context, limit Limit) ([]item, error) {
	removed, err := s.evict(ctx, limit, 0)
	var full *FullError
	if !errors.As(err, &full) {
		return removed, err
	}
	removed, err = s.evict(ctx, Limit{Bytes: full.Protected, Keep: limit.Keep}, 0)
	return removed, errors.Join(full, err)
}

func (r *Report) add(i item) {
	r.Freed += i.size
	switch {
	case i.kind == stored:
		r.Blobs = append(r.Blobs, Info{Digest: i.digest, Size: i.size, Used: i.used})
	case i.kind == part && !i.digest.IsZero():
		r.Parts = append(r.Parts, PartialInfo{Digest: i.digest, Size: i.size, Used: i.used})
	default:
		r.Files++
	}
}
