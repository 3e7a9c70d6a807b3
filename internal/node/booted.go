package node

import (
	"fmt"
	"io"
	"os"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/strictjson"
	"github.com/phasebased/phase/receipt"
)

// maxBooted bounds the file that the seed leaves behind.
const maxBooted = 1 << 20

// Booted is what a node wants to know from the seed that started its system:
// a part of the hand-over file. The file is as trustworthy as the kernel that
// this node runs on, as both came from the same seed.
type Booted struct {
	Mode     string `json:"mode"` // internet, local or private
	Tor      bool   `json:"tor"`  // the seed asked everything through Tor
	Channel  string `json:"channel"`
	Arch     string `json:"arch"`
	Manifest struct {
		Version int64       `json:"version"`
		Digest  blob.Digest `json:"digest"`
		KeyIDs  []string    `json:"key_ids"` // of the keys whose signatures the seed accepted
	} `json:"manifest"`
	Bases     []string `json:"bases"`     // base URLs of the providers that served the boot
	Bootstrap []string `json:"bootstrap"` // peers to join the network through
}

// ReadBooted reads the hand-over file at path: strict JSON of at most 1 MiB.
// Members it does not know are passed over; they are for others.
func ReadBooted(path string) (*Booted, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("what this machine booted: %w", err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxBooted+1))
	if err != nil {
		return nil, fmt.Errorf("what this machine booted: %w", err)
	}
	var b Booted
	if err := strictjson.Unmarshal(raw, &b, strictjson.Limits{Bytes: maxBooted, Depth: 16}); err != nil {
		return nil, fmt.Errorf("what this machine booted: %s: %w", path, err)
	}
	if b.Manifest.Version < 1 || b.Manifest.Digest.IsZero() || b.Channel == "" || b.Arch == "" {
		return nil, fmt.Errorf("what this machine booted: %s names no manifest", path)
	}
	return &b, nil
}

// Receipt is the part that goes into receipts.
func (b *Booted) Receipt() *receipt.Booted {
	return &receipt.Booted{
		ManifestVersion: b.Manifest.Version, ManifestDigest: b.Manifest.Digest,
		Channel: b.Channel, Arch: b.Arch,
	}
}
