package timeline

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"time"
	"unicode/utf16"
)

type codedError struct{}

func (codedError) Error() string { return "no lease" }
func (codedError) Code() string  { return "NET-003" }

// ticks is a clock that moves one second each time it is read.
func ticks() func() time.Duration {
	var now time.Duration
	return func() time.Duration { now += time.Second; return now }
}

func TestRecorderKeepsStagesFilesAndEvents(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run", "phase")
	var events bytes.Buffer
	r := NewRecorder(Config{Kernel: KernelSeed, Now: ticks(), Dir: dir, Events: &events})

	r.Begin("Network").End("eth0 10.0.2.15", nil)
	failing := r.Begin("../discovery")
	failing.End("", fmt.Errorf("discovery: %w", codedError{}))
	failing.End("a second end is ignored", nil)

	want := []Stage{
		{Name: "Network", Kernel: "seed", Start: time.Second, End: 2 * time.Second, Note: "eth0 10.0.2.15"},
		{Name: "../discovery", Kernel: "seed", Start: 3 * time.Second, End: 4 * time.Second, Err: "discovery: no lease"},
	}
	if got := r.Stages(); !reflect.DeepEqual(got, want) {
		t.Errorf("stages = %+v, want %+v", got, want)
	}
	got, err := os.ReadFile(filepath.Join(dir, "01-network.json"))
	if err != nil {
		t.Fatal(err)
	}
	const file = `{"name":"Network","kernel":"seed","start_ns":1000000000,"end_ns":2000000000,"note":"eth0 10.0.2.15"}` + "\n"
	if string(got) != file {
		t.Errorf("stage file = %s, want %s", got, file)
	}
	if _, err := os.Stat(filepath.Join(dir, "02----discovery.json")); err != nil {
		t.Errorf("a stage's name must not become a path: %v", err)
	}
	lines := strings.Split(strings.TrimSpace(events.String()), "\n")
	if len(lines) != 4 {
		t.Fatalf("%d events, want 4:\n%s", len(lines), events.String())
	}
	last, err := ParseEvent([]byte(lines[3]))
	if err != nil || last.Code != "NET-003" || last.Event != EventStageEnd || last.Text != "discovery: no lease" {
		t.Errorf("last event = %+v, %v", last, err)
	}
	if r.Err() != nil {
		t.Errorf("Err = %v", r.Err())
	}
}

func TestDetailIsNoPartOfTheStage(t *testing.T) {
	dir := t.TempDir()
	var events bytes.Buffer
	r := NewRecorder(Config{Kernel: KernelSeed, Now: ticks(), Dir: dir, Events: &events})
	r.Begin("fetch").EndWith("30 MB", []byte(`[{"name":"rootfs"}]`), nil)
	if got := r.Stages()[0]; got.Note != "30 MB" || r.Err() != nil {
		t.Errorf("%+v, %v", got, r.Err())
	}
	file, err := os.ReadFile(filepath.Join(dir, "01-fetch.json"))
	if err != nil || !strings.HasSuffix(string(file), `"note":"30 MB","detail":[{"name":"rootfs"}]}`+"\n") {
		t.Errorf("the file is %s, %v", file, err)
	}
	_, line, _ := strings.Cut(strings.TrimSpace(events.String()), "\n")
	if e, err := ParseEvent([]byte(line)); err != nil || string(e.Data) != `[{"name":"rootfs"}]` {
		t.Errorf("the event is %+v, %v", e, err)
	}
	for _, detail := range []string{"{", `"` + strings.Repeat("x", maxDetail) + `"`} {
		r := NewRecorder(Config{Kernel: KernelSeed, Now: ticks()})
		r.Begin("fetch").EndWith("", []byte(detail), nil)
		if r.Err() == nil || len(r.Stages()) != 1 {
			t.Errorf("detail %.20q: %v", detail, r.Err())
		}
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("port gone") }

func TestRecorderSurvivesFailingSinks(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := NewRecorder(Config{Kernel: KernelSeed, Now: ticks(), Dir: file, Events: brokenWriter{}})
	r.Begin("time").End("", nil)
	if len(r.Stages()) != 1 {
		t.Error("the stage was lost with the sink")
	}
	if err := r.Err(); err == nil || !strings.Contains(err.Error(), "port gone") || !strings.Contains(err.Error(), "keep stage") {
		t.Errorf("Err = %v, want both failures", err)
	}
}

func TestRecorderBoundsStagesAndText(t *testing.T) {
	r := NewRecorder(Config{Kernel: KernelSeed, Now: ticks()})
	for range MaxStages + 1 {
		r.Begin(strings.Repeat("n", 100)).End(strings.Repeat("é", maxText), nil)
	}
	if err := CheckAll(r.Stages()); err != nil {
		t.Errorf("what was recorded does not pass its own check: %v", err)
	}
	if r.Err() == nil {
		t.Error("a dropped stage must be told")
	}
}

func TestParseRoundTrip(t *testing.T) {
	want := []Stage{{Name: "verify", Kernel: KernelSeed, Start: 1, End: 2, Note: "n", Err: "e"}}
	data, err := Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Parse(data); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("Parse = %+v, %v", got, err)
	}
	if data, err = Marshal(nil); err != nil || string(data) != "[]" {
		t.Errorf("Marshal(nil) = %s, %v", data, err)
	}
}

func TestParseRefuses(t *testing.T) {
	stage := func(s string) string { return `[{"name":"a","kernel":"seed",` + s + `}]` }
	tests := map[string]string{
		"not json":      `stage`,
		"null":          `null`,
		"trailing":      `[] []`,
		"unknown name":  stage(`"start_ns":1,"end_ns":2,"extra":1`),
		"duplicate":     stage(`"start_ns":1,"end_ns":2,"end_ns":3`),
		"case variant":  stage(`"START_NS":1,"end_ns":2`),
		"fraction":      stage(`"start_ns":1.5,"end_ns":2`),
		"ends early":    stage(`"start_ns":3,"end_ns":2`),
		"negative":      stage(`"start_ns":-1,"end_ns":2`),
		"over int64":    stage(`"start_ns":1,"end_ns":9223372036854775808`),
		"no name":       `[{"name":"","kernel":"seed","start_ns":1,"end_ns":2}]`,
		"no kernel":     `[{"name":"a","start_ns":1,"end_ns":2}]`,
		"long note":     stage(`"start_ns":1,"end_ns":2,"note":"` + strings.Repeat("x", maxText+1) + `"`),
		"invalid utf-8": stage("\"start_ns\":1,\"end_ns\":2,\"note\":\"\xff\""),
		"too many":      `[` + strings.Repeat(`{"name":"a","kernel":"seed","start_ns":1,"end_ns":2},`, MaxStages) + `{"name":"a","kernel":"seed","start_ns":1,"end_ns":2}]`,
		"too large":     `[]` + strings.Repeat(" ", MaxBytes),
		"deep":          strings.Repeat("[", 20000),
	}
	for name, in := range tests {
		if _, err := Parse([]byte(in)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: err = %v, want ErrMalformed", name, err)
		}
	}
}

func TestParseEventRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"empty":     ``,
		"no event":  `{"at_ns":1}`,
		"negative":  `{"event":"x","at_ns":-1}`,
		"duplicate": `{"event":"x","event":"y","at_ns":1}`,
		"too large": `{"event":"x","at_ns":1,"text":"` + strings.Repeat("a", MaxEventBytes) + `"}`,
		"two":       `{"event":"x","at_ns":1}{"event":"x","at_ns":1}`,
	} {
		if _, err := ParseEvent([]byte(in)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: err = %v, want ErrMalformed", name, err)
		}
	}
	if _, err := ParseEvent([]byte(`{"event":"x","at_ns":1,"later":true}`)); err != nil {
		t.Errorf("a newer guest's extra name must be passed over: %v", err)
	}
}

func efiVar(text string) *fstest.MapFile {
	data := []byte{6, 0, 0, 0}
	for _, u := range utf16.Encode([]rune(text)) {
		data = binary.LittleEndian.AppendUint16(data, u)
	}
	return &fstest.MapFile{Data: data}
}

func TestFirmwareTimes(t *testing.T) {
	vars := fstest.MapFS{loaderInit: efiVar("1234567\x00"), loaderExec: efiVar("2500000")}
	init, exec, err := FirmwareTimes(vars)
	if err != nil || init != 1234567*time.Microsecond || exec != 2500*time.Millisecond {
		t.Errorf("FirmwareTimes = %v, %v, %v", init, exec, err)
	}
	if s := FirmwareStages(init, exec); s[0].End != s[1].Start || CheckAll(s) != nil {
		t.Errorf("stages = %+v", s)
	}
}

func TestFirmwareTimesRefuses(t *testing.T) {
	if _, _, err := FirmwareTimes(fstest.MapFS{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: err = %v, want fs.ErrNotExist", err)
	}
	for name, v := range map[string]*fstest.MapFile{
		"empty":      {Data: nil},
		"attributes": {Data: []byte{6, 0, 0, 0}},
		"odd":        {Data: []byte{6, 0, 0, 0, '1', 0, '2'}},
		"text":       efiVar("soon"),
		"negative":   efiVar("-5"),
		"years":      efiVar("99999999999999"),
		"huge":       efiVar(strings.Repeat("1", 500)),
		"past exec":  efiVar("2"),
	} {
		vars := fstest.MapFS{loaderInit: v, loaderExec: efiVar("1")}
		if _, _, err := FirmwareTimes(vars); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: err = %v, want ErrMalformed", name, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`[{"name":"a","kernel":"seed","start_ns":1,"end_ns":2,"note":"n"}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		stages, err := Parse(data)
		if err != nil {
			return
		}
		out, err := Marshal(stages)
		if err != nil {
			t.Fatal(err)
		}
		again, err := Parse(out)
		if err != nil || !reflect.DeepEqual(stages, again) {
			t.Fatalf("not stable: %v\n%+v\n%+v", err, stages, again)
		}
	})
}
