package logproof

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	proofHeader = "c2sp.org/tlog-proof@v1"
	maxPath     = 62 // hashes on the way up in a tree of MaxTreeSize entries
)

// proof is a tlog-proof taken apart; nothing in it is verified.
type proof struct {
	index      int64
	hashes     tlog.RecordProof
	checkpoint []byte // signed note
}

// parseProof reads a tlog-proof@v1. The extra line is checked for its form.
func parseProof(raw []byte) (*proof, error) {
	if len(raw) > MaxProofSize {
		return nil, malformed("%d bytes, limit %d", len(raw), MaxProofSize)
	}
	head, checkpoint, ok := bytes.Cut(raw, []byte("\n\n"))
	if !ok {
		return nil, malformed("no checkpoint")
	}
	lines := strings.Split(string(head), "\n")
	if lines[0] != proofHeader {
		return nil, malformed("first line is not %q", proofHeader)
	}
	lines = lines[1:]
	if len(lines) > 0 && strings.HasPrefix(lines[0], "extra ") {
		if data, err := decodeBase64(lines[0][len("extra "):]); err != nil || len(data) == 0 {
			return nil, malformed("extra line")
		}
		lines = lines[1:]
	}
	if len(lines) == 0 || !strings.HasPrefix(lines[0], "index ") {
		return nil, malformed("no index line")
	}
	index, err := parseCount(lines[0][len("index "):])
	if err != nil {
		return nil, malformed("index: %v", err)
	}
	hashes, err := parseHashes(lines[1:])
	if err != nil {
		return nil, err
	}
	return &proof{index, hashes, checkpoint}, nil
}

func parseHashes(lines []string) (tlog.RecordProof, error) {
	if len(lines) > maxPath {
		return nil, malformed("%d hashes, limit %d", len(lines), maxPath)
	}
	hashes := make(tlog.RecordProof, len(lines))
	for i, line := range lines {
		hash, err := parseHash(line)
		if err != nil {
			return nil, malformed("hash %d of the inclusion proof", i+1)
		}
		hashes[i] = hash
	}
	return hashes, nil
}

// Checkpoint is the signed text of a checkpoint, C2SP tlog-checkpoint.
type Checkpoint struct {
	Origin string
	Size   int64
	Root   tlog.Hash
	// Extensions are further lines, opaque, without their newlines.
	Extensions []string
}

// ParseCheckpoint reads the text of a checkpoint without its signatures, the
// newline at its end included. Stricter than the specification: the size is at
// most MaxTreeSize and the hash is canonical base64. It does not establish
// trust: check the signatures first. Errors wrap ErrMalformed.
func ParseCheckpoint(text string) (Checkpoint, error) {
	body, ok := strings.CutSuffix(text, "\n")
	lines := strings.Split(body, "\n")
	if !ok || len(lines) < 3 {
		return Checkpoint{}, malformed("checkpoint has less than three lines")
	}
	for _, line := range lines {
		if line == "" {
			return Checkpoint{}, malformed("checkpoint has an empty line")
		}
	}
	size, err := parseCount(lines[1])
	if err != nil {
		return Checkpoint{}, malformed("checkpoint: tree size: %v", err)
	}
	root, err := parseHash(lines[2])
	if err != nil {
		return Checkpoint{}, malformed("checkpoint: root hash")
	}
	c := Checkpoint{Origin: lines[0], Size: size, Root: root}
	if len(lines) > 3 {
		c.Extensions = lines[3:]
	}
	return c, nil
}

// Text is what ParseCheckpoint reads and what is signed.
func (c Checkpoint) Text() string {
	lines := append([]string{c.Origin, strconv.FormatInt(c.Size, 10), c.Root.String()}, c.Extensions...)
	return strings.Join(lines, "\n") + "\n"
}

// signedCheckpoint is a checkpoint whose log signature was verified.
type signedCheckpoint struct {
	checkpoint Checkpoint
	cosigned   []bool // for each witness of the policy
	latest     time.Time
}

// open verifies the signatures of all keys of the policy on a checkpoint. It
// demands one by a log whose name is the checkpoint's origin.
func (p *Policy) open(raw []byte) (*signedCheckpoint, error) {
	n, err := note.Open(raw, keyring{p})
	if err != nil {
		return nil, noteError(err)
	}
	c, err := ParseCheckpoint(n.Text)
	if err != nil {
		return nil, err
	}
	signed := &signedCheckpoint{checkpoint: c, cosigned: make([]bool, len(p.witnesses))}
	byLog := false
	for _, sig := range n.Sigs {
		id := keyID{sig.Name, sig.Hash}
		if k, ok := p.findLog(id); ok && k.Name() == c.Origin {
			byLog = true
		}
		if i, ok := p.findWitness(id); ok {
			signed.cosigned[i] = true
			if at := cosignedAt(sig); at.After(signed.latest) {
				signed.latest = at
			}
		}
	}
	if !byLog {
		return nil, fmt.Errorf("%w: origin %q", ErrLogKey, c.Origin)
	}
	return signed, nil
}

// noteError puts the refusals of package note in this package's words.
func noteError(err error) error {
	var unsigned *note.UnverifiedNoteError
	var invalid *note.InvalidSignatureError
	switch {
	case errors.As(err, &unsigned):
		return fmt.Errorf("%w: no signature by a known key", ErrLogKey)
	case errors.As(err, &invalid):
		return fmt.Errorf("%w: key %q %08x", ErrSignature, invalid.Name, invalid.Hash)
	default:
		return malformed("checkpoint: %v", err)
	}
}

// cosignedAt is the time inside a cosignature that note.Open has verified.
func cosignedAt(sig note.Signature) time.Time {
	raw, err := base64.StdEncoding.DecodeString(sig.Base64)
	if err != nil || len(raw) < 4+8 {
		return time.Time{} // not reached: its verifier read the same bytes
	}
	return time.Unix(int64(binary.BigEndian.Uint64(raw[4:])), 0).UTC()
}

// parseCount reads a decimal of the one form it can have, at most MaxTreeSize.
// Beyond that the arithmetic of package tlog does not end.
func parseCount(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != s {
		return 0, errors.New("not a decimal number without leading zeros")
	}
	if n > MaxTreeSize {
		return 0, errors.New("too large")
	}
	return n, nil
}

func parseHash(s string) (hash tlog.Hash, err error) {
	raw, err := decodeBase64(s)
	if err != nil || len(raw) != tlog.HashSize {
		return hash, errors.New("not a base64 SHA-256 hash")
	}
	return tlog.Hash(raw), nil
}

// decodeBase64 accepts the one encoding that every byte string has: the
// standard decoder would skip line ends and, unless strict, stray bits.
func decodeBase64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("line end in base64")
	}
	return base64.StdEncoding.Strict().DecodeString(s)
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}
