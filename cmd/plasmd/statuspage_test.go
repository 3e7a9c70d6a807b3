package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/node"
	"github.com/phasebased/phase/internal/statuspage"
	"github.com/phasebased/phase/receipt"
)

// newPagedNode is a node that can sign, with a folder of its own.
func newPagedNode(t *testing.T, log *bytes.Buffer) *daemon {
	t.Helper()
	st, err := openState(t.TempDir(), true)
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{cfg: defaultConfig(), state: st, log: slog.New(slog.NewTextHandler(log, nil))}
	if d.key, err = node.EphemeralKey(); err != nil {
		t.Fatal(err)
	}
	box, err := sandbox(st.empty())
	if err != nil {
		t.Fatal(err)
	}
	d.node, err = node.New(node.Config{Key: d.key, Runner: box, Limits: d.cfg.nodeLimits(), MaxConcurrent: 1, Module: (&node.Modules{}).Get})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestPageTokenFile: the page asks for a token wherever others could reach it.
func TestPageTokenFile(t *testing.T) {
	d := newPagedNode(t, new(bytes.Buffer))
	own := filepath.Join(d.state.dir, "page.token")
	for _, c := range []struct{ addr, file, want string }{
		{"127.0.0.1:4003", "", ""}, {"[::1]:4003", "", ""}, {"127.8.8.8:1", "", ""}, {"127.0.0.1:4003", "/x", "/x"},
		{"0.0.0.0:4003", "", own}, {"[::]:4003", "", own}, {"192.0.2.1:4003", "", own}, {"192.0.2.1:4003", "/x", "/x"},
		{"[::ffff:127.0.0.1]:1", "", ""},
	} {
		d.cfg.PageAddr, d.cfg.PageTokenFile = c.addr, c.file
		if got := d.pageTokenFile(); got != c.want {
			t.Errorf("%s %q: %q, want %q", c.addr, c.file, got, c.want)
		}
	}
}

func TestPageConfig(t *testing.T) {
	for text, good := range map[string]bool{
		`{"page_addr":""}`: true, `{"page_addr":"[::1]:80"}`: true, `{"page_addr":"localhost:4003"}`: false, `{"page_addr":":4003"}`: false,
		`{"page_hosts":["node.example.org"]}`: true, `{"page_hosts":["*"]}`: false, `{"page_hosts":[""]}`: false,
		`{"page_hosts":["http://a"]}`: false, `{"page_hosts":["a:80"]}`: false,
	} {
		if _, err := parseConfig([]byte(text)); (err == nil) != good {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestNoPage: a private node has none, and a token that others can read is not used
// and not shown.
func TestNoPage(t *testing.T) {
	var log bytes.Buffer
	d := newPagedNode(t, &log)
	d.cfg.PageAddr, d.limits.quiet = "127.0.0.1:0", true
	if d.openPage(nil, nil) != nil {
		t.Error("a private node has a page")
	}
	d.limits.quiet = false
	d.cfg.PageTokenFile = filepath.Join(d.state.dir, "token")
	secret := strings.Repeat("s3cret", 8)
	if err := os.WriteFile(d.cfg.PageTokenFile, []byte(secret), 0o644); err != nil {
		t.Fatal(err)
	}
	if d.openPage(nil, nil) != nil {
		t.Error("a page with a token that everybody can read")
	}
	if text := log.String(); !strings.Contains(text, "NODE-085") || strings.Contains(text, secret) {
		t.Errorf("the log says\n%s", text)
	}
	if err := os.Chmod(d.cfg.PageTokenFile, 0o600); err != nil {
		t.Fatal(err)
	}
	page := d.openPage(nil, nil)
	if page == nil {
		t.Fatalf("no page:\n%s", &log)
	}
	page.listener.Close()
	if strings.Contains(log.String(), secret) {
		t.Error("the log shows the token")
	}
}

// TestPageForAnybody: without a token, every user of the machine sees that there are
// jobs; whose they are, what they were given and what they said stays with their owners.
func TestPageForAnybody(t *testing.T) {
	d := newPagedNode(t, new(bytes.Buffer))
	d.cfg.PageAddr = "127.0.0.1:0"
	boot, theirs := blob.Of([]byte("boot")), blob.Of([]byte("theirs"))
	s := &statusPage{d: d}
	s.own = ownReceipts{dir: filepath.Join(d.state.dir, "receipts"), d: d, names: map[blob.Digest]string{boot: "hello"}}
	for _, id := range []blob.Digest{boot, theirs} {
		if err := os.WriteFile(filepath.Join(s.own.dir, id.Hex()+".json"), []byte(id.Hex()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const secret = "s3cret"
	full := func(id blob.Digest, from string) statuspage.Job {
		return statuspage.Job{From: from, Status: job.Status{
			ID: id, Stage: job.Ended, Submitter: "local:" + secret, Module: blob.Of([]byte(secret)), AcceptedAt: time.Unix(1e9, 0),
			End: &job.End{State: job.Trapped, ExitCode: 3, Detail: secret, Receipt: true, EndedAt: time.Unix(1e9, 5),
				Stdout: job.Output{Digest: blob.Of([]byte(secret)), Size: 6}, Failure: &job.Failure{Text: secret}},
		}}
	}
	if got := full(boot, "boot job hello"); !reflect.DeepEqual(s.forStrangers(got), got) {
		t.Error("a boot job is withheld")
	}
	for name, j := range map[string]statuspage.Job{
		"submitted": full(theirs, ""), "of execute-job": full(theirs, "plasmd execute-job"), "submitted, as a boot job is": full(boot, ""),
	} {
		want := statuspage.Job{From: "not shown", Status: job.Status{ID: j.ID, Stage: job.Ended, AcceptedAt: j.AcceptedAt,
			End: &job.End{State: job.Trapped, ExitCode: 3, EndedAt: j.End.EndedAt}}}
		if got := s.forStrangers(j); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if !s.forAnybody() {
		t.Error("without a token the page is for all")
	}
	if raw, err := s.receipt(boot); err != nil || string(raw) != boot.Hex() {
		t.Errorf("of a boot job: %q, %v", raw, err)
	}
	if raw, err := s.receipt(theirs); err == nil {
		t.Errorf("somebody's receipt: %q", raw)
	}
	d.cfg.PageTokenFile = "token"
	if s.forAnybody() {
		t.Error("with a token the page is for all")
	}
}

// TestOwnReceipts: receipts of boot jobs are listed, those of others and files that
// are none are not.
func TestOwnReceipts(t *testing.T) {
	d := newPagedNode(t, new(bytes.Buffer))
	dir := filepath.Join(d.state.dir, "receipts")
	put := func(name string, raw []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	sign := func(id blob.Digest) []byte {
		raw, err := receipt.Sign(receipt.Statement{
			Result: receipt.Result{
				JobID: id, Module: id, Stdin: blob.Of(nil), Stdout: receipt.OutputOf(nil, false), Stderr: receipt.OutputOf(nil, false),
				EndState: receipt.Exited, Determinism: receipt.Strict, Fuel: receipt.Fuel{CostTable: 1},
				Limits: receipt.Limits{MemoryBytes: 1 << 20, DeadlineMS: 1, StdoutBytes: 1, StderrBytes: 1, Fuel: 1},
			},
			Observation: receipt.Observation{Engine: "none", Walls: []string{"wasm"}, Timings: receipt.Timings{StartedAt: time.Unix(1e9, 0)}},
		}, d.key)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	boot, other := blob.Of([]byte("boot")), blob.Of([]byte("other"))
	o := ownReceipts{dir: dir, d: d, names: map[blob.Digest]string{boot: "hello"}}
	if list := o.list(); len(list) != 0 {
		t.Errorf("an empty folder: %v", list)
	}
	put(boot.Hex()+".json", sign(boot))
	put(other.Hex()+".json", sign(other))
	put(blob.Of([]byte("moved")).Hex()+".json", sign(boot)) // under another job's name
	put(blob.Of([]byte("bad")).Hex()+".json", []byte("{}"))
	put("receipts.log", []byte("x"))
	from := map[string]bool{}
	for _, j := range o.list() {
		from[j.From] = true
	}
	if len(from) != 2 || !from["boot job hello"] || !from["plasmd execute-job"] {
		t.Errorf("the list has %v", from)
	}
	if raw, err := o.read(boot); err != nil || !bytes.Equal(raw, sign(boot)) {
		t.Errorf("%v", err)
	}
}
