package manifest

import (
	"crypto/ed25519"
	"fmt"
	"maps"
	"slices"

	"github.com/phasebased/phase/internal/strictjson"
)

// DraftManifest makes an unsigned manifest. Times are cut to whole seconds; the
// result depends on m only. Errors wrap an *Error if m breaks a rule.
func DraftManifest(m Manifest) (*Draft, error) {
	payload, err := strictjson.MarshalCanonical(wireOf(m))
	if err != nil {
		return nil, fmt.Errorf("draft manifest: %w", err)
	}
	d, err := manifestDraft(envelope{payload: payload})
	if err != nil {
		return nil, fmt.Errorf("draft manifest: %w", err)
	}
	return d, nil
}

// DraftPointer makes an unsigned pointer as DraftManifest does a manifest. Its
// file holds at most 2 KiB, which is what bounds the number of URLs in practice.
func DraftPointer(p Pointer) (*Draft, error) {
	payload, err := strictjson.MarshalCanonical(wirePointerOf(p))
	if err != nil {
		return nil, fmt.Errorf("draft pointer: %w", err)
	}
	d, err := pointerDraft(envelope{payload: payload})
	if err != nil {
		return nil, fmt.Errorf("draft pointer: %w", err)
	}
	return d, nil
}

// DraftRoot makes an unsigned root. Channels must be ones that exist.
func DraftRoot(spec RootSpec) (*Draft, error) {
	d, err := draftRoot(spec)
	if err != nil {
		return nil, fmt.Errorf("draft root: %w", err)
	}
	return d, nil
}

func draftRoot(spec RootSpec) (*Draft, error) {
	for _, name := range slices.Concat(slices.Collect(maps.Keys(spec.Channels)), slices.Collect(maps.Keys(spec.Floors))) {
		if err := CheckChannel(name); err != nil {
			return nil, err
		}
	}
	text, err := strictjson.MarshalCanonical(wireRootOf(spec))
	if err != nil {
		return nil, err
	}
	signed, err := strictjson.CanonicalizeOLPC(text, rootLimits)
	if err != nil {
		return nil, err
	}
	root, err := decodeRoot(signed)
	if err != nil {
		return nil, err
	}
	return &Draft{kind: kindRoot, signed: signed, signatures: map[string][]byte{}, root: root, unknown: root.foreign}, nil
}

// OpenManifestDraft reads a manifest file, signed by anybody, somebody or
// nobody. It applies every rule that depends on the file alone; errors are
// *Error. Whose the signatures are, and whether they are valid, is not judged.
func OpenManifestDraft(raw []byte) (*Draft, error) {
	env, err := openEnvelope(raw, kindManifest)
	if err != nil {
		return nil, err
	}
	return manifestDraft(env)
}

// OpenPointerDraft is OpenManifestDraft for pointers.
func OpenPointerDraft(raw []byte) (*Draft, error) {
	env, err := openEnvelope(raw, kindPointer)
	if err != nil {
		return nil, err
	}
	return pointerDraft(env)
}

// OpenRootDraft is OpenManifestDraft for roots. Members that this program does
// not know are kept.
func OpenRootDraft(raw []byte) (*Draft, error) {
	root, file, err := readRoot(raw)
	if err != nil {
		return nil, err
	}
	if n := len(file.signatures); n > kindRoot.maxSignatures {
		return nil, refuse("root", RuleMalformed, "%d signatures, at most %d are allowed", n, kindRoot.maxSignatures)
	}
	for id, sig := range file.signatures {
		if !hexID(id) || len(sig) != ed25519.SignatureSize {
			return nil, refuse("root", RuleMalformed, "signature of %.64q has no proper key id, or not %d bytes", id, ed25519.SignatureSize)
		}
	}
	return &Draft{kind: kindRoot, signed: file.signed, signatures: file.signatures, root: root, unknown: root.foreign}, nil
}

func manifestDraft(env envelope) (*Draft, error) {
	m, wire, members, err := decodeManifest(env.payload)
	if err != nil {
		return nil, err
	}
	if err := env.checkMirrored(kindManifest, members); err != nil {
		return nil, err
	}
	if err := wire.checkProduct(); err != nil {
		return nil, err
	}
	if err := m.checkPolicy(); err != nil {
		return nil, &Error{Rule: RulePolicy, Object: kindManifest.object, Err: err}
	}
	d := env.draft(kindManifest)
	d.manifest = m
	d.unknown, err = unknownMembers(wire.extras(), nil)
	return d, err
}

func pointerDraft(env envelope) (*Draft, error) {
	p, wire, err := env.pointer()
	if err != nil {
		return nil, err
	}
	if err := p.checkPolicy(); err != nil {
		return nil, &Error{Rule: RulePolicy, Object: kindPointer.object, Err: err}
	}
	d := env.draft(kindPointer)
	d.pointer = p
	d.unknown, err = unknownMembers(wire.extras(), nil)
	return d, err
}

func (e envelope) draft(k kind) *Draft {
	d := &Draft{kind: k, signed: e.payload, signatures: map[string][]byte{}, mirrored: e.mirrored}
	for _, s := range e.signatures {
		d.signatures[s.KeyID] = s.Sig
	}
	return d
}
