package fuel

// What is added are global variables: constants, segments and exports of the
// original must not name them either. Indices of all else stay what they were,
// and are the engine's to check.

// readGlobals passes over global variables.
func (m *module) readGlobals(r *reader) error {
	n := r.u32()
	if n > maxGlobals {
		return tooBig("%d global variables", n)
	}
	m.globals += n
	for ; n > 0 && !r.failed; n-- {
		r.take(2)
		if err := m.expression(r); err != nil {
			return err
		}
	}
	return nil
}

// readElements passes over the segments of tables (section 5.5.12).
func (m *module) readElements(r *reader) error {
	for n := r.u32(); n > 0 && !r.failed; n-- {
		kind := r.u32()
		if kind > 7 {
			return refuse("a segment of a table of kind %d", kind)
		}
		if kind&1 == 0 {
			if kind&2 != 0 {
				r.u32()
			}
			if err := m.expression(r); err != nil {
				return err
			}
		}
		if kind&3 != 0 {
			r.byte()
		}
		for entries := r.u32(); entries > 0 && !r.failed; entries-- {
			if kind&4 == 0 {
				m.refer(r.u32())
			} else if err := m.expression(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// readData passes over the segments of memories (section 5.5.14).
func (m *module) readData(r *reader) error {
	for n := r.u32(); n > 0 && !r.failed; n-- {
		kind := r.u32()
		if kind > 2 {
			return refuse("a segment of a memory of kind %d", kind)
		}
		if kind == 2 {
			r.u32()
		}
		if kind != 1 {
			if err := m.expression(r); err != nil {
				return err
			}
		}
		r.take(r.u32())
	}
	return nil
}

// expression passes over a constant one (section 3.3.10).
func (m *module) expression(r *reader) error {
	for !r.failed {
		switch op := r.byte(); op {
		case opEnd:
			return nil
		case opI32Const:
			r.signed(32)
		case opI64Const:
			r.signed(64)
		case opF32Const:
			r.take(4)
		case opF64Const:
			r.take(8)
		case opRefNull:
			r.byte()
		case opRefFunc:
			m.refer(r.u32())
		case opGlobalGet:
			if i := r.u32(); i >= m.globals {
				return refuse("global variable %d of %d in a constant", i, m.globals)
			}
		case opVector:
			if r.u32() != 12 {
				return refuse("a constant that is none")
			}
			r.take(16)
		default:
			return refuse("instruction %#02x in a constant", op)
		}
	}
	return refuse("a constant without an end")
}

// readExports refuses the names and the variables of the counter.
func (m *module) readExports(r *reader) error {
	for n := r.u32(); n > 0 && !r.failed; n-- {
		if name := string(r.take(r.u32())); name == FuelExport || name == DepthExport || name == StartExport {
			return refuse("it exports %q, which is the counter's own", name)
		}
		switch kind, i := r.byte(), r.u32(); {
		case kind == kindGlobal && i >= m.globals:
			return refuse("it exports global variable %d of %d", i, m.globals)
		case kind == kindFunction:
			m.refer(i)
		}
	}
	return nil
}

// refer notes a reference to a function. Code can only make one to a function that is
// referred to outside of code as well (section 3.4.10, C.refs).
func (m *module) refer(index uint32) { m.reachable = m.reachable || index < m.imported }

func (m *module) readStart(r *reader) error {
	i := r.u32()
	if uint64(i) >= uint64(m.imported)+uint64(len(m.own)) {
		return refuse("it starts with function %d, which is not there", i)
	}
	m.start = export(StartExport, kindFunction, i)
	return nil
}
