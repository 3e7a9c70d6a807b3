package fuel

// Names of added variables: their types, or for the budgets what has that type.
// They are told apart by these, and written as their types by typeOf.
const (
	varFuel   = 0 // i64
	varDepth  = 1 // i32: what is left to those that are called
	varLength = typeI32
)

func typeOf(name byte) byte {
	switch name {
	case varFuel:
		return typeI64
	case varDepth:
		return typeI32
	}
	return name
}

// entry pays for the first segment and checks the depth.
func (f *function) entry(out []byte, price int64) []byte {
	if f.calls {
		out = f.descend(out)
	}
	if price == 0 && !f.calls {
		return out
	}
	out = appendU32(append(out, opGlobalGet), f.m.globals)
	out = append(appendS64(append(out, opI64Const), price), opI64Sub)
	if !f.loops && !f.calls && f.price <= small {
		return appendU32(append(out, opGlobalSet), f.m.globals)
	}
	return f.check(out)
}

// descend takes a frame from the depth, in a variable; those that are called
// get to see it. In functions that call others alone can recursion go on.
func (f *function) descend(out []byte) []byte {
	out = appendU32(append(out, opGlobalGet), f.m.globals+1)
	out = appendS64(append(out, opI32Const), f.weight)
	out = appendU32(append(out, opI32Sub, opLocalTee), f.variable(varDepth))
	out = append(out, opI32Const, 0, opI32LtS, opIf, blockVoid, opI32Const, 0x7f) // -1
	out = appendU32(append(out, opGlobalSet), f.m.globals+1)
	return append(out, opUnreachable, opEnd)
}

// head pays for a turn of a loop.
func (f *function) head(out []byte, price int64) []byte {
	out = appendU32(append(out, opGlobalGet), f.m.globals)
	return f.check(append(appendS64(append(out, opI64Const), price), opI64Sub))
}

// charge pays for another segment. It does not look whether there was enough: the
// next head of a loop, or entry of a function, does.
func (f *function) charge(out []byte, price int64) []byte {
	out = appendU32(append(out, opGlobalGet), f.m.globals)
	out = append(appendS64(append(out, opI64Const), price), opI64Sub)
	return appendU32(append(out, opGlobalSet), f.m.globals)
}

// check takes the operand as what is left, and ends the guest if it is below zero.
func (f *function) check(out []byte) []byte {
	fuel := f.variable(varFuel)
	out = appendU32(append(out, opLocalTee), fuel)
	out = appendU32(append(out, opGlobalSet), f.m.globals)
	out = appendU32(append(out, opLocalGet), fuel)
	return append(out, opI64Const, 0, opI64LtS, opIf, blockVoid, opUnreachable, opEnd)
}

// ranged copies an instruction whose length is the uppermost operand, and pays
// for that before.
func (f *function) ranged(in instruction, shift byte, by int64) {
	length := f.variable(varLength)
	out := appendU32(append(f.out, opLocalSet), length)
	out = appendU32(append(out, opGlobalGet), f.m.globals)
	out = appendU32(append(out, opLocalGet), length)
	out = appendS64(append(out, opExtendU, opI64Const), by)
	out = f.check(append(out, shift, opI64Sub))
	f.out = appendU32(append(out, opLocalGet), length)
	f.copy(in)
}
