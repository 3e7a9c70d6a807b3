package manifest

import (
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"github.com/phasebased/phase/dsse"
	"github.com/phasebased/phase/internal/strictjson"
)

type wireRootFile struct {
	Signed     strictjson.Raw      `json:"signed"`
	Signatures []wireRootSignature `json:"signatures"`
}

type wireRootSignature struct {
	KeyID *string `json:"keyid"`
	Sig   *string `json:"sig"` // hexadecimal, as TUF has it
}

// rootFile is a root's outer form. Nothing in it was verified.
type rootFile struct {
	signed     []byte            // canonical, exactly what signatures cover
	signatures map[string][]byte // by key id
}

// openRootFile parses the outer form of raw. Signatures cover the canonical
// form of everything in "signed", known or not (TUF 1.0.34, section 4.2.1);
// from here on only that form is read.
func openRootFile(raw []byte) (rootFile, error) {
	if len(raw) > MaxRootBytes {
		return rootFile{}, refuse("root", RuleSize, "%d bytes, at most %d are allowed", len(raw), MaxRootBytes)
	}
	var wire wireRootFile
	strict := rootLimits
	strict.RejectUnknown = true
	if err := strictjson.Unmarshal(raw, &wire, strict); err != nil {
		return rootFile{}, &Error{Rule: RuleMalformed, Object: "root", Err: err}
	}
	signed, err := strictjson.CanonicalizeOLPC(wire.Signed, rootLimits)
	if err != nil {
		return rootFile{}, &Error{Rule: RuleMalformed, Object: "root", Err: err}
	}
	file := rootFile{signed, make(map[string][]byte, len(wire.Signatures))}
	for _, s := range wire.Signatures {
		if err := file.take(s); err != nil {
			return rootFile{}, err
		}
	}
	return file, nil
}

func (f rootFile) take(s wireRootSignature) error {
	if s.KeyID == nil || s.Sig == nil {
		return refuse("root", RuleMalformed, "a signature lacks keyid or sig")
	}
	sig, err := hex.DecodeString(*s.Sig)
	if err != nil || hex.EncodeToString(sig) != *s.Sig {
		return refuse("root", RuleMalformed, "signature of %.64q is not lower-case hexadecimal", *s.KeyID)
	}
	if _, twice := f.signatures[*s.KeyID]; twice {
		return refuse("root", RuleMalformed, "two signatures name the key %.64q", *s.KeyID)
	}
	f.signatures[*s.KeyID] = sig
	return nil
}

var rootLimits = strictjson.Limits{Bytes: MaxRootBytes, Depth: 16, RejectNull: true}

// count returns how many distinct keys of a role signed the file. TUF signs the
// canonical bytes as they are, without DSSE; they start with a brace, so they
// can never be taken for a DSSE encoding.
func (f rootFile) count(role RoleKeys) int {
	valid := make(map[string]bool, len(role.Keys))
	for _, key := range role.Keys {
		id := dsse.KeyID(key)
		if sig, ok := f.signatures[id]; ok && ed25519.Verify(key, f.signed, sig) {
			valid[id] = true
		}
	}
	return len(valid)
}

// marshal encodes the file with its signatures in the order of their key ids,
// so that it is the same in whichever order people signed.
func (f rootFile) marshal() ([]byte, error) {
	list := make([]wireRootSignature, 0, len(f.signatures))
	for _, id := range slices.Sorted(maps.Keys(f.signatures)) {
		list = append(list, wireRootSignature{&id, new(hex.EncodeToString(f.signatures[id]))})
	}
	signatures, err := strictjson.MarshalCanonical(list)
	if err != nil {
		return nil, err
	}
	// Put together by hand, so that the signed bytes stay exactly as they are.
	return fmt.Appendf(nil, `{"signatures":%s,"signed":%s}`, signatures, f.signed), nil
}

// readRoot reads everything about a root but checks no signature.
func readRoot(raw []byte) (*Root, rootFile, error) {
	file, err := openRootFile(raw)
	if err != nil {
		return nil, rootFile{}, err
	}
	root, err := decodeRoot(file.signed)
	return root, file, err
}
