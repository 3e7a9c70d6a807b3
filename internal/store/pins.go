package store

import "github.com/phasebased/phase/blob"

// pinned says which pins protect a blob.
func (s *Store) pinned() (map[blob.Digest][]string, error) { return nil, nil }
