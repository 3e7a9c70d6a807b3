//go:build !unix

package durable

import "os"

// openForReading looks before it opens: here the system does not refuse links
// and pipes itself, so there is a moment between the look and the opening.
func openForReading(path string, links Links) (*os.File, error) {
	look := os.Lstat
	if links == FollowLinks {
		look = os.Stat
	}
	info, err := look(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, notRegular(path, info.Mode())
	}
	return os.Open(path)
}
