package handover

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/strictjson"
	"github.com/phasebased/phase/internal/timeline"
	"github.com/phasebased/phase/manifest"
)

func testInfo() Info {
	return Info{
		SchemaVersion: SchemaVersion, Mode: "internet", Channel: "stable", Arch: "x86_64",
		Manifest:   Manifest{Version: 7, Digest: blob.Of([]byte("manifest")), KeyIDs: []string{"4b2277"}},
		Bases:      []string{"http://10.0.2.2:8080"},
		Bootstrap:  []string{"/ip4/10.0.2.2/tcp/4001/p2p/12D3KooWQHHDQ9oGgFbhd7CEmW4rHQnUDkZSeb4NvYBiL3q8sw2m"},
		Timeline:   []timeline.Stage{{Name: "network", Kernel: "seed", Start: time.Second, End: 2 * time.Second}},
		ClockState: "ok",
		Clock:      time.Date(2026, 3, 1, 12, 0, 0, 5e8, time.UTC),
		Network:    strictjson.Raw(`{"DNS":[]}`),
		Documents:  &Documents{Manifest: []byte("m"), Proof: []byte("p"), Pointer: []byte("\x00\xff"), Roots: [][]byte{[]byte("1"), []byte("2")}},
	}
}

func TestInfoRoundTrip(t *testing.T) {
	want := testInfo()
	data, err := want.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseInfo(data)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("ParseInfo = %+v, %v\nwant %+v", got, err, want)
	}
	again, err := got.Marshal()
	if err != nil || !bytes.Equal(again, data) {
		t.Errorf("not canonical: %s, %v", again, err)
	}
}

func TestClockIsOptionalAndInUTC(t *testing.T) {
	i := testInfo()
	i.Clock = time.Time{}
	data, err := i.Marshal()
	if err != nil || bytes.Contains(data, []byte(`"clock":`)) {
		t.Errorf("no clock: %s, %v", data, err)
	}
	i.Clock = time.Date(2200, 1, 1, 1, 0, 0, 0, time.FixedZone("", 2*3600)) // 2199 in UTC
	data, err = i.Marshal()
	if err != nil || !bytes.Contains(data, []byte(`"clock":"2199-12-31T23:00:00Z"`)) {
		t.Errorf("clock of another zone: %s, %v", data, err)
	}
}

// Documents that do not fit are left to others to offer.
func TestMarshalDropsDocumentsThatDoNotFit(t *testing.T) {
	i := testInfo()
	i.Documents.Roots = slices.Repeat([][]byte{make([]byte, manifest.MaxRootBytes)}, 7)
	data, err := i.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseInfo(data); err != nil || got.Documents != nil || got.Mode != i.Mode {
		t.Errorf("%+v, %v", got.Documents, err)
	}
	i.Documents = nil
	if data, err = i.Marshal(); err != nil || bytes.Contains(data, []byte("documents")) {
		t.Errorf("without documents: %s, %v", data, err)
	}
}

// Nobody needs the timeline to boot, so it is what gives way.
func TestMarshalDropsATimelineThatDoesNotFit(t *testing.T) {
	long := timeline.Stage{Name: "x", Kernel: "seed", Note: strings.Repeat("\x01", 1000), Err: strings.Repeat("\x01", 1000)}
	nearly := strictjson.Raw(`"` + strings.Repeat("x", MaxInfoBytes*3/4) + `"`)
	tests := map[string]struct {
		change func(*Info)
		stages int
	}{
		"few":        {func(i *Info) { i.Network = nearly }, 1},
		"long ones":  {func(i *Info) { i.Timeline = slices.Repeat([]timeline.Stage{long}, 100); i.Network = nearly }, 0},
		"too many":   {func(i *Info) { i.Timeline = slices.Repeat(i.Timeline, timeline.MaxStages+1) }, 0},
		"just fit":   {func(i *Info) { i.Timeline = slices.Repeat(i.Timeline, timeline.MaxStages) }, timeline.MaxStages},
		"many, long": {func(i *Info) { i.Timeline = slices.Repeat([]timeline.Stage{long}, timeline.MaxStages+1) }, 0},
	}
	for name, tt := range tests {
		i := testInfo()
		tt.change(&i)
		before := len(i.Timeline)
		data, err := i.Marshal()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := ParseInfo(data)
		if err != nil || len(got.Timeline) != tt.stages || got.Mode != i.Mode || !bytes.Equal(got.Network, i.Network) {
			t.Errorf("%s: %d stages, want %d; %v", name, len(got.Timeline), tt.stages, err)
		}
		if len(i.Timeline) != before {
			t.Errorf("%s: Marshal changed its receiver", name)
		}
	}
}

func TestInfoRefuses(t *testing.T) {
	changes := map[string]func(*Info){
		"schema":        func(i *Info) { i.SchemaVersion = 2 },
		"no mode":       func(i *Info) { i.Mode = "" },
		"no arch":       func(i *Info) { i.Arch = "" },
		"no manifest":   func(i *Info) { i.Manifest = Manifest{} },
		"no digest":     func(i *Info) { i.Manifest.Digest = blob.Digest{} },
		"many bases":    func(i *Info) { i.Bases = make([]string, maxList+1) },
		"long item":     func(i *Info) { i.Bootstrap = []string{strings.Repeat("x", maxItem+1)} },
		"long mode":     func(i *Info) { i.Mode = strings.Repeat("x", maxItem+1) },
		"bad stage":     func(i *Info) { i.Timeline = []timeline.Stage{{Name: "", Kernel: "seed"}} },
		"large network": func(i *Info) { i.Network = strictjson.Raw(`"` + strings.Repeat("x", MaxInfoBytes) + `"`) },
		"clock 2019":    func(i *Info) { i.Clock = time.Date(2019, 12, 31, 23, 59, 59, 0, time.UTC) },
		"clock 2200":    func(i *Info) { i.Clock = time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC) },
		"no document":   func(i *Info) { i.Documents.Manifest = nil },
		"long manifest": func(i *Info) { i.Documents.Manifest = make([]byte, manifest.MaxManifestBytes+1) },
		"long pointer":  func(i *Info) { i.Documents.Pointer = make([]byte, MaxPointerBytes+1) },
		"long proof":    func(i *Info) { i.Documents.Proof = make([]byte, maxProof+1) },
		"no root":       func(i *Info) { i.Documents.Roots = nil },
		"empty root":    func(i *Info) { i.Documents.Roots[1] = nil },
		"long root":     func(i *Info) { i.Documents.Roots[0] = make([]byte, manifest.MaxRootBytes+1) },
		"many roots":    func(i *Info) { i.Documents.Roots = slices.Repeat([][]byte{{1}}, manifest.MaxRootChain+2) },
		"float":         func(i *Info) { i.Network = strictjson.Raw(`1.5`) },
	}
	for name, change := range changes {
		i := testInfo()
		change(&i)
		if _, err := i.Marshal(); !errors.Is(err, ErrInfo) {
			t.Errorf("%s: err = %v, want ErrInfo", name, err)
		}
	}
}

func TestParseInfoRefuses(t *testing.T) {
	good, err := testInfo().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	edit := func(old, new string) []byte {
		if !bytes.Contains(good, []byte(old)) {
			t.Fatalf("%q is not in %s", old, good)
		}
		return bytes.Replace(good, []byte(old), []byte(new), 1)
	}
	tests := map[string][]byte{
		"empty":        nil,
		"null":         []byte("null"),
		"trailing":     append(bytes.Clone(good), '{'),
		"newer schema": edit(`"schema_version":1`, `"extra":1,"schema_version":2`),
		"extra twice":  edit(`"mode"`, `"extra":1,"extra":1,"mode"`),
		"extra float":  edit(`"mode"`, `"extra":1.5,"mode"`),
		"duplicate":    edit(`"mode"`, `"mode":"local","mode"`),
		"case":         edit(`"mode"`, `"Mode"`),
		"version 1.0":  edit(`"version":7`, `"version":7.0`),
		"version 0":    edit(`"version":7`, `"version":0`),
		"digest":       edit(`"sha256:`, `"sha512:`),
		"no stage":     edit(`"start_ns":1000000000`, `"start_ns":9000000000`),
		"too large":    append(bytes.Repeat([]byte(" "), MaxInfoBytes+2), good...),
		"clock's form": edit(`"2026-03-01T12:00:00.5Z"`, `"2026-03-01 12:00:00"`),
		"clock's type": edit(`"2026-03-01T12:00:00.5Z"`, `1772366400`),
		"clock's year": edit(`"2026-03-01T`, `"1970-03-01T`),
		"deep":         edit(`{"DNS":[]}`, strings.Repeat("[", 50)+strings.Repeat("]", 50)),
	}
	for name, data := range tests {
		if _, err := ParseInfo(data); !errors.Is(err, ErrInfo) {
			t.Errorf("%s: err = %v, want ErrInfo", name, err)
		}
	}
}

// A newer seed tells more than this system understands.
func TestParseInfoPassesOver(t *testing.T) {
	want := testInfo()
	want.Cache, want.Rootfs = true, &Rootfs{Place: PlaceInitramfs, Digest: blob.Of([]byte("root")), Size: 4096}
	good, err := want.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if want, err = ParseInfo(good); err != nil {
		t.Fatal(err)
	}
	for _, before := range []string{`"mode"`, `"key_ids"`, `"manifest":"`, `"place"`, `"start_ns"`} {
		for _, extra := range []string{`"extra":1,`, `"extra":null,`, `"extra":{"list":[{"name":"value"}]},`} {
			data := bytes.Replace(good, []byte(before), []byte(extra+before), 1)
			if bytes.Equal(data, good) {
				t.Fatalf("%s is not in %s", before, good)
			}
			got, err := ParseInfo(data)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s before %s: ParseInfo = %+v, %v\nwant %+v", extra, before, got, err, want)
			}
		}
	}
}

func FuzzParseInfo(f *testing.F) {
	good, err := testInfo().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, data []byte) {
		i, err := ParseInfo(data)
		if err != nil {
			return
		}
		out, err := i.Marshal()
		if err != nil {
			t.Fatalf("parsed, but cannot be written: %v", err)
		}
		if _, err := ParseInfo(out); err != nil {
			t.Fatal(err)
		}
	})
}
