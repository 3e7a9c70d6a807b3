//go:build !unix

package translog

import (
	"errors"
	"os"
)

// lockFile fails where there are no advisory locks: two writers would fork a log.
func lockFile(*os.File) error { return errors.ErrUnsupported }
