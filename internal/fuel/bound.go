package fuel

// bound is what one function may cost an engine to compile.
type bound struct {
	locals int64
	labels int64
	work   int64
}

// Bounds of one function.
const (
	maxNesting = 10_000
	maxLabels  = 400_000
)

func newBound(locals uint32) bound { return bound{locals: int64(locals)} }

// note counts an instruction.
func (b *bound) note(in instruction, depth, targets int) error {
	switch in.op {
	case opBrTable:
		b.labels += int64(targets)
	case opBr, opBrIf, opBlock, opLoop, opIf:
		b.labels++
	}
	switch {
	case depth > maxNesting:
		return tooBig("blocks are nested more than %d deep", maxNesting)
	case b.labels > maxLabels:
		return tooBig("a function has more than %d labels and branches", maxLabels)
	}
	return nil
}
