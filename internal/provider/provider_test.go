package provider

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/manifest"
	"github.com/phasebased/phase/receipt"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func testKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("provider test key " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// contents are the published artifacts.
var contents = map[string][]byte{
	"kernel":    bytes.Repeat([]byte("kernel "), 500_000),
	"initramfs": bytes.Repeat([]byte("initramfs "), 30_000),
}

// publish fills base with a release of stable/x86_64, a blob beside it that
// is no artifact, and things that must never be served.
func publish(t testing.TB, base string, version int64) {
	t.Helper()
	root := testRoot(t, 1, "root")
	artifact := func(name string) manifest.Artifact {
		return manifest.Artifact{Hash: blob.Of(contents[name]), Size: int64(len(contents[name]))}
	}
	raw, err := manifest.SignManifest(manifest.Manifest{
		ManifestVersion: version, Channel: manifest.ChannelStable, Arch: manifest.ArchX8664,
		CreatedAt: now.AddDate(0, 0, -1), ExpiresAt: now.AddDate(0, 3, 0),
		Kernel: artifact("kernel"), Initramfs: artifact("initramfs"),
	}, testKey("targets"))
	if err != nil {
		t.Fatal(err)
	}
	dir := "stable/x86_64/"
	for name, data := range map[string][]byte{
		dir + "root.json": root, dir + "1.root.json": root, dir + "manifest.json": raw, dir + "pointer.json": []byte("{}"),
		dir + "manifest.tlog-proof": []byte("c2sp.org/tlog-proof@v1\n"), dir + "manifest.tlog-proof.old": []byte("classified"),
		dir + "kernel": contents["kernel"], dir + "initramfs": contents["initramfs"],
		dir + "private.key": []byte("classified"), "stable/notes": []byte("classified"), "secret": []byte("classified"),
		blobPath([]byte("job")): []byte("job"), "blobs/aa/secret": []byte("classified"),
	} {
		write(t, base, name, data)
	}
}

// testRoot is a root of this version, signed by the named keys, the first of
// which is its own root key.
func testRoot(t testing.TB, version int64, keys ...string) []byte {
	t.Helper()
	role := func(name string) manifest.RoleKeys {
		return manifest.RoleKeys{Keys: []ed25519.PublicKey{testKey(name).Public().(ed25519.PublicKey)}, Threshold: 1}
	}
	var private []ed25519.PrivateKey
	for _, name := range keys {
		private = append(private, testKey(name))
	}
	root, err := manifest.NewRoot(manifest.RootSpec{Version: version, Expires: now.AddDate(2, 0, 0), Roles: map[manifest.Role]manifest.RoleKeys{
		manifest.RoleRoot: role(keys[0]), manifest.RoleTargets: role("targets"), manifest.RoleTimestamp: role("timestamp"),
	}}, private...)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func blobPath(data []byte) string {
	hex := blob.Of(data).Hex()
	return "blobs/" + hex[:2] + "/" + hex + ".bin"
}

func write(t testing.TB, base, name string, data []byte) {
	t.Helper()
	path := filepath.Join(base, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// start publishes and serves; the first scan is done.
func start(t testing.TB, cfg Config) (p *Provider, url string) {
	t.Helper()
	if cfg.Base == "" {
		cfg.Base = t.TempDir()
		publish(t, cfg.Base, 7)
	}
	cfg.Arch, cfg.Version = manifest.ArchX8664, "test"
	if cfg.Now == nil {
		cfg.Now = func() time.Time { return now }
	}
	p, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	if err := p.Refresh(context.Background()); err != nil {
		t.Fatal(err)
	}
	return p, listen(t, p)
}

// listen serves as the program does.
func listen(t testing.TB, p *Provider) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("server: %v", err)
		}
	})
	return "http://" + l.Addr().String()
}

func do(t testing.TB, method, url string, head http.Header, body io.Reader) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	if head != nil {
		req.Header = head
	}
	resp, err := http.DefaultTransport.RoundTrip(req) // no redirects
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, data
}

func get(t testing.TB, url string) (*http.Response, []byte) {
	t.Helper()
	return do(t, "GET", url, nil, nil)
}

func TestRoutes(t *testing.T) {
	_, url := start(t, Config{})
	kernel, job := contents["kernel"], []byte("job")
	for _, c := range []struct {
		path string
		want []byte // nil: only that it answers
		hash bool
		kind string
	}{
		{"/", nil, false, "text/html; charset=utf-8"},
		{"/health", []byte("ok\n"), false, "text/plain; charset=utf-8"},
		{"/status", nil, false, "application/json"},
		{"/metrics", nil, false, "text/plain; version=0.0.4; charset=utf-8"},
		{"/manifest.json", nil, true, "application/json"},
		{"/stable/x86_64/manifest.json", nil, true, "application/json"},
		{"/stable/x86_64/pointer.json", []byte("{}"), true, "application/json"},
		{"/stable/x86_64/root.json", nil, true, "application/json"},
		{"/stable/x86_64/1.root.json", nil, true, "application/json"},
		{"/stable/x86_64/manifest.tlog-proof", []byte("c2sp.org/tlog-proof@v1\n"), true, "text/plain; charset=utf-8"},
		{"/stable/x86_64/kernel", kernel, true, "application/octet-stream"},
		{"/stable/x86_64/initramfs", contents["initramfs"], true, "application/octet-stream"},
		{"/" + blobPath(job), job, true, "application/octet-stream"},
		{"/" + blobPath(kernel), kernel, true, "application/octet-stream"}, // by digest, without a blob file
	} {
		resp, data := get(t, url+c.path)
		if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != c.kind {
			t.Errorf("%s: %s, %s", c.path, resp.Status, resp.Header.Get("Content-Type"))
		}
		if c.want != nil && !bytes.Equal(data, c.want) {
			t.Errorf("%s: %d bytes, want %d", c.path, len(data), len(c.want))
		}
		digest := blob.Of(data).String()
		if c.hash && (resp.Header.Get("X-Artifact-Hash") != digest || resp.Header.Get("ETag") != `"`+digest+`"`) {
			t.Errorf("%s: hash %q, tag %q", c.path, resp.Header.Get("X-Artifact-Hash"), resp.Header.Get("ETag"))
		}
		head, body := do(t, "HEAD", url+c.path, nil, nil)
		if head.StatusCode != 200 || len(body) != 0 {
			t.Errorf("HEAD %s: %s", c.path, head.Status)
		}
	}
}

func TestNothingElseIsServed(t *testing.T) {
	base := t.TempDir()
	publish(t, base, 7)
	outside := filepath.Join(t.TempDir(), "outside")
	if err := os.WriteFile(outside, []byte("classified"), 0o644); err != nil {
		t.Fatal(err)
	}
	link := blob.Of([]byte("link")).Hex()
	os.MkdirAll(filepath.Join(base, "blobs", link[:2]), 0o755)
	os.Symlink(outside, filepath.Join(base, "blobs", link[:2], link+".bin"))
	os.Symlink(outside, filepath.Join(base, "stable/x86_64/rootfs"))
	os.MkdirAll(filepath.Join(base, "testing/x86_64/kernel"), 0o755)
	_, url := start(t, Config{Base: base})
	for _, path := range []string{
		"/secret", "/stable", "/stable/", "/stable/notes", "/stable/x86_64", "/stable/x86_64/", "/stable/x86_64/private.key",
		"/stable/x86_64/..", "/stable/x86_64/../../secret", "/stable/x86_64/%2e%2e%2f%2e%2e%2fsecret", "/stable/x86_64/..%2f..%2fsecret",
		"/stable/..%2fstable/x86_64/kernel", "/stable/x86_64%2fkernel", "/stable/x86_64/kernel/", "/stable/x86_64/kernel%00",
		"//stable/x86_64/secret", "/stable/x86_64/0.root.json", "/stable/x86_64/x1.root.json", "/stable/x86_64/01.root.json",
		"/stable/x86_64/2.root.json", "/stable/x86_64/-1.root.json", "/stable/x86_64/1234567890.root.json", "/stable/x86_64/1.root.json.old",
		"/stable/x86_64/..1.root.json", "/stable/x86_64/+1.root.json", "/stable/x86_64/1.ROOT.json", "/stable/x86_64/.root.json",
		"/stable/x86_64/manifest.tlog-proof.old", "/stable/x86_64/manifest.tlog-proof/", "/manifest.tlog-proof", "/stable/x86_64/KERNEL",
		"/stable/x86_64/rootfs", "/" + "blobs/" + link[:2] + "/" + link + ".bin", "/testing/x86_64/kernel",
		"/edge/x86_64/kernel", "/stable/riscv/kernel", "/stable/amd64/kernel", "/stable/arm64/kernel",
		"/blobs", "/blobs/", "/blobs/aa/secret", "/blobs/aa/" + strings.Repeat("b", 64) + ".bin", "/blobs/aa/" + strings.Repeat("a", 64) + ".bin",
		"/blobs/..%2f/secret",
		"/blobs/zz/" + blob.Of(contents["kernel"]).Hex() + ".bin", "/receipts", "/receipts/1.json", "/status/x", "/favicon.ico",
	} {
		resp, data := get(t, url+path)
		redirect := resp.StatusCode/100 == 3 // ServeMux cleans paths; where it leads is tested too
		if resp.StatusCode != 404 && resp.StatusCode != 400 && !redirect || bytes.Contains(data, []byte("classified")) {
			t.Errorf("%s: %s %.40q", path, resp.Status, data)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "PATCH"} {
		if resp, _ := do(t, method, url+"/stable/x86_64/kernel", nil, nil); resp.StatusCode != 405 {
			t.Errorf("%s: %s", method, resp.Status)
		}
	}
	if resp, _ := do(t, "POST", url+"/receipts", nil, strings.NewReader("{}")); resp.StatusCode != 404 {
		t.Errorf("receipts are off: %s", resp.Status)
	}
}

// TestBlobsFromElsewhere: the folder comes first, and what is handed in must be a
// file.
func TestBlobsFromElsewhere(t *testing.T) {
	other := filepath.Join(t.TempDir(), "other")
	write(t, "/", other, []byte("other"))
	_, url := start(t, Config{
		Blob: func(d blob.Digest) (*os.File, error) {
			switch d {
			case blob.Of([]byte("other")):
				return os.Open(other)
			case blob.Of([]byte("liar")):
				return os.Open(other)
			case blob.Of([]byte("folder")):
				return os.Open(filepath.Dir(other))
			}
			return nil, os.ErrNotExist
		},
		Network: func() any { return map[string]string{"told": "nobody"} },
	})
	for content, status := range map[string]int{"other": 200, "job": 200, "folder": 404, "liar": 404, "nothing": 404} {
		resp, body := get(t, url+"/"+blobPath([]byte(content)))
		if resp.StatusCode != status || status == 200 && string(body) != content {
			t.Errorf("%s: %s %q", content, resp.Status, body)
		}
	}
	if _, body := get(t, url+"/status"); !bytes.Contains(body, []byte(`"told": "nobody"`)) {
		t.Errorf("status: %s", body)
	}
}

func health(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, data := get(t, url+"/health")
	return resp.StatusCode, string(data)
}

func TestHealthSaysWhatIsWrongButServes(t *testing.T) {
	tampered := bytes.Clone(contents["kernel"])
	tampered[0] ^= 1
	dir := "stable/x86_64/"
	for _, c := range []struct {
		name, want string
		spoil      func(base string)
		now        time.Time
	}{
		{"tampered kernel", "stable/x86_64: kernel does not match the manifest\n",
			func(base string) { write(t, base, dir+"kernel", tampered) }, now},
		{"missing initramfs", "initramfs is missing", func(base string) { os.Remove(filepath.Join(base, dir+"initramfs")) }, now},
		{"no manifest", "no manifest is published for stable/x86_64", func(base string) { os.Remove(filepath.Join(base, dir+"manifest.json")) }, now},
		{"broken manifest", "manifest: ", func(base string) { write(t, base, dir+"manifest.json", []byte("{}")) }, now},
		{"huge manifest", "manifest: ", func(base string) { write(t, base, dir+"manifest.json", make([]byte, 1<<20)) }, now},
		{"no root", "without root.json", func(base string) { os.Remove(filepath.Join(base, dir+"root.json")) }, now},
		{"expired", "expired", func(string) {}, now.AddDate(1, 0, 0)},
		{"manifest of another arch", "arm64: manifest: ", func(base string) {
			os.Rename(filepath.Join(base, "stable/x86_64"), filepath.Join(base, "stable/arm64"))
		}, now},
	} {
		t.Run(c.name, func(t *testing.T) {
			base := t.TempDir()
			publish(t, base, 7)
			c.spoil(base)
			_, url := start(t, Config{Base: base, Now: func() time.Time { return c.now }})
			if code, text := health(t, url); code != 503 || !strings.Contains(text, c.want) {
				t.Errorf("health %d %q, want %q", code, text, c.want)
			}
			if resp, _ := get(t, url+"/"+blobPath([]byte("job"))); resp.StatusCode != 200 {
				t.Errorf("serving stopped: %s", resp.Status)
			}
			if c.name == "tampered kernel" {
				resp, data := get(t, url+"/stable/x86_64/kernel")
				if !bytes.Equal(data, tampered) || resp.Header.Get("X-Artifact-Hash") != blob.Of(tampered).String() {
					t.Error("the tampered kernel is not served as what it is")
				}
			}
		})
	}
}

func TestHealthBeforeTheFirstScan(t *testing.T) {
	base := t.TempDir()
	publish(t, base, 7)
	p, err := New(Config{Base: base, Arch: manifest.ArchX8664})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	url := listen(t, p)
	if code, text := health(t, url); code != 503 || !strings.Contains(text, "being checked") {
		t.Errorf("health %d %q", code, text)
	}
	resp, data := get(t, url+"/stable/x86_64/kernel")
	if !bytes.Equal(data, contents["kernel"]) || resp.Header.Get("ETag") != "" {
		t.Errorf("%d bytes, tag %q", len(data), resp.Header.Get("ETag"))
	}
}

func TestRunNoticesChanges(t *testing.T) {
	base := t.TempDir()
	publish(t, base, 7)
	p, err := New(Config{Base: base, Arch: manifest.ArchX8664, Rescan: 5 * time.Millisecond, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- p.Run(ctx) }()
	wait := func(what string, ok func(Status) bool) {
		t.Helper()
		eventually(t, what, func() bool { return ok(p.Status()) })
	}
	wait("healthy", func(s Status) bool { return s.Healthy })
	write(t, base, "stable/x86_64/kernel", []byte("other"))
	wait("tampered", func(s Status) bool { return !s.Healthy })
	write(t, base, "stable/x86_64/kernel", contents["kernel"])
	publish(t, base, 8)
	wait("version 8", func(s Status) bool { return s.Healthy && s.Releases[0].Version == 8 })
	cancel()
	if err := <-ended; err != context.Canceled {
		t.Errorf("Run ended with %v", err)
	}
}

// A changed file never goes out under the old tag, even before the next scan.
func TestChangedFileHasNoStaleTag(t *testing.T) {
	base := t.TempDir()
	publish(t, base, 7)
	p, url := start(t, Config{Base: base})
	write(t, base, "stable/x86_64/kernel", []byte("other"))
	resp, data := get(t, url+"/stable/x86_64/kernel")
	if string(data) != "other" || resp.Header.Get("ETag") != "" || resp.Header.Get("X-Artifact-Hash") != "" {
		t.Errorf("%q with tag %q", data, resp.Header.Get("ETag"))
	}
	if err := p.Refresh(context.Background()); err != nil {
		t.Fatal(err)
	}
	if resp, _ := get(t, url+"/stable/x86_64/kernel"); resp.Header.Get("X-Artifact-Hash") != blob.Of([]byte("other")).String() {
		t.Error("not measured again")
	}
}

func TestScanHashesEachFileOnce(t *testing.T) {
	base := t.TempDir()
	publish(t, base, 7)
	kernel := filepath.Join(base, "stable/x86_64/kernel")
	linked := filepath.Join(base, blobPath(contents["kernel"]))
	os.MkdirAll(filepath.Dir(linked), 0o755)
	if err := os.Link(kernel, linked); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	p, _ := start(t, Config{Base: base, Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if n := strings.Count(log.String(), blob.Of(contents["kernel"]).String()); n != 1 {
		t.Errorf("kernel hashed %d times", n)
	}
	log.Reset()
	if err := p.Refresh(context.Background()); err != nil || strings.Contains(log.String(), "hashed") {
		t.Errorf("second scan: %v %s", err, &log)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := p.Refresh(ctx); err != context.Canceled {
		t.Errorf("cancelled scan: %v", err)
	}
}

func TestStatusAndMetrics(t *testing.T) {
	_, url := start(t, Config{Receipts: t.TempDir()})
	get(t, url+"/missing/file")
	_, data := get(t, url+"/status")
	var st struct {
		Healthy   bool
		Version   string
		StartedAt time.Time `json:"started_at"`
		Blobs     int
		Receipts  int
		Releases  []struct {
			Channel, Arch string
			Since         time.Time
			Version       int64 `json:"manifest_version"`
			Artifacts     []struct {
				Name, Hash string
				Size       int64
				Matches    bool
			}
			Problems []string
		}
	}
	if err := json.Unmarshal(data, &st); err != nil {
		t.Fatal(err)
	}
	if !st.Healthy || st.Version != "test" || !st.StartedAt.Equal(now) || st.Blobs != 1 || len(st.Releases) != 1 {
		t.Fatalf("status %s", data)
	}
	r := st.Releases[0]
	if r.Channel != "stable" || r.Arch != "x86_64" || r.Version != 7 || !r.Since.Equal(now) || len(r.Artifacts) != 2 ||
		r.Artifacts[0].Hash != blob.Of(contents["kernel"]).String() || r.Artifacts[0].Size != 3_500_000 || !r.Artifacts[0].Matches {
		t.Errorf("status %s", data)
	}
	_, data = get(t, url+"/metrics")
	for _, line := range []string{
		`phase_provider_requests_total{route="other",code="404"} 1`, `phase_provider_requests_total{route="/status",code="200"} 1`,
		"phase_provider_healthy 1", `phase_provider_build_info{version="test",go="` + runtime.Version() + `"} 1`,
		`phase_provider_artifact_matches{channel="stable",arch="x86_64",name="kernel"} 1`, "phase_provider_requests_in_flight 1",
		`phase_provider_manifest_version{channel="stable",arch="x86_64"} 7`, "phase_provider_receipts 0", "# TYPE phase_provider_refused_total counter",
	} {
		if !slices.Contains(strings.Split(string(data), "\n"), line) {
			t.Errorf("metrics lack %q:\n%s", line, data)
		}
	}
	_, page := get(t, url+"/")
	if !bytes.Contains(page, []byte("stable x86_64, version 7")) {
		t.Errorf("index: %s", page)
	}
}

func TestBadConfig(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	os.WriteFile(file, nil, 0o644)
	for name, cfg := range map[string]Config{
		"no folder":    {Base: filepath.Join(t.TempDir(), "none")},
		"a file":       {Base: file},
		"channel":      {Base: t.TempDir(), Channel: "edge"},
		"arch":         {Base: t.TempDir(), Arch: "riscv64"},
		"negative":     {Base: t.TempDir(), PerClient: -1},
		"receipt file": {Base: t.TempDir(), Receipts: file},
	} {
		if p, err := New(cfg); err == nil {
			p.Close()
			t.Errorf("%s was accepted", name)
		}
	}
}

func TestReceipts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "receipts")
	_, url := start(t, Config{Receipts: dir})
	post := func(body string) *http.Response {
		t.Helper()
		resp, _ := do(t, "POST", url+"/receipts", nil, strings.NewReader(body))
		return resp
	}
	for i := 1; i <= 2; i++ {
		body := string(signedReceipt(t, byte(i), 0))
		resp := post(body)
		if resp.StatusCode != 201 || resp.Header.Get("Location") != fmt.Sprintf("/receipts/%d.json", i) {
			t.Errorf("%s, Location %q", resp.Status, resp.Header.Get("Location"))
		}
		if got, _ := os.ReadFile(filepath.Join(dir, fmt.Sprintf("%d.json", i))); string(got) != body {
			t.Errorf("stored %q", got)
		}
	}
	good := string(signedReceipt(t, 1, 0))
	var sent struct{ Payload []byte }
	if err := json.Unmarshal([]byte(good), &sent); err != nil {
		t.Fatal(err)
	}
	sign := func(payload []byte, key byte) []dsse.Signature {
		return []dsse.Signature{dsse.Sign(receipt.PayloadType, payload, keyOf(key))}
	}
	e := dsse.Envelope{PayloadType: receipt.PayloadType, Payload: sent.Payload, Signatures: sign(sent.Payload, 1)}
	other := e
	other.Signatures = sign(e.Payload, 2)
	unsigned := e
	unsigned.Signatures = nil
	changed := e
	changed.Payload = bytes.Replace(e.Payload, []byte(`"exit_code":0`), []byte(`"exit_code":1`), 1)
	later := e
	later.Payload = bytes.Replace(e.Payload, []byte(receipt.PredicateType), []byte(strings.Split(receipt.PredicateType, "/v")[0]+"/v99.9"), 1)
	later.Signatures = sign(later.Payload, 1)
	text := func(e dsse.Envelope) string {
		raw, err := e.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	nobodys := text(dsse.Envelope{PayloadType: receipt.PayloadType, Payload: []byte("{}")})
	full := good + strings.Repeat(" ", maxReceipt-len(good))
	for body, want := range map[string]int{
		"": 400, "no": 400, "{}": 400, "{} {}": 400, nobodys: 400, text(other): 400, text(unsigned): 400, text(changed): 400, good + "{}": 400,
		full + " ": 413, text(later): 201,
	} {
		if resp := post(body); resp.StatusCode != want {
			t.Errorf("%d bytes: %s, want %d", len(body), resp.Status, want)
		}
	}
	if resp, _ := do(t, "GET", url+"/receipts/1.json", nil, nil); resp.StatusCode == 200 {
		t.Error("receipts can be read by anybody")
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 3 {
		t.Errorf("%d files", len(entries))
	}
	// A new process goes on counting.
	box, err := openReceipts(dir, time.Now)
	if err != nil || box.next != 4 || box.count() != 3 {
		t.Errorf("reopened: next %d, %d files, %v", box.next, box.count(), err)
	}
}

func TestReceiptLimits(t *testing.T) {
	clock := now
	dir := t.TempDir()
	box, err := openReceipts(dir, func() time.Time { return clock })
	if err != nil {
		t.Fatal(err)
	}
	a, b := clientOf("192.0.2.1:1"), clientOf("192.0.2.2:1")
	for range receiptsPerWhile {
		if err := box.admit(a); err != nil {
			t.Fatal(err)
		}
	}
	if err := box.admit(a); err != errTooMany {
		t.Errorf("got %v", err)
	}
	if err := box.admit(b); err != nil {
		t.Errorf("another client: %v", err)
	}
	clock = clock.Add(2 * receiptWindow)
	if err := box.admit(a); err != nil {
		t.Errorf("later: %v", err)
	}
	for i := range maxReceipts {
		write(t, dir, fmt.Sprintf("%d.json", i+1), []byte("{}"))
	}
	box, _ = openReceipts(dir, time.Now)
	if err := box.admit(a); err != errBoxFull {
		t.Errorf("full: %v", err)
	}
	os.Remove(filepath.Join(dir, "5.json"))
	if err := box.admit(a); err != nil {
		t.Errorf("after somebody emptied it: %v", err)
	}
	if n, err := box.put(a, []byte("{}")); err != nil || n != maxReceipts+1 {
		t.Errorf("number %d, %v", n, err)
	}
}

// TestNobodyFillsTheBox: one address has a share of the box, and so has one network,
// until somebody takes their receipts out; others go on being heard.
func TestNobodyFillsTheBox(t *testing.T) {
	dir := t.TempDir()
	clock := now
	box, err := openReceipts(dir, func() time.Time { return clock })
	if err != nil {
		t.Fatal(err)
	}
	fill := func(addr string) (n int, err error) {
		for ; err == nil; n++ {
			clock = clock.Add(receiptWindow) // patience
			if err = box.admit(clientOf(addr)); err == nil {
				_, err = box.put(clientOf(addr), []byte("{}"))
			}
		}
		return n - 1, err
	}
	for _, c := range []struct {
		addr string
		want int
	}{
		{"192.0.2.1:1", receiptsKept}, {"192.0.2.2:1", networkKept - receiptsKept}, {"192.0.2.3:1", 0},
		{"[2001:db8:1:1::1]:1", receiptsKept}, {"[2001:db8:1:2::1]:1", networkKept - receiptsKept}, {"[2001:db8:1:3::1]:1", 0},
		{"10.0.0.1:1", receiptsKept}, {"10.0.0.2:1", receiptsKept}, {"10.0.0.3:1", receiptsKept},
	} {
		if n, err := fill(c.addr); n != c.want || err != errShare {
			t.Errorf("%s put %d in, want %d: %v", c.addr, n, c.want, err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "1.json")); err != nil {
		t.Fatal(err)
	}
	if n, err := fill("192.0.2.1:1"); n != 1 || err != errShare {
		t.Errorf("after one was taken out: %d, %v", n, err)
	}
	if n, err := fill("198.51.100.1:1"); n != maxReceipts-2*networkKept-3*receiptsKept || err != errBoxFull {
		t.Errorf("the last: %d, %v", n, err)
	}
}

func keyOf(n byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
}

// signedReceipt is one of node n.
func signedReceipt(t testing.TB, n byte, status int64) []byte {
	t.Helper()
	raw, err := receipt.Sign(receipt.Statement{
		Result: receipt.Result{
			JobID: blob.Of([]byte("job")), Module: blob.Of([]byte("module")), Stdin: blob.Of(nil), Stdout: receipt.OutputOf(nil, false),
			Stderr: receipt.OutputOf(nil, false), EndState: receipt.Exited, ExitCode: status, Determinism: receipt.Strict,
			Fuel: receipt.Fuel{CostTable: 1}, Limits: receipt.Limits{MemoryBytes: 1, DeadlineMS: 1, StdoutBytes: 1, StderrBytes: 1, Fuel: 1},
		},
		Observation: receipt.Observation{Engine: "test", Walls: []string{"wasm"}, Timings: receipt.Timings{StartedAt: now}},
	}, keyOf(n))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestClientOf(t *testing.T) {
	same := [][2]string{{"192.0.2.1:1", "192.0.2.1:2"}, {"[::ffff:192.0.2.1]:1", "192.0.2.1:1"}, {"[2001:db8::1]:1", "[2001:db8::2]:1"}, {"[fe80::1%eth0]:1", "[fe80::1%eth1]:1"}}
	for _, c := range same {
		if clientOf(c[0]) != clientOf(c[1]) {
			t.Errorf("%s and %s differ", c[0], c[1])
		}
	}
	other := [][2]string{{"192.0.2.1:1", "192.0.2.2:1"}, {"[2001:db8::1]:1", "[2001:db8:0:1::1]:1"}, {"[fe80::1%eth0]:1", "[fe80::2%eth0]:1"}}
	for _, c := range other {
		if clientOf(c[0]) == clientOf(c[1]) {
			t.Errorf("%s and %s are one", c[0], c[1])
		}
	}
}

func TestConcurrencyLimits(t *testing.T) {
	for _, c := range []struct {
		name string
		cfg  Config
		want int
	}{{"client", Config{PerClient: 1}, 429}, {"total", Config{Total: 1}, 503}} {
		t.Run(c.name, func(t *testing.T) {
			c.cfg.Receipts = t.TempDir()
			_, url := start(t, c.cfg)
			// A receipt that does not end holds the only place.
			body, feed := io.Pipe()
			done := make(chan int)
			go func() {
				resp, err := http.Post(url+"/receipts", "application/json", body)
				if err != nil {
					done <- 0
					return
				}
				resp.Body.Close()
				done <- resp.StatusCode
			}()
			letter := signedReceipt(t, 1, 0)
			feed.Write(letter[:1])
			eventually(t, fmt.Sprintf("status %d", c.want), func() bool {
				resp, _ := get(t, url+"/health")
				return resp.StatusCode == c.want
			})
			feed.Write(letter[1:])
			feed.Close()
			if code := <-done; code != 201 {
				t.Errorf("the first request ended with %d", code)
			}
			if code, _ := health(t, url); code != 200 {
				t.Errorf("afterwards %d", code)
			}
		})
	}
}

// readerFrom notes what reaches the connection's ReadFrom.
type readerFrom struct {
	*httptest.ResponseRecorder
	pieces []int64
	plain  bool
}

func (r *readerFrom) ReadFrom(src io.Reader) (int64, error) {
	lr, ok := src.(*io.LimitedReader)
	if ok {
		r.pieces = append(r.pieces, lr.N)
		_, r.plain = lr.R.(*os.File)
	}
	return io.Copy(struct{ io.Writer }{r.ResponseRecorder}, src)
}

// The kernel copies the file itself only if it sees the file.
func TestFilesReachSendfile(t *testing.T) {
	p, _ := start(t, Config{})
	w := &readerFrom{ResponseRecorder: httptest.NewRecorder()}
	p.ServeHTTP(w, httptest.NewRequest("GET", "/stable/x86_64/kernel", nil))
	if !w.plain || !slices.Equal(w.pieces, []int64{3_500_000}) {
		t.Errorf("pieces %v, plain file %v", w.pieces, w.plain)
	}
	if !bytes.Equal(w.Body.Bytes(), contents["kernel"]) {
		t.Error("other bytes")
	}
}

// TestRequestsFillNoSmallLog: where the log is bounded, strangers must not decide
// what is in it.
func TestRequestsFillNoSmallLog(t *testing.T) {
	for quiet, want := range map[bool]bool{false: true, true: false} {
		var log bytes.Buffer
		p, _ := start(t, Config{Quiet: quiet, Log: slog.New(slog.NewTextHandler(&log, nil))})
		p.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/health", nil))
		if got := strings.Contains(log.String(), "/health"); got != want {
			t.Errorf("quiet %t: the request is logged: %t", quiet, got)
		}
	}
}
