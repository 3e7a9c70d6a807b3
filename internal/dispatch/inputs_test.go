package dispatch

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobpeer"
	"github.com/phasebased/phase/receipt"
)

var testInput = []byte("what is read")

// jobWithInput names one file twice, and an empty one.
func jobWithInput(t *testing.T) Job {
	t.Helper()
	in := job.Input{Digest: blob.Of(testInput), Size: int64(len(testInput))}
	j, err := job.New(job.Spec{
		Version: job.SpecVersion, Module: blob.Of(testModule), Args: []string{"a"},
		Inputs: map[string]job.Input{"one": in, "two": in, "empty": {Digest: blob.Of(nil)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return Job{Job: j, Module: testModule, Inputs: map[blob.Digest]io.ReaderAt{in.Digest: bytes.NewReader(testInput)}, Key: keyOf(alice)}
}

// TestInputsAreBrought to each node that is asked, once, and not to one that takes less.
func TestInputsAreBrought(t *testing.T) {
	bubble(t, func(t *testing.T) {
		town := newTown(inOrder(conduct{no: func(c *jobpeer.Capacity) { c.InputBytes = 2*int64(len(testInput)) - 1 }},
			conduct{refuses: job.Unsupported}, conduct{})...)
		a, err := Run(context.Background(), town, jobWithInput(t), Options{Search: town.search, Known: everybody})
		if err != nil || string(a.Stdout) != output || len(a.Statement.Result.Inputs) != 3 {
			t.Fatalf("%+v, %v", a, err)
		}
		var got []Outcome
		for _, a := range a.Attempts {
			got = append(got, a.Outcome)
			if a.Outcome == Unsuitable && !strings.Contains(a.Text, "inputs of 24 bytes, it takes at most 23") {
				t.Error(a.Text)
			}
		}
		if want := []Outcome{Unsuitable, Refused, Answered}; !slices.Equal(got, want) || len(town.inputs) != 2 || town.inputs[0] == town.inputs[1] {
			t.Errorf("%q, want %q; inputs for %q", got, want, town.inputs)
		}
	})
}

// TestInputsInAQuorum: every replica gets them, and the one that says that it read
// something else is not believed.
func TestInputsInAQuorum(t *testing.T) {
	bubble(t, func(t *testing.T) {
		other := conduct{forges: func(s *receipt.Statement) { s.Result.Inputs["one"] = receipt.Input{Digest: blob.Of(nil)} }}
		town := newTown(other, conduct{}, conduct{})
		a, err := Run(context.Background(), town, jobWithInput(t), Options{Search: town.search, Replicas: 3})
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(town.inputs)
		if a.Agreed != 2 || len(slices.Compact(town.inputs)) != 3 {
			t.Errorf("%d agree, inputs for %q", a.Agreed, town.inputs)
		}
	})
}
