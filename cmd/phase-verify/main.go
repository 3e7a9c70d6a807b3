// Phase-verify checks a boot manifest against a root or a key.
package main

import (
	"os"
	"time"

	"github.com/phasebased/phase/cmd/internal/steps"
)

func main() {
	os.Exit(steps.Verify(os.Args[1:], steps.Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Now: time.Now}))
}
