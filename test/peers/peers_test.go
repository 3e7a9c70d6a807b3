package peers_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/fetch"
	"github.com/phasebased/phase/internal/fetch/fetchtest"
	"github.com/phasebased/phase/internal/nettest"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/test/peers"
)

// built holds the programs of all tests.
var built struct{ dir, fetch, gateway string }

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "phase-peers-")
	if err != nil {
		panic(err)
	}
	built.dir = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

var check = nettest.Check

func nginx(t *testing.T, n peers.Nginx) *peers.Server {
	t.Helper()
	s, err := n.Start(t.Context())
	if err != nil {
		nettest.Lacking(t, "PHASE_REQUIRE_TOOLS", err.Error())
	}
	return stopped(t, s)
}

func python(t *testing.T, dir string) *peers.Server {
	t.Helper()
	nettest.Require(t, "python3")
	s, err := peers.Python(t.Context(), dir)
	check(t, err)
	return stopped(t, s)
}

func gateway(t *testing.T, dir string) *peers.Server {
	t.Helper()
	if built.gateway == "" {
		program, err := peers.BuildGateway(t.Context(), "gateway", built.dir)
		if err != nil {
			nettest.Lacking(t, "PHASE_REQUIRE_TOOLS", err.Error())
		}
		built.gateway = program
	}
	s, err := peers.Gateway(t.Context(), built.gateway, dir)
	check(t, err)
	return stopped(t, s)
}

func stopped(t *testing.T, s *peers.Server) *peers.Server {
	t.Cleanup(func() {
		s.Stop()
		if t.Failed() {
			t.Logf("%s said:\n%s", s.URL, s.Log())
		}
	})
	return s
}

// folder writes blobs as providers have them.
func folder(t *testing.T, blobs ...[]byte) string {
	t.Helper()
	dir := t.TempDir()
	for _, b := range blobs {
		path := filepath.Join(dir, fetchtest.Path(blob.Of(b)))
		check(t, errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, b, 0o644)))
	}
	return dir
}

func client(t *testing.T) *http.Client {
	c := fetch.NewClient(nil, nil)
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// routed is a mirror as one source: one URL for each blob.
type routed struct {
	client *http.Client
	base   string
}

func (r routed) String() string { return r.base }
func (r routed) Read(ctx context.Context, p fetch.Part, w io.Writer) error {
	return fetch.NewHTTP(r.client, r.base+fetchtest.Path(p.Blob)).Read(ctx, p, w)
}

// TestNginxSource and TestGatewaySource: what is asked of every source, of these.
func TestNginxSource(t *testing.T) {
	fetchtest.Source(t, false, func(t *testing.T, blobs ...[]byte) fetch.Source {
		return routed{client(t), nginx(t, peers.Nginx{Dir: folder(t, blobs...)}).URL}
	})
}

func TestGatewaySource(t *testing.T) {
	fetchtest.Source(t, true, func(t *testing.T, blobs ...[]byte) fetch.Source {
		return fetch.NewGateway(client(t), gateway(t, folder(t, blobs...)).URL)
	})
}

// TestGatewayFormat: it is the real one that answers there, and says so.
func TestGatewayFormat(t *testing.T) {
	data := content(9, 1000)
	g := gateway(t, folder(t, data))
	for query, want := range map[string]int{"?format=raw": 200, "?format=car": 200, "": 406} {
		resp, err := client(t).Get(g.URL + "/ipfs/" + fetch.CID(blob.Of(data)) + query)
		check(t, err)
		body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		check(t, errors.Join(err, resp.Body.Close()))
		if resp.StatusCode != want {
			t.Errorf("%q: status %d, %.200s", query, resp.StatusCode, body)
		}
		if query == "?format=raw" && (!bytes.Equal(body, data) || resp.Header.Get("Content-Type") != "application/vnd.ipld.raw") {
			t.Errorf("%d bytes of %q", len(body), resp.Header.Get("Content-Type"))
		}
	}
}

func content(seed uint64, n int) []byte {
	data := make([]byte, n)
	source := rand.NewChaCha8([32]byte{byte(seed)})
	source.Read(data)
	return data
}

// published is a release in a folder that any web server can serve.
type published struct {
	dir, manifest, root string
	files               map[string][]byte
}

func publish(t *testing.T) published {
	t.Helper()
	p := published{dir: t.TempDir(), files: map[string][]byte{
		"kernel": content(1, 1<<20), "initramfs": content(2, 3<<20+5), "rootfs": content(3, 12<<20+77),
	}}
	src := t.TempDir()
	for name, data := range p.files {
		check(t, os.WriteFile(filepath.Join(src, name), data, 0o644))
	}
	keys, err := release.NewKeys()
	check(t, err)
	root, err := keys.RootFile(time.Now().AddDate(1, 0, 0))
	check(t, err)
	out, err := release.Publish(p.dir, release.Release{
		Channel: "stable", Arch: "x86_64", Version: 1, Created: time.Now().Add(-time.Hour),
		Expires: time.Now().AddDate(0, 3, 0), PointerExpiry: time.Now().AddDate(0, 0, 7),
		Bases:  []string{"http://127.0.0.1:1"}, // where nobody is
		Kernel: filepath.Join(src, "kernel"), Initramfs: filepath.Join(src, "initramfs"), Rootfs: filepath.Join(src, "rootfs"),
	}, keys, root)
	check(t, err)
	p.manifest, p.root = filepath.Join(out.Dir, "manifest.json"), filepath.Join(t.TempDir(), "root.json")
	check(t, os.WriteFile(p.root, root, 0o644))
	return p
}

// fetched is what phase-fetch says of itself.
type fetched struct {
	Status    string
	Artifacts []struct {
		Name    string
		Sources []struct {
			Source, Verdict string
			Bytes           int64
		}
	}
}

// fetch runs phase-fetch and compares what it wrote.
func (p published) fetch(t *testing.T, args ...string) fetched {
	t.Helper()
	if built.fetch == "" {
		program := filepath.Join(built.dir, "phase-fetch")
		build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", program, "./cmd/phase-fetch")
		build.Dir, build.Env = filepath.Join("..", ".."), append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		built.fetch = program
	}
	out := t.TempDir()
	var errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), built.fetch, append([]string{"-m", p.manifest, "-k", p.root, "-o", out, "-f", "json", "-v"}, args...)...)
	cmd.Stderr = &errs
	raw, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", args, err, &errs)
	}
	var f fetched
	check(t, json.Unmarshal(raw, &f))
	for name, want := range p.files {
		if got, err := os.ReadFile(filepath.Join(out, name)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%v: %s has %d of %d bytes, %v", args, name, len(got), len(want), err)
		}
	}
	if sum, err := exec.LookPath("sha256sum"); err == nil {
		cmd := exec.Command(sum, "-c", "kernel.sha256", "initramfs.sha256", "rootfs.sha256")
		cmd.Dir = out
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("sha256sum: %v\n%s", err, said)
		}
	}
	return f
}

// gave is who gave bytes of the rootfs, by the beginning of its name.
func (f fetched) gave(base string) (bytes int64) {
	for _, a := range f.Artifacts {
		for _, s := range a.Sources {
			if a.Name == "rootfs" && strings.HasPrefix(s.Source, base) {
				bytes += s.Bytes
			}
		}
	}
	return bytes
}

// TestMirrors: a published folder behind web servers that nobody set up for us.
func TestMirrors(t *testing.T) {
	p := publish(t)
	t.Run("nginx", func(t *testing.T) {
		s := nginx(t, peers.Nginx{Dir: p.dir})
		if f := p.fetch(t, "--source", s.URL); f.gave(s.URL) != int64(len(p.files["rootfs"])) {
			t.Errorf("%+v", f)
		}
	})
	t.Run("python", func(t *testing.T) {
		s := python(t, p.dir)
		if f := p.fetch(t, "--source", s.URL+"/"); f.gave(s.URL) != int64(len(p.files["rootfs"])) {
			t.Errorf("%+v", f)
		}
	})
	t.Run("gateway", func(t *testing.T) {
		// Blocks have to be named by somebody: the list of them comes from a mirror
		// that has nothing else.
		lists := folderOfLists(t, p)
		s, g := python(t, lists), gateway(t, p.dir)
		f := p.fetch(t, "--source", s.URL, "--gateway", g.URL)
		if f.gave(g.URL) != int64(len(p.files["rootfs"])) || f.gave(s.URL) != 0 {
			t.Errorf("%+v", f)
		}
	})
	t.Run("all at once", func(t *testing.T) {
		// Slow enough that each of them has its turn.
		slow, old, g := nginx(t, peers.Nginx{Dir: p.dir, Rate: 4 << 20}), python(t, p.dir), gateway(t, p.dir)
		f := p.fetch(t, "--source", slow.URL, "--source", old.URL, "--gateway", g.URL)
		if sum := f.gave(slow.URL) + f.gave(old.URL) + f.gave(g.URL); sum < int64(len(p.files["rootfs"])) || f.gave(g.URL) == 0 {
			t.Errorf("%+v", f)
		}
	})
	t.Run("one dies", func(t *testing.T) {
		dying, living := nginx(t, peers.Nginx{Dir: p.dir, Rate: 1 << 20}), nginx(t, peers.Nginx{Dir: p.dir})
		dying.Stop()
		if f := p.fetch(t, "--source", dying.URL, "--source", living.URL); f.gave(living.URL) != int64(len(p.files["rootfs"])) {
			t.Errorf("%+v", f)
		}
	})
}

// folderOfLists has the chunk lists of a release and none of its artifacts.
func folderOfLists(t *testing.T, p published) string {
	t.Helper()
	var lists [][]byte
	for _, data := range p.files {
		chunks, _, _, err := blob.ChunksOf(bytes.NewReader(data))
		check(t, err)
		if raw := chunks.Bytes(); chunks.Len() > 1 {
			lists = append(lists, raw)
		}
	}
	if slices.ContainsFunc(lists, func(l []byte) bool { return len(l) == 0 }) {
		t.Fatal("an empty list")
	}
	return folder(t, lists...)
}
