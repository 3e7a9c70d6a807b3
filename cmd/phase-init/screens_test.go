package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/handover"
	"github.com/phasebased/phase/internal/term"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestFailureScreens holds what a person sees to files in testdata/screens: errors
// with long texts and long words, on a serial line of 80 columns.
func TestFailureScreens(t *testing.T) {
	long := "https://mirror.example/" + strings.Repeat("a-folder-of-a-very-long-name/", 5) + "blobs/" + blob.Of([]byte("kernel")).String()
	for name, err := range map[string]error{
		"ladder": fmt.Errorf("hand over: %w", &handover.LadderError{Reasons: []handover.Reason{
			{Rung: handover.RungFile, Err: errors.New("the kernel refuses it: its lockdown allows only kernels that are signed by a key of this machine (operation not permitted)")},
			{Rung: handover.RungLoad, Err: errors.New("the running kernel was built without kexec_load, or has switched it off for good (kernel.kexec_load_disabled is 1)")},
			{Rung: handover.RungRestart, Err: errors.New("the boot partition of this medium has 12 MiB left, and the new system needs 87 MiB: no space left on device")},
		}}),
		"urls": &fetch.Error{Artifact: "kernel", Want: blob.Of([]byte("kernel")), Rounds: 3, Attempts: []fetch.Attempt{
			{URL: long, Round: 1, Err: errors.New("404 Not Found")},
			{URL: "http://[fd00:1234:5678:9abc:def0:1234:5678:9abc]:48080/blobs", Round: 2, Err: errors.New("dial tcp: connection refused")},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var screen bytes.Buffer
			console := term.New(term.Config{Out: &screen, ASCII: true, Now: func() time.Duration { return 0 }})
			_, failure := newObserver(nil).failure(err)
			failure.Do = append(failure.Do, (&seed{}).keyLine())
			console.Failure(failure)
			for line := range strings.Lines(screen.String()) {
				if strings.TrimRight(line, "\n") != "" && len(line) > 77 {
					t.Errorf("%d columns: %s", len(line)-1, line)
				}
			}
			path := filepath.Join("testdata", "screens", name+".golden")
			if *update {
				if err := os.WriteFile(path, screen.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if screen.String() != string(want) {
				t.Errorf("the screen is not that of %s:\n%s", path, screen.String())
			}
		})
	}
}
