package manifest

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/strictjson"
)

// treeManifest has a root file system with a hash tree.
func treeManifest() Manifest {
	m := testManifest()
	m.Rootfs.Size = 12288
	m.Rootfs.Verity = &Verity{Root: blob.Of([]byte("tree")), Salt: []byte("salt"), DataSize: 8192}
	return m
}

// TestVerityTravels: what a publisher says of a hash tree is what a machine reads,
// and nobody can change it from outside.
func TestVerityTravels(t *testing.T) {
	for _, salt := range [][]byte{nil, {0}, bytes.Repeat([]byte{0xa5}, MaxVeritySalt)} {
		m := treeManifest()
		m.Rootfs.Verity.Salt = salt
		raw, err := SignManifest(m, private("targets-1", "targets-2")...)
		if err != nil {
			t.Fatal(err)
		}
		v, err := verifyManifest(raw, testRoot(t), wantTest, Floor{}, nil, now)
		if err != nil {
			t.Fatal(err)
		}
		got := v.Manifest().Rootfs.Verity
		if !reflect.DeepEqual(got, m.Rootfs.Verity) {
			t.Errorf("in %+v, out %+v", m.Rootfs.Verity, got)
		}
		got.DataSize = 1
		if len(salt) > 0 {
			got.Salt[0]++
		}
		if again := v.Manifest().Rootfs.Verity; !reflect.DeepEqual(again, m.Rootfs.Verity) {
			t.Errorf("the verified manifest changed: %+v", again)
		}
		if v.Manifest().Kernel.Verity != nil {
			t.Error("the kernel has a hash tree")
		}
	}
}

// TestVerityTreeSize against sizes that veritysetup gives.
func TestVerityTreeSize(t *testing.T) {
	for blocks, tree := range map[int64]int64{
		1: 0, 2: 1, 127: 1, 128: 1, 129: 3, 256: 3, 257: 4, 128 * 128: 129, 128*128 + 1: 132, 1 << 21: 16384 + 128 + 1,
	} {
		if got := VerityTreeSize(blocks * VerityBlock); got != tree*VerityBlock {
			t.Errorf("%d blocks have a tree of %d, want %d", blocks, got/VerityBlock, tree)
		}
	}
}

// TestVerityIsNoticed: a member that nobody knows is shown to who signs.
func TestVerityIsNoticed(t *testing.T) {
	raw := withVerity("12288", `{"data_size":8192,"kind":{"A":1},"root":`+treeRoot+`}`)(newGenerator(t))
	d, err := OpenManifestDraft(raw)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(d.Unknown(), " "); got != `"artifacts.rootfs.verity.kind"` {
		t.Errorf("unknown: %s", got)
	}
}

// TestReadersBeforeVerityAccept: for a program that was made before there were
// hash trees they are an unknown member of the root file system.
func TestReadersBeforeVerityAccept(t *testing.T) {
	type artifact struct {
		Hash  blob.Digest    `json:"hash"`
		Size  int64          `json:"size"`
		URLs  []string       `json:"urls"`
		Extra strictjson.Raw `json:",embed"`
	}
	d, err := DraftManifest(treeManifest())
	if err != nil {
		t.Fatal(err)
	}
	var old struct {
		Artifacts struct {
			Rootfs artifact       `json:"rootfs,omitzero"`
			Extra  strictjson.Raw `json:",embed"`
		} `json:"artifacts"`
		Extra strictjson.Raw `json:",embed"`
	}
	if _, err := decodePayload("manifest", d.signed, &old, manifestMembers); err != nil {
		t.Fatal(err)
	}
	names, err := unknownMembers([]extra{{"rootfs.", old.Artifacts.Rootfs.Extra}}, &memberForm)
	if err != nil || strings.Join(names, " ") != `"rootfs.verity"` || old.Artifacts.Rootfs.Size != 12288 {
		t.Errorf("it reads %+v, unknown %v, %v", old.Artifacts.Rootfs, names, err)
	}
}

// TestSignersRefuseBadVerity: a mistake shows when the manifest is made.
func TestSignersRefuseBadVerity(t *testing.T) {
	for name, tt := range map[string]struct {
		spoil func(*Manifest)
		want  string
	}{
		"no root":           {func(m *Manifest) { m.Rootfs.Verity.Root = blob.Digest{} }, ""},
		"long salt":         {func(m *Manifest) { m.Rootfs.Verity.Salt = make([]byte, MaxVeritySalt+1) }, "salt"},
		"no data":           {func(m *Manifest) { m.Rootfs.Verity.DataSize = 0 }, "positive multiple"},
		"negative":          {func(m *Manifest) { m.Rootfs.Verity.DataSize = -VerityBlock }, "positive multiple"},
		"no whole blocks":   {func(m *Manifest) { m.Rootfs.Verity.DataSize++ }, "positive multiple"},
		"overflow":          {func(m *Manifest) { m.Rootfs.Verity.DataSize = 1<<53 - VerityBlock }, "not the data_size"},
		"above the file":    {func(m *Manifest) { m.Rootfs.Verity.DataSize = m.Rootfs.Size + VerityBlock }, "not the data_size"},
		"no room":           {func(m *Manifest) { m.Rootfs.Size = 8192 }, "not the data_size"},
		"more than a tree":  {func(m *Manifest) { m.Rootfs.Size++ }, "not the data_size"},
		"of the kernel":     {func(m *Manifest) { m.Kernel.Verity = m.Rootfs.Verity }, "kernel has a hash tree"},
		"of the initramfs":  {func(m *Manifest) { m.Initramfs.Verity = m.Rootfs.Verity }, "initramfs has a hash tree"},
		"of a device tree":  {func(m *Manifest) { b := m.DTBs["board.dtb"]; b.Verity = m.Rootfs.Verity; m.DTBs["board.dtb"] = b }, "board.dtb has a hash tree"},
		"of another's name": {func(m *Manifest) { m.DTBs["rootfs"] = *m.Rootfs }, "rootfs has a hash tree"},
	} {
		m := treeManifest()
		tt.spoil(&m)
		if _, err := DraftManifest(m); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
