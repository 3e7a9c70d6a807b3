package pid1

import "github.com/phasebased/phase/internal/sysinit"

// cacheSystem is the file system of the cache partition. Kernels for virtual
// machines have it built in, others as a module.
const cacheSystem = "ext4"

// MountCache mounts the cache partition, writable.
func (s *System) MountCache(device, dir string) error {
	if s.Modules != nil {
		if err := s.Modules.Load(cacheSystem); err != nil {
			return err
		}
	}
	return sysinit.MountDevice(device, dir, cacheSystem, false)
}
