package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/node"
	"github.com/phasebased/phase/internal/wasm"
)

// keysOf are a configuration's keys, those of objects with a dot.
func keysOf(t reflect.Type, prefix string) (keys []string) {
	for i := range t.NumField() {
		f := t.Field(i)
		name := prefix + strings.Split(f.Tag.Get("json"), ",")[0]
		if f.Type.Kind() == reflect.Struct {
			keys = append(keys, keysOf(f.Type, name+".")...)
			continue
		}
		keys = append(keys, name)
	}
	return keys
}

// TestEveryKeyIsDocumented: docs/node.md has a row for each key, and none that there
// is not.
func TestEveryKeyIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/node.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "| key | default | what |\n|---|---|---|\n")
	table, _, _ = strings.Cut(table, "\n\n")
	rows := map[string]bool{}
	for line := range strings.Lines(table) {
		rows[strings.Split(line, "`")[1]] = true
	}
	for _, key := range keysOf(reflect.TypeFor[config](), "") {
		if !rows[key] {
			t.Errorf("docs/node.md has no row for the key %s", key)
		}
		delete(rows, key)
	}
	for key := range rows {
		t.Errorf("docs/node.md has a row for %s, which is no key", key)
	}
}

// TestEveryFigureIsDocumented: docs/node.md names each family that a node counts.
func TestEveryFigureIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/node.md")
	if err != nil {
		t.Fatal(err)
	}
	key, err := node.EphemeralKey()
	if err != nil {
		t.Fatal(err)
	}
	n, err := node.New(node.Config{
		Key: key, Runner: &wasm.Sandbox{}, MaxConcurrent: 1,
		Module: func(context.Context, blob.Digest) ([]byte, error) { return nil, errors.New("none") },
	})
	if err != nil {
		t.Fatal(err)
	}
	var figures strings.Builder
	n.WriteMetrics(&figures)
	families := 0
	for line := range strings.Lines(figures.String()) {
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok {
			families++
			if name, _, _ := strings.Cut(rest, " "); !regexp.MustCompile("`" + name + "[`{]").Match(page) {
				t.Errorf("docs/node.md does not name %s", name)
			}
		}
	}
	if families < 8 {
		t.Errorf("only %d families:\n%s", families, &figures)
	}
}

// TestInitWritesAll: what plasmd init writes has every key, and is the default.
func TestInitWritesAll(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	if err := writeDefault(path); err != nil {
		t.Fatal(err)
	}
	cfg, _, err := loadConfig(path)
	if err != nil || !reflect.DeepEqual(cfg, defaultConfig()) {
		t.Errorf("%+v, %v", cfg, err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var written map[string]any
	if err := json.Unmarshal(raw, &written); err != nil {
		t.Fatal(err)
	}
	for _, key := range keysOf(reflect.TypeFor[config](), "") {
		outer, inner, nested := strings.Cut(key, ".")
		value, there := written[outer]
		if object, ok := value.(map[string]any); nested && ok {
			value, there = object[inner]
		}
		if !there || value == nil {
			t.Errorf("plasmd init does not write %s: %s", key, raw)
		}
	}
}

func TestConfigRefusals(t *testing.T) {
	for text, says := range map[string]string{
		`{"listen_addr":[]}`:                          "listen_addr",
		`{"Listen_addrs":[]}`:                         "Listen_addrs",
		`{"limits":{"max_memory":1}}`:                 "max_memory",
		`{"limits":null}`:                             "null",
		`{"serve_port":1,"serve_port":2}`:             "serve_port",
		`{"serve_port":1}{}`:                          "bytes after the document",
		`{"serve_port":65536}`:                        "want 0 to 65535",
		`{"max_concurrent_jobs":0}`:                   "want 1 to 1024",
		`{"limits":{"max_memory_bytes":1}}`:           "limits.max_memory_bytes is 1",
		`{"limits":{"max_cpu_cores":2}}`:              "want 1 to 1",
		`{"limits":{"max_timeout_seconds":0}}`:        "want 1 to 3600",
		`{"limits":{"max_fuel":0}}`:                   "limits.max_fuel is 0",
		`{"limits":{"max_fuel":1e3}}`:                 "max_fuel",
		`{"jobs_per_jail":0}`:                         "jobs_per_jail is 0",
		`{"max_per_submitter":-1}`:                    "max_per_submitter",
		`{"submitters":["ed25519:00"]}`:               "submitters",
		`{"bootstrap_peers":["/ip4/10.0.0.1/tcp/1"]}`: "10.0.0.1",
		`{"providers":["ftp://a"]}`:                   "providers",
		`{"metrics_addr":"localhost:4002"}`:           "metrics_addr",
		`{"metrics_addr":"127.0.0.1"}`:                "metrics_addr",
		`{"metrics_addr":":4002"}`:                    "metrics_addr",
		`{"metrics_addr":"127.0.0.1:65536"}`:          "metrics_addr",
	} {
		if _, err := parseConfig([]byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, text := range []string{`{}`, `{"metrics_addr":""}`, `{"metrics_addr":"[::1]:0"}`, `{"limits":{"max_fuel":9007199254740991}}`} {
		if _, err := parseConfig([]byte(text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	cfg, err := parseConfig([]byte(`{"limits":{"max_fuel":7,"max_timeout_seconds":2}}`))
	if limits := cfg.nodeLimits(); err != nil || limits.Fuel != 7 || limits.DeadlineMS != 2000 {
		t.Errorf("%+v, %v", limits, err)
	}
}

// TestFiguresHosts: no page of a stranger reads the figures by a name that leads here.
func TestFiguresHosts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := newFigures(l, []string{"node.example"}, func(w io.Writer) { io.WriteString(w, "phase_node_asked 1\n") })
	defer l.Close()
	for host, want := range map[string]int{
		"localhost:4002": 200, "LOCALHOST": 200, "127.0.0.1:4002": 200, "192.0.2.7:4002": 200, "[::1]:4002": 200, "[2001:db8::1]": 200,
		"node.example:4002": 200, "": 200, "evil.example:4002": 421, "evil.example": 421, "localhost.evil.example": 421, "127.0.0.1.evil.example": 421,
	} {
		r := httptest.NewRequest("GET", "/metrics", nil)
		r.Host = host
		w := httptest.NewRecorder()
		f.server.Handler.ServeHTTP(w, r)
		if w.Code != want || strings.Contains(w.Body.String(), "phase_node") != (want == 200) {
			t.Errorf("%q: %d", host, w.Code)
		}
	}
}

// TestFigures: more clients than there is room for wait for one another, and the
// server ends with those who only connect.
func TestFigures(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	f := newFigures(l, []string{"node.example"}, func(w io.Writer) { asked++; fmt.Fprintf(w, "phase_node_asked %d\n", asked) })
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.run(ctx) }()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func(method, path string) (int, string) {
		req, _ := http.NewRequestWithContext(t.Context(), method, "http://"+l.Addr().String()+path, nil)
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(body)
	}
	for i := range 2 * figuresClients {
		if code, body := ask("GET", "/metrics"); code != 200 || body != fmt.Sprintf("phase_node_asked %d\n", i+1) {
			t.Fatalf("%d: %d %q", i, code, body)
		}
	}
	if code, _ := ask("POST", "/metrics"); code != http.StatusMethodNotAllowed {
		t.Error(code)
	}
	if code, _ := ask("GET", "/"); code != http.StatusNotFound {
		t.Error(code)
	}
	for range 2 * figuresClients { // they say nothing
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
