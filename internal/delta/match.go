package delta

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

const (
	seed     = 16 // bytes that are looked up
	stride   = 4  // of the places in the old data that can be found
	minMatch = 24 // bytes that must be equal in a row to begin a match
	maxChain = 16 // places with the same hash that are tried
	drop     = 48 // a match ends where it has lost so many points
	longRun  = 256
	maxDoubt = 1 << 14 // bytes that are looked at beyond the end of a match
)

// A piece is a part of what was gathered of the old file.
type piece struct {
	start int   // in the gathered data
	addr  int64 // in the patch's addresses
}

// A matcher finds in old data what resembles new data, in the manner of bsdiff
// (Colin Percival, "Naive differences of executable code", 2003): pieces that
// are equal but for scattered bytes, such as a program whose addresses moved.
// Instead of bsdiff's suffix array, which takes eight times the data and long to
// sort, it has a hash table of every fourth place.
type matcher struct {
	old    []byte
	pieces []piece
	heads  []int32 // per hash: the last place + 1, divided by stride
	chain  []int32 // per place: the one before with the same hash
	shift  int
}

func newMatcher(old []byte, pieces []piece) *matcher {
	m := &matcher{old: old, pieces: pieces}
	places := len(old) / stride
	m.shift = 64 - max(10, bits.Len(uint(places))-1) // one or two places for each
	m.heads = make([]int32, 1<<(64-m.shift))
	m.chain = make([]int32, places+1)
	for i := 0; i+seed <= len(old); i += stride {
		h := m.hash(old[i:])
		m.chain[i/stride] = m.heads[h]
		m.heads[h] = int32(i/stride) + 1
	}
	return m
}

func (m *matcher) hash(b []byte) uint64 {
	x := binary.LittleEndian.Uint64(b) * 0x9E3779B185EBCA87
	x ^= bits.RotateLeft64(binary.LittleEndian.Uint64(b[8:])*0xC2B2AE3D27D4EB4F, 31)
	return x * 0x165667B19E3779F9 >> m.shift
}

// patch writes operations that give new.
func (m *matcher) patch(p *patchWriter, new []byte) {
	done := 0 // new[:done] has been described
	for i := 0; i+seed <= len(new); {
		at, n := m.longest(new[i:])
		if n < minMatch {
			i++
			continue
		}
		from, to := m.extend(new, at, i, done)
		p.insert(new[done:from])
		m.take(p, at-(i-from), new[from:to])
		done, i = to, to
	}
	p.insert(new[done:])
}

// longest returns the place in the old data that agrees longest with b, and how
// long; enough is enough.
func (m *matcher) longest(b []byte) (at, n int) {
	const enough = 1024
	next := m.heads[m.hash(b)]
	for tries := 0; next > 0 && tries < maxChain && n < enough; tries++ {
		place := int(next-1) * stride
		if l := agree(m.old[place:], b); l > n {
			at, n = place, l
		}
		next = m.chain[next-1]
	}
	return at, n
}

// agree returns how many bytes of a and b are equal from their beginning.
func agree(a, b []byte) int {
	n, end := 0, min(len(a), len(b))
	for n+8 <= end {
		if x := binary.LittleEndian.Uint64(a[n:]) ^ binary.LittleEndian.Uint64(b[n:]); x != 0 {
			return n + bits.TrailingZeros64(x)/8
		}
		n += 8
	}
	for n < end && a[n] == b[n] {
		n++
	}
	return n
}

// extend widens the match of new[i:] with old[at:] in both directions as long as
// more bytes agree than not, but not below floor.
func (m *matcher) extend(new []byte, at, i, floor int) (from, to int) {
	score, best := 0, 0
	to = i
	for k := 0; i+k < len(new) && at+k < len(m.old) && score > best-drop && i+k-to < maxDoubt; k++ {
		score += point(new[i+k] == m.old[at+k])
		if score > best {
			best, to = score, i+k+1
		}
	}
	score, best, from = 0, 0, i
	for k := 1; i-k >= floor && at-k >= 0 && score > best-drop; k++ {
		score += point(new[i-k] == m.old[at-k])
		if score > best {
			best, from = score, i-k
		}
	}
	return from, to
}

func point(equal bool) int {
	if equal {
		return 1
	}
	return -1
}

// take describes new by old[at:], piece by piece.
func (m *matcher) take(p *patchWriter, at int, new []byte) {
	for len(new) > 0 {
		k, exact := slices.BinarySearchFunc(m.pieces, at, func(c piece, at int) int { return c.start - at })
		if !exact {
			k--
		}
		n := len(new)
		if k+1 < len(m.pieces) {
			n = min(n, m.pieces[k+1].start-at)
		}
		takePiece(p, m.pieces[k].addr+int64(at-m.pieces[k].start), m.old[at:at+n], new[:n])
		at, new = at+n, new[n:]
	}
}

// takePiece copies long runs that are equal and describes the rest by its
// difference.
func takePiece(p *patchWriter, addr int64, old, new []byte) {
	start := 0
	for i := 0; i < len(new); {
		n := agree(old[i:], new[i:])
		if n < longRun && n < len(new) {
			i += n + 1
			continue
		}
		p.adds(addr+int64(start), old[start:i], new[start:i])
		p.copy(addr+int64(i), int64(n))
		i += n
		start = i
	}
	start = min(start, len(new))
	p.adds(addr+int64(start), old[start:], new[start:])
}
