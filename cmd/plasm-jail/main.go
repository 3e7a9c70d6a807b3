// Command plasm-jail is the process in which a node jails one guest. It is what
// plasmd can do when called as job-runner, without all else that plasmd is: a node
// starts one for each job, and a small program starts in a third of the time. It is not
// for people. plasmd finds it beside itself or in ../lib/plasm, and does without
// where it is missing or was not built with it.
package main

import (
	"fmt"
	"os"

	"github.com/phasebased/phase/internal/version"
	"github.com/phasebased/phase/internal/wasm"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == wasm.ProtocolCommand {
		fmt.Println(wasm.Protocol(version.Version))
		return
	}
	if err := wasm.ServeRunner(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
