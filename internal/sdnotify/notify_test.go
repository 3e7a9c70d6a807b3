package sdnotify

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// manager is a service manager's end of the socket.
func manager(t *testing.T, name string) *net.UnixConn {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func heard(t *testing.T, conn *net.UnixConn) string {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	return string(buf[:n])
}

func TestWords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	for _, name := range []string{path, "@phase-" + path} {
		m := manager(t, name)
		n, err := Dial(name)
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		for _, c := range []struct {
			send func(string) error
			text string
			want string
		}{
			{n.Ready, "up", "READY=1\nSTATUS=up"},
			{n.Alive, "3 peers", "WATCHDOG=1\nSTATUS=3 peers"},
			{n.Status, "a\nREADY=1\x00\xff", "STATUS=a READY=1 ?"},
			{n.Stopping, strings.Repeat("é", 300), "STOPPING=1\nSTATUS=" + strings.Repeat("é", 200) + "…"},
		} {
			if err := c.send(c.text); err != nil {
				t.Fatal(err)
			}
			if got := heard(t, m); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		}
	}
}

func TestWithoutManager(t *testing.T) {
	n, err := Dial("")
	if n != nil || err != nil {
		t.Fatal(n, err)
	}
	if err := errors.Join(n.Ready("x"), n.Alive("x"), n.Status("x"), n.Stopping("x"), n.Close()); err != nil {
		t.Error(err)
	}
}

func TestDialRefuses(t *testing.T) {
	for _, name := range []string{"notify", "vsock:2:1", filepath.Join(t.TempDir(), "nobody")} {
		if n, err := Dial(name); err == nil || n != nil {
			t.Errorf("%q was taken", name)
		}
	}
}

// TestWatchdog: a part that fails is alive, one that hangs is not, and comes back
// when it answers. A part that hangs is not asked again.
func TestWatchdog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		release, asked := make(chan struct{}), make(chan struct{}, 100)
		failed := errors.New("no room")
		says := make(chan string, 100)
		w := &Watchdog{
			Every: time.Millisecond, Patience: 20 * time.Millisecond,
			Probes: []Probe{
				{"jobs", func(context.Context) error { return failed }},
				{"network", func(context.Context) error { asked <- struct{}{}; <-release; return nil }},
			},
			Alive: func(err error) {
				if !errors.Is(err, failed) || !strings.HasPrefix(err.Error(), "jobs: ") {
					t.Errorf("trouble is %v", err)
				}
				select {
				case says <- "alive":
				default:
				}
			},
			Hangs: func(parts []string) {
				if !slices.Equal(parts, []string{"network"}) {
					t.Errorf("%q hang", parts)
				}
				select {
				case says <- "hangs":
				default:
				}
			},
		}
		ended := make(chan struct{})
		go func() { defer close(ended); w.Run(ctx) }()
		for range 3 {
			if got := <-says; got != "hangs" {
				t.Fatal(got)
			}
		}
		if len(asked) != 1 {
			t.Errorf("a part that hangs was asked %d times", len(asked))
		}
		close(release)
		for <-says != "alive" {
		}
		stop()
		<-ended
	})
}
