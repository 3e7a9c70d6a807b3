package release

import (
	"fmt"
	"os"

	"github.com/phasebased/phase/internal/verity"
)

// checkTree refuses a root file system that is not what its hash tree says: every
// machine with a cache would find that out, and none could mend it.
func (r Release) checkTree() error {
	if r.Verity == nil || r.Rootfs == "" {
		return nil
	}
	f, err := os.Open(r.Rootfs)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil {
		err = verity.Check(f, info.Size(), *r.Verity)
	}
	if err != nil {
		return fmt.Errorf("publish rootfs: %w", err)
	}
	return nil
}
