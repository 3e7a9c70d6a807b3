package translog

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/logproof"
)

// Witness is somebody who says which checkpoint of a log is the newest that
// continues what they saw before, and says so of one history only.
type Witness struct {
	Memory
	Name string             // in the signature lines, such as witness.example/w1
	Key  ed25519.PrivateKey // the witness's own
}

// Cosigned is what a witness has put its name to.
type Cosigned struct {
	Key  *logproof.Key       // the witness's public key
	Tree logproof.Checkpoint // the log's
	Path string              // file that carries the checkpoint with both signatures
	Note []byte              // its content
}

// Cosign checks that the log in dir continues what this witness saw last,
// remembers the new checkpoint, and only then signs it, as of now
// ("cosignature/v1", C2SP tlog-cosignature), into the log's folder. The file
// may be carried from one copy of the folder to another. Errors are those of
// Memory.Observe, and ErrKey for a memory that belongs to another witness.
//
// It promises consistency, nothing about the entries.
func (w Witness) Cosign(dir string, now time.Time) (*Cosigned, error) {
	signer, err := w.signer(now)
	if err != nil {
		return nil, err
	}
	lock, err := takeLock(w.Path + ".lock")
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	reader, known, err := w.follow(dir)
	if err != nil {
		return nil, err
	}
	if known.witness != nil && known.witness.String() != signer.String() || known.witness == nil && known.signed != nil {
		return nil, ErrKey.Of(w.Path, "it is not the memory of %s", signer.Key)
	}
	if known.signed, err = reader.logOnly(); err != nil {
		return nil, err
	}
	known.witness = signer.Key
	if err := known.write(w.Path); err != nil {
		return nil, err
	}
	return reader.attach(signer, known.signed)
}

// logOnly is the checkpoint with the log's signature alone.
func (r *Reader) logOnly() ([]byte, error) {
	c, err := r.openCosigned(r.signed)
	if err != nil {
		return nil, damaged(r.dir, err)
	}
	return c.signed, nil
}

// attach cosigns the log's checkpoint and writes it to the log's folder.
func (r *Reader) attach(signer cosigner, signed []byte) (*Cosigned, error) {
	opened, err := note.Open(signed, note.VerifierList(r.key))
	if err != nil {
		return nil, err
	}
	cosigned, err := note.Sign(opened, signer)
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("%08x", signer.KeyHash())
	// Below the folder of somebody who may want the witness to write elsewhere.
	path := cosignaturesName + "/" + strconv.FormatInt(r.tree.Size, 10) + "/" + name
	if err := durable.WriteBelow(r.dir, path, cosigned, 0o644); err != nil {
		return nil, err
	}
	return &Cosigned{signer.Key, r.tree, filepath.Join(r.dir, path), cosigned}, nil
}

// cosigner is a note.Signer of timestamped signatures.
type cosigner struct {
	*logproof.Key
	private ed25519.PrivateKey
	at      int64 // seconds since 1970
}

func (w Witness) signer(now time.Time) (cosigner, error) {
	if len(w.Key) != ed25519.PrivateKeySize {
		return cosigner{}, errors.New("not an Ed25519 private key")
	}
	if now.Unix() <= 0 {
		return cosigner{}, fmt.Errorf("the clock says %s", now.UTC().Format(time.RFC3339))
	}
	key, err := logproof.NewKey(w.Name, logproof.WitnessKey, w.Key.Public().(ed25519.PublicKey))
	return cosigner{key, w.Key, now.Unix()}, err
}

// Sign implements note.Signer.
func (s cosigner) Sign(text []byte) ([]byte, error) {
	sig := ed25519.Sign(s.private, logproof.CosignMessage(text, s.at))
	return append(binary.BigEndian.AppendUint64(nil, uint64(s.at)), sig...), nil
}
