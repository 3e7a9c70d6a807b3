//go:build !unix

package store

import "os"

// lock knows no advisory locks here: no temporary file is ever taken for
// abandoned.
func lock(*os.File) bool { return false }
