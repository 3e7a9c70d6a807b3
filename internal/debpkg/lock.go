package debpkg

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/phasebased/phase/blob"
)

// lockFile is what was used: for each request ("linux-image-cloud-amd64:amd64")
// the packages that answered it. It holds no addresses; those are apt's affair.
type lockFile struct {
	Requests map[string][]Package `json:"requests"`
}

func (l *lockFile) parse(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(l); err != nil {
		return fmt.Errorf("debpkg: %s is damaged (delete it to start over): %w", lockName, err)
	}
	if l.Requests == nil {
		l.Requests = map[string][]Package{}
	}
	return nil
}

// marshal is deterministic: encoding/json sorts map keys.
func (l *lockFile) marshal() ([]byte, error) {
	data, err := json.MarshalIndent(l, "", "  ")
	return append(data, '\n'), err
}

// usable returns the packages recorded for a request if all their files are
// present with their digests, and nil otherwise.
func (l *lockFile) usable(dir, key string) []Package {
	var pkgs []Package
	for _, p := range l.Requests[key] {
		if !validFile(p.File) {
			return nil
		}
		p.dir = dir
		if d, err := digestFile(p.Path()); err != nil || d != p.SHA256 {
			return nil
		}
		pkgs = append(pkgs, p)
	}
	return pkgs
}

// validFile guards against a lock file that names something outside its folder.
func validFile(name string) bool {
	return len(name) > 4 && name[0] != '.' && !bytes.ContainsAny([]byte(name), "/\\\x00")
}

func digestFile(path string) (blob.Digest, error) {
	f, err := os.Open(path)
	if err != nil {
		return blob.Digest{}, fmt.Errorf("debpkg: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return blob.Digest{}, fmt.Errorf("debpkg: %w", err)
	}
	return blob.FromSum([32]byte(h.Sum(nil))), nil
}
