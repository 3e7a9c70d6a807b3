//go:build unix

package ceremony

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/phasebased/phase/internal/durable"
)

// TestPipesAreRefused at once, wherever a document may come from a stranger.
func TestPipesAreRefused(t *testing.T) {
	settle(t)
	for _, path := range []string{"2.root.json", "x.pub", "pipe.json"} {
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll("published/stable/x86_64", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo("published/stable/x86_64/1.root.json", 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"root inspect 2.root.json", "root inspect 1.root.json --root .", "root sign pipe.json --key r1.key --yes",
		"root add-key --in 1.root.json --role root --key x.pub", "manifest inspect pipe.json",
		"pointer inspect pointer.json --root 2.root.json", "pointer sign --manifest pipe.json --root 1.root.json --key ts.key --yes",
		"check-expiry pipe.json", "merge pipe.json 1.root.json --out y", "log vkey x.pub --name a.example",
		"publish --to published --pointer pointer.json --manifest manifest.json --root 1.root.json --kernel kernel --initramfs initrd --dtb board.dtb=kernel",
	} {
		if _, _, err := call(t, now, strings.Fields(line)...); !errors.Is(err, durable.ErrNotRegular) {
			t.Errorf("%s: %v", line, err)
		}
	}
	must(t, "root inspect 1.root.json") // x.pub lies beside it and only has no name
}
