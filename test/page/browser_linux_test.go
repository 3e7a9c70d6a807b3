// Package page opens the node's status page in Chromium, as visitors do. It speaks
// the browser's DevTools protocol over a pipe
// (https://chromedevtools.github.io/devtools-protocol/), so that no port is open and
// no library is needed.
package page

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/nettest"
)

// patience bounds everything that is waited for.
const patience = time.Minute

// browser is a running Chromium.
type browser struct {
	t  *testing.T
	in io.Writer

	mu      sync.Mutex
	next    int
	answers map[int]chan message
	tabs    map[string]*tab // by session
}

// tab is one page of it.
type tab struct {
	b       *browser
	session string

	mu       sync.Mutex
	loaded   chan struct{} // one value per load
	problems []string      // what the console, the policy and scripts complained of
	asked    []string      // URLs
	failed   []string      // requests that got no answer
}

type message struct {
	ID     int             `json:"id,omitempty"`
	Method string          `json:"method,omitempty"`
	Params json.RawMessage `json:"params,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
	Error  json.RawMessage `json:"error,omitempty"`
	Sess   string          `json:"sessionId,omitempty"`
}

// openBrowser starts Chromium with a profile of its own. A computer without it skips
// the test, unless PHASE_REQUIRE_TOOLS demands it.
func openBrowser(t *testing.T) *browser {
	t.Helper()
	exe := ""
	for _, name := range []string{"chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			exe = path
			break
		}
	}
	if exe == "" {
		nettest.Lacking(t, "PHASE_REQUIRE_TOOLS", "no Chromium here: install the package chromium-headless-shell")
	}
	home := t.TempDir()
	args := []string{
		"--headless", "--remote-debugging-pipe", "--no-first-run", "--no-default-browser-check", "--disable-gpu",
		"--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--user-data-dir=" + filepath.Join(home, "profile"), "--force-color-profile=srgb", "--hide-scrollbars",
		// Whatever is not this machine cannot be reached.
		"--host-resolver-rules=MAP evil.test 127.0.0.1 , MAP * ~NOTFOUND , EXCLUDE localhost , EXCLUDE 127.0.0.1",
	}
	if os.Geteuid() == 0 {
		args = append(args, "--no-sandbox") // which root cannot have
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, exe, append(args, "about:blank")...)
	cmd.Env = append(os.Environ(), "HOME="+home)
	fromUs, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, toUs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.ExtraFiles = []*os.File{fromUs, toUs} // 3 and 4
	var said bytes.Buffer
	cmd.Stderr, cmd.WaitDelay = &said, 10*time.Second
	setGroup(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fromUs.Close()
	toUs.Close()
	b := &browser{t: t, in: in, answers: map[int]chan message{}, tabs: map[string]*tab{}}
	var reading sync.WaitGroup
	reading.Go(func() { b.read(out) })
	t.Cleanup(func() {
		killGroup(cmd)
		cancel()
		_ = cmd.Wait()
		in.Close()
		out.Close()
		reading.Wait()
		if t.Failed() {
			t.Logf("Chromium said:\n%s", said.Bytes()[:min(said.Len(), 4000)])
		}
	})
	return b
}

// read hands out what the browser says until it ends.
func (b *browser) read(r io.Reader) {
	lines := bufio.NewReaderSize(r, 1<<20)
	for {
		raw, err := lines.ReadBytes(0)
		if err != nil {
			b.mu.Lock()
			for id, c := range b.answers {
				close(c)
				delete(b.answers, id)
			}
			b.answers = nil
			b.mu.Unlock()
			return
		}
		var m message
		if json.Unmarshal(raw[:len(raw)-1], &m) != nil {
			continue
		}
		b.mu.Lock()
		answer, of := b.answers[m.ID], b.tabs[m.Sess]
		delete(b.answers, m.ID)
		b.mu.Unlock()
		switch {
		case m.ID != 0 && answer != nil:
			answer <- m
		case of != nil:
			of.happened(m)
		}
	}
}

// call asks the browser for something and returns the answer.
func (b *browser) call(session, method string, params any) json.RawMessage {
	b.t.Helper()
	raw, err := json.Marshal(params)
	if err != nil {
		b.t.Fatal(err)
	}
	answer := make(chan message, 1)
	b.mu.Lock()
	if b.answers == nil {
		b.mu.Unlock()
		b.t.Fatalf("%s: the browser has ended", method)
	}
	b.next++
	b.answers[b.next] = answer
	text, err := json.Marshal(message{ID: b.next, Method: method, Params: raw, Sess: session})
	if err == nil {
		_, err = b.in.Write(append(text, 0))
	}
	b.mu.Unlock()
	if err != nil {
		b.t.Fatal(err)
	}
	select {
	case m, ok := <-answer:
		if !ok || m.Error != nil {
			b.t.Fatalf("%s: %s", method, m.Error)
		}
		return m.Result
	case <-time.After(patience):
		b.t.Fatalf("%s: no answer", method)
	}
	return nil
}

// newTab opens an empty page.
func (b *browser) newTab() *tab {
	b.t.Helper()
	var target struct{ TargetID string }
	b.decode(b.call("", "Target.createTarget", map[string]any{"url": "about:blank"}), &target)
	var attached struct{ SessionID string }
	b.decode(b.call("", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}), &attached)
	p := &tab{b: b, session: attached.SessionID, loaded: make(chan struct{}, 64)}
	b.mu.Lock()
	b.tabs[p.session] = p
	b.mu.Unlock()
	for _, domain := range []string{"Page", "Runtime", "Log", "Network", "Audits"} {
		p.call(domain+".enable", struct{}{})
	}
	return p
}

func (b *browser) decode(raw json.RawMessage, to any) {
	b.t.Helper()
	if err := json.Unmarshal(raw, to); err != nil {
		b.t.Fatalf("%v: %.200s", err, raw)
	}
}

func (p *tab) call(method string, params any) json.RawMessage {
	p.b.t.Helper()
	return p.b.call(p.session, method, params)
}

// happened notes an event.
func (p *tab) happened(m message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch m.Method {
	case "Page.loadEventFired":
		select {
		case p.loaded <- struct{}{}:
		default:
		}
	case "Runtime.exceptionThrown", "Log.entryAdded", "Audits.issueAdded":
		p.problems = append(p.problems, m.Method+" "+string(m.Params))
	case "Runtime.consoleAPICalled":
		p.problems = append(p.problems, m.Method+" "+string(m.Params))
	case "Network.requestWillBeSent":
		var sent struct{ Request struct{ URL string } }
		if json.Unmarshal(m.Params, &sent) == nil {
			p.asked = append(p.asked, sent.Request.URL)
		}
	case "Network.loadingFailed":
		p.failed = append(p.failed, string(m.Params))
	}
}

// open goes to a page and waits until it is loaded.
func (p *tab) open(url string) {
	p.b.t.Helper()
	p.leads(func() { p.call("Page.navigate", map[string]any{"url": url}) })
}

// leads does something that leads to another page, and waits for that.
func (p *tab) leads(do func()) {
	p.b.t.Helper()
	for len(p.loaded) > 0 {
		<-p.loaded
	}
	do()
	select {
	case <-p.loaded:
	case <-time.After(patience):
		p.b.t.Fatal("the page does not load")
	}
}

// eval is the value of an expression, as JSON writes it into to.
func (p *tab) eval(expression string, to any) {
	p.b.t.Helper()
	var got struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	p.b.decode(p.call("Runtime.evaluate", map[string]any{
		"expression": expression, "returnByValue": true, "awaitPromise": true, "userGesture": true,
	}), &got)
	if got.ExceptionDetails != nil {
		p.b.t.Fatalf("%s: %s", expression, got.ExceptionDetails)
	}
	if to != nil {
		p.b.decode(got.Result.Value, to)
	}
}

func (p *tab) text(expression string) (text string) {
	p.b.t.Helper()
	p.eval("String("+expression+")", &text)
	return text
}

// wait waits until an expression is true.
func (p *tab) wait(expression string) {
	p.b.t.Helper()
	var done bool
	for end := time.Now().Add(patience); time.Now().Before(end) && !done; {
		// The browser waits, at most a second each time.
		p.eval(fmt.Sprintf(`new Promise((done) => { const end = performance.now() + 1000;
			const look = () => { if (%s) done(true); else if (performance.now() > end) done(false); else setTimeout(look, 20); };
			look(); })`, expression), &done)
	}
	if !done {
		p.b.t.Fatalf("never true: %s\non a page that says:\n%s", expression, p.text("document.body.innerText"))
	}
}

// Keys that are pressed.
var keys = map[string]map[string]any{
	"Tab":   {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9},
	"Enter": {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"},
	" ":     {"key": " ", "code": "Space", "windowsVirtualKeyCode": 32, "text": " "},
}

// press presses one key and lets it go.
func (p *tab) press(name string, modifiers int) {
	p.b.t.Helper()
	for _, kind := range []string{"keyDown", "keyUp"} {
		event := map[string]any{"type": kind, "modifiers": modifiers}
		for k, v := range keys[name] {
			event[k] = v
		}
		p.call("Input.dispatchKeyEvent", event)
	}
}

// write types text where the focus is.
func (p *tab) write(text string) {
	p.b.t.Helper()
	p.call("Input.insertText", map[string]any{"text": text})
}

// tabTo presses Tab until the focus is where a selector says.
func (p *tab) tabTo(selector string) {
	p.b.t.Helper()
	for range 100 {
		p.press("Tab", 0)
		if p.text(fmt.Sprintf("document.activeElement?.matches(%q)", selector)) == "true" {
			return
		}
	}
	p.b.t.Fatalf("no number of Tabs leads to %s", selector)
}

// look sets what a visitor has: the width of the window, and light or dark.
func (p *tab) look(width, height int, scheme string) {
	p.b.t.Helper()
	p.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false})
	p.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}})
}

// shoot keeps a picture of the whole page where PHASE_SCREENSHOTS says, if anywhere.
func (p *tab) shoot(name string) {
	p.b.t.Helper()
	dir := os.Getenv("PHASE_SCREENSHOTS")
	if dir == "" {
		return
	}
	var shot struct{ Data string }
	p.b.decode(p.call("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true}), &shot)
	png, err := base64.StdEncoding.DecodeString(shot.Data)
	if err == nil {
		err = os.MkdirAll(dir, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644)
	}
	if err != nil {
		p.b.t.Fatal(err)
	}
}

// clean fails the test if the page had anything to complain of, or asked anybody but
// base for anything.
func (p *tab) clean(base string) {
	p.b.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, problem := range slices.Concat(p.problems, p.failed) {
		p.b.t.Errorf("the page complains: %.600s", problem)
	}
	for _, url := range p.asked {
		if !strings.HasPrefix(url, base+"/") && url != "about:blank" {
			p.b.t.Errorf("the page asks for %s", url)
		}
	}
	if len(p.asked) == 0 {
		p.b.t.Error("no request was seen")
	}
}
