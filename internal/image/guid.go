package image

import (
	"crypto/sha256"
	"strings"

	"github.com/phasebased/phase/internal/guid"
)

// DeriveGUID makes a GUID from names. Equal names give equal media, which is what a
// reproducible build needs.
func DeriveGUID(names ...string) guid.GUID {
	return guid.Of(sha256.Sum256([]byte("phase image guid\x00" + strings.Join(names, "\x00"))))
}
