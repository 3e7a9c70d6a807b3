package bom

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/system"
)

// program builds one of ours: what `go test` builds has no list of modules.
func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "phase-verify")
	if out, err := exec.Command("go", "build", "-o", path, "../../cmd/phase-verify").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

func example(t *testing.T) Subject {
	return Subject{
		Name: "phase-x86_64-cloud.img", Version: "0.9", Time: time.Unix(1700000000, 0), Digest: blob.Of([]byte("image")), Size: 5,
		Materials: []system.Material{
			{Name: "linux-image-6.1.0-1-cloud-amd64", Version: "6.1.1-1+b2", Arch: "amd64", SHA256: blob.Of([]byte("k"))},
			{Name: "ca-certificates", Version: "1:2023~deb12", Arch: "all", SHA256: blob.Of([]byte("c"))},
			{Name: "systemd-bootx64.efi", SHA256: blob.Of([]byte("l"))},
		},
		Programs: []string{program(t)},
		Files:    []File{{"/phase/x86_64/vmlinuz", blob.Of([]byte("v")), 1}, {"/EFI/BOOT/BOOTX64.EFI", blob.Of([]byte("b")), 1}},
		Notes:    map[string]string{"kernel": "6.1.0-1-cloud-amd64", "chain": ""},
	}
}

func bill(t *testing.T, s Subject) []byte {
	t.Helper()
	b, err := Of(s)
	if err != nil {
		t.Fatal(err)
	}
	data, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestSchema has the schema of CycloneDX 1.6 judge, as the library's sources bring it.
func TestSchema(t *testing.T) {
	valid := schema(t)
	data := bill(t, example(t))
	if err := valid(data); err != nil {
		t.Errorf("%v\n%s", err, data)
	}
	if err := valid(bill(t, Subject{Name: "empty", Time: time.Unix(0, 0)})); err != nil {
		t.Errorf("a bill without parts: %v", err)
	}
	for _, broken := range []string{`"type": "library"`, `"alg": "SHA-256"`, `"serialNumber": "urn:uuid:`} {
		if err := valid(bytes.Replace(data, []byte(broken), []byte(strings.Replace(broken, `: "`, `: "x`, 1)), 1)); err == nil {
			t.Errorf("the schema finds nothing wrong when %s is", broken)
		}
	}
}

func schema(t *testing.T) func([]byte) error {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(strings.TrimSpace(string(out)), "schema")
	c := jsonschema.NewCompiler()
	for address, name := range map[string]string{
		"bom-1.6.schema.json": "bom-1.6.schema.json", "spdx.schema.json": "spdx.schema.json",
		"jsf-0.82.schema.json": "jsf-0.82.schemax.json",
	} {
		f, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.AddResource("http://cyclonedx.org/schema/"+address, doc); err != nil {
			t.Fatal(err)
		}
	}
	c.AssertFormat()
	s, err := c.Compile("http://cyclonedx.org/schema/bom-1.6.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return func(data []byte) error {
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
		if err != nil {
			return err
		}
		return s.Validate(doc)
	}
}

func TestDeterministic(t *testing.T) {
	s := example(t)
	one := bill(t, s)
	slices.Reverse(s.Materials)
	slices.Reverse(s.Files)
	s.Materials = append(s.Materials, s.Materials[0]) // two architectures share some
	if two := bill(t, s); !bytes.Equal(one, two) {
		t.Errorf("the order of parts shows:\n%s\n%s", one, two)
	}
	s.Digest = blob.Of([]byte("another image"))
	id := regexp.MustCompile(`"serialNumber": "[^"]*"`)
	if a, b := id.Find(one), id.Find(bill(t, s)); bytes.Equal(a, b) || a == nil {
		t.Errorf("two images have one serial number: %s, %s", a, b)
	}
}

func TestContent(t *testing.T) {
	var doc struct {
		Metadata struct {
			Component struct {
				Hashes []struct{ Content string }
			}
			Timestamp string
		}
		Components []struct{ Purl string }
	}
	data := bill(t, example(t))
	if err := json.Unmarshal(data, &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Metadata.Component.Hashes[0].Content != blob.Of([]byte("image")).Hex() || doc.Metadata.Timestamp != "2023-11-14T22:13:20Z" {
		t.Errorf("%+v", doc.Metadata)
	}
	if bytes.Contains(data, []byte("phase:chain")) {
		t.Error("a note that says nothing is there")
	}
	var purls []string
	for _, c := range doc.Components {
		purls = append(purls, c.Purl)
	}
	for _, want := range []string{
		"pkg:deb/debian/linux-image-6.1.0-1-cloud-amd64@6.1.1-1%2Bb2?arch=amd64",
		"pkg:deb/debian/ca-certificates@1:2023~deb12?arch=all",
		"pkg:golang/github.com/go-json-experiment/json@",
		"pkg:generic/go@1.",
	} {
		if !slices.ContainsFunc(purls, func(p string) bool { return strings.HasPrefix(p, want) }) {
			t.Errorf("no %s in\n%s", want, data)
		}
	}
	if !bytes.Contains(data, []byte("h1:")) {
		t.Error("no module has a sum")
	}
}

func TestRefuses(t *testing.T) {
	other := filepath.Join(t.TempDir(), "sh")
	if err := os.WriteFile(other, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Of(Subject{Name: "x", Programs: []string{other}}); err == nil {
		t.Error("a script has Go modules")
	}
	if _, err := Of(Subject{Name: "x", Programs: []string{other + "2"}}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestWrite(t *testing.T) {
	image := filepath.Join(t.TempDir(), "phase.img")
	b, err := Of(example(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := Write(Path(image), b); err != nil {
		t.Fatal(err)
	}
	want, err := b.Bytes()
	if got, readErr := os.ReadFile(image + ".cdx.json"); err != nil || readErr != nil || !bytes.Equal(got, want) {
		t.Error(err, readErr)
	}
}
