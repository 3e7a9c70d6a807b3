package main

import (
	"os"
	"strings"
	"testing"
)

// TestEngineReferenceIsApart: the reference stays out of the product's module, and in a
// version whose content is fixed.
func TestEngineReferenceIsApart(t *testing.T) {
	for path, want := range map[string]bool{
		"../../go.mod": false, "../../go.sum": false, "wasmtime/go.mod": true, "wasmtime/go.sum": true,
	} {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(string(raw), "bytecodealliance/wasmtime-go"); got != want {
			t.Errorf("%s names Wasmtime: %v, want %v", path, got, want)
		}
	}
}

func TestKernelsHaveNames(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range kernels {
		if seen[k.name] || !strings.HasSuffix(k.module, ".wasm") {
			t.Errorf("%+v", k)
		}
		seen[k.name] = true
	}
}
