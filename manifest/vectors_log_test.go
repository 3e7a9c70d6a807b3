package manifest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"github.com/phasebased/phase/blob"
)

// A log with one entry, made by hand from the specifications of C2SP (tlog-
// policy, tlog-proof, tlog-checkpoint, signed-note) and RFC 6962: its root hash
// is that of the one leaf, and the inclusion proof is empty.
const logOrigin = "log.example"

// noteKeyHash is the name of an Ed25519 key in a signed note.
func noteKeyHash(pub ed25519.PublicKey) []byte {
	sum := sha256.Sum256(append([]byte(logOrigin+"\n\x01"), pub...))
	return sum[:4]
}

func logPolicy() []byte {
	pub := public("log")[0]
	return fmt.Appendf(nil, "log %s+%x+%s\nquorum none\n", logOrigin, noteKeyHash(pub),
		base64.StdEncoding.EncodeToString(append([]byte{1}, pub...)))
}

// entryOf writes the entry of the good manifest by hand.
func (g *generator) entryOf(channel, arch string, version int) []byte {
	return fmt.Appendf(nil, `{"arch":%q,"channel":%q,"manifest_hash":%q,"manifest_version":%d,"product":"phase-boot"}`,
		arch, channel, blob.Of([]byte(g.payload["manifest"])), version)
}

// proofOf proves that a log has an entry of the good manifest's digest.
func proofOf(logKey, channel, arch string, version int) func(*generator) []byte {
	return func(g *generator) []byte {
		leaf := sha256.Sum256(append([]byte{0}, g.entryOf(channel, arch, version)...))
		text := fmt.Sprintf("%s\n1\n%s\n", logOrigin, base64.StdEncoding.EncodeToString(leaf[:]))
		key := testKey(logKey)
		sig := append(noteKeyHash(key.Public().(ed25519.PublicKey)), ed25519.Sign(key, []byte(text))...)
		return fmt.Appendf(nil, "c2sp.org/tlog-proof@v1\nindex 0\n\n%s\n— %s %s\n", text, logOrigin, base64.StdEncoding.EncodeToString(sig))
	}
}

func noProof(*generator) []byte { return nil }
