package fuel

import "bytes"

// Canonical NaNs (section 2.2.3), as they lie in memory.
var (
	nan32 = []byte{0, 0, 0xc0, 0x7f}
	nan64 = []byte{0, 0, 0, 0, 0, 0, 0xf8, 0x7f}
)

// canonicalise makes a NaN that the instruction before may have given canonical.
// The instructions that only move bits (abs, neg, copysign, loads,
// reinterpretations) give the same everywhere.
func (f *function) canonicalise(in instruction) {
	switch op := in.op; {
	case op == opVector:
		f.canonicaliseVector(in.sub)
	case op >= 0x8d && op <= 0x97, op == 0xb6: // f32: ceil to max, demote
		f.pick(typeF32, append([]byte{opF32Const}, nan32...), []byte{opF32Eq, opSelect})
	case op >= 0x9b && op <= 0xa5, op == 0xbb: // f64: ceil to max, promote
		f.pick(typeF64, append([]byte{opF64Const}, nan64...), []byte{opF64Eq, opSelect})
	}
}

// Instructions of vectors that compare and choose.
var (
	eqF32x4 = []byte{opVector, 0x41, opVector, 0x52} // f32x4.eq, v128.bitselect
	eqF64x2 = []byte{opVector, 0x47, opVector, 0x52}
)

func (f *function) canonicaliseVector(sub uint32) {
	literal := []byte{opVector, 12}
	switch {
	case sub >= 0x67 && sub <= 0x6a, sub == 0xe3, sub >= 0xe4 && sub <= 0xe9, sub == 0x5e:
		f.pick(typeV128, append(literal, bytes.Repeat(nan32, 4)...), eqF32x4)
	case sub == 0x74, sub == 0x75, sub == 0x7a, sub == 0x94, sub >= 0xef && sub <= 0xf5, sub == 0x5f:
		f.pick(typeV128, append(literal, bytes.Repeat(nan64, 2)...), eqF64x2)
	}
}

// pick leaves the value on the stack if it equals itself, else another.
func (f *function) pick(typ byte, other, choose []byte) {
	x := f.variable(typ)
	out := appendU32(append(f.out, opLocalTee), x)
	out = append(out, other...)
	out = appendU32(append(out, opLocalGet), x)
	out = appendU32(append(out, opLocalGet), x)
	f.out = append(out, choose...)
}
