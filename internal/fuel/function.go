package fuel

import "slices"

// function rewrites one function.
type function struct {
	decoder
	summary
	canonical bool

	added  []byte // types of the variables that rewriting needs, in the order of their indices
	weight int64  // what a call in it takes of the depth

	out      []byte
	frames   []frame
	segments []segment
	current  int // segment of the current instruction, or nobody
}

// small is the price up to which a function that neither calls nor loops does
// not look whether it could be paid for: its callers do soon enough.
const small = 128

// perUnit is how many values of a frame, variables or on the operand stack, take a unit
// of the depth. Each kind is counted for itself, so that ordinary functions, which have
// few of both, cost a call one. An engine keeps at least the values that a call must
// not lose in its own stack: without the operands a function could have thousands
// there for one unit, and reach the engine's limit, which is another on each machine,
// before its own.
const perUnit = 16

// rewrite returns the code with its declarations.
func (f *function) rewrite(params uint32) ([]byte, error) {
	declared, err := f.declarations(params)
	if err != nil {
		return nil, err
	}
	f.weight = 1 + int64(f.locals)/perUnit + f.most/perUnit
	f.frames = []frame{{op: opBlock, before: nobody}}
	f.open(nobody, false)
	f.pay(int64(f.locals-params) / localsPerUnit)
	for len(f.frames) > 0 {
		in, err := f.next()
		if err != nil {
			return nil, err
		}
		f.pay(in.price)
		if err := f.instruction(in); err != nil {
			return nil, err
		}
	}
	f.mergeSegments()
	return f.assemble(declared), nil
}

// assemble joins declarations, the entry and the code with its charges.
func (f *function) assemble(declared []byte) []byte {
	body := make([]byte, 0, len(f.out)+len(f.out)/4)
	last := 0
	for i, s := range f.segments {
		body = append(body, f.out[last:s.at]...)
		last = s.at
		switch {
		case i == 0:
			body = f.entry(body, s.cost)
		case s.loop: // an empty one turns for ever too
			body = f.head(body, max(s.cost, 1))
		case s.cost > 0:
			body = f.charge(body, s.cost)
		}
	}
	body = append(body, f.out[last:]...)
	out := appendU32(make([]byte, 0, len(declared)+len(body)+16), f.groups+uint32(len(f.added)))
	out = append(out, declared...)
	for _, t := range f.added {
		out = append(out, 1, typeOf(t))
	}
	return append(out, body...)
}

// variable returns the index of an added variable.
func (f *function) variable(name byte) uint32 {
	i := slices.Index(f.added, name)
	if i < 0 {
		i = len(f.added)
		f.added = append(f.added, name)
	}
	return f.locals + uint32(i)
}

// instruction copies an instruction, with what has to stand before and behind it.
func (f *function) instruction(in instruction) error {
	switch in.op {
	case opBlock, opLoop, opIf:
		f.copy(in)
		f.enter(in.op)
	case opElse:
		f.copy(in)
		return f.otherwise()
	case opEnd:
		f.copy(in)
		f.leave()
	case opBr, opBrIf, opBrTable, opReturn, opUnreachable:
		return f.jump(in)
	case opCall, opCallIndirect:
		f.call(in)
	case opMemoryGrow:
		f.ranged(in, opI64Shl, unitsPerPage)
	case opMisc:
		f.length(in)
	default:
		f.copy(in)
		if f.canonical {
			f.canonicalise(in)
		}
	}
	return nil
}

func (f *function) copy(in instruction) { f.out = append(f.out, f.data[in.start:in.end]...) }

// jump follows what may go on elsewhere.
func (f *function) jump(in instruction) error {
	labels := f.targets
	switch in.op {
	case opBr, opBrIf:
		labels = []uint32{in.index}
	case opReturn:
		labels = []uint32{uint32(len(f.frames) - 1)}
	case opUnreachable:
		labels = nil
	}
	for _, label := range labels {
		if err := f.branch(label); err != nil {
			return err
		}
	}
	f.copy(in)
	switch {
	case in.op != opBrIf:
		f.current = nobody
	case f.current != nobody:
		f.open(f.current, false)
	}
	return nil
}

// length copies instructions behind 0xfc.
func (f *function) length(in instruction) {
	switch in.sub {
	case 8, 10, 11:
		f.ranged(in, opI64ShrU, bytesPerUnit)
	case 12, 14, 15, 17:
		f.ranged(in, opI64Shl, unitsPerEntry)
	default:
		f.copy(in)
	}
}

// call shows the callee what is left of the depth, unless it calls nobody.
func (f *function) call(in instruction) {
	host := in.op == opCall && in.index < f.m.imported
	if in.op == opCallIndirect || !host && f.m.summaries[in.index-f.m.imported].calls {
		f.out = appendU32(append(f.out, opLocalGet), f.variable(varDepth))
		f.out = appendU32(append(f.out, opGlobalSet), f.m.globals+1)
	}
	f.copy(in)
}
