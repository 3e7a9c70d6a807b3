package release

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestCompareTrees(t *testing.T) {
	large := bytes.Repeat([]byte("0123456789"), 300_000)
	files := func(change func(m map[string][]byte)) string {
		m := map[string][]byte{"a/kernel": large, "media/SHA256SUMS": []byte("list"), ".publishing": nil}
		change(m)
		dir := t.TempDir()
		for name, data := range m {
			path := filepath.Join(dir, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644)); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	first := files(func(map[string][]byte) {})
	for name, tt := range map[string]struct {
		change func(m map[string][]byte)
		want   DifferenceError // zero: none
	}{
		"the same":           {func(map[string][]byte) {}, DifferenceError{}},
		"an older file more": {func(m map[string][]byte) { delete(m, "a/kernel") }, DifferenceError{}},
		"another lock":       {func(m map[string][]byte) { m[".publishing"] = []byte("x") }, DifferenceError{}},
		"a file more":        {func(m map[string][]byte) { m["a/rootfs"] = nil }, DifferenceError{"a/rootfs", -1}},
		"one byte": {func(m map[string][]byte) {
			m["a/kernel"] = bytes.Clone(large)
			m["a/kernel"][1<<20+77] = 'x'
		}, DifferenceError{"a/kernel", 1<<20 + 77}},
		"longer":  {func(m map[string][]byte) { m["media/SHA256SUMS"] = []byte("list\n") }, DifferenceError{"media/SHA256SUMS", 4}},
		"shorter": {func(m map[string][]byte) { m["media/SHA256SUMS"] = []byte("lis") }, DifferenceError{"media/SHA256SUMS", 3}},
	} {
		err := CompareTrees(first, files(tt.change), func() error { return nil })
		var got *DifferenceError
		switch errors.As(err, &got); {
		case tt.want.Name == "" && err != nil, tt.want.Name != "" && (got == nil || *got != tt.want || got.Hint() == ""):
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	if err := CompareTrees(first, first, func() error { return context.Canceled }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
