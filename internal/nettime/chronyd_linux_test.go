package nettime

import (
	"archive/tar"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/debpkg"
	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/internal/nettime/nettimetest"
)

// chronydProgram returns an NTP and NTS server written by others: chronyd. The
// package is unpacked and not installed, because it would take over the clock
// of the machine that tests run on.
var chronydProgram = sync.OnceValues(func() (string, error) {
	if path, err := exec.LookPath("chronyd"); err == nil {
		return path, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dir := filepath.Join("..", "..", "build", "test-packages")
	p, err := (&debpkg.Cache{Dir: dir}).Get(ctx, "chrony", runtime.GOARCH)
	if err != nil {
		return "", err
	}
	path, err := filepath.Abs(filepath.Join(dir, "chronyd_"+p.SHA256.Hex()))
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	err = p.Files(ctx, func(name string, _ *tar.Header, r io.Reader) error {
		if name != "usr/sbin/chronyd" {
			return nil
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
		return errors.Join(os.WriteFile(tmp, data, 0o755), os.Rename(tmp, path))
	})
	return path, err
})

// chronyd is a running one on the loopback.
type chronyd struct {
	*nettimetest.Chronyd
	t  *testing.T
	ca *authority
}

// startChronyd runs one with these further lines of configuration, or skips.
func startChronyd(t *testing.T, cert func(*authority) tls.Certificate, more ...string) *chronyd {
	t.Helper()
	program, err := chronydProgram()
	if err == nil {
		err = exec.Command(program, "--version").Run() // are its libraries there?
	}
	if err != nil {
		nettest.Lacking(t, "PHASE_REQUIRE_TOOLS", fmt.Sprintf("there is no chronyd: %v", err))
	}
	c := &chronyd{t: t, ca: newAuthority(t)}
	c.Chronyd, err = nettimetest.StartChronyd(nettimetest.ChronydConfig{Program: program, Dir: t.TempDir(), Cert: cert(c.ca), More: more})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func (c *chronyd) await(text string) {
	c.t.Helper()
	var seen []string
	deadline := time.After(30 * time.Second)
	for {
		select {
		case line, ok := <-c.Lines:
			if seen = append(seen, line); strings.Contains(line, text) {
				return
			}
			if !ok {
				c.t.Fatalf("chronyd ended:\n%s", strings.Join(seen, "\n"))
			}
		case <-deadline:
			c.t.Fatalf("chronyd never said %q:\n%s", text, strings.Join(seen, "\n"))
		}
	}
}

// address is that of the key exchange.
func (c *chronyd) address() string { return "127.0.0.1:" + c.NTSPort }

func (c *chronyd) query(now time.Time) Query {
	return Query{Servers: []Server{{Address: c.address(), NTS: true}}, Roots: c.ca.roots, Now: at(now)}
}

// around is a certificate that holds a month to both sides of t.
func around(t time.Time) func(*authority) tls.Certificate {
	return func(a *authority) tls.Certificate { return a.server(t.AddDate(0, -1, 0), t.AddDate(0, 1, 0)) }
}

// TestChronyd: a key exchange and an authenticated query with a server that
// others wrote, from a machine whose clock is three days behind.
func TestChronyd(t *testing.T) {
	c := startChronyd(t, around(time.Now().Add(-72*time.Hour)), "local stratum 2")
	// Not before chronyd runs: getting it may have taken a while.
	q := c.query(time.Now().Add(-72 * time.Hour))
	q.Servers = append(q.Servers, Server{Address: "127.0.0.1:" + c.Port})
	a, took, err := ask(t, q)
	if err != nil {
		t.Fatal(err)
	}
	wantOffset(t, a, 72*time.Hour)
	if !a.Authenticated || a.Servers[0].Stratum != 2 {
		t.Errorf("%+v", a)
	}
	t.Logf("MEASURED: %s for key exchange and query; %v", took, a.Servers[0])

	q.Servers = q.Servers[1:]
	a, _, err = ask(t, q)
	if err != nil || a.Authenticated || a.Servers[0].Authenticated() {
		t.Errorf("without NTS: %+v, %v", a, err)
	}
	wantOffset(t, a, 72*time.Hour)
}

// TestChronydMendsAnyClock: chronyd, whose time is that of this computer, proves
// it to machines whose clocks stand anywhere, and to nobody who knows better.
func TestChronydMendsAnyClock(t *testing.T) {
	real := time.Now()
	c := startChronyd(t, around(real), "local stratum 2")
	for _, now := range []time.Time{time.Unix(0, 0), real.AddDate(-1, 0, 0), real, time.Date(2040, 2, 29, 12, 0, 0, 0, time.UTC)} {
		q := c.query(now)
		q.Floor = real.AddDate(-1, 0, 0)
		a, _, err := ask(t, q)
		if err != nil || !a.Authenticated {
			t.Fatalf("%s: %+v, %v", now, a, err)
		}
		wantOffset(t, a, time.Since(now))
	}
	q := c.query(real)
	q.Floor = real.Add(time.Hour)
	_, _, err := ask(t, q)
	wantError(t, err, NoAnswer, "which has passed")
	q = c.query(time.Date(2040, 1, 1, 0, 0, 0, 0, time.UTC))
	q.Roots = x509.NewCertPool()
	_, _, err = ask(t, q)
	wantError(t, err, NoAnswer, "unknown authority")
}

// TestChronydExpired: a server that still shows an old certificate.
func TestChronydExpired(t *testing.T) {
	real := time.Now()
	from, until := real.AddDate(0, -2, 0), real.AddDate(0, -1, 0)
	c := startChronyd(t, func(a *authority) tls.Certificate { return a.server(from, until) }, "local stratum 2")
	for name, now := range map[string]time.Time{"1970": time.Unix(0, 0), "while it held": from.AddDate(0, 0, 10), "right": real} {
		a, _, err := ask(t, c.query(now))
		var invalid x509.CertificateInvalidError
		if !errors.Is(err, ErrDates) || !errors.As(err, &invalid) || invalid.Reason != x509.Expired || a.Authenticated {
			t.Errorf("%s: %+v, %v", name, a, err)
		}
	}
}

// TestChronydFollows: chronyd, which takes its time from a server that is a
// year ahead, hands that time on with its signature.
func TestChronydFollows(t *testing.T) {
	ahead := time.Now().AddDate(1, 0, 0)
	var known atomic.Bool
	source := serve(t, ahead, func(p []byte) [][]byte {
		if !known.Load() {
			return nil
		}
		return [][]byte{p}
	})
	_, port, err := net.SplitHostPort(source.Addr())
	if err != nil {
		t.Fatal(err)
	}
	c := startChronyd(t, func(a *authority) tls.Certificate {
		return a.server(time.Now().AddDate(0, -1, 0), ahead.AddDate(0, 1, 0))
	}, "server 127.0.0.1 port "+port+" iburst minpoll 0 maxpoll 0")
	_, _, err = ask(t, c.query(time.Now()))
	wantError(t, err, NoAnswer, "unusable answer") // before it knows the time, it says so
	known.Store(true)
	c.await("System clock wrong by")
	now := time.Now()
	a, _, err := ask(t, c.query(now))
	if err != nil || !a.Authenticated || a.Servers[0].Stratum != 3 {
		t.Fatalf("%+v, %v", a, err)
	}
	wantOffset(t, a, time.Until(source.Time()))
}

// onPath is somebody between us and chronyd: it listens on 127.0.0.2 and sends
// in place of each answer what change makes of it.
func (c *chronyd) onPath(change func(answer []byte) [][]byte) {
	c.t.Helper()
	in, err := net.ListenPacket("udp", "127.0.0.2:"+c.Port)
	if err != nil {
		c.t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := in.ReadFrom(buf)
			if err != nil {
				return
			}
			answer, err := c.relay(buf[:n])
			if err != nil {
				c.t.Errorf("no answer from chronyd: %v", err)
				continue
			}
			for _, p := range change(answer) {
				_, _ = in.WriteTo(p, from)
				time.Sleep(200 * time.Microsecond) // no more than a socket can hold
			}
		}
	})
	c.t.Cleanup(func() { in.Close(); wg.Wait() })
}

func (c *chronyd) relay(question []byte) ([]byte, error) {
	out, err := net.Dial("udp", "127.0.0.1:"+c.Port)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	_ = out.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := out.Write(question); err != nil {
		return nil, err
	}
	buf := make([]byte, 2048)
	n, err := out.Read(buf)
	return buf[:n], err
}

// flipped is the packet once for each of its bytes, with a bit of it flipped.
func flipped(p []byte) [][]byte {
	var all [][]byte
	for n := range p {
		bad := append([]byte(nil), p...)
		bad[n] ^= 1
		all = append(all, bad)
	}
	return all
}

// TestTamperedInFlight: of chronyd's answer, whatever byte is changed, none is
// taken, and neither is the answer without its authenticator; the untouched one
// still is.
func TestTamperedInFlight(t *testing.T) {
	now := time.Now()
	c := startChronyd(t, around(now), "local stratum 2", "ntsntpserver 127.0.0.2")
	var mu sync.Mutex
	var change func([]byte) [][]byte
	set := func(f func([]byte) [][]byte) { mu.Lock(); defer mu.Unlock(); change = f }
	c.onPath(func(p []byte) [][]byte { mu.Lock(); defer mu.Unlock(); return change(p) })

	size := 0
	set(func(p []byte) [][]byte { size = len(p); return append(flipped(p), p[:48], p[:84]) })
	q := c.query(now)
	q.Timeout = 3 * time.Second
	a, _, err := ask(t, q)
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, ErrNotAuthentic) || a.Authenticated {
		t.Errorf("only tampered answers: %+v, %v", a, err)
	}
	mu.Lock()
	t.Logf("an answer of %d bytes: %v", size, err)
	mu.Unlock()

	set(func(p []byte) [][]byte { return append(flipped(p), p) })
	a, _, err = ask(t, c.query(time.Now()))
	if err != nil || !a.Authenticated {
		t.Errorf("with the genuine answer behind: %+v, %v", a, err)
	}
	wantOffset(t, a, 0)

	// The same man in the middle, and plain NTP: his word is taken, and not
	// called authenticated.
	set(func(p []byte) [][]byte {
		put(p[16:], now.AddDate(1, 0, 0).Add(-time.Second))
		put(p[32:], now.AddDate(1, 0, 0))
		put(p[40:], now.AddDate(1, 0, 0))
		return [][]byte{p}
	})
	a, _, err = ask(t, Query{Servers: []Server{{Address: "127.0.0.2:" + c.Port}}, Now: at(now)})
	if err != nil || a.Authenticated || a.Offset < 300*24*time.Hour {
		t.Errorf("plain: %+v, %v", a, err)
	}
}
