//go:build !unix

package fetch

import (
	"errors"
	"io/fs"
	"os"
)

var errNoSpace = errors.New("no space left on device")

// openOwn knows no locks here: every transfer begins a file of its own.
func openOwn(string) (*os.File, error) { return nil, errors.ErrUnsupported }

func allocated(fs.FileInfo) int64 { return 0 }
