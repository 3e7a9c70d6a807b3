package handover

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/phasebased/phase/manifest"
)

func sized(kernel, initramfs, rootfs int64) manifest.Manifest {
	m := manifest.Manifest{Kernel: manifest.Artifact{Size: kernel}, Initramfs: manifest.Artifact{Size: initramfs}}
	if rootfs > 0 {
		m.Rootfs = &manifest.Artifact{Size: rootfs}
	}
	return m
}

func TestNeed(t *testing.T) {
	const mb = 1 << 20
	tests := []struct {
		kernel, initramfs, rootfs int64
		rung                      Rung
		inCache                   bool
		want                      int64
	}{
		{14 * mb, 6 * mb, 0, RungFile, false, 112 * mb},
		{14 * mb, 6 * mb, 30 * mb, RungFile, false, 232 * mb},
		{14 * mb, 6 * mb, 30 * mb, RungFile, true, 112 * mb},
		{14 * mb, 6 * mb, 30 * mb, RungLoad, false, 182 * mb},
		{14 * mb, 6 * mb, 30 * mb, RungRestart, false, 132 * mb},
		{math.MaxInt64, math.MaxInt64, 1, RungFile, false, 1 << 62},
		{math.MaxInt64 / 2, 1, 1, RungRestart, false, 1 << 62},
	}
	for _, tt := range tests {
		if got := Need(sized(tt.kernel, tt.initramfs, tt.rootfs), tt.rung, tt.inCache); got != tt.want {
			t.Errorf("Need(%d, %d, %d, %s, %v) = %d, want %d", tt.kernel, tt.initramfs, tt.rootfs, tt.rung, tt.inCache, got, tt.want)
		}
	}
}

func TestCheckMemory(t *testing.T) {
	m := sized(14<<20, 6<<20, 30<<20)
	if err := CheckMemory(m, RungFile, false, 232<<20); err != nil {
		t.Errorf("exactly enough: %v", err)
	}
	err := CheckMemory(m, RungFile, false, 232<<20-1)
	var mem *MemoryError
	if !errors.As(err, &mem) || mem.Code() != "KEXEC-001" || mem.Hint() == "" {
		t.Fatalf("one byte too few: %v", err)
	}
	for _, number := range []string{"50 MiB", "232 MiB"} {
		if !strings.Contains(err.Error(), number) {
			t.Errorf("%q does not say %s", err, number)
		}
	}
}
