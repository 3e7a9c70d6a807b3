// Command phase-init is what the seed does: it walks the corridor (network,
// discover, verify, fetch, hand over) until a verified system takes the machine
// over. A failure is shown, and tried again. It is started, and started again
// should it ever end, by phase-pid1.
//
// Called by another name it is one of the corridor's steps as a command, so
// that the seed carries their code once: phase-discover, phase-verify,
// phase-fetch.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/phasebased/phase/cmd/internal/steps"
)

// walkArgument is what phase-pid1 starts this program with.
const walkArgument = "walk"

func main() {
	env := steps.Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Now: time.Now}
	switch filepath.Base(os.Args[0]) {
	case "phase-discover":
		os.Exit(steps.Discover(os.Args[1:], env, nets(nil, nil)))
	case "phase-verify":
		os.Exit(steps.Verify(os.Args[1:], env))
	case "phase-fetch":
		os.Exit(steps.Fetch(os.Args[1:], env))
	}
	if os.Getppid() != 1 || len(os.Args) != 2 || os.Args[1] != walkArgument {
		fmt.Fprintln(os.Stderr, "phase-init: this is the heart of the seed system; it only runs under phase-pid1")
		os.Exit(2)
	}
	runInit()
}
