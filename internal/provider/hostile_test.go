package provider

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/phasebased/phase/blob"
)

// TestHostileRequests sends what no client sends. Each gets an answer or its
// connection closed, nothing that is not published, and the next is served.
func TestHostileRequests(t *testing.T) {
	_, url := start(t, Config{})
	kernel := "/stable/x86_64/kernel"
	for name, c := range map[string]struct {
		raw  string
		want string // statuses, any of which will do
	}{
		"NUL":                       {"GET /stable/x86_64/\x00 HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
		"NUL, escaped":              {"GET /stable/x86_64/kernel%00.json HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
		"parents":                   {"GET /../../../secret HTTP/1.1\r\nHost: x\r\n\r\n", "307 404"},
		"parents, escaped":          {"GET /stable/x86_64/%2e%2e%2f%2e%2e%2fsecret HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
		"parents, escaped twice":    {"GET /stable/x86_64/%252e%252e%252fsecret HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
		"backslashes":               {`GET /stable/x86_64/..\..\secret HTTP/1.1` + "\r\nHost: x\r\n\r\n", "404"},
		"no absolute path":          {"GET secret HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
		"a proxy's request":         {"GET http://elsewhere/secret HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
		"a tunnel":                  {"CONNECT elsewhere:443 HTTP/1.1\r\nHost: x\r\n\r\n", "400 404 405"},
		"a file's name":             {"GET file:///secret HTTP/1.1\r\nHost: x\r\n\r\n", "400 404"},
		"overlong path":             {"GET /" + strings.Repeat("x", 12<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
		"endless path":              {"GET /" + strings.Repeat("x", 64<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n", "431"},
		"endless field":             {"GET / HTTP/1.1\r\nHost: x\r\nRange: bytes=" + strings.Repeat("0-0,", 16<<10) + "\r\n\r\n", "431"},
		"many fields":               {"GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("A: b\r\n", 10<<10) + "\r\n", "431"},
		"ranges without end":        {"GET " + kernel + " HTTP/1.1\r\nHost: x\r\nRange: bytes=" + strings.Repeat(",", 4<<10) + "\r\n\r\n", "416"},
		"several ranges fields":     {"GET " + kernel + " HTTP/1.1\r\nHost: x\r\nRange: bytes=0-0\r\nRange: bytes=1-1\r\n\r\n", "206"},
		"both lengths":              {"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "200 400"},
		"two lengths":               {"POST /receipts HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n{}", "400"},
		"negative length":           {"POST /receipts HTTP/1.1\r\nHost: x\r\nContent-Length: -4\r\n\r\n{}", "400"},
		"unknown coding":            {"GET /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "501"},
		"no host":                   {"GET /health HTTP/1.1\r\n\r\n", "400"},
		"a method of its own":       {"STEAL " + kernel + " HTTP/1.1\r\nHost: x\r\n\r\n", "405"},
		"a version of its own":      {"GET /health HTTP/9.9\r\nHost: x\r\n\r\n", "400 505"},
		"an old version":            {"GET /health HTTP/1.0\r\n\r\n", "200"},
		"HTTP/2 without being told": {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400 405 505"},
		"TLS":                       {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400"},
		"body that nobody wants":    {"GET " + kernel + " HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999\r\nRange: bytes=0-0\r\n\r\nx", "206"},
		"waits for no permission":   {"GET /health HTTP/1.1\r\nHost: x\r\nExpect: everything\r\n\r\n", "417"},
	} {
		t.Run(name, func(t *testing.T) {
			conn := dial(t, url, "127.0.0.1")
			go io.WriteString(conn, c.raw) // some is more than is read
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
			if !strings.Contains(c.want, fmt.Sprint(resp.StatusCode)) || bytes.Contains(body, []byte("classified")) || len(body) > 1000 {
				t.Errorf("%s, %d bytes; want %s", resp.Status, len(body), c.want)
			}
		})
	}
	if resp, _ := get(t, url+kernel); resp.StatusCode != 200 {
		t.Errorf("afterwards: %s", resp.Status)
	}
}

// while does something again and again until the test ends.
func while(t *testing.T, do func(i int)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; ctx.Err() == nil; i++ {
			do(i)
		}
	}()
	t.Cleanup(func() { cancel(); <-ended })
}

// TestSwappedLinks: a name that is now a file and now a way out of the folder is
// the file or nothing.
func TestSwappedLinks(t *testing.T) {
	base, outside := t.TempDir(), filepath.Join(t.TempDir(), "outside")
	publish(t, base, 7)
	write(t, "/", outside, []byte("classified"))
	spare, name := filepath.Join(base, "spare"), filepath.Join(base, "stable/x86_64/rootfs")
	dir, moved := filepath.Join(base, "testing"), filepath.Join(base, "moved")
	write(t, base, "testing/x86_64/kernel", []byte("open"))
	write(t, filepath.Dir(outside), "x86_64/kernel", []byte("classified"))
	p, url := start(t, Config{Base: base})
	while(t, func(i int) {
		switch i % 4 {
		case 0:
			_ = os.Symlink(outside, spare)
			_ = os.Rename(spare, name)
		case 1:
			_ = os.WriteFile(spare, []byte("open"), 0o644)
			_ = os.Rename(spare, name)
		case 2: // the folder above
			_ = os.Rename(dir, moved)
			_ = os.Symlink(filepath.Dir(outside), dir)
		case 3:
			_ = os.Remove(dir)
			_ = os.Rename(moved, dir)
		}
	})
	got := map[string]int{}
	for range 300 {
		for _, path := range []string{"/stable/x86_64/rootfs", "/testing/x86_64/kernel"} {
			resp, data := get(t, url+path)
			got[resp.Status+" "+string(data)]++
			if resp.StatusCode != 404 && string(data) != "open" {
				t.Fatalf("%s: %s %q", path, resp.Status, data)
			}
		}
		if _, err := p.OpenBlob(blob.Of([]byte("classified"))); err == nil {
			t.Fatal("the file outside is served by its digest")
		}
	}
	if err := p.Refresh(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Log(got)
}

// TestPipesAreNotServed: nobody waits for a writer that never comes, in whichever
// moment the pipe takes a file's place.
func TestPipesAreNotServed(t *testing.T) {
	base := t.TempDir()
	publish(t, base, 7)
	still := blobPath([]byte("pipe"))
	if err := os.MkdirAll(filepath.Dir(filepath.Join(base, still)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(filepath.Join(base, still), 0o644); err != nil {
		t.Fatal(err)
	}
	p, url := start(t, Config{Base: base})
	spare, name := filepath.Join(base, "spare"), filepath.Join(base, "stable/x86_64/rootfs")
	while(t, func(i int) {
		if i%2 == 0 {
			_ = unix.Mkfifo(spare, 0o644)
		} else {
			_ = os.WriteFile(spare, []byte("open"), 0o644)
		}
		_ = os.Rename(spare, name)
	})
	for range 300 {
		if resp, data := get(t, url+"/stable/x86_64/rootfs"); resp.StatusCode != 404 && string(data) != "open" {
			t.Fatalf("%s %q", resp.Status, data)
		}
	}
	if err := p.Refresh(context.Background()); err != nil {
		t.Fatal(err)
	}
	if resp, _ := get(t, url+"/"+still); resp.StatusCode != 404 {
		t.Errorf("a pipe as a blob: %s", resp.Status)
	}
}
