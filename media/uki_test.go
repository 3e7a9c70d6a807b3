package media

import (
	"strings"
	"testing"
)

func TestUKIOf(t *testing.T) {
	for _, mode := range Modes() {
		got, err := UKIOf(EntryData{Mode: mode, Arch: "arm64", Options: "quiet"}, 7, "1.2")
		if err != nil {
			t.Fatal(err)
		}
		// Whoever chooses Private mode at the console has what its entry promises.
		if want := "phase.mode=" + mode + " phase.menu=7 efi_pstore.pstore_disable=1 pstore.backend=none quiet"; got.Cmdline != want {
			t.Errorf("%q, want %q", got.Cmdline, want)
		}
		if !strings.Contains(got.OSRelease, "\nIMAGE_VERSION=\"1.2\"\n") {
			t.Errorf("%q", got.OSRelease)
		}
	}
	for name, tt := range map[string]struct {
		e       EntryData
		menu    int
		version string
	}{
		"mode":     {EntryData{Mode: "x", Arch: "arm64"}, 1, "1"},
		"arch":     {EntryData{Mode: "local", Arch: "x"}, 1, "1"},
		"options":  {EntryData{Mode: "local", Arch: "arm64", Options: "a\nb"}, 1, "1"},
		"version":  {EntryData{Mode: "local", Arch: "arm64"}, 1, "1\nID=x"},
		"quote":    {EntryData{Mode: "local", Arch: "arm64"}, 1, `1"`},
		"menu":     {EntryData{Mode: "local", Arch: "arm64"}, 3601, "1"},
		"negative": {EntryData{Mode: "local", Arch: "arm64"}, -1, "1"},
	} {
		if got, err := UKIOf(tt.e, tt.menu, tt.version); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
