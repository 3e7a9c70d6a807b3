package fuel

// stack follows the height of the operand stack, in a function that may not be valid:
// what is not known is taken as higher.
type stack struct {
	m      *module
	height int64
	most   int64
	blocks []open
}

// open is a block that has not ended.
type open struct{ base, params, results int64 }

// follow changes the height as an instruction does.
func (s *stack) follow(in instruction) {
	switch in.op {
	case opBlock, opLoop, opIf:
		if in.op == opIf {
			s.change(-1)
		}
		b := s.typed(in.block)
		b.base = max(s.height-b.params, 0)
		s.blocks = append(s.blocks, b)
	case opElse:
		top := s.blocks[len(s.blocks)-1]
		s.height = top.base + top.params
	case opEnd:
		top := s.blocks[len(s.blocks)-1]
		s.blocks = s.blocks[:len(s.blocks)-1]
		s.height = top.base + top.results
	case opCall:
		if in.index < s.m.imported {
			s.called(s.m.foreign[in.index])
		} else {
			s.called(s.m.own[in.index-s.m.imported])
		}
	case opCallIndirect:
		s.change(-1)
		s.called(in.index)
	default:
		s.change(effect(in))
	}
	s.most = max(s.most, s.height)
}

// change keeps to the current block: below it lies what it cannot reach.
func (s *stack) change(by int64) {
	least := int64(0)
	if n := len(s.blocks); n > 0 {
		least = s.blocks[n-1].base
	}
	s.height = max(s.height+by, least)
}

func (s *stack) called(typ uint32) {
	if uint64(typ) < uint64(len(s.m.params)) {
		s.change(-int64(s.m.params[typ]))
		s.change(int64(s.m.results[typ]))
	}
}

// typed reads the type of a block (section 5.4.1).
func (s *stack) typed(block int64) open {
	switch {
	case block == -64: // nothing
		return open{}
	case block < 0 || block >= int64(len(s.m.params)):
		return open{results: 1}
	}
	return open{params: int64(s.m.params[block]), results: int64(s.m.results[block])}
}

// effect is by how much an instruction without blocks and calls changes the height.
func effect(in instruction) int64 {
	op := in.op
	switch {
	case op == opMisc:
		return miscEffect(in.sub)
	case op == opVector:
		return vectorEffect(in.sub)
	case op == opLocalGet, op == opGlobalGet, op == opMemorySize, op == opRefNull, op == opRefFunc,
		op >= opI32Const && op <= opF64Const:
		return 1
	case op == opDrop, op == opBrIf, op == opBrTable, op == opLocalSet, op == opGlobalSet:
		return -1
	case op == opSelect, op == opSelectTyped, op == opTableSet, op >= 0x36 && op <= 0x3e: // stores
		return -2
	case op >= 0x46 && op <= 0x4f, op >= 0x51 && op <= 0x66, // comparisons
		op >= 0x6a && op <= 0x78, op >= 0x7c && op <= 0x8a, // of integers
		op >= 0x92 && op <= 0x98, op >= 0xa0 && op <= 0xa6: // of floating point
		return -1
	}
	return 0
}

func miscEffect(sub uint32) int64 {
	switch sub {
	case 8, 10, 11, 12, 14, 17:
		return -3
	case 15:
		return -1
	case 16:
		return 1
	}
	return 0
}

// vectorEffect knows the bulk of those that take two operands; of the others it
// says that they keep the height.
func vectorEffect(sub uint32) int64 {
	switch {
	case sub == 12: // v128.const
		return 1
	case sub == 11, sub == 82, sub >= 88 && sub <= 91: // stores, bitselect
		return -2
	case sub == 13, sub == 14, sub >= 35 && sub <= 76, sub >= 78 && sub <= 81, sub >= 84 && sub <= 87,
		sub >= 107 && sub <= 115, sub >= 142 && sub <= 147, sub >= 174 && sub <= 191,
		sub >= 203 && sub <= 223, sub >= 228 && sub <= 235, sub >= 240 && sub <= 247:
		return -1
	}
	return 0
}
