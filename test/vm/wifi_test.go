package vm_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/vm"
)

// TestMediumWithWiFi boots a medium for real machines, with their kernel and Wi-Fi,
// on one that has a network cable and no wireless card: nothing is missing, and
// nobody is bothered with Wi-Fi. What joining takes, cmd/phase-init proves.
func TestMediumWithWiFi(t *testing.T) {
	t.Parallel()
	b := setup(t)
	work, err := filepath.Abs(filepath.Join(repository, "build", "lab-wifi"))
	if err != nil {
		t.Fatal(err)
	}
	b.lab, err = lab.New(context.Background(), lab.Config{
		Arch: vm.X8664, Target: filepath.Join(repository, "build", "target", vm.X8664),
		Plasmd: filepath.Join(repository, "build", "bin", "plasmd"), Work: work, Version: labVersion, Time: labTime,
		WiFi: true, Kernel: "linux-image-amd64",
	})
	if err != nil {
		t.Fatal(err)
	}
	outcome, console := b.bootFrom(b.release(1), "")
	b.verified(outcome, console)
	shown := calm(console)
	for _, never := range []string{"WARNING", "Wi-Fi", "wpa_supplicant"} {
		if strings.Contains(shown, never) {
			t.Errorf("the console shows %q:\n%s", never, shown)
		}
	}
}
