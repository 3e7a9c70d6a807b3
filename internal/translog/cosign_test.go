package translog

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/logproof"
)

func logKey(t testing.TB) *logproof.Key {
	t.Helper()
	k, err := logproof.NewKey(testOrigin, logproof.LogKey, testKey("log").Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func witness(t testing.TB, name, memory string) Witness {
	return Witness{Memory{Path: memory, Log: logKey(t)}, name + ".example", testKey(name)}
}

// cosign is the first time that this witness sees the log.
func cosign(t testing.TB, dir, name string) *Cosigned {
	t.Helper()
	w := witness(t, name, filepath.Join(t.TempDir(), name+".memory"))
	w.First = true
	c, err := w.Cosign(dir, testNow)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// policyOf asks for need of the witnesses.
func policyOf(t testing.TB, need int, names ...string) *logproof.Policy {
	t.Helper()
	text := "log " + logKey(t).String() + "\n"
	for _, name := range names {
		k := must(logproof.NewKey(name+".example", logproof.WitnessKey, testKey(name).Public().(ed25519.PublicKey)))
		text += "witness " + name + " " + k.String() + "\n"
	}
	if need == 0 {
		text += "quorum none\n"
	} else {
		text += fmt.Sprintf("group all-of-them %d %s\nquorum all-of-them\n", need, strings.Join(names, " "))
	}
	return must(logproof.ParsePolicy([]byte(text)))
}

// TestProveAndVerify: from a log and two witnesses to the verifier.
func TestProveAndVerify(t *testing.T) {
	config := started(t)
	add(t, config, numbered(0, 300)...)
	cosign(t, config.Dir, "w1")
	c := cosign(t, config.Dir, "w2")
	if c.Tree.Size != 300 || c.Key.Name() != "w2.example" {
		t.Errorf("%+v", c)
	}
	r := read(t, config.Dir)
	policy := policyOf(t, 2, "w1", "w2", "w3")
	for _, i := range []int64{0, 1, 255, 256, 298, 299} {
		for _, p := range []*logproof.Policy{nil, policy} {
			proof, err := r.Prove(i, p)
			if err != nil {
				t.Fatal(err)
			}
			logged, err := policy.Verify(proof.Bytes, fmt.Appendf(nil, "entry %d", i))
			if err != nil {
				t.Fatalf("entry %d: %v\n%s", i, err, proof.Bytes)
			}
			if logged.Index != i || logged.Size != 300 || !slices.Equal(logged.Witnesses, []string{"w1", "w2"}) || !logged.At.Equal(testNow) {
				t.Errorf("%+v", logged)
			}
			if !slices.Equal(slices.Sorted(slices.Values(proof.Cosigners)), []string{"w1.example", "w2.example"}) {
				t.Errorf("%q", proof.Cosigners)
			}
			if _, err := policy.Verify(proof.Bytes, []byte("another")); !errors.Is(err, logproof.ErrInclusion) {
				t.Errorf("another entry: %v", err)
			}
		}
	}
	if err := r.Check(nil); err != nil {
		t.Error(err)
	}
}

// TestProveChooses: newer entries come before their cosignatures.
func TestProveChooses(t *testing.T) {
	config := started(t)
	add(t, config, numbered(0, 5)...)
	cosign(t, config.Dir, "w1")
	cosign(t, config.Dir, "w2")
	add(t, config, numbered(5, 9)...)
	cosign(t, config.Dir, "w1")
	add(t, config, "last")
	r := read(t, config.Dir)
	tests := []struct {
		index  int64
		policy *logproof.Policy
		size   int64
		err    error
	}{
		{4, nil, 5, nil}, // most cosignatures
		{5, nil, 9, nil},
		{9, nil, 10, nil},                       // none
		{4, policyOf(t, 1, "w1"), 9, nil},       // the newest that satisfies
		{4, policyOf(t, 2, "w1", "w2"), 5, nil}, //
		{4, policyOf(t, 0), 10, nil},            //
		{8, policyOf(t, 2, "w1", "w2"), 0, logproof.ErrQuorum},
		{9, policyOf(t, 1, "w1"), 0, logproof.ErrQuorum},
		{0, policyOf(t, 1, "w3"), 0, logproof.ErrQuorum},
	}
	for i, tt := range tests {
		proof, err := r.Prove(tt.index, tt.policy)
		if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
			t.Errorf("%d: %v, want %v", i, err, tt.err)
			continue
		}
		if err == nil && proof.Size != tt.size {
			t.Errorf("%d: under size %d, want %d", i, proof.Size, tt.size)
		}
	}
}

// TestCarriedCosignatures: two witnesses work on copies, and their files are
// put together by copying.
func TestCarriedCosignatures(t *testing.T) {
	config := started(t)
	add(t, config, numbered(0, 7)...)
	for _, name := range []string{"w1", "w2"} {
		carried := copyDir(t, config.Dir)
		c := cosign(t, carried, name)
		below, err := filepath.Rel(carried, c.Path)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(config.Dir, below)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			t.Fatal(err)
		}
		put(t, to, string(c.Note))
	}
	r := read(t, config.Dir)
	if _, err := r.Prove(3, policyOf(t, 2, "w1", "w2")); err != nil {
		t.Error(err)
	}
	names, err := r.Cosigners()
	if err != nil || len(names) != 2 {
		t.Errorf("%v, %v", names, err)
	}
}

// TestWitnessFollows: a witness signs what continues, and nothing else.
func TestWitnessFollows(t *testing.T) {
	config := started(t)
	path := filepath.Join(t.TempDir(), "memory")
	w := witness(t, "w1", path)
	if _, err := w.Cosign(config.Dir, testNow); !errors.Is(err, ErrNoMemory) {
		t.Errorf("without a memory: %v", err)
	}
	unknown := w
	unknown.First, unknown.Log = true, nil
	if _, err := unknown.Cosign(config.Dir, testNow); !errors.Is(err, ErrKey) {
		t.Errorf("first, without the log's key: %v", err)
	}
	w.First = true
	if _, err := w.Cosign(config.Dir, testNow); err != nil { // an empty log
		t.Fatal(err)
	}
	if _, err := w.Cosign(config.Dir, testNow); !errors.Is(err, ErrMemory) {
		t.Errorf("first, a second time: %v", err)
	}
	w.First = false
	for _, size := range []int{1, 2, 7, 256, 257, 300, 300} {
		add(t, config, numbered(0, size)...)
		c, err := w.Cosign(config.Dir, testNow)
		if err != nil || c.Tree.Size != int64(size) {
			t.Fatalf("size %d: %+v, %v", size, c, err)
		}
	}
	if err := read(t, config.Dir).Check(nil); err != nil {
		t.Error(err)
	}
}

func TestWitnessRefusals(t *testing.T) {
	config := started(t)
	add(t, config, numbered(0, 10)...)
	before := copyDir(t, config.Dir)
	add(t, config, numbered(10, 20)...)
	path := filepath.Join(t.TempDir(), "memory")
	w := witness(t, "w1", path)
	w.First = true
	if _, err := w.Cosign(config.Dir, testNow); err != nil {
		t.Fatal(err)
	}
	w.First = false
	fork := func(entries ...string) string {
		dir := copyDir(t, before)
		add(t, Config{Dir: dir, Key: testKey("log")}, entries...)
		return dir
	}
	other := testConfig(t)
	other.Key = testKey("other")
	if err := Create(other, testOrigin); err != nil {
		t.Fatal(err)
	}
	damaged := copyDir(t, config.Dir)
	flip(t, filepath.Join(damaged, tilePath(0, 0, 20)))
	if err := os.RemoveAll(filepath.Join(damaged, cosignaturesName)); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		dir  string
		edit func(*Witness)
		at   time.Time
		want error
	}{
		{"an older state", before, nil, testNow, ErrRolledBack},
		{"another history of the same size", fork(numbered(30, 40)...), nil, testNow, ErrForked},
		{"another history that is longer", fork(numbered(30, 60)...), nil, testNow, ErrForked},
		{"another log of the same name", other.Dir, nil, testNow, ErrDamaged},
		{"damaged tiles", damaged, nil, testNow, ErrDamaged},
		{"no log", t.TempDir(), nil, testNow, ErrNoLog},
		{"another log's key", config.Dir, func(w *Witness) {
			w.Log = must(logproof.NewKey("x", logproof.LogKey, testKey("x").Public().(ed25519.PublicKey)))
		}, testNow, ErrKey},
		{"another witness's memory", config.Dir, func(w *Witness) { w.Key = testKey("w2") }, testNow, ErrKey},
		{"another name", config.Dir, func(w *Witness) { w.Name = "w2.example" }, testNow, ErrKey},
		{"the log's own memory", config.Dir, func(w *Witness) { w.Path = config.Memory }, testNow, ErrKey},
		{"a clock before 1970", config.Dir, nil, time.Unix(-1, 0), nil},
		{"no key", config.Dir, func(w *Witness) { w.Key = nil }, testNow, nil},
	}
	memory, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		w := w
		if tt.edit != nil {
			tt.edit(&w)
		}
		c, err := w.Cosign(tt.dir, tt.at)
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
		if c != nil {
			t.Errorf("%s: cosigned", tt.name)
		}
		if now, err := os.ReadFile(path); err != nil || string(now) != string(memory) {
			t.Errorf("%s: the memory changed", tt.name)
		}
		if folders, err := os.ReadDir(filepath.Join(tt.dir, cosignaturesName)); err == nil && tt.dir != config.Dir {
			t.Errorf("%s: something was written: %v", tt.name, folders)
		}
	}
	lock, err := takeLock(path + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if _, err := w.Cosign(config.Dir, testNow); !errors.Is(err, ErrLocked) {
		t.Errorf("two at once: %v", err)
	}
}

// TestMonitor: who only watches notices the same.
func TestMonitor(t *testing.T) {
	config := started(t)
	add(t, config, "a")
	before := copyDir(t, config.Dir)
	m := Memory{Path: filepath.Join(t.TempDir(), "memory"), Log: logKey(t), First: true}
	if _, err := m.Observe(config.Dir, nil); err != nil {
		t.Fatal(err)
	}
	m.First, m.Log = false, nil
	add(t, config, "b")
	stop := errors.New("stop")
	for range 2 { // what the check refuses is not remembered
		_, err := m.Observe(config.Dir, func(r *Reader, seen int64) error {
			if seen != 1 || r.Checkpoint().Size != 2 {
				t.Errorf("%d entries after %d", r.Checkpoint().Size, seen)
			}
			return stop
		})
		if !errors.Is(err, stop) {
			t.Fatalf("%v", err)
		}
	}
	r, err := m.Observe(config.Dir, nil)
	if err != nil || r.Checkpoint().Size != 2 {
		t.Fatalf("%v", err)
	}
	if _, err := m.Observe(before, nil); !errors.Is(err, ErrRolledBack) {
		t.Errorf("%v", err)
	}
	add(t, Config{Dir: before, Key: testKey("log")}, "c", "d")
	if _, err := m.Observe(before, nil); !errors.Is(err, ErrForked) {
		t.Errorf("%v", err)
	}
}

// TestForeignCosignatures: a file among the cosignatures that is not of this
// tree is not used in silence.
func TestForeignCosignatures(t *testing.T) {
	config := started(t)
	add(t, config, numbered(0, 5)...)
	fork := copyDir(t, config.Dir)
	add(t, config, "a")
	add(t, Config{Dir: fork, Key: testKey("log")}, "b")
	cosign(t, config.Dir, "w1")
	forked := cosign(t, fork, "w2")
	path := filepath.Join(config.Dir, cosignaturesName, "6", filepath.Base(forked.Path))
	for name, tt := range map[string]struct {
		content string
		want    error
	}{
		"of a fork":       {string(forked.Note), ErrForked},
		"of another size": {string(cosign(t, copyDir(t, startedWith(t, "x")), "w2").Note), ErrDamaged},
		"without the log": {strings.Replace(string(forked.Note), "— "+testOrigin, "— other", 1), ErrDamaged},
		"empty":           {"", ErrDamaged},
	} {
		put(t, path, tt.content)
		r := read(t, config.Dir)
		if _, err := r.Prove(0, nil); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
		if err := r.Check(nil); !errors.Is(err, tt.want) {
			t.Errorf("%s: check: %v, want %v", name, err, tt.want)
		}
	}
	remove(t, path)
	put(t, filepath.Join(filepath.Dir(path), "README"), "not a cosignature\n")
	if proof, err := read(t, config.Dir).Prove(0, nil); err != nil || len(proof.Cosigners) != 1 {
		t.Errorf("%v", err)
	}
}

func startedWith(t testing.TB, entries ...string) string {
	config := started(t)
	add(t, config, entries...)
	return config.Dir
}
