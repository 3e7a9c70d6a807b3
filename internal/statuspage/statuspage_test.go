package statuspage

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
)

const token = "0123456789abcdefABCDEF-_01234567"

func newPage(t *testing.T, change func(*Config)) *Page {
	t.Helper()
	cfg := Config{
		View:    func() View { return View{Key: "ed25519:secretless", MaxRunning: 4} },
		Receipt: func(blob.Digest) ([]byte, error) { return nil, job.ErrUnknown },
		Key:     func([]byte) (Claims, bool) { return nil, false },
		Every:   time.Millisecond,
	}
	if change != nil {
		change(&cfg)
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// get asks as a client on this machine does.
func get(p *Page, path string, change func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", "http://127.0.0.1:4003"+path, nil)
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w
}

func TestHosts(t *testing.T) {
	for _, c := range []struct {
		host  string
		anyIP bool
		want  bool
	}{
		{"localhost", false, true}, {"localhost:4003", false, true}, {"LOCALHOST:1", false, true},
		{"127.0.0.1:4003", false, true}, {"127.9.9.9", false, true}, {"[::1]:4003", false, true}, {"[::1]", false, true},
		{"[::ffff:127.0.0.1]:1", false, true},
		{"192.0.2.1:4003", false, false}, {"192.0.2.1:4003", true, true}, {"[2001:db8::1]:4003", true, true},
		{"node.example.org", false, true}, {"Node.Example.Org:80", true, true},
		{"evil.example", true, false}, {"localhost.evil.example", true, false}, {"127.0.0.1.evil.example", true, false},
		{"localhost.", false, false}, {"", true, false}, {"127.0.0.1@evil.example", true, false}, {"0x7f.1", true, false}, {"2130706433", true, false},
	} {
		p := newPage(t, func(cfg *Config) { cfg.AnyIP, cfg.Hosts = c.anyIP, []string{"node.example.org"} })
		w := get(p, "/", func(r *http.Request) { r.Host = c.host })
		if ok := w.Code == http.StatusOK; ok != c.want {
			t.Errorf("Host %q, any address %v: status %d", c.host, c.anyIP, w.Code)
		} else if !ok && (w.Code != http.StatusMisdirectedRequest || strings.Contains(w.Body.String(), "secretless")) {
			t.Errorf("Host %q: status %d, %s", c.host, w.Code, w.Body)
		}
	}
}

func TestSameOrigin(t *testing.T) {
	for _, c := range []struct {
		method, path string
		head         map[string]string
		want         int
	}{
		{"GET", "/", nil, 200},
		{"GET", "/", map[string]string{"Sec-Fetch-Site": "none"}, 200},
		{"GET", "/", map[string]string{"Sec-Fetch-Site": "same-origin"}, 200},
		{"GET", "/", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 200},
		{"GET", "/", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}, 403},
		{"GET", "/", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, 403},
		{"GET", "/events", map[string]string{"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}, 403},
		{"GET", "/", map[string]string{"Origin": "http://evil.example"}, 403},
		{"GET", "/", map[string]string{"Origin": "null"}, 403},
		{"GET", "/", map[string]string{"Origin": "http://127.0.0.1:4003"}, 200},
		{"POST", "/login", map[string]string{"Origin": "http://evil.example"}, 403},
		{"POST", "/login", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}, 403},
		{"POST", "/logout", map[string]string{"Sec-Fetch-Site": "same-site"}, 403},
		{"POST", "/", nil, 405}, {"DELETE", "/", nil, 405}, {"GET", "/nothing", nil, 404}, {"GET", "/assets.go", nil, 404},
	} {
		w := get(newPage(t, nil), c.path, func(r *http.Request) {
			r.Method = c.method
			for k, v := range c.head {
				r.Header.Set(k, v)
			}
		})
		if w.Code != c.want {
			t.Errorf("%s %s %v: status %d, want %d", c.method, c.path, c.head, w.Code, c.want)
		}
		for _, name := range []string{"Content-Security-Policy", "X-Content-Type-Options", "Referrer-Policy", "Cross-Origin-Resource-Policy"} {
			if w.Header().Get(name) == "" {
				t.Errorf("%s %s: no %s", c.method, c.path, name)
			}
		}
		if w.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s %s: others may read it", c.method, c.path)
		}
	}
}

// TestServes: who is not served learns nothing, with the token neither.
func TestServes(t *testing.T) {
	p := newPage(t, func(cfg *Config) { cfg.Serves, cfg.Token = netip.Addr.IsPrivate, token })
	for remote, want := range map[string]int{"10.0.0.7:1": 200, "[::ffff:10.0.0.7]:1": 200, "203.0.113.1:1": 403, "": 403} {
		w := get(p, "/", func(r *http.Request) {
			r.RemoteAddr = remote
			r.Header.Set("Authorization", "Bearer "+token)
		})
		if w.Code != want {
			t.Errorf("from %q: status %d", remote, w.Code)
		}
	}
}

// TestPolicyHasNoHoles: nothing is allowed that the page does not use.
func TestPolicyHasNoHoles(t *testing.T) {
	for _, hole := range []string{"unsafe-inline", "'unsafe-eval'", "*", "http:", "https:", "data:", "blob:"} {
		if strings.Contains(policy, hole) {
			t.Errorf("the policy allows %s", hole)
		}
	}
	entries, err := assets.ReadDir("assets")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".html") && !strings.HasSuffix(e.Name(), ".js") && !strings.HasSuffix(e.Name(), ".css") {
			continue
		}
		text, err := assets.ReadFile("assets/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range []string{"innerHTML", "insertAdjacent", "eval(", " style=", " onclick=", "//cdn", "https://", "http://", "<script>", "<style>"} {
			if bytes.Contains(text, []byte(bad)) {
				t.Errorf("%s contains %q", e.Name(), bad)
			}
		}
	}
}

func TestTokenIsNeeded(t *testing.T) {
	p := newPage(t, func(cfg *Config) { cfg.Token = token })
	for _, path := range []string{"/", "/events", "/verify.wasm", "/receipts/" + blob.Of(nil).Hex(), "/receipts/" + blob.Of(nil).Hex() + "/receipt.json", "/else"} {
		for name, change := range map[string]func(*http.Request){
			"nothing":      nil,
			"a part":       func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token[:31]) },
			"another":      func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+strings.ToUpper(token)) },
			"no token":     func(r *http.Request) { r.Header.Set("Authorization", "Bearer ") },
			"in the URL":   func(r *http.Request) { r.URL.RawQuery = "token=" + token },
			"as a cookie":  func(r *http.Request) { r.AddCookie(&http.Cookie{Name: cookieName, Value: token}) },
			"empty cookie": func(r *http.Request) { r.AddCookie(&http.Cookie{Name: cookieName}) },
		} {
			w := get(p, path, change)
			if w.Code != http.StatusUnauthorized && !(path == "/" && w.Code == http.StatusSeeOther) {
				t.Errorf("%s with %s: status %d", path, name, w.Code)
			}
			if strings.Contains(w.Body.String(), "secretless") {
				t.Errorf("%s with %s: the page is shown", path, name)
			}
		}
	}
	if w := get(p, "/", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }); w.Code != http.StatusOK {
		t.Errorf("with the token: status %d", w.Code)
	}
}

func post(p *Page, path, body string) *httptest.ResponseRecorder {
	return get(p, path, func(r *http.Request) {
		r.Method, r.Body = "POST", io.NopCloser(strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	})
}

func TestLogin(t *testing.T) {
	var logs bytes.Buffer
	p := newPage(t, func(cfg *Config) {
		cfg.Token, cfg.Log = token, slog.New(slog.NewTextHandler(&logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	if w := post(p, "/login", "token="+token[1:]); w.Code != http.StatusForbidden || w.Header().Get("Set-Cookie") != "" {
		t.Errorf("a wrong token: status %d, cookie %q", w.Code, w.Header().Get("Set-Cookie"))
	}
	if w := post(p, "/login", "token="+strings.Repeat("a", 2*maxForm)); w.Code != http.StatusBadRequest {
		t.Errorf("a long form: status %d", w.Code)
	}
	w := post(p, "/login", "token="+token)
	cookies := w.Result().Cookies()
	if w.Code != http.StatusSeeOther || len(cookies) != 1 {
		t.Fatalf("status %d, cookies %v", w.Code, cookies)
	}
	c := cookies[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.MaxAge != 0 || strings.Contains(c.Value, token) {
		t.Errorf("the cookie is %v", c)
	}
	if w := get(p, "/", func(r *http.Request) { r.AddCookie(c) }); w.Code != http.StatusOK {
		t.Errorf("with the cookie: status %d", w.Code)
	}
	other := newPage(t, func(cfg *Config) { cfg.Token = strings.Repeat("b", 32) })
	if w := get(other, "/", func(r *http.Request) { r.AddCookie(c) }); w.Code == http.StatusOK {
		t.Error("the cookie holds after the token was replaced")
	}
	if left := post(p, "/logout", "").Result().Cookies(); len(left) != 1 || left[0].MaxAge >= 0 {
		t.Errorf("on leaving: %v", left)
	}
	if strings.Contains(logs.String(), token) || strings.Contains(logs.String(), c.Value) {
		t.Errorf("the log shows the token or the cookie:\n%s", &logs)
	}
}

func TestLoadToken(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "page.token")
	made, err := LoadToken(path)
	if err != nil || len(made) != 64 {
		t.Fatalf("%d characters, %v", len(made), err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if again, err := LoadToken(path); err != nil || again != made {
		t.Errorf("read again: %q, %v", again, err)
	}
	for _, c := range []struct {
		name, text string
		mode       os.FileMode
		want       error
	}{
		{"good", token, 0o600, nil}, {"good, a line", token + "\n", 0o400, nil}, {"good, CRLF", token + "\r\n", 0o600, nil},
		{"readable by the group", token, 0o640, errMode}, {"by others", token, 0o604, errMode},
		{"short", token[1:], 0o600, errShort}, {"empty", "", 0o600, errShort},
		{"long", strings.Repeat("a", maxToken+1), 0o600, errChars}, {"two lines", token + "\n" + token, 0o600, errChars},
		{"blank", strings.Repeat(" ", 40), 0o600, errChars}, {"binary", strings.Repeat("\x00", 40), 0o600, errChars},
	} {
		file := filepath.Join(dir, "token")
		os.Remove(file)
		if err := os.WriteFile(file, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(file, c.mode); err != nil {
			t.Fatal(err)
		}
		got, err := LoadToken(file)
		if !errors.Is(err, c.want) || c.want == nil && got != token {
			t.Errorf("%s: %q, %v, want %v", c.name, got, err, c.want)
		}
		var refused *TokenError
		if c.want != nil && (!errors.As(err, &refused) || refused.Code() != "NODE-085" || len(c.text) > 8 && strings.Contains(err.Error(), c.text)) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if _, err := LoadToken(dir); !errors.Is(err, errFile) {
		t.Errorf("a folder: %v", err)
	}
	if _, err := New(Config{View: func() View { return View{} }, Receipt: func(blob.Digest) ([]byte, error) { return nil, nil },
		Key: func([]byte) (Claims, bool) { return nil, false }, Token: "short"}); !errors.Is(err, errShort) {
		t.Errorf("a page with a short token: %v", err)
	}
}

// serve gives a page a port.
func serve(t *testing.T, p *Page) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := p.Serve(ctx, l); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); serving.Wait() })
	return "http://" + l.Addr().String()
}

// TestViewersAreBounded: one viewer too many is told to come again, and finds room
// when another leaves.
func TestViewersAreBounded(t *testing.T) {
	p := newPage(t, nil)
	base := serve(t, p)
	var open []io.Closer
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	for range maxViewers {
		answer, err := http.Get(base + "/events")
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, answer.Body)
		line, err := bufio.NewReader(answer.Body).ReadString('\n')
		if err != nil || !strings.HasPrefix(line, `data: {"texts":{`) {
			t.Fatalf("%q, %v", line, err)
		}
	}
	refused, err := http.Get(base + "/events")
	if err != nil {
		t.Fatal(err)
	}
	refused.Body.Close()
	if refused.StatusCode != http.StatusServiceUnavailable || refused.Header.Get("Retry-After") == "" {
		t.Errorf("one too many: %s", refused.Status)
	}
	open[0].Close()
	open = open[1:]
	for end := time.Now().Add(time.Minute); ; {
		answer, err := http.Get(base + "/events")
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode == http.StatusOK {
			break
		}
		if time.Now().After(end) {
			t.Fatal("there is no room after a viewer left")
		}
	}
}

func TestBounds(t *testing.T) {
	p := newPage(t, func(cfg *Config) {
		cfg.View = func() View {
			var v View
			for i := range 1000 {
				v.Jobs = append(v.Jobs, Job{Status: job.Status{ID: blob.Of([]byte{byte(i), byte(i >> 8)}), Stage: job.Queued, Submitter: strings.Repeat("x", 1000)}})
				v.Peers = append(v.Peers, Peer{ID: "peer"})
			}
			return v
		}
	})
	text := get(p, "/", nil).Body.String()
	if n := strings.Count(text, "data-job="); n != maxJobs {
		t.Errorf("%d jobs are shown", n)
	}
	if !strings.Contains(text, "900 older ones are not shown") || strings.Contains(text, strings.Repeat("x", 100)) {
		t.Error("the page does not say what it left out, or leaves out nothing")
	}
}

func TestVerifierIsServed(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write([]byte("\x00asm"))
	z.Close()
	p := newPage(t, func(cfg *Config) { cfg.Verifier = packed.Bytes() })
	w := get(p, "/verify.wasm", func(r *http.Request) { r.Header.Set("Accept-Encoding", "gzip, br") })
	if w.Header().Get("Content-Encoding") != "gzip" || !bytes.Equal(w.Body.Bytes(), packed.Bytes()) || w.Header().Get("Content-Type") != "application/wasm" {
		t.Errorf("%v %q", w.Header(), w.Body)
	}
	tag := w.Header().Get("ETag")
	if w := get(p, "/verify.wasm", nil); w.Body.String() != "\x00asm" || w.Header().Get("Content-Encoding") != "" {
		t.Errorf("without gzip: %v %q", w.Header(), w.Body)
	}
	if w := get(p, "/verify.wasm", func(r *http.Request) { r.Header.Set("If-None-Match", tag) }); w.Code != http.StatusNotModified {
		t.Errorf("asked again: status %d", w.Code)
	}
	page := get(p, "/", nil).Body.String()
	if !strings.Contains(page, `id="verify"`) || !strings.Contains(page, blob.Of([]byte("\x00asm")).Hex()) {
		t.Error("the page offers no verifier, or does not say which")
	}
	without := newPage(t, nil)
	if w := get(without, "/verify.wasm", nil); w.Code != http.StatusNotFound {
		t.Errorf("without a verifier: status %d", w.Code)
	}
	if page := get(without, "/", nil).Body.String(); strings.Contains(page, `id="verify"`) || !strings.Contains(page, "phase job verify") {
		t.Error("without a verifier the page offers one, or does not say how to do without")
	}
	if _, err := New(Config{View: p.cfg.View, Receipt: p.cfg.Receipt, Key: p.cfg.Key, Verifier: []byte("none")}); err == nil {
		t.Error("a verifier that cannot be unpacked is taken")
	}
}
