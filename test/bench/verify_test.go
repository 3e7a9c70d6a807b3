package main

import "testing"

// TestVerifyFigures: what is measured is a verification that succeeds.
func TestVerifyFigures(t *testing.T) {
	s, err := newSignedManifest()
	if err != nil {
		t.Fatal(err)
	}
	if r := testing.Benchmark(s.verify); r.N == 0 || r.AllocedBytesPerOp() > 1e6 {
		t.Errorf("%d runs, %d bytes each", r.N, r.AllocedBytesPerOp())
	}
	if r := testing.Benchmark(s.reference); r.N == 0 {
		t.Error("the reference failed")
	}
}
