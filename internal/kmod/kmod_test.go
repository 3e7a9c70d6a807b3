package kmod

import (
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

const dir = "lib/modules/6.1.0"

// tree is a small kernel in the shape of Debian's.
func tree(t testing.TB, change map[string]string) *Index {
	t.Helper()
	files := map[string]string{
		"modules.dep": `kernel/drivers/net/virtio_net.ko.xz: kernel/net/core/failover.ko.xz kernel/drivers/net/net_failover.ko.xz
kernel/drivers/net/net_failover.ko.xz: kernel/net/core/failover.ko.xz
kernel/net/core/failover.ko.xz:
kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_ring.ko:
kernel/drivers/usb/storage/usb-storage.ko.zst: kernel/drivers/scsi/sd_mod.ko
kernel/drivers/usb/storage/uas.ko: kernel/drivers/usb/storage/usb-storage.ko.zst
kernel/drivers/scsi/sd_mod.ko:
kernel/fs/ext4/ext4.ko: kernel/lib/crc16.ko
kernel/lib/crc16.ko:
kernel/crypto/crc32c-intel.ko:
kernel/fs/broken.ko: kernel/fs/gone.ko
kernel/fs/loop-a.ko: kernel/fs/loop-b.ko
kernel/fs/loop-b.ko: kernel/fs/loop-a.ko
kernel/fs/soft-a.ko:
kernel/fs/soft-b.ko: kernel/fs/soft-a.ko
kernel/drivers/last.ko:
`,
		"modules.alias": `# Aliases extracted from modules themselves.
alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci
alias virtio:d00000001v* virtio-net
alias usb:v*p*d*dc*dsc*dp*ic08isc06ip50in* usb_storage
alias usb:v*p*d*dc*dsc*dp*ic08isc06ip62in* uas
alias usb:v*p*d*dc*dsc*dp*ic08isc06ip50in* uas
alias fs-ext4 ext4
alias crypto-crc32c crc32c-intel
alias acpi*:PNP0A0[38]:* last
alias oneword
alias virtio:d00000099v* not_in_dep
`,
		"modules.softdep":         "softdep ext4 pre: crypto-crc32c absent post: last\nsoftdep soft-a pre: soft-b\nsoftdep nothing\n",
		"modules.builtin":         "kernel/drivers/char/virtio-rng.ko\n",
		"modules.builtin.modinfo": "virtio_rng.alias=virtio:d00000004v*\x00unix.file=net/unix/unix\x00unix.alias=net-pf-1\x00broken\x00",
	}
	for name, text := range change {
		files[name] = text
	}
	m := fstest.MapFS{}
	for name, text := range files {
		m[dir+"/"+name] = &fstest.MapFile{Data: []byte(text)}
	}
	x, err := Load(m, dir)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestResolve(t *testing.T) {
	x := tree(t, nil)
	tests := []struct {
		modalias string
		names    []string
		builtin  bool
	}{
		{"pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00", []string{"virtio_pci"}, false},
		{"virtio:d00000001v00001AF4", []string{"virtio_net"}, false},
		{"virtio:d00000004v00001AF4", nil, true},
		{"virtio:d00000099v00001AF4", []string{"not_in_dep"}, false}, // the image lacks it: the caller must learn its name
		{"usb:v0781p5567d0100dc00dsc00dp00ic08isc06ip50in00", []string{"usb_storage", "uas"}, false},
		{"acpi:PNP0A08:PNP0A03:", []string{"last"}, false},
		{"acpi:PNP0A09:", nil, false},
		{"fs-ext4", []string{"ext4"}, false},
		{"fs_ext4", []string{"ext4"}, false},
		{"usb-storage", []string{"usb_storage"}, false},
		{"net-pf-1", nil, true},
		{"virtio_rng", nil, true},
		{"broken", []string{"broken"}, false},
		{"", nil, false},
		{"pci:v", nil, false},
	}
	for _, tt := range tests {
		names, builtin := x.Resolve(tt.modalias)
		if !reflect.DeepEqual(names, tt.names) || builtin != tt.builtin {
			t.Errorf("Resolve(%q) = %v, %v; want %v, %v", tt.modalias, names, builtin, tt.names, tt.builtin)
		}
	}
}

func TestClosure(t *testing.T) {
	x := tree(t, nil)
	tests := []struct {
		names []string
		want  string // base names in order
	}{
		{[]string{"virtio-net"}, "failover net_failover virtio_net"},
		{[]string{"virtio_pci", "virtio_ring"}, "virtio_ring virtio_pci"},
		{[]string{"uas.ko.xz"}, "sd_mod usb_storage uas"},
		{[]string{"ext4"}, "crc32c_intel crc16 ext4 last"},
		{[]string{"unix", "virtio_rng"}, ""},
		{[]string{"soft_a"}, "soft_a"}, // soft_b is wanted before, but needs it: that wish is dropped
		{[]string{"soft_a", "soft_b"}, "soft_a soft_b"},
		{nil, ""},
	}
	for _, tt := range tests {
		got, err := x.Closure(tt.names...)
		var names []string
		for _, p := range got {
			names = append(names, Name(p))
		}
		if err != nil || strings.Join(names, " ") != tt.want {
			t.Errorf("Closure(%v) = %v, %v; want %s", tt.names, names, err, tt.want)
		}
	}
	if got, _ := x.Closure("failover"); !slices.Equal(got, []string{"kernel/net/core/failover.ko.xz"}) {
		t.Errorf("Closure gives %v, want the path of modules.dep", got)
	}
}

func TestClosureRefuses(t *testing.T) {
	x := tree(t, nil)
	var missing *MissingError
	if _, err := x.Closure("broken"); !errors.As(err, &missing) || missing.Name != "gone" || missing.WantedBy != "broken" {
		t.Errorf("broken: %v", err)
	}
	if _, err := x.Closure("nope"); !errors.As(err, &missing) || missing.Name != "nope" || missing.WantedBy != "" {
		t.Errorf("nope: %v", err)
	}
	var cycle *CycleError
	if _, err := x.Closure("loop-a"); !errors.As(err, &cycle) {
		t.Errorf("loop: %v", err)
	}
}

func TestLoadRefuses(t *testing.T) {
	if _, err := Load(fstest.MapFS{}, dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no modules.dep: %v", err)
	}
	big := fstest.MapFS{dir + "/modules.dep": {Data: make([]byte, maxIndexFile+1)}}
	if _, err := Load(big, dir); err == nil || !strings.Contains(err.Error(), "over") {
		t.Errorf("too large: %v", err)
	}
	only := fstest.MapFS{dir + "/modules.dep": {Data: []byte("a.ko:\n")}}
	if x, err := Load(only, dir); err != nil || !x.Has("a") {
		t.Errorf("modules.dep alone is enough: %v", err)
	}
}

func TestName(t *testing.T) {
	for in, want := range map[string]string{
		"kernel/a/usb-storage.ko.zst": "usb_storage",
		"virtio_net.ko.xz":            "virtio_net",
		"snd-hda.ko":                  "snd_hda",
		"x.kobold":                    "x.kobold",
		"plain":                       "plain",
		"":                            "",
	} {
		if got := Name(in); got != want {
			t.Errorf("Name(%q) = %q, want %q", in, got, want)
		}
	}
}

func TestMatch(t *testing.T) {
	tests := []struct {
		pattern, s string
		want       bool
	}{
		{"a*c", "abbbc", true}, {"a*c", "abbbcd", false}, {"*", "", true}, {"", "", true}, {"", "a", false},
		{"a?c", "abc", true}, {"a?c", "ac", false}, {"a?", "a", false},
		{"[a-c]x", "bx", true}, {"[a-c]x", "dx", false}, {"[!a-c]x", "dx", true}, {"[^a]x", "ax", false},
		{"[]a]", "]", true}, {"[a-]", "-", true}, {"[a-]", "_", false}, {"[abc", "a", false}, {"[", "[", false}, {"[!", "a", false},
		{"a-b", "a_b", true}, {"a_b", "a-b", true},
		{`\*`, "*", true}, {`\*`, "a", false}, {`\`, `\`, false},
		{"**a**", "xxaxx", true}, {"a*b*c", "aXbXbXc", true}, {"a*b*c", "aXcXb", false},
	}
	for _, tt := range tests {
		if got := Match(tt.pattern, tt.s); got != tt.want {
			t.Errorf("Match(%q, %q) = %v", tt.pattern, tt.s, got)
		}
	}
}

// full is an index of the size of a distribution kernel's.
func full() map[string][]byte {
	var alias, dep strings.Builder
	for i := range 30000 {
		if i%2 == 0 {
			fmt.Fprintf(&alias, "alias pci:v0000%04Xd0000%04Xsv*sd*bc*sc*i* driver_%d\n", i%400, i, i/8)
		} else {
			fmt.Fprintf(&alias, "alias usb:v%04Xp%04Xd*dc*dsc*dp*ic*isc*ip*in* driver_%d\n", i%400, i, i/8)
		}
	}
	for i := range 4000 {
		fmt.Fprintf(&dep, "kernel/drivers/net/ethernet/vendor/driver_%d.ko: kernel/drivers/net/mii.ko kernel/net/core/failover.ko\n", i)
	}
	return map[string][]byte{fileAlias: []byte(alias.String()), fileDep: []byte(dep.String())}
}

func BenchmarkLoadFull(b *testing.B) {
	files := full()
	b.ReportAllocs()
	for b.Loop() {
		parse(files)
	}
}

func BenchmarkResolve(b *testing.B) {
	x := parse(full())
	for b.Loop() {
		x.Resolve("pci:v000000C8d000000C8sv00001AF4sd00000001bc02sc00i00")
	}
}

func FuzzMatch(f *testing.F) {
	f.Add("pci:v*d[0-9]?", "pci:v1d2x")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		got := Match(pattern, s)
		if !strings.ContainsAny(pattern, `*?[\`) && got != (normal(pattern) == normal(s)) {
			t.Errorf("Match(%q, %q) = %v without special characters", pattern, s, got)
		}
		if !Match("*", s) {
			t.Errorf("* does not match %q", s)
		}
	})
}

func FuzzIndex(f *testing.F) {
	f.Add("a.ko: b.ko\nb.ko:\n", "alias x* a\n", "softdep a pre: b post: c\n", "a.alias=x\x00", "x1")
	f.Fuzz(func(t *testing.T, dep, alias, soft, info, ask string) {
		x := parse(map[string][]byte{fileDep: []byte(dep), fileAlias: []byte(alias), fileSoftdep: []byte(soft), fileBuiltinModinfo: []byte(info)})
		names, _ := x.Resolve(ask)
		paths, err := x.Closure(names...)
		if err != nil {
			return
		}
		seen := map[string]bool{}
		for _, p := range paths {
			if seen[p] {
				t.Errorf("%s twice in %v", p, paths)
			}
			seen[p] = true
		}
	})
}
