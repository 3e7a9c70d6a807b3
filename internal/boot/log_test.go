package boot

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/timeline"
	"github.com/phasebased/phase/logproof"
	"github.com/phasebased/phase/manifest"
)

// testLog is a log with one entry at a time.
type testLog struct {
	key     *logproof.Key
	private ed25519.PrivateKey
}

func newTestLog(t *testing.T, name string) *testLog {
	t.Helper()
	seed := sha256.Sum256([]byte("boot test log " + name))
	private := ed25519.NewKeyFromSeed(seed[:])
	key, err := logproof.NewKey(name, logproof.LogKey, private.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	return &testLog{key, private}
}

func (l *testLog) policy(t *testing.T) *logproof.Policy {
	t.Helper()
	p, err := logproof.ParsePolicy(fmt.Appendf(nil, "log %s\nquorum none\n", l.key))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// prove is a proof that the entry is the only one of this log.
func (l *testLog) prove(entry []byte) []byte {
	leaf := sha256.Sum256(append([]byte{0}, entry...)) // RFC 6962, section 2.1
	text := fmt.Sprintf("%s\n1\n%s\n", l.key.Name(), base64.StdEncoding.EncodeToString(leaf[:]))
	signature := append(binary.BigEndian.AppendUint32(nil, l.key.KeyHash()), ed25519.Sign(l.private, []byte(text))...)
	return fmt.Appendf(nil, "c2sp.org/tlog-proof@v1\nindex 0\n\n%s\n— %s %s\n", text, l.key.Name(), base64.StdEncoding.EncodeToString(signature))
}

// proofOf is the log's proof for the manifest that is published now.
func (w *world) proofOf(l *testLog) []byte {
	w.Helper()
	raw, err := os.ReadFile(filepath.Join(w.folder, want.Channel, want.Arch, "manifest.json"))
	if err != nil {
		w.Fatal(err)
	}
	v, err := manifest.Verifier{Root: w.corridor.Roots.Newest(), Want: want}.Manifest(raw, nil, nil, now)
	if err != nil {
		w.Fatal(err)
	}
	return l.prove(manifest.LogEntry(v.Manifest(), v.Digest()))
}

func (w *world) serveProof(proof []byte) {
	w.Helper()
	if err := os.WriteFile(filepath.Join(w.folder, want.Channel, want.Arch, "manifest.tlog-proof"), proof, 0o644); err != nil {
		w.Fatal(err)
	}
}

// With a log policy in the medium an unlogged release does not boot.
func TestLogPolicy(t *testing.T) {
	ours, theirs := newTestLog(t, "log.test"), newTestLog(t, "other.test")
	for name, c := range map[string]struct {
		proof func(w *world) []byte
		code  string
	}{
		"logged":            {func(w *world) []byte { return w.proofOf(ours) }, ""},
		"no proof":          {func(*world) []byte { return nil }, "VFY-016"},
		"for another":       {func(*world) []byte { return ours.prove([]byte("another manifest")) }, "VFY-016"},
		"of another log":    {func(w *world) []byte { return w.proofOf(theirs) }, "VFY-016"},
		"no proof but junk": {func(*world) []byte { return []byte("junk") }, "VFY-016"},
		"empty":             {func(*world) []byte { return []byte{} }, "VFY-016"},
		"huge":              {func(*world) []byte { return make([]byte, logproof.MaxProofSize+1) }, "VFY-016"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.corridor.Log = ours.policy(t)
				w.publish(1, w.keys)
				if proof := c.proof(w); proof != nil {
					w.serveProof(proof)
				}
				if c.code != "" {
					w.refused(c.code)
					return
				}
				w.boots(time.Second)
				if logged, ok := w.loaded.Verified.Logged(); !ok || logged.Origin != "log.test" {
					t.Errorf("%+v", logged)
				}
				if got, want := w.notes[timeline.StageVerify][0], "release 1, signed by 2 keys, entry 0 of log.test"; got != want {
					t.Errorf("the person was told %q, want %q", got, want)
				}
				if kept, err := w.state.LastGood(want); err != nil || len(kept) != 1 || len(kept[0].Proof) == 0 {
					t.Errorf("the proof was not kept: %+v, %v", kept, err)
				}
			})
		})
	}
}

// A place without a proof that holds is passed over for one that has it, and the
// manifest is not fetched again.
func TestProofFromAnotherPlace(t *testing.T) {
	log := newTestLog(t, "log.test")
	for name, answer := range map[string]http.HandlerFunc{
		"missing": http.NotFound,
		"wrong":   func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(log.prove([]byte("another"))) },
		"stalled": stall,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(w *world) {
				w.corridor.Log = log.policy(t)
				pointer := w.publishAt(1, w.keys)
				w.serveProof(w.proofOf(log))
				w.hosts["bare.test"] = w.except(w.hosts["publisher.test"], ".tlog-proof", answer)
				w.ask(after(0, "near", pointer, "http://bare.test"), after(400*time.Millisecond, "far", pointer, w.base))
				w.boots(2 * time.Second)
				var manifests int
				for _, path := range w.asked {
					if strings.HasSuffix(path, "/manifest.json") {
						manifests++
					}
				}
				if manifests != 1 && name != "stalled" {
					t.Errorf("the manifest was fetched %d times: %q", manifests, w.asked)
				}
			})
		})
	}
}

// The cache has no proofs: they are asked for where the manifest is.
func TestProofIsNotAskedForWithoutAPolicy(t *testing.T) {
	inBubble(t, func(w *world) {
		w.publish(1, w.keys)
		w.boots(time.Second)
		for _, path := range w.asked {
			if strings.HasSuffix(path, ".tlog-proof") {
				t.Errorf("%s was asked for", path)
			}
		}
	})
}

// A bad proof at one place does not hide what is wrong with the manifest.
func TestUnloggedAndWithoutArtifacts(t *testing.T) {
	inBubble(t, func(w *world) {
		w.corridor.Log = newTestLog(t, "log.test").policy(t)
		pointer := w.publishAt(1, w.keys)
		w.ask(after(0, "nowhere", pointer, "http://unknown.test"), after(0, "here", pointer, w.base))
		err := w.refused("VFY-016")
		if !strings.Contains(err.Error(), "log") {
			t.Error(err)
		}
	})
}
