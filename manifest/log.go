package manifest

import (
	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/strictjson"
	"github.com/phasebased/phase/logproof"
)

// logEntry is what a transparency log keeps of a manifest. The digest names the
// signed payload and not the file, so that a signature that comes later does
// not make another release of it.
type logEntry struct {
	Arch            string      `json:"arch"`
	Channel         string      `json:"channel"`
	ManifestHash    blob.Digest `json:"manifest_hash"`
	ManifestVersion int64       `json:"manifest_version"`
	Product         string      `json:"product"`
}

// LogEntry returns the bytes under which a manifest stands in a transparency
// log: canonical JSON. payloadDigest is Verified.Digest or Draft.Digest. It
// returns nil, which no log holds, for an m that no signer would have made.
func LogEntry(m Manifest, payloadDigest blob.Digest) []byte {
	entry, err := strictjson.MarshalCanonical(logEntry{m.Arch, m.Channel, payloadDigest, m.ManifestVersion, Product})
	if err != nil {
		return nil
	}
	return entry
}

// checkLog is the last check, because it costs most.
func (v Verifier) checkLog(m opened, proof []byte) (*logproof.Logged, error) {
	if v.Log == nil {
		return nil, nil
	}
	if len(proof) == 0 {
		return nil, refuse(m.object, RuleLog, "it came without a log proof, and this medium accepts logged releases only")
	}
	logged, err := v.Log.Verify(proof, LogEntry(m.Manifest, m.digest))
	if err != nil {
		return nil, &Error{Rule: RuleLog, Object: m.object, Err: err}
	}
	return &logged, nil
}
