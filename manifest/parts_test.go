package manifest

import (
	"reflect"
	"strings"
	"testing"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/strictjson"
)

// partedManifest has a chunk list and a patch for every artifact.
func partedManifest() Manifest {
	m := testManifest()
	with := func(a Artifact, name string) Artifact {
		of := func(s string) blob.Digest { return blob.Of([]byte(s + " of " + name)) }
		a.Chunks = of("chunks")
		a.Deltas = []Delta{{of("origin"), of("patch"), 2}, {of("other origin"), of("other patch"), 1}}
		return a
	}
	m.Kernel, m.Initramfs = with(m.Kernel, "kernel"), with(m.Initramfs, "initramfs")
	rootfs := with(*m.Rootfs, "rootfs")
	m.Rootfs = &rootfs
	m.DTBs["board.dtb"] = with(m.DTBs["board.dtb"], "board")
	return m
}

// TestPartsTravel: what a publisher says of chunk lists and patches is what a
// machine reads, also when the file went from signer to signer, and neither can
// be changed from outside.
func TestPartsTravel(t *testing.T) {
	d, err := DraftManifest(partedManifest())
	if err != nil {
		t.Fatal(err)
	}
	var files [][]byte
	for _, key := range private("targets-1", "targets-2") {
		one, err := OpenManifestDraft(draftBytes(t, d))
		if err != nil {
			t.Fatal(err)
		}
		if err := one.Sign(key); err != nil {
			t.Fatal(err)
		}
		files = append(files, draftBytes(t, one))
	}
	merged, err := OpenManifestDraft(files[0])
	if err != nil {
		t.Fatal(err)
	}
	other, err := OpenManifestDraft(files[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := merged.Merge(other); err != nil {
		t.Fatal(err)
	}
	v, err := verifyManifest(draftBytes(t, merged), testRoot(t), wantTest, Floor{}, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	want := partedManifest()
	got := v.Manifest()
	for name, pair := range map[string][2]Artifact{
		"kernel": {want.Kernel, got.Kernel}, "initramfs": {want.Initramfs, got.Initramfs},
		"rootfs": {*want.Rootfs, *got.Rootfs}, "board.dtb": {want.DTBs["board.dtb"], got.DTBs["board.dtb"]},
	} {
		if pair[0].Chunks != pair[1].Chunks || !reflect.DeepEqual(pair[0].Deltas, pair[1].Deltas) {
			t.Errorf("%s: in %+v, out %+v", name, pair[0], pair[1])
		}
	}
	if unknown := merged.Unknown(); len(unknown) != 0 {
		t.Errorf("unknown: %v", unknown)
	}
	got.Kernel.Deltas[0].Size, got.Rootfs.Deltas[0] = 6, Delta{}
	got.DTBs["board.dtb"].Deltas[0] = Delta{}
	if again := v.Manifest(); !reflect.DeepEqual(again.Kernel.Deltas, want.Kernel.Deltas) || !reflect.DeepEqual(again.Rootfs.Deltas, want.Rootfs.Deltas) ||
		!reflect.DeepEqual(again.DTBs["board.dtb"].Deltas, want.DTBs["board.dtb"].Deltas) {
		t.Errorf("the verified manifest changed: %+v", again)
	}
}

// TestPartsAreNoticed: a member that nobody knows is shown to who signs, also in
// a patch.
func TestPartsAreNoticed(t *testing.T) {
	g := newGenerator(t)
	raw := withParts(`"deltas":[` + patch(1) + `,{"form":1,` + patch(2)[1:] + `]`)(g)
	d, err := OpenManifestDraft(raw)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(d.Unknown(), " "); got != `"artifacts.kernel.deltas[1].form"` {
		t.Errorf("unknown: %s", got)
	}
}

// TestReadersBeforePartsAccept: for a program that was made before there were
// chunk lists and patches they are unknown members of an artifact, which it
// accepts and keeps.
func TestReadersBeforePartsAccept(t *testing.T) {
	type artifact struct {
		Hash  blob.Digest    `json:"hash"`
		Size  int64          `json:"size"`
		URLs  []string       `json:"urls"`
		IPFS  string         `json:"ipfs,omitempty"`
		Extra strictjson.Raw `json:",embed"`
	}
	d, err := DraftManifest(partedManifest())
	if err != nil {
		t.Fatal(err)
	}
	var old struct {
		Artifacts struct {
			Kernel    artifact            `json:"kernel"`
			Initramfs artifact            `json:"initramfs"`
			Rootfs    *artifact           `json:"rootfs,omitzero"`
			DTBs      map[string]artifact `json:"dtbs,omitempty"`
			Extra     strictjson.Raw      `json:",embed"`
		} `json:"artifacts"`
		Extra strictjson.Raw `json:",embed"`
	}
	if _, err := decodePayload("manifest", d.signed, &old, manifestMembers); err != nil {
		t.Fatal(err)
	}
	names, err := unknownMembers([]extra{{"kernel.", old.Artifacts.Kernel.Extra}}, &memberForm)
	if err != nil || strings.Join(names, " ") != `"kernel.chunks" "kernel.deltas"` || old.Artifacts.Kernel.Size != 6 {
		t.Errorf("it reads %+v, unknown %v, %v", old.Artifacts.Kernel, names, err)
	}
}

// TestSignersRefuseBadParts: a mistake shows when the manifest is made.
func TestSignersRefuseBadParts(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(*Artifact)
		want  string
	}{
		"chunks are the artifact":   {func(a *Artifact) { a.Chunks = a.Hash }, "its own chunk list"},
		"no origin":                 {func(a *Artifact) { a.Deltas[0].From = blob.Digest{} }, ""},
		"no patch":                  {func(a *Artifact) { a.Deltas[0].Hash = blob.Digest{} }, ""},
		"from the artifact":         {func(a *Artifact) { a.Deltas[1].From = a.Hash }, "patch 2 is from the artifact itself"},
		"two from one":              {func(a *Artifact) { a.Deltas[1].From = a.Deltas[0].From }, "patch 2 is from the same blob"},
		"patch is the artifact":     {func(a *Artifact) { a.Deltas[0].Hash = a.Hash }, "patch 1 is a blob that is named"},
		"patch is its origin":       {func(a *Artifact) { a.Deltas[0].Hash = a.Deltas[0].From }, "patch 1 is a blob that is named"},
		"patch is the chunk list":   {func(a *Artifact) { a.Deltas[0].Hash = a.Chunks }, "patch 1 is a blob that is named"},
		"empty patch":               {func(a *Artifact) { a.Deltas[0].Size = 0 }, "patch 1 has size 0"},
		"patch above the artifact":  {func(a *Artifact) { a.Deltas[0].Size = a.Size + 1 }, "patch 1 has size"},
		"more patches than allowed": {func(a *Artifact) { a.Deltas = make([]Delta, MaxDeltas+1) }, ""},
	} {
		for _, of := range []string{"kernel", "rootfs", "board.dtb"} {
			m := partedManifest()
			switch of {
			case "kernel":
				tt.spoil(&m.Kernel)
			case "rootfs":
				tt.spoil(m.Rootfs)
			default:
				board := m.DTBs[of]
				tt.spoil(&board)
				m.DTBs[of] = board
			}
			if _, err := DraftManifest(m); err == nil || !strings.Contains(err.Error(), tt.want) || tt.want != "" && !strings.Contains(err.Error(), strings.TrimSuffix(of, ".dtb")) {
				t.Errorf("%s of %s: %v", name, of, err)
			}
		}
	}
}
