package steps

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"github.com/phasebased/phase/cmd/internal/manual"
)

var update = flag.Bool("update", false, "write the pages of the reference anew")

// TestReference: each step's page in docs/reference is what the program says of itself,
// and that is all there is to say.
func TestReference(t *testing.T) {
	for _, root := range Commands() {
		path := "../../../docs/reference/" + root.Name() + ".md"
		for _, fault := range manual.Faults(root) {
			t.Error(fault)
		}
		page := manual.Markdown(root)
		if *update {
			if err := os.WriteFile(path, page, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if there, err := os.ReadFile(path); err != nil || !bytes.Equal(there, page) {
			t.Errorf("%s is not what the program says (%v): run `make reference`", path, err)
		}
	}
}
