package kmod

import (
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
)

func TestParseModinfo(t *testing.T) {
	got := parseModinfo("license=GPL\x00depends=failover,net-failover\x00alias=virtio:d00000001v*\x00alias=b\x00softdep=pre: x post: y\x00firmware=f.bin\x00alias=bad\nline\x00depends=\x00odd\x00")
	want := Module{
		Depends: []string{"failover", "net-failover"}, Aliases: []string{"virtio:d00000001v*", "b"},
		Softdeps: []string{"pre: x post: y"}, Firmware: []string{"f.bin"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

func TestTreeFilesAreAnIndex(t *testing.T) {
	tr := &Tree{Modules: []Module{
		{Path: "kernel/z/base.ko"},
		{Path: "kernel/a/net-card.ko.xz", Depends: []string{"base", "inside", "lost"}, Aliases: []string{"virtio:d00000001v*"}, Softdeps: []string{"pre: extra"}},
		{Path: "kernel/a/extra.ko"},
		{Path: "kernel/a/other.ko", Depends: []string{"base"}},
	}, builtin: map[string][]byte{fileBuiltin: []byte("kernel/lib/inside.ko\n")}}
	x := tr.Index()
	if names, _ := x.Resolve("virtio:d00000001v00001AF4"); !reflect.DeepEqual(names, []string{"net_card"}) {
		t.Errorf("Resolve = %v", names)
	}
	if _, err := x.Closure("net_card"); err == nil {
		t.Error("a dependency that no package has must be named")
	}
	if got, err := x.Closure("other"); err != nil || !reflect.DeepEqual(got, []string{"kernel/z/base.ko", "kernel/a/other.ko"}) {
		t.Errorf("Closure = %v, %v", got, err)
	}
}

func TestTreeSort(t *testing.T) {
	tr := &Tree{Modules: []Module{{Path: "x/b.ko"}, {Path: "x/a.ko"}, {Path: "x/second.ko"}, {Path: "x/first.ko.xz"}}}
	tr.sort([]byte("x/first.ko\nx/second.ko\n"))
	var got []string
	for _, m := range tr.Modules {
		got = append(got, m.Path)
	}
	if want := []string{"x/first.ko.xz", "x/second.ko", "x/a.ko", "x/b.ko"}; !reflect.DeepEqual(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
}

func TestScanRefuses(t *testing.T) {
	for name, file := range map[string]string{"not ELF": "a.ko", "compressed": "a.ko.zst"} {
		fsys := fstest.MapFS{dir + "/kernel/" + file: {Data: []byte("not a module")}}
		if _, err := Scan(fsys, dir, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := Scan(fstest.MapFS{}, dir, nil); err == nil {
		t.Error("no directory: no error")
	}
	// What unpacks to more than any module has.
	endless := func(string, io.Reader) (io.Reader, error) { return zeros{}, nil }
	bomb := fstest.MapFS{dir + "/kernel/a.ko.zst": {Data: []byte("bomb")}}
	if _, err := Scan(bomb, dir, endless); err == nil || !strings.Contains(err.Error(), "over 134217728 bytes") {
		t.Errorf("bomb: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func FuzzParseModule(f *testing.F) {
	f.Add([]byte("\x7fELF\x02\x01\x01"))
	f.Fuzz(func(t *testing.T, data []byte) { _, _ = ParseModule(data) })
}
