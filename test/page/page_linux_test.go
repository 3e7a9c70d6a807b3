package page

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ed25519"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/statuspage"
	"github.com/phasebased/phase/receipt"
)

// packedVerifier builds the verifier as make does.
var packedVerifier = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "phase-verifier-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "verify.wasm")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", file,
		"github.com/phasebased/phase/internal/statuspage/verifier")
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build the verifier: %w\n%s", err, out)
	}
	plain, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(plain); err != nil {
		return nil, err
	}
	err = z.Close()
	return packed.Bytes(), err
})

// fakeNode is a node with a page.
type fakeNode struct {
	key  ed25519.PrivateKey
	base string // of its page, without a slash at the end

	mu       sync.Mutex
	view     statuspage.View
	receipts map[blob.Digest][]byte
}

func keyOf(name string) ed25519.PrivateKey {
	seed := blob.Of([]byte(name))
	raw, err := seed.MarshalText()
	if err != nil {
		panic(err)
	}
	return ed25519.NewKeyFromSeed(raw[len(raw)-ed25519.SeedSize:])
}

func (n *fakeNode) public() string { return job.FormatKey(n.key.Public().(ed25519.PublicKey)) }

// hostile is what a job may choose, and a peer.
const hostile = `<img src=x onerror="document.title='owned'">{{.}}`

func newFakeNode(t *testing.T, change func(*statuspage.Config)) *fakeNode {
	t.Helper()
	packed, err := packedVerifier()
	if err != nil {
		t.Fatal(err)
	}
	n := &fakeNode{key: keyOf("the node"), receipts: map[blob.Digest][]byte{}}
	n.view = statuspage.View{
		Version: "0.1.0", Key: n.public(), PeerID: "12D3KooWFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFake", Since: at(0),
		Booted: &statuspage.Booted{Mode: "internet", Channel: "stable", Arch: "x86_64", Release: 7, Digest: blob.Of([]byte("manifest")),
			KeyIDs: []string{blob.Of([]byte("a")).Hex(), blob.Of([]byte("b")).Hex()}},
		Addrs:     []string{"/ip4/192.0.2.7/tcp/4001/p2p/12D3KooWFakeFakeFakeFakeFakeFakeFakeFakeFakeFakeFake"},
		Peers:     []statuspage.Peer{{ID: "12D3KooWPeer", Addr: "/ip4/198.51.100.1/tcp/4001"}, {ID: hostile, Addr: hostile}},
		Published: []statuspage.Record{{Key: "/phase/stable/x86_64/manifest", At: at(1), Expires: at(9000), By: 3}},
		Held:      4, Announced: "release 7 as phase-7._phase-image._tcp.local.", MaxRunning: 4, MaxWaiting: 32, Ended: 3, Refused: 1,
	}
	cfg := statuspage.Config{View: n.look, Receipt: n.receipt, Key: n.claims, Verifier: packed, Every: 50 * time.Millisecond}
	if change != nil {
		change(&cfg)
	}
	page, err := statuspage.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.base = "http://" + l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := page.Serve(ctx, l); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); serving.Wait() })
	return n
}

func at(seconds int) time.Time {
	return time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC).Add(time.Duration(seconds) * time.Second)
}

func (n *fakeNode) look() statuspage.View {
	n.mu.Lock()
	defer n.mu.Unlock()
	v := n.view
	v.Jobs = append([]statuspage.Job{}, v.Jobs...)
	return v
}

func (n *fakeNode) receipt(id blob.Digest) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if raw := n.receipts[id]; raw != nil {
		return raw, nil
	}
	return nil, job.ErrUnknown
}

func (n *fakeNode) claims(raw []byte) (statuspage.Claims, bool) {
	s, err := receipt.Verify(raw, n.key.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, false
	}
	return statuspage.ClaimsOf(s), true
}

// take accepts a job, which runs; id says which.
func (n *fakeNode) take(name, from string) blob.Digest {
	id := blob.Of([]byte(name))
	n.mu.Lock()
	defer n.mu.Unlock()
	j := statuspage.Job{Status: job.Status{ID: id, Stage: job.Running, Submitter: from, AcceptedAt: at(10 + len(n.view.Jobs))}}
	n.view.Jobs = append([]statuspage.Job{j}, n.view.Jobs...)
	n.view.Running++
	return id
}

// end ends a job with a receipt, which is returned.
func (n *fakeNode) end(t *testing.T, id blob.Digest, state job.State, status int64) []byte {
	t.Helper()
	s := receipt.Statement{
		Result: receipt.Result{
			JobID: id, Module: blob.Of([]byte("module")), Args: []string{"a"}, Stdin: blob.Of(nil),
			Stdout: receipt.OutputOf([]byte("out\n"), false), Stderr: receipt.OutputOf(nil, false),
			EndState: receipt.EndState(state), ExitCode: status,
			Limits: receipt.Limits{MemoryBytes: 1 << 20, DeadlineMS: 1000, StdoutBytes: 1 << 10, StderrBytes: 1 << 10, Fuel: 1 << 30},
			Fuel:   receipt.Fuel{Used: 12345, CostTable: 1}, Determinism: receipt.Strict,
		},
		Observation: receipt.Observation{Engine: "wazero", Walls: []string{"wasm", "process"}, Timings: receipt.Timings{StartedAt: at(11)}},
	}
	if state == job.Trapped {
		s.Result.Trap = "unreachable"
	}
	raw, err := receipt.Sign(s, n.key)
	if err != nil {
		t.Fatal(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.receipts[id] = raw
	for i := range n.view.Jobs {
		if n.view.Jobs[i].ID == id {
			n.view.Jobs[i].Stage = job.Ended
			n.view.Jobs[i].End = &job.End{State: state, ExitCode: status, Detail: hostile, EndedAt: n.view.Jobs[i].AcceptedAt.Add(420 * time.Millisecond), Receipt: true}
		}
	}
	n.view.Running--
	return raw
}

// busy is a node with one job of each sort.
func busy(t *testing.T, n *fakeNode) (ended blob.Digest, raw []byte) {
	t.Helper()
	n.end(t, n.take("failed", "local:1000"), job.Exited, 3)
	n.end(t, n.take("trapped", n.public()), job.Trapped, 0)
	ended = n.take("good", n.public())
	raw = n.end(t, ended, job.Exited, 0)
	n.take("running", hostile)
	return ended, raw
}

// fill puts a text into a field as if it was typed.
func fill(p *tab, id, text string) {
	p.b.t.Helper()
	p.eval(fmt.Sprintf(`(() => { const e = document.getElementById(%q); e.value = %q; e.dispatchEvent(new Event("input", {bubbles: true})); })()`, id, text), nil)
}

// verdict fills the form, presses the button and returns what the page then says.
func verdict(p *tab, raw, key, id string) (word, text string) {
	p.b.t.Helper()
	fill(p, "receipt", raw)
	fill(p, "key", key)
	fill(p, "job", id)
	p.eval(`document.querySelector("#verify button[type=submit]").click()`, nil)
	p.wait(`document.querySelector("#verdict").textContent !== ""`)
	return p.text(`document.querySelector("#verdict").dataset.verdict`), p.text(`document.querySelector("#verdict").innerText`)
}

// vector is one of package quorum's.
func vector(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile("../../quorum/testdata/vectors/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// TestVerdicts: the verifier in the browser says what the one of the command line says.
func TestVerdicts(t *testing.T) {
	n := newFakeNode(t, nil)
	id, good := busy(t, n)
	p := openBrowser(t).newTab()
	p.open(n.base + "/")
	stranger := job.FormatKey(keyOf("a stranger").Public().(ed25519.PublicKey))
	flipped := strings.Replace(string(good), `"payload":"ey`, `"payload":"e3`, 1)
	if flipped == string(good) {
		t.Fatal("the receipt could not be changed")
	}
	for _, c := range []struct{ name, raw, key, job, want, says string }{
		{"good", string(good), n.public(), "", "ACCEPT", "exited with status 0"},
		{"good, of the job", string(good), n.public(), id.String(), "ACCEPT", id.String()},
		{"spaces around the key", string(good), "  " + n.public() + " ", "", "ACCEPT", "signed exactly this receipt"},
		{"changed", flipped, n.public(), "", "REJECT", "VFY-"},
		{"cut off", string(good[:len(good)/2]), n.public(), "", "REJECT", "VFY-"},
		{"empty object", "{}", n.public(), "", "REJECT", "VFY-"},
		{"signed by another key", string(good), stranger, "", "REJECT", "VFY-"},
		{"of another job", string(good), n.public(), blob.Of([]byte("another")).String(), "REJECT", "VFY-035"},
		{"without a key", string(good), "", "", "UNVERIFIABLE", "VFY-039"},
		{"with a key that is none", string(good), "ed25519:00", "", "UNVERIFIABLE", "the expected key is none"},
		{"a quorum without keys", vector(t, "statement-right"), "", "", "UNVERIFIABLE", "agreed: ed25519:"},
		{"a quorum, changed", vector(t, "statement-liar-agrees"), "", "", "REJECT", "VFY-"},
		{"a proof of fraud", vector(t, "fraud-results"), "", "", "ACCEPT", "contradicts itself"},
		{"markup", hostile, n.public(), "", "REJECT", "VFY-"},
	} {
		word, text := verdict(p, c.raw, c.key, c.job)
		if word != c.want || !strings.Contains(text, c.says) {
			t.Errorf("%s: %s, want %s with %q:\n%s", c.name, word, c.want, c.says, text)
		}
	}
	if title := p.text("document.title"); strings.Contains(title, "owned") {
		t.Error("what a job chose ran as a script")
	}
	p.clean(n.base)
}

// TestReceiptPage: a receipt's own page has all that the button needs but the key.
func TestReceiptPage(t *testing.T) {
	n := newFakeNode(t, nil)
	id, raw := busy(t, n)
	p := openBrowser(t).newTab()
	p.look(900, 1000, "light")
	p.open(n.base + "/")
	p.leads(func() { p.eval(fmt.Sprintf(`document.querySelector('a[href="/receipts/%s"]').click()`, id.Hex()), nil) })
	if got := p.text(`document.querySelector("#receipt").value`); got != strings.ReplaceAll(string(raw), "\r", "") {
		t.Errorf("the receipt on its page is %.200q", got)
	}
	p.eval(`document.querySelector("#own-key").click()`, nil)
	p.eval(`document.querySelector("#verify button[type=submit]").click()`, nil)
	p.wait(`document.querySelector("#verdict").dataset.verdict === "ACCEPT"`)
	p.shoot("receipt")
	var file string
	p.eval(`fetch(document.querySelector("a[download]").href).then((answer) => answer.text())`, &file)
	if file != string(raw) {
		t.Errorf("the download is %.200q", file)
	}
	p.clean(n.base)
	p.open(n.base + "/receipts/" + blob.Of([]byte("none")).Hex())
	if text := p.text("document.body.innerText"); !strings.Contains(text, "no receipt under that name") {
		t.Error(text)
	}
}

// TestLive: jobs come and end on a page that stays open, and the focus stays where it is.
func TestLive(t *testing.T) {
	n := newFakeNode(t, nil)
	first := n.take("first", n.public())
	n.end(t, first, job.Exited, 0)
	p := openBrowser(t).newTab()
	p.open(n.base + "/")
	row := func(id blob.Digest) string {
		return fmt.Sprintf(`document.querySelector('tr[data-job="%s"]')`, id.Hex())
	}
	p.eval(row(first)+`.querySelector("a").focus()`, nil)
	id := n.take("second", "local:1000")
	p.wait(row(id) + `?.innerText.includes("running")`)
	p.wait(`document.querySelector("[data-live=load]").textContent.startsWith("1 of 4 running")`)
	p.wait(`document.title.includes("1 running")`)
	n.end(t, id, job.Exited, 0)
	p.wait(row(id) + `?.innerText.includes("exited 0")`)
	p.wait(row(id) + `.querySelector("a")?.getAttribute("href") === "/receipts/` + id.Hex() + `"`)
	if first := p.text(`document.querySelector("#job-rows").rows[0].dataset.job`); first != id.Hex() {
		t.Error("the newest job is not on top")
	}
	if focus := p.text(row(first) + `.contains(document.activeElement)`); focus != "true" {
		t.Error("the focus was lost")
	}
	served, enhanced := newTabWithoutScript(p.b), p.text(`document.querySelector("#job-rows").innerText`)
	served.open(n.base + "/")
	if plain := served.text(`document.querySelector("#job-rows").innerText`); plain != enhanced {
		t.Errorf("the script shows\n%s\nand the server\n%s", enhanced, plain)
	}
	p.clean(n.base)
}

func newTabWithoutScript(b *browser) *tab {
	p := b.newTab()
	p.call("Emulation.setScriptExecutionDisabled", map[string]any{"value": true})
	return p
}

// TestWithoutScript: all that is known is on the page, and how to verify without it.
func TestWithoutScript(t *testing.T) {
	n := newFakeNode(t, nil)
	id, _ := busy(t, n)
	p := newTabWithoutScript(openBrowser(t))
	p.open(n.base + "/")
	text := p.text("document.body.innerText")
	for _, want := range []string{
		n.public(), "stable 7 for x86_64", blob.Of([]byte("a")).Hex(), "/phase/stable/x86_64/manifest", "confirmed by 3 others",
		id.Hex()[:12], "exited 0", "exited 3", "trapped", "running", "phase job verify receipt.json", "The button needs scripts", hostile[:20],
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q:\n%s", want, text)
		}
	}
	if p.text(`getComputedStyle(document.querySelector("#verify")).display`) != "none" {
		t.Error("a form that does nothing is shown")
	}
	p.clean(n.base)
}

// TestKeyboard: everything can be done without a mouse, and it is seen where one is.
func TestKeyboard(t *testing.T) {
	n := newFakeNode(t, nil)
	_, raw := busy(t, n)
	p := openBrowser(t).newTab()
	p.look(900, 900, "light")
	p.open(n.base + "/")
	p.press("Tab", 0)
	if first := p.text(`document.activeElement.className`); first != "skip" {
		t.Errorf("the first stop is %q, want the way to the content", first)
	}
	p.tabTo(".scroll")
	p.tabTo("#job-rows a")
	if outline := p.text(`getComputedStyle(document.activeElement).outlineStyle`); outline == "none" {
		t.Error("it is not seen where the focus is")
	}
	p.tabTo("#receipt")
	p.write(string(raw))
	p.tabTo("#key")
	p.write(n.public())
	p.tabTo("#verify button[type=submit]")
	p.press(" ", 0)
	p.wait(`document.querySelector("#verdict").dataset.verdict === "ACCEPT"`)
	p.call("Input.dispatchKeyEvent", map[string]any{"type": "keyDown", "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9, "modifiers": 8})
	p.open(n.base + "/")
	p.tabTo("#own-key")
	p.press("Enter", 0)
	if got := p.text(`document.querySelector("#key").value`); got != n.public() {
		t.Errorf("the key is %q", got)
	}
	p.clean(n.base)
}

// contrasts lists texts that are hard to read on their ground (WCAG 2.2, 1.4.3), as
// well as controls without a name and headings that leave out a level.
const contrasts = `(() => {
  const parts = (text) => text.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; })
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => { for (; e; e = e.parentElement) { const c = parts(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
  const bad = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim() !== "");
    if (!own && !e.matches("input, textarea") || e.closest("[hidden], script, noscript, datalist")) continue;
    const a = light(parts(getComputedStyle(e).color)), b = light(ground(e));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.push(ratio.toFixed(2) + " " + e.outerHTML.slice(0, 80));
  }
  for (const e of document.querySelectorAll("input, textarea, button, a")) {
    const name = e.labels?.length ? [...e.labels].map((l) => l.textContent).join() : e.textContent + (e.getAttribute("aria-label") ?? "");
    if (name.trim() === "") bad.push("no name: " + e.outerHTML.slice(0, 80));
  }
  let level = 0;
  for (const e of document.querySelectorAll("h1, h2, h3, h4")) {
    const now = Number(e.tagName[1]);
    if (now > level + 1) bad.push("heading: " + e.outerHTML);
    level = now;
  }
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  if (new Set(ids).size !== ids.length) bad.push("an id is there twice");
  for (const e of document.querySelectorAll("[aria-labelledby], [aria-describedby]"))
    for (const id of ((e.getAttribute("aria-labelledby") ?? "") + " " + (e.getAttribute("aria-describedby") ?? "")).trim().split(" "))
      if (!document.getElementById(id)) bad.push("nothing has the id " + id);
  if (!document.documentElement.lang || !document.title || document.querySelectorAll("main, h1").length !== 2) bad.push("lang, title, main or h1");
  return bad;
})()`

// TestLooks: light and dark, wide and 320 pixels: all can be read, nothing sticks out.
func TestLooks(t *testing.T) {
	n := newFakeNode(t, nil)
	id, raw := busy(t, n)
	p := openBrowser(t).newTab()
	grounds := map[string]string{}
	// Every verdict in light and in dark, on one page each.
	verdicts := []struct{ raw, key, want string }{{string(raw), n.public(), "ACCEPT"}, {"{}", n.public(), "REJECT"}, {string(raw), "", "UNVERIFIABLE"}}
	for _, scheme := range []string{"light", "dark"} {
		next := 0
		for _, width := range []int{320, 1100} {
			for _, path := range []string{"/", "/receipts/" + id.Hex()} {
				v := verdicts[next%len(verdicts)]
				next++
				what := fmt.Sprintf("%.7s-%s-%d-%s", strings.TrimPrefix(path+"status", "/"), scheme, width, v.want)
				p.look(width, 900, scheme)
				p.open(n.base + path)
				if path == "/" {
					p.eval(`document.querySelector("details").open = true`, nil)
				}
				if word, _ := verdict(p, v.raw, v.key, ""); word != v.want {
					t.Errorf("%s: %s", what, word)
				}
				p.shoot(what)
				var bad []string
				p.eval(contrasts, &bad)
				for _, b := range bad {
					t.Errorf("%s: %s", what, b)
				}
				if over := p.text("document.documentElement.scrollWidth - innerWidth"); over != "0" && !strings.HasPrefix(over, "-") {
					t.Errorf("%s: the page is %s pixels wider than the window", what, over)
				}
				grounds[scheme] = p.text("getComputedStyle(document.body).backgroundColor")
			}
		}
	}
	if grounds["light"] == grounds["dark"] {
		t.Error("light and dark look the same")
	}
	p.clean(n.base)
}

const token = "0123456789abcdef0123456789abcdef"

// TestToken: a browser that shows the token sees the page until it leaves, and the
// token is in no script's reach.
func TestToken(t *testing.T) {
	n := newFakeNode(t, func(c *statuspage.Config) { c.Token = token })
	p := openBrowser(t).newTab()
	p.look(600, 500, "dark")
	p.open(n.base + "/")
	enter := func(text string) {
		p.eval(`document.querySelector("#token").focus()`, nil)
		p.write(text)
		p.leads(func() { p.press("Enter", 0) })
	}
	if text := p.text("document.body.innerText"); strings.Contains(text, n.public()) || !strings.Contains(text, "Token of this page") {
		t.Fatalf("without the token the page says\n%s", text)
	}
	p.clean(n.base)
	enter(token[1:] + "0")
	if text := p.text("document.body.innerText"); !strings.Contains(text, "That is not the token") {
		t.Fatalf("after a wrong token the page says\n%s", text)
	}
	p.shoot("login")
	enter(token)
	p.wait(`document.querySelector("#node-key")?.textContent === "` + n.public() + `"`)
	p.wait(`document.querySelector("#live").textContent === "Live."`)
	if seen := p.text("document.cookie + location.href + document.documentElement.outerHTML"); strings.Contains(seen, token) || strings.Contains(seen, "phase-page=") {
		t.Error("a script sees the token or the cookie")
	}
	p.leads(func() { p.eval(`document.querySelector("header button").click()`, nil) })
	p.open(n.base + "/")
	if text := p.text("document.body.innerText"); strings.Contains(text, n.public()) {
		t.Error("who left sees the page still")
	}
}

// TestOtherSites: what another page in the same browser can do: nothing.
func TestOtherSites(t *testing.T) {
	n := newFakeNode(t, nil)
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<!doctype html><title>evil</title>") // without a policy
	}))
	defer evil.Close()
	p := openBrowser(t).newTab()
	rebound := strings.Replace(n.base, "127.0.0.1", "evil.test", 1)
	p.open(rebound + "/")
	if text := p.text("document.body.innerText"); strings.Contains(text, n.public()) || !strings.Contains(text, "not served under that name") {
		t.Errorf("under another name the page says\n%s", text)
	}
	p.open(evil.URL)
	for _, attack := range []string{
		`fetch(%q).then((answer) => answer.text()).catch(() => "refused")`,
		`fetch(%q, {mode: "no-cors"}).then((answer) => answer.text()).catch(() => "refused")`,
		`fetch(%q, {method: "POST", mode: "no-cors", body: "token=x"}).then((answer) => answer.text()).catch(() => "refused")`,
		`new Promise((done) => { const s = document.createElement("script"); s.src = %q; s.onload = () => done("ran"); s.onerror = () => done("refused"); document.head.append(s); })`,
		`new Promise((done) => { const s = new EventSource(%q); s.onmessage = (e) => done(e.data); s.onerror = () => done("refused"); })`,
		`new Promise((done) => { const f = document.createElement("iframe"); f.src = %q; f.onload = () => { try { done(f.contentDocument.body.innerText || "refused"); } catch { done("refused"); } }; document.body.append(f); })`,
	} {
		for _, path := range []string{"/", "/login", "/events", "/script.js", "/verify.wasm"} {
			var got string
			p.eval(fmt.Sprintf(attack, n.base+path), &got)
			if got != "" && got != "refused" {
				t.Errorf("%s on %s: %.80q", attack, path, got)
			}
		}
	}
}
