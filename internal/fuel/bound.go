package fuel

// bound is what one function may cost an engine to compile.
type bound struct {
	locals int64
	labels int64
	stack  stack
}

// Bounds of one function.
const (
	maxNesting = 10_000
	maxLabels  = 400_000
)

func newBound(m *module, locals uint32) bound {
	return bound{locals: int64(locals), stack: stack{m: m, blocks: []open{{}}}}
}

// note counts an instruction.
func (b *bound) note(in instruction, depth, targets int) error {
	switch in.op {
	case opBrTable:
		b.labels += int64(targets)
	case opBr, opBrIf, opBlock, opLoop, opIf:
		b.labels++
	}
	b.stack.follow(in)
	switch {
	case depth > maxNesting:
		return tooBig("blocks are nested more than %d deep", maxNesting)
	case b.labels > maxLabels:
		return tooBig("a function has more than %d labels and branches", maxLabels)
	}
	return nil
}

// ordinary is the work up to which a function costs what its length lets expect. The
// largest found in programs is a quarter of it.
const ordinary = 1 << 19

// work is how many values an optimising compiler may have to carry past how many
// labels: it passes each value to each place where ways meet, and gives it a register
// there.
func (b *bound) work() int64 {
	if work := (b.locals + b.stack.most) * b.labels; work > ordinary {
		return work
	}
	return 0
}

// Work is what compiling the module may cost beyond what its length lets expect: of
// each function that is not ordinary, variables and largest operand stack times
// labels and branches. Compiling took up to 5 microseconds for each such unit. An engine
// that compiles without following values does not mind. Errors wrap ErrModule.
func Work(raw []byte) (int64, error) {
	m, err := parse(raw)
	if err != nil {
		return 0, err
	}
	var total int64
	for _, s := range m.sections {
		if s.id != sectionCode {
			continue
		}
		if _, err := m.split(s.body); err != nil {
			return 0, err
		}
		for _, f := range m.summaries {
			total += f.work
		}
	}
	return total, nil
}
