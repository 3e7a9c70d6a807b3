//go:build unix

package node

import (
	"os"
	"syscall"
)

// onlyOurs refuses a file to which somebody else may write.
func onlyOurs(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.Mode().Perm()&0o022 != 0 || st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return &os.PathError{Op: "open", Path: f.Name(), Err: errOthers}
	}
	return nil
}
