//go:build !unix

package store

import (
	"io/fs"
	"os"
)

const (
	openFlags  = 0
	locksExist = false
)

// tryLock knows no advisory locks here: every file is in use by somebody, so
// that no temporary file is ever taken for abandoned, except to its own writer.
func tryLock(*os.File) (bool, error) { return false, nil }

func unlocked(*os.File) (bool, error) { return false, nil }

// waitLock excludes nobody: here one process at a time may use a store.
func waitLock(*os.File) error { return nil }

func links(fs.FileInfo) uint64 { return 1 }

func onDisk(info fs.FileInfo) int64 { return info.Size() }
