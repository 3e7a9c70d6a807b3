package vm

import (
	"bufio"
	"context"
	"errors"
	"net"
	"strings"
	"testing"
)

func newPipe(t *testing.T) (r, w net.Conn) {
	t.Helper()
	r, w = net.Pipe()
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	return r, w
}

func write(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := c.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
}

// fakeQEMU greets on a monitor connection and answers each command with the
// next of the answers; after the last it hangs up.
func fakeQEMU(t *testing.T, answers ...string) *monitor {
	ours, theirs := newPipe(t)
	m := newMonitor(ours)
	go m.read()
	go func() {
		defer theirs.Close()
		sc := bufio.NewScanner(theirs)
		_, _ = theirs.Write([]byte(`{"QMP":{"version":{}}}` + "\r\n"))
		for _, answer := range append([]string{`{"return":{}}`}, answers...) {
			if !sc.Scan() {
				return
			}
			_, _ = theirs.Write([]byte(answer + "\r\n"))
		}
	}()
	<-m.ready
	return m
}

func TestMonitor(t *testing.T) {
	tests := []struct {
		name   string
		answer string
		want   string // part of the error; empty: none
	}{
		{"success", `{"return":{},"id":1}`, ""},
		{"refusal", `{"id":1,"error":{"class":"GenericError","desc":"no display"}}`, "screendump: no display"},
		{"events first", `{"event":"RESUME"}` + "\n" + `{"return":{},"id":7}` + "\n" + `{"return":{},"id":1}`, ""},
		{"not JSON first", "hello\n[]\n" + `{"return":{},"id":1}`, ""},
		{"end", `{"event":"SHUTDOWN","data":{"reason":"guest-reset"}}`, errMonitorEnded.Error()},
		{"too long", strings.Repeat("x", maxQMPLine+1), errMonitorEnded.Error()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := fakeQEMU(t, tt.answer).do(t.Context(), "screendump", nil)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestMonitorRemembersTheReason(t *testing.T) {
	m := fakeQEMU(t, `{"event":"SHUTDOWN","data":{"guest":true,"reason":"guest-reset"}}`)
	if err := m.do(t.Context(), "quit", nil); !errors.Is(err, errMonitorEnded) {
		t.Fatal(err)
	}
	if got := m.reason(); got != "guest-reset" {
		t.Errorf("got %q", got)
	}
	if err := m.do(t.Context(), "quit", nil); !errors.Is(err, errMonitorEnded) {
		t.Errorf("after the end: %v", err)
	}
}

func TestMonitorWaitIsBounded(t *testing.T) {
	m := fakeQEMU(t, `{"event":"RESUME"}`, `{"return":{},"id":1}`)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.do(ctx, "quit", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
