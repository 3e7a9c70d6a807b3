//go:build !linux

package durable

import "os"

// FreeSpace is not known here.
func FreeSpace(*os.File) (bytes int64, known bool) { return 0, false }
