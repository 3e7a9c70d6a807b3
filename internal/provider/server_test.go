package provider

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/nettest"
)

// address is one of the many that this machine has for itself.
func address(i int) string { return fmt.Sprintf("127.%d.%d.%d", 1+i>>16, i>>8&255, i&255) }

// dial connects from an address; the client's kernel takes little in advance.
func dial(t testing.TB, url, from string) net.Conn {
	t.Helper()
	d := net.Dialer{
		Timeout: nettest.Limit, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)},
		Control: func(_, _ string, raw syscall.RawConn) error {
			return raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 16<<10) })
		},
	}
	c, err := d.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(3 * nettest.Limit)); err != nil {
		t.Fatal(err)
	}
	return c
}

// ask sends a request on a connection and reads the answer's head.
func ask(t testing.TB, c net.Conn, path string) *http.Response {
	t.Helper()
	if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: provider\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	return answer(t, c)
}

func answer(t testing.TB, c net.Conn) *http.Response {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReaderSize(c, 512), nil)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

const bigSize = 16 << 20 // more than sockets take in advance

// startBig serves a kernel that sockets do not swallow whole.
func startBig(t testing.TB, cfg Config) (p *Provider, url, path string) {
	t.Helper()
	cfg.Base = t.TempDir()
	publish(t, cfg.Base, 7)
	path = filepath.Join(cfg.Base, "stable/x86_64/kernel")
	write(t, "/", path, bytes.Repeat([]byte("0123456789abcdef"), bigSize/16))
	p, url = start(t, cfg)
	return p, url, path
}

// allowFiles makes room for descriptors.
func allowFiles(t *testing.T, n uint64) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	more := unix.Rlimit{Cur: max(n, limit.Cur), Max: max(n, limit.Max)}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &more); err != nil {
		nettest.Lacking(t, "PHASE_REQUIRE_ROOT_TESTS", fmt.Sprintf("%d open files are not allowed: %v", n, err))
	}
}

// used is what this process has allocated.
func used() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// TestThousandsOfSlowClients: they are all kept, cost little, and keep nobody
// else waiting. When there is no more room the next one is told so.
func TestThousandsOfSlowClients(t *testing.T) {
	const slow = 2000
	allowFiles(t, 3*slow+1000)
	p, url, _ := startBig(t, Config{Total: slow + 1})
	held, answers := make([]net.Conn, slow), make([]*http.Response, slow)
	before := used()
	for i := range held {
		held[i] = dial(t, url, address(i))
		if answers[i] = ask(t, held[i], "/stable/x86_64/kernel"); answers[i].StatusCode != 200 {
			t.Fatalf("client %d: %s", i, answers[i].Status)
		}
	}
	if each := (used() - min(before, used())) / slow; each > 64<<10 {
		t.Errorf("a slow client, with this test's own side, costs %d bytes", each)
	} else {
		t.Logf("a slow client, with this test's own side, costs %d bytes", each)
	}
	if l := p.load(); l.Requests != slow || l.Clients != slow {
		t.Errorf("load %+v", l)
	}
	if resp, data := get(t, url+"/stable/x86_64/initramfs"); resp.StatusCode != 200 || !bytes.Equal(data, contents["initramfs"]) {
		t.Errorf("a fast client: %s, %d bytes", resp.Status, len(data))
	}
	last := dial(t, url, address(slow))
	ask(t, last, "/stable/x86_64/kernel")
	resp, _ := get(t, url+"/stable/x86_64/initramfs")
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !resp.Close {
		t.Errorf("the client for which there is no room: %s", resp.Status)
	}
	if n, err := io.Copy(io.Discard, answers[slow/2].Body); err != nil || n != bigSize {
		t.Errorf("a slow client got %d bytes, %v", n, err)
	}
	for _, c := range held {
		c.Close()
	}
	last.Close()
	eventually(t, "room for others", func() bool { return p.load().Requests == 0 })
	if resp, _ := get(t, url+"/stable/x86_64/initramfs"); resp.StatusCode != 200 {
		t.Errorf("afterwards: %s", resp.Status)
	}
}

// TestDeadClientIsCut: one that takes nothing gets no more, and its place is
// another's.
func TestDeadClientIsCut(t *testing.T) {
	p, url, _ := startBig(t, Config{Patience: 50 * time.Millisecond})
	c := dial(t, url, address(1))
	ask(t, c, "/stable/x86_64/kernel")
	eventually(t, "the client is cut", func() bool { l := p.load(); return l.Slow == 1 && l.Requests == 0 && l.Connections == 0 })
	if n, err := io.Copy(io.Discard, c); err == nil || n >= bigSize {
		t.Errorf("it got %d bytes, %v", n, err)
	}
}

// pair is both ends of a connection.
func pair(t *testing.T) (server *conn, client net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client = dial(t, l.Addr().String(), "127.0.0.1")
	tcp, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	server = &conn{TCPConn: tcp.(*net.TCPConn), patience: time.Minute, slow: func() {}, release: func() {}}
	t.Cleanup(func() { server.Close() })
	return server, client
}

// TestProgressIsWhatCounts: however long it takes, a client that takes enough in
// time is kept, and one that takes less is not.
func TestProgressIsWhatCounts(t *testing.T) {
	server, client := pair(t)
	path := filepath.Join(t.TempDir(), "file")
	write(t, "/", path, make([]byte, bigSize))
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n, err := server.ReadFrom(&io.LimitedReader{R: f, N: bigSize}); !errors.Is(err, errFull) || n < 6*minProgress {
		t.Fatalf("sent %d bytes at once, %v", n, err)
	}
	take := func() {
		before := server.acknowledged()
		if _, err := io.CopyN(io.Discard, client, 2*minProgress); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the client's word", func() bool { return server.acknowledged()-before >= minProgress })
	}
	calls := 0
	err = server.insist(func() error {
		if calls++; calls <= 2 {
			take()
		}
		return os.ErrDeadlineExceeded
	})
	if !errors.Is(err, errSlow) || calls != 3 {
		t.Errorf("after %d intervals: %v", calls, err)
	}
}

// TestTruncatedWhileServed: the client learns that something is missing, and
// nothing waits for bytes that will not come.
func TestTruncatedWhileServed(t *testing.T) {
	p, url, path := startBig(t, Config{})
	c := dial(t, url, address(1))
	resp := ask(t, c, "/stable/x86_64/kernel")
	if err := os.Truncate(path, 1<<20); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) || n >= bigSize {
		t.Errorf("%d bytes, %v", n, err)
	}
	eventually(t, "the request's end", func() bool { return p.load().Requests == 0 })
	if resp, _ := get(t, url+"/"+blobPath([]byte("job"))); resp.StatusCode != 200 {
		t.Errorf("afterwards: %s", resp.Status)
	}
}

// TestGrowsWhileServed: what was announced is what is sent.
func TestGrowsWhileServed(t *testing.T) {
	_, url, path := startBig(t, Config{})
	resp := ask(t, dial(t, url, address(1)), "/stable/x86_64/kernel")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != bigSize {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// TestIdleConnectionsMakeRoom: there are no more than there may be, and those that
// are idle keep nobody out.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	p, url := start(t, Config{Total: 20})
	limit := room(20)
	var first net.Conn
	for i := range 5 * limit {
		c := dial(t, url, address(i))
		if resp := ask(t, c, "/"+blobPath([]byte("job"))); resp.StatusCode != 200 {
			t.Fatalf("client %d: %s", i, resp.Status)
		}
		if first == nil {
			first = c
		}
		if n := p.load().Connections; n > limit {
			t.Fatalf("%d connections, at most %d are allowed", n, limit)
		}
		// The next one comes when this one is idle, as far as the server knows.
		eventually(t, "an idle connection", func() bool { return p.load().Requests == 0 })
	}
	if n, err := first.Read(make([]byte, 1)); err == nil {
		t.Errorf("the longest idle connection is open, %d bytes", n)
	}
	if p.counters.shed.Load() == 0 {
		t.Error("no idle connection was closed")
	}
}

// TestEndlessHeadsKeepNobodyOut: who never says what he wants has a place only for
// a while, and one address not many.
func TestEndlessHeadsKeepNobodyOut(t *testing.T) {
	p, url := start(t, Config{Total: 200})
	limit := room(p.cfg.PerClient)
	for range 2 * limit {
		c := dial(t, url, "127.0.0.9")
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nX-Slow: "); err != nil {
			t.Fatal(err)
		}
	}
	if resp := ask(t, dial(t, url, "127.0.0.10"), "/health"); resp.StatusCode != 200 {
		t.Errorf("somebody else: %s", resp.Status)
	}
	eventually(t, "a refusal", func() bool { return p.counters.turnedAway[refusedConnection].Load() >= int64(limit) })
	if n := p.load().Connections; n > limit+2 {
		t.Errorf("%d connections", n)
	}
	s := p.httpServer(p.door())
	if s.ReadHeaderTimeout <= 0 || s.ReadTimeout <= 0 || s.IdleTimeout <= 0 || s.MaxHeaderBytes <= 0 {
		t.Errorf("a bound is missing: %+v", s)
	}
}

// TestNoRoomForAConnection: who is not even listened to is told, at once.
func TestNoRoomForAConnection(t *testing.T) {
	p, url := start(t, Config{Total: 200})
	for range room(p.cfg.PerClient) {
		c := dial(t, url, "127.0.0.9")
		if _, err := io.WriteString(c, "GET "); err != nil {
			t.Fatal(err)
		}
	}
	resp := ask(t, dial(t, url, "127.0.0.9"), "/health")
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !resp.Close {
		t.Errorf("%s", resp.Status)
	}
}

func TestStrangersAreNotAnswered(t *testing.T) {
	only := netip.MustParseAddr("127.0.0.7")
	p, url := start(t, Config{Serves: func(a netip.Addr) bool { return a.Unmap() == only }})
	if resp := ask(t, dial(t, url, "127.0.0.7"), "/health"); resp.StatusCode != 200 {
		t.Errorf("whom it serves: %s", resp.Status)
	}
	c := dial(t, url, "127.0.0.8")
	_, _ = io.WriteString(c, "GET /health HTTP/1.0\r\n\r\n")
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("a stranger got %d bytes", n)
	}
	if n := p.counters.turnedAway[refusedStranger].Load(); n != 1 {
		t.Errorf("%d refused", n)
	}
}

func TestDefaultLimits(t *testing.T) {
	for total, want := range map[int][2]int{0: {2048, 128}, 32: {32, 16}, 4096: {4096, 256}} {
		cfg := Config{Total: total}
		if err := cfg.fill(); err != nil || cfg.Total != want[0] || cfg.PerClient != want[1] || cfg.Patience != time.Minute {
			t.Errorf("%d: %d in all, %d for a client, %v", total, cfg.Total, cfg.PerClient, err)
		}
	}
}

// TestRate: all clients together get what the rate allows, and the right bytes.
func TestRate(t *testing.T) {
	const perSecond = 600_000
	_, url := start(t, Config{MaxRate: perSecond})
	begun := time.Now()
	got := make(chan []byte)
	for range 2 {
		go func() {
			resp, err := http.Get(url + "/stable/x86_64/initramfs")
			if err != nil {
				got <- nil
				return
			}
			defer resp.Body.Close()
			data, _ := io.ReadAll(resp.Body)
			got <- data
		}()
	}
	for range 2 {
		if data := <-got; !bytes.Equal(data, contents["initramfs"]) {
			t.Errorf("%d bytes", len(data))
		}
	}
	total := 2 * len(contents["initramfs"])
	least := time.Duration(total-rateStep) * time.Second / perSecond
	if took := time.Since(begun); took < least {
		t.Errorf("%d bytes in %v, want %v", total, took, least)
	}
}

// A connection that is not one of TCP has no file to be sent through.
func TestOnlyTCP(t *testing.T) {
	p, _ := start(t, Config{})
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if c, err := net.Dial("unix", l.Addr().String()); err == nil {
			c.Close()
		}
	}()
	if err := p.Serve(context.Background(), l); err == nil {
		t.Error("it was served")
	}
}

// The kernel sends the file itself from the first byte to the last.
func TestBlobArrivesWhole(t *testing.T) {
	p, url, path := startBig(t, Config{})
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // on one connection
		resp, data := get(t, url+"/blobs/"+blob.Of(whole).Hex()[:2]+"/"+blob.Of(whole).Hex()+".bin")
		if resp.StatusCode != 200 || !bytes.Equal(data, whole) {
			t.Errorf("%s, %d bytes", resp.Status, len(data))
		}
	}
	eventually(t, "its count", func() bool { return p.load().Sent == 3*bigSize })
}
