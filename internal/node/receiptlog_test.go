package node

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phasebased/phase/receipt"
)

func fillLog(t *testing.T, dir string, from, to int, maxBytes int64) {
	t.Helper()
	l, err := openReceiptLog(dir, maxBytes, 3)
	if err != nil {
		t.Fatal(err)
	}
	for i := from; i < to; i++ {
		if err := l.Add(fmt.Appendf(nil, `{"receipt":%d}`, i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Add(make([]byte, receipt.MaxBytes+1)); !errors.Is(err, receipt.ErrSize) {
		t.Errorf("too large: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestReceiptLogIsAChain(t *testing.T) {
	dir := t.TempDir()
	fillLog(t, dir, 0, 10, 1<<20)
	path := filepath.Join(dir, receiptLogName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := CheckReceiptLog(dir); n != 10 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	lines := bytes.SplitAfter(whole, []byte("\n"))
	for name, broken := range map[string][]byte{
		"changed":     bytes.Replace(whole, []byte(`{"receipt":4}`), []byte(`{"receipt":9}`), 1),
		"taken out":   bytes.Join(append(append([][]byte{}, lines[:4]...), lines[5:]...), nil),
		"put twice":   bytes.Join(append(append([][]byte{}, lines[:5]...), lines[4:]...), nil),
		"exchanged":   bytes.Join(append(append(append([][]byte{}, lines[:3]...), lines[4], lines[3]), lines[5:]...), nil),
		"first gone":  bytes.Join(lines[1:], nil),
		"not JSON":    append(append([]byte{}, whole...), "{}}\n"...),
		"endless":     append(append([]byte{}, whole...), strings.Repeat("x", maxLine+1)...),
		"other names": bytes.Replace(whole, []byte(`"prev"`), []byte(`"Prev"`), 1),
	} {
		if err := os.WriteFile(path, broken, 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := OpenReceiptLog(dir)
		if err == nil {
			t.Errorf("%s: opened", name)
		}
		if _, checked := CheckReceiptLog(dir); checked == nil {
			t.Errorf("%s: not noticed", name)
		}
		if left, _ := os.ReadFile(path); !bytes.Equal(left, broken) {
			t.Errorf("%s: not left alone", name)
		}
	}
	torn := append(bytes.Clone(whole), `{"n":11,"pre`...)
	if err := os.WriteFile(path, torn, 0o644); err != nil {
		t.Fatal(err)
	}
	fillLog(t, dir, 10, 12, 1<<20)
	if n, err := CheckReceiptLog(dir); n != 12 || err != nil {
		t.Errorf("after a torn line: %d, %v", n, err)
	}
}

func TestReceiptLogIsBounded(t *testing.T) {
	dir := t.TempDir()
	for i := range 10 {
		fillLog(t, dir, 20*i, 20*i+20, 1<<10)
	}
	files, err := filepath.Glob(filepath.Join(dir, receiptLogPrefix+"*"))
	if err != nil || len(files) != 3 {
		t.Errorf("%d files put aside, %v", len(files), err)
	}
	if n, err := CheckReceiptLog(dir); n < 10 || n > 50 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if err := os.Remove(files[1]); err != nil {
		t.Fatal(err)
	}
	var hole *ChainError
	if _, err := CheckReceiptLog(dir); !errors.As(err, &hole) || hole.Line != 1 {
		t.Errorf("a file is missing: %v", err)
	}
}

func FuzzJournalLine(f *testing.F) {
	f.Add([]byte(`{"begin":"sha256:120970d812836f19888625587a4606a5ad23cef31c8684e601771552548fc6b9"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		if _, err := parseEntry(line); err == nil && !bytes.HasPrefix(bytes.TrimSpace(line), []byte("{")) {
			t.Fatalf("accepted %q", line)
		}
		_, _ = chainStart.next(line)
		if _, err := readLines(bytes.NewReader(line), func([]byte) error { return nil }); err != nil {
			t.Fatal(err) // only a line beyond maxLine may fail
		}
	})
}
