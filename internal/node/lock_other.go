//go:build !unix

package node

import (
	"io"
	"os"
	"path/filepath"
)

// lockDir keeps nobody away on systems without flock, which run no jobs.
func lockDir(dir string) (io.Closer, error) {
	return os.OpenFile(filepath.Join(dir, "jobs.lock"), os.O_RDWR|os.O_CREATE, 0o600)
}
