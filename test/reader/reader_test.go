// Package reader_test has the specifications read by somebody else: a second reader of all
// signed documents, in Python, that does what docs/spec and docs/verification.md say and shares
// no code with the first, has to agree with every vector of this repository.
package reader_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"

	"github.com/phasebased/phase/internal/nettest"
)

// TestSpecificationsSuffice: what the pages say is enough to tell right documents from
// wrong ones, with the same codes. Log proofs are not judged: others specify them.
func TestSpecificationsSuffice(t *testing.T) {
	nettest.Require(t, "python3")
	// Go's cache of test results only knows what this process has read.
	for _, pattern := range []string{"*.py", "../../manifest/testdata/vectors.json", "../../quorum/testdata/vectors/*.json",
		"../../receipt/testdata/vectors.json", "../../internal/job/testdata/submissions.json"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatal(pattern, err)
		}
		for _, name := range names {
			if _, err := os.ReadFile(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	cmd := exec.CommandContext(t.Context(), "python3", "main.py", "../../manifest/testdata", "../../quorum/testdata/vectors",
		"../../receipt/testdata", "../../internal/job/testdata")
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	sum := regexp.MustCompile(`(?m)^(\d+) vectors agree, 0 do not, (\d+) were not judged$`).FindSubmatch(out)
	if sum == nil {
		t.Fatalf("no sum:\n%s", out)
	}
	agreed, _ := strconv.Atoi(string(sum[1]))
	passed, _ := strconv.Atoi(string(sum[2]))
	if agreed < 600 || passed > 20 {
		t.Errorf("only %d vectors agree, %d were not judged", agreed, passed)
	}
}
