package wasmtest

import (
	"fmt"
	"slices"
	"strconv"
)

// plain are the instructions without immediate operands.
var plain = map[string]byte{
	"unreachable": 0x00, "nop": 0x01, "else": 0x05, "end": 0x0b, "return": 0x0f, "drop": 0x1a, "select": 0x1b,
	"i32.eqz": 0x45, "i32.eq": 0x46, "i32.ne": 0x47, "i32.lt_s": 0x48, "i32.lt_u": 0x49, "i32.gt_s": 0x4a,
	"i32.gt_u": 0x4b, "i32.le_s": 0x4c, "i32.le_u": 0x4d, "i32.ge_s": 0x4e, "i32.ge_u": 0x4f,
	"i32.add": 0x6a, "i32.sub": 0x6b, "i32.mul": 0x6c, "i32.div_s": 0x6d, "i32.div_u": 0x6e, "i32.rem_u": 0x70,
	"i32.and": 0x71, "i32.or": 0x72, "i32.xor": 0x73, "i32.shl": 0x74, "i32.shr_u": 0x76,
	"i64.add": 0x7c, "i64.sub": 0x7d, "i64.mul": 0x7e, "i64.eqz": 0x50,
}

// memory are the instructions with an alignment and an offset, with their
// natural alignment.
var memory = map[string][2]byte{
	"i32.load": {0x28, 2}, "i32.load8_u": {0x2d, 0}, "i32.store": {0x36, 2}, "i32.store8": {0x3a, 0},
	"i64.load": {0x29, 3}, "i64.store": {0x37, 3},
}

// body assembles one function: a cursor over its instructions with the names
// that are visible.
type body struct {
	a      *assembler
	in     []node
	locals []string
	labels []string // innermost last; "" is an unnamed block
	out    []byte
}

// function gives the code section's entry of one function.
func (a *assembler) function(f node) ([]byte, error) {
	_, names, err := a.signature(f.list[1:])
	if err != nil {
		return nil, err
	}
	b := body{a: a, locals: names}
	var groups [][]byte
	for i, part := range f.list[1:] {
		switch {
		case part.is("local"):
			kinds, named, err := valueTypes(part.list[1:])
			if err != nil {
				return nil, err
			}
			for _, k := range kinds {
				groups = append(groups, []byte{1, k})
			}
			b.locals = append(b.locals, named...)
		case part.is("param"), part.is("result"), part.is("export"):
		case i == 0 && part.atom != "" && part.atom[0] == '$':
		default:
			b.in = append(b.in, part)
		}
	}
	for len(b.in) > 0 {
		if err := b.instruction(); err != nil {
			return nil, err
		}
	}
	if len(b.labels) != 0 {
		return nil, fmt.Errorf("wat: block without an end")
	}
	return sized(append(vector(groups), append(b.out, 0x0b)...)), nil
}

// next takes one atom.
func (b *body) next() string {
	if len(b.in) == 0 {
		return ""
	}
	n := b.in[0]
	b.in = b.in[1:]
	return n.atom
}

func (b *body) instruction() error {
	name := b.next()
	if m, ok := memory[name]; ok {
		b.out = append(b.out, m[0], m[1], 0)
		return nil
	}
	if op, ok := plain[name]; ok {
		if name == "end" {
			if len(b.labels) == 0 {
				return fmt.Errorf("wat: end without a block")
			}
			b.labels = b.labels[:len(b.labels)-1]
		}
		b.out = append(b.out, op)
		return nil
	}
	switch name {
	case "block":
		return b.open(0x02)
	case "loop":
		return b.open(0x03)
	case "if":
		return b.open(0x04)
	case "br":
		return b.branch(0x0c)
	case "br_if":
		return b.branch(0x0d)
	case "call":
		i, err := b.a.funcIndex(b.next())
		b.out = uleb(append(b.out, 0x10), uint64(i))
		return err
	case "local.get":
		return b.local(0x20)
	case "local.set":
		return b.local(0x21)
	case "local.tee":
		return b.local(0x22)
	case "i32.const":
		return b.constant(0x41)
	case "i64.const":
		return b.constant(0x42)
	case "memory.size":
		b.out = append(b.out, 0x3f, 0)
	case "memory.grow":
		b.out = append(b.out, 0x40, 0)
	default:
		return fmt.Errorf("wat: unknown instruction %q", name)
	}
	return nil
}

// open starts a block without values.
func (b *body) open(op byte) error {
	label := ""
	if len(b.in) > 0 && b.in[0].atom != "" && b.in[0].atom[0] == '$' {
		label = b.next()
	}
	b.labels = append(b.labels, label)
	b.out = append(b.out, op, 0x40)
	return nil
}

func (b *body) branch(op byte) error {
	label := b.next()
	for depth, known := range slices.Backward(b.labels) {
		if known == label {
			b.out = uleb(append(b.out, op), uint64(len(b.labels)-1-depth))
			return nil
		}
	}
	return fmt.Errorf("wat: unknown label %q", label)
}

func (b *body) local(op byte) error {
	name := b.next()
	i := slices.Index(b.locals, name)
	if i < 0 || name == "" {
		return fmt.Errorf("wat: unknown local %q", name)
	}
	b.out = uleb(append(b.out, op), uint64(i))
	return nil
}

func (b *body) constant(op byte) error {
	v, err := strconv.ParseInt(b.next(), 0, 64)
	b.out = sleb(append(b.out, op), v)
	return err
}
