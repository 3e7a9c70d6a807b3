package main

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/phasebased/phase/internal/term"
)

// TestLateBar is silent for two seconds, and counts then, also what stands still.
func TestLateBar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		begun := time.Now()
		console := term.New(term.Config{Out: &out, Now: func() time.Duration { return time.Since(begun) }})
		newLateBar(console, "verify").end() // of nothing

		b := newLateBar(console, "verify")
		b.set(50, 100)
		time.Sleep(unshown - 1)
		b.set(60, 100)
		if synctest.Wait(); out.Len() != 0 {
			t.Errorf("%q", out.String())
		}
		time.Sleep(1)
		if synctest.Wait(); !strings.Contains(out.String(), "verify        60 %  60 B of 100 B  30 B/s") {
			t.Errorf("%q", out.String())
		}
		b.set(100, 100)
		b.end()
		if !strings.HasSuffix(out.String(), "100 %  100 B of 100 B  50 B/s\n") {
			t.Errorf("%q", out.String())
		}

		out.Reset()
		b = newLateBar(console, "verify")
		b.set(50, 100)
		b.end()
		time.Sleep(unshown)
		b.set(60, 100) // by somebody who has not heard of the end
		if synctest.Wait(); out.Len() != 0 {
			t.Errorf("%q", out.String())
		}
	})
}

// screenOf is a console that is no terminal, and what it shows.
func screenOf() (*bytes.Buffer, *term.Console) {
	var out bytes.Buffer
	return &out, term.New(term.Config{Out: &out, Now: func() time.Duration { return 0 }})
}
