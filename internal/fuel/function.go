package fuel

import "slices"

// Instructions that are handled by name (section 5.4).
const (
	opUnreachable  = 0x00
	opNop          = 0x01
	opBlock        = 0x02
	opLoop         = 0x03
	opIf           = 0x04
	opElse         = 0x05
	opEnd          = 0x0b
	opBr           = 0x0c
	opBrIf         = 0x0d
	opBrTable      = 0x0e
	opCall         = 0x10
	opCallIndirect = 0x11
	opSelect       = 0x1b
	opSelectTyped  = 0x1c
	opLocalGet     = 0x20
	opLocalSet     = 0x21
	opLocalTee     = 0x22
	opGlobalGet    = 0x23
	opGlobalSet    = 0x24
	opTableGet     = 0x25
	opTableSet     = 0x26
	opMemorySize   = 0x3f
	opMemoryGrow   = 0x40
	opI32Const     = 0x41
	opI64Const     = 0x42
	opF32Const     = 0x43
	opF64Const     = 0x44
	opI32LtS       = 0x48
	opI64LtS       = 0x53
	opF32Eq        = 0x5b
	opF64Eq        = 0x61
	opI32Add       = 0x6a
	opI32Sub       = 0x6b
	opI64Sub       = 0x7d
	opI64Shl       = 0x86
	opI64ShrU      = 0x88
	opExtendU      = 0xad
	opRefNull      = 0xd0
	opRefIsNull    = 0xd1
	opRefFunc      = 0xd2
	opMisc         = 0xfc
	opVector       = 0xfd

	blockVoid = 0x40
)

// Types of variables.
const (
	typeI32  = 0x7f
	typeI64  = 0x7e
	typeF32  = 0x7d
	typeF64  = 0x7c
	typeV128 = 0x7b
)

// function rewrites one function.
type function struct {
	m         *module
	canonical bool
	reader

	locals uint32 // parameters and variables of the original
	groups uint32 // of its declarations
	added  []byte // types of the variables that rewriting needs, in the order of their indices
	weight int64  // what a call in it takes of the depth
	calls  bool

	out     []byte
	nesting []nested
	meters  []meter
}

// nested is a block, loop or if around the current instruction, or the function.
type nested struct {
	meter int  // what its instructions are charged to
	alt   bool // an if that may still have an else
}

// meter is a place at which a price is paid.
type meter struct {
	at   int // in out
	cost int64
}

// rewrite returns the code with its declarations.
func (f *function) rewrite(params uint32) ([]byte, error) {
	declared, err := f.declarations(params)
	if err != nil {
		return nil, err
	}
	f.weight = 1 + int64(f.locals)/16
	f.meters = []meter{{}}
	f.nesting = []nested{{}}
	for len(f.nesting) > 0 {
		if err := f.instruction(); err != nil {
			return nil, err
		}
	}
	if f.more() {
		return nil, refuse("bytes lie behind the end of a function")
	}
	return f.assemble(declared), nil
}

// declarations reads the variables and returns their declarations without the
// count of groups.
func (f *function) declarations(params uint32) ([]byte, error) {
	f.locals, f.groups = params, f.u32()
	begin := f.at
	total := uint64(params)
	for n := f.groups; n > 0 && !f.failed; n-- {
		total += uint64(f.u32())
		f.byte()
		if total > maxLocals {
			return nil, refuse("a function has more than %d variables", maxLocals)
		}
	}
	if f.failed || params > maxLocals {
		return nil, refuse("the variables of a function cannot be read")
	}
	f.locals = uint32(total)
	return f.data[begin:f.at], nil
}

// assemble joins declarations, the entry and the code with its charges.
func (f *function) assemble(declared []byte) []byte {
	counter := f.variable(typeI64)
	var body []byte
	last := 0
	for i, m := range f.meters {
		body = append(body, f.out[last:m.at]...)
		last = m.at
		if i == 0 && f.calls {
			body = f.checkDepth(body)
		}
		if m.cost > 0 || i > 0 { // an empty loop turns for ever too
			body = f.charge(body, max(m.cost, 1), counter)
		}
	}
	body = append(body, f.out[last:]...)
	out := appendU32(make([]byte, 0, len(declared)+len(body)+16), f.groups+uint32(len(f.added)))
	out = append(out, declared...)
	for _, t := range f.added {
		out = append(out, 1, t)
	}
	return append(out, body...)
}

// variable returns the index of an added variable of a type.
func (f *function) variable(typ byte) uint32 {
	i := slices.Index(f.added, typ)
	if i < 0 {
		i = len(f.added)
		f.added = append(f.added, typ)
	}
	return f.locals + uint32(i)
}

// instruction copies the next instruction, with what has to stand before and
// behind it.
func (f *function) instruction() error {
	start := f.at
	op := f.byte()
	switch op {
	case opMisc:
		return f.misc(start)
	case opVector:
		return f.vector(start)
	}
	price, err := f.operands(op)
	if err != nil {
		return err
	}
	if f.failed {
		return refuse("a function ends within an instruction")
	}
	f.pay(price)
	switch op {
	case opCall, opCallIndirect:
		f.call(start)
	case opMemoryGrow:
		f.ranged(start, opI64Shl, unitsPerPage)
	default:
		f.copy(start)
		f.structure(op)
		if f.canonical {
			f.canonicalise(op)
		}
	}
	return nil
}

func (f *function) copy(start int) { f.out = append(f.out, f.data[start:f.at]...) }

// pay adds to what the innermost loop, or the function, is charged.
func (f *function) pay(price int64) { f.meters[f.nesting[len(f.nesting)-1].meter].cost += price }

// structure follows blocks.
func (f *function) structure(op byte) {
	inner := f.nesting[len(f.nesting)-1]
	switch op {
	case opBlock, opIf:
		f.nesting = append(f.nesting, nested{meter: inner.meter, alt: op == opIf})
	case opLoop:
		f.meters = append(f.meters, meter{at: len(f.out)})
		f.nesting = append(f.nesting, nested{meter: len(f.meters) - 1})
	case opEnd:
		f.nesting = f.nesting[:len(f.nesting)-1]
	}
}

// operands passes over what follows an instruction and returns its price.
func (f *function) operands(op byte) (int64, error) {
	price := cost(op)
	switch {
	case op == opBlock || op == opLoop || op == opIf:
		f.signed(33)
	case op == opElse:
		top := &f.nesting[len(f.nesting)-1]
		if !top.alt {
			return 0, refuse("an else without an if")
		}
		top.alt = false
	case op == opBr || op == opBrIf || op == opRefFunc || op == opTableGet || op == opTableSet:
		f.u32()
	case op == opBrTable:
		return price, f.targets()
	case op == opCall:
		return f.callee()
	case op == opCallIndirect:
		f.u32()
		f.u32()
		return costTable, nil
	case op == opSelectTyped:
		f.take(f.u32())
	case op >= opLocalGet && op <= opLocalTee:
		return price, f.below(f.locals, "local")
	case op == opGlobalGet || op == opGlobalSet:
		return price, f.below(f.m.globals, "global")
	case op >= 0x28 && op <= 0x3e: // loads and stores
		f.u32()
		f.u32()
	case op == opMemorySize || op == opRefNull:
		f.byte()
	case op == opMemoryGrow:
		f.byte()
		return costGrow, nil
	case op == opI32Const:
		f.signed(32)
	case op == opI64Const:
		f.signed(64)
	case op == opF32Const:
		f.take(4)
	case op == opF64Const:
		f.take(8)
	case op <= opNop || op == opEnd || op == 0x0f || op == 0x1a || op == opSelect || op >= 0x45 && op <= 0xc4 || op == opRefIsNull:
	default:
		return 0, refuse("instruction %#02x is not known", op)
	}
	return price, nil
}

// below reads an index and refuses one that only the rewritten module has.
func (f *function) below(n uint32, kind string) error {
	if i := f.u32(); i >= n {
		return refuse("%s variable %d of %d", kind, i, n)
	}
	return nil
}

func (f *function) targets() error {
	n := f.u32()
	if n > maxTargets {
		return refuse("a branch with %d targets", n)
	}
	for range int(n) + 1 {
		if f.u32(); f.failed {
			break
		}
	}
	return nil
}

func (f *function) callee() (int64, error) {
	i := f.u32()
	switch {
	case uint64(i) >= uint64(f.m.imported)+uint64(len(f.m.own)):
		return 0, refuse("a call of function %d, which is not there", i)
	case i < f.m.imported:
		return costHost, nil
	}
	return costCall, nil
}

// misc handles the instructions behind 0xfc: conversions and ranges.
func (f *function) misc(start int) error {
	sub := f.u32()
	price := int64(costRange)
	switch sub {
	case 0, 1, 2, 3, 4, 5, 6, 7:
		price = costPlain
	case 8, 10, 12, 14: // memory.init, memory.copy, table.init, table.copy
		f.u32()
		f.u32()
	case 9, 13, 16: // data.drop, elem.drop, table.size
		f.u32()
		price = costPlain
	case 11, 15, 17: // memory.fill, table.grow, table.fill
		f.u32()
	default:
		return refuse("instruction 0xfc %d is not known", sub)
	}
	if f.failed {
		return refuse("a function ends within an instruction")
	}
	f.pay(price)
	switch sub {
	case 8, 10, 11:
		f.ranged(start, opI64ShrU, bytesPerUnit)
	case 12, 14, 15, 17:
		f.ranged(start, opI64Shl, unitsPerEntry)
	default:
		f.copy(start)
	}
	return nil
}

// vector handles the instructions behind 0xfd.
func (f *function) vector(start int) error {
	sub := f.u32()
	switch {
	case sub <= 11 || sub == 92 || sub == 93: // loads and stores
		f.u32()
		f.u32()
	case sub == 12 || sub == 13: // v128.const, i8x16.shuffle
		f.take(16)
	case sub >= 21 && sub <= 34: // lanes
		f.byte()
	case sub >= 84 && sub <= 91: // loads and stores of lanes
		f.u32()
		f.u32()
		f.byte()
	case sub > 255:
		return refuse("instruction 0xfd %d is not known", sub)
	}
	if f.failed {
		return refuse("a function ends within an instruction")
	}
	f.pay(costPlain)
	f.copy(start)
	if f.canonical {
		f.canonicaliseVector(sub)
	}
	return nil
}

// call counts the depth down while a call lasts.
func (f *function) call(start int) {
	f.calls = true
	f.out = f.deepen(f.out, opI32Sub)
	f.copy(start)
	f.out = f.deepen(f.out, opI32Add)
}

func (f *function) deepen(out []byte, op byte) []byte {
	depth := f.m.globals + 1
	out = appendU32(append(out, opGlobalGet), depth)
	out = appendS64(append(out, opI32Const), f.weight)
	return appendU32(append(out, op, opGlobalSet), depth)
}

// checkDepth stands at the entry of functions that call others: in them alone
// recursion can go on.
func (f *function) checkDepth(out []byte) []byte {
	out = appendU32(append(out, opGlobalGet), f.m.globals+1)
	return append(out, opI32Const, 0, opI32LtS, opIf, blockVoid, opUnreachable, opEnd)
}

// charge pays a price, and ends the guest when it cannot.
func (f *function) charge(out []byte, price int64, counter uint32) []byte {
	out = appendU32(append(out, opGlobalGet), f.m.globals)
	out = appendS64(append(out, opI64Const), price)
	return f.settle(out, counter)
}

// settle subtracts the upper operand from the lower, which is what was left.
func (f *function) settle(out []byte, counter uint32) []byte {
	out = appendU32(append(out, opI64Sub, opLocalTee), counter)
	out = appendU32(append(out, opGlobalSet), f.m.globals)
	out = appendU32(append(out, opLocalGet), counter)
	return append(out, opI64Const, 0, opI64LtS, opIf, blockVoid, opUnreachable, opEnd)
}

// ranged copies an instruction whose length is the uppermost operand, and pays
// for that before.
func (f *function) ranged(start int, shift byte, by int64) {
	length, counter := f.variable(typeI32), f.variable(typeI64)
	out := appendU32(append(f.out, opLocalSet), length)
	out = appendU32(append(out, opGlobalGet), f.m.globals)
	out = appendU32(append(out, opLocalGet), length)
	out = appendS64(append(out, opExtendU, opI64Const), by)
	out = f.settle(append(out, shift), counter)
	f.out = appendU32(append(out, opLocalGet), length)
	f.copy(start)
}
