// Command node-init is PID 1 of the default node system. The seed has verified
// and started it; it lays a writable memory over the read-only root file
// system, brings the network up, and keeps plasmd running. It never exits.
package main

import (
	"fmt"
	"os"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "node-init: this is the init of the node system; it only runs as PID 1")
		os.Exit(2)
	}
	runInit()
}
