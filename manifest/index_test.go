package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// badInputs are the kinds of input that every reader of these documents must
// survive. Each has vectors.
var badInputs = map[int]string{
	0:  "nothing wrong, or only the log proof",
	1:  "mirrored field differs from the signed one",
	2:  "duplicate names",
	3:  "look-alike names, letters in another case, and what a reader would make up where it is missing",
	4:  "numbers that are not plain, positive, exact integers",
	5:  "invalid UTF-8, lone surrogates, NUL",
	6:  "trailing bytes, byte order marks, two documents, something else altogether",
	7:  "too deep, too many, too large",
	8:  "sloppy base64",
	9:  "correctly signed, but not in canonical form",
	10: "channels and architectures that do not exist, composed and decomposed letters",
	11: "hashes and artifacts that are missing or not of the one form",
	12: "sizes: zero, above the cap, above it together",
	13: "times: swapped, too far apart, year 0 and 9999",
	14: "command lines and URLs that nobody may ask for",
	15: "names that are not plain file names",
	16: "schema versions, unknown members",
	17: "signatures and keys that are counted twice, thresholds that cannot be",
	18: "Ed25519: weak and non-canonical keys, malleated signatures",
	19: "roots out of order, or not signed by both sides",
	20: "expired roots, with and without a successor",
	21: "keys of another role, channel or purpose, and revoked ones",
	22: "signed for another product, channel or architecture",
	23: "older, or the same version with other content",
	24: "an enormous version by a stolen key, then a root that resets the floor",
	27: "clocks: 1970, after 2038, at the edge",
}

// An indexEntry tells another program everything it needs for one vector. All
// paths are relative to the folder.
type indexEntry struct {
	Name     string      `json:"name"`
	Kind     string      `json:"kind"` // manifest, last-good, pointer, root, chain
	Item     int         `json:"item"`
	Files    []string    `json:"files"`             // of a chain the trusted root first, in order
	Accepted bool        `json:"accepted"`          // else Rule, Code and Object are set
	Rule     string      `json:"rule,omitempty"`    // that refuses
	Code     string      `json:"code,omitempty"`    // of that rule
	Object   string      `json:"object,omitempty"`  // which document is at fault
	Refused  string      `json:"refused,omitempty"` // chain: the file at fault
	Version  int64       `json:"version,omitempty"` // chain: of the root trusted in the end
	Stale    string      `json:"stale,omitempty"`   // last-good: what has expired
	Clock    string      `json:"clock,omitempty"`   // RFC 3339
	Channel  string      `json:"channel,omitempty"` // wanted; "*": any
	Arch     string      `json:"arch,omitempty"`    // wanted; "*": any
	Root     string      `json:"root,omitempty"`    // to verify under
	Floor    *indexFloor `json:"floor,omitempty"`   // stored before
	Pointer  string      `json:"pointer,omitempty"` // that names the manifest; verified at the same time under the same root
	Policy   string      `json:"policy,omitempty"`  // log policy of the medium
	Proof    string      `json:"proof,omitempty"`   // log proof beside the manifest; absent with a policy: there is none
	comment  []string    // for people: what is not as usual
}

type indexFloor struct {
	ManifestVersion int64  `json:"manifest_version"`
	Digest          string `json:"digest,omitempty"`
	SecurityFloor   int64  `json:"security_floor,omitempty"`
	RootVersion     int64  `json:"root_version,omitempty"`
}

func (v vector) index() indexEntry {
	full := v.defaults()
	e := indexEntry{Name: v.name, Kind: v.kind(), Item: v.item, Files: []string{v.name + ".json"}, Accepted: v.rule == "", Stale: v.stale}
	if v.rule != "" {
		e.Rule, e.Code, e.Object = string(v.rule), (&Error{Rule: v.rule}).Code(), full.object
	}
	if v.kind() == "root" {
		return e
	}
	e.Clock, e.Channel, e.Arch, e.Root = full.at.Format(time.RFC3339), full.want.Channel, full.want.Arch, "root.json"
	if v.root != "" {
		e.Root = v.root + ".json"
		e.comment = append(e.comment, "root `"+e.Root+"`")
	}
	if full.at != now {
		e.comment = append(e.comment, "clock "+e.Clock)
	}
	if full.want != wantTest {
		e.comment = append(e.comment, "wanted "+e.Channel+"/"+e.Arch)
	}
	if v.ptr {
		e.Pointer = "pointer-ok.json"
		e.comment = append(e.comment, "pointer `pointer-ok.json`")
	}
	return v.indexState(e)
}

// indexState adds what the machine remembers and what its medium asks for.
func (v vector) indexState(e indexEntry) indexEntry {
	if f := v.floor; f != (Floor{}) {
		e.Floor = &indexFloor{ManifestVersion: f.ManifestVersion, SecurityFloor: f.SecurityFloor, RootVersion: f.RootVersion}
		text := fmt.Sprintf("floor %d", f.ManifestVersion)
		if !f.Digest.IsZero() {
			e.Floor.Digest = f.Digest.String()
			text += " of another digest"
		}
		if f.SecurityFloor > 0 {
			text += fmt.Sprintf(", security floor %d", f.SecurityFloor)
		}
		if f.RootVersion > 0 {
			text += fmt.Sprintf(", under root %d", f.RootVersion)
		}
		e.comment = append(e.comment, text)
	}
	if v.proof != nil {
		e.Policy, e.Proof = "log-policy.txt", v.name+".tlog-proof"
		if strings.HasSuffix(v.name, "not-logged") {
			e.Proof = ""
		}
		e.comment = append(e.comment, "policy `log-policy.txt`")
	}
	return e
}

func (c chainVector) index(g *generator) indexEntry {
	e := indexEntry{Name: c.name, Kind: "chain", Item: c.item, Accepted: c.rule == "", Version: c.version}
	for _, name := range sortedSteps(c.make(g)) {
		e.Files = append(e.Files, c.name+"/"+name)
	}
	if c.rule != "" {
		e.Rule, e.Code, e.Object, e.Refused = string(c.rule), (&Error{Rule: c.rule}).Code(), "root", c.name+"/"+c.refused
		e.comment = append(e.comment, "refused is `"+c.refused+"`")
	}
	e.comment = append(e.comment, fmt.Sprintf("ends with version %d", c.version))
	return e
}

// writeIndex returns vectors.json and README.md.
func writeIndex(t *testing.T, g *generator) (index, readme []byte) {
	t.Helper()
	var entries []indexEntry
	for _, v := range vectors {
		entries = append(entries, v.index())
	}
	for _, c := range chainVectors {
		entries = append(entries, c.index(g))
	}
	for _, e := range entries {
		if badInputs[e.Item] == "" {
			t.Errorf("%s: item %d does not exist", e.Name, e.Item)
		}
	}
	index, err := json.MarshalIndent(entries, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	return append(index, '\n'), writeReadme(t, entries)
}

func writeReadme(t *testing.T, entries []indexEntry) []byte {
	t.Helper()
	var out bytes.Buffer
	fmt.Fprintf(&out, readmeHead, now.Format(time.RFC3339), len(entries))
	for _, item := range slices.Sorted(maps.Keys(badInputs)) {
		fmt.Fprintf(&out, "\n## %d. %s\n\n| vector | expected | not as usual |\n|---|---|---|\n", item, badInputs[item])
		rows := 0
		for _, e := range entries {
			if e.Item != item {
				continue
			}
			rows++
			expected := "accepted"
			if e.Stale != "" {
				expected += ", stale " + e.Stale
			}
			if !e.Accepted {
				expected = fmt.Sprintf("%s %s", e.Code, e.Rule)
				if e.Object != e.Kind && e.Kind != "last-good" && e.Kind != "chain" {
					expected += " of the " + e.Object
				}
			}
			fmt.Fprintf(&out, "| `%s` | %s | %s |\n", e.Name, expected, strings.Join(e.comment, "; "))
		}
		if rows == 0 {
			t.Errorf("item %d has no vector", item)
		}
	}
	return out.Bytes()
}

const readmeHead = `# Vectors for readers of roots, manifests and pointers

Every file here has exactly one fault, or none if its name contains "ok". They
are for anybody who writes another reader of these documents. This page and all
files but those in fuzz and foreign are written by

	go test ./manifest -run TestVectors -update

from keys with fixed seeds: SHA-256 of "phase test key " and the key's name.

vectors.json says the same as this page to programs: for every vector the kind,
the files, the inputs and the verdict. Unless said otherwise, a document is
verified under root.json at %s, wanted are stable/x86_64,
nothing was accepted before, no pointer vouches for it, and no log is asked for.
The kinds:

- manifest: verify as a manifest that came from somewhere.
- last-good: verify as a release that the machine kept: expiry is reported, not
  refused, and the floor is the security floor.
- pointer: verify as a pointer.
- root: read as a root; its signatures are its own.
- chain: a folder. The root with the lowest number is trusted; the others are
  what the machine gets when it asks for the next version, step by step.

There are %d vectors. A rule's code (VFY-…) is what people search for; another
reader may name its rules differently, but must not accept what is refused here.
`
