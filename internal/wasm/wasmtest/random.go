package wasmtest

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
)

// Raw is a module that imports fd_write and has one page of memory, a table of 8192
// entries, a variable of each type and _start with the given code.
func Raw(code []byte) []byte {
	const wasi = "wasi_snapshot_preview1"
	part := func(id byte, body ...byte) []byte {
		return append(binary.AppendUvarint([]byte{id}, uint64(len(body))), body...)
	}
	body := append([]byte{3, 4, 0x7f, 2, 0x7e, 2, 0x7c}, code...)
	body = append(body, 0x0b)
	entry := append(binary.AppendUvarint([]byte{1}, uint64(len(body))), body...)
	importing := append([]byte{1, byte(len(wasi))}, wasi...)
	importing = append(append(importing, 8), "fd_write\x00\x01"...)
	return bytes.Join([][]byte{
		[]byte("\x00asm\x01\x00\x00\x00"),
		part(1, 2, 0x60, 0, 0, 0x60, 4, 0x7f, 0x7f, 0x7f, 0x7f, 1, 0x7f), part(2, importing...), part(3, 1, 0),
		part(4, 1, 0x70, 0, 0x80, 0xc0, 0), part(5, 1, 0, 1),
		part(7, append([]byte{2, 6}, "memory\x02\x00\x06_start\x00\x01"...)...), part(10, entry...),
	}, nil)
}

// Show is code that writes n bytes of memory from an address to the standard output.
// Both are below 64.
func Show(at, n int) []byte {
	return []byte{
		0x41, 0, 0x41, byte(at), 0x36, 2, 0, // where
		0x41, 4, 0x41, byte(n), 0x36, 2, 0, // how much
		0x41, 1, 0x41, 0, 0x41, 1, 0x41, 8, 0x10, 0, 0x1a,
	}
}

// Random is a module that is valid and ends, and is the same for the same seed: a loop
// of at most some turns around statements that mix variables and branch at random, and
// the four integers written at the end.
func Random(seed uint64) []byte {
	g := generator{r: rand.New(rand.NewPCG(seed, 1))}
	g.emit(0x41, byte(g.r.IntN(60)), 0x21, 3, 0x03, 0x40) // turns; loop
	g.labels = append(g.labels, false)
	g.statements(4)
	g.emit(0x20, 3, 0x41, 1, 0x6b, 0x22, 3, 0x41, 0, 0x4a, 0x0d, 0, 0x0b)
	for i := range byte(3) {
		g.emit(0x41, 16, 0x20, i, 0x36, 2, i*4)
	}
	g.emit(0x41, 16, 0x20, 4, 0x37, 3, 16)
	return Raw(append(g.out, Show(16, 24)...))
}

type generator struct {
	r      *rand.Rand
	out    []byte
	labels []bool // whether a branch to it goes forward
}

func (g *generator) emit(b ...byte) { g.out = append(g.out, b...) }

func (g *generator) statements(depth int) {
	for range 1 + g.r.IntN(5) {
		g.statement(depth)
	}
}

func (g *generator) statement(depth int) {
	kind := g.r.IntN(8)
	switch {
	case depth == 0 || kind < 3:
		g.mix()
	case kind == 3: // a block with ways out
		g.nest(0x02, depth)
	case kind == 4:
		g.emit(0x20, byte(g.r.IntN(3)))
		g.labels = append(g.labels, true)
		g.emit(0x04, 0x40)
		g.statements(depth - 1)
		if g.r.IntN(2) == 0 {
			g.emit(0x05)
			g.statements(depth - 1)
		}
		g.emit(0x0b)
		g.labels = g.labels[:len(g.labels)-1]
	case kind == 5: // a branch, behind which code may be dead
		if label, ok := g.forward(); ok {
			if g.r.IntN(3) == 0 {
				g.emit(0x0c, label)
			} else {
				g.emit(0x20, byte(g.r.IntN(3)), 0x0d, label)
			}
		}
	case kind == 6: // a table of branches
		a, ok := g.forward()
		b, _ := g.forward()
		if ok {
			g.emit(0x20, byte(g.r.IntN(3)), 0x41, 3, 0x71, 0x0e, 2, a, b, a)
		}
	default: // ranges
		g.emit(0x41, 0x20, 0x41, 0, 0x20, byte(g.r.IntN(3)), 0x41, 0x3f, 0x71, 0xfc, 11, 0)
	}
}

func (g *generator) nest(op byte, depth int) {
	g.emit(op, 0x40)
	g.labels = append(g.labels, true)
	g.statements(depth - 1)
	g.emit(0x0b)
	g.labels = g.labels[:len(g.labels)-1]
}

// forward chooses a label whose branch goes forward.
func (g *generator) forward() (byte, bool) {
	var labels []byte
	for i, forward := range g.labels {
		if forward {
			labels = append(labels, byte(len(g.labels)-1-i))
		}
	}
	if len(labels) == 0 {
		return 0, false
	}
	return labels[g.r.IntN(len(labels))], true
}

// mix changes a variable.
func (g *generator) mix() {
	to, a, b := byte(g.r.IntN(3)), byte(g.r.IntN(3)), byte(g.r.IntN(3))
	switch g.r.IntN(4) {
	case 0:
		g.emit(0x20, a, 0x41, byte(g.r.IntN(64)), 0x6a, 0x21, to)
	case 1:
		g.emit(0x20, a, 0x20, b, byte(0x71+g.r.IntN(8)), 0x21, to) // and … rotr
	case 2:
		g.emit(0x20, 4, 0x20, a, 0xad, 0x7e, 0x42, 7, 0x7c, 0x21, 4)
	case 3: // floats, and back again
		g.emit(0x20, a, 0xb7, 0x20, b, 0xb7, byte(0xa0+g.r.IntN(6)), 0xfc, 2, 0x21, to)
	}
}
