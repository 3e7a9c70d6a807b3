package delta

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

func noise(seed uint64, n int) []byte {
	rng := rand.NewChaCha8([32]byte{byte(seed)})
	b := make([]byte, n)
	rng.Read(b)
	return b
}

// prose is n bytes that can be compressed.
func prose(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 0))
	var b []byte
	for len(b) < n {
		b = strconv.AppendInt(b, int64(rng.IntN(5000)), 10)
		b = append(b, ' ')
	}
	return b[:n]
}

// frames is a file like a squashfs: blocks of text, compressed, behind a head.
func frames(t testing.TB, head string, text []byte) []byte {
	t.Helper()
	c, err := NewCodec()
	if err != nil {
		t.Fatal(err)
	}
	file := []byte(head)
	for len(text) > 0 {
		n := min(len(text), 32<<10)
		file = c.Append(file, text[:n])
		text = text[n:]
	}
	return file
}

func mustMake(t testing.TB, old, new []byte) []byte {
	t.Helper()
	var patch bytes.Buffer
	if err := Make(&patch, bytes.NewReader(old), int64(len(old)), bytes.NewReader(new), int64(len(new))); err != nil {
		t.Fatal(err)
	}
	return patch.Bytes()
}

func apply(w io.Writer, old, patch []byte, size int) error {
	return Apply(w, bytes.NewReader(old), int64(len(old)), bytes.NewReader(patch), int64(size))
}

func TestRoundTrip(t *testing.T) {
	big := noise(1, 1<<20)
	moved := bytes.Join([][]byte{big[500_001:], []byte("new"), big[:300_000]}, nil)
	for name, c := range map[string]struct{ old, new []byte }{
		"equal":   {big, big},
		"moved":   {big, moved},
		"grown":   {moved, append(bytes.Clone(moved), big...)},
		"emptied": {big, nil},
		"first":   {nil, big},
		"nothing": {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got bytes.Buffer
			if err := apply(&got, c.old, mustMake(t, c.old, c.new), len(c.new)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), c.new) {
				t.Error("the result differs")
			}
		})
	}
}

// TestInside changes a few bytes of text and expects a patch that is far smaller
// than one compressed block: it must have looked inside.
func TestInside(t *testing.T) {
	text := prose(1, 300_000)
	old := frames(t, "head one", text)
	changed := bytes.Join([][]byte{text[:100_000], []byte("inserted"), text[100_000:]}, nil)
	for i := 150_000; i < 160_000; i += 100 {
		changed[i]++
	}
	new := frames(t, "head two", changed)
	patch := mustMake(t, old, new)
	if len(patch) > 2000 {
		t.Errorf("the patch has %d bytes", len(patch))
	}
	var got bytes.Buffer
	if err := apply(&got, old, patch, len(new)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), new) {
		t.Error("the result differs")
	}
}

// TestCodecKeepsItsBytes holds the compressor to what machines in the field have:
// if a newer one gives other bytes, patches must get a new version, or they
// would be downloaded in vain.
func TestCodecKeepsItsBytes(t *testing.T) {
	c, err := NewCodec()
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	for _, b := range [][]byte{prose(2, 1000), prose(3, 200_000), noise(4, 100_000), make([]byte, 1<<18), prose(5, MaxFrame)} {
		first := c.Append(nil, b)
		if again := c.Append(nil, b); !bytes.Equal(first, again) {
			t.Fatal("the same block was compressed in two ways")
		}
		all = append(all, first...)
	}
	sum := sha256.Sum256(all)
	const want = "726d71f523feb93559349268803034a5ff0504fa1a4e6b3e32ef47111341627e"
	if got := hex.EncodeToString(sum[:]); got != want {
		t.Errorf("the codec's bytes are %s, not %s", got, want)
	}
}

// body is a patch for two sizes with this inside.
func body(t testing.TB, oldSize, newSize int, inside ...any) []byte {
	t.Helper()
	head := append([]byte(magic), version)
	head = binary.AppendUvarint(head, uint64(oldSize))
	head = binary.AppendUvarint(head, uint64(newSize))
	out := bytes.NewBuffer(head)
	enc, err := newStreamWriter(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range inside {
		switch v := v.(type) {
		case int:
			enc.Write(binary.AppendUvarint(nil, uint64(v)))
		case uint64:
			enc.Write(binary.AppendUvarint(nil, v))
		case []byte:
			enc.Write(v)
		}
	}
	enc.Close()
	return out.Bytes()
}

func op(kind, n int64) int64 { return n<<2 | kind }

// batch is a batch with these operations.
func batch(add, lit string, ops ...int64) []byte {
	var o []byte
	for i, v := range ops {
		if i%2 == 0 {
			o = binary.AppendUvarint(o, uint64(v))
		} else {
			o = binary.AppendVarint(o, v)
		}
	}
	var b []byte
	for _, n := range []int{len(o), len(add), len(lit)} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return append(append(append(b, o...), add...), lit...)
}

type hostile struct {
	patch  []byte
	reason Reason
}

func hostiles(t testing.TB, old []byte) map[string]hostile {
	n := len(old)
	in := func(inside ...any) hostile { return hostile{body(t, n, 100, inside...), Malformed} }
	packed, _ := frameLength(old)
	whole := body(t, n, 100, 0, batch("", "", op(opCopy, 100), 0))
	other := bytes.Clone(whole)
	other[len(magic)]++
	copyOp := func(length, at int64) []byte { return batch("", "", op(opCopy, length), at) }
	return map[string]hostile{
		"empty":              {nil, Malformed},
		"other magic":        {append([]byte("PHDELTA"), whole[7:]...), Malformed},
		"other version":      {other, Version},
		"other old size":     {body(t, n+1, 100), WrongSizes},
		"other new size":     {body(t, n, 101), WrongSizes},
		"cut":                {whole[:len(whole)-5], Malformed},
		"not compressed":     {append(bytes.Clone(whole[:12]), "no zstd here at all"...), Unreadable},
		"nothing inside":     in(),
		"too many blocks":    in(maxFrames + 1),
		"block outside":      in(1, n, 10, 10),
		"block before":       in(1, uint64(math.MaxUint64), 10, 10),
		"block overlong":     in(1, 0, uint64(math.MaxUint64), 10),
		"block huge":         in(1, 0, packed, MaxFrame+1),
		"block empty":        in(1, 0, packed, 0),
		"block of lies":      in(1, 0, packed, 77, copyOp(10, int64(n))),
		"block of nothing":   in(1, 1, packed-1, 77, copyOp(10, int64(n))),
		"batch huge":         in(0, 1, maxPart+1, 0),
		"batch empty":        in(0, 0, 0, 0),
		"batch with waste":   in(0, batch("", "ab", 1<<2|opInsert), copyOp(99, 0)),
		"batch cut":          in(0, 10, 0, 0, []byte{1}),
		"copy outside":       in(0, copyOp(10, int64(n)-9)),
		"copy before":        in(0, copyOp(10, -1)),
		"copy far before":    in(0, copyOp(10, math.MinInt64)),
		"copy far behind":    in(0, copyOp(10, math.MaxInt64)),
		"copy wraps":         in(0, batch("", "", op(opCopy, 1), 8, op(opCopy, 1), math.MaxInt64)),
		"copy of nothing":    in(0, copyOp(0, 0)),
		"copy too long":      in(0, copyOp(101, 0)),
		"address missing":    in(0, batch("", "", op(opCopy, 10))),
		"literals missing":   in(0, batch("", "abc", 4<<2|opInsert)),
		"additions missing":  in(0, batch("abc", "", 4<<2|opAdd, 0)),
		"operation overlong": in(0, 11, 0, 0, bytes.Repeat([]byte{0xff}, 11)),
		"pack of nothing":    in(0, batch("", "", opPack)),
		"pack huge":          in(0, batch("", "", (MaxFrame+1)<<2|opPack)),
		"pack in pack":       {body(t, n, 100, 0, append([]byte{2, 0, 0}, 10<<2|opPack, 10<<2|opPack)), Malformed},
		"pack overrun":       {body(t, n, 100, 0, append([]byte{2, 0, 1}, 1<<2|opPack, 2<<2|opInsert, 'x')), Malformed},
		"pack grows":         {body(t, n, 100, 0, packOf(noise(9, 100))), Malformed},
		"ends early":         in(0, copyOp(99, 0)),
	}
}

// packOf is a batch that compresses a literal.
func packOf(lit []byte) []byte {
	var o []byte
	o = binary.AppendUvarint(o, uint64(len(lit))<<2|opPack)
	o = binary.AppendUvarint(o, uint64(len(lit))<<2|opInsert)
	b := binary.AppendUvarint(nil, uint64(len(o)))
	b = binary.AppendUvarint(append(b, 0), uint64(len(lit)))
	return append(append(b, o...), lit...)
}

func TestHostilePatches(t *testing.T) {
	old := frames(t, "", prose(6, 40_000))
	for name, h := range hostiles(t, old) {
		t.Run(name, func(t *testing.T) {
			var got bytes.Buffer
			err := apply(&got, old, h.patch, 100)
			var typed *Error
			if !errors.As(err, &typed) || typed.Reason != h.reason {
				t.Errorf("error %v, want %v", err, reasons[h.reason])
			}
			if got.Len() > 100 {
				t.Errorf("%d bytes were written", got.Len())
			}
		})
	}
}

// TestWorkIsBounded has a patch that for each byte decompresses another block.
func TestWorkIsBounded(t *testing.T) {
	const block = 1 << 20
	c, err := NewCodec()
	if err != nil {
		t.Fatal(err)
	}
	one := c.Append(nil, make([]byte, block))
	old := bytes.Repeat(one, 3)
	inside := []any{3, 0, len(one), block, 0, len(one), block, 0, len(one), block}
	ops := []int64{}
	at := int64(0)
	for i := range int64(1000) {
		addr := int64(len(old)) + i%3*block
		ops = append(ops, op(opCopy, 1), addr-at)
		at = addr + 1
	}
	err = apply(io.Discard, old, body(t, len(old), 1000, append(inside, batch("", "", ops...))...), 1000)
	var typed *Error
	if !errors.As(err, &typed) || typed.Reason != Malformed {
		t.Errorf("error %v", err)
	}
}

type broken struct{ io.Reader }

func (broken) ReadAt([]byte, int64) (int, error) { return 0, os.ErrPermission }
func (broken) Read([]byte) (int, error)          { return 0, os.ErrPermission }
func (broken) Write([]byte) (int, error)         { return 0, os.ErrPermission }

func TestBrokenSurroundings(t *testing.T) {
	old := noise(7, 1000)
	patch := mustMake(t, old, old)
	for name, c := range map[string]struct {
		err    error
		reason Reason
	}{
		"old":      {Apply(io.Discard, broken{}, 1000, bytes.NewReader(patch), 1000), Unreadable},
		"patch":    {Apply(io.Discard, bytes.NewReader(old), 1000, broken{}, 1000), Unreadable},
		"result":   {Apply(broken{}, bytes.NewReader(old), 1000, bytes.NewReader(patch), 1000), Unwritable},
		"make old": {Make(io.Discard, broken{}, 1000, bytes.NewReader(old), 1000), Unreadable},
		"make new": {Make(io.Discard, bytes.NewReader(old), 1000, broken{}, 1000), Unreadable},
		"make out": {Make(broken{}, bytes.NewReader(old), 1000, bytes.NewReader(old), 1000), Unwritable},
	} {
		var typed *Error
		if !errors.As(c.err, &typed) || typed.Reason != c.reason || !errors.Is(c.err, os.ErrPermission) {
			t.Errorf("%s: %v", name, c.err)
		}
	}
}

func FuzzApply(f *testing.F) {
	old := frames(f, "head", prose(8, 40_000))
	f.Fuzz(func(t *testing.T, head bool, inside []byte) {
		const size = 5000
		patch := inside
		if !head { // the body, before compression
			patch = body(t, len(old), size, inside)
		}
		var got bytes.Buffer
		err := apply(&got, old, patch, size)
		if got.Len() > size || err == nil && got.Len() != size {
			t.Errorf("%d bytes were written, error %v", got.Len(), err)
		}
		var typed *Error
		if err != nil && !errors.As(err, &typed) {
			t.Errorf("an error without a type: %v", err)
		}
	})
}

func FuzzRoundTrip(f *testing.F) {
	f.Fuzz(func(t *testing.T, old, new []byte) {
		var got bytes.Buffer
		if err := apply(&got, old, mustMake(t, old, new), len(new)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), new) {
			t.Error("the result differs")
		}
	})
}

func TestMakeRefusesSizes(t *testing.T) {
	nothing := bytes.NewReader(nil)
	for name, size := range map[string][2]int64{"old": {MaxMake + 1, 0}, "new": {0, MaxMake + 1}, "below none": {-1, 0}} {
		err := Make(io.Discard, nothing, size[0], nothing, size[1])
		var typed *Error
		if !errors.As(err, &typed) || typed.Reason != TooLarge || typed.Hint() == (&Error{Reason: Malformed}).Hint() {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestManyBlocksAreNoFrame: it would be counted through again from each place that
// looks like a beginning.
func TestManyBlocksAreNoFrame(t *testing.T) {
	head := append([]byte(frameMagic), 0xa0, 0, 0, 1, 0) // a single segment of 64 KiB
	frame := func(blocks int) []byte {
		b := append(bytes.Clone(head), bytes.Repeat([]byte{0, 0, 0}, blocks-1)...) // empty ones
		return append(b, 1|1<<1, 0, 8, 'x')                                        // the last, 64 KiB of x
	}
	if packed, plain := frameLength(frame(maxBlocks)); packed != len(frame(maxBlocks)) || plain != 1<<16 {
		t.Errorf("%d bytes of %d", packed, plain)
	}
	if packed, _ := frameLength(frame(maxBlocks + 1)); packed != 0 {
		t.Errorf("%d blocks in %d bytes", maxBlocks+1, packed)
	}
}

// TestDoubtfulMatchEnds has bytes of which every second one agrees, which is never
// bad enough to end a match: each match would be followed through all of them.
func TestDoubtfulMatchEnds(t *testing.T) {
	for doubt, want := range map[int]int{maxDoubt / 2: 3000 + maxDoubt/2, 2 * maxDoubt: 1000} {
		old := noise(11, 3000+doubt)
		changed := bytes.Clone(old)
		for i := 1000; i < 1000+doubt; i += 2 {
			changed[i] ^= 1
		}
		m := newMatcher(old, []piece{{}})
		if from, to := m.extend(changed, 0, 0, 0); from != 0 || to != want {
			t.Errorf("%d bytes in doubt: %d to %d, want %d", doubt, from, to, want)
		}
	}
}

// TestContentsAreKeptInBounds: many small frames are not all remembered.
func TestContentsAreKeptInBounds(t *testing.T) {
	c, err := NewCodec()
	if err != nil {
		t.Fatal(err)
	}
	dec, err := newFrameDecoder()
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	const frames = 1000
	s := source{dec: dec, work: 1 << 20}
	var old []byte
	for i := range frames {
		at := len(old)
		old = c.Append(old, []byte{byte(i), byte(i >> 8)})
		s.frames = append(s.frames, frame{at: int64(at), packed: len(old) - at, plain: 2})
	}
	s.old, s.size = bytes.NewReader(old), int64(len(old))
	for i := range frames + 1 {
		s.starts = append(s.starts, s.size+int64(2*i))
	}
	for i := range frames {
		var b [2]byte
		if n, err := s.read(b[:], s.starts[i]); n != 2 || err != nil || b != [2]byte{byte(i), byte(i >> 8)} {
			t.Fatalf("frame %d: %v, %d bytes, %v", i, b, n, err)
		}
	}
	if n := len(s.recent); n == 0 || n > cached/minCached {
		t.Errorf("%d are kept", n)
	}
	if spent := 1<<20 - s.work; spent < int64(len(old)+2*frames) {
		t.Errorf("%d bytes were counted of %d read and %d made", spent, len(old), 2*frames)
	}
}
