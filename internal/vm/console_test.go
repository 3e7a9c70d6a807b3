package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

func contains(text string) func(string) bool {
	return func(line string) bool { return strings.Contains(line, text) }
}

func TestConsoleWait(t *testing.T) {
	ctx := t.Context()
	c := newConsole()
	c.feed([]byte("boot one\nlogin: root\nlogin"))

	first, err := c.wait(ctx, 0, contains("login"))
	if err != nil || first.N != 2 || first.Text != "login: root" || first.At.IsZero() {
		t.Fatalf("a line of the past: got %+v, %v", first, err)
	}
	prompt, err := c.wait(ctx, first.N, contains("login"))
	if err != nil || prompt.N != 3 || prompt.Text != "login" {
		t.Fatalf("an unfinished line: got %+v, %v", prompt, err)
	}
	got := make(chan Line)
	go func() {
		line, err := c.wait(ctx, prompt.N, contains("ready"))
		if err != nil {
			t.Error(err)
		}
		got <- line
	}()
	c.feed([]byte(": root\nnot yet\nrea"))
	c.feed([]byte("dy\n"))
	if line := <-got; line.N != 5 || line.Text != "ready" {
		t.Errorf("a line of the future: got %+v", line)
	}
}

func TestConsoleWaitEnds(t *testing.T) {
	c := newConsole()
	c.feed([]byte("x\nunfinished"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.wait(ctx, 0, contains("never")); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
	c.finish()
	if line, err := c.wait(t.Context(), 0, contains("unfinished")); err != nil || line.N != 2 {
		t.Errorf("the last line: got %+v, %v", line, err)
	}
	if _, err := c.wait(t.Context(), 0, contains("never")); !errors.Is(err, ErrEnded) {
		t.Errorf("ended: got %v", err)
	}
}

func TestConsoleFlood(t *testing.T) {
	c := newConsole()
	const flood = keptLines + 1000
	for i := range flood {
		c.feed(fmt.Appendf(nil, "line %d\n", i+1))
	}
	c.finish()
	if len(c.lines) != keptLines {
		t.Errorf("%d lines kept", len(c.lines))
	}
	want := flood - keptLines + 1
	for line := range c.all(t.Context(), 0) {
		if line.N != want || line.Text != fmt.Sprintf("line %d", want) {
			t.Fatalf("got %+v, want number %d", line, want)
		}
		want++
	}
	if want != flood+1 {
		t.Errorf("the last line was number %d", want-1)
	}
}

func TestConsoleTail(t *testing.T) {
	c := newConsole()
	c.feed([]byte("a\nb\nc\nd"))
	tests := map[int][]string{0: nil, 1: {"d"}, 3: {"b", "c", "d"}, 100: {"a", "b", "c", "d"}}
	for n, want := range tests {
		if got := c.tail(n); !slices.Equal(got, want) {
			t.Errorf("tail(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestConsoleLinesStopWithContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	c := newConsole()
	c.feed([]byte("only\n"))
	n := 0
	for range c.all(ctx, 0) {
		n++
	}
	if n != 1 {
		t.Errorf("%d lines", n)
	}
}

// zeros is an endless console of one unfinished line.
type zeros struct{ left int }

func (z *zeros) Read(p []byte) (int, error) {
	n := min(len(p), z.left)
	z.left -= n
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

type countWriter struct{ n int }

func (w *countWriter) Write(p []byte) (int, error) {
	w.n += len(p)
	return len(p), nil
}

func TestConsoleLogIsBounded(t *testing.T) {
	var log countWriter
	if err := newConsole().copyFrom(&zeros{left: maxConsole + 1<<20}, &log, nil); err != nil {
		t.Fatal(err)
	}
	if log.n != maxConsole {
		t.Errorf("%d bytes logged, want %d", log.n, maxConsole)
	}
}

type fullDisk struct{ bytes.Buffer }

var errFull = errors.New("disk full")

func (*fullDisk) Write([]byte) (int, error) { return 0, errFull }

func TestConsoleOutlivesItsLog(t *testing.T) {
	c := newConsole()
	if err := c.copyFrom(strings.NewReader("still here\n"), &fullDisk{}, nil); !errors.Is(err, errFull) {
		t.Errorf("got %v", err)
	}
	if got := c.tail(1); !slices.Equal(got, []string{"still here"}) {
		t.Errorf("got %q", got)
	}
}
