// Package verity makes the hash trees with which a Linux kernel checks each block
// of a root file system when it is read (dm-verity), and opens such a file as a
// block device.
//
// What is trusted is the root hash alone, which comes from a verified manifest.
// The bytes under it may rot or be changed at any time, also while the device is
// in use: the kernel compares every block that it reads with the tree, and the
// tree with the root, and gives EIO instead of wrong bytes.
//
// The format is that of `veritysetup format --no-superblock` with hash type 1,
// SHA-256 and blocks of 4096 bytes (Documentation/admin-guide/device-mapper/
// verity.rst): without a superblock nothing about the tree is read from the
// medium.
package verity

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/manifest"
)

const (
	blockSize = manifest.VerityBlock
	perBlock  = blockSize / sha256.Size
)

// Append fills the file up to whole blocks with zeros and writes the hash tree
// behind them. The file must be open for reading and writing and not be empty; if
// Append fails, it may have a part of the tree. The result depends on content and
// salt only.
func Append(f *os.File, salt []byte) (manifest.Verity, error) {
	info, err := f.Stat()
	if err != nil {
		return manifest.Verity{}, fmt.Errorf("hash tree: %w", err)
	}
	size := info.Size()
	if size == 0 || len(salt) > manifest.MaxVeritySalt {
		return manifest.Verity{}, fmt.Errorf("hash tree: a file of %d bytes, a salt of %d", size, len(salt))
	}
	size += -size & (blockSize - 1)
	err = f.Truncate(size)
	var root blob.Digest
	if err == nil {
		root, err = makeTree(io.NewSectionReader(f, 0, size), size, salt, f)
	}
	if err != nil {
		return manifest.Verity{}, fmt.Errorf("hash tree: %w", err)
	}
	return manifest.Verity{Root: root, Salt: salt, DataSize: size}, nil
}

// ErrTree says that a file is not what its root hash says.
var ErrTree = errors.New("the file does not have this hash tree")

// Check reads a whole file of size bytes and compares its data and each byte of
// its tree with v: errors wrap ErrTree where they differ. A kernel does not need
// this; a publisher should know before everybody else does.
func Check(f io.ReaderAt, size int64, v manifest.Verity) error {
	if v.DataSize <= 0 || v.DataSize%blockSize != 0 || v.DataSize > size || v.DataSize+manifest.VerityTreeSize(v.DataSize) != size {
		return fmt.Errorf("%w: it has %d bytes, %d of them data", ErrTree, size, v.DataSize)
	}
	root, err := makeTree(io.NewSectionReader(f, 0, v.DataSize), v.DataSize, v.Salt, comparer{f})
	if err == nil && root != v.Root {
		err = fmt.Errorf("%w: its root is %s, not %s", ErrTree, root, v.Root)
	}
	return err
}

// Find reads a whole file of size bytes, of which only the salt of its tree is
// known, and returns what a manifest says of it. A file that is no data with the
// tree that belongs to it wraps ErrTree.
func Find(f io.ReaderAt, size int64, salt []byte) (manifest.Verity, error) {
	// The tree is a little more than a 128th of the data, so there is one split at
	// most, and few to look at.
	data := max(1, size/blockSize*perBlock/(perBlock+2)) * blockSize
	for data+manifest.VerityTreeSize(data) < size {
		data += blockSize
	}
	if data+manifest.VerityTreeSize(data) != size {
		return manifest.Verity{}, fmt.Errorf("%w: no data and tree have %d bytes together", ErrTree, size)
	}
	root, err := makeTree(io.NewSectionReader(f, 0, data), data, salt, comparer{f})
	if err != nil {
		return manifest.Verity{}, err
	}
	return manifest.Verity{Root: root, Salt: salt, DataSize: data}, nil
}

// comparer takes what is there already.
type comparer struct{ there io.ReaderAt }

func (c comparer) WriteAt(p []byte, off int64) (int, error) {
	have := make([]byte, len(p))
	if _, err := c.there.ReadAt(have, off); err != nil {
		return 0, err
	}
	if string(have) != string(p) {
		return 0, fmt.Errorf("%w: its block at byte %d differs", ErrTree, off)
	}
	return len(p), nil
}

// A level is a row of the tree on its way: one block of it is in memory.
type level struct {
	at    int64 // where its next block goes
	block [blockSize]byte
	n     int // hashes in block
}

// A builder makes the tree from the leaves up. It holds a block for each level,
// of which 8 GiB have three.
type builder struct {
	out    io.WriterAt
	hash   hash.Hash
	salt   []byte
	levels []*level // the leaves first
}

// makeTree reads data, size bytes in whole blocks, and writes the tree that
// belongs behind them.
func makeTree(data io.Reader, size int64, salt []byte, out io.WriterAt) (blob.Digest, error) {
	b := &builder{out: out, hash: sha256.New(), salt: salt}
	end := size + manifest.VerityTreeSize(size)
	for blocks := size / blockSize; blocks > 1; {
		blocks = (blocks + perBlock - 1) / perBlock
		end -= blocks * blockSize
		b.levels = append(b.levels, &level{at: end})
	}
	r := bufio.NewReaderSize(data, 256<<10)
	block := make([]byte, blockSize)
	for done := int64(0); done < size; done += blockSize {
		if _, err := io.ReadFull(r, block); err != nil {
			return blob.Digest{}, err
		}
		if len(b.levels) == 0 { // the only block is its own root
			return b.sum(block), nil
		}
		if err := b.add(0, block); err != nil {
			return blob.Digest{}, err
		}
	}
	return b.finish()
}

func (b *builder) sum(block []byte) blob.Digest {
	return blob.FromSum([sha256.Size]byte(b.appendSum(nil, block)))
}

func (b *builder) appendSum(to, block []byte) []byte {
	b.hash.Reset()
	b.hash.Write(b.salt)
	b.hash.Write(block)
	return b.hash.Sum(to)
}

// add puts the hash of a block into a level, whose own block goes where it
// belongs when it is full.
func (b *builder) add(i int, block []byte) error {
	l := b.levels[i]
	b.appendSum(l.block[:l.n*sha256.Size], block)
	if l.n++; l.n < perBlock {
		return nil
	}
	return b.flush(i)
}

// flush writes a level's block, and its hash into the level above.
func (b *builder) flush(i int) error {
	l := b.levels[i]
	clear(l.block[l.n*sha256.Size:])
	if _, err := b.out.WriteAt(l.block[:], l.at); err != nil {
		return err
	}
	l.at += blockSize
	l.n = 0
	if i+1 == len(b.levels) {
		return nil
	}
	return b.add(i+1, l.block[:])
}

// finish writes what is left in each level and returns the root: the hash of the
// topmost block, which is the only one of its level.
func (b *builder) finish() (blob.Digest, error) {
	top := len(b.levels) - 1
	for i, l := range b.levels {
		if l.n == 0 {
			continue
		}
		if err := b.flush(i); err != nil {
			return blob.Digest{}, err
		}
	}
	return b.sum(b.levels[top].block[:]), nil
}
