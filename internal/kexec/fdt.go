package kexec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// The flattened device tree, version 17 (Devicetree Specification 0.4, chapter 5):
// a header, a list of reserved memory, a stream of tokens and a block of names.
const (
	fdtMagic      = 0xd00dfeed
	fdtHeaderSize = 40
	fdtVersion    = 17
	fdtCompatible = 16 // the oldest version whose readers can read what we write

	tokenBeginNode = 1
	tokenEndNode   = 2
	tokenProp      = 3
	tokenNop       = 4
	tokenEnd       = 9

	// maxTree is what arm64 kernels take (Documentation/arch/arm64/booting.rst).
	maxTree = 2 << 20
	// maxDepth is FDT_MAX_DEPTH of drivers/of/fdt.c.
	maxDepth = 64
	// maxName bounds a property's name, which the specification does at 31 bytes and
	// nobody keeps to. Many properties may share one name's bytes, so that without a
	// bound a small tree could take any amount of memory.
	maxName = 255
)

// tree is a device tree.
type tree struct {
	bootCPU  uint32
	reserved []reservation
	root     *node
}

// reservation is memory that the kernel shall not use.
type reservation struct{ address, size uint64 }

// node is a node of the tree. The root's name is empty.
type node struct {
	name     string
	props    []property
	children []*node
}

type property struct {
	name  string
	value []byte
}

// child returns the node of that name, or nil.
func (n *node) child(name string) *node {
	for _, c := range n.children {
		if c.name == name {
			return c
		}
	}
	return nil
}

// get returns a property's value.
func (n *node) get(name string) ([]byte, bool) {
	for _, p := range n.props {
		if p.name == name {
			return p.value, true
		}
	}
	return nil, false
}

// set changes a property, or adds it.
func (n *node) set(name string, value []byte) {
	for i := range n.props {
		if n.props[i].name == name {
			n.props[i].value = value
			return
		}
	}
	n.props = append(n.props, property{name, value})
}

// remove takes properties away.
func (n *node) remove(names ...string) {
	n.props = slices.DeleteFunc(n.props, func(p property) bool { return slices.Contains(names, p.name) })
}

// parseTree reads a flattened device tree. Bytes behind its total size are
// ignored. The values are parts of blob.
func parseTree(blob []byte) (*tree, error) {
	be := binary.BigEndian
	if len(blob) < fdtHeaderSize || be.Uint32(blob) != fdtMagic {
		return nil, errors.New("not a flattened device tree")
	}
	total := be.Uint32(blob[4:])
	if total < fdtHeaderSize || total > maxTree || uint64(total) > uint64(len(blob)) {
		return nil, fmt.Errorf("its header says %d bytes, there are %d", total, len(blob))
	}
	blob = blob[:total]
	if version, compatible := be.Uint32(blob[20:]), be.Uint32(blob[24:]); version < fdtVersion || compatible > fdtVersion {
		return nil, fmt.Errorf("version %d, compatible with %d", version, compatible)
	}
	names, err := block(blob, be.Uint32(blob[12:]), be.Uint32(blob[32:]))
	if err != nil {
		return nil, fmt.Errorf("names: %w", err)
	}
	structure, err := block(blob, be.Uint32(blob[8:]), be.Uint32(blob[36:]))
	if err != nil || be.Uint32(blob[8:])%4 != 0 {
		return nil, fmt.Errorf("structure: %w", errors.Join(err, errOutside))
	}
	t := &tree{bootCPU: be.Uint32(blob[28:])}
	if t.reserved, err = parseReserved(blob, be.Uint32(blob[16:])); err != nil {
		return nil, err
	}
	t.root, err = (&treeReader{rest: structure, names: names}).read()
	return t, err
}

var errOutside = errors.New("outside of the tree, or not aligned")

func block(blob []byte, offset, size uint32) ([]byte, error) {
	end := uint64(offset) + uint64(size)
	if offset < fdtHeaderSize || end > uint64(len(blob)) {
		return nil, errOutside
	}
	return blob[offset:end:end], nil
}

func parseReserved(blob []byte, offset uint32) ([]reservation, error) {
	if offset%8 != 0 || offset < fdtHeaderSize {
		return nil, fmt.Errorf("reserved memory: %w", errOutside)
	}
	var out []reservation
	for at := uint64(offset); at+16 <= uint64(len(blob)); at += 16 {
		r := reservation{binary.BigEndian.Uint64(blob[at:]), binary.BigEndian.Uint64(blob[at+8:])}
		if r == (reservation{}) {
			return out, nil
		}
		out = append(out, r)
	}
	return nil, fmt.Errorf("reserved memory: no end")
}

// treeReader walks the token stream.
type treeReader struct {
	rest  []byte
	names []byte
}

var errCut = errors.New("structure: cut off")

func (r *treeReader) word() (uint32, error) {
	if len(r.rest) < 4 {
		return 0, errCut
	}
	w := binary.BigEndian.Uint32(r.rest)
	r.rest = r.rest[4:]
	return w, nil
}

// bytes takes n bytes and the padding behind them.
func (r *treeReader) bytes(n uint64) ([]byte, error) {
	padded := alignUp(n, 4)
	if uint64(len(r.rest)) < padded {
		return nil, errCut
	}
	b := r.rest[:n:n]
	r.rest = r.rest[padded:]
	return b, nil
}

// read returns the root.
func (r *treeReader) read() (*node, error) {
	top := &node{} // above the root, to have the root as its child
	open := []*node{top}
	for {
		token, err := r.word()
		if err != nil {
			return nil, err
		}
		current := open[len(open)-1]
		switch token {
		case tokenNop:
		case tokenBeginNode:
			if len(open) > maxDepth || current == top && len(top.children) > 0 {
				return nil, errors.New("structure: too deep, or a second root")
			}
			child := &node{}
			if child.name, err = r.nodeName(); err != nil {
				return nil, err
			}
			current.children = append(current.children, child)
			open = append(open, child)
		case tokenProp:
			if err := r.property(current, top); err != nil {
				return nil, err
			}
		case tokenEndNode:
			if current == top {
				return nil, errors.New("structure: a node ends that never began")
			}
			open = open[:len(open)-1]
		case tokenEnd:
			if current != top || len(top.children) == 0 {
				return nil, errors.New("structure: ends inside a node")
			}
			return top.children[0], nil
		default:
			return nil, fmt.Errorf("structure: unknown token %#x", token)
		}
	}
}

func (r *treeReader) nodeName() (string, error) {
	end := bytes.IndexByte(r.rest, 0)
	if end < 0 {
		return "", errCut
	}
	name := string(r.rest[:end])
	_, err := r.bytes(uint64(end) + 1)
	return name, err
}

func (r *treeReader) property(current, top *node) error {
	size, err := r.word()
	if err != nil {
		return err
	}
	at, err := r.word()
	if err != nil {
		return err
	}
	if current == top || len(current.children) > 0 {
		return errors.New("structure: a property outside of its node's head")
	}
	if uint64(at) >= uint64(len(r.names)) {
		return fmt.Errorf("structure: a name at %#x of %#x", at, len(r.names))
	}
	names := r.names[at:]
	name, _, ok := bytes.Cut(names[:min(len(names), maxName+1)], []byte{0})
	if !ok || len(name) == 0 {
		return errors.New("structure: a name without end, too long or empty")
	}
	value, err := r.bytes(uint64(size))
	if err != nil {
		return err
	}
	current.props = append(current.props, property{string(name), value})
	return nil
}

// marshal writes the tree as a blob. parseTree reads the same tree from it.
func (t *tree) marshal() ([]byte, error) {
	w := treeWriter{at: make(map[string]uint32)}
	w.node(t.root)
	w.word(tokenEnd)
	be := binary.BigEndian
	blob := make([]byte, fdtHeaderSize)
	for _, r := range append(slices.Clone(t.reserved), reservation{}) {
		blob = be.AppendUint64(be.AppendUint64(blob, r.address), r.size)
	}
	structure := len(blob)
	names := structure + len(w.structure)
	total := names + len(w.names)
	if total > maxTree {
		return nil, fmt.Errorf("it has %d bytes, at most %d are possible", total, maxTree)
	}
	for i, v := range []int{fdtMagic, total, structure, names, fdtHeaderSize, fdtVersion, fdtCompatible, int(t.bootCPU), len(w.names), len(w.structure)} {
		be.PutUint32(blob[4*i:], uint32(v))
	}
	return append(append(blob, w.structure...), w.names...), nil
}

type treeWriter struct {
	structure []byte
	names     []byte
	at        map[string]uint32 // of each name, in names
}

func (w *treeWriter) word(v uint32) { w.structure = binary.BigEndian.AppendUint32(w.structure, v) }

func (w *treeWriter) bytes(b []byte) {
	w.structure = append(w.structure, b...)
	for len(w.structure)%4 != 0 {
		w.structure = append(w.structure, 0)
	}
}

func (w *treeWriter) node(n *node) {
	w.word(tokenBeginNode)
	w.bytes([]byte(n.name + "\x00"))
	for _, p := range n.props {
		at, known := w.at[p.name]
		if !known {
			at = uint32(len(w.names))
			w.at[p.name] = at
			w.names = append(w.names, p.name+"\x00"...)
		}
		w.word(tokenProp)
		w.word(uint32(len(p.value)))
		w.word(at)
		w.bytes(p.value)
	}
	for _, c := range n.children {
		w.node(c)
	}
	w.word(tokenEndNode)
}

// cell64 is an address as the tree has it.
func cell64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

// cells reads a number of one or two cells.
func cells(value []byte) (uint64, bool) {
	switch len(value) {
	case 4:
		return uint64(binary.BigEndian.Uint32(value)), true
	case 8:
		return binary.BigEndian.Uint64(value), true
	}
	return 0, false
}

// chosen is what the next kernel is told in the node of that name.
type chosen struct {
	cmdline string
	initrd  span   // empty: none
	seed    []byte // random: kaslrSeedSize bytes for the kernel's place, the rest for its generator
}

const kaslrSeedSize = 8

// prepare makes the running kernel's tree the next one's. What firmware said
// (linux,uefi-…, reserved memory, the console) stays.
func (t *tree) prepare(c chosen) {
	n := t.root.child("chosen")
	if n == nil {
		n = &node{name: "chosen"}
		t.root.children = append(t.root.children, n)
	}
	t.forgetInitrd(n)
	// What belonged to this boot only: its initrd, and what a kernel that was started
	// after a crash is told (Documentation/devicetree/bindings/chosen.txt).
	n.remove("linux,initrd-start", "linux,initrd-end", "linux,elfcorehdr", "linux,usable-memory-range",
		"linux,ima-kexec-buffer", "kaslr-seed", "rng-seed", "bootargs")
	n.set("bootargs", append([]byte(c.cmdline), 0))
	if !c.initrd.empty() {
		n.set("linux,initrd-start", cell64(c.initrd.start))
		n.set("linux,initrd-end", cell64(c.initrd.end))
	}
	if len(c.seed) > kaslrSeedSize {
		// The running kernel has wiped its own seeds. With none the next kernel would
		// always lie at the same virtual address.
		n.set("kaslr-seed", c.seed[:kaslrSeedSize])
		n.set("rng-seed", c.seed[kaslrSeedSize:])
	}
}

// forgetInitrd drops the reservation that a boot loader made for the initrd of
// this boot, as drivers/of/kexec.c does: nobody would ever free that memory.
func (t *tree) forgetInitrd(n *node) {
	first, _ := n.get("linux,initrd-start")
	last, _ := n.get("linux,initrd-end")
	start, ok1 := cells(first)
	end, ok2 := cells(last)
	if !ok1 || !ok2 || end <= start {
		return
	}
	t.reserved = slices.DeleteFunc(t.reserved, func(r reservation) bool {
		return r.address == start && (r.size == end-start || r.size == alignUp(end-start, 4096))
	})
}
