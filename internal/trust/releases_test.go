package trust

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/manifest"
)

func try(t *testing.T, s *State, version int64) {
	t.Helper()
	if err := s.Tried(want, payload(version), document(version), proof(version)); err != nil {
		t.Fatal(err)
	}
}

func confirm(t *testing.T, s *State, version int64) {
	t.Helper()
	if err := s.Confirm(want, payload(version)); err != nil {
		t.Fatal(err)
	}
}

// describe writes releases as "5 confirmed, 6 tried" and checks their bytes.
func describe(t *testing.T, releases []Release) string {
	t.Helper()
	var list []string
	for _, r := range releases {
		var version int64
		if _, err := fmt.Sscanf(string(r.Manifest), "manifest %d\n", &version); err != nil {
			t.Fatalf("manifest is %q", r.Manifest)
		}
		if r.Payload != payload(version) || (r.Proof != nil && !bytes.Equal(r.Proof, proof(version))) {
			t.Fatalf("version %d with %s and proof %q", version, r.Payload, r.Proof)
		}
		list = append(list, fmt.Sprint(version, map[bool]string{true: " confirmed", false: " tried"}[r.Confirmed]))
	}
	return strings.Join(list, ", ")
}

func checkLastGood(t *testing.T, s *State, expected string) {
	t.Helper()
	releases, err := s.LastGood(want)
	if err != nil {
		t.Fatal(err)
	}
	if got := describe(t, releases); got != expected {
		t.Fatalf("releases are %q, want %q", got, expected)
	}
}

func TestLastGood(t *testing.T) {
	s := OpenState(filepath.Join(t.TempDir(), "made", "on", "demand"))
	checkLastGood(t, s, "")
	try(t, s, 5)
	checkLastGood(t, s, "5 tried")
	confirm(t, s, 5)
	checkLastGood(t, s, "5 confirmed")
	try(t, s, 6) // which crashes, again and again
	try(t, s, 6)
	checkLastGood(t, s, "5 confirmed, 6 tried")
	try(t, s, 5)
	checkLastGood(t, s, "5 confirmed, 6 tried")
	confirm(t, s, 5)
	try(t, s, 7)
	checkLastGood(t, s, "5 confirmed, 7 tried, 6 tried") // 6 is still in the other slot
	confirm(t, s, 7)
	checkLastGood(t, s, "7 confirmed, 5 confirmed")
	try(t, s, 8)
	confirm(t, s, 8)
	checkLastGood(t, s, "8 confirmed, 7 confirmed")
}

func TestReleaseWithoutProof(t *testing.T) {
	s := OpenState(t.TempDir())
	if err := s.Tried(want, payload(5), document(5), nil); err != nil {
		t.Fatal(err)
	}
	releases, err := s.LastGood(want)
	if err != nil || len(releases) != 1 || releases[0].Proof != nil {
		t.Fatalf("%v, %v", releases, err)
	}
	try(t, s, 5) // now it was logged
	if releases, err = s.LastGood(want); err != nil || string(releases[0].Proof) != string(proof(5)) {
		t.Fatalf("%v, %v", releases, err)
	}
}

func TestConfirmOfAnotherRelease(t *testing.T) {
	s := OpenState(t.TempDir())
	check := func(version int64) {
		t.Helper()
		var typed *Error
		if err := s.Confirm(want, payload(version)); !errors.As(err, &typed) || !errors.Is(err, ErrNotTried) || typed.Hint() == "" {
			t.Errorf("%d: %v", version, err)
		}
	}
	check(5)
	try(t, s, 5)
	check(4)
	confirm(t, s, 5)
	try(t, s, 6)
	check(7)
	if err := s.Confirm(want, entry{}.payload); !errors.Is(err, ErrNotTried) {
		t.Errorf("no digest: %v", err)
	}
	confirm(t, s, 5) // booted again after 6 failed
	checkLastGood(t, s, "5 confirmed, 6 tried")
}

// TestConfirmOfAnOlderRelease: what LastGood returned may be confirmed, though
// it is only the spare slot that still names it.
func TestConfirmOfAnOlderRelease(t *testing.T) {
	s := OpenState(t.TempDir())
	try(t, s, 5)
	confirm(t, s, 5)
	try(t, s, 6)
	try(t, s, 7)
	checkLastGood(t, s, "5 confirmed, 7 tried, 6 tried")
	confirm(t, s, 6)
	checkLastGood(t, s, "6 confirmed, 5 confirmed, 7 tried")
	before := files(t, s.dir)
	confirm(t, s, 5) // has been, once
	if !maps.Equal(before, files(t, s.dir)) {
		t.Error("something was written")
	}
}

func TestReleasesAreSeparate(t *testing.T) {
	s := OpenState(t.TempDir())
	try(t, s, 5)
	other := manifest.Want{Channel: manifest.ChannelTesting, Arch: want.Arch}
	for version := int64(6); version < 12; version++ { // sweeps
		if err := s.Tried(other, payload(version), document(version), nil); err != nil {
			t.Fatal(err)
		}
	}
	if releases, err := s.LastGood(other); err != nil || describe(t, releases) != "11 tried, 10 tried" {
		t.Errorf("%v, %v", releases, err)
	}
	checkLastGood(t, s, "5 tried")
	for _, bad := range []manifest.Want{{}, {Channel: "../x", Arch: want.Arch}, {Channel: want.Channel, Arch: "*"}} {
		if _, err := s.LastGood(bad); err == nil {
			t.Errorf("%v: loaded", bad)
		}
		if s.Tried(bad, payload(5), document(5), nil) == nil || s.Confirm(bad, payload(5)) == nil {
			t.Errorf("%v: saved", bad)
		}
	}
}

func TestReleaseThatCannotBeKept(t *testing.T) {
	s := OpenState(t.TempDir())
	for name, err := range map[string]error{
		"no digest":   s.Tried(want, entry{}.payload, document(5), nil),
		"no manifest": s.Tried(want, payload(5), nil, nil),
		"huge":        s.Tried(want, payload(5), make([]byte, manifest.MaxManifestBytes+1), nil),
		"huge proof":  s.Tried(want, payload(5), document(5), make([]byte, 1<<20)),
	} {
		var typed *Error
		if !errors.As(err, &typed) || typed.Code() != "VFY-023" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if content := files(t, s.dir); len(content) != 0 {
		t.Errorf("something was written: %v", content)
	}
}

func TestDirectoryStaysSmall(t *testing.T) {
	s := OpenState(t.TempDir())
	for version := int64(1); version <= 30; version++ {
		left := filepath.Join(s.dir, fmt.Sprint(durable.TempPrefix, version))
		if err := os.WriteFile(left, make([]byte, 1000), 0o600); err != nil { // a crash
			t.Fatal(err)
		}
		try(t, s, version)
		if version%3 == 0 {
			confirm(t, s, version)
		}
		// Two slots with two releases each, one generation to be swept.
		if n := len(files(t, s.dir)); n > 2+2*5 {
			t.Fatalf("%d files after %d releases: %v", n, version, files(t, s.dir))
		}
	}
}

func TestDamagedDocumentIsReported(t *testing.T) {
	for how := range spoilers {
		if how == "other version" {
			continue // it changes slots only
		}
		t.Run(how, func(t *testing.T) {
			s := OpenState(t.TempDir())
			try(t, s, 5)
			confirm(t, s, 5)
			try(t, s, 6)
			spoil(t, how, s.documentPath(want, testEntry(5).manifest))
			releases, err := s.LastGood(want)
			var typed *Error
			if !errors.As(err, &typed) || !errors.Is(err, ErrUnreadable) || typed.Code() != "VFY-023" {
				t.Fatalf("warning is %v", err)
			}
			if got := describe(t, releases); got != "6 tried" {
				t.Fatalf("releases are %q", got)
			}
			if how == "directory" {
				return
			}
			try(t, s, 7) // life goes on, and the damage can be mended
			if err := s.Tried(want, payload(5), document(5), nil); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestDamagedIndex(t *testing.T) {
	s := OpenState(t.TempDir())
	try(t, s, 5)
	confirm(t, s, 5)
	try(t, s, 6)
	index := s.indexSlots(want).path
	spoil(t, "zeros", index+endings[0])
	releases, warning := s.LastGood(want)
	var typed *Error
	if got := describe(t, releases); got != "5 confirmed" {
		t.Errorf("releases are %q", got)
	}
	if !errors.As(warning, &typed) || !errors.Is(warning, ErrUnreadable) || typed.Code() != "VFY-023" || strings.Count(warning.Error(), ErrUnreadable.Error()) != 1 {
		t.Errorf("warning is %v", warning)
	}
	spoil(t, "empty", index+endings[1])
	if releases, err := s.LastGood(want); !errors.Is(err, ErrUnreadable) || releases != nil {
		t.Errorf("%v, %v", releases, err)
	}
	if err := s.Confirm(want, payload(6)); !errors.Is(err, ErrUnreadable) {
		t.Errorf("confirmed: %v", err)
	}
	try(t, s, 7)
	checkLastGood(t, s, "7 tried")
}
