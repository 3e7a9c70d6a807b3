// Package bom writes bills of materials in the form of CycloneDX 1.6 (JSON), for
// people and their scanners: what of others is inside an image or a release, in
// which version, with which digest, and what of ours.
//
// Equal arguments give equal bytes: the serial number is derived from the content,
// parts are sorted, and the only date is the one that the build has. A bill is a
// claim of whoever built, as good as the signature over the list that names its
// file; nothing here verifies anything.
package bom

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"debug/buildinfo"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/internal/system"
)

// File is a file that is described, or is a part of what is.
type File struct {
	Name   string // with slashes, as a person finds it
	SHA256 blob.Digest
	Size   int64 // bytes; 0: not told
}

// Subject is what a bill is about.
type Subject struct {
	Name    string    // an image's file name, or a release
	Version string    // of the product
	Time    time.Time // SOURCE_DATE_EPOCH
	Digest  blob.Digest
	Size    int64 // bytes of the file that Digest is of; 0: it is no file

	Materials []system.Material // of others: packages and files that were given
	Programs  []string          // paths of our programs, whose Go modules are listed
	Files     []File            // of ours
	Notes     map[string]string // further properties, "phase:" before each name
}

// Bill is a bill of materials.
type Bill struct{ doc *cdx.BOM }

// Of makes the bill. It fails if a program is not one that the Go tools have built.
func Of(s Subject) (*Bill, error) {
	b := &builder{seen: map[string]int{}}
	for _, m := range s.Materials {
		b.add(material(m))
	}
	for _, path := range s.Programs {
		if err := b.program(path); err != nil {
			return nil, err
		}
	}
	for _, f := range s.Files {
		b.add(file(f))
	}
	doc := cdx.NewBOM()
	doc.SpecVersion, doc.JSONSchema = cdx.SpecVersion1_6, "http://cyclonedx.org/schema/bom-1.6.schema.json"
	doc.Metadata = &cdx.Metadata{
		Timestamp: s.Time.UTC().Format(time.RFC3339),
		Component: subject(s),
		Tools: &cdx.ToolsChoice{Components: &[]cdx.Component{{
			Type: cdx.ComponentTypeApplication, Name: "phase", Version: s.Version,
		}}},
	}
	slices.SortFunc(b.parts, func(x, y cdx.Component) int { return cmp.Compare(x.BOMRef, y.BOMRef) })
	if len(b.parts) > 0 {
		doc.Components = &b.parts
	}
	return finish(doc)
}

// finish derives the serial number from all the rest (RFC 9562, version 8).
func finish(doc *cdx.BOM) (*Bill, error) {
	b := &Bill{doc}
	data, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(data)
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80
	doc.SerialNumber = fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:16])
	return b, nil
}

// Bytes is the file.
func (b *Bill) Bytes() ([]byte, error) {
	var out bytes.Buffer
	enc := cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false)
	if err := enc.EncodeVersion(b.doc, cdx.SpecVersion1_6); err != nil {
		return nil, fmt.Errorf("bill of materials: %w", err)
	}
	return out.Bytes(), nil
}

// Path is where the bill of an image lies: beside it.
func Path(image string) string { return image + ".cdx.json" }

// Write writes the bill to path, whole or not at all.
func Write(path string, b *Bill) error {
	data, err := b.Bytes()
	if err != nil {
		return err
	}
	return durable.WriteFile(path, data, 0o644)
}

// subject is the component that the bill is about.
func subject(s Subject) *cdx.Component {
	c := &cdx.Component{
		BOMRef: "subject:" + s.Name, Type: cdx.ComponentTypeFirmware, Name: s.Name, Version: s.Version,
	}
	if !s.Digest.IsZero() {
		c.Hashes = sha256Of(s.Digest)
	}
	notes := map[string]string{}
	for name, value := range s.Notes {
		notes[name] = value
	}
	if s.Size > 0 {
		notes["size"] = fmt.Sprint(s.Size)
	}
	c.Properties = properties(notes)
	return c
}

func properties(notes map[string]string) *[]cdx.Property {
	var list []cdx.Property
	for name, value := range notes {
		if value != "" {
			list = append(list, cdx.Property{Name: "phase:" + name, Value: value})
		}
	}
	if list == nil {
		return nil
	}
	slices.SortFunc(list, func(a, b cdx.Property) int { return cmp.Compare(a.Name, b.Name) })
	return &list
}

func sha256Of(d blob.Digest) *[]cdx.Hash {
	return &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: d.Hex()}}
}

// material is a Debian package, or a file that was given instead of one.
func material(m system.Material) cdx.Component {
	c := cdx.Component{Type: cdx.ComponentTypeApplication, Name: m.Name, Version: m.Version, Hashes: sha256Of(m.SHA256)}
	if m.Version == "" || m.Arch == "" {
		c.Type = cdx.ComponentTypeFile
		c.BOMRef = "given:" + m.Name + "@" + m.SHA256.Hex()
		c.Properties = properties(map[string]string{"arch": m.Arch})
		return c
	}
	c.PackageURL = fmt.Sprintf("pkg:deb/debian/%s@%s?arch=%s", purl(m.Name), purl(m.Version), purl(m.Arch))
	c.BOMRef = c.PackageURL + "#" + m.SHA256.Hex()
	return c
}

// purl encodes a part of a package URL: everything but letters, digits, ".", "-",
// "_", "~" and the colon (https://github.com/package-url/purl-spec).
func purl(text string) string {
	return strings.ReplaceAll(strings.ReplaceAll(url.QueryEscape(text), "+", "%20"), "%3A", ":")
}

func file(f File) cdx.Component {
	c := cdx.Component{Type: cdx.ComponentTypeFile, Name: f.Name, Hashes: sha256Of(f.SHA256), BOMRef: "file:" + f.Name}
	if f.Size > 0 {
		c.Properties = properties(map[string]string{"size": fmt.Sprint(f.Size)})
	}
	return c
}

// builder collects parts, each once.
type builder struct {
	parts []cdx.Component
	seen  map[string]int // by BOMRef
}

func (b *builder) add(c cdx.Component) {
	if _, there := b.seen[c.BOMRef]; there {
		return
	}
	b.seen[c.BOMRef] = len(b.parts)
	b.parts = append(b.parts, c)
}

// program adds one of our programs, and the modules that the linker noted in it.
func (b *builder) program(path string) error {
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		return fmt.Errorf("bill of materials: %s: %w", path, err)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	size, err := io.Copy(h, f)
	if err != nil {
		return err
	}
	own := file(File{filepath.Base(path), blob.FromSum([sha256.Size]byte(h.Sum(nil))), size})
	own.Type, own.BOMRef = cdx.ComponentTypeApplication, "program:"+own.Name+"@"+(*own.Hashes)[0].Value
	b.add(own)
	goVersion, _, _ := strings.Cut(strings.TrimPrefix(info.GoVersion, "go"), " ") // experiments follow
	b.add(library("pkg:generic/go", "go", goVersion))
	for _, dep := range info.Deps {
		if dep.Replace != nil {
			dep = dep.Replace
		}
		b.module(dep.Path, dep.Version, dep.Sum)
	}
	return nil
}

// module adds a Go module. Its sum, as in go.sum, is a digest of a listing of its
// files (golang.org/x/mod/sumdb/dirhash) and of no archive, so it is a property.
func (b *builder) module(path, version, sum string) {
	parts := strings.Split(path, "/")
	for i := range parts {
		parts[i] = purl(parts[i])
	}
	c := library("pkg:golang/"+strings.Join(parts, "/"), path, version)
	c.Properties = properties(map[string]string{"go.sum": sum})
	b.add(c)
}

func library(kind, name, version string) cdx.Component {
	id := kind + "@" + purl(version)
	return cdx.Component{Type: cdx.ComponentTypeLibrary, Name: name, Version: version, PackageURL: id, BOMRef: id}
}
