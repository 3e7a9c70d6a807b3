package vm_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/internal/translog"
	"github.com/phasebased/phase/logproof"
	"github.com/phasebased/phase/manifest"
)

// transparency is a log and its witness.
type transparency struct {
	log     translog.Config
	key     *logproof.Key
	witness translog.Witness
	policy  []byte // what a medium asks for
}

func newTransparency(t *testing.T) *transparency {
	t.Helper()
	dir := t.TempDir()
	logKey, logPublic := newKey(t)
	witnessKey, witnessPublic := newKey(t)
	key, err := logproof.NewKey("log.example/phase", logproof.LogKey, logPublic)
	if err != nil {
		t.Fatal(err)
	}
	witness, err := logproof.NewKey("witness.example/one", logproof.WitnessKey, witnessPublic)
	if err != nil {
		t.Fatal(err)
	}
	l := &transparency{
		log: translog.Config{Dir: filepath.Join(dir, "log"), Key: logKey}, key: key,
		witness: translog.Witness{
			Memory: translog.Memory{Path: filepath.Join(dir, "witness"), Log: key, First: true},
			Name:   witness.Name(), Key: witnessKey,
		},
		policy: fmt.Appendf(nil, "log %s\nwitness one %s\nquorum one\n", key, witness),
	}
	if err := translog.Create(l.log, key.Name()); err != nil {
		t.Fatal(err)
	}
	return l
}

func newKey(t *testing.T) (ed25519.PrivateKey, ed25519.PublicKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return private, public
}

// enter adds a published release to the log, after another entry, has the
// witness look, and lays the proof beside the manifest.
func (l *transparency) enter(p *release.Published) error {
	raw, err := os.ReadFile(filepath.Join(p.Dir, "manifest.json"))
	if err != nil {
		return err
	}
	draft, err := manifest.OpenManifestDraft(raw)
	if err != nil {
		return err
	}
	log, err := translog.Open(l.log)
	if err != nil {
		return err
	}
	defer log.Close()
	index, err := log.Add([]byte("another publisher's entry"), manifest.LogEntry(draft.Manifest(), draft.Digest()))
	if err != nil {
		return err
	}
	if _, err := l.witness.Cosign(l.log.Dir, time.Now()); err != nil {
		return err
	}
	policy, err := logproof.ParsePolicy(l.policy)
	if err != nil {
		return err
	}
	proof, err := log.Reader().Prove(index[1], policy)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(p.Dir, "manifest.tlog-proof"), proof.Bytes, 0o644)
}

// TestUnloggedManifest boots a medium that asks for a log: a release that is
// properly signed and in no log does not boot, and boots once it is.
func TestUnloggedManifest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	l := newTransparency(t)
	var err error
	if b.lab, err = b.lab.Logged(t.Context(), l.policy); err != nil {
		t.Fatal(err)
	}
	b.offer(b.release(1), nil)
	outcome, console := b.boot(lab.BootOptions{})
	b.refused(outcome, console, codeLog, "FATAL: manifest refused (log)")

	b.replace(b.release(1), l.enter)
	outcome, console = b.boot(lab.BootOptions{})
	b.verified(outcome, console)
}
