package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/phasebased/phase/quorum"
)

// evidence is what a vector holds.
func evidence(t *testing.T, name string) (kind quorum.Kind, documents []json.RawMessage) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("../../quorum/testdata/vectors", name))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Kind     quorum.Kind
		Evidence []json.RawMessage
	}
	if err := json.Unmarshal(raw, &file); err != nil || len(file.Evidence) != 2 {
		t.Fatal(err)
	}
	return file.Kind, file.Evidence
}

func TestFindFraud(t *testing.T) {
	for _, name := range []string{"fraud-results.json", "fraud-opening.json", "fraud-sets.json"} {
		kind, two := evidence(t, name)
		for _, pair := range [][2]int{{0, 1}, {1, 0}} {
			proof, err := findFraud(two[pair[0]], two[pair[1]])
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if f, err := quorum.VerifyFraud(proof); err != nil || f.Kind != kind {
				t.Errorf("%s: %+v, %v", name, f, err)
			}
		}
	}
	for _, name := range []string{"fraud-same-result.json", "fraud-two-jobs.json", "fraud-other-key.json", "fraud-opening-fits.json", "fraud-one-result.json"} {
		_, two := evidence(t, name)
		if _, err := findFraud(two[0], two[1]); !errors.Is(err, quorum.ErrNoFraud) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := findFraud([]byte("{}"), []byte("{}")); !errors.Is(err, quorum.ErrMalformed) {
		t.Errorf("no documents: %v", err)
	}
}
