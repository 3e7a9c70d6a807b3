package wasmtest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// assembler collects the sections of one module.
type assembler struct {
	types, imports, funcTypes, exports, data, code [][]byte
	memory, start                                  []byte
	funcs                                          map[string]uint32 // name to index
	count                                          uint32            // functions so far
	bodies                                         []node
}

// declare enters one module field; function bodies wait until every name is
// known.
func (a *assembler) declare(f node) error {
	switch {
	case f.is("import") && len(f.list) == 4 && f.list[3].is("func"):
		t, _, err := a.signature(f.list[3].list[1:])
		if err != nil {
			return err
		}
		a.name(f.list[3])
		imp := append(sized(f.list[1].str), sized(f.list[2].str)...)
		a.imports = append(a.imports, uleb(append(imp, 0), uint64(t)))
	case f.is("memory"):
		return a.declareMemory(f.list[1:])
	case f.is("func"):
		t, _, err := a.signature(f.list[1:])
		if err != nil {
			return err
		}
		a.name(f)
		a.funcTypes = append(a.funcTypes, uleb(nil, uint64(t)))
		a.bodies = append(a.bodies, f)
	case f.is("start") && len(f.list) == 2:
		index, err := a.funcIndex(f.list[1].atom)
		if err != nil {
			return err
		}
		a.start = uleb(nil, uint64(index))
	case f.is("data") && len(f.list) == 3 && f.list[1].is("i32.const"):
		offset, err := strconv.ParseInt(f.list[1].list[1].atom, 0, 64)
		if err != nil {
			return err
		}
		seg := append(sleb([]byte{0, 0x41}, offset), 0x0b)
		a.data = append(a.data, append(seg, sized(f.list[2].str)...))
	default:
		return fmt.Errorf("wat: unknown module field %v", f)
	}
	return nil
}

// name numbers a function and enters its exports.
func (a *assembler) name(f node) {
	if len(f.list) > 1 && strings.HasPrefix(f.list[1].atom, "$") {
		a.funcs[f.list[1].atom] = a.count
	}
	for _, part := range f.list[1:] {
		if part.is("export") {
			a.exports = append(a.exports, uleb(append(sized(part.list[1].str), 0), uint64(a.count)))
		}
	}
	a.count++
}

func (a *assembler) declareMemory(parts []node) error {
	var sizes []uint64
	for _, p := range parts {
		if p.is("export") {
			a.exports = append(a.exports, append(sized(p.list[1].str), 2, 0))
			continue
		}
		v, err := strconv.ParseUint(p.atom, 0, 32)
		if err != nil {
			return fmt.Errorf("wat: memory: %w", err)
		}
		sizes = append(sizes, v)
	}
	if len(sizes) < 1 || len(sizes) > 2 {
		return fmt.Errorf("wat: memory needs a minimum and at most a maximum")
	}
	a.memory = []byte{byte(len(sizes) - 1)}
	for _, s := range sizes {
		a.memory = uleb(a.memory, s)
	}
	return nil
}

// signature reads (param …) and (result …), gives the index of that type and
// the names of the parameters.
func (a *assembler) signature(parts []node) (int, []string, error) {
	var params, results []byte
	var names []string
	for _, p := range parts {
		if !p.is("param") && !p.is("result") {
			continue
		}
		kinds, named, err := valueTypes(p.list[1:])
		if err != nil {
			return 0, nil, err
		}
		if p.is("result") {
			results = append(results, kinds...)
			continue
		}
		params = append(params, kinds...)
		names = append(names, named...)
	}
	t := append([]byte{0x60}, append(sized(params), sized(results)...)...)
	for i, known := range a.types {
		if slices.Equal(known, t) {
			return i, names, nil
		}
	}
	a.types = append(a.types, t)
	return len(a.types) - 1, names, nil
}

// valueTypes reads "$name i32" or "i32 i32 …".
func valueTypes(parts []node) (kinds []byte, names []string, err error) {
	name := ""
	for _, p := range parts {
		switch p.atom {
		case "i32":
			kinds = append(kinds, 0x7f)
		case "i64":
			kinds = append(kinds, 0x7e)
		default:
			if p.atom == "" || p.atom[0] != '$' {
				return nil, nil, fmt.Errorf("wat: unknown value type %q", p.atom)
			}
			name = p.atom
			continue
		}
		names = append(names, name)
		name = ""
	}
	return kinds, names, nil
}

// funcIndex finds a function by name or number.
func (a *assembler) funcIndex(name string) (uint32, error) {
	if i, ok := a.funcs[name]; ok {
		return i, nil
	}
	i, err := strconv.ParseUint(name, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("wat: unknown function %q", name)
	}
	return uint32(i), nil
}

// module writes the sections in their fixed order.
func (a *assembler) module() []byte {
	out := []byte("\x00asm\x01\x00\x00\x00")
	section := func(id byte, body []byte) {
		out = append(append(out, id), sized(body)...)
	}
	vec := func(id byte, items [][]byte) {
		if len(items) > 0 {
			section(id, vector(items))
		}
	}
	vec(1, a.types)
	vec(2, a.imports)
	vec(3, a.funcTypes)
	if a.memory != nil {
		vec(5, [][]byte{a.memory})
	}
	vec(7, a.exports)
	if a.start != nil {
		section(8, a.start)
	}
	vec(10, a.code)
	vec(11, a.data)
	return out
}
