package kexec

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// sound checks what must be true of every plan.
func sound(t *testing.T, p plan, free spans) {
	t.Helper()
	var all []span
	entry := false
	for _, s := range p.segments {
		if s.at.start%4096 != 0 || s.at.end%4096 != 0 || s.at.empty() {
			t.Errorf("%s: not whole pages: %v", s.name, p)
		}
		if uint64(len(s.data)) > s.at.size() || len(s.data) == 0 {
			t.Errorf("%s: %d bytes do not fit: %v", s.name, len(s.data), p)
		}
		if rest := (spans{s.at}).without(free); rest != nil {
			t.Errorf("%s: %v is not free: %v", s.name, rest, p)
		}
		for _, other := range all {
			if s.at.start < other.end && other.start < s.at.end {
				t.Errorf("%s overlaps: %v", s.name, p)
			}
		}
		all = append(all, s.at)
		entry = entry || p.entry == s.at.start && s.name == "entry code"
	}
	if !entry || len(p.segments) > 16 {
		t.Errorf("the entry is not in the entry code, or too many segments: %v", p)
	}
}

func (p plan) segment(t *testing.T, name string) segment {
	t.Helper()
	i := slices.IndexFunc(p.segments, func(s segment) bool { return s.name == name })
	if i < 0 {
		t.Fatalf("no %s in %v", name, p)
	}
	return p.segments[i]
}

func armMachineOf(t testing.TB, iomem string) armMachine {
	t.Helper()
	free, err := freeMemory(iomem)
	if err != nil {
		t.Fatal(err)
	}
	blob, err := uefiTree().marshal()
	if err != nil {
		t.Fatal(err)
	}
	return armMachine{free: free, tree: blob, seed: bytes.Repeat([]byte{7}, kaslrSeedSize+64)}
}

func TestPlanARM(t *testing.T) {
	for _, name := range []string{"iomem-arm64-tree.txt", "iomem-arm64-uefi.txt"} {
		m := armMachineOf(t, read(t, name))
		initrd := make([]byte, 20<<20+5)
		p, err := planARM(debianARM(), initrd, "quiet", m)
		if err != nil {
			t.Fatal(err)
		}
		sound(t, p, m.free)
		kernel, archive, code, blob := p.segment(t, "kernel"), p.segment(t, "initrd"), p.segment(t, "entry code"), p.segment(t, "device tree")
		if kernel.at.start%armBase != 0 || kernel.at.size() < 6<<20 {
			t.Errorf("kernel at %v", kernel.at)
		}
		if at := armLiteral(code.data, 0); at != kernel.at.start {
			t.Errorf("the entry code jumps to %#x: %v", at, p)
		}
		if at := armLiteral(code.data, 4); at != blob.at.start {
			t.Errorf("the entry code names a tree at %#x: %v", at, p)
		}
		tr, err := parseTree(blob.data)
		if err != nil {
			t.Fatal(err)
		}
		start, _ := tr.root.child("chosen").get("linux,initrd-start")
		end, _ := tr.root.child("chosen").get("linux,initrd-end")
		if !bytes.Equal(start, cell64(archive.at.start)) || !bytes.Equal(end, cell64(archive.at.start+uint64(len(initrd)))) {
			t.Errorf("initrd %x to %x: %v", start, end, p)
		}
	}
}

// armLiteral decodes "ldr xN, literal" at an offset and reads what it loads.
func armLiteral(code []byte, at int) uint64 {
	word := binary.LittleEndian.Uint32(code[at:])
	if word>>24 != 0x58 {
		return 0
	}
	return binary.LittleEndian.Uint64(code[at+int(word>>5&0x7ffff)*4:])
}

func TestPlanARMWithOffset(t *testing.T) {
	m := armMachineOf(t, read(t, "iomem-arm64-tree.txt"))
	p, err := planARM(armKernel(1<<20, 0x80000, 3<<20, 0xa), nil, "", m)
	if err != nil {
		t.Fatal(err)
	}
	sound(t, p, m.free)
	kernel := p.segment(t, "kernel")
	if kernel.at.start%armBase != 0x80000 || kernel.at.size() < 3<<20 || armLiteral(p.segment(t, "entry code").data, 0) != kernel.at.start {
		t.Errorf("%v", p)
	}
	if len(p.segments) != 3 {
		t.Errorf("an initrd where there is none: %v", p)
	}
}

// TestPlanARMPieces: memory in pieces, of which the lowest suits both and the
// next only the kernel; and memory farther away than one window.
func TestPlanARMPieces(t *testing.T) {
	initrd := make([]byte, 30<<20)
	m := armMachineOf(t, "40000000-41ffffff : System RAM\n50000000-507fffff : System RAM\n60000000-605fffff : System RAM\n")
	p, err := planARM(debianARM(), initrd, "", m)
	if err != nil {
		t.Fatal(err)
	}
	sound(t, p, m.free)
	if p.segment(t, "initrd").at.start != 0x40000000 || p.segment(t, "kernel").at.start != 0x50000000 {
		t.Errorf("%v", p)
	}
	far := armMachineOf(t, "40000000-407fffff : System RAM\n1000000000-1001ffffff : System RAM\n")
	if _, err := planARM(debianARM(), initrd, "", far); !is(err, kindPlace) {
		t.Errorf("beyond the window: %v", err)
	}
	far.free = append(far.free, span{0x1100000000, 0x1101000000})
	if p, err = planARM(debianARM(), initrd, "", far); err != nil {
		t.Fatal(err)
	}
	sound(t, p, far.free)
	if p.segment(t, "initrd").at.start != 0x1000000000 || p.segment(t, "kernel").at.start != 0x1100000000 {
		t.Errorf("%v", p)
	}
}

func TestPlanARMRefuses(t *testing.T) {
	free := "40000000-5fffffff : System RAM\n"
	large := &tree{root: &node{props: []property{{"a", make([]byte, maxTree-200)}}}}
	for name, tt := range map[string]struct {
		change func(*armMachine)
		initrd int
		line   string
		kind   kind
	}{
		"long line":    {func(*armMachine) {}, 0, strings.Repeat("x", maxCmdline+1), kindCmdline},
		"NUL":          {func(*armMachine) {}, 0, "a\x00b", kindCmdline},
		"no tree":      {func(m *armMachine) { m.tree = nil }, 0, "", kindTree},
		"large tree":   {func(m *armMachine) { m.tree, _ = large.marshal() }, 0, strings.Repeat("x", 300), kindTree},
		"large initrd": {func(*armMachine) {}, 600 << 20, "", kindPlace},
		"no memory":    {func(m *armMachine) { m.free = spans{{4096, 1 << 20}} }, 0, "", kindPlace},
		"only kernel":  {func(m *armMachine) { m.free = spans{{8 << 20, 14 << 20}} }, 0, "", kindPlace},
		"and the tree": {func(m *armMachine) { m.free = spans{{8 << 20, 14<<20 + segmentAlign}} }, 0, "", kindPlace},
	} {
		m := armMachineOf(t, free)
		tt.change(&m)
		if p, err := planARM(debianARM(), make([]byte, tt.initrd), tt.line, m); !is(err, tt.kind) {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
	if _, err := planARM(nil, nil, "", armMachineOf(t, free)); !is(err, kindImage) {
		t.Errorf("no kernel: %v", err)
	}
}

// memmap is /sys/firmware/memmap.
func memmap(lines ...string) fstest.MapFS {
	dir := make(fstest.MapFS)
	for i, l := range lines {
		f := strings.SplitN(l, " ", 3)
		for j, name := range []string{"start", "end", "type"} {
			dir[string(rune('0'+i))+"/"+name] = &fstest.MapFile{Data: []byte(f[j] + "\n")}
		}
	}
	return dir
}

func TestReadMemmap(t *testing.T) {
	regions, err := readMemmap(memmap("0x0 0x9ffff System RAM", "0x9fc00 0x9ffff Reserved", "0x1000 0x1fff ACPI Tables",
		"0x2000 0x2fff ACPI Non-volatile Storage", "0x3000 0x3fff Device Reserved", "0x100000000 0x1ffffffff System RAM"))
	want := []region{{span{0, 0xa0000}, 1}, {span{0x9fc00, 0xa0000}, 2}, {span{0x1000, 0x2000}, 3}, {span{0x2000, 0x3000}, 4},
		{span{0x3000, 0x4000}, 2}, {span{0x100000000, 0x200000000}, 1}}
	if err != nil || !slices.Equal(regions, want) {
		t.Errorf("%v, %v", regions, err)
	}
	cut := memmap("0x0 0x9ffff System RAM", "0x100000 0x1fffff System RAM", "0x200000 0x2fffff Reserved")
	delete(cut, "1/type")
	for name, dir := range map[string]fstest.MapFS{
		"none":     {},
		"backward": memmap("0x2000 0x1fff System RAM"),
		"to end":   memmap("0x0 0xffffffffffffffff System RAM"),
		"words":    memmap("a b System RAM"),
		"no end":   {"0/start": {Data: []byte("0x0\n")}, "1/start": {Data: []byte("0x0\n")}},
		"cut off":  cut,
	} {
		if regions, err := readMemmap(dir); !is(err, kindMap) {
			t.Errorf("%s: %v, %v", name, regions, err)
		}
	}
}

func x86MachineOf(t testing.TB) x86Machine {
	t.Helper()
	free, err := freeMemory("00001000-0009fbff : System RAM\n00100000-3ffdffff : System RAM\n  2a400000-2b201ef1 : Kernel code\n")
	if err != nil {
		t.Fatal(err)
	}
	params := bytes.Repeat([]byte{0x11}, paramsSize)
	return x86Machine{free: free, params: params, rsdp: 0x7f77d014, efi: true, seed: make([]byte, 32), regions: []region{
		{span{0, 0x9fc00}, 1}, {span{0x9fc00, 0xa0000}, 2}, {span{0x100000, 0x3ffe0000}, 1}, {span{0x3ffe0000, 0x40000000}, 3},
	}}
}

func TestPlanX86(t *testing.T) {
	m, initrd := x86MachineOf(t), make([]byte, 30<<20+1)
	p, err := planX86(x86Kernel(), initrd, "quiet", m)
	if err != nil {
		t.Fatal(err)
	}
	sound(t, p, m.free)
	kernel, params, code := p.segment(t, "kernel"), p.segment(t, "boot parameters"), p.segment(t, "entry code")
	if kernel.at.start < 16<<20 || kernel.at.start%(2<<20) != 0 || kernel.at.size() < 40<<20 {
		t.Errorf("kernel at %v", kernel.at)
	}
	le := binary.LittleEndian
	if le.Uint64(code.data[0x60:]) != params.at.start || le.Uint64(code.data[0x68:]) != kernel.at.start+entry64 ||
		le.Uint64(code.data[0x72:]) != code.at.start+0x80 {
		t.Errorf("entry code % x", code.data[0x60:])
	}
	if code.at.size() < trampolineStack {
		t.Errorf("no stack: %v", p)
	}
	at := p.segment(t, "initrd").at.start
	page := params.data
	if start, size := uint64(le.Uint32(page[offRamdisk:])), le.Uint32(page[offRamdiskSize:]); start != at || size != uint32(len(initrd)) {
		t.Errorf("initrd at %#x, %d bytes: %v", start, size, p)
	}
}

// TestX86Trampoline follows the addresses inside the entry code.
func TestX86Trampoline(t *testing.T) {
	code := x86Trampoline(0x100000, 0x1000200, 0x200000)
	for _, tt := range []struct{ at, length, want int }{
		{0x00, 7, 0x70}, {0x16, 7, trampolineStack}, {0x1d, 7, 0x60}, {0x2c, 6, 0x68},
	} {
		relative := int(int32(binary.LittleEndian.Uint32(code[tt.at+tt.length-4:])))
		if got := tt.at + tt.length + relative; got != tt.want {
			t.Errorf("the instruction at %#x means %#x, want %#x", tt.at, got, tt.want)
		}
	}
}

func TestX86Params(t *testing.T) {
	m := x86MachineOf(t)
	for i := range maxE820 {
		m.regions = append(m.regions, region{span{uint64(i+1) << 32, uint64(i+1)<<32 + 1}, 2})
	}
	m.seed = []byte("seed")
	img, err := parseX86(x86Kernel())
	if err != nil {
		t.Fatal(err)
	}
	const at = 0x5_0000_0000
	b := x86Params{img: img, machine: m, cmdline: "a line", initrd: span{0x6_0000_1000, 0x6_0000_2000}}
	page := b.build(at)
	if uint64(len(page)) != b.size() {
		t.Errorf("%d bytes, said %d", len(page), b.size())
	}
	le := binary.LittleEndian
	pair := func(low, high int) uint64 { return uint64(le.Uint32(page[low:])) | uint64(le.Uint32(page[high:]))<<32 }
	line := pair(offCmdline, offExtCmdline) - at
	for name, got := range map[string]bool{
		"command line": string(page[line:line+7]) == "a line\x00",
		"initrd":       pair(offRamdisk, offExtRamdisk) == 0x6_0000_1000 && pair(offRamdiskSize, offExtRamdiskSz) == 0x1000,
		"rsdp":         le.Uint64(page[offRSDP:]) == m.rsdp,
		"loader":       page[offLoader] == loaderKexec,
		"header":       le.Uint32(page[offInitSize:]) == 40<<20 && page[offLoadFlags] == bzLoadedHigh,
		"screen":       page[0] == 0x11 && page[0x3f] == 0x11,
		"sentinel":     page[0x1ef] == 0,
		"e820":         page[offE820Count] == maxE820 && le.Uint64(page[offE820+2*e820Size:]) == 0x100000 && le.Uint32(page[offE820+2*e820Size+16:]) == 1,
		"not kept":     page[0x1c0] == 0 && page[offE820+maxE820*e820Size] == 0,
	} {
		if !got {
			t.Errorf("%s is wrong", name)
		}
	}
	first := le.Uint64(page[offSetupData:]) - at
	second := le.Uint64(page[first:]) - at
	if le.Uint32(page[first+8:]) != setupE820 || le.Uint32(page[first+12:]) != 4*e820Size || le.Uint64(page[first+16+3*e820Size:]) != maxE820<<32 {
		t.Errorf("regions behind the page: % x", page[first:first+32])
	}
	if le.Uint64(page[second:]) != 0 || le.Uint32(page[second+8:]) != setupRNGSeed || string(page[second+16:second+16+uint64(le.Uint32(page[second+12:]))]) != "seed" {
		t.Errorf("seed: % x", page[second:])
	}
}

func TestPlanX86Refuses(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*x86Machine)
		initrd int
		line   string
		kind   kind
	}{
		"long line":      {func(*x86Machine) {}, 0, strings.Repeat("x", maxCmdline+1), kindCmdline},
		"NUL":            {func(*x86Machine) {}, 0, "\x00", kindCmdline},
		"no parameters":  {func(m *x86Machine) { m.params = nil }, 0, "", kindParams},
		"no ACPI":        {func(m *x86Machine) { m.rsdp = 0 }, 0, "no_acpi_rsdp=1", kindParams},
		"large initrd":   {func(*x86Machine) {}, 1 << 30, "", kindPlace},
		"low memory":     {func(m *x86Machine) { m.free = spans{{0x1000, 0xa0000}} }, 0, "", kindPlace},
		"not firmware's": {func(m *x86Machine) { m.regions = m.regions[:1] }, 0, "", kindPlace},
		"only kernel":    {func(m *x86Machine) { m.free = spans{{16 << 20, 56 << 20}} }, 0, "", kindPlace},
		"and parameters": {func(m *x86Machine) { m.free = spans{{16 << 20, 56<<20 + segmentAlign}} }, 0, "", kindPlace},
	} {
		m := x86MachineOf(t)
		tt.change(&m)
		if p, err := planX86(x86Kernel(), make([]byte, tt.initrd), tt.line, m); !is(err, tt.kind) {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
	short := x86Kernel()
	binary.LittleEndian.PutUint32(short[offCmdlineSize:], 3)
	if _, err := planX86(short, nil, "four", x86MachineOf(t)); !is(err, kindCmdline) {
		t.Errorf("a line too long for this kernel: %v", err)
	}
	m := x86MachineOf(t)
	m.rsdp = 0
	if _, err := planX86(x86Kernel(), nil, "quiet acpi_rsdp=0x7f77d014", m); err != nil {
		t.Errorf("the tables' place is on the command line: %v", err)
	}
	m.efi = false
	if _, err := planX86(x86Kernel(), nil, "quiet", m); err != nil {
		t.Errorf("a BIOS: %v", err)
	}
}

// TestInitrdHigh: an initrd that does not fit below 2 GiB goes above.
func TestInitrdHigh(t *testing.T) {
	m := x86MachineOf(t)
	high := span{4 << 30, 5 << 30}
	m.free, m.regions = append(m.free, high), append(m.regions, region{high, e820RAM})
	p, err := planX86(x86Kernel(), make([]byte, 800<<20), "", m)
	if err != nil {
		t.Fatal(err)
	}
	sound(t, p, m.free)
	page, at := p.segment(t, "boot parameters").data, p.segment(t, "initrd").at.start
	if at < high.start || binary.LittleEndian.Uint32(page[offExtRamdisk:]) != uint32(at>>32) {
		t.Errorf("%v", p)
	}
}

func TestFindRSDP(t *testing.T) {
	params := make([]byte, paramsSize)
	known := bytes.Clone(params)
	binary.LittleEndian.PutUint64(known[offRSDP:], 0x1234)
	efi := func(systab string) fstest.MapFS {
		return fstest.MapFS{"efi/systab": {Data: []byte(systab)}}
	}
	for name, tt := range map[string]struct {
		params []byte
		dir    fstest.MapFS
		rsdp   uint64
		efi    bool
	}{
		"BIOS":        {params, fstest.MapFS{}, 0, false},
		"told":        {known, efi("ACPI20=0x5\n"), 0x1234, true},
		"told before": {known, fstest.MapFS{}, 0x1234, false},
		"both":        {params, efi("ACPI=0x4\nACPI20=0x5\nSMBIOS=0x6\n"), 5, true},
		"both turned": {params, efi("ACPI20=0x5\nACPI=0x4\n"), 5, true},
		"old":         {params, efi("ACPI=0x4\n"), 4, true},
		"nonsense":    {params, efi("ACPI20=x\nACPI20\n"), 0, true},
		"no systab":   {params, fstest.MapFS{"efi/runtime": {}}, 0, true},
		"no params":   {nil, efi("ACPI20=0x5\n"), 5, true},
	} {
		if rsdp, isEFI := findRSDP(tt.params, tt.dir); rsdp != tt.rsdp || isEFI != tt.efi {
			t.Errorf("%s: %#x, %v", name, rsdp, isEFI)
		}
	}
}

func FuzzPlanARM(f *testing.F) {
	f.Fuzz(func(t *testing.T, kernel, blob []byte, iomem string) {
		free, err := freeMemory(iomem)
		if err != nil {
			return
		}
		p, err := planARM(kernel, []byte("initrd"), "quiet", armMachine{free: free, tree: blob, seed: make([]byte, 72)})
		if err == nil {
			sound(t, p, free)
		}
	})
}

func FuzzPlanX86(f *testing.F) {
	f.Fuzz(func(t *testing.T, kernel []byte, iomem string) {
		free, err := freeMemory(iomem)
		if err != nil {
			return
		}
		m := x86MachineOf(t)
		m.free = free
		p, err := planX86(kernel, []byte("initrd"), "quiet", m)
		if err == nil {
			sound(t, p, free)
		}
	})
}
