package jobapi

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobpeer"
	"github.com/phasebased/phase/internal/peer"
)

// keyOf is a node's, or a submitter's, by a number.
func keyOf(n byte) ed25519.PublicKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize)).Public().(ed25519.PublicKey)
}

// fakeNetwork has one node, which does what the document says that it was given,
// or the set: a Kind's or a Reason's name is a failure of that kind.
type fakeNetwork struct {
	submitter ed25519.PublicKey
	asked     chan peer.Peer // nil: nobody wants to know
}

func (fakeNetwork) Search(_ context.Context, arch string, found func(peer.Peer)) error {
	if arch == "arm64" {
		return &jobpeer.Error{Kind: jobpeer.Unreachable, Err: errors.New("nobody answers")}
	}
	found(peer.Peer{ID: "12D3", Key: keyOf(1), Addrs: []string{"/ip4/192.0.2.1/tcp/1"}})
	found(peer.Peer{ID: "12D4", Key: keyOf(2)})
	return nil
}

func (n fakeNetwork) For(submitter ed25519.PublicKey) Peers {
	n.submitter = submitter
	return n
}

var large = bytes.Repeat([]byte("0123456789abcdef"), 8<<10) // several lines

func failed(document []byte) error {
	text := strings.TrimSpace(string(document))
	if strings.HasPrefix(text, "{") { // a submission
		text = ""
	}
	switch text {
	case "":
		return nil
	case "unreachable":
		return &jobpeer.Error{Kind: jobpeer.Unreachable, Err: errors.New("no route")}
	case "silent":
		return &jobpeer.Error{Kind: jobpeer.Silent, Err: errors.New("nothing")}
	default:
		return &job.Refusal{Reason: job.Reason(text), Detail: "no", RetryAfter: 1500 * time.Millisecond}
	}
}

func (n fakeNetwork) Capacity(_ context.Context, p peer.Peer) (jobpeer.Capacity, error) {
	if n.asked != nil {
		n.asked <- p
	}
	if p.Key.Equal(keyOf(2)) {
		return jobpeer.Capacity{}, failed([]byte("unreachable"))
	}
	return jobpeer.Capacity{
		Node: job.FormatKey(p.Key), At: time.Unix(1e9, 0).UTC(), Version: "1", Arch: "arm64", Engine: "e", CostTable: 2, Walls: []string{"wasm"},
		MaxRunning: 4, Accepts: n.submitter.Equal(keyOf(9)),
	}, nil
}

func (fakeNetwork) Push(_ context.Context, _ peer.Peer, envelope []byte, _ blob.Digest, size int64, r io.Reader) error {
	data, err := io.ReadAll(r)
	if err == nil && int64(len(data)) != size {
		err = io.ErrUnexpectedEOF
	}
	return errors.Join(err, failed(envelope))
}

func (fakeNetwork) Submit(_ context.Context, _ peer.Peer, envelope []byte, tell func(job.Status)) (jobpeer.Answer, error) {
	tell(fakeDesk{}.status("running"))
	return jobpeer.Answer{Receipt: []byte("receipt"), Stdout: large, Stderr: []byte("e")}, failed(envelope)
}

func (n fakeNetwork) Await(ctx context.Context, p peer.Peer, _ blob.Digest, tell func(job.Status)) (jobpeer.Answer, error) {
	return n.Submit(ctx, p, nil, tell)
}

func (fakeNetwork) Commit(_ context.Context, _ peer.Peer, envelope []byte, tell func(job.Status)) ([]byte, error) {
	tell(fakeDesk{}.status("running"))
	return []byte("commitment"), failed(envelope)
}

func (fakeNetwork) Reveal(_ context.Context, _ peer.Peer, _ blob.Digest, set []byte) (jobpeer.Answer, error) {
	return jobpeer.Answer{Receipt: []byte("receipt"), Opening: []byte("opening")}, failed(set)
}

func (fakeNetwork) Cancel(context.Context, peer.Peer, blob.Digest) error { return nil }

// submission is one, and its job's id.
func submission(t *testing.T) (string, blob.Digest) {
	t.Helper()
	j, err := job.New(job.Spec{Version: job.SpecVersion, Module: named("m")})
	if err != nil {
		t.Fatal(err)
	}
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{9}, ed25519.SeedSize))
	raw, err := job.SignSubmission(j, nil, time.Now().Add(time.Hour), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw), j.ID()
}

func online(c *Config) { c.Network = fakeNetwork{} }

// TestRelayedAnswersAreAsDocumented holds each answer to the OpenAPI document.
func TestRelayedAnswersAreAsDocumented(t *testing.T) {
	d := openDocument(t)
	client := NewClient(start(t, online))
	defer client.Close()
	module, unknown := named("m").String(), named("x").String()
	envelope, id := submission(t)
	running := id.String()
	const node = "/v1/network/nodes/{key}"
	for _, c := range []struct {
		method, path, id, query, body string
		want                          int
		last                          string // of the lines
	}{
		{"GET", "/v1/network/nodes", "", "?arch=x86_64", "", 200, `"done":true`},
		{"GET", "/v1/network/nodes", "", "?arch=arm64", "", 502, ""},
		{"GET", node, "", "?submitter=" + job.FormatKey(keyOf(9)), "", 200, `"accepts":true`},
		{"GET", node, "", "?submitter=alice", "", 400, ""},
		{"GET", node, "", strings.Repeat("&addr=/ip4/192.0.2.1", 9), "", 400, ""},
		{"GET", node, "", "?addr=" + strings.Repeat("x", 300), "", 400, ""},
		{"POST", node + "/blobs/{id}", module, "?size=1", "{}", 204, ""},
		{"POST", node + "/blobs/{id}", module, "", "{}", 400, ""},
		{"POST", node + "/blobs/{id}", module, "?size=99999999999", "{}", 400, ""},
		{"POST", node + "/blobs/{id}", unknown, "?size=1", "{}", 424, ""},
		{"POST", node + "/jobs", "", "", envelope, 200, `"done":true`},
		{"POST", node + "/jobs", "", "", "busy", 200, `"reason":"busy"`},
		{"GET", node + "/jobs/{id}", running, "", "", 200, `"done":true`},
		{"GET", node + "/jobs/{id}", unknown, "", "", 404, ""},
		{"DELETE", node + "/jobs/{id}", running, "", "", 204, ""},
		{"DELETE", node + "/jobs/{id}", unknown, "", "", 404, ""},
		{"POST", node + "/commitments", "", "", "{}", 200, `"done":true`},
		{"POST", node + "/commitments", "", "", "silent", 200, `"reason":"silent"`},
		{"POST", node + "/reveals/{id}", running, "", "{}", 200, `"done":true`},
		{"POST", node + "/reveals/{id}", running, "", "unauthorised", 403, ""},
		{"POST", node + "/reveals/{id}", running, "", "silent", 504, ""},
		{"POST", node + "/reveals/{id}", running, "", "busy", 503, ""},
	} {
		query := strings.Replace(c.query, "&", "?", 1)
		url := strings.NewReplacer("{key}", job.FormatKey(keyOf(1)), "{id}", c.id).Replace(c.path) + query
		r, err := http.NewRequest(c.method, "http://node"+url, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		w, err := client.http.Do(r)
		if err != nil {
			t.Errorf("%s %s: %v", c.method, url, err)
			continue
		}
		body, err := io.ReadAll(w.Body)
		w.Body.Close()
		lines := strings.Split(strings.TrimSpace(string(body)), "\n")
		if err != nil || w.StatusCode != c.want || !strings.Contains(lines[len(lines)-1], c.last) {
			t.Errorf("%s %s %s: status %d, want %d, %v: %.500s", c.method, url, c.body, w.StatusCode, c.want, err, body)
			continue
		}
		if err := d.check(c.method, c.path, w, body); err != nil {
			t.Errorf("%s %s: %v: %.500s", c.method, url, err, body)
		}
	}
}

// TestRemote has everything come through as a *jobpeer.Client would give it.
func TestRemote(t *testing.T) {
	client := NewClient(start(t, online))
	defer client.Close()
	remote := client.Remote(keyOf(9))
	ctx := context.Background()
	var found []peer.Peer
	if err := remote.Search(ctx, "x86_64", func(p peer.Peer) { found = append(found, p) }); err != nil || len(found) != 2 ||
		!found[0].Key.Equal(keyOf(1)) || found[0].Addrs[0] != "/ip4/192.0.2.1/tcp/1" {
		t.Fatalf("%v, %v", found, err)
	}
	p := found[0]
	if c, err := remote.Capacity(ctx, p); err != nil || !c.Accepts || c.CostTable != 2 || !c.At.Equal(time.Unix(1e9, 0)) {
		t.Errorf("%+v, %v", c, err)
	}
	var between *jobpeer.Error
	if _, err := remote.Capacity(ctx, found[1]); !errors.As(err, &between) || between.Kind != jobpeer.Unreachable || between.Err.Error() != "no route" {
		t.Errorf("%v", err)
	}
	if err := remote.Push(ctx, p, []byte("{}"), named("m"), 1, strings.NewReader("m")); err != nil {
		t.Error(err)
	}
	stages := 0
	envelope, id := submission(t)
	a, err := remote.Submit(ctx, p, []byte(envelope), func(job.Status) { stages++ })
	if err != nil || stages != 1 || string(a.Receipt) != "receipt" || !bytes.Equal(a.Stdout, large) || string(a.Stderr) != "e" {
		t.Errorf("%d stages, %.80q, %v", stages, a.Receipt, err)
	}
	if a, err = remote.Await(ctx, p, id, nil); err != nil || !bytes.Equal(a.Stdout, large) {
		t.Errorf("%v", err)
	}
	if err := remote.Cancel(ctx, p, id); err != nil {
		t.Error(err)
	}
	if c, err := remote.Commit(ctx, p, []byte("{}"), nil); err != nil || string(c) != "commitment" {
		t.Errorf("%q, %v", c, err)
	}
	if a, err := remote.Reveal(ctx, p, named("running"), []byte("{}")); err != nil || string(a.Opening) != "opening" {
		t.Errorf("%q, %v", a.Opening, err)
	}
	var refusal *job.Refusal
	if _, err := remote.Submit(ctx, p, []byte("busy"), nil); !errors.As(err, &refusal) || refusal.Reason != job.Busy || refusal.RetryAfter != 1500*time.Millisecond {
		t.Errorf("%v", err)
	}
	if _, err := remote.Reveal(ctx, p, named("running"), []byte("expired")); !errors.As(err, &refusal) || refusal.Reason != job.Expired {
		t.Errorf("%v", err)
	}
}

// TestAlone: a node that is on no network says so.
func TestAlone(t *testing.T) {
	client := NewClient(start(t, nil))
	defer client.Close()
	err := client.Remote(nil).Search(context.Background(), "", func(peer.Peer) {})
	var refused *RefusedError
	if !errors.As(err, &refused) || refused.Failure.Reason != job.Unsupported {
		t.Errorf("%v", err)
	}
}

// TestCarried forgets the oldest, and tells nobody about others' jobs.
func TestCarried(t *testing.T) {
	var c carried
	j := carriedJob{"n", named("1")}
	c.note(j, job.Caller{Name: "local:1"})
	c.note(j, job.Caller{Name: "local:2"}) // it is still the first one's
	for _, by := range []struct {
		job.Caller
		ok bool
	}{{job.Caller{Name: "local:1"}, true}, {job.Caller{Name: "local:2"}, false}, {job.Caller{Name: "local:0", Admin: true}, true}} {
		if err := c.check(j, by.Caller); (err == nil) != by.ok {
			t.Errorf("%s: %v", by.Name, err)
		}
	}
	for i := range maxCarried {
		c.note(carriedJob{"n", named(strconv.Itoa(i + 2))}, job.Caller{})
	}
	if err := c.check(j, job.Caller{Name: "local:1"}); err == nil || len(c.who) != maxCarried {
		t.Errorf("%d remembered, %v", len(c.who), err)
	}
}
