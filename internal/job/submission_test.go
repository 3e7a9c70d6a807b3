package job

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/dsse"
)

var noon = time.Date(2030, 6, 1, 12, 0, 0, 0, time.UTC)

func testKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("phase test key " + name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func public(name string) ed25519.PublicKey { return testKey(name).Public().(ed25519.PublicKey) }

func authority() Authority {
	return Authority{Node: public("node"), Submitters: []ed25519.PublicKey{public("other"), public("alice")}, Now: noon}
}

func simpleJob(t testing.TB) *Job {
	t.Helper()
	j, err := New(Spec{Version: SpecVersion, Module: module, Args: []string{"a"}})
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func signed(t testing.TB, audience ed25519.PublicKey, expires time.Time, who string) []byte {
	t.Helper()
	raw, err := SignSubmission(simpleJob(t), audience, expires, testKey(who))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// changed signs the payload of an honest submission anew after a change.
func changed(t testing.TB, who string, change func(m map[string]any)) []byte {
	t.Helper()
	payload, err := dsse.Open(signed(t, nil, noon.Add(time.Hour), "alice"), SubmissionType, MaxSubmissionBytes, []ed25519.PublicKey{public("alice")}, 1)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(payload, &m); err != nil {
		t.Fatal(err)
	}
	change(m)
	if payload, err = json.Marshal(m); err != nil {
		t.Fatal(err)
	}
	raw, err := dsse.Envelope{PayloadType: SubmissionType, Payload: payload,
		Signatures: []dsse.Signature{dsse.Sign(SubmissionType, payload, testKey(who))}}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func set(name string, value any) func(map[string]any) {
	return func(m map[string]any) { m[name] = value }
}

func TestSubmissions(t *testing.T) {
	soon := noon.Add(time.Hour)
	long := strings.Repeat("n", MaxNonceBytes+1)
	for _, c := range []struct {
		name string
		raw  []byte
		want Reason // "": accepted
	}{
		{"for any node", signed(t, nil, soon, "alice"), ""},
		{"for this node", signed(t, public("node"), soon, "alice"), ""},
		{"the longest validity", signed(t, nil, noon.Add(MaxValidity), "alice"), ""},
		{"for another node", signed(t, public("elsewhere"), soon, "alice"), Unauthorised},
		{"a stranger", signed(t, nil, soon, "mallory"), Unauthorised},
		{"without a signature", bytes.Replace(signed(t, nil, soon, "alice"), []byte(`"signatures":[{`), []byte(`"signatures":[],"x":[{`), 1), Malformed},
		{"a bare specification", simpleJob(t).Payload(), Malformed},
		{"another submitter's name", changed(t, "other", func(map[string]any) {}), Unauthorised},
		{"a stranger's name", changed(t, "other", set("submitter", FormatKey(public("mallory")))), Unauthorised},
		{"no name", changed(t, "alice", set("submitter", "alice")), Malformed},
		{"expired", signed(t, nil, noon, "alice"), Expired},
		{"too far ahead", signed(t, nil, noon.Add(MaxValidity+time.Hour), "alice"), TooBig},
		{"expiry with a zone", changed(t, "alice", set("expires_at", "2030-06-01T13:00:00+00:00")), Malformed},
		{"no expiry", changed(t, "alice", func(m map[string]any) { delete(m, "expires_at") }), Malformed},
		{"short nonce", changed(t, "alice", set("nonce", "1")), Malformed},
		{"long nonce", changed(t, "alice", set("nonce", long)), Malformed},
		{"version", changed(t, "alice", set("version", 2)), Unsupported},
		{"unknown member", changed(t, "alice", set("priority", 1)), Malformed},
		{"no audience", changed(t, "alice", set("audience", "")), Unauthorised},
		{"bad specification", changed(t, "alice", set("spec", map[string]any{"version": 1})), Malformed},
		{"specification null", changed(t, "alice", set("spec", nil)), Malformed},
		{"too large", bytes.Repeat([]byte(" "), MaxSubmissionBytes+1), TooBig},
		{"empty", nil, Malformed},
	} {
		s, err := authority().Open(c.raw)
		var refusal *Refusal
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (!errors.As(err, &refusal) || refusal.Reason != c.want):
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		case c.want != "" && (refusal.Code() == "NODE-000" || refusal.Hint() == ""):
			t.Errorf("%s: code %s, hint %q", c.name, refusal.Code(), refusal.Hint())
		case c.name == "too far ahead" && !strings.Contains(refusal.Hint(), "earlier expiry"):
			t.Errorf("%s: hint %q", c.name, refusal.Hint())
		case c.want == "" && (s.Job.ID() != simpleJob(t).ID() || !s.Submitter.Equal(public("alice")) || len(s.Nonce) < MinNonceBytes):
			t.Errorf("%s: %+v", c.name, s)
		}
	}
}

func TestNobodyIsAllowedByDefault(t *testing.T) {
	a := Authority{Node: public("node"), Now: noon}
	var refusal *Refusal
	if _, err := a.Open(signed(t, nil, noon.Add(time.Hour), "alice")); !errors.As(err, &refusal) || refusal.Reason != Unauthorised {
		t.Errorf("%v", err)
	}
}

// Each byte of an honest submission counts.
func TestFlippedSubmissions(t *testing.T) {
	raw := signed(t, nil, noon.Add(time.Hour), "alice")
	var e struct{ Payload string }
	if err := json.Unmarshal(raw, &e); err != nil {
		t.Fatal(err)
	}
	payload, err := base64.StdEncoding.DecodeString(e.Payload)
	if err != nil {
		t.Fatal(err)
	}
	for i := range payload {
		bent := bytes.Clone(payload)
		bent[i] ^= 1
		text := bytes.Replace(raw, []byte(e.Payload), []byte(base64.StdEncoding.EncodeToString(bent)), 1)
		if _, err := authority().Open(text); err == nil {
			t.Fatalf("byte %d may be changed", i)
		}
	}
}

func TestParseKey(t *testing.T) {
	good := FormatKey(public("alice"))
	if key, err := ParseKey(good); err != nil || !key.Equal(public("alice")) {
		t.Errorf("%v", err)
	}
	for _, bad := range []string{"", good[8:], strings.ToUpper(good), good + "0", "ed25519:" + strings.Repeat("0", 64)} {
		if _, err := ParseKey(bad); err == nil {
			t.Errorf("%q accepted", bad)
		}
	}
}

func FuzzSubmission(f *testing.F) {
	f.Add(signed(f, nil, noon.Add(time.Hour), "alice"), true)
	f.Add(changed(f, "alice", set("nonce", "x")), false)
	f.Fuzz(func(t *testing.T, raw []byte, sign bool) {
		if sign { // the payload is what is fuzzed
			envelope, err := dsse.Envelope{PayloadType: SubmissionType, Payload: raw,
				Signatures: []dsse.Signature{dsse.Sign(SubmissionType, raw, testKey("alice"))}}.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			raw = envelope
		}
		s, err := authority().Open(raw)
		if err == nil && (!s.Expires.After(noon) || !s.Submitter.Equal(public("alice"))) {
			t.Fatalf("accepted %+v", s)
		}
	})
}
