package job

import (
	"crypto/ed25519"
	"errors"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
)

// TestReplicas: the plan of a quorum is signed with the job, for one node and for
// strict jobs only.
func TestReplicas(t *testing.T) {
	plan, soon := blob.Of([]byte("plan")), noon.Add(time.Hour)
	raw, err := SignReplica(simpleJob(t), plan, public("node"), soon, testKey("alice"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := authority().Open(raw)
	if err != nil || s.Commit != plan || s.Digest != blob.Of(raw) {
		t.Errorf("plan %v, envelope %v, %v", s.Commit, s.Digest, err)
	}
	if s, err := authority().Open(signed(t, nil, soon, "alice")); err != nil || !s.Commit.IsZero() {
		t.Errorf("a submission that is no replica: %v, %v", s, err)
	}
	relaxed, err := New(Spec{Version: SpecVersion, Module: module, Determinism: Relaxed})
	if err != nil {
		t.Fatal(err)
	}
	for name, sign := range map[string]func() ([]byte, error){
		"for any node": func() ([]byte, error) { return SignReplica(simpleJob(t), plan, nil, soon, testKey("alice")) },
		"without a plan": func() ([]byte, error) {
			return SignReplica(simpleJob(t), blob.Digest{}, public("node"), soon, testKey("alice"))
		},
		"relaxed": func() ([]byte, error) { return SignReplica(relaxed, plan, public("node"), soon, testKey("alice")) },
	} {
		if _, err := sign(); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	both := func(m map[string]any) { set("commit", plan.String())(m); set("audience", FormatKey(public("node")))(m) }
	for name, test := range map[string]struct {
		change func(map[string]any)
		reason Reason
	}{
		"for any node": {set("commit", plan.String()), Malformed},
		"null":         {set("commit", nil), Malformed},
		"a boolean":    {set("commit", true), Malformed},
		"no digest":    {set("commit", "sha256:00"), Malformed},
		"relaxed": {func(m map[string]any) {
			both(m)
			m["spec"].(map[string]any)["determinism"] = "relaxed"
		}, Unsupported},
		"for another node": {func(m map[string]any) { both(m); m["audience"] = FormatKey(ed25519.PublicKey(public("other"))) }, Unauthorised},
	} {
		_, err := authority().Open(changed(t, "alice", test.change))
		var refusal *Refusal
		if !errors.As(err, &refusal) || refusal.Reason != test.reason || refusal.Hint() == "" {
			t.Errorf("%s: %v, want %s", name, err, test.reason)
		}
	}
	if _, err := authority().Open(changed(t, "alice", both)); err != nil {
		t.Errorf("as it should be: %v", err)
	}
}
