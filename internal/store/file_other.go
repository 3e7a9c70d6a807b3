//go:build !linux

package store

import "os"

// forget cannot be asked for here.
func forget(*os.File) {}

func missing(os.FileInfo) int64 { return 0 }
