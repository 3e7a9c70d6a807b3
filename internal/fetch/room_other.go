//go:build !linux

package fetch

import "os"

func freeSpace(*os.File) (int64, bool) { return 0, false }

func startWriting(*os.File, int64, int64) {}
