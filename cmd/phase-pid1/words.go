package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"regexp"
	"sync"
)

// Bounds on what a program's last words cost.
const (
	maxLine   = 400 // bytes of a line; the rest of it is cut off
	maxLogged = 300 // lines in the kernel's log for each run
	maxShown  = 6   // lines on the consoles: a screen has 25
)

// crash is how Go's runtime begins to speak when a program ends.
var crash = regexp.MustCompile(`^(panic: |fatal error: |runtime: |SIG[A-Z]+: |unexpected fault address )`)

// lastWords keeps what a program wrote to its standard error. A Go program that
// crashes explains itself there.
type lastWords struct {
	log io.Writer

	mu      sync.Mutex
	lines   []string // the first ones; from a crash on, those of the crash
	crashed bool
	logged  int
}

// readFrom takes lines until r ends.
func (w *lastWords) readFrom(r io.Reader) error {
	reader := bufio.NewReaderSize(r, maxLine)
	whole := true // what comes next begins a line
	for {
		line, more, err := reader.ReadLine()
		if len(line) > 0 && whole {
			w.take(string(line))
		}
		if whole = !more; err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return err
		}
	}
}

func (w *lastWords) take(line string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.logged++; w.logged <= maxLogged {
		fmt.Fprintln(w.log, line)
	}
	if !w.crashed && crash.MatchString(line) {
		w.lines, w.crashed = nil, true
	}
	if len(w.lines) < maxShown {
		w.lines = append(w.lines, line)
	}
}

// first is what a person is shown.
func (w *lastWords) first() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.lines...)
}
