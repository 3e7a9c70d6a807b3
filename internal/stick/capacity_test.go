package stick

import (
	"fmt"
	"regexp"
	"strconv"
	"testing"
)

// TestFakeCapacity: sticks that claim 512 MiB and have less, in each way that they
// are forged; the real size is found to a MiB, before the image is written.
func TestFakeCapacity(t *testing.T) {
	for _, tt := range []struct {
		name   string
		beyond func(*memory, int64) (int64, bool)
		real   int64
		slack  int64
	}{
		{"wraps", wraps, 64 * mib, 0},
		{"wraps", wraps, 256 * mib, 0},
		{"wraps", wraps, 8 * mib, 0},
		{"drops", drops, 64 * mib, mib},
		{"drops", drops, 100*mib + 4096, mib},
		{"drops", drops, 511*mib - 512, mib},
		{"drops", drops, 9 * mib, mib},
		{"keeps the last write", limbo, 100 * mib, mib},
		{"keeps the last write", limbo, 500 * mib, mib},
	} {
		t.Run(fmt.Sprint(tt.name, tt.real), func(t *testing.T) {
			m := newMemory(512 * mib)
			m.real, m.beyond = tt.real, tt.beyond
			_, err := job(t, m, 24*mib).Run(t.Context())
			expect(t, err, FakeCapacity, "has less room than it says")
			if err == nil {
				return
			}
			found := regexp.MustCompile(`about .*? \((\d+) bytes\)`).FindStringSubmatch(err.Error())
			if found == nil {
				t.Fatal(err)
			}
			if n, _ := strconv.ParseInt(found[1], 10, 64); n > tt.real || n < tt.real-tt.slack {
				t.Errorf("%v; it has %d", err, tt.real)
			}
			if s := startable(m); s != "" {
				t.Error(s)
			}
		})
	}
}

// TestFakeCapacityOddWrap: one that begins again at an odd size may pass the marks;
// then the image and the marks spoil each other, and the reading back finds it.
func TestFakeCapacityOddWrap(t *testing.T) {
	for real := int64(25*mib + 512); real < 200*mib; real += 17*mib + 1536 {
		m := newMemory(512 * mib)
		m.real, m.beyond = real, wraps
		_, err := job(t, m, 24*mib).Run(t.Context())
		expect(t, err, FakeCapacity, "has less room than it says")
	}
}

// TestMarks: they are many, one is in the last MiB, and none is where it must not be.
func TestMarks(t *testing.T) {
	for _, size := range []int64{24 * mib, 25*mib + 512, 7_999_999_488, 64_000_000_000, 2_000_000_000_000} {
		m := newMarks(size, 24*mib, [32]byte{2})
		if len(m.places) < 20 || len(m.places) > 160 {
			t.Errorf("%d: %d places", size, len(m.places))
		}
		for i, p := range m.places {
			if p < edge || p+markSize > size || p%markSize != 0 || i > 0 && p < m.places[i-1]+markSize {
				t.Errorf("%d: place %d", size, p)
			}
		}
		if m.places[len(m.places)-1] < size-edge {
			t.Errorf("%d: the last is at %d", size, m.places[len(m.places)-1])
		}
	}
}
