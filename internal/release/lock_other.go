//go:build !unix

package release

import (
	"errors"
	"os"
)

// lockFile fails where there are no advisory locks: an older release could be
// written over a newer one.
func lockFile(string) (*os.File, error) { return nil, errors.ErrUnsupported }
