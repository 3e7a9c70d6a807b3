package stick

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
)

// A mark is a block whose bytes follow from its place and from the run, so that it
// cannot be mistaken for another, nor for one of an earlier run. It begins with its
// place: a block that turns up elsewhere says where it was meant to be.
const (
	markSize  = 64 << 10
	markMagic = "phase capacity 1"
)

// marks are places all over a medium.
type marks struct {
	size   int64
	seed   [32]byte
	places []int64 // ascending
}

const (
	// spread is how many places are taken evenly, the last of them in the last MiB.
	spread = 48
	// markBase is the place that those a power of two above it fall back to, on a
	// controller that drops the upper bits of addresses.
	markBase = 3 * mib
)

// newMarks chooses the places for a medium of size bytes and an image of less. None
// is in the first MiB, which stays empty, nor on the border of the image.
func newMarks(size, image int64, seed [32]byte) *marks {
	m := &marks{size: size, seed: seed}
	last := size - edge
	places := []int64{last}
	for i := int64(1); i < spread; i++ {
		places = append(places, size/spread*i)
	}
	for _, base := range []int64{markBase, markBase + 7*markSize} {
		places = append(places, base)
		for step := int64(4 * mib); base+step < last; step *= 2 {
			places = append(places, base+step)
		}
	}
	for _, p := range places {
		p = (min(p, last) + markSize - 1) &^ (markSize - 1)
		if p >= edge && (p >= image || p+markSize <= image) {
			m.places = append(m.places, p)
		}
	}
	slices.Sort(m.places)
	m.places = slices.Compact(m.places)
	return m
}

// fill makes the mark of a place.
func (m *marks) fill(p []byte, at int64) {
	seed := m.seed
	binary.LittleEndian.PutUint64(seed[24:], binary.LittleEndian.Uint64(seed[24:])^uint64(at))
	rng := rand.NewChaCha8(seed)
	_, _ = rng.Read(p) // never fails
	copy(p, markMagic)
	binary.LittleEndian.PutUint64(p[len(markMagic):], uint64(at))
}

// meant is the place that a block was written for, if it is a mark of this run.
func (m *marks) meant(p []byte) (int64, bool) {
	if !bytes.HasPrefix(p, []byte(markMagic)) {
		return 0, false
	}
	at := int64(binary.LittleEndian.Uint64(p[len(markMagic):]))
	want := make([]byte, len(p))
	m.fill(want, at)
	return at, bytes.Equal(p, want)
}

// probe writes all marks and reads them back.
func (w *writer) probe(ctx context.Context) error {
	buf := aligned(markSize)
	total := int64(len(w.marks.places)) * 2
	for i, at := range w.marks.places {
		if err := ctx.Err(); err != nil {
			return err
		}
		w.marks.fill(buf, at)
		if err := w.put(buf, at); err != nil {
			return err
		}
		w.tell(Probing, int64(i+1), total)
	}
	if err := errors.Join(w.confirm(w.size), w.forget()); err != nil {
		return err
	}
	var lost []finding
	for i, at := range w.marks.places {
		f, err := w.look(at)
		if err != nil {
			return err
		}
		if !f.kept {
			lost = append(lost, f)
		}
		w.tell(Probing, total/2+int64(i+1), total)
	}
	return w.judge(ctx, lost)
}

// A finding is what was found at a place of a mark.
type finding struct {
	at    int64
	kept  bool
	moved int64 // the place whose mark is here instead; -1: none
	// almost is a mark in its place with a few wrong bytes: a bad block, not a
	// forgery.
	almost bool
}

func (w *writer) look(at int64) (finding, error) {
	got := w.buf[1][:markSize]
	if err := w.get(got, at); err != nil {
		return finding{}, err
	}
	meant, ours := w.marks.meant(got)
	if !ours {
		meant = -1
	}
	f := finding{at: at, kept: ours && meant == at, moved: meant}
	if !ours {
		want := make([]byte, markSize)
		w.marks.fill(want, at)
		wrong := 0
		for i := range want {
			if want[i] != got[i] {
				wrong++
			}
		}
		f.almost = wrong < markSize/4
	}
	return f, nil
}

// judge says how much room there really is, if marks were lost. Where marks turn up
// at lower places, the medium counts from the beginning again after its real size,
// which divides all those distances; else the room ends between the last good place
// and the first bad one.
func (w *writer) judge(ctx context.Context, lost []finding) error {
	if len(lost) == 0 {
		return nil
	}
	if len(lost) == 1 && lost[0].almost {
		want := aligned(markSize)
		w.marks.fill(want, lost[0].at)
		return w.same(want, lost[0].at)
	}
	real := w.wrapsAt(lost)
	if real == 0 {
		var err error
		if real, err = w.endsAt(ctx, lost[0].at); err != nil {
			return err
		}
	}
	return w.fake("about", real, lost[0].at)
}

func (w *writer) fake(about string, real, at int64) error {
	return refuse(FakeCapacity, w.Path, "has less room than it says: %s %s (%d bytes), not %s (%d bytes); what is written at byte %d is lost",
		about, size(real), real, size(w.size), w.size, at)
}

// wrapsAt is the size after which a medium begins again; 0: it does not.
func (w *writer) wrapsAt(lost []finding) int64 {
	var step int64
	for _, f := range lost {
		if f.moved >= 0 {
			step = gcd(step, max(f.moved-f.at, f.at-f.moved))
		}
	}
	// A medium that begins again loses a mark below its real size. One that keeps
	// only the last write beyond its end loses none there.
	if step <= lost[0].at {
		return 0
	}
	return step
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// endsAt searches the place where the medium ends, up to a MiB, below one that was
// lost. After each mark another is written at the far end: a medium that keeps only
// the last write would look as if it kept them all.
func (w *writer) endsAt(ctx context.Context, bad int64) (int64, error) {
	good := int64(0)
	for _, p := range w.marks.places {
		if p < bad {
			good = p
		}
	}
	far := w.marks.places[len(w.marks.places)-1]
	buf := aligned(markSize)
	for bad-good > mib {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		middle := (good + (bad-good)/2) &^ (markSize - 1)
		for _, at := range []int64{middle, far} {
			w.marks.fill(buf, at)
			if err := w.put(buf, at); err != nil {
				return 0, err
			}
		}
		if err := errors.Join(w.confirm(middle), w.forget()); err != nil {
			return 0, err
		}
		f, err := w.look(middle)
		if err != nil {
			return 0, err
		}
		if f.kept {
			good = middle
		} else {
			bad = middle
		}
	}
	return good, nil
}

// farMarks looks after the marks beyond the image once that is written, and clears
// them; those in the last MiB are overwritten in the end. A medium that begins again
// at whatever size has put parts of the image in their place.
func (w *writer) farMarks() error {
	zeros := aligned(markSize)
	for _, at := range w.marks.places {
		if at < w.Image.Size {
			continue
		}
		f, err := w.look(at)
		if err != nil {
			return err
		}
		if !f.kept {
			return w.fake("less than", at, at)
		}
		if at >= w.size-edge {
			continue
		}
		if err := w.put(zeros, at); err != nil {
			return err
		}
	}
	return w.confirm(w.size)
}
