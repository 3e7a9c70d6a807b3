package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	if os.Getpid() == 1 { // the init of a guest, which has no file systems yet
		os.Exit(m.Run())
	}
	testscript.Main(m, map[string]func(){
		"phase-init": main, "phase-discover": main, "phase-verify": main, "phase-fetch": main,
	})
}

// TestStepsAreInTheSeed calls the seed's one binary by each of its names.
func TestStepsAreInTheSeed(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script"})
}
