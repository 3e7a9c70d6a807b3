// Command phase-pid1 is PID 1 of the seed. It does what cannot be left undone,
// and nothing else: it mounts the early file systems, waits for every process
// that ends, and keeps phase-init running, which walks the corridor with all the
// libraries that takes. When that program ends, of whatever (a panic in a
// goroutine that nobody guards, a signal, no memory), every process it has left
// is killed, its last words are shown on every console, and it is started again,
// after a pause that grows. If it keeps ending, a person is asked.
//
// The kernel panics when PID 1 ends. So this program imports no library that
// starts goroutines, takes every signal, runs whatever it does under a guard, and
// is the last that the kernel would kill for memory.
//
// Trust: the program it starts is part of the same image. What that writes and
// what is typed on consoles is bounded and cleaned, not believed.
package main

import (
	"fmt"
	"os"
	"time"
)

// breath keeps a defect that shows at once from taking all of the processor.
const breath = time.Second

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "phase-pid1: this is PID 1 of the seed system, and runs as nothing else")
		os.Exit(2)
	}
	s := start()
	for {
		s.guard("the supervisor", s.run)
		time.Sleep(breath)
	}
}
