package job

import (
	"maps"
	"slices"

	"github.com/phasebased/phase/blob"
)

// Bounds of a job's inputs.
const (
	MaxInputs     = 16 // of one job
	MaxInputName  = 64 // bytes of a name
	MaxInputBytes = 1 << 40
)

// InputFolder is where a guest finds its inputs, each under its name.
const InputFolder = "/in"

// Input is a file that a job may read: exactly these bytes, whichever node runs it.
type Input struct {
	Digest blob.Digest `json:"digest"`
	Size   int64       `json:"size"` // bytes
}

// InputNames are the names of inputs in their order, which is that of their bytes.
func InputNames(inputs map[string]Input) []string { return slices.Sorted(maps.Keys(inputs)) }

// InputBytes is the size of all inputs together.
func (j *Job) InputBytes() int64 { return inputBytes(j.spec.Inputs) }

// Inputs are the job's inputs by name. The caller may keep and change the copy.
func (j *Job) Inputs() map[string]Input { return maps.Clone(j.spec.Inputs) }

// Needs is whether the job cannot run without the size bytes of d: its module, whose
// size the specification does not say, or an input.
func (j *Job) Needs(d blob.Digest, size int64) bool {
	if d == j.spec.Module {
		return true
	}
	for _, in := range j.spec.Inputs {
		if in.Digest == d && in.Size == size {
			return true
		}
	}
	return false
}

func inputBytes(inputs map[string]Input) (total int64) {
	for _, in := range inputs {
		total += in.Size
	}
	return total
}

// checkInputs refuses names that are more than a name, and sizes that cannot be.
func checkInputs(inputs map[string]Input) error {
	if len(inputs) > MaxInputs {
		return refuse(TooBig, "%d inputs, at most %d are allowed", len(inputs), MaxInputs)
	}
	for _, name := range InputNames(inputs) {
		in := inputs[name]
		switch {
		case !IsInputName(name):
			return refuse(Malformed, "%.80q is no name of an input: it is made of letters, digits, dot, hyphen and underscore, "+
				"begins with a letter or digit and has at most %d of them", name, MaxInputName)
		case in.Digest.IsZero():
			return refuse(Malformed, "input %s has no digest", name)
		case in.Size < 0:
			return refuse(Malformed, "input %s has a negative size", name)
		case in.Size == 0 && in.Digest != blob.Of(nil):
			return refuse(Malformed, "input %s is empty, but has another digest", name)
		case in.Size > MaxInputBytes:
			return refuse(TooBig, "input %s of %d bytes, at most %d are allowed", name, in.Size, int64(MaxInputBytes))
		}
	}
	if total := inputBytes(inputs); total > MaxInputBytes { // each is in bounds: the sum does not overflow
		return refuse(TooBig, "inputs of %d bytes, at most %d are allowed", total, int64(MaxInputBytes))
	}
	return nil
}

// IsInputName reports whether name can be an input's: a single, visible element of a
// path on every system.
func IsInputName(name string) bool {
	if name == "" || len(name) > MaxInputName {
		return false
	}
	for i, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case i > 0 && (c == '.' || c == '-' || c == '_'):
		default:
			return false
		}
	}
	return true
}
