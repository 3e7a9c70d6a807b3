package fetch

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// dials notes what a client connects to.
type dials struct {
	mu    sync.Mutex
	addrs []string
}

func (d *dials) list() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.addrs)
}

// recorded is a client of NewLocalClient that notes each dial, also one that
// would begin with the look-up of a name.
func recorded(t *testing.T, proxy func(*http.Request) (*url.URL, error)) (*http.Client, *dials) {
	t.Helper()
	d := &dials{}
	c := NewLocalClient(nil, proxy)
	t.Cleanup(c.CloseIdleConnections)
	transport := c.Transport.(*http.Transport)
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		d.mu.Lock()
		d.addrs = append(d.addrs, addr)
		d.mu.Unlock()
		return dial(ctx, network, addr)
	}
	return c, d
}

var remoteURLs = []string{
	"http://93.184.216.34/x", "https://93.184.216.34/x", "http://[2606:2800:220:1::1]/x", "http://[::ffff:93.184.216.34]/x",
	"http://100.64.0.1/x", "http://[64:ff9b::a00:1]/x", "http://172.32.0.1/x",
	"http://example.org/x", "http://local/x", "http://notlocal/x", "http://local.example.org/x", "http://x.local.example/x",
	"http://2130706433/x",
}

func TestCheckLocal(t *testing.T) {
	for _, u := range append(remoteURLs, "http://0.0.0.0/x", "http://[::]/x", "http://224.0.0.1/") {
		if err := CheckLocal(u); !errors.Is(err, ErrNotLocal) {
			t.Errorf("%s: %v", u, err)
		}
	}
	for _, u := range []string{
		"http://127.0.0.1:8080/x", "http://10.0.2.2/x", "http://172.16.0.1/", "http://192.168.1.1/", "http://169.254.3.4/",
		"http://[::1]/x", "http://[fe80::1%25eth0]/x", "http://[fd00::1]/x", "http://[::ffff:10.0.0.1]/x",
		"https://nas.local:8443/x", "http://NAS.Local./x",
	} {
		if err := CheckLocal(u); err != nil {
			t.Errorf("%s: %v", u, err)
		}
	}
	for _, u := range []string{"", "ftp://10.0.0.1/", "http://", "http://u@10.0.0.1/", "10.0.0.1"} {
		if err := CheckLocal(u); !errors.Is(err, ErrURL) {
			t.Errorf("%q: %v", u, err)
		}
	}
}

// Neither the client alone nor the Fetcher alone dials for a remote URL, nor
// follows a redirect to one.
func TestLocalRefusesWithoutADial(t *testing.T) {
	for _, target := range remoteURLs {
		server := serve(t, redirect(target))
		for _, start := range []string{target, server} {
			client, dialled := recorded(t, nil)
			resp, err := client.Get(start)
			if err == nil {
				resp.Body.Close()
			}
			if !errors.Is(err, ErrNotLocal) {
				t.Errorf("client, %s from %s: %v", target, start, err)
			}
			checkDials(t, dialled, start, server)

			for _, only := range []bool{true, false} {
				client, dialled := recorded(t, nil)
				f := &Fetcher{Client: client, LocalOnly: only, Retries: 1}
				if _, err := f.Get(t.Context(), start, 100); !errors.Is(err, ErrNotLocal) {
					t.Errorf("Get with LocalOnly %t, %s from %s: %v", only, target, start, err)
				}
				_, err := f.file(t.Context(), jobFor(body, start))
				var e *Error
				if !errors.As(err, &e) || len(e.Attempts) != 1 || !errors.Is(e.Attempts[0].Err, ErrNotLocal) || e.Attempts[0].URL != start {
					t.Errorf("file with LocalOnly %t, %s from %s: %v%s", only, target, start, err, attempts(err))
				}
				checkDials(t, dialled, start, server)
			}
		}
	}
}

func checkDials(t *testing.T, d *dials, start, server string) {
	t.Helper()
	for _, addr := range d.list() {
		if start != server || "http://"+addr != server {
			t.Errorf("%s: dialled %s", start, addr)
		}
	}
}

func TestLocalOnlyHeadline(t *testing.T) {
	f := quick(t)
	f.LocalOnly = true
	_, err := f.file(t.Context(), jobFor(body, "https://example.org/kernel"))
	var e *Error
	if !errors.As(err, &e) || e.Code() != "FETCH-003" || !strings.Contains(e.Error(), "no source on the local network") || !strings.Contains(e.Hint(), "local network") {
		t.Errorf("%v", err)
	}
}

func TestLocalSourceBesideRemoteOnes(t *testing.T) {
	client, dialled := recorded(t, nil)
	server := serve(t, honest(body))
	f := &Fetcher{Client: client, LocalOnly: true, Retries: 1}
	mustFile(t, f, jobFor(body, "http://93.184.216.34/x", "http://example.org/x", server), body)
	mustFile(t, f, jobFor(body, serve(t, redirect(server))), body)
	for _, addr := range dialled.list() {
		if !strings.HasPrefix(addr, "127.0.0.1:") {
			t.Errorf("dialled %s", addr)
		}
	}
	mustFile(t, &Fetcher{LocalOnly: true}, jobFor(body, server), body)
}

// A .local name may stand for any address, and a proxy may be anywhere: the
// dialer has the last word.
func TestLocalDialer(t *testing.T) {
	d := localDialer()
	for _, addr := range []string{"93.184.216.34:80", "[2606:2800:220:1::1]:443"} {
		if conn, err := d.DialContext(t.Context(), "tcp", addr); !errors.Is(err, ErrNotLocal) {
			t.Errorf("%s: %v, %v", addr, conn, err)
		}
		if conn, err := d.Resolver.Dial(t.Context(), "udp", addr); !errors.Is(err, ErrNotLocal) {
			t.Errorf("name server %s: %v, %v", addr, conn, err)
		}
	}
	server := nameServer(t, netip.MustParseAddr("93.184.216.34"))
	d.Resolver.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", server)
	}
	if conn, err := d.DialContext(t.Context(), "tcp", "evil.local:80"); !errors.Is(err, ErrNotLocal) || !strings.Contains(err.Error(), "93.184.216.34") {
		t.Errorf("evil.local: %v, %v", conn, err)
	}
}

func TestLocalClientAndProxy(t *testing.T) {
	through := func(at string) func(*http.Request) (*url.URL, error) {
		return func(*http.Request) (*url.URL, error) { return url.Parse(at) }
	}
	client, _ := recorded(t, through("http://93.184.216.34:3128"))
	if resp, err := client.Get("http://10.0.0.1/x"); !errors.Is(err, ErrNotLocal) {
		t.Errorf("remote proxy: %v, %v", resp, err)
	}
	local, dialled := recorded(t, through(serve(t, honest(body))))
	if resp, err := local.Get("http://example.org/x"); !errors.Is(err, ErrNotLocal) || len(dialled.list()) > 0 {
		t.Errorf("remote URL through a local proxy: %v, %v, dialled %q", resp, err, dialled.list())
	}
	resp, err := local.Get("http://nas.local/x")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, body) {
		t.Errorf("local URL through a local proxy: %d bytes, %v", len(got), err)
	}
}

// nameServer answers every question for an IPv4 address with addr.
func nameServer(t *testing.T, addr netip.Addr) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	t.Cleanup(func() { conn.Close(); serving.Wait() })
	serving.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer := answerA(buf[:n], addr); answer != nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}
	})
	return conn.LocalAddr().String()
}

// answerA makes the answer to one question (RFC 1035, section 4): addr if it
// asks for A, nothing otherwise.
func answerA(q []byte, addr netip.Addr) []byte {
	if len(q) < 12 {
		return nil
	}
	end := 12 + bytes.IndexByte(q[12:], 0) + 5
	if end < 17 || end > len(q) {
		return nil
	}
	out := bytes.Clone(q[:end])
	out[2], out[3] = 0x81, 0x80
	clear(out[6:12])
	if binary.BigEndian.Uint16(out[end-4:]) == 1 {
		out[7] = 1
		out = append(out, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4)
		out = append(out, addr.AsSlice()...)
	}
	return out
}
