package kexec

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// virtTree is the tree that QEMU makes for its arm64 machine.
func virtTree(t testing.TB) []byte {
	t.Helper()
	f, err := os.Open("testdata/virt.dtb.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	blob, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

func TestTree(t *testing.T) {
	tr, err := parseTree(virtTree(t))
	if err != nil {
		t.Fatal(err)
	}
	if v, _ := tr.root.get("compatible"); string(v) != "linux,dummy-virt\x00" {
		t.Errorf("compatible = %q", v)
	}
	memory := tr.root.child("memory@40000000")
	if memory == nil {
		t.Fatal("no memory")
	}
	if v, _ := memory.get("reg"); !bytes.Equal(v, append(cell64(0x40000000), cell64(512<<20)...)) {
		t.Errorf("reg = %x", v)
	}
	again := rewrite(t, tr)
	if !reflect.DeepEqual(tr, again) {
		t.Error("the tree changed when it was written")
	}
}

func rewrite(t *testing.T, tr *tree) *tree {
	t.Helper()
	blob, err := tr.marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := parseTree(blob)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// uefiTree is what a kernel started by UEFI has: no machine, but the firmware.
func uefiTree() *tree {
	return &tree{reserved: []reservation{{0x1000, 0x1000}, {0x48000000, 0x3000}}, root: &node{
		props: []property{{"#address-cells", []byte{0, 0, 0, 2}}, {"#size-cells", []byte{0, 0, 0, 2}}},
		children: []*node{{name: "chosen", props: []property{
			{"linux,uefi-system-table", cell64(0x7ffe0018)},
			{"bootargs", []byte("old\x00")},
			{"linux,initrd-start", cell64(0x48000000)},
			{"linux,initrd-end", []byte{0x48, 0, 0x2f, 0xff}}, // one cell
			{"linux,usable-memory-range", cell64(1)},
			{"kaslr-seed", cell64(0)},
			{"rng-seed", []byte{0, 0, 0}},
		}}, {name: "reserved-memory"}},
	}}
}

func TestPrepare(t *testing.T) {
	tr := uefiTree()
	tr.prepare(chosen{cmdline: "new line", initrd: span{0x1_0000_0000, 0x1_0000_1234}, seed: []byte("12345678random")})
	tr = rewrite(t, tr)
	n := tr.root.child("chosen")
	got := make(map[string]string)
	for _, p := range n.props {
		got[p.name] = string(p.value)
	}
	want := map[string]string{
		"linux,uefi-system-table": string(cell64(0x7ffe0018)), "bootargs": "new line\x00",
		"linux,initrd-start": string(cell64(0x1_0000_0000)), "linux,initrd-end": string(cell64(0x1_0000_1234)),
		"kaslr-seed": "12345678", "rng-seed": "random",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("chosen = %q\nwant %q", got, want)
	}
	if want := []reservation{{0x1000, 0x1000}}; !reflect.DeepEqual(tr.reserved, want) {
		t.Errorf("reserved = %v, want %v: the old initrd's must go", tr.reserved, want)
	}
	if tr.root.child("reserved-memory") == nil {
		t.Error("the reserved memory is gone")
	}
}

// TestPrepareWithLess: no chosen node, no initrd, no random bytes.
func TestPrepareWithLess(t *testing.T) {
	tr := &tree{root: &node{}}
	tr.prepare(chosen{})
	if n := tr.root.child("chosen"); n == nil || len(n.props) != 1 || string(n.props[0].value) != "\x00" {
		t.Errorf("chosen = %+v", n)
	}
	tr = uefiTree()
	tr.prepare(chosen{cmdline: "x"})
	n := tr.root.child("chosen")
	for _, gone := range []string{"linux,initrd-start", "linux,initrd-end", "kaslr-seed", "rng-seed", "linux,usable-memory-range"} {
		if v, ok := n.get(gone); ok {
			t.Errorf("%s = %x", gone, v)
		}
	}
}

// words builds a structure block.
func words(ws ...uint32) (out []byte) {
	for _, w := range ws {
		out = binary.BigEndian.AppendUint32(out, w)
	}
	return out
}

// rawTree wraps a structure block into a blob, with the name "a" at 0.
func rawTree(structure []byte) []byte { return rawTreeOf(structure, []byte("a\x00\x00b")) }

func rawTreeOf(structure, names []byte) []byte {
	at := uint32(fdtHeaderSize + 16)
	total := at + uint32(len(structure)+len(names))
	head := words(fdtMagic, total, at, at+uint32(len(structure)), fdtHeaderSize, 17, 16, 0, uint32(len(names)), uint32(len(structure)))
	return slices.Concat(head, make([]byte, 16), structure, names)
}

func TestTreeRefuses(t *testing.T) {
	good := rawTree(words(tokenBeginNode, 0, tokenNop, tokenProp, 2, 0, 0x01020000, tokenEndNode, tokenEnd))
	if _, err := parseTree(append(good, "behind"...)); err != nil {
		t.Fatal(err)
	}
	patched := func(offset int, value uint32) []byte {
		b := bytes.Clone(good)
		binary.BigEndian.PutUint32(b[offset:], value)
		return b
	}
	deep := bytes.Repeat(words(tokenBeginNode, 0), maxDepth+1)
	for name, tt := range map[string]struct {
		blob []byte
		want string
	}{
		"empty":             {nil, "not a flattened"},
		"magic":             {patched(0, 1), "not a flattened"},
		"total too large":   {patched(4, uint32(len(good))+1), "its header says"},
		"total too small":   {patched(4, 39), "its header says"},
		"total enormous":    {append(patched(4, maxTree+1), make([]byte, maxTree)...), "its header says"},
		"version":           {patched(20, 16), "version 16"},
		"later version":     {patched(24, 18), "compatible with 18"},
		"structure outside": {patched(8, uint32(len(good))), "structure: outside"},
		"structure at odd":  {patched(8, fdtHeaderSize+18), "structure: outside"},
		"structure in head": {patched(8, 8), "structure: outside"},
		"names outside":     {patched(32, 0xfffffff0), "names: outside"},
		"reserved at odd":   {patched(16, 41), "reserved memory: outside"},
		"reserved outside":  {patched(16, 0xfffffff8), "reserved memory: no end"},
		"no end":            {rawTree(words(tokenBeginNode, 0, tokenEndNode)), "cut off"},
		"end inside":        {rawTree(words(tokenBeginNode, 0, tokenEnd)), "ends inside a node"},
		"no root":           {rawTree(words(tokenEnd)), "ends inside a node"},
		"never began":       {rawTree(words(tokenEndNode)), "never began"},
		"two roots":         {rawTree(words(tokenBeginNode, 0, tokenEndNode, tokenBeginNode, 0, tokenEndNode, tokenEnd)), "second root"},
		"too deep":          {rawTree(deep), "too deep"},
		"unknown token":     {rawTree(words(7)), "unknown token 0x7"},
		"property outside":  {rawTree(words(tokenProp, 0, 0)), "outside of its node"},
		"property late":     {rawTree(words(tokenBeginNode, 0, tokenBeginNode, 0, tokenEndNode, tokenProp, 0, 0)), "outside of its node"},
		"property cut":      {rawTree(words(tokenBeginNode, 0, tokenProp, 100, 0)), "cut off"},
		"property cut more": {rawTree(words(tokenBeginNode, 0, tokenProp, 1)), "cut off"},
		"property length":   {rawTree(words(tokenBeginNode, 0, tokenProp, 0xffffffff, 0)), "cut off"},
		"name outside":      {rawTree(words(tokenBeginNode, 0, tokenProp, 0, 4)), "a name at 0x4"},
		"name without end":  {rawTree(words(tokenBeginNode, 0, tokenProp, 0, 3)), "without end"},
		"empty name":        {rawTree(words(tokenBeginNode, 0, tokenProp, 0, 2)), "or empty"},
		"long name":         {longNames(maxName + 1), "too long"},
		"node without name": {rawTree(words(tokenBeginNode, 0x61616161)), "cut off"},
	} {
		if _, err := parseTree(tt.blob); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// longNames is a tree of one property with a name of n bytes.
func longNames(n int) []byte {
	structure := words(tokenBeginNode, 0, tokenProp, 0, 0, tokenEndNode, tokenEnd)
	return rawTreeOf(structure, append(bytes.Repeat([]byte("a"), n), 0))
}

func TestLongestName(t *testing.T) {
	tr, err := parseTree(longNames(maxName))
	if err != nil || len(tr.root.props) != 1 || len(tr.root.props[0].name) != maxName {
		t.Errorf("%+v, %v", tr, err)
	}
}

func TestMarshalRefusesLarge(t *testing.T) {
	tr := &tree{root: &node{props: []property{{"a", make([]byte, maxTree)}}}}
	if _, err := tr.marshal(); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("%v", err)
	}
}

func FuzzTree(f *testing.F) {
	f.Fuzz(func(t *testing.T, blob []byte) {
		tr, err := parseTree(blob)
		if err != nil {
			return
		}
		out, err := tr.marshal()
		if err != nil {
			return // names that others share may not fit twice
		}
		again, err := parseTree(out)
		if err != nil || !reflect.DeepEqual(normal(tr), normal(again)) {
			t.Fatalf("written and read again: %v", err)
		}
		tr.prepare(chosen{cmdline: "x", initrd: span{1, 2}, seed: make([]byte, 16)})
		if out, err := tr.marshal(); err == nil {
			if _, err := parseTree(out); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// normal makes empty and absent the same.
func normal(t *tree) string {
	var b strings.Builder
	var walk func(n *node)
	walk = func(n *node) {
		b.WriteString("{" + n.name)
		for _, p := range n.props {
			b.WriteString("|" + p.name + "=" + string(p.value))
		}
		for _, c := range n.children {
			walk(c)
		}
		b.WriteString("}")
	}
	for _, r := range t.reserved {
		b.Write(append(cell64(r.address), cell64(r.size)...))
	}
	walk(t.root)
	return b.String()
}
