package fuel

import (
	"bytes"
	"slices"
)

// Names under which the rewritten module exports its two budgets. A module that
// exports one of them itself is refused.
const (
	FuelExport  = "phase:fuel"  // global, i64; below zero: it ran out
	DepthExport = "phase:depth" // global, i32; below zero: calls went too deep
	// StartExport is the module's start function, which the engine does not call by
	// itself any more: an instance that fails while it is made has no globals to read.
	StartExport = "phase:start"
)

// Options say how to rewrite. Budgets are positive.
type Options struct {
	Fuel  int64  // at most MaxFuel
	Depth int32  // at most MaxDepth; a call costs one, and one more for every 16 variables of the caller and every 16 values on its operand stack
	Table uint32 // entries that a table may grow to; larger ones are refused, or refuse to grow
	// CanonicalNaN makes every NaN that arithmetic gives the canonical one, whatever
	// the processor: the only difference between machines that a guest can see.
	CanonicalNaN bool
}

// Bounds of budgets. What is charged at once is below 2^40, so nothing wraps.
const (
	MaxFuel  = 1 << 60
	MaxDepth = 1 << 24
)

// Bounds of modules.
const (
	maxModule    = 64 << 20
	maxTypes     = 1 << 20
	maxFunctions = 1 << 20
	maxGlobals   = 1 << 20
	maxLocals    = 50_000 // of one function, with its parameters
	maxTargets   = 1 << 17
	maxBody      = 8 << 20
	maxOut       = 256 << 20 // of the rewritten module
)

// Numbers of sections (section 5.5.2).
const (
	sectionCustom   = 0
	sectionType     = 1
	sectionImport   = 2
	sectionFunction = 3
	sectionTable    = 4
	sectionGlobal   = 6
	sectionExport   = 7
	sectionStart    = 8
	sectionElement  = 9
	sectionCode     = 10
	sectionData     = 11
)

// order is that in which sections stand: the data count comes before the code.
var order = []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 10, 11}

type section struct {
	id   byte
	body []byte
}

// module is what rewriting needs to know of a module.
type module struct {
	sections  []section
	params    []uint32  // by type: the number of parameters
	results   []uint32  // by type
	imported  uint32    // functions
	foreign   []uint32  // their types
	own       []uint32  // types of the functions that the module defines
	globals   uint32    // imported and own
	summaries []summary // of own
	reachable bool      // a call through a table may reach the host
	start     []byte    // the entry that exports the start function, if there is one
}

// Rewrite returns a module that does what the given one does and counts it. The
// same module and options give the same bytes. Errors wrap ErrModule.
func Rewrite(raw []byte, o Options) ([]byte, error) {
	if o.Fuel <= 0 || o.Fuel > MaxFuel || o.Depth <= 0 || o.Depth > MaxDepth {
		return nil, refuse("a budget of %d and a depth of %d", o.Fuel, o.Depth)
	}
	m, err := parse(raw)
	if err != nil {
		return nil, err
	}
	out := append(make([]byte, 0, len(raw)+len(raw)/2), raw[:8]...)
	for _, s := range m.sections {
		body, err := m.rewrite(s, o)
		if err != nil {
			return nil, err
		}
		if s.id == sectionStart {
			continue
		}
		out = append(out, s.id)
		out = appendU32(out, uint32(len(body)))
		out = append(out, body...)
	}
	return out, nil
}

func (m *module) rewrite(s section, o Options) ([]byte, error) {
	switch s.id {
	case sectionTable:
		return capTables(s.body, o.Table)
	case sectionGlobal:
		return extend(s.body, 2, slices.Concat(
			append(appendS64([]byte{0x7e, 1, opI64Const}, o.Fuel), opEnd),
			append(appendS64([]byte{0x7f, 1, opI32Const}, int64(o.Depth)), opEnd),
		))
	case sectionExport:
		n := uint32(2)
		if m.start != nil {
			n++
		}
		return extend(s.body, n, slices.Concat(export(FuelExport, kindGlobal, m.globals), export(DepthExport, kindGlobal, m.globals+1), m.start))
	case sectionCode:
		return m.code(s.body, o)
	}
	return s.body, nil
}

// capTables lowers the limits of tables, which no limit of memory covers.
func capTables(body []byte, most uint32) ([]byte, error) {
	r := reader{data: body}
	n := r.u32()
	out := appendU32(nil, n)
	for ; n > 0 && !r.failed; n-- {
		out = append(out, r.byte())
		bounded, least, limit := r.byte(), r.u32(), most
		switch {
		case bounded > 1:
			return nil, refuse("a table with limits of kind %d", bounded)
		case bounded == 1:
			limit = min(most, r.u32())
		}
		if least > limit {
			return nil, refuse("a table of %d entries, at most %d are allowed", least, limit)
		}
		out = appendU32(appendU32(append(out, 1), least), limit)
	}
	if r.failed || r.more() {
		return nil, refuse("section %d cannot be read", sectionTable)
	}
	return out, nil
}

// extend appends n entries to a vector.
func extend(vector []byte, n uint32, entries []byte) ([]byte, error) {
	r := reader{data: vector}
	count := r.u32()
	if r.failed || count > 1<<31 {
		return nil, refuse("a section without a count")
	}
	out := appendU32(make([]byte, 0, len(vector)+len(entries)+1), count+n)
	out = append(out, vector[r.at:]...)
	return append(out, entries...), nil
}

// Kinds of exports.
const (
	kindFunction = 0
	kindGlobal   = 3
)

func export(name string, kind byte, index uint32) []byte {
	out := appendU32(nil, uint32(len(name)))
	out = append(out, name...)
	return appendU32(append(out, kind), index)
}

func parse(raw []byte) (*module, error) {
	if len(raw) > maxModule || !bytes.HasPrefix(raw, []byte("\x00asm\x01\x00\x00\x00")) {
		return nil, refuse("it is no core module of version 1, or larger than %d bytes", maxModule)
	}
	m := &module{}
	r := reader{data: raw, at: 8}
	last := -1
	for r.more() {
		s := section{id: r.byte()}
		s.body = r.take(r.u32())
		if r.failed {
			return nil, refuse("a section reaches beyond its end")
		}
		if s.id != sectionCustom {
			place := slices.Index(order, s.id)
			if place <= last {
				return nil, refuse("section %d is unknown, doubled or out of order", s.id)
			}
			m.fill(last, place)
			last = place
		}
		if err := m.outline(s); err != nil {
			return nil, err
		}
		m.sections = append(m.sections, s)
	}
	m.fill(last, len(order))
	return m, nil
}

// fill adds empty sections for what is added, where the module has none between
// two of its sections.
func (m *module) fill(last, place int) {
	for i := last + 1; i < place; i++ {
		if id := order[i]; id == sectionGlobal || id == sectionExport {
			m.sections = append(m.sections, section{id, []byte{0}})
		}
	}
}

// outline notes what the code refers to.
func (m *module) outline(s section) error {
	r := reader{data: s.body}
	var err error
	switch s.id {
	case sectionType:
		m.readTypes(&r)
	case sectionImport:
		m.readImports(&r)
	case sectionFunction:
		m.readFunctions(&r)
	case sectionGlobal:
		err = m.readGlobals(&r)
	case sectionExport:
		err = m.readExports(&r)
	case sectionStart:
		err = m.readStart(&r)
	case sectionElement:
		err = m.readElements(&r)
	case sectionData:
		err = m.readData(&r)
	}
	if err != nil {
		return err
	}
	if r.failed {
		return refuse("section %d cannot be read", s.id)
	}
	return nil
}

func (m *module) readTypes(r *reader) {
	n := r.u32()
	for i := uint32(0); i < n && !r.failed; i++ {
		if r.byte() != 0x60 || i == maxTypes { // a function's
			r.failed = true
		}
		params := r.u32()
		r.take(params)
		results := r.u32()
		r.take(results)
		m.params, m.results = append(m.params, params), append(m.results, results)
	}
}

func (m *module) readImports(r *reader) {
	for n := r.u32(); n > 0 && !r.failed; n-- {
		r.take(r.u32())
		r.take(r.u32())
		switch r.byte() {
		case 0:
			m.foreign = append(m.foreign, r.u32())
			m.imported++
		case 1:
			r.byte()
			r.limits()
		case 2:
			r.limits()
		case 3:
			r.take(2)
			m.globals++
		default:
			r.failed = true
		}
	}
}

// limits passes over those of a memory or table.
func (r *reader) limits() {
	if r.byte() == 1 {
		r.u32()
	}
	r.u32()
}

func (m *module) readFunctions(r *reader) {
	n := r.u32()
	if n > maxFunctions {
		r.failed = true
	}
	for ; n > 0 && !r.failed; n-- {
		m.own = append(m.own, r.u32())
	}
}

// code rewrites all functions.
func (m *module) code(body []byte, o Options) ([]byte, error) {
	codes, err := m.split(body)
	if err != nil {
		return nil, err
	}
	out := appendU32(make([]byte, 0, len(body)+len(body)/2), uint32(len(codes)))
	for i, code := range codes {
		f := function{decoder: decoder{m: m, reader: reader{data: code}}, summary: m.summaries[i], canonical: o.CanonicalNaN}
		done, err := f.rewrite(m.params[m.own[i]])
		if err != nil {
			return nil, err
		}
		if len(out)+len(done) > maxOut {
			return nil, tooBig("the module with its counter would have more than %d bytes", maxOut)
		}
		out = appendU32(out, uint32(len(done)))
		out = append(out, done...)
	}
	return out, nil
}

// split parts the functions and summarises them.
func (m *module) split(body []byte) ([][]byte, error) {
	r := reader{data: body}
	n := r.u32()
	if r.failed || uint64(n) != uint64(len(m.own)) {
		return nil, refuse("%d functions are declared, and %d have code", len(m.own), n)
	}
	codes := make([][]byte, n)
	m.summaries = make([]summary, n)
	for i, typ := range m.own {
		codes[i] = r.take(r.u32())
		if r.failed || uint64(typ) >= uint64(len(m.params)) {
			return nil, refuse("a function has no code or no type")
		}
		var err error
		if m.summaries[i], err = m.summarise(codes[i], m.params[typ]); err != nil {
			return nil, err
		}
	}
	if r.more() {
		return nil, refuse("bytes lie behind the last function")
	}
	return codes, nil
}
