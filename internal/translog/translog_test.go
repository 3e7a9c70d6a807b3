package translog

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/phasebased/phase/logproof"
)

const testOrigin = "log.example/boot"

var testNow = time.Date(2026, 10, 1, 12, 0, 0, 0, time.UTC)

func testKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("phase translog test key " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func testConfig(t testing.TB) Config {
	t.Helper()
	dir := t.TempDir()
	return Config{Dir: filepath.Join(dir, "log"), Key: testKey("log"), Memory: filepath.Join(dir, "log.memory")}
}

// started is the configuration of a new log.
func started(t testing.TB) Config {
	t.Helper()
	config := testConfig(t)
	if err := Create(config, testOrigin); err != nil {
		t.Fatal(err)
	}
	return config
}

func open(t testing.TB, config Config) *Log {
	t.Helper()
	l, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// add opens the log, adds and closes it, as a command does.
func add(t testing.TB, config Config, entries ...string) []int64 {
	t.Helper()
	l, err := Open(config)
	if err != nil {
		t.Fatal(err)
	}
	indexes, err := l.Add(raws(entries)...)
	if err := errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	return indexes
}

func raws(entries []string) (all [][]byte) {
	for _, e := range entries {
		all = append(all, []byte(e))
	}
	return all
}

// numbered are the entries from..to-1.
func numbered(from, to int) (entries []string) {
	for i := from; i < to; i++ {
		entries = append(entries, fmt.Sprintf("entry %d", i))
	}
	return entries
}

func read(t testing.TB, dir string) *Reader {
	t.Helper()
	r, err := Read(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// check demands that the log is whole and holds exactly these entries.
func check(t testing.TB, dir string, want []string) {
	t.Helper()
	var got []string
	r := read(t, dir)
	err := r.Check(func(index int64, entry []byte) error {
		if index != int64(len(got)) {
			return fmt.Errorf("entry %d comes after %d", index, len(got))
		}
		got = append(got, string(entry))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%d entries, want %d", len(got), len(want))
	}
	if r.tree.Root != merkleRoot(want) {
		t.Fatalf("root of %d entries", len(want))
	}
}

// merkleRoot is RFC 6962, section 2.1, to the letter.
func merkleRoot(entries []string) tlog.Hash {
	switch n := len(entries); n {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return sha256.Sum256([]byte("\x00" + entries[0]))
	default:
		k := 1
		for 2*k < n {
			k *= 2
		}
		left, right := merkleRoot(entries[:k]), merkleRoot(entries[k:])
		return sha256.Sum256([]byte("\x01" + string(left[:]) + string(right[:])))
	}
}

// TestKnownRoots uses the leaves and roots with which implementations of
// RFC 6962 are commonly tested.
func TestKnownRoots(t *testing.T) {
	leaves := []string{"", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"}
	roots := []string{
		"6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
		"fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
		"aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
		"d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
		"4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
		"76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
		"ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
		"5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
	}
	var s stack
	var entries []string
	for i, leaf := range leaves {
		raw, err := hex.DecodeString(leaf)
		if err != nil {
			t.Fatal(err)
		}
		s.push(tlog.RecordHash(raw))
		entries = append(entries, string(raw))
		root, other := s.root(), merkleRoot(entries)
		if hex.EncodeToString(root[:]) != roots[i] || root != other {
			t.Errorf("%d leaves: %x, %x, want %s", i+1, root, other, roots[i])
		}
	}
}

// TestTilePath uses the examples of C2SP tlog-tiles.
func TestTilePath(t *testing.T) {
	for want, got := range map[string]string{
		"tile/0/x001/x234/067":      tilePath(0, 1234067, 256),
		"tile/63/000":               tilePath(63, 0, 256),
		"tile/1/999.p/17":           tilePath(1, 999, 17),
		"tile/entries/x001/000":     tilePath(entriesLevel, 1000, 256),
		"tile/entries/273.p/112":    tilePath(entriesLevel, 273, 112),
		"tile/2/x001/x000/000.p/1":  tilePath(2, 1000000, 1),
		"tile/entries/x012/345.p":   partialDir(entriesLevel, 12345),
		"tile/0/x999/x999/x999/999": tilePath(0, 999999999999, 256),
	} {
		if filepath.ToSlash(got) != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// TestLayout: the files of a log of 70,000 entries are those that C2SP
// tlog-tiles counts in its example.
func TestLayout(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 70,000 entries")
	}
	config := started(t)
	l := open(t, config)
	entries := numbered(0, 70000)
	for batch := range slices.Chunk(entries, MaxBatch) {
		if _, err := l.Add(raws(batch)...); err != nil {
			t.Fatal(err)
		}
	}
	count := map[string]int{}
	err := filepath.WalkDir(filepath.Join(config.Dir, "tile"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, _ := filepath.Rel(config.Dir, path)
		parts := strings.Split(filepath.ToSlash(name), "/")
		if strings.Contains(name, ".p") {
			count[parts[1]+" "+parts[len(parts)-2]+"/"+parts[len(parts)-1]]++
		} else {
			count[parts[1]]++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]int{
		"0": 273, "0 273.p/112": 1, "1": 1, "1 001.p/17": 1, "2 000.p/1": 1, "entries": 273, "entries 273.p/112": 1,
	} {
		if count[name] != want {
			t.Errorf("%s: %d files, want %d", name, count[name], want)
		}
	}
	check(t, config.Dir, entries)
	checkMemoryUse(t, l)
}

// checkMemoryUse: the memory that is held while a log is read does not depend
// on how much of it has been read, nor does what adding leaves behind.
func checkMemoryUse(t *testing.T, l *Log) {
	t.Helper()
	held := func() uint64 {
		var stats runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	var early, late uint64
	err := l.Reader().Check(func(index int64, _ []byte) error {
		switch index {
		case 1000:
			early = held()
		case 69000:
			late = held()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if late > early+256<<10 {
		t.Errorf("%d bytes after 1000 entries, %d after 69000", early, late)
	}
	if _, err := l.Add([]byte("one more")); err != nil {
		t.Fatal(err)
	}
	if now := held(); now > early+256<<10 {
		t.Errorf("%d bytes while reading, %d after adding", early, now)
	}
}

// TestGrow adds in steps of many widths and reads everything back after each.
func TestGrow(t *testing.T) {
	config := started(t)
	check(t, config.Dir, nil)
	size := 0
	for _, step := range []int{1, 1, 2, 5, 90, 156, 1, 1, 255, 256, 257, 3} {
		indexes := add(t, config, numbered(size, size+step)...)
		for i, index := range indexes {
			if index != int64(size+i) {
				t.Fatalf("entry %d has index %d", size+i, index)
			}
		}
		size += step
		check(t, config.Dir, numbered(0, size))
	}
	if _, err := os.Lstat(filepath.Join(config.Dir, partialDir(0, 0))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("partial versions of a full tile: %v", err)
	}
}

// TestAgainstSumdb: package tlog, storing hashes in its own way, comes to the
// same tiles.
func TestAgainstSumdb(t *testing.T) {
	config := started(t)
	entries := numbered(0, 600)
	add(t, config, entries[:300]...)
	add(t, config, entries[300:]...)
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, i := range indexes {
			out = append(out, stored[i])
		}
		return out, nil
	})
	for i, e := range entries {
		hashes, err := tlog.StoredHashes(int64(i), []byte(e), reader)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, hashes...)
	}
	for _, tile := range tlog.NewTiles(tileHeight, 0, 600) {
		want, err := tlog.ReadTileData(tile, reader)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(config.Dir, tilePath(tile.L, tile.N, tile.W)))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%v: %v", tile, err)
		}
	}
	if root, err := tlog.TreeHash(600, reader); err != nil || root != read(t, config.Dir).tree.Root {
		t.Errorf("root %v, %v", root, err)
	}
}

func TestAddIsIdempotent(t *testing.T) {
	config := started(t)
	l := open(t, config)
	got, err := l.Add(raws([]string{"a", "b", "a", "c"})...)
	if err != nil || !slices.Equal(got, []int64{0, 1, 0, 2}) {
		t.Fatalf("%v, %v", got, err)
	}
	before := l.Reader().signed
	if got, err = l.Add([]byte("b")); err != nil || !slices.Equal(got, []int64{1}) {
		t.Fatalf("%v, %v", got, err)
	}
	if !bytes.Equal(l.Reader().signed, before) {
		t.Error("nothing was new, and there is a new checkpoint")
	}
	if got, err = l.Add(raws([]string{"d", "c", "d"})...); err != nil || !slices.Equal(got, []int64{3, 2, 3}) {
		t.Fatalf("%v, %v", got, err)
	}
	if got, err = l.Add(); err != nil || len(got) != 0 {
		t.Errorf("%v, %v", got, err)
	}
	check(t, config.Dir, []string{"a", "b", "c", "d"})
}

func TestEntryLimits(t *testing.T) {
	l := open(t, started(t))
	for name, entries := range map[string][][]byte{
		"empty":    {nil},
		"large":    {make([]byte, MaxEntrySize+1)},
		"many":     make([][]byte, MaxBatch+1),
		"together": slices.Repeat([][]byte{make([]byte, MaxEntrySize)}, 129),
	} {
		if name == "many" {
			for i := range entries {
				entries[i] = []byte{1}
			}
		}
		if _, err := l.Add(entries...); !errors.Is(err, ErrEntry) {
			t.Errorf("%s: %v", name, err)
		}
	}
	large := bytes.Repeat([]byte("x"), MaxEntrySize)
	if _, err := l.Add(large, []byte("\x00\n\n\x00")); err != nil {
		t.Fatal(err)
	}
	check(t, l.config.Dir, []string{string(large), "\x00\n\n\x00"})
}

func TestFind(t *testing.T) {
	config := started(t)
	add(t, config, numbered(0, 300)...)
	r := read(t, config.Dir)
	for _, i := range []int64{0, 255, 256, 299} {
		if got, err := r.Find(fmt.Appendf(nil, "entry %d", i)); err != nil || got != i {
			t.Errorf("%d, %v, want %d", got, err, i)
		}
		if got, err := r.Entry(i); err != nil || string(got) != fmt.Sprintf("entry %d", i) {
			t.Errorf("%q, %v", got, err)
		}
	}
	if _, err := r.Find([]byte("entry 300")); !errors.Is(err, ErrNotLogged) {
		t.Errorf("%v", err)
	}
	for _, i := range []int64{-1, 300} {
		if _, err := r.Entry(i); !errors.Is(err, ErrNotLogged) {
			t.Errorf("entry %d: %v", i, err)
		}
		if _, err := r.Prove(i, nil); !errors.Is(err, ErrNotLogged) {
			t.Errorf("proof %d: %v", i, err)
		}
	}
}

// TestReaderOutlivesAdditions: what was read once stays readable, also where
// partial tiles have been replaced by full ones.
func TestReaderOutlivesAdditions(t *testing.T) {
	config := started(t)
	add(t, config, numbered(0, 200)...)
	old := read(t, config.Dir)
	add(t, config, numbered(200, 600)...)
	if index, err := old.Find([]byte("entry 150")); err != nil || index != 150 {
		t.Errorf("%d, %v", index, err)
	}
	if _, err := old.Prove(150, nil); err != nil {
		t.Error(err)
	}
}

func TestCreateRefusals(t *testing.T) {
	config := started(t)
	if err := Create(config, testOrigin); !errors.Is(err, ErrExists) {
		t.Errorf("a second time: %v", err)
	}
	// The folder is gone, but the key has signed entries.
	add(t, config, "a")
	if err := os.RemoveAll(config.Dir); err != nil {
		t.Fatal(err)
	}
	if err := Create(config, testOrigin); !errors.Is(err, ErrExists) {
		t.Errorf("over a memory: %v", err)
	}
	other := testConfig(t)
	other.Memory = config.Memory
	other.Key = testKey("other")
	if err := Create(other, testOrigin); !errors.Is(err, ErrExists) {
		t.Errorf("over the memory of another log: %v", err)
	}
	for _, name := range []string{"tile", "pending", "cosignatures"} {
		config := testConfig(t)
		if err := os.MkdirAll(filepath.Join(config.Dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := Create(config, testOrigin); !errors.Is(err, ErrExists) {
			t.Errorf("beside %s: %v", name, err)
		}
	}
	if err := Create(Config{Dir: t.TempDir(), Key: testKey("a")[:31]}, testOrigin); err == nil {
		t.Error("a short key was accepted")
	}
	if err := Create(Config{Dir: t.TempDir(), Key: testKey("a")}, "two words"); err == nil {
		t.Error("an origin that cannot stand in a note was accepted")
	}
}

// TestCreateContinues: an interrupted Create can be repeated, by the same key.
func TestCreateContinues(t *testing.T) {
	config := started(t)
	if err := os.Remove(filepath.Join(config.Dir, checkpointName)); err != nil {
		t.Fatal(err)
	}
	other := config
	other.Key = testKey("other")
	if err := Create(other, testOrigin); !errors.Is(err, ErrExists) {
		t.Errorf("by another key: %v", err)
	}
	if err := Create(config, testOrigin); err != nil {
		t.Error(err)
	}
	add(t, config, "a")
}

func TestOpenRefusals(t *testing.T) {
	tests := map[string]struct {
		break_ func(t *testing.T, config *Config)
		want   error
	}{
		"nothing there":  {func(t *testing.T, c *Config) { c.Dir = t.TempDir() }, ErrNoLog},
		"other key":      {func(t *testing.T, c *Config) { c.Key = testKey("other") }, ErrKey},
		"memory missing": {func(t *testing.T, c *Config) { c.Memory += "x" }, ErrNoMemory},
		"memory damaged": {func(t *testing.T, c *Config) { edit(t, c.Memory, "\n300\n", "\n200\n") }, ErrMemory},
		"memory empty":   {func(t *testing.T, c *Config) { put(t, c.Memory, "") }, ErrMemory},
		"memory of another log": {func(t *testing.T, c *Config) {
			other := testConfig(t)
			other.Key = testKey("other")
			if err := Create(other, "other.example"); err != nil {
				t.Fatal(err)
			}
			c.Memory = other.Memory
		}, ErrMemory},
		"checkpoint of another size": {func(t *testing.T, c *Config) {
			edit(t, filepath.Join(c.Dir, checkpointName), "\n300\n", "\n299\n")
		}, ErrDamaged},
		"checkpoint empty": {func(t *testing.T, c *Config) { put(t, filepath.Join(c.Dir, checkpointName), "") }, ErrDamaged},
		"no public key":    {func(t *testing.T, c *Config) { remove(t, filepath.Join(c.Dir, keyName)) }, ErrDamaged},
		"other public key": {func(t *testing.T, c *Config) {
			signer, err := newSigner(testOrigin, testKey("other"))
			if err != nil {
				t.Fatal(err)
			}
			put(t, filepath.Join(c.Dir, keyName), signer.String()+"\n")
		}, ErrDamaged},
		"last tile missing":  {func(t *testing.T, c *Config) { remove(t, filepath.Join(c.Dir, tilePath(0, 1, 44))) }, ErrDamaged},
		"last tile changed":  {func(t *testing.T, c *Config) { flip(t, filepath.Join(c.Dir, tilePath(0, 1, 44))) }, ErrDamaged},
		"upper tile changed": {func(t *testing.T, c *Config) { flip(t, filepath.Join(c.Dir, tilePath(1, 0, 1))) }, ErrDamaged},
		"entries beyond": {func(t *testing.T, c *Config) {
			put(t, filepath.Join(c.Dir, tilePath(entriesLevel, 1, 45)), "x")
		}, ErrRolledBack},
		"full bundle beyond": {func(t *testing.T, c *Config) {
			put(t, filepath.Join(c.Dir, tilePath(entriesLevel, 1, 256)), "x")
		}, ErrRolledBack},
		"cosigned beyond": {func(t *testing.T, c *Config) {
			if err := os.MkdirAll(filepath.Join(c.Dir, cosignaturesName, "301"), 0o755); err != nil {
				t.Fatal(err)
			}
		}, ErrRolledBack},
		"pending is nothing": {func(t *testing.T, c *Config) { put(t, filepath.Join(c.Dir, pendingName), "x") }, ErrDamaged},
		"pending of another tree": {func(t *testing.T, c *Config) {
			p := pending{logproof.Checkpoint{Size: 5}, logproof.Checkpoint{Size: 6}, raws([]string{"x"})}
			put(t, filepath.Join(c.Dir, pendingName), string(p.bytes()))
		}, ErrRolledBack},
		"pending leads elsewhere": {func(t *testing.T, c *Config) {
			tree := read(t, c.Dir).tree
			p := pending{tree, logproof.Checkpoint{Size: 301}, raws([]string{"x"})}
			put(t, filepath.Join(c.Dir, pendingName), string(p.bytes()))
		}, ErrDamaged},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			config := started(t)
			add(t, config, numbered(0, 300)...)
			before := config
			tt.break_(t, &config)
			l, err := Open(config)
			if !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
			if l != nil {
				t.Error("a log beside an error")
			}
			if tt.want != ErrNoLog && tt.want != ErrDamaged {
				if tree := read(t, before.Dir).tree; tree.Size != 300 {
					t.Errorf("the log was changed: %d entries", tree.Size)
				}
			}
			var hinted interface{ Hint() string }
			if !errors.As(err, &hinted) || hinted.Hint() == "" {
				t.Errorf("no hint for %v", err)
			}
		})
	}
}

// TestAddToDamage: what Open does not read, Add does.
func TestAddToDamage(t *testing.T) {
	for name, path := range map[string]string{
		"leaves":             tilePath(0, 0, 256),
		"entries to append":  tilePath(entriesLevel, 1, 44),
		"leaves of the edge": tilePath(0, 1, 44),
	} {
		config := started(t)
		add(t, config, numbered(0, 300)...)
		l := open(t, config)
		flip(t, filepath.Join(config.Dir, path))
		if _, err := l.Add([]byte("x")); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		if got := read(t, config.Dir).tree.Size; got != 300 {
			t.Errorf("%s: %d entries", name, got)
		}
	}
}

// TestAddNeverOverwrites: a file in the place of a new tile stops Add, and the
// Log stays stopped.
func TestAddNeverOverwrites(t *testing.T) {
	config := started(t)
	add(t, config, "a")
	l := open(t, config)
	put(t, filepath.Join(config.Dir, tilePath(0, 0, 2)), strings.Repeat("x", 64))
	for range 2 {
		if _, err := l.Add([]byte("b")); !errors.Is(err, ErrUnfinished) || !errors.Is(err, ErrDamaged) {
			t.Errorf("%v", err)
		}
	}
	if got := read(t, config.Dir).tree.Size; got != 1 {
		t.Errorf("%d entries", got)
	}
}

// TestRolledBack: old states that are whole in themselves are noticed.
func TestRolledBack(t *testing.T) {
	config := started(t)
	add(t, config, numbered(0, 10)...)
	backup := copyDir(t, config.Dir)
	add(t, config, numbered(10, 20)...)

	old := config
	old.Dir = backup
	if _, err := Open(old); !errors.Is(err, ErrRolledBack) {
		t.Errorf("a folder of yesterday: %v", err)
	}
	// The same folder with other entries would be a fork.
	forgetful := old
	forgetful.Memory = ""
	add(t, forgetful, "other 10", "other 11", "other 12", "other 13", "other 14", "other 15", "other 16", "other 17", "other 18", "other 19", "other 20")
	if _, err := Open(old); !errors.Is(err, ErrForked) {
		t.Errorf("another history: %v", err)
	}
}

func TestCheckpointPutBack(t *testing.T) {
	config := started(t)
	add(t, config, numbered(0, 10)...)
	checkpoint, err := os.ReadFile(filepath.Join(config.Dir, checkpointName))
	if err != nil {
		t.Fatal(err)
	}
	for _, more := range []int{11, 256, 300} {
		config := config
		config.Dir = copyDir(t, config.Dir)
		config.Memory = ""
		add(t, config, numbered(10, more)...)
		put(t, filepath.Join(config.Dir, checkpointName), string(checkpoint))
		if _, err := Open(config); !errors.Is(err, ErrRolledBack) {
			t.Errorf("from %d entries: %v", more, err)
		}
		if err := read(t, config.Dir).Check(nil); !errors.Is(err, ErrRolledBack) {
			t.Errorf("check, from %d entries: %v", more, err)
		}
	}
}

// TestFirst begins a memory that was lost.
func TestFirst(t *testing.T) {
	config := started(t)
	add(t, config, "a")
	remove(t, config.Memory)
	if _, err := Open(config); !errors.Is(err, ErrNoMemory) {
		t.Fatalf("%v", err)
	}
	config.First = true
	add(t, config, "b")
	config.First = false
	add(t, config, "c")
	check(t, config.Dir, []string{"a", "b", "c"})
}

func TestLock(t *testing.T) {
	config := started(t)
	l := open(t, config)
	if _, err := Open(config); !errors.Is(err, ErrLocked) {
		t.Errorf("a second writer: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, config)
}

// TestCheckFindsDamage changes every file of a log, one at a time.
func TestCheckFindsDamage(t *testing.T) {
	config := started(t)
	add(t, config, numbered(0, 10)...)
	add(t, config, numbered(10, 256)...)
	add(t, config, numbered(256, 300)...)
	add(t, config, numbered(300, 310)...)
	cosign(t, config.Dir, "w1")
	count := 0
	err := filepath.WalkDir(config.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == lockName {
			return err
		}
		count++
		before, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for how, damage := range map[string]func(){
			"flip":   func() { flip(t, path) },
			"empty":  func() { put(t, path, "") },
			"longer": func() { put(t, path, string(before)+"x") },
		} {
			damage()
			r, err := Read(config.Dir, nil)
			if err == nil {
				err = r.Check(nil)
			}
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("%s, %s: %v", path, how, err)
			}
			put(t, path, string(before))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if count < 8 {
		t.Errorf("only %d files", count)
	}
	check(t, config.Dir, numbered(0, 310))
}

func TestCheckRefusals(t *testing.T) {
	for name, tt := range map[string]struct {
		do   func(t *testing.T, dir string)
		want error
	}{
		"full tile beyond":    {func(t *testing.T, dir string) { put(t, filepath.Join(dir, tilePath(0, 1, 256)), "x") }, ErrRolledBack},
		"partial tile beyond": {func(t *testing.T, dir string) { put(t, filepath.Join(dir, tilePath(0, 1, 45)), "x") }, ErrRolledBack},
		"upper tile beyond":   {func(t *testing.T, dir string) { put(t, filepath.Join(dir, tilePath(1, 0, 2)), "x") }, ErrRolledBack},
		"entries beyond":      {func(t *testing.T, dir string) { put(t, filepath.Join(dir, tilePath(entriesLevel, 1, 45)), "x") }, ErrRolledBack},
		"stranger's file": {func(t *testing.T, dir string) {
			put(t, filepath.Join(dir, partialDir(0, 1), "notes.txt"), "x")
		}, ErrDamaged},
		"interrupted": {func(t *testing.T, dir string) { put(t, filepath.Join(dir, pendingName), "x") }, ErrUnfinished},
		"left by a crash, harmless": {func(t *testing.T, dir string) {
			put(t, filepath.Join(dir, partialDir(0, 1), ".durable-123"), "x")
		}, nil},
	} {
		config := started(t)
		add(t, config, numbered(0, 300)...)
		tt.do(t, config.Dir)
		if err := read(t, config.Dir).Check(nil); !errors.Is(err, tt.want) {
			t.Errorf("%s: got %v, want %v", name, err, tt.want)
		}
	}
	config := started(t)
	add(t, config, "a")
	stop := errors.New("stop")
	if err := read(t, config.Dir).Check(func(int64, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("%v", err)
	}
	if _, err := Read(config.Dir, must(logproof.NewKey(testOrigin, logproof.LogKey, testKey("other").Public().(ed25519.PublicKey)))); !errors.Is(err, ErrDamaged) {
		t.Errorf("under another key: %v", err)
	}
}

// TestNotesAreNotes: package note reads our checkpoints.
func TestNotesAreNotes(t *testing.T) {
	config := started(t)
	add(t, config, "a")
	vkey, err := os.ReadFile(filepath.Join(config.Dir, keyName))
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(string(vkey)))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(config.Dir, checkpointName))
	if err != nil {
		t.Fatal(err)
	}
	opened, err := note.Open(raw, note.VerifierList(verifier))
	if err != nil {
		t.Fatal(err)
	}
	if want := testOrigin + "\n1\n" + tlog.RecordHash([]byte("a")).String() + "\n"; opened.Text != want {
		t.Errorf("%q, want %q", opened.Text, want)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func put(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func remove(t testing.TB, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}

// flip changes one bit in the middle of a file.
func flip(t testing.TB, path string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	put(t, path, string(raw))
}

func edit(t testing.TB, path, from, to string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(raw, []byte(from)) {
		t.Fatalf("%s: no %q", path, from)
	}
	put(t, path, strings.Replace(string(raw), from, to, 1))
}

func copyDir(t testing.TB, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// BenchmarkAdd adds one entry to a log. Looking for an equal entry reads all
// leaf hashes, one tile after the other; the bytes that are reported are those
// tiles, never held together.
func BenchmarkAdd(b *testing.B) {
	for _, size := range []int{1000, 100_000} {
		b.Run(fmt.Sprintf("log=%d", size), func(b *testing.B) {
			config := started(b)
			l := open(b, config)
			for batch := range slices.Chunk(numbered(0, size), MaxBatch) {
				if _, err := l.Add(raws(batch)...); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			next := 0
			for b.Loop() {
				if _, err := l.Add(fmt.Appendf(nil, "more %d", next)); err != nil {
					b.Fatal(err)
				}
				next++
			}
		})
	}
}

func BenchmarkCheck(b *testing.B) {
	config := started(b)
	l := open(b, config)
	for batch := range slices.Chunk(numbered(0, 100_000), MaxBatch) {
		if _, err := l.Add(raws(batch)...); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Reader().Check(nil); err != nil {
			b.Fatal(err)
		}
	}
}
