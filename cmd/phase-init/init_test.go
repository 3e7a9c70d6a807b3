package main

import (
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"phase-init": main, "phase-discover": main, "phase-verify": main, "phase-fetch": main,
	})
}

// TestStepsAreInTheSeed calls the seed's one binary by each of its names.
func TestStepsAreInTheSeed(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script"})
}
