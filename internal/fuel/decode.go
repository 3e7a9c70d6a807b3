package fuel

// instruction is one of the original's, with what rewriting needs of it.
type instruction struct {
	start, end int // in the code
	op         byte
	sub        uint32 // behind the prefixes 0xfc and 0xfd
	index      uint32 // of opCall the function, of opCallIndirect the type, of opBr and opBrIf the label
	block      int64  // of opBlock, opLoop and opIf the type
	price      int64
}

// decoder passes over the instructions of one function.
type decoder struct {
	m *module
	reader

	locals uint32 // parameters and variables
	groups uint32 // of the variables' declarations
	// targets are those of the last opBrTable.
	targets []uint32
}

// next reads an instruction. Its operands are checked as far as the rewritten
// module could take them for something else.
func (d *decoder) next() (instruction, error) {
	in := instruction{start: d.at}
	in.op = d.byte()
	var err error
	switch in.op {
	case opMisc:
		err = d.misc(&in)
	case opVector:
		err = d.vector(&in)
	default:
		err = d.operands(&in)
	}
	if err == nil && d.failed {
		err = refuse("a function ends within an instruction")
	}
	in.end = d.at
	return in, err
}

// declarations reads the variables and returns their declarations without the
// count of groups.
func (d *decoder) declarations(params uint32) ([]byte, error) {
	d.groups = d.u32()
	begin, total := d.at, uint64(params)
	for n := d.groups; n > 0 && !d.failed; n-- {
		total += uint64(d.u32())
		d.byte()
		if total > maxLocals {
			break
		}
	}
	switch {
	case total > maxLocals:
		return nil, tooBig("a function has more than %d variables", maxLocals)
	case d.failed:
		return nil, refuse("the variables of a function cannot be read")
	}
	d.locals = uint32(total)
	return d.data[begin:d.at], nil
}

// operands passes over what follows an instruction of one byte.
func (d *decoder) operands(in *instruction) error {
	op := in.op
	in.price = cost(op)
	switch {
	case op == opBlock || op == opLoop || op == opIf:
		in.block = d.blockType()
	case op == opBr || op == opBrIf:
		in.index = d.u32()
	case op == opRefFunc || op == opTableGet || op == opTableSet:
		d.u32()
	case op == opBrTable:
		return d.table()
	case op == opCall:
		return d.callee(in)
	case op == opCallIndirect:
		in.index = d.u32()
		d.u32()
		in.price = costTable
		if d.m.reachable {
			in.price = costHost
		}
	case op == opSelectTyped:
		d.take(d.u32())
	case op >= opLocalGet && op <= opLocalTee:
		return d.below(d.locals, "local")
	case op == opGlobalGet || op == opGlobalSet:
		return d.below(d.m.globals, "global")
	case op >= 0x28 && op <= 0x3e: // loads and stores
		d.u32()
		d.u32()
	case op == opMemorySize || op == opRefNull:
		d.byte()
	case op == opMemoryGrow:
		d.byte()
		in.price = costGrow
	default:
		return d.constant(op)
	}
	return nil
}

// constant passes over constants, and knows all that has no operands.
func (d *decoder) constant(op byte) error {
	switch {
	case op == opI32Const:
		d.signed(32)
	case op == opI64Const:
		d.signed(64)
	case op == opF32Const:
		d.take(4)
	case op == opF64Const:
		d.take(8)
	case op <= opNop, op == opElse, op == opEnd, op == opReturn, op == opDrop, op == opSelect,
		op >= 0x45 && op <= 0xc4, op == opRefIsNull:
	default:
		return refuse("instruction %#02x is not known", op)
	}
	return nil
}

// blockType reads the type of a block: -64 for nothing, below zero a value's, else an
// index.
func (d *decoder) blockType() int64 {
	from := d.at
	d.signed(33)
	var v int64
	shift := 0
	for _, b := range d.data[from:d.at] {
		v |= int64(b&0x7f) << shift
		shift += 7
	}
	if shift > 0 && shift < 64 && d.data[d.at-1]&0x40 != 0 {
		v -= 1 << shift
	}
	return v
}

// below reads an index and refuses one that only the rewritten module has.
func (d *decoder) below(n uint32, kind string) error {
	if i := d.u32(); i >= n {
		return refuse("%s variable %d of %d", kind, i, n)
	}
	return nil
}

// table reads the targets of a branch.
func (d *decoder) table() error {
	n := d.u32()
	if n > maxTargets {
		return tooBig("a branch has more than %d targets", maxTargets)
	}
	d.targets = d.targets[:0]
	for i := uint32(0); i <= n && !d.failed; i++ {
		d.targets = append(d.targets, d.u32())
	}
	return nil
}

func (d *decoder) callee(in *instruction) error {
	in.index = d.u32()
	switch {
	case uint64(in.index) >= uint64(d.m.imported)+uint64(len(d.m.own)):
		return refuse("a call of function %d, which is not there", in.index)
	case in.index < d.m.imported:
		in.price = costHost
	default:
		in.price = costCall
	}
	return nil
}

// misc passes over the instructions behind 0xfc: conversions and ranges.
func (d *decoder) misc(in *instruction) error {
	in.sub, in.price = d.u32(), costRange
	switch in.sub {
	case 0, 1, 2, 3, 4, 5, 6, 7:
		in.price = costPlain
	case 8, 10, 12, 14: // memory.init, memory.copy, table.init, table.copy
		d.u32()
		d.u32()
	case 9, 13, 16: // data.drop, elem.drop, table.size
		d.u32()
		in.price = costPlain
	case 11, 15, 17: // memory.fill, table.grow, table.fill
		d.u32()
	default:
		return refuse("instruction 0xfc %d is not known", in.sub)
	}
	return nil
}

// vector passes over the instructions behind 0xfd.
func (d *decoder) vector(in *instruction) error {
	in.sub, in.price = d.u32(), costPlain
	switch sub := in.sub; {
	case sub <= 11 || sub == 92 || sub == 93: // loads and stores
		d.u32()
		d.u32()
	case sub == 12 || sub == 13: // v128.const, i8x16.shuffle
		d.take(16)
	case sub >= 21 && sub <= 34: // lanes
		d.byte()
	case sub >= 84 && sub <= 91: // loads and stores of lanes
		d.u32()
		d.u32()
		d.byte()
	case sub > 255:
		return refuse("instruction 0xfd %d is not known", sub)
	}
	return nil
}

// summary is what is known of a function before any is rewritten.
type summary struct {
	calls bool // another function of the module, directly or through a table
	loops bool
	price int64 // of all its instructions
	work  int64 // of compiling it, see Work
	most  int64 // values on its operand stack, or more
}

// summarise reads a whole function and holds it against the bounds.
func (m *module) summarise(code []byte, params uint32) (summary, error) {
	if len(code) > maxBody {
		return summary{}, tooBig("a function has %d bytes, at most %d are allowed", len(code), maxBody)
	}
	d := decoder{m: m, reader: reader{data: code}}
	if _, err := d.declarations(params); err != nil {
		return summary{}, err
	}
	var s summary
	bound := newBound(m, d.locals)
	for depth := 1; depth > 0; {
		in, err := d.next()
		if err != nil {
			return s, err
		}
		s.price += in.price
		switch in.op {
		case opLoop:
			s.loops = true
			depth++
		case opBlock, opIf:
			depth++
		case opEnd:
			depth--
		case opCall:
			s.calls = s.calls || in.index >= m.imported
		case opCallIndirect:
			s.calls = true
		}
		if err := bound.note(in, depth, len(d.targets)); err != nil {
			return s, err
		}
	}
	if d.more() {
		return s, refuse("bytes lie behind the end of a function")
	}
	s.work, s.most = bound.work(), bound.stack.most
	return s, nil
}
