package translog

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/phasebased/phase/internal/durable"
)

// Check reads every entry, computes the whole tree anew and compares all tiles
// with it, the partial ones too, and the checkpoint, and then every cosigned
// checkpoint. It fails with ErrDamaged, ErrRolledBack, ErrForked, or with
// ErrUnfinished for a folder in which an addition was interrupted. It is not
// for a folder to which another process is adding.
//
// visit, if not nil, is called with each entry; an error from it ends the
// check. What it was given is proved only when Check returns nil.
func (r *Reader) Check(visit func(index int64, entry []byte) error) error {
	if _, err := os.Lstat(filepath.Join(r.dir, pendingName)); err == nil {
		return &Error{Object: r.dir, Reason: ErrUnfinished}
	}
	c := checker{reader: r, visit: visit}
	for n := int64(0); n*tileWidth < r.tree.Size; n++ {
		if err := c.bundle(n, int(min(tileWidth, r.tree.Size-n*tileWidth))); err != nil {
			return err
		}
	}
	if root := c.all.root(); root != r.tree.Root {
		return ErrDamaged.Of(r.dir, "the entries lead to the root %s, the checkpoint has %s", root, r.tree.Root)
	}
	for level := range c.rows {
		if err := c.edge(level); err != nil {
			return err
		}
	}
	if err := r.checkBeyond(); err != nil {
		return err
	}
	return r.checkCosigned()
}

// checker computes all tiles from the entries, keeping for each level the one
// that is not full.
type checker struct {
	reader *Reader
	visit  func(index int64, entry []byte) error
	all    stack
	rows   []row
}

// row is a tile under construction.
type row struct {
	n      int64
	hashes []byte
}

// bundle reads a bundle, compares its partial versions, and hashes it.
func (c *checker) bundle(n int64, width int) error {
	entries, err := c.reader.tiles().entries(n, width)
	if err != nil {
		return damaged(c.reader.dir, err)
	}
	var data []byte
	ends := []int{0}
	for i, entry := range entries {
		if c.visit != nil {
			if err := c.visit(n*tileWidth+int64(i), entry); err != nil {
				return err
			}
		}
		data = appendEntry(data, entry)
		ends = append(ends, len(data))
		hash := tlog.RecordHash(entry)
		c.all.push(hash)
		if err := c.push(0, hash); err != nil {
			return err
		}
	}
	return c.partials(entriesLevel, n, data, ends)
}

// push adds a hash to a level and, when its tile is full, compares it and adds
// its root to the level above.
func (c *checker) push(level int, hash tlog.Hash) error {
	if level == len(c.rows) {
		c.rows = append(c.rows, row{})
	}
	r := &c.rows[level]
	r.hashes = append(r.hashes, hash[:]...)
	if len(r.hashes) < tileWidth*tlog.HashSize {
		return nil
	}
	if err := c.compare(level, r); err != nil {
		return err
	}
	var tile stack
	for i := range tileWidth {
		tile.push(tlog.Hash(r.hashes[i*tlog.HashSize : (i+1)*tlog.HashSize]))
	}
	r.n, r.hashes = r.n+1, r.hashes[:0]
	return c.push(level+1, tile.root())
}

// compare checks a tile's file and its partial versions.
func (c *checker) compare(level int, r *row) error {
	width := len(r.hashes) / tlog.HashSize
	path := tilePath(level, r.n, width)
	data, err := c.reader.tiles().hashes(level, r.n, width)
	if err != nil {
		return damaged(c.reader.dir, err)
	}
	if !bytes.Equal(data, r.hashes) {
		return ErrDamaged.Of(filepath.Join(c.reader.dir, path), "the hashes are not those of the entries")
	}
	ends := make([]int, width+1)
	for i := range ends {
		ends[i] = i * tlog.HashSize
	}
	return c.partials(level, r.n, r.hashes, ends)
}

// edge compares the last tile of a level, which is not full, and refuses one
// that is there and should not be.
func (c *checker) edge(level int) error {
	r := &c.rows[level]
	full := filepath.Join(c.reader.dir, tilePath(level, r.n, tileWidth))
	if _, err := os.Lstat(full); err == nil {
		return ErrRolledBack.Of(full, "hashes beyond the checkpoint")
	}
	if len(r.hashes) == 0 {
		return c.partials(level, r.n, nil, []int{0})
	}
	return c.compare(level, r)
}

// partials compares the versions of a tile or bundle from when it had fewer
// members: each is the beginning of what it is now. ends[w] is where w members
// end in data.
func (c *checker) partials(level int, n int64, data []byte, ends []int) error {
	dir := filepath.Join(c.reader.dir, partialDir(level, n))
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		if strings.HasPrefix(f.Name(), durable.TempPrefix) {
			continue
		}
		width, err := strconv.Atoi(f.Name())
		if err != nil || width < 1 || width >= tileWidth || strconv.Itoa(width) != f.Name() {
			return ErrDamaged.Of(path, "it does not belong here")
		}
		if width >= len(ends) {
			return ErrRolledBack.Of(path, "it is beyond the checkpoint")
		}
		have, err := readBounded(path, maxBundle)
		if err != nil {
			return damaged(path, err)
		}
		if !bytes.Equal(have, data[:ends[width]]) {
			return ErrDamaged.Of(path, "it is not what was published")
		}
	}
	return nil
}

// checkCosigned reads every checkpoint that a witness has signed.
func (r *Reader) checkCosigned() error {
	sizes, err := r.cosignedSizes()
	if err != nil {
		return err
	}
	for _, size := range sizes {
		if _, err := r.cosignedAt(size); err != nil {
			return err
		}
	}
	return nil
}

// Cosigner is a signature line on a checkpoint, not verified.
type Cosigner struct {
	Name    string
	KeyHash uint32
}

// String is how the key is told apart: its name and hash.
func (c Cosigner) String() string { return fmt.Sprintf("%s+%08x", c.Name, c.KeyHash) }

// Cosigners lists who has put a line under the current checkpoint.
func (r *Reader) Cosigners() ([]Cosigner, error) {
	list, err := r.cosignedFrom(r.tree.Size)
	if err != nil {
		return nil, err
	}
	var names []Cosigner
	for _, line := range list[0].lines {
		names = append(names, Cosigner{line.Name, line.Hash})
	}
	return names, nil
}
