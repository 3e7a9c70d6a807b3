package handover

import (
	"github.com/phasebased/phase/manifest"
)

// place refuses a root file system that is given in two ways or in none, or that
// is not the manifest's, and says where the next system finds it. What is kept in
// the cache was hashed when it was stored; the next system checks each block.
func (s Set) place(m manifest.Manifest) (*Rootfs, error) {
	if s.Kept == nil {
		return rootfsOf(m, PlaceInitramfs), nil
	}
	a, wanted := m.Artifact("rootfs")
	switch {
	case s.Rootfs != nil:
		return nil, refuse(stepCheck, codeSet, "", "the rootfs is given twice")
	case !wanted:
		return nil, refuse(stepCheck, codeSet, "", "the manifest has no rootfs, but there is one")
	case a.Verity == nil || s.Kept.Name() != "rootfs":
		return nil, refuse(stepCheck, codeSet, "", "the rootfs is in the cache, and nothing checks it there")
	case !s.Info.Cache || s.Info.CacheID == "":
		return nil, refuse(stepCheck, codeSet, "", "the rootfs is in a cache that the next system could not find")
	}
	return rootfsOf(m, PlaceCache), checkIdentity("rootfs", s.Kept, a)
}
