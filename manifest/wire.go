package manifest

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/strictjson"
)

// schemaVersion is written into new documents; any "0.x" is read.
const schemaVersion = "0.1"

// The wire types are the JSON form of the payloads. Extra keeps the members
// that later minor versions add, so that encoding what was decoded gives the
// same bytes again.
type wireManifest struct {
	Version         string         `json:"version"`
	Product         string         `json:"product,omitempty"`
	ManifestVersion int64          `json:"manifest_version"`
	Channel         string         `json:"channel"`
	Arch            string         `json:"arch"`
	CreatedAt       wireTime       `json:"created_at"`
	ExpiresAt       wireTime       `json:"expires_at"`
	Artifacts       wireArtifacts  `json:"artifacts"`
	Cmdline         string         `json:"cmdline,omitempty"`
	SecurityFloor   int64          `json:"security_floor,omitzero"`
	Extra           strictjson.Raw `json:",embed"`
}

type wireArtifacts struct {
	Kernel    wireArtifact            `json:"kernel"`
	Initramfs wireArtifact            `json:"initramfs"`
	Rootfs    *wireArtifact           `json:"rootfs,omitzero"`
	DTBs      map[string]wireArtifact `json:"dtbs,omitempty"`
	Extra     strictjson.Raw          `json:",embed"`
}

type wireArtifact struct {
	Hash   blob.Digest    `json:"hash"`
	Size   int64          `json:"size"`
	URLs   []string       `json:"urls"`
	IPFS   string         `json:"ipfs,omitempty"`
	Chunks blob.Digest    `json:"chunks,omitzero"`
	Deltas []wireDelta    `json:"deltas,omitempty"`
	Verity *wireVerity    `json:"verity,omitzero"`
	Extra  strictjson.Raw `json:",embed"`
}

type wireVerity struct {
	Root     blob.Digest    `json:"root"`
	Salt     wireSalt       `json:"salt,omitempty"`
	DataSize int64          `json:"data_size"`
	Extra    strictjson.Raw `json:",embed"`
}

type wireDelta struct {
	From  blob.Digest    `json:"from"`
	Hash  blob.Digest    `json:"hash"`
	Size  int64          `json:"size"`
	Extra strictjson.Raw `json:",embed"`
}

type wirePointer struct {
	Version         string         `json:"version"`
	Product         string         `json:"product"`
	Channel         string         `json:"channel"`
	Arch            string         `json:"arch"`
	ManifestVersion int64          `json:"manifest_version"`
	ManifestHash    blob.Digest    `json:"manifest_hash"`
	ManifestSize    int64          `json:"manifest_size"`
	RootVersion     int64          `json:"root_version"`
	CreatedAt       wireTime       `json:"created_at"`
	ExpiresAt       wireTime       `json:"expires_at"`
	URLs            []string       `json:"urls"`
	Extra           strictjson.Raw `json:",embed"`
}

var (
	manifestMembers = []string{"version", "manifest_version", "channel", "arch", "created_at", "expires_at", "artifacts"}
	pointerMembers  = []string{"version", "product", "channel", "arch", "manifest_version", "manifest_hash",
		"manifest_size", "root_version", "created_at", "expires_at", "urls"}
)

// wireTime is a time written as RFC 3339 in UTC with whole seconds, between the
// years 2000 and 2999. The field is not embedded: time.Time's own JSON methods
// would win.
type wireTime struct{ at time.Time }

const wireTimeLayout = "2006-01-02T15:04:05Z"

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *wireTime) UnmarshalText(text []byte) error {
	parsed, err := time.Parse(wireTimeLayout, string(text))
	if err != nil || parsed.Format(wireTimeLayout) != string(text) {
		return fmt.Errorf("time %.40q is not of the form %s", text, wireTimeLayout)
	}
	if parsed.Year() < 2000 || parsed.Year() > 2999 {
		return fmt.Errorf("time %s is not within the years 2000 to 2999", text)
	}
	t.at = parsed
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (t wireTime) MarshalText() ([]byte, error) {
	text := []byte(t.at.UTC().Format(wireTimeLayout))
	return text, new(wireTime).UnmarshalText(text)
}

// decodePayload reads the payload of a document into wire, a pointer to one of
// the wire types, and returns its top-level members. The payload must be a
// canonical encoding, so that signed bytes and values stand one to one.
func decodePayload(object string, payload []byte, wire any, required []string) (map[string]strictjson.Raw, error) {
	lim := strictjson.Limits{Bytes: MaxManifestBytes, Depth: 16, RejectNull: true}
	var members map[string]strictjson.Raw
	if err := strictjson.Unmarshal(payload, &members, lim); err != nil {
		return nil, &Error{Rule: RuleMalformed, Object: object, Detail: "signed data", Err: err}
	}
	if version, ok := members["version"]; ok { // before all else: a new major may lack the rest
		if err := checkSchema(object, version); err != nil {
			return nil, err
		}
	}
	for _, name := range required {
		if _, ok := members[name]; !ok {
			return nil, refuse(object, RuleMalformed, "signed data lacks %q", name)
		}
	}
	if err := strictjson.Unmarshal(payload, wire, lim); err != nil {
		return nil, &Error{Rule: RuleMalformed, Object: object, Detail: "signed data", Err: err}
	}
	again, err := strictjson.MarshalCanonical(wire)
	if err != nil {
		return nil, &Error{Rule: RuleMalformed, Object: object, Detail: "signed data", Err: err}
	}
	if !bytes.Equal(again, payload) {
		return nil, refuse(object, RuleMalformed,
			"signed data is not in canonical form (order, white space, escapes, or an empty or missing member)")
	}
	return members, nil
}

// checkSchema accepts "0.<number>" only.
func checkSchema(object string, raw strictjson.Raw) error {
	var version string
	if err := strictjson.Unmarshal(raw, &version, strictjson.Limits{}); err != nil {
		return &Error{Rule: RuleMalformed, Object: object, Detail: "schema version", Err: err}
	}
	if !schemaPattern.MatchString(version) {
		return refuse(object, RuleSchema, "schema version %.20q, this program reads 0.x", version)
	}
	return nil
}

var schemaPattern = regexp.MustCompile(`^0\.(0|[1-9][0-9]{0,3})$`)

// decodeManifest reads a payload. Its signature was checked by the caller.
func decodeManifest(payload []byte) (Manifest, wireManifest, map[string]strictjson.Raw, error) {
	const object = "manifest"
	var w wireManifest
	members, err := decodePayload(object, payload, &w, manifestMembers)
	if err != nil {
		return Manifest{}, w, nil, err
	}
	if _, err := unknownMembers(w.extras(), &memberForm); err != nil {
		return Manifest{}, w, nil, &Error{Rule: RuleMalformed, Object: object, Err: err}
	}
	if w.ManifestVersion < 1 {
		return Manifest{}, w, nil, refuse(object, RuleMalformed, "manifest_version is %d, must be at least 1", w.ManifestVersion)
	}
	if w.SecurityFloor < 0 || w.SecurityFloor > w.ManifestVersion {
		return Manifest{}, w, nil, refuse(object, RuleMalformed,
			"security_floor is %d, must be within 1 and the manifest's own version %d", w.SecurityFloor, w.ManifestVersion)
	}
	return w.manifest(), w, members, nil
}

// decodePointer reads a payload. Its signature was checked by the caller,
// unless that is InspectPointer.
func decodePointer(payload []byte) (Pointer, wirePointer, map[string]strictjson.Raw, error) {
	const object = "pointer"
	var w wirePointer
	members, err := decodePayload(object, payload, &w, pointerMembers)
	if err != nil {
		return Pointer{}, w, nil, err
	}
	if _, err := unknownMembers(w.extras(), &memberForm); err != nil {
		return Pointer{}, w, nil, &Error{Rule: RuleMalformed, Object: object, Err: err}
	}
	if w.ManifestVersion < 1 || w.RootVersion < 1 {
		return Pointer{}, w, nil, refuse(object, RuleMalformed,
			"manifest_version is %d and root_version %d, both must be at least 1", w.ManifestVersion, w.RootVersion)
	}
	return w.pointer(), w, members, nil
}

// checkProduct: a manifest need not name the product, a pointer must.
func (w wireManifest) checkProduct() error {
	if w.Product != "" && w.Product != Product {
		return refuse("manifest", RuleProduct, "signed for %.40q, not for %q", w.Product, Product)
	}
	return nil
}

func (w wirePointer) checkProduct() error {
	if w.Product != Product {
		return refuse("pointer", RuleProduct, "signed for %.40q, not for %q", w.Product, Product)
	}
	return nil
}

func (w wireManifest) manifest() Manifest {
	m := Manifest{
		ManifestVersion: w.ManifestVersion,
		Channel:         w.Channel,
		Arch:            w.Arch,
		CreatedAt:       w.CreatedAt.at,
		ExpiresAt:       w.ExpiresAt.at,
		Kernel:          w.Artifacts.Kernel.artifact(),
		Initramfs:       w.Artifacts.Initramfs.artifact(),
		Cmdline:         w.Cmdline,
		SecurityFloor:   w.SecurityFloor,
	}
	if w.Artifacts.Rootfs != nil {
		rootfs := w.Artifacts.Rootfs.artifact()
		m.Rootfs = &rootfs
	}
	if len(w.Artifacts.DTBs) > 0 {
		m.DTBs = make(map[string]Artifact, len(w.Artifacts.DTBs))
		for name, dtb := range w.Artifacts.DTBs {
			m.DTBs[name] = dtb.artifact()
		}
	}
	return m
}

func (w wireArtifact) artifact() Artifact {
	a := Artifact{Hash: w.Hash, Size: w.Size, URLs: w.URLs, IPFS: w.IPFS, Chunks: w.Chunks}
	for _, d := range w.Deltas {
		a.Deltas = append(a.Deltas, Delta{From: d.From, Hash: d.Hash, Size: d.Size})
	}
	if v := w.Verity; v != nil {
		a.Verity = &Verity{Root: v.Root, Salt: v.Salt, DataSize: v.DataSize}
	}
	return a
}

func (w wirePointer) pointer() Pointer {
	return Pointer{
		Channel:         w.Channel,
		Arch:            w.Arch,
		ManifestVersion: w.ManifestVersion,
		ManifestHash:    w.ManifestHash,
		ManifestSize:    w.ManifestSize,
		RootVersion:     w.RootVersion,
		CreatedAt:       w.CreatedAt.at,
		ExpiresAt:       w.ExpiresAt.at,
		URLs:            w.URLs,
	}
}

// wireOf is the inverse of wireManifest.manifest.
func wireOf(m Manifest) wireManifest {
	w := wireManifest{
		Version:         schemaVersion,
		Product:         Product,
		ManifestVersion: m.ManifestVersion,
		Channel:         m.Channel,
		Arch:            m.Arch,
		CreatedAt:       wireTime{m.CreatedAt},
		ExpiresAt:       wireTime{m.ExpiresAt},
		Artifacts: wireArtifacts{
			Kernel:    wireArtifactOf(m.Kernel),
			Initramfs: wireArtifactOf(m.Initramfs),
		},
		Cmdline:       m.Cmdline,
		SecurityFloor: m.SecurityFloor,
	}
	if m.Rootfs != nil {
		rootfs := wireArtifactOf(*m.Rootfs)
		w.Artifacts.Rootfs = &rootfs
	}
	if len(m.DTBs) > 0 {
		w.Artifacts.DTBs = make(map[string]wireArtifact, len(m.DTBs))
		for name, dtb := range m.DTBs {
			w.Artifacts.DTBs[name] = wireArtifactOf(dtb)
		}
	}
	return w
}

func wireArtifactOf(a Artifact) wireArtifact {
	w := wireArtifact{Hash: a.Hash, Size: a.Size, URLs: a.URLs, IPFS: a.IPFS, Chunks: a.Chunks}
	for _, d := range a.Deltas {
		w.Deltas = append(w.Deltas, wireDelta{From: d.From, Hash: d.Hash, Size: d.Size})
	}
	if v := a.Verity; v != nil {
		w.Verity = &wireVerity{Root: v.Root, Salt: v.Salt, DataSize: v.DataSize}
	}
	return w
}

func wirePointerOf(p Pointer) wirePointer {
	return wirePointer{
		Version:         schemaVersion,
		Product:         Product,
		Channel:         p.Channel,
		Arch:            p.Arch,
		ManifestVersion: p.ManifestVersion,
		ManifestHash:    p.ManifestHash,
		ManifestSize:    p.ManifestSize,
		RootVersion:     p.RootVersion,
		CreatedAt:       wireTime{p.CreatedAt},
		ExpiresAt:       wireTime{p.ExpiresAt},
		URLs:            p.URLs,
	}
}

// hexID reports whether s looks like a key id.
func hexID(s string) bool {
	return len(s) == 64 && !slices.ContainsFunc([]byte(s), func(c byte) bool {
		return !strings.ContainsRune("0123456789abcdef", rune(c))
	})
}
