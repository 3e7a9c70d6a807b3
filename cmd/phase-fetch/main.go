// Phase-fetch downloads the artifacts of a verified boot manifest.
package main

import (
	"os"
	"time"

	"github.com/phasebased/phase/cmd/internal/steps"
)

func main() {
	os.Exit(steps.Fetch(os.Args[1:], steps.Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Now: time.Now}))
}
