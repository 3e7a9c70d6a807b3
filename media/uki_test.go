package media

import (
	"strings"
	"testing"
)

func TestUKIOf(t *testing.T) {
	for i, mode := range Modes() {
		got, err := UKIOf(EntryData{Mode: mode, Arch: "arm64", Options: "quiet"}, "1.2")
		if err != nil {
			t.Fatal(err)
		}
		title := strings.ToUpper(mode[:1]) + mode[1:]
		for _, want := range []string{"PRETTY_NAME=\"Phase Boot — " + title + " Mode\"\n", "IMAGE_ID=phase-" + string(rune('1'+i)) + "\n", "IMAGE_VERSION=\"1.2\"\n"} {
			if !strings.Contains(got.OSRelease, want) {
				t.Errorf("%s: no %q in:\n%s", mode, want, got.OSRelease)
			}
		}
		if got.Name != "phase-"+mode+"-arm64.efi" || !strings.HasPrefix(got.Cmdline, "phase.mode="+mode) || !strings.HasSuffix(got.Cmdline, " quiet") {
			t.Errorf("%+v", got)
		}
	}
	for name, tt := range map[string]struct {
		e       EntryData
		version string
	}{
		"mode":    {EntryData{Mode: "x", Arch: "arm64"}, "1"},
		"arch":    {EntryData{Mode: "local", Arch: "x"}, "1"},
		"options": {EntryData{Mode: "local", Arch: "arm64", Options: "a\nb"}, "1"},
		"version": {EntryData{Mode: "local", Arch: "arm64"}, "1\nID=x"},
		"quote":   {EntryData{Mode: "local", Arch: "arm64"}, `1"`},
	} {
		if got, err := UKIOf(tt.e, tt.version); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestUKILoaderConf(t *testing.T) {
	got, err := UKILoaderConf(3, "private")
	if err != nil || !strings.Contains(got, "\ndefault *private*\n") || !strings.Contains(got, "\ntimeout 3\n") || !strings.Contains(got, "\neditor no\n") {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := UKILoaderConf(3, "x"); err == nil {
		t.Error("a mode that does not exist")
	}
}
