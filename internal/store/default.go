package store

import (
	"fmt"
	"os"
	"path/filepath"
)

// DefaultDir is where the commands of one user keep their store together:
// phase/blobs in the user's cache folder, which is $XDG_CACHE_HOME, or ~/.cache
// (XDG Base Directory Specification).
func DefaultDir() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("where is the cache: %w", err)
	}
	return filepath.Join(cache, "phase", "blobs"), nil
}
