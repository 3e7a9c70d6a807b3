package manifest

import (
	"os"
	"testing"
	"time"

	"github.com/phasebased/phase/dsse"
)

// TestForeignRoot reads a root that another implementation of TUF made with the
// test keys: github.com/theupdateframework/go-tuf/v2 v2.0.2, metadata.Root with
// AddKey, Sign and ToFile(…, pretty). That implementation in turn accepts the
// root-ok vectors.
func TestForeignRoot(t *testing.T) {
	raw, err := os.ReadFile("testdata/foreign/root-by-go-tuf-2.0.2.json")
	if err != nil {
		t.Fatal(err)
	}
	root, err := ParseRoot(raw)
	if err != nil {
		t.Fatal(err)
	}
	if root.Version() != 1 || !root.Expires().Equal(time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)) {
		t.Errorf("version %d, expires %s", root.Version(), root.Expires())
	}
	for role, want := range map[Role][]string{
		RoleRoot: {"root-1", "root-2"}, RoleTargets: {"targets-1", "targets-2"},
		RoleTimestamp: {"timestamp"}, RoleSnapshot: {"snapshot"},
	} {
		keys := root.roles[role].Keys
		if len(keys) != len(want) {
			t.Fatalf("role %s has %d keys", role, len(keys))
		}
		for i, name := range want {
			if dsse.KeyID(keys[i]) != keyID(name) {
				t.Errorf("key %d of role %s is not %s", i, role, name)
			}
		}
	}
	if root.roles[RoleRoot].Threshold != 2 {
		t.Errorf("threshold is %d", root.roles[RoleRoot].Threshold)
	}
}
