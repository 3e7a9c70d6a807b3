package page

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/examples"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobapi"
)

// buildNode builds plasmd with the verifier, as make does, without leaving it among
// the sources.
func buildNode(t *testing.T) string {
	t.Helper()
	packed, err := packedVerifier()
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file, exe := filepath.Join(dir, "verify.wasm.gz"), filepath.Join(dir, "plasmd")
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(root, "internal/statuspage/assets/verify.wasm.gz"): file,
	}})
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, packed)
	write(t, filepath.Join(dir, "overlay.json"), overlay)
	cmd := exec.Command("go", "build", "-buildvcs=false", "-overlay", filepath.Join(dir, "overlay.json"), "-o", exe, "./cmd/plasmd")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build plasmd: %v\n%s", err, out)
	}
	return exe
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// startNode starts plasmd and returns where its page is, as its log says.
func startNode(t *testing.T, exe string, config map[string]any) (base string) {
	t.Helper()
	dir := t.TempDir()
	text, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "config.json"), text)
	cmd := exec.Command(exe, "start", "--config", filepath.Join(dir, "config.json"), "--state", filepath.Join(dir, "state"))
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	at, done := make(chan string, 1), make(chan struct{})
	var log strings.Builder
	go func() {
		defer close(done)
		lines := bufio.NewScanner(said)
		for lines.Scan() {
			log.WriteString(lines.Text() + "\n")
			if m := regexp.MustCompile(`msg="status page" url=(\S+)/`).FindStringSubmatch(lines.Text()); m != nil {
				at <- m[1]
			}
		}
		_, _ = io.Copy(io.Discard, said)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		forced := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		<-done
		err := cmd.Wait()
		forced.Stop()
		if t.Failed() || err != nil {
			t.Errorf("plasmd: %v\n%s", err, log.String())
		}
	})
	select {
	case base = <-at:
	case <-done:
		t.Fatal("plasmd has ended")
	case <-time.After(patience):
		t.Fatal("plasmd has no page")
	}
	return base
}

// TestNode: a node's own jobs come up on its page while it works, and the visitor's
// browser judges their receipts.
func TestNode(t *testing.T) {
	b := openBrowser(t)
	exe, dir := buildNode(t), t.TempDir()
	socket := filepath.Join(dir, "s")
	tokenFile := filepath.Join(dir, "token") // else the page does not show whose jobs they are
	if err := os.WriteFile(tokenFile, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	base := startNode(t, exe, map[string]any{
		"page_token_file": tokenFile, "listen_addrs": []string{}, "page_addr": "127.0.0.1:0", "metrics_addr": "", "serve_port": 0, "job_socket": socket,
		"max_concurrent_jobs": 1,
	})
	p := b.newTab()
	p.look(1000, 1000, "light")
	p.open(base + "/")
	p.eval(`document.querySelector("#token").focus()`, nil)
	p.write(token)
	p.leads(func() { p.press("Enter", 0) })
	if text := p.text("document.body.innerText"); !strings.Contains(text, "nobody vouches for its system") || !strings.Contains(text, "No jobs yet") {
		t.Errorf("the page of a node on a plain machine:\n%s", text)
	}
	client := jobapi.NewClient(socket)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := client.Upload(ctx, examples.Hello); err != nil {
		t.Fatal(err)
	}
	j, err := job.New(job.Spec{
		Version: job.SpecVersion, Module: blob.Of(examples.Hello), Args: []string{hostile}, Env: map[string]string{},
		Limits: job.DefaultNodeLimits.Clamp(job.Limits{}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Submit(ctx, jobapi.TypeSpec, j.Payload()); err != nil {
		t.Fatal(err)
	}
	row := `document.querySelector('tr[data-job="` + j.ID().Hex() + `"]')`
	p.wait(row + `?.innerText.includes("exited 0")`)
	p.shoot("node")
	p.leads(func() { p.eval(row+`.querySelector("a").click()`, nil) })
	p.eval(`document.querySelector("#own-key").click()`, nil)
	p.eval(`document.querySelector("#verify button[type=submit]").click()`, nil)
	p.wait(`document.querySelector("#verdict").dataset.verdict === "ACCEPT"`)
	p.eval(`document.querySelector("#receipt").value = document.querySelector("#receipt").value.replace("A", "B")`, nil)
	p.eval(`document.querySelector("#verify button[type=submit]").click()`, nil)
	p.wait(`document.querySelector("#verdict").dataset.verdict === "REJECT"`)
	p.clean(base)
}
