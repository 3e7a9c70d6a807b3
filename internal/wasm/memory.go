package wasm

import (
	"fmt"
	"syscall"

	"github.com/tetratelabs/wazero/experimental"
)

// boundedMemory is a guest's linear memory. It has its addresses from the
// beginning, so that it grows where it is, without being copied, and the system
// gives it each page, zeroed, when it is first touched. It remembers how large it
// became and whether it was ever refused. One instance serves one guest; the engine
// calls it from the guest's own thread.
type boundedMemory struct {
	limit   uint64 // bytes
	peak    uint64
	refused bool
	lacking bool   // the system had no more
	mapped  []byte // limit bytes, of which the first peak can be used
}

// Allocate implements experimental.MemoryAllocator.
func (m *boundedMemory) Allocate(_, _ uint64) experimental.LinearMemory { return m }

// Reallocate gives size bytes with the old content, or nil when that is over the
// limit, which the guest gets to see. That the system has no more is not for the
// guest to see, because another node has: it ends the guest.
func (m *boundedMemory) Reallocate(size uint64) []byte {
	if size > m.limit {
		m.refused = true
		return nil
	}
	if err := m.use(size); err != nil {
		m.lacking = true
		panic(fmt.Errorf("%d bytes of memory for the guest: %w", size, err))
	}
	m.peak = max(m.peak, size)
	return m.mapped[:size:size]
}

// use makes the first size bytes readable and writable.
func (m *boundedMemory) use(size uint64) (err error) {
	if m.mapped == nil && m.limit > 0 {
		// Addresses only: nothing counts as used yet.
		m.mapped, err = syscall.Mmap(-1, 0, int(m.limit), syscall.PROT_NONE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
		if err != nil {
			return err
		}
	}
	if size <= m.peak {
		return nil
	}
	return syscall.Mprotect(m.mapped[:size], syscall.PROT_READ|syscall.PROT_WRITE)
}

// Free implements experimental.LinearMemory. The engine calls it while its own
// structures still refer to the bytes; release follows.
func (m *boundedMemory) Free() {}

// release gives the memory back. Nothing may refer to it any more.
func (m *boundedMemory) release() {
	if m.mapped != nil {
		_ = syscall.Munmap(m.mapped)
		m.mapped = nil
	}
}
