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

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/phasebased/phase/logproof"
)

// Reader reads a log as one checkpoint describes it. It may be used while
// others add, and concurrently.
type Reader struct {
	dir    string
	key    *logproof.Key
	signed []byte // the checkpoint with its signatures
	tree   logproof.Checkpoint
}

// Read opens the log in dir at its current checkpoint, which must be signed by
// key. A nil key takes the one that lies in the folder: enough to find damage,
// not to know whose log it is.
func Read(dir string, key *logproof.Key) (*Reader, error) {
	signed, err := readBounded(filepath.Join(dir, checkpointName), maxNoteSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &Error{Object: dir, Reason: ErrNoLog}
	}
	if err != nil {
		return nil, err
	}
	if key == nil {
		if key, err = folderKey(dir); err != nil {
			return nil, err
		}
	}
	tree, err := openCheckpoint(signed, key)
	if err != nil {
		return nil, damaged(filepath.Join(dir, checkpointName), err)
	}
	return &Reader{dir, key, signed, tree}, nil
}

func folderKey(dir string) (*logproof.Key, error) {
	path := filepath.Join(dir, keyName)
	raw, err := readBounded(path, maxNoteSize)
	if err != nil {
		return nil, damaged(path, err)
	}
	key, err := logproof.ParseKey(strings.TrimSuffix(string(raw), "\n"))
	if err != nil {
		return nil, damaged(path, err)
	}
	return key, nil
}

// openCheckpoint verifies the log's signature on a checkpoint of its own.
func openCheckpoint(signed []byte, key *logproof.Key) (logproof.Checkpoint, error) {
	opened, err := note.Open(signed, note.VerifierList(key))
	if err != nil {
		return logproof.Checkpoint{}, err
	}
	c, err := logproof.ParseCheckpoint(opened.Text)
	if err != nil {
		return logproof.Checkpoint{}, err
	}
	if c.Origin != key.Name() {
		return logproof.Checkpoint{}, fmt.Errorf("origin %q, want %q", c.Origin, key.Name())
	}
	return c, nil
}

// Key is the log's public key; its name is the log's origin.
func (r *Reader) Key() *logproof.Key { return r.key }

// Checkpoint is what the log signed.
func (r *Reader) Checkpoint() logproof.Checkpoint { return r.tree }

func (r *Reader) tiles() tileFolder { return tileFolder(r.dir) }

// hashesOf reads hashes of the tree that c describes, checked against it.
func (r *Reader) hashesOf(c logproof.Checkpoint) tlog.HashReader {
	return tlog.TileHashReader(tlog.Tree{N: c.Size, Hash: c.Root}, r.tiles())
}

// frontier reads the roots of the perfect subtrees that make up the tree, the
// only hashes on which larger trees rest, by their storage index.
func (r *Reader) frontier() (map[int64]tlog.Hash, error) {
	known := map[int64]tlog.Hash{}
	if r.tree.Size == 0 {
		return known, nil
	}
	record := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		hashes, err := r.hashesOf(r.tree).ReadHashes(indexes)
		for i := range hashes {
			known[indexes[i]] = hashes[i]
		}
		return hashes, err
	})
	if _, err := tlog.TreeHash(r.tree.Size, record); err != nil {
		return nil, damaged(r.dir, err)
	}
	return known, nil
}

// consistent checks that this tree begins with old, a checkpoint that the log
// has signed earlier.
func (r *Reader) consistent(old logproof.Checkpoint) error {
	switch {
	case old.Size > r.tree.Size:
		return ErrRolledBack.Of(r.dir, "%d entries, and %d were seen", r.tree.Size, old.Size)
	case old.Size == r.tree.Size && old.Root != r.tree.Root:
		return ErrForked.Of(r.dir, "two trees of size %d", old.Size)
	case old.Size == r.tree.Size:
		return nil
	case old.Size == 0:
		return r.checkEmpty(old)
	}
	proof, err := tlog.ProveTree(r.tree.Size, old.Size, r.hashesOf(r.tree))
	if err != nil {
		return damaged(r.dir, err)
	}
	if tlog.CheckTree(proof, r.tree.Size, r.tree.Root, old.Size, old.Root) != nil {
		return ErrForked.Of(r.dir, "the tree of size %d does not begin with the one of size %d", r.tree.Size, old.Size)
	}
	return nil
}

func (r *Reader) checkEmpty(old logproof.Checkpoint) error {
	if empty, err := tlog.TreeHash(0, nil); err != nil || old.Root != empty {
		return ErrForked.Of(r.dir, "an empty tree with another root")
	}
	return nil
}

// checkBeyond refuses entries that the checkpoint does not cover. Every
// addition writes the bundle behind the last entry, so it is enough to look
// there.
func (r *Reader) checkBeyond() error {
	n, width := r.tree.Size/tileWidth, int(r.tree.Size%tileWidth)
	full := filepath.Join(r.dir, tilePath(entriesLevel, n, tileWidth))
	if _, err := os.Lstat(full); err == nil {
		return ErrRolledBack.Of(full, "entries beyond the checkpoint")
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	files, err := os.ReadDir(filepath.Join(r.dir, partialDir(entriesLevel, n)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, f := range files {
		if w, err := strconv.Atoi(f.Name()); err == nil && w > width {
			return ErrRolledBack.Of(filepath.Join(r.dir, tilePath(entriesLevel, n, w)), "entries beyond the checkpoint")
		}
	}
	sizes, err := r.cosignedSizes()
	if err == nil && len(sizes) > 0 && sizes[0] > r.tree.Size {
		return ErrRolledBack.Of(r.dir, "%d entries, and %d were cosigned", r.tree.Size, sizes[0])
	}
	return err
}

// find looks for leaf hashes and returns the first index of each that is
// there. It reads every leaf and demands that they lead to the signed root, so
// that a damaged tile hides nothing.
func (r *Reader) find(wanted map[tlog.Hash]bool) (map[tlog.Hash]int64, error) {
	found := map[tlog.Hash]int64{}
	var all stack
	for n := int64(0); n*tileWidth < r.tree.Size; n++ {
		width := int(min(tileWidth, r.tree.Size-n*tileWidth))
		data, err := r.tiles().hashes(0, n, width)
		if err != nil {
			return nil, damaged(r.dir, err)
		}
		for i := range width {
			hash := tlog.Hash(data[i*tlog.HashSize : (i+1)*tlog.HashSize])
			all.push(hash)
			if _, seen := found[hash]; wanted[hash] && !seen {
				found[hash] = n*tileWidth + int64(i)
			}
		}
	}
	if all.root() != r.tree.Root {
		return nil, ErrDamaged.Of(r.dir, "the leaf hashes do not lead to the checkpoint")
	}
	return found, nil
}

// Find is the index of entry, or ErrNotLogged.
func (r *Reader) Find(entry []byte) (int64, error) {
	hash := tlog.RecordHash(entry)
	found, err := r.find(map[tlog.Hash]bool{hash: true})
	if err != nil {
		return 0, err
	}
	index, ok := found[hash]
	if !ok {
		return 0, &Error{Object: r.dir, Reason: ErrNotLogged}
	}
	return index, nil
}

// bundle reads entries and checks them against the leaf hashes beside them,
// which have to be checked against the tree by the caller.
func (r *Reader) bundle(n int64, width int) (entries [][]byte, leaves []byte, err error) {
	if entries, err = r.tiles().entries(n, width); err != nil {
		return nil, nil, damaged(r.dir, err)
	}
	if leaves, err = r.tiles().hashes(0, n, width); err != nil {
		return nil, nil, damaged(r.dir, err)
	}
	for i, entry := range entries {
		hash := tlog.RecordHash(entry)
		if !bytes.Equal(hash[:], leaves[i*tlog.HashSize:(i+1)*tlog.HashSize]) {
			return nil, nil, ErrDamaged.Of(r.dir, "entry %d is not the one of the tree", n*tileWidth+int64(i))
		}
	}
	return entries, leaves, nil
}

// stack computes the root of a Merkle tree from its leaves, one after the
// other (RFC 6962, section 2.1), keeping a hash for each perfect subtree.
type stack struct {
	size   int64
	hashes []tlog.Hash
}

func (s *stack) push(hash tlog.Hash) {
	for i := s.size; i&1 == 1; i >>= 1 {
		hash = tlog.NodeHash(s.hashes[len(s.hashes)-1], hash)
		s.hashes = s.hashes[:len(s.hashes)-1]
	}
	s.hashes = append(s.hashes, hash)
	s.size++
}

func (s *stack) root() tlog.Hash {
	if s.size == 0 {
		empty, _ := tlog.TreeHash(0, nil)
		return empty
	}
	root := s.hashes[len(s.hashes)-1]
	for i := len(s.hashes) - 2; i >= 0; i-- {
		root = tlog.NodeHash(s.hashes[i], root)
	}
	return root
}
