package translog

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// FuzzParseBundle: what is accepted is written the same.
func FuzzParseBundle(f *testing.F) {
	f.Add([]byte("\x00\x01a\x00\x00\x00\x02bc"), uint8(3))
	f.Fuzz(func(t *testing.T, data []byte, count uint8) {
		entries, err := parseBundle(data, int(count))
		if err != nil {
			return
		}
		var again []byte
		for _, entry := range entries {
			again = appendEntry(again, entry)
		}
		if len(entries) != int(count) || !bytes.Equal(again, data) {
			t.Fatalf("%q is written %q", data, again)
		}
	})
}

// FuzzParsePending: what is accepted has the number of entries that it says.
func FuzzParsePending(f *testing.F) {
	f.Add([]byte(pendingSeed(f)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := parsePending(raw)
		if err != nil {
			return
		}
		if int64(len(p.entries)) != p.target.Size-p.base.Size || len(p.entries) == 0 {
			t.Fatalf("%d entries from %d to %d", len(p.entries), p.base.Size, p.target.Size)
		}
	})
}

// FuzzParseMemory: what is accepted is a checkpoint that the log signed. Its
// key is not in the fuzzer's hands, but the fuzzer may bring a log of its own.
func FuzzParseMemory(f *testing.F) {
	f.Add([]byte(memorySeed(f)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := parseMemory(raw)
		if err != nil {
			return
		}
		if tree, err := openCheckpoint(m.signed, m.log); err != nil || tree.Size != m.tree.Size {
			t.Fatalf("%v", err)
		}
		if !bytes.Equal(m.bytes(), raw) {
			t.Fatalf("%q is written %q", raw, m.bytes())
		}
	})
}

func pendingSeed(t testing.TB) string {
	t.Helper()
	p, err := open(t, started(t)).plan(raws([]string{"a", "bc"}))
	if err != nil {
		t.Fatal(err)
	}
	return string(p.steps[0].data)
}

func memorySeed(t testing.TB) string {
	t.Helper()
	config := started(t)
	raw, err := os.ReadFile(config.Memory)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// TestFuzzSeeds keeps the committed corpus in step with the formats. Remove a
// file to have it written anew.
func TestFuzzSeeds(t *testing.T) {
	for name, content := range map[string]string{
		"FuzzParseBundle/three": "[]byte(\"\\x00\\x01a\\x00\\x00\\x00\\x02bc\")\nbyte('\\x03')\n",
		"FuzzParsePending/two":  fmt.Sprintf("[]byte(%s)\n", strconv.Quote(pendingSeed(t))),
		"FuzzParseMemory/empty": fmt.Sprintf("[]byte(%s)\n", strconv.Quote(memorySeed(t))),
	} {
		path, content := filepath.Join("testdata", "fuzz", name), "go test fuzz v1\n"+content
		got, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			put(t, path, content)
			t.Errorf("%s: written anew, run the test again", path)
		} else if err != nil || string(got) != content {
			t.Errorf("%s: not what this test would write: %v", path, err)
		}
	}
}
