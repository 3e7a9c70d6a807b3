package stick

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func job(t *testing.T, m Medium, size int64) *Job {
	t.Helper()
	img, err := OpenImage(testImage(t, size, "new"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { img.Close() })
	return &Job{Image: img, Medium: m, Path: "/dev/fake", Old: []int64{mib, 5 * mib, 7 * mib}, Seed: [32]byte{1}}
}

// TestWrite: every byte of the image is on the medium, whatever was there before;
// the table is that of the medium's size; beyond the image only marks were, and
// they are gone.
func TestWrite(t *testing.T) {
	for _, size := range []int64{24 * mib, 25*mib + 512, 64 * mib} {
		for _, zeroes := range []bool{true, false} {
			t.Run(fmt.Sprint(size, zeroes), func(t *testing.T) {
				m := dirty(t, size)
				m.zeroes = zeroes
				j := job(t, m, 24*mib)
				report, err := j.Run(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if len(m.pending) != 0 {
					t.Error("something was never confirmed")
				}
				holds(t, m, j.Image, report)
			})
		}
	}
}

// holds checks the medium against the image, byte by byte.
func holds(t *testing.T, m *memory, img *Image, report Report) {
	t.Helper()
	want, err := os.ReadFile(img.Path)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, m.size)
	if _, err := m.ReadAt(got, 0); err != nil {
		t.Fatal(err)
	}
	table, err := readTable(bytes.NewReader(got), m.size)
	if err != nil {
		t.Fatalf("the medium: %v", err)
	}
	if !slices.Equal(table.parts, img.Partitions) {
		t.Errorf("partitions are %v, want %v", table.parts, img.Partitions)
	}
	if i := different(want[34*sector:img.Size-mib], got[34*sector:img.Size-mib]); i >= 0 {
		t.Errorf("byte %d differs", i+34*sector)
	}
	if bytes.Contains(got, []byte(markMagic)) {
		t.Error("a mark was left")
	}
	front, back := table.ends(img.Size) // as a Source does it
	if !bytes.Equal(front, want[:len(front)]) || !bytes.Equal(back, want[img.Size-int64(len(back)):]) {
		t.Error("the ends do not lead back to the image's")
	}
	if report.Bytes != img.Size || report.Medium != m.size || report.Image.IsZero() {
		t.Errorf("report %+v", report)
	}
}

// TestSparse: what is zero is not sent to a medium that makes zeros, nor to one that
// is empty.
func TestSparse(t *testing.T) {
	for _, zeroes := range []bool{true, false} {
		m := newMemory(96 * mib)
		m.zeroes = zeroes
		report, err := job(t, m, 96*mib).Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if report.Sent > 14*mib {
			t.Errorf("zeroes %v: %d bytes were sent", zeroes, report.Sent)
		}
	}
}

// TestProgress: it counts what the medium has confirmed, and ends at the whole.
func TestProgress(t *testing.T) {
	m := dirty(t, 96*mib)
	j := job(t, m, 96*mib)
	var last int64
	var seen []Phase
	j.Progress = func(phase Phase, done, total int64) {
		if len(seen) == 0 || seen[len(seen)-1] != phase {
			seen, last = append(seen, phase), 0
		}
		if done < last || done > total {
			t.Errorf("%s: %d after %d, of %d", phase, done, last, total)
		}
		if phase == Writing && m.ahead > 0 {
			t.Errorf("%d bytes are told, and %d of them not confirmed", done, m.ahead)
		}
		if last = done; phase == Writing && done > 0 && done-last > window {
			t.Errorf("a step of %d", done-last)
		}
	}
	if _, err := j.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if want := []Phase{Wiping, Probing, Writing, Reading, Starting}; !slices.Equal(seen, want) {
		t.Errorf("phases %v", seen)
	}
	for _, n := range m.synced {
		if n > window+chunk {
			t.Errorf("%d bytes in one go", n)
		}
	}
}

// startable says why a machine, or a tool that rescues partitions, would find
// something on the medium; "" if not. What was written and not confirmed may have come
// through, or not, piece by piece.
func startable(m *memory) string {
	for _, at := range []int64{0, sector, m.size - sector, mib, mib + 6*sector, 24*mib - sector} {
		found := [][]byte{m.data[at : at+sector]}
		for _, w := range m.pending {
			if w.at <= at && at+sector <= w.at+int64(len(w.data)) {
				found = append(found, w.data[at-w.at:][:sector])
			}
		}
		for _, b := range found {
			if b[510] == 0x55 && b[511] == 0xaa {
				return fmt.Sprintf("a boot sector at %d", at)
			}
			if bytes.HasPrefix(b, []byte("EFI PART")) {
				return fmt.Sprintf("a partition table at %d", at)
			}
		}
	}
	return ""
}

var errCut = errors.New("power cut")

// stride leaves out most of the long middle, where one cut is like the next.
func stride(cut, of int) int {
	if cut > 20 && cut < of-40 {
		return 5
	}
	return 1
}

// TestInterruptedWriteLeavesNothingBootable cuts the power at each operation with the
// medium: between the end of the first phase and the beginning of the last one
// nothing on it starts; later only what was read back whole does.
func TestInterruptedWriteLeavesNothingBootable(t *testing.T) {
	count := dirty(t, 32*mib)
	if _, err := job(t, count, 24*mib).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	base := dirty(t, 32*mib)
	j := job(t, base, 24*mib)
	quiet, complete := 0, 0
	for cut := 1; cut < count.ops; cut += stride(cut, count.ops) {
		m := newMemory(32 * mib)
		copy(m.data, base.data)
		m.fail = func(string, int64, int64) error {
			if m.ops >= cut {
				return errCut
			}
			return nil
		}
		var phase Phase
		again := *j
		again.Medium = m
		again.Progress = func(p Phase, _, _ int64) { phase = p }
		if _, err := again.Run(t.Context()); !errors.Is(err, errCut) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		found := startable(m)
		switch {
		case phase == "": // being wiped
		case phase != Reading:
			quiet++
			if found != "" {
				t.Fatalf("cut at %d of %d, in phase %q: %s", cut, count.ops, phase, found)
			}
		case found != "":
			complete++
		default:
			quiet++
		}
	}
	if quiet < 45 || complete == 0 || complete > 30 {
		t.Errorf("%d quiet cuts, %d in the end", quiet, complete)
	}
}

// TestCancel: whoever interrupts is told that nothing starts from the medium, and
// that is so.
func TestCancel(t *testing.T) {
	for _, in := range []Phase{Wiping, Probing, Writing, Reading} {
		m := dirty(t, 24*mib)
		j := job(t, m, 24*mib)
		ctx, cancel := context.WithCancel(t.Context())
		j.Progress = func(p Phase, done, _ int64) {
			if p == in && (done > 0 || p == Wiping) {
				cancel()
			}
		}
		_, err := j.Run(ctx)
		expect(t, err, Interrupted, "it has no partition table, and nothing starts from it")
		if found := startable(m); found != "" {
			t.Errorf("%s: %s", in, found)
		}
		cancel()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m := newMemory(24 * mib)
	_, err := job(t, m, 24*mib).Run(ctx)
	if expect(t, err, Interrupted, "left as it is"); m.ops > 0 {
		t.Error("it was touched")
	}
}

func expect(t *testing.T, err error, reason Reason, text string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Reason != reason || !strings.Contains(err.Error(), text) || e.Hint() == "" {
		t.Errorf("error is %v, want %v with %q", err, reason, text)
	}
}

// TestFaults: what a medium may say or do half way.
func TestFaults(t *testing.T) {
	at := func(op string, from int64, err error) func(string, int64, int64) error {
		return func(o string, at, n int64) error {
			if o == op && at >= from && n > markSize {
				return err
			}
			return nil
		}
	}
	for _, tt := range []struct {
		name   string
		fail   func(string, int64, int64) error
		reason Reason
		text   string
	}{
		{"write error", at("write", 4*mib, syscall.EIO), DeviceError, "reports an error while writing at byte"},
		{"read error", at("read", 4*mib, syscall.EIO), DeviceError, "reports an error while reading at byte"},
		{"full", at("write", 4*mib, syscall.ENOSPC), DeviceError, "no space left"},
		{"unplugged", at("write", 4*mib, syscall.ENODEV), Gone, "is gone"},
		{"flush fails", func(op string, _, _ int64) error {
			if op == "sync" {
				return syscall.EIO
			}
			return nil
		}, DeviceError, "writing"},
	} {
		m := dirty(t, 24*mib)
		m.fail = tt.fail
		_, err := job(t, m, 24*mib).Run(t.Context())
		expect(t, err, tt.reason, tt.text)
	}
}

// rotten changes a byte of what is read.
type rotten struct {
	*memory
	at int64
}

func (r rotten) ReadAt(p []byte, at int64) (int, error) {
	n, err := r.memory.ReadAt(p, at)
	if at <= r.at && r.at < at+int64(n) {
		p[r.at-at] ^= 1
	}
	return n, err
}

// TestReadBackFindsTheFirstWrongByte, wherever it is: in the ends, the heads, the
// rest, or a hole.
func TestReadBackFindsTheFirstWrongByte(t *testing.T) {
	for _, at := range []int64{0, 700, mib + 3, 2*mib + 77, 20 * mib, 24*mib - 1} {
		m := dirty(t, 24*mib)
		_, err := job(t, rotten{m, at}, 24*mib).Run(t.Context())
		expect(t, err, NotKept, fmt.Sprintf("byte %d of %d is 0x", at, 24*mib))
	}
}

// TestWornOut: a stick that has become read-only in silence is found before the
// image is written.
func TestWornOut(t *testing.T) {
	m := dirty(t, 24*mib)
	m.worn = true
	_, err := job(t, m, 24*mib).Run(t.Context())
	if expect(t, err, NotKept, "did not keep"); m.sent > 4*mib {
		t.Errorf("%d bytes were written", m.sent)
	}
}

// TestImageChanges while it is written.
func TestImageChanges(t *testing.T) {
	for _, change := range []func(path string) error{
		func(path string) error { return os.Truncate(path, 8*mib) },
		func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteAt([]byte{7}, 24*mib-700) // in the second table, which is made anew
			return err
		},
	} {
		j := job(t, newMemory(24*mib), 24*mib)
		j.Progress = func(p Phase, done, _ int64) {
			if p == Reading && done == 0 {
				if err := change(j.Image.Path); err != nil {
					t.Error(err)
				}
			}
		}
		_, err := j.Run(t.Context())
		expect(t, err, ImageChanged, "while it was written")
	}
}

func TestTooSmall(t *testing.T) {
	m := newMemory(24*mib - 512)
	_, err := job(t, m, 24*mib).Run(t.Context())
	if expect(t, err, TooSmall, "the image needs 25165824"); m.ops > 0 {
		t.Error("it was touched")
	}
}
