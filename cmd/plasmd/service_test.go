package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/mdns"
	"github.com/phasebased/phase/internal/sdnotify"
)

// aManager is a service manager's socket, and what it hears.
func aManager(t *testing.T) (socket string, hear func() string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return socket, func() string {
		_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
		buf := make([]byte, 4096)
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
}

func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

// TestManagerIsTold starts a node as systemd would: it says that it serves, that it
// lives, and that it stops.
func TestManagerIsTold(t *testing.T) {
	socket, hear := aManager(t)
	dir := t.TempDir()
	config := filepath.Join(dir, "config.json")
	if err := os.WriteFile(config, []byte(`{"listen_addrs":["/ip4/127.0.0.1/tcp/0"]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	f := startFlags{
		config: config, state: filepath.Join(dir, "state"),
		speak: func(mdns.Announcement) (announcer, error) { return nil, errors.New("not here") },
		service: func(log *slog.Logger) *service {
			s, err := openService(socket, "400000", strconv.Itoa(os.Getpid()))
			if err != nil {
				t.Error(err)
			}
			s.log = log
			return s
		},
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- f.start(ctx, t.Output()) }()
	if got := hear(); !strings.HasPrefix(got, "READY=1\nSTATUS=0 peers; 0 jobs running") {
		t.Fatalf("first %q", got)
	}
	for range 2 {
		got := hear()
		for strings.HasPrefix(got, "STATUS=does not answer") { // a busy machine
			got = hear()
		}
		if !strings.HasPrefix(got, "WATCHDOG=1\nSTATUS=") {
			t.Fatalf("then %q", got)
		}
	}
	stop()
	for got := ""; !strings.HasPrefix(got, "STOPPING=1"); got = hear() {
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestHangIsNotHidden: as long as one part hangs the watchdog is not fed, and when it
// answers again it is.
func TestHangIsNotHidden(t *testing.T) {
	socket, hear := aManager(t)
	s, err := openService(socket, "40000", "")
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	s.log = silent()
	release := make(chan struct{})
	probes := []sdnotify.Probe{
		{Name: "queue", Ask: func(context.Context) error { <-release; return nil }},
		{Name: "sandbox", Ask: func(context.Context) error { return fmt.Errorf("no\nprocesses") }},
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); s.watch(ctx, probes, func() string { return "as usual" }) }()
	for range 3 {
		if got := hear(); got != "STATUS=does not answer: queue" {
			t.Fatalf("%q", got)
		}
	}
	close(release)
	got := hear()
	for got == "STATUS=does not answer: queue" {
		got = hear()
	}
	if got != "WATCHDOG=1\nSTATUS=in trouble: sandbox: no; processes; as usual" {
		t.Errorf("%q", got)
	}
	stop()
	<-ended
}

func TestOpenService(t *testing.T) {
	socket, _ := aManager(t)
	for _, c := range []struct {
		socket, usec, pid string
		patient           time.Duration
		notifies, fails   bool
	}{
		{"", "", "", 0, false, false},
		{"", "1000000", "", 0, false, false},
		{socket, "", "", 0, true, false},
		{socket, "1000000", "", time.Second, true, false},
		{socket, "1000000", strconv.Itoa(os.Getpid()), time.Second, true, false},
		{socket, "1000000", "1", 0, true, false},
		{socket, "soon", "", 0, true, false},
		{socket, "-1", "", 0, true, false},
		{"vsock:2:1", "1000000", "", 0, false, true},
	} {
		s, err := openService(c.socket, c.usec, c.pid)
		if s.patient != c.patient || (s.notify != nil) != c.notifies || (err != nil) != c.fails {
			t.Errorf("%+v: %+v, %v", c, s, err)
		}
		s.close()
	}
}

// TestHTTPAnswers: a server that serves answers, one that hangs does not within the
// patience.
func TestHTTPAnswers(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	s := &server{listener: listener}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.answers(ctx); err == nil {
		t.Error("a listener that nobody serves has answered")
	}
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, "HTTP/1.0 503 Busy\r\n\r\n")
			c.Close()
		}
	}()
	if err := s.answers(t.Context()); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
}

func TestLogFormats(t *testing.T) {
	for _, c := range []struct{ format, want string }{
		{"", "level=WARN msg=m a=1 g.b=\"x y\"\n"},
		{"text", "level=WARN msg=m a=1 g.b=\"x y\"\n"},
		{"json", `"level":"WARN","msg":"m","a":1,"g":{"b":"x y"}}` + "\n"},
		{"journal", "<4>msg=m a=1 g.b=\"x y\"\n"},
	} {
		var out bytes.Buffer
		f := logFlags{format: c.format}
		log, err := f.open(&out)
		if err != nil {
			t.Fatal(err)
		}
		log.Debug("unseen")
		log.With("a", 1).WithGroup("g").Warn("m", "b", "x y")
		if got := out.String(); !strings.HasSuffix(got, c.want) || c.format == "journal" && got != c.want {
			t.Errorf("%s: %q", c.format, got)
		}
	}
	if _, err := (&logFlags{format: "xml"}).open(&bytes.Buffer{}); !errors.As(err, new(usageError)) {
		t.Errorf("%v", err)
	}
	var out bytes.Buffer
	log, _ := (&logFlags{format: "journal", verbose: true}).open(&out)
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelError} {
		log.Log(t.Context(), level, "m")
	}
	if out.String() != "<7>msg=m\n<6>msg=m\n<3>msg=m\n" {
		t.Errorf("%q", out.String())
	}
}

// TestJournalIsKnown by its device and inode number.
func TestJournalIsKnown(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		t.Fatal(err)
	}
	stat := info.Sys().(*syscall.Stat_t)
	name := fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
	if !isJournal(file, name) || isJournal(file, "1:1") || isJournal(file, "") || isJournal(&bytes.Buffer{}, name) {
		t.Error("mistaken")
	}
}
