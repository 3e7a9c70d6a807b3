package fuel

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

var options = Options{Fuel: 1000, Depth: 100, Table: 1000}

const preamble = "\x00asm\x01\x00\x00\x00"

// part is a section.
func part(id byte, body ...byte) []byte {
	return append(appendU32([]byte{id}, uint32(len(body))), body...)
}

// moduleOf has one function without parameters or results, whose declarations and
// code are given, and whatever sections stand between its types and its code.
func moduleOf(code []byte, between ...[]byte) []byte {
	entry := append(appendU32([]byte{1}, uint32(len(code))), code...)
	return slices.Concat([]byte(preamble), part(1, 1, 0x60, 0, 0), part(3, 1, 0), slices.Concat(between...), part(10, entry...))
}

// TestTinyModule fixes the bytes: what is added is part of what fuel means.
func TestTinyModule(t *testing.T) {
	got, err := Rewrite(moduleOf([]byte{0, opLoop, blockVoid, opNop, opI32Const, 1, opBrIf, 0, opEnd, opEnd}), options)
	if err != nil {
		t.Fatal(err)
	}
	want := slices.Concat([]byte(preamble), part(1, 1, 0x60, 0, 0), part(3, 1, 0),
		part(6, 2, 0x7e, 1, opI64Const, 0xe8, 7, opEnd, 0x7f, 1, opI32Const, 0xe4, 0, opEnd),
		part(7, slices.Concat([]byte{2, 10}, []byte(FuelExport), []byte{3, 0, 11}, []byte(DepthExport), []byte{3, 1})...),
		part(10, 1, 30, 1, 1, typeI64,
			opLoop, blockVoid,
			opGlobalGet, 0, opI64Const, 2, opI64Sub, opLocalTee, 0, opGlobalSet, 0,
			opLocalGet, 0, opI64Const, 0, opI64LtS, opIf, blockVoid, opUnreachable, opEnd,
			opNop, opI32Const, 1, opBrIf, 0, opEnd, opEnd))
	if !bytes.Equal(got, want) {
		t.Errorf("rewritten to\n%x, want\n%x", got, want)
	}
}

func TestRefusals(t *testing.T) {
	end := []byte{0, opEnd}
	global := part(6, 1, 0x7f, 1, opI32Const, 0, opEnd)
	for name, c := range map[string]struct {
		raw    []byte
		tooBig bool
	}{
		"empty":                      {nil, false},
		"preamble of a component":    {[]byte("\x00asm\x0d\x00\x01\x00"), false},
		"section beyond the end":     {[]byte(preamble + "\x01\x05"), false},
		"sections out of order":      {slices.Concat([]byte(preamble), part(3, 0), part(1, 0)), false},
		"section twice":              {slices.Concat([]byte(preamble), part(1, 0), part(1, 0)), false},
		"unknown section":            {slices.Concat([]byte(preamble), part(13, 0)), false},
		"type that is no function's": {slices.Concat([]byte(preamble), part(1, 1, 0x5f, 0)), false},
		"length over 32 bits":        {[]byte(preamble + "\x01\xff\xff\xff\xff\x1f"), false},
		"code without functions":     {slices.Concat([]byte(preamble), part(10, 1, 2, 0, opEnd)), false},
		"bytes behind the functions": {slices.Concat([]byte(preamble), part(1, 1, 0x60, 0, 0), part(3, 1, 0), part(10, 1, 2, 0, opEnd, 0)), false},
		"bytes behind a function":    {moduleOf([]byte{0, opEnd, opNop}), false},
		"function without an end":    {moduleOf([]byte{0, opNop}), false},
		"half an instruction":        {moduleOf([]byte{0, opI32Const}), false},
		"unknown instruction":        {moduleOf([]byte{0, 0xff, opEnd}), false},
		"unknown misc":               {moduleOf([]byte{0, opMisc, 18, opEnd}), false},
		"unknown vector":             {moduleOf([]byte{0, opVector, 0x80, 2, opEnd}), false},
		"else without an if":         {moduleOf([]byte{0, opElse, opEnd}), false},
		"else in a block":            {moduleOf([]byte{0, opBlock, blockVoid, opElse, opEnd, opEnd}), false},
		"two of them":                {moduleOf([]byte{0, opI32Const, 0, opIf, blockVoid, opElse, opElse, opEnd, opEnd}), false},
		"branch out of the function": {moduleOf([]byte{0, opBr, 1, opEnd}), false},
		"call of nobody":             {moduleOf([]byte{0, opCall, 1, opEnd}), false},
		"local of the counter":       {moduleOf([]byte{0, opLocalGet, 0, opDrop, opEnd}), false},
		"set local of the counter":   {moduleOf([]byte{1, 1, typeI64, opLocalGet, 0, opLocalSet, 1, opEnd}), false},
		"fuel read":                  {moduleOf([]byte{0, opGlobalGet, 0, opDrop, opEnd}), false},
		"fuel set":                   {moduleOf([]byte{0, opI64Const, 0, opGlobalSet, 1, opEnd}, global), false},
		"depth set":                  {moduleOf([]byte{0, opI32Const, 0, opGlobalSet, 2, opEnd}, global), false},
		"fuel exported":              {moduleOf(end, part(7, 1, 1, 'f', kindGlobal, 0)), false},
		"its name exported":          {moduleOf(end, part(7, slices.Concat([]byte{1, 10}, []byte(FuelExport), []byte{0, 0})...)), false},
		"depth's name exported":      {moduleOf(end, part(7, slices.Concat([]byte{1, 11}, []byte(DepthExport), []byte{0, 0})...)), false},
		"start's name exported":      {moduleOf(end, part(7, slices.Concat([]byte{1, 11}, []byte(StartExport), []byte{0, 0})...)), false},
		"fuel in a constant":         {moduleOf(end, part(6, 1, 0x7e, 0, opGlobalGet, 1, opEnd)), false},
		"fuel in a segment":          {append(moduleOf(end, part(4, 1, 0x70, 0, 1)), part(11, 1, 0, opGlobalGet, 0, opEnd, 0)...), false},
		"start that is not there":    {moduleOf(end, part(8, 1)), false},
		"a large table":              {moduleOf(end, part(4, 1, 0x70, 0, 0xe9, 7)), false},
		"50,001 variables":           {moduleOf([]byte{1, 0xd1, 0x86, 3, typeI32, opEnd}), true},
		"2^32 variables":             {moduleOf([]byte{2, 0xff, 0xff, 0xff, 0xff, 15, typeI32, 1, typeI32, opEnd}), true},
		"deep nesting":               {moduleOf(append([]byte{0}, bytes.Repeat([]byte{opBlock, blockVoid}, maxNesting+1)...)), true},
		"a million targets":          {moduleOf([]byte{0, opI32Const, 0, opBrTable, 0xc0, 0x84, 0x3d, opEnd}), true},
	} {
		_, err := Rewrite(c.raw, options)
		if !errors.Is(err, ErrModule) || errors.Is(err, ErrTooBig) != c.tooBig {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, o := range []Options{{}, {Fuel: 1}, {Depth: 1}, {Fuel: -1, Depth: 1}, {Fuel: MaxFuel + 1, Depth: 1}, {Fuel: 1, Depth: MaxDepth + 1}} {
		if _, err := Rewrite(moduleOf(end), o); !errors.Is(err, ErrModule) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// TestTablesStayBounded: no limit of memory covers them.
func TestTablesStayBounded(t *testing.T) {
	got, err := Rewrite(moduleOf([]byte{0, opEnd}, part(4, 2, 0x70, 0, 3, 0x70, 1, 3, 5)), options)
	if err != nil || !bytes.Contains(got, part(4, 2, 0x70, 1, 3, 0xe8, 7, 0x70, 1, 3, 5)) {
		t.Errorf("%x, %v", got, err)
	}
}

// FuzzRewrite: no bytes make it fail otherwise than with an error, grow without
// bound, or give two answers.
func FuzzRewrite(f *testing.F) {
	f.Fuzz(func(t *testing.T, raw []byte, canonical bool) {
		o := options
		o.CanonicalNaN = canonical
		got, err := Rewrite(raw, o)
		if err != nil {
			if !errors.Is(err, ErrModule) || got != nil {
				t.Errorf("%x and %v", got, err)
			}
			return
		}
		if len(got) > 64*len(raw)+256 {
			t.Errorf("%d bytes became %d", len(raw), len(got))
		}
		if again, err := Rewrite(raw, o); err != nil || !bytes.Equal(got, again) {
			t.Errorf("another time %x, %v", again, err)
		}
	})
}

// TestHostThroughTables: a call through a table costs what it may reach.
func TestHostThroughTables(t *testing.T) {
	const imported, own = 0, 1
	importing := part(2, 1, 1, 'h', 1, 'f', 0, 0)
	table := part(4, 1, 0x70, 0, 1)
	code := part(10, 1, 7, 0, opI32Const, 0, opCallIndirect, 0, 0, opEnd)
	for _, c := range []struct {
		name  string
		parts [][]byte // behind the table
		price int64
	}{
		{"nothing in it", nil, costTable},
		{"an own function in it", [][]byte{part(9, 1, 0, opI32Const, 0, opEnd, 1, own)}, costTable},
		{"the host in it", [][]byte{part(9, 1, 0, opI32Const, 0, opEnd, 1, imported)}, costHost},
		{"the host as an expression", [][]byte{part(9, 1, 4, opI32Const, 0, opEnd, 1, opRefFunc, imported, opEnd)}, costHost},
		{"the host in a declaration", [][]byte{part(9, 1, 3, 0, 1, imported)}, costHost},
		{"the host in a global", [][]byte{part(6, 1, 0x70, 0, opRefFunc, imported, opEnd)}, costHost},
		{"an own function in a global", [][]byte{part(6, 1, 0x70, 0, opRefFunc, own, opEnd)}, costTable},
		{"the host exported", [][]byte{part(7, 1, 1, 'x', kindFunction, imported)}, costHost},
		{"an own function exported", [][]byte{part(7, 1, 1, 'x', kindFunction, own)}, costTable},
	} {
		raw := slices.Concat([]byte(preamble), part(1, 1, 0x60, 0, 0), importing, part(3, 1, 0), table, slices.Concat(c.parts...), code)
		m, err := parse(raw)
		if err == nil {
			_, err = m.split(m.sections[len(m.sections)-1].body)
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if got := m.summaries[0].price; got != 1+c.price {
			t.Errorf("%s: a price of %d, want %d", c.name, got-1, c.price)
		}
	}
}

// TestFramesWeigh: both kinds of values in a frame take of the depth, each by itself.
func TestFramesWeigh(t *testing.T) {
	for _, c := range []struct {
		locals, operands int
		want             int64
	}{{0, 1, 1}, {15, 15, 1}, {16, 1, 2}, {0, 16, 2}, {16, 16, 3}, {0, 4000, 251}} {
		code := append([]byte{1}, appendU32(nil, uint32(c.locals))...)
		code = append(code, typeI32)
		code = append(code, bytes.Repeat([]byte{opI32Const, 0}, c.operands)...)
		code = append(append(code, bytes.Repeat([]byte{opDrop}, c.operands)...), opEnd)
		m, err := parse(moduleOf(code))
		if err == nil {
			_, err = m.split(m.sections[len(m.sections)-1].body)
		}
		if err != nil {
			t.Fatal(err)
		}
		f := function{decoder: decoder{m: m, reader: reader{data: code}}, summary: m.summaries[0]}
		if _, err := f.rewrite(0); err != nil || f.weight != c.want {
			t.Errorf("%d variables, %d operands: %d, want %d; %v", c.locals, c.operands, f.weight, c.want, err)
		}
	}
}
