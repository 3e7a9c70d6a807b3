package manifest

import (
	"reflect"
	"testing"
)

func TestVerifyAcceptsWhatWasSigned(t *testing.T) {
	root := testRoot(t)
	file, err := SignManifest(testManifest(), private("targets-1", "targets-3")...)
	if err != nil {
		t.Fatal(err)
	}
	pointerFile, err := SignPointer(testPointer(file), testKey("timestamp"))
	if err != nil {
		t.Fatal(err)
	}
	ptr, err := verifyPointer(pointerFile, root, wantTest, now)
	if err != nil {
		t.Fatal(err)
	}
	if got := ptr.Pointer(); !reflect.DeepEqual(got, testPointer(file)) {
		t.Errorf("pointer changed:\n got %+v\nwant %+v", got, testPointer(file))
	}
	v, err := verifyManifest(file, root, wantTest, Floor{}, ptr, now)
	if err != nil {
		t.Fatal(err)
	}
	want := testManifest()
	want.Initramfs.URLs, want.Rootfs.URLs = []string{}, []string{}
	dtb := want.DTBs["board.dtb"]
	dtb.URLs = []string{}
	want.DTBs["board.dtb"] = dtb
	if got := v.Manifest(); !reflect.DeepEqual(got, want) {
		t.Errorf("manifest changed:\n got %+v\nwant %+v", got, want)
	}
	if got := v.Floor(); got.ManifestVersion != 7 || got.Digest != v.Digest() || v.Digest().IsZero() {
		t.Errorf("floor is %+v", got)
	}
	if len(v.KeyIDs()) != 2 {
		t.Errorf("signers are %v, want two", v.KeyIDs())
	}
	if _, err := verifyManifest(file, root, wantTest, v.Floor(), ptr, now); err != nil {
		t.Errorf("its own floor refuses it: %v", err)
	}
}
