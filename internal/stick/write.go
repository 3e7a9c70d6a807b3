package stick

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"github.com/phasebased/phase/blob"
)

// A Medium is what an image is written to: a disk, or a file that stands for one.
// Places and lengths are multiples of 512 bytes.
type Medium interface {
	Size() int64
	// WriteAt hands bytes over; they count only after Sync.
	io.WriterAt
	// ReadAt reads what the medium has, past every cache of this machine that can be
	// passed by.
	io.ReaderAt
	// Sync returns when the medium has confirmed all that was written.
	Sync() error
	// Zero makes zeros without sending them. False: the medium cannot.
	Zero(at, n int64) (bool, error)
	// Drop empties this machine's caches of the medium.
	Drop() error
	// Gone reports whether an error says that the medium is not there any more.
	Gone(err error) bool
}

// A Phase of writing; each has a progress of its own.
type Phase string

// The phases, in their order.
const (
	Wiping   Phase = "wipe"
	Probing  Phase = "capacity"
	Writing  Phase = "write"
	Reading  Phase = "read back"
	Starting Phase = "finish" // of making the medium one that starts
)

// A Job writes one image to one medium. All but Progress is required.
type Job struct {
	Image  *Image
	Medium Medium
	Path   string // of the medium, for errors
	// Old are the places where partitions begin before; they are wiped.
	Old []int64
	// Seed makes the marks of this run differ from those of others.
	Seed [32]byte
	// Progress is called from one goroutine with the bytes that a phase has
	// finished: in Writing, those that the medium has confirmed.
	Progress func(phase Phase, done, total int64)
}

// A Report says what the medium holds.
type Report struct {
	Image  blob.Digest `json:"-"`
	Bytes  int64       `json:"bytes"`  // of the image, all of which were read back
	Medium int64       `json:"medium"` // its size
	Sent   int64       `json:"sent"`   // bytes that had to be written: the rest were zeros
}

const (
	chunk = 4 << 20 // bytes that are written at once
	block = 64 << 10
	// window is what may be written before the medium has to confirm it: the largest
	// step of the progress. A slow stick confirms more often: see patience.
	window = 128 << 20
	// patience is how long writing goes on without being confirmed.
	patience = 500 * time.Millisecond
)

// Run writes the image. An error leaves a medium that nothing starts from, as soon
// as the first phase is over; before that, one of which nobody knows.
func (j *Job) Run(ctx context.Context) (Report, error) {
	if ctx.Err() != nil {
		return Report{}, refuse(Interrupted, j.Path, "was left as it is: interrupted before anything was written")
	}
	w := &writer{Job: j, size: j.Medium.Size(), buf: [2][]byte{aligned(chunk), aligned(chunk)}}
	if w.size < j.Image.Size {
		return Report{}, refuse(TooSmall, j.Path, "is too small: it has %d bytes, and the image needs %d", w.size, j.Image.Size)
	}
	w.marks = newMarks(w.size, j.Image.Size, j.Seed)
	report := Report{Bytes: j.Image.Size, Medium: w.size}
	for _, step := range []func(context.Context) error{w.wipe, w.probe, w.write, w.readBack, w.finish} {
		if err := step(ctx); err != nil {
			return Report{}, w.explain(ctx, err)
		}
	}
	report.Image, report.Sent = w.digest, w.sent
	return report, nil
}

// writer is a Job while it runs.
type writer struct {
	*Job
	size   int64
	buf    [2][]byte // for reading: from the image ahead of the medium, and from the medium
	old    []byte    // for what is there before; see zeroBuf
	zeros  extent    // noted by clear, not yet made
	marks  *marks
	digest blob.Digest
	sent   int64
}

// A mediumError is what the medium said, and where.
type mediumError struct {
	doing string
	at    int64
	err   error
}

func (e *mediumError) Error() string { return e.err.Error() }
func (e *mediumError) Unwrap() error { return e.err }

// explain gives errors the form of the package.
func (w *writer) explain(ctx context.Context, err error) error {
	var known *Error
	var medium *mediumError
	is := errors.As(err, &known)
	switch {
	case is && known.Reason == NotKept && w.Image.unchanged() != nil:
		return w.Image.unchanged() // the medium is not to blame
	case is:
		return err
	case errors.As(err, &medium) && w.Medium.Gone(medium.err):
		return &Error{Reason: Gone, Path: w.Path, Text: "is gone: it was unplugged, or has failed altogether", Err: medium.err}
	case errors.As(err, &medium):
		e := refuse(DeviceError, w.Path, "reports an error while %s at byte %d of %d", medium.doing, medium.at, w.size)
		e.Err = medium.err
		return e
	case ctx.Err() != nil: // looked at only once the medium is wiped
		return refuse(Interrupted, w.Path, "was not finished: interrupted; it has no partition table, and nothing starts from it")
	}
	return err
}

func (w *writer) tell(phase Phase, done, total int64) {
	if w.Progress != nil {
		w.Progress(phase, done, total)
	}
}

// put writes bytes at a place.
func (w *writer) put(p []byte, at int64) error {
	if _, err := w.Medium.WriteAt(p, at); err != nil {
		return &mediumError{"writing", at, err}
	}
	w.sent += int64(len(p))
	return nil
}

// get reads bytes from a place.
func (w *writer) get(p []byte, at int64) error {
	if _, err := w.Medium.ReadAt(p, at); err != nil {
		return &mediumError{"reading", at, err}
	}
	return nil
}

// confirm returns when all that was written up to a place is on the medium.
func (w *writer) confirm(at int64) error {
	if err := w.Medium.Sync(); err != nil {
		return &mediumError{"writing", at, err}
	}
	return nil
}

// forget makes the next reads come from the medium.
func (w *writer) forget() error {
	if err := w.Medium.Drop(); err != nil {
		return &mediumError{"emptying caches", 0, err}
	}
	return nil
}

// wipe takes away what makes the medium one that starts, and looks whether it is
// gone: a worn-out stick takes writes and forgets them.
func (w *writer) wipe(context.Context) error {
	places := append([]extent{{0, edge}, {w.size - edge, edge}}, heads(w.Image.Partitions)...)
	for _, at := range w.Old {
		if at > 0 && at < w.size {
			places = append(places, extent{at, min(headSize, w.size-at)})
		}
	}
	zeros := aligned(edge)
	for i, p := range places {
		if err := w.put(zeros[:p.n], p.at); err != nil {
			return err
		}
		if i == 0 { // the most important one first, and by itself
			if err := w.confirm(p.at); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(w.confirm(0), w.forget()); err != nil {
		return err
	}
	for _, p := range places {
		if err := w.same(zeros[:p.n], p.at); err != nil {
			return err
		}
	}
	w.tell(Wiping, 1, 1)
	return nil
}

// same reads the medium and compares it with what should be there.
func (w *writer) same(want []byte, at int64) error {
	got := w.buf[1][:len(want)]
	if err := w.get(got, at); err != nil {
		return err
	}
	if i := different(want, got); i >= 0 {
		return refuse(NotKept, w.Path, "did not keep what was written: byte %d of %d is 0x%02x instead of 0x%02x", at+int64(i), w.size, got[i], want[i])
	}
	return nil
}

// different is the first place where two texts of equal length differ; -1: none.
func different(a, b []byte) int {
	if bytes.Equal(a, b) {
		return -1
	}
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

// write writes the image without its ends and heads.
func (w *writer) write(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	confirmed, last, total := int64(0), time.Now(), w.Image.Size
	w.sent = 0
	w.tell(Writing, 0, total)
	for c := range w.chunks(ctx, nil) {
		if c.err != nil {
			return c.err
		}
		if err := w.lay(c.data, c.at); err != nil {
			return err
		}
		end := c.at + int64(len(c.data))
		c.done()
		if end-confirmed < window && time.Since(last) < patience && end < total {
			continue
		}
		if err := errors.Join(w.makeZeros(), w.confirm(end)); err != nil {
			return err
		}
		confirmed, last = end, time.Now()
		w.tell(Writing, confirmed, total)
	}
	return ctx.Err()
}

// lay writes a part of the image: long runs of zeros are made, the rest is sent.
func (w *writer) lay(p []byte, at int64) error {
	for len(p) > 0 {
		n, empty := run(p)
		lay := w.put
		if empty {
			lay = w.clear
		}
		if err := lay(p[:n], at); err != nil {
			return err
		}
		p, at = p[n:], at+int64(n)
	}
	return nil
}

// leastZeros is the shortest run of zeros that is not simply sent: shorter ones
// would cost more in commands than they save.
const leastZeros = 16 * block

// run is the length of the part that p begins with: all zeros and long, or not.
func run(p []byte) (n int, empty bool) {
	n = zeroRun(p)
	if n >= leastZeros || n == len(p) {
		return n, true
	}
	for n < len(p) {
		n += min(block, len(p)-n)
		if zeroRun(p[n:]) >= leastZeros {
			break
		}
	}
	return n, false
}

// zeroRun is the length of the blocks of zeros at the beginning.
func zeroRun(p []byte) int {
	n := 0
	for n < len(p) {
		b := p[n:min(n+block, len(p))]
		if !allZero(b) {
			break
		}
		n += len(b)
	}
	return n
}

func allZero(p []byte) bool {
	// A text equals itself moved by one if all its bytes are the same.
	return len(p) == 0 || p[0] == 0 && bytes.Equal(p[1:], p[:len(p)-1])
}

// clear notes that there are to be zeros. They are made when it is known how far they
// go: one command for all of them.
func (w *writer) clear(zeros []byte, at int64) error {
	if w.zeros.at+w.zeros.n != at {
		if err := w.makeZeros(); err != nil {
			return err
		}
		w.zeros.at = at
	}
	w.zeros.n += int64(len(zeros))
	return nil
}

// makeZeros makes the zeros that were noted: by the medium itself, or by writing only
// where there are none. Reading is several times as fast as writing, and wears nothing
// out.
func (w *writer) makeZeros() error {
	e := w.zeros
	w.zeros = extent{}
	if e.n == 0 {
		return nil
	}
	made, err := w.Medium.Zero(e.at, e.n)
	if err != nil {
		return &mediumError{"writing", e.at, err}
	}
	if made {
		return nil
	}
	for end := e.at + e.n; e.at < end; e.at += chunk {
		if err := w.writeZeros(e.at, min(chunk, end-e.at)); err != nil {
			return err
		}
	}
	return nil
}

// writeZeros reads at most a chunk and overwrites the blocks in it that are no zeros.
func (w *writer) writeZeros(at, size int64) error {
	old := w.zeroBuf()[:size]
	if err := w.get(old, at); err != nil {
		return err
	}
	for n := 0; n < len(old); {
		from := n + zeroRun(old[n:])
		for n = from; n < len(old) && zeroRun(old[n:]) == 0; {
			n += min(block, len(old)-n)
		}
		clear(old[from:n])
		if n > from {
			if err := w.put(old[from:n], at+int64(from)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *writer) zeroBuf() []byte {
	if w.old == nil {
		w.old = aligned(chunk)
	}
	return w.old
}

// finish makes a medium of what was written: the partitions' beginnings, then the
// table's second copy at the medium's end, the first one, and the MBR.
func (w *writer) finish(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	steps, err := w.endings()
	if err != nil {
		return err
	}
	for _, s := range steps {
		if err := errors.Join(w.put(s.data, s.at), w.confirm(s.at)); err != nil {
			return err
		}
	}
	if err := w.forget(); err != nil {
		return err
	}
	for _, s := range steps {
		if err := w.same(s.data, s.at); err != nil {
			return err
		}
	}
	if err := w.Image.unchanged(); err != nil {
		return errors.Join(err, w.wipe(ctx))
	}
	w.tell(Starting, 1, 1)
	return nil
}

// piece is something to write at a place.
type piece struct {
	at   int64
	data []byte
}

// endings are what body leaves out, in the order in which it is written.
func (w *writer) endings() ([]piece, error) {
	var out []piece
	read := func(at, n int64) ([]byte, error) {
		p := aligned(int(n))
		_, err := w.Image.f.ReadAt(p, at)
		return p, err
	}
	for _, h := range heads(w.Image.Partitions) {
		p, err := read(h.at, h.n)
		if err != nil {
			return nil, imageError(w.Image.Path, err)
		}
		out = append(out, piece{h.at, p})
	}
	first, err := read(0, edge)
	if err != nil {
		return nil, imageError(w.Image.Path, err)
	}
	front, back := w.Image.table.ends(w.size)
	copy(first, front)
	last := aligned(edge)
	copy(last[edge-len(back):], back)
	return append(out, piece{w.size - edge, last}, piece{sector, first[sector:]}, piece{0, first[:sector]}), nil
}
