package vm

import (
	"fmt"
	"strings"
	"testing"
)

// collect runs readReports on text with a channel of the given size, which
// nobody reads meanwhile.
func collect(text string, size int) []Report {
	ch := make(chan Report, size)
	readReports(strings.NewReader(text), ch)
	var got []Report
	for r := range ch {
		got = append(got, r)
	}
	return got
}

func TestReports(t *testing.T) {
	long := strings.Repeat("x", maxReportLine)
	tests := []struct {
		name, in string
		size     int
		want     []string // line and number dropped before it
	}{
		{"lines", "{\"a\":1}\n\n{}\n", 9, []string{`{"a":1} 0`, "{} 0"}},
		{"unfinished", "{}\n{\"a\"", 9, []string{"{} 0"}},
		{"longest", long + "\nb\n", 9, []string{long + " 0", "b 0"}},
		{"too long", "a\n" + long + "x\nb\n", 9, []string{"a 0", "b 1"}},
		{"far too long", strings.Repeat(long, 20) + "\nb\n", 9, []string{"b 1"}},
		{"too long without end", "a\n" + long + long, 9, []string{"a 0"}},
		{"nobody reads", "a\nb\nc\n", 2, []string{"a 0", "b 0"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, r := range collect(tt.in, tt.size) {
				if r.At.IsZero() {
					t.Error("no time")
				}
				got = append(got, fmt.Sprintf("%s %d", r.Line, r.Dropped))
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("got %.200q, want %.200q", got, tt.want)
			}
		})
	}
}

func TestReportsDroppedAreCounted(t *testing.T) {
	r, w := newPipe(t)
	ch := make(chan Report, 1)
	done := make(chan struct{})
	go func() { defer close(done); readReports(r, ch) }()
	// A synchronous pipe: each write has been read when it returns, and the
	// line before it has been offered when the next is read.
	for _, line := range []string{"1\n", "2\n", "3\n", "4"} {
		write(t, w, line)
	}
	if first := <-ch; string(first.Line) != "1" || first.Dropped != 0 {
		t.Errorf("got %q after %d dropped", first.Line, first.Dropped)
	}
	write(t, w, "\n")
	if next := <-ch; string(next.Line) != "4" || next.Dropped != 2 {
		t.Errorf("got %q after %d dropped", next.Line, next.Dropped)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	<-done
}
