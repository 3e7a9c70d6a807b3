package main

import (
	"os"
	"path"
	"runtime"
	"strings"

	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/internal/vm"
	"github.com/phasebased/phase/manifest"
)

// mediumArch is the architecture that a medium is for, by the boot loaders at the
// places of removable media (UEFI 2.10, 3.5.1.1). One for several is for machines
// like this one; x86_64 where the medium does not tell, as in formats that are not
// raw.
func mediumArch(d vm.Disk) string {
	found := map[string]bool{}
	if f, err := os.Open(d.Path); err == nil && d.Format == vm.FormatRaw {
		defer f.Close()
		if size, err := f.Seek(0, 2); err == nil {
			// An error is an answer, too: the medium does not tell.
			_, _ = image.ReadESP(f, size, func(name string) bool {
				switch strings.ToUpper(path.Base(name)) {
				case "BOOTX64.EFI":
					found[vm.X8664] = true
				case "BOOTAA64.EFI":
					found[vm.ARM64] = true
				}
				return false
			})
		}
	}
	own, err := manifest.ParseArch(runtime.GOARCH)
	switch {
	case found[vm.ARM64] && !found[vm.X8664], found[vm.ARM64] && err == nil && own == vm.ARM64:
		return vm.ARM64
	}
	return vm.X8664
}
