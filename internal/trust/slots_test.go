package trust

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/phasebased/phase/internal/nettest"
)

func numberSlots(dir string) slots[int64] {
	return slots[int64]{
		path: filepath.Join(dir, "number"), kind: "test-number-1",
		format: func(n int64) string { return strconv.FormatInt(n, 10) },
		parse:  func(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) },
	}
}

func to(n int64) func(int64) (int64, error) {
	return func(int64) (int64, error) { return n, nil }
}

// TestNewestSlotWins, not the greatest value.
func TestNewestSlotWins(t *testing.T) {
	s := numberSlots(t.TempDir())
	for _, n := range []int64{1, 1000, 7, 8, -3} {
		if err := s.update(to(n)); err != nil {
			t.Fatal(err)
		}
		if got, err := s.load(); err != nil || got != n {
			t.Fatalf("%d, %v; want %d", got, err, n)
		}
	}
}

// TestSlotsAgainstModel spoils and updates at random. The model knows which
// slots are good and what they hold; from this follows what is in force, and
// that nothing but the newest value may be.
func TestSlotsAgainstModel(t *testing.T) {
	for seed := range uint64(40) {
		for _, twin := range []bool{false, true} {
			m := slotModel{T: t, slots: numberSlots(nettest.MemoryDir(t)), random: rand.New(rand.NewPCG(seed, 1))}
			m.slots.twin = twin
			for range 60 {
				m.step()
			}
		}
	}
}

type slotModel struct {
	*testing.T
	slots  slots[int64]
	random *rand.Rand
	held   [2]struct {
		there, good bool
		value       int64
		age         int
	}
	steps int
}

// force is the index of the slot in force, -1 for none.
func (m *slotModel) force() int {
	best := -1
	for i, h := range m.held {
		if h.good && (best < 0 || h.age > m.held[best].age) {
			best = i
		}
	}
	return best
}

func (m *slotModel) step() {
	m.Helper()
	m.steps++
	if i := m.random.IntN(2); m.random.IntN(3) == 0 && m.held[i].there {
		if err := os.WriteFile(m.slots.path+endings[i], []byte("spoilt"), 0o600); err != nil {
			m.Fatal(err)
		}
		m.held[i].good = false
	} else {
		m.update(m.random.Int64N(4))
	}
	got, err := m.slots.load()
	switch now := m.force(); {
	case now >= 0 && (err != nil || got != m.held[now].value):
		m.Fatalf("step %d: %d, %v; want %d", m.steps, got, err, m.held[now].value)
	case now < 0 && (m.held[0].there || m.held[1].there) && !errors.Is(err, ErrUnreadable):
		m.Fatalf("step %d: nothing is good, but %d, %v", m.steps, got, err)
	}
}

func (m *slotModel) update(value int64) {
	m.Helper()
	was := m.force()
	var before string
	if was >= 0 {
		before = readString(m.T, m.slots.path+endings[was])
	}
	if err := m.slots.update(to(value)); err != nil {
		m.Fatal(err)
	}
	write := func(slot int) {
		h := &m.held[slot]
		h.there, h.good, h.value, h.age = true, true, value, m.steps
	}
	same := was >= 0 && m.held[was].value == value
	switch nothing := !m.held[0].there && !m.held[1].there; {
	case m.slots.twin, was < 0 && !nothing:
		write(0)
		write(1)
	case same: // nothing to write
	case nothing:
		write(0)
	default:
		write(1 - was)
	}
	if same || was >= 0 && !m.slots.twin {
		if after := readString(m.T, m.slots.path+endings[was]); after != before {
			m.Fatalf("step %d: the slot in force was written", m.steps)
		}
	}
}

// TestEitherTwinMayRot: whichever copy is lost, the newest value is found, and
// the next save, of the same value even, writes the copy anew.
func TestEitherTwinMayRot(t *testing.T) {
	for _, rotten := range endings {
		s := numberSlots(t.TempDir())
		s.twin = true
		for _, n := range []int64{5, 6, 7, 7} {
			if err := s.update(to(n)); err != nil {
				t.Fatal(err)
			}
			good := readString(t, s.path+rotten)
			if err := os.WriteFile(s.path+rotten, []byte("spoilt"), 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := s.load(); err != nil || got != n {
				t.Fatalf("%s is spoilt: %d, %v; want %d", rotten, got, err, n)
			}
			if err := s.update(to(n)); err != nil {
				t.Fatal(err)
			}
			if mended := readString(t, s.path+rotten); mended != good {
				t.Errorf("%s was mended to %q, want %q", rotten, mended, good)
			}
		}
	}
}

// TestTwinAfterACut: between its two writes a cut leaves the new value in one
// slot only; saving it again completes it.
func TestTwinAfterACut(t *testing.T) {
	s := numberSlots(t.TempDir())
	s.twin = true
	if err := s.update(to(5)); err != nil {
		t.Fatal(err)
	}
	if err := s.write(1, 2, 6); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.update(to(6)); err != nil {
			t.Fatal(err)
		}
		valid, _, err := s.read()
		if err != nil || len(valid) != 2 || valid[0].value != 6 || valid[1].value != 6 || valid[0].sequence != 2 || valid[1].sequence != 2 {
			t.Fatalf("%+v, %v", valid, err)
		}
	}
}

// TestStartingOverWritesBothSlots, so that an old slot that becomes readable
// again, perhaps with a high number, is not in force.
func TestStartingOverWritesBothSlots(t *testing.T) {
	s := numberSlots(t.TempDir())
	for n := range int64(9) {
		if err := s.update(to(n + 1)); err != nil {
			t.Fatal(err)
		}
	}
	for _, ending := range endings {
		if err := os.WriteFile(s.path+ending, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.update(to(5)); err != nil {
		t.Fatal(err)
	}
	for i := range endings {
		if valid, _, err := s.read(); err != nil || len(valid) != 2 || valid[i].value != 5 {
			t.Errorf("%+v, %v", valid, err)
		}
	}
}

func TestSlotThatCouldNotBeReadIsNotWritten(t *testing.T) {
	dir := t.TempDir()
	s := numberSlots(dir)
	s.format = func(n int64) string { return fmt.Sprintf("%d \n", n) }
	if err := s.update(to(1)); err == nil {
		t.Error("a value with a line end was stored")
	}
	s = numberSlots(dir)
	if err := s.write(0, maxSequence, 1); err != nil {
		t.Fatal(err)
	}
	if err := s.update(to(2)); err == nil {
		t.Error("the sequence ran over")
	}
	if got, err := s.load(); err != nil || got != 1 {
		t.Errorf("%d, %v", got, err)
	}
}
