package trust

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
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
// which file an update must leave alone.
func TestSlotsAgainstModel(t *testing.T) {
	type slot struct {
		there, good bool
		value, age  int64
	}
	for seed := range uint64(40) {
		random := rand.New(rand.NewPCG(seed, 1))
		s := numberSlots(quickDir(t))
		var model [2]slot
		force := func() int { // index of the slot in force, -1 for none
			best := -1
			for i, m := range model {
				if m.good && (best < 0 || m.age > model[best].age) {
					best = i
				}
			}
			return best
		}
		for step := range int64(60) {
			if i := random.IntN(2); random.IntN(3) == 0 && model[i].there {
				if err := os.WriteFile(s.path+endings[i], []byte("spoilt"), 0o600); err != nil {
					t.Fatal(err)
				}
				model[i].good = false
			} else {
				value, was := random.Int64N(1000), force()
				var before []byte
				if was >= 0 {
					before, _ = os.ReadFile(s.path + endings[was])
				}
				if err := s.update(to(value)); err != nil {
					t.Fatal(err)
				}
				switch now := (slot{true, true, value, 2 * step}); {
				case was >= 0 && model[was].value == value: // nothing to write
				case was >= 0:
					if after, _ := os.ReadFile(s.path + endings[was]); string(after) != string(before) {
						t.Fatalf("seed %d, step %d: the slot in force was written", seed, step)
					}
					model[1-was] = now
				case model[0].there || model[1].there:
					model = [2]slot{now, {true, true, value, 2*step + 1}}
				default:
					model[0] = now
				}
			}
			got, err := s.load()
			switch was := force(); {
			case was >= 0 && (err != nil || got != model[was].value):
				t.Fatalf("seed %d, step %d: %d, %v; want %d", seed, step, got, err, model[was].value)
			case was < 0 && (model[0].there || model[1].there) && !errors.Is(err, ErrUnreadable):
				t.Fatalf("seed %d, step %d: nothing is good, but %d, %v", seed, step, got, err)
			}
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
		if valid, err := s.read(); err != nil || len(valid) != 2 || valid[i].value != 5 {
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
