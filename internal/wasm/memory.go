package wasm

import "github.com/tetratelabs/wazero/experimental"

// boundedMemory allocates a guest's linear memory up to a limit and remembers
// how large it became and whether it was ever refused. One instance serves
// one guest; the engine calls it from the guest's own thread.
type boundedMemory struct {
	limit   uint64
	peak    uint64
	refused bool
	bytes   []byte
}

// Allocate implements experimental.MemoryAllocator.
func (m *boundedMemory) Allocate(_, _ uint64) experimental.LinearMemory { return m }

// Reallocate gives size bytes with the old content, or nil when that is over
// the limit. Growth doubles the capacity, so that a guest that grows page by
// page is not copied page by page.
func (m *boundedMemory) Reallocate(size uint64) []byte {
	if size > m.limit {
		m.refused = true
		return nil
	}
	if size > uint64(cap(m.bytes)) {
		grown := make([]byte, size, min(m.limit, max(size, 2*uint64(cap(m.bytes)))))
		copy(grown, m.bytes)
		m.bytes = grown
	}
	m.bytes = m.bytes[:size]
	m.peak = max(m.peak, size)
	return m.bytes
}

// Free implements experimental.LinearMemory.
func (m *boundedMemory) Free() { m.bytes = nil }
