package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/cmd/internal/steps"
	"github.com/phasebased/phase/internal/trust"
	"github.com/phasebased/phase/manifest"
)

const vectorDir = "../../manifest/testdata"

// vector is a row of vectors.json.
type vector struct {
	Name     string
	Kind     string
	Files    []string
	Accepted bool
	Stale    string
	Rule     string
	Code     string
	Object   string
	Refused  string // of a chain: the file
	Version  int64  // of a chain: its last good root
	Clock    string
	Channel  string
	Arch     string
	Root     string
	Pointer  string
	Policy   string
	Proof    string
	Floor    *struct {
		ManifestVersion int64       `json:"manifest_version"`
		Digest          blob.Digest `json:"digest"`
		SecurityFloor   int64       `json:"security_floor"`
		RootVersion     int64       `json:"root_version"`
	}
}

func (v vector) path(name string) string { return filepath.Join(vectorDir, filepath.FromSlash(name)) }

// args is how a person would have the vector verified.
func (v vector) args(t *testing.T) []string {
	t.Helper()
	args := []string{"-f", "json"}
	add := func(flag, file string) {
		if file != "" {
			args = append(args, flag, v.path(file))
		}
	}
	switch v.Kind {
	case "manifest", "last-good":
		add("-m", v.Files[0])
		add("-k", v.Root)
	case "pointer": // vouches for a manifest
		add("-m", "manifest-ok.json")
		add("--pointer", v.Files[0])
		add("-k", v.Root)
	case "root":
		add("-m", "manifest-ok.json")
		add("-k", v.Files[0])
	case "chain":
		add("-m", "manifest-ok.json")
		add("-k", v.Files[0])
		for _, next := range v.Files[1:] {
			add("--roots", next)
		}
	default:
		t.Fatalf("%s is of kind %q", v.Name, v.Kind)
	}
	add("--pointer", v.Pointer)
	add("--log-policy", v.Policy)
	if v.Kind == "last-good" {
		args = append(args, "--cached")
	}
	for flag, value := range map[string]string{"--channel": v.Channel, "--arch": v.Arch} {
		if value != "" && value != manifest.Any {
			args = append(args, flag, value)
		}
	}
	return append(args, v.floor(t)...)
}

// floor writes the floor file of the vector, if it has one.
func (v vector) floor(t *testing.T) []string {
	t.Helper()
	if v.Floor == nil {
		return nil
	}
	path := filepath.Join(t.TempDir(), "floor")
	floor := manifest.Floor{ManifestVersion: v.Floor.ManifestVersion, Digest: v.Floor.Digest,
		SecurityFloor: v.Floor.SecurityFloor, RootVersion: v.Floor.RootVersion}
	if err := trust.SaveFile(path, manifest.Want{Channel: v.Channel, Arch: v.Arch}, floor, nil); err != nil {
		t.Fatalf("%s: %v", v.Name, err)
	}
	return []string{"--check-version", path}
}

// result is what the tests look at in the JSON output.
type result struct {
	Status          string
	ManifestVersion *int64 `json:"manifest_version"`
	RootVersion     int64  `json:"root_version"`
	Stale           struct{ Object string }
	Logged          *struct{ Origin string }
	Error           string
	Rule            string
	Object          string
	Code            string
	Hint            string
}

// TestVectors has every vector of package manifest verified by the command.
func TestVectors(t *testing.T) {
	index, err := os.ReadFile(filepath.Join(vectorDir, "vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(index, &vectors); err != nil {
		t.Fatal(err)
	}
	rules := map[string]bool{}
	for _, v := range vectors {
		if v.Name == "manifest-nothing-wanted" {
			continue // cannot be typed: no flag means any channel, and an unknown one is wrong usage
		}
		v.check(t)
		rules[v.Rule] = true
	}
	for _, rule := range manifest.Rules() {
		if !rules[string(rule)] {
			t.Errorf("no vector for rule %s", rule)
		}
	}
}

func (v vector) check(t *testing.T) {
	t.Helper()
	var out, errs bytes.Buffer
	now := clock
	if v.Clock != "" {
		var err error
		if now, err = time.Parse(time.RFC3339, v.Clock); err != nil {
			t.Fatal(err)
		}
	}
	code := steps.Verify(v.args(t), steps.Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &errs, Now: func() time.Time { return now }})
	var r result
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%s: %v\n%s%s", v.Name, err, &out, &errs)
	}
	if (code == 0) != (r.Status == "verified") || (code == 1) != (r.Status == "failed") || (code == 1) != strings.HasPrefix(errs.String(), "FATAL: ") {
		t.Errorf("%s: exit %d with %s and %q", v.Name, code, r.Status, &errs)
	}
	if v.Accepted {
		v.checkAccepted(t, r)
		return
	}
	if r.Status != "failed" || r.Rule != v.Rule || r.Object != v.Object || r.Code != v.Code || r.Hint == "" || r.ManifestVersion != nil {
		t.Errorf("%s: want %s of the %s (%s), got %+v", v.Name, v.Rule, v.Object, v.Code, r)
	}
	if v.Refused != "" && (!strings.Contains(r.Error, v.path(v.Refused)) || r.RootVersion != 0) {
		t.Errorf("%s: the message does not name %s, or a refused chain leaves root %d: %s", v.Name, v.Refused, r.RootVersion, r.Error)
	}
}

func (v vector) checkAccepted(t *testing.T, r result) {
	t.Helper()
	switch v.Kind {
	case "manifest", "last-good":
		if r.Status != "verified" || r.Stale.Object != v.Stale || (r.Logged != nil) != (v.Policy != "") {
			t.Errorf("%s: want it verified with stale %q, got %+v", v.Name, v.Stale, r)
		}
	case "pointer": // is accepted if it is the manifest that does not fit, or nothing
		if r.Status != "verified" && (r.Rule != string(manifest.RulePointer) && r.Rule != string(manifest.RuleSignature) || r.Object != "manifest") {
			t.Errorf("%s: %+v", v.Name, r)
		}
	case "root", "chain":
		if r.RootVersion == 0 || v.Version != 0 && r.RootVersion != v.Version || r.Object == "root" && r.Rule != string(manifest.RuleExpired) {
			t.Errorf("%s: want root version %d, got %+v", v.Name, v.Version, r)
		}
	}
}
