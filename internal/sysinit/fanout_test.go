package sysinit

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"
)

// output collects writes and can be blocked.
type output struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	gate chan struct{} // nil: open
}

func (o *output) Write(p []byte) (int, error) {
	if o.gate != nil {
		<-o.gate
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestBlockedConsoleStopsNobody(t *testing.T) {
	stuck, fine := &output{gate: make(chan struct{})}, &output{}
	f := NewFanOut(stuck, fine)
	line := []byte(strings.Repeat("x", 99) + "\n")
	for range 1000 {
		if n, err := f.Write(line); n != len(line) || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
		if err := f.queues[1].Flush(soon(t)); err != nil {
			t.Fatalf("the other console waits too: %v", err)
		}
	}
	if n := strings.Count(fine.String(), "\n"); n != 1000 {
		t.Errorf("%d of 1000 lines arrived", n)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if err := f.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Flush with a blocked console = %v", err)
	}
	close(stuck.gate)
	if err := f.Flush(soon(t)); err != nil {
		t.Fatal(err)
	}
	text := stuck.String()
	if !strings.Contains(text, "writes dropped") || len(text) > 3*queueBytes {
		t.Errorf("the slow console got %d bytes and must be told of the loss", len(text))
	}
	f.Close()
	f.Close()
	if n, err := f.Write(line); n != len(line) || err != nil {
		t.Errorf("Write after Close = %d, %v", n, err)
	}
}

func TestQueueWithoutNote(t *testing.T) {
	out := &output{gate: make(chan struct{})}
	q := NewQueue(out, QueueConfig{Limit: 10})
	for range 100 {
		q.Write([]byte("{\"a\":1}\n"))
	}
	close(out.gate)
	if err := q.Flush(soon(t)); err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		if line != `{"a":1}` {
			t.Errorf("line %q: a report must stay JSON", line)
		}
	}
}

type records struct{ got []string }

func (r *records) Write(p []byte) (int, error) {
	r.got = append(r.got, string(p))
	return len(p), nil
}

func TestKmsg(t *testing.T) {
	var r records
	k := NewKmsg(&r, 6, "phase")
	k.Write([]byte("first\nsecond "))
	k.Write([]byte("half\r\n\n\x1b[2Jcolour\n" + strings.Repeat("y", 2*maxKmsg) + "\nopen"))
	want := []string{"<6>phase: first", "<6>phase: second half", "<6>phase: [2Jcolour",
		"<6>phase: " + strings.Repeat("y", maxKmsg), "<6>phase: " + strings.Repeat("y", maxKmsg)}
	if strings.Join(r.got, "|") != strings.Join(want, "|") {
		t.Errorf("records = %q", r.got)
	}
}

func TestLineReader(t *testing.T) {
	tests := []struct {
		typed, line    string
		done, canceled bool
	}{
		{"http://a\r", "http://a", true, false},
		{"ab\x7fc\n", "ac", true, false},
		{"\x7f\x08x\n", "x", true, false},
		{"abc\x15d\n", "d", true, false},
		{"abc\x1b", "abc", false, true},
		{"abc\x03", "abc", false, true},
		{"\x00\xffé\x01ok\n", "ok", true, false},
		{"0123456789too long\n", "0123456789", true, false},
		{"open", "open", false, false},
	}
	for _, tt := range tests {
		l := NewLineReader(10)
		var done, canceled bool
		for i := 0; i < len(tt.typed) && !done && !canceled; i++ {
			_, done, canceled = l.Feed(tt.typed[i])
		}
		if l.Line() != tt.line || done != tt.done || canceled != tt.canceled {
			t.Errorf("%q gives %q %v %v", tt.typed, l.Line(), done, canceled)
		}
	}
}

func TestReadLineStaysOnOneConsole(t *testing.T) {
	var a, b, prompt bytes.Buffer
	keys := make(chan Key, 32)
	for _, k := range []Key{{'x', &a}, {'!', &b}, {'y', &a}, {'\n', &b}, {'\r', &a}} {
		keys <- k
	}
	line, ok, err := ReadLine(soon(t), keys, &prompt, "URL: ", 100)
	if line != "xy" || !ok || err != nil {
		t.Errorf("ReadLine = %q, %v, %v", line, ok, err)
	}
	if a.String() != "xy\n" || b.Len() != 0 || prompt.String() != "URL: " {
		t.Errorf("echo %q and %q, prompt %q", a.String(), b.String(), prompt.String())
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := ReadLine(ctx, keys, &prompt, "", 100); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}
