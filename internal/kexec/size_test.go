package kexec

import (
	"strings"
	"testing"
)

func TestSizes(t *testing.T) {
	const mb = 1 << 20
	k := debianARM() // 5 MiB, and 6 in memory
	for name, tt := range map[string]struct {
		size   func([]byte) (int64, error)
		kernel []byte
		want   int64
	}{
		"x86":         {sizeX86, x86Kernel(), 40 * mb},
		"arm64":       {sizeARM, k, 6 * mb},
		"more file":   {sizeARM, armKernel(3*mb, 0, 2*mb, 0xa), 3 * mb},
		"gzip":        {sizeARM, gzipped(t, k), 12 * mb},
		"zboot, zstd": {sizeARM, zboot("zstd", zstdPacked(t, k)), 12 * mb},
	} {
		if got, err := tt.size(tt.kernel); err != nil || got != tt.want {
			t.Errorf("%s: %d, %v, want %d", name, got, err, tt.want)
		}
	}
}

// What cannot be loaded has no size, for the same reason.
func TestSizesRefuse(t *testing.T) {
	packed := gzipped(t, debianARM())
	for name, tt := range map[string]struct {
		size   func([]byte) (int64, error)
		kernel []byte
		kind   kind
		want   string
	}{
		"x86: none":       {sizeX86, nil, kindImage, "not a bzImage"},
		"x86: arm64":      {sizeX86, debianARM(), kindMachine, "it is for arm64"},
		"arm64: none":     {sizeARM, nil, kindImage, "not an arm64 Image"},
		"arm64: x86":      {sizeARM, x86Kernel(), kindMachine, "it is for x86_64"},
		"arm64: cut":      {sizeARM, packed[:20], kindImage, "cannot be unpacked"},
		"arm64: text":     {sizeARM, gzipped(t, []byte(strings.Repeat("x", 100))), kindImage, "not an arm64 Image"},
		"arm64: enormous": {sizeARM, gzipped(t, armKernel(100, 0, 1<<63, 0xa)), kindImage, "bytes in memory"},
		"arm64: xz":       {sizeARM, zboot("xzkern", nil), kindImage, "not known here"},
		"arm64: unnamed":  {sizeARM, zboot("", packed), kindImage, "does not say how"},
		"arm64: ends":     {sizeARM, zboot("gzip", packed)[:100], kindImage, "its packed part ends"},
	} {
		if got, err := tt.size(tt.kernel); !is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %d, %v, want %q", name, got, err, tt.want)
		}
	}
}
