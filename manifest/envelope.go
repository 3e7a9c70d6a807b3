package manifest

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"slices"
	"strings"

	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/strictjson"
)

// Payload types bind a signature to the kind of document (DSSE).
const (
	ManifestPayloadType = "application/vnd.phase.boot-manifest.v0.1+json"
	PointerPayloadType  = "application/vnd.phase.boot-pointer.v0.1+json"
)

// kind is what sets one sort of document apart from the others.
type kind struct {
	object        string
	payloadType   string // of the envelope; empty: TUF's own form
	maxBytes      int
	maxSignatures int
}

var (
	kindManifest = kind{"manifest", ManifestPayloadType, MaxManifestBytes, dsse.MaxSignatures}
	kindPointer  = kind{"pointer", PointerPayloadType, MaxPointerBytes, dsse.MaxSignatures}
	kindRoot     = kind{"root", "", MaxRootBytes, 256} // those of the old and the new root role
)

type wireSigned struct {
	Data strictjson.Base64 `json:"data"`
}

type wireSignature struct {
	KeyID string            `json:"keyid"`
	Sig   strictjson.Base64 `json:"sig"`
}

// envelope is a document whose signatures were not looked at yet.
type envelope struct {
	payload    []byte
	signatures []dsse.Signature
	mirrored   map[string]strictjson.Raw // all other top-level members, unsigned
}

// openEnvelope parses the outer form of raw: size, strict JSON, strict base64.
func openEnvelope(raw []byte, k kind) (envelope, error) {
	if len(raw) > k.maxBytes {
		return envelope{}, refuse(k.object, RuleSize, "%d bytes, at most %d are allowed", len(raw), k.maxBytes)
	}
	malformed := func(detail string, err error) (envelope, error) {
		return envelope{}, &Error{Rule: RuleMalformed, Object: k.object, Detail: detail, Err: err}
	}
	lim := strictjson.Limits{Bytes: k.maxBytes, Depth: 16, RejectNull: true, RejectUnknown: true}
	var members map[string]strictjson.Raw
	if err := strictjson.Unmarshal(raw, &members, lim); err != nil {
		return malformed("envelope", err)
	}
	var signed wireSigned
	if err := strictjson.Unmarshal(members["signed"], &signed, lim); err != nil {
		return malformed(`envelope member "signed"`, err)
	}
	var signatures []wireSignature
	if err := strictjson.Unmarshal(members["signatures"], &signatures, lim); err != nil {
		return malformed(`envelope member "signatures"`, err)
	}
	env := envelope{payload: signed.Data, mirrored: members}
	delete(members, "signed")
	delete(members, "signatures")
	var err error
	if env.signatures, err = checkSignatures(signatures); err != nil {
		return malformed("envelope", err)
	}
	return env, nil
}

// checkSignatures refuses a list in which a key appears twice: honest signers
// do not make one, and whoever counts signatures instead of keys is fooled.
func checkSignatures(wire []wireSignature) ([]dsse.Signature, error) {
	if len(wire) > dsse.MaxSignatures {
		return nil, fmt.Errorf("%d signatures, at most %d are allowed", len(wire), dsse.MaxSignatures)
	}
	seen := make(map[string]bool, len(wire))
	list := make([]dsse.Signature, 0, len(wire))
	for _, s := range wire {
		switch {
		case !hexID(s.KeyID):
			return nil, fmt.Errorf("key id %.80q is not 64 lower-case hexadecimal digits", s.KeyID)
		case seen[s.KeyID]:
			return nil, fmt.Errorf("two signatures name the key %s", s.KeyID)
		case len(s.Sig) != ed25519.SignatureSize:
			return nil, fmt.Errorf("signature of %d bytes, want %d", len(s.Sig), ed25519.SignatureSize)
		}
		seen[s.KeyID] = true
		list = append(list, dsse.Signature{KeyID: s.KeyID, Sig: s.Sig})
	}
	return list, nil
}

// signers are the roles that signed a document, each with the ids of its keys.
type signers map[signer][]string

// authenticate returns those of the roles that may sign documents of this kind
// whose threshold is met by signatures over the payload; there is at least one.
// A manifest's channel is part of the payload, which nobody may interpret yet,
// so which of several roles had to sign it is for responsible to say.
func (e envelope) authenticate(k kind, root *Root) (signers, error) {
	if !root.usable() {
		return nil, refuse(k.object, RuleSignature, "there is no root to check against")
	}
	if len(e.signatures) == 0 {
		return nil, refuse(k.object, RuleSignature, "it is not signed")
	}
	found := signers{}
	var missed []string
	for _, s := range root.signersOf(k) {
		keys := root.keysOf(s)
		ids, err := dsse.Verify(k.payloadType, e.payload, e.signatures, keys.Keys, keys.Threshold)
		if err != nil {
			missed = append(missed, fmt.Sprintf("%s: %v", s, err))
			continue
		}
		found[s] = ids
	}
	if len(found) == 0 {
		return nil, refuse(k.object, RuleSignature, "root version %d, %s", root.version, strings.Join(missed, "; "))
	}
	return found, nil
}

// responsible returns the ids of the keys that signed for the role that signs
// manifests of channel. That another role signed is of no use.
func (s signers) responsible(root *Root, channel string) ([]string, error) {
	wanted := root.signerOf(channel)
	if ids, ok := s[wanted]; ok {
		return ids, nil
	}
	return nil, refuse(kindManifest.object, RuleSignature, "it is signed by %s, but channel %.40q has to be signed by %s",
		s, channel, wanted)
}

// String lists the roles.
func (s signers) String() string {
	var names []string
	for name := range s {
		names = append(names, string(name))
	}
	slices.Sort(names)
	return strings.Join(names, " and ")
}

// checkMirrored compares the envelope's readable copies with the signed
// members. A copy of something that is not signed is refused as well.
func (e envelope) checkMirrored(k kind, signed map[string]strictjson.Raw) error {
	for name, copied := range e.mirrored {
		original, ok := signed[name]
		if !ok {
			return refuse(k.object, RuleMirrored, "envelope member %.40q is not part of the signed data", name)
		}
		canonical, err := strictjson.Canonicalize(copied, strictjson.Limits{})
		if err != nil {
			return &Error{Rule: RuleMalformed, Object: k.object, Detail: "envelope", Err: err}
		}
		if !bytes.Equal(canonical, original) {
			return refuse(k.object, RuleMirrored, "envelope member %q differs from the signed one", name)
		}
	}
	return nil
}

// pointer decodes the payload of a pointer and applies the checks that need
// nothing but the file.
func (e envelope) pointer() (Pointer, wirePointer, error) {
	p, wire, members, err := decodePointer(e.payload)
	if err != nil {
		return Pointer{}, wire, err
	}
	if err := e.checkMirrored(kindPointer, members); err != nil {
		return Pointer{}, wire, err
	}
	return p, wire, wire.checkProduct()
}
