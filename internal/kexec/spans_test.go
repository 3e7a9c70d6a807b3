package kexec

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestSpans(t *testing.T) {
	ss := newSpans([]span{{50, 60}, {10, 20}, {20, 30}, {5, 5}, {12, 15}, {9, 8}})
	if want := (spans{{10, 30}, {50, 60}}); !slices.Equal(ss, want) {
		t.Fatalf("newSpans = %v, want %v", ss, want)
	}
	for holes, want := range map[*spans]spans{
		{}:                       ss,
		{{0, 100}}:               nil,
		{{10, 12}, {14, 16}}:     {{12, 14}, {16, 30}, {50, 60}},
		{{0, 11}, {29, 51}}:      {{11, 29}, {51, 60}},
		{{30, 50}, {60, 70}}:     ss,
		{{15, 20}, {55, 56}}:     {{10, 15}, {20, 30}, {50, 55}, {56, 60}},
		{{25, 55}, {58, 100}}:    {{10, 25}, {55, 58}},
		{{10, 30}, {1000, 1001}}: {{50, 60}},
	} {
		if got := ss.without(*holes); !slices.Equal(got, want) {
			t.Errorf("without %v: %v, want %v", *holes, got, want)
		}
	}
	if got, want := ss.within(spans{{0, 12}, {25, 55}}), (spans{{10, 12}, {25, 30}, {50, 55}}); !slices.Equal(got, want) {
		t.Errorf("within = %v, want %v", got, want)
	}
	for _, tt := range []struct {
		size, align uint64
		want        span
		ok          bool
	}{
		{20, 1, span{10, 30}, true}, {10, 16, span{16, 26}, true}, {1, 32, span{}, false},
		{21, 1, span{}, false}, {5, 2, span{10, 15}, true}, {1 << 63, 1, span{}, false},
	} {
		if got, ok := ss.lowest(tt.size, tt.align); got != tt.want || ok != tt.ok {
			t.Errorf("lowest %d aligned %d: %v, %v", tt.size, tt.align, got, ok)
		}
	}
	if got, ok := (spans{{1<<64 - 10, 1<<64 - 1}}).lowest(1, 4096); ok {
		t.Errorf("at the end of all numbers: %v", got)
	}
}

func read(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Texts of real kernels in virtual machines.
func TestFreeMemory(t *testing.T) {
	for name, want := range map[string]string{
		"iomem-arm64-tree.txt": "40000000-40210000 41cb0000-48000000 4a10b000-4a200000 4a300000-7ac00000 7fc00000-7fc39000" +
			" 7fdd8000-7fdda000",
		"iomem-arm64-uefi.txt": "40000000-70c00000 74c00000-74d40000 76e4b000-76e70000 78910000-7a120000 7a121000-7a320000" +
			" 7a330000-7a334000 7a335000-7c440000 7c730000-7d293000 7d294000-7e4c4000 7fa00000-7fa01000 7fa02000-7fa04000",
		"iomem-x86_64-uefi.txt": "1000-a0000 100000-806000 808000-810000 900000-50800000 51601ef2-51800000 52027000-52200000 52445e00-52ab1000" +
			" 53000000-7ea8a000 7eb8c000-7f4ec000 7f7fe000-7feec000 100000000-1c0000000",
		"iomem-x86_64-bios.txt": "1000-9fc00 100000-2a400000 2b201ef2-2b400000 2bc27000-2be00000 2c045e00-2c6b1000 2cc00000-3ffe0000",
	} {
		free, err := freeMemory(read(t, name))
		if got := show(free); err != nil || got != want {
			t.Errorf("%s: %s, %v\nwant %s", name, got, err, want)
		}
	}
}

func show(ss spans) string {
	var out []string
	for _, s := range ss {
		out = append(out, fmt.Sprintf("%x-%x", s.start, s.end))
	}
	return strings.Join(out, " ")
}

func TestFreeMemoryNested(t *testing.T) {
	const text = `00000000-00000fff : Reserved
00001000-0000ffff : CXL Window 0
  00001000-00007fff : System RAM
    00002000-00002fff : reserved
      00002000-000020ff : deeper
  00008000-0000ffff : System RAM (kmem)
00010000-ffffffffffffffff : System RAM
  00020000-0002ffff : Crash kernel
`
	free, err := freeMemory(text)
	if got, want := show(free), "1000-2000 3000-8000 10000-20000 30000-ffffffffffffffff"; err != nil || got != want {
		t.Errorf("%s, %v; want %s", got, err, want)
	}
}

func TestFreeMemoryRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"": "no usable memory",
		"00000000-00000000 : System RAM\n  00000000-00000000 : Kernel code\n00000000-00000000 : System RAM\n": "no usable memory",
		"00000000-00000000 : System RAM\n":             "no usable memory", // what others than root see
		"1000-1fff : Reserved\n":                       "no usable memory",
		"1000-1fff: System RAM\n":                      "has the line",
		"1000 : System RAM\n":                          "has the line",
		" 1000-1fff : System RAM\n":                    "has the line",
		"1000-0fff : System RAM\n":                     "has the line",
		"x-1fff : System RAM\n":                        "has the line",
		"1000-11111111111111111 : System RAM\n":        "has the line",
		"\n":                                           "has the line",
		strings.Repeat("0-1 : x\n", maxIomem/8) + "\n": "more than",
	} {
		if _, err := freeMemory(text); !is(err, kindMap) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v", text, err)
		}
	}
}

func FuzzIomem(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		free, err := freeMemory(text)
		if err != nil {
			return
		}
		if len(free) == 0 || !slices.Equal(newSpans(free), free) {
			t.Errorf("%v", free)
		}
	})
}
