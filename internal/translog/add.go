package translog

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/logproof"
)

// Add appends entries and returns the index of each. When it returns, the
// checkpoint that covers them is on the device. An entry that is in the log
// already keeps its index and is not added again, whether within one call or
// over many; if nothing is new, nothing is written.
//
// An entry has 1 to MaxEntrySize bytes; a call at most MaxBatch entries of
// 8 MiB together. After an error in writing, the Log refuses further additions
// with ErrUnfinished: close it and open it again.
func (l *Log) Add(entries ...[]byte) ([]int64, error) {
	if l.broken != nil {
		return nil, l.broken
	}
	if err := checkEntries(entries); err != nil {
		return nil, err
	}
	indexes, fresh, err := l.number(entries)
	if err != nil || len(fresh) == 0 {
		return indexes, err
	}
	p, err := l.plan(fresh)
	if err != nil {
		return nil, err
	}
	if err := l.carryOut(p.steps); err != nil {
		return nil, err
	}
	l.reader = p.reader
	return indexes, nil
}

func checkEntries(entries [][]byte) error {
	total := 0
	for i, entry := range entries {
		if len(entry) == 0 || len(entry) > MaxEntrySize {
			return fmt.Errorf("%w: number %d has %d bytes, limit %d", ErrEntry, i, len(entry), MaxEntrySize)
		}
		total += len(entry)
	}
	if len(entries) > MaxBatch || total > maxBatchBytes {
		return fmt.Errorf("%w: %d entries of %d bytes at once, limit %d of %d", ErrEntry, len(entries), total, MaxBatch, maxBatchBytes)
	}
	return nil
}

// number gives every entry its index and returns those that are new, in order.
func (l *Log) number(entries [][]byte) (indexes []int64, fresh [][]byte, err error) {
	wanted := map[tlog.Hash]bool{}
	for _, entry := range entries {
		wanted[tlog.RecordHash(entry)] = true
	}
	known, err := l.reader.find(wanted)
	if err != nil {
		return nil, nil, err
	}
	for _, entry := range entries {
		hash := tlog.RecordHash(entry)
		index, ok := known[hash]
		if !ok {
			index = l.reader.tree.Size + int64(len(fresh))
			known[hash] = index
			fresh = append(fresh, entry)
		}
		indexes = append(indexes, index)
	}
	return indexes, fresh, nil
}

// plan is an addition before it is written: where it leads, and the steps. The
// first step writes down the plan itself; carrying out the rest again, from
// any point, gives the same files.
type plan struct {
	steps  []step
	reader *Reader // of the log afterwards
}

// step writes or removes one thing.
type step struct {
	do   func(path string, data []byte) error
	path string
	data []byte
}

// plan works out the addition of entries to the current tree.
func (l *Log) plan(entries [][]byte) (*plan, error) {
	base := l.reader.tree
	known, err := l.reader.frontier()
	if err != nil {
		return nil, err
	}
	tree := overlay{known, l.reader.hashesOf(base)}
	for i, entry := range entries {
		if err := tree.add(base.Size+int64(i), entry); err != nil {
			return nil, damaged(l.config.Dir, err)
		}
	}
	target := logproof.Checkpoint{Origin: base.Origin, Size: base.Size + int64(len(entries))}
	if target.Root, err = tlog.TreeHash(target.Size, tree); err != nil {
		return nil, damaged(l.config.Dir, err)
	}
	signed, err := l.signer.signCheckpoint(target.Size, target.Root)
	if err != nil {
		return nil, err
	}
	p := &plan{reader: &Reader{l.config.Dir, l.signer.Key, signed, target}}
	intent := pending{base, target, entries}
	p.steps = append(p.steps, step{replace, l.path(pendingName), intent.bytes()})
	if err := l.planBundles(p, base.Size, entries); err != nil {
		return nil, err
	}
	if err := l.planTiles(p, base.Size, target.Size, tree); err != nil {
		return nil, err
	}
	if l.config.Memory != "" {
		m := memory{log: l.signer.Key, signed: signed}
		p.steps = append(p.steps, step{replace, l.config.Memory, m.bytes()})
	}
	p.steps = append(p.steps, step{replace, l.path(checkpointName), signed})
	p.steps = append(p.steps, l.planCleaning(base.Size, target.Size)...)
	return p, nil
}

// overlay is a tree with hashes that are not in tiles yet.
type overlay struct {
	known map[int64]tlog.Hash
	old   tlog.HashReader
}

// ReadHashes implements tlog.HashReader.
func (o overlay) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(indexes))
	var missing []int64
	var places []int
	for i, index := range indexes {
		hash, ok := o.known[index]
		if !ok {
			missing, places = append(missing, index), append(places, i)
		}
		hashes[i] = hash
	}
	if len(missing) == 0 {
		return hashes, nil
	}
	read, err := o.old.ReadHashes(missing)
	if err != nil {
		return nil, err
	}
	for i, place := range places {
		hashes[place] = read[i]
	}
	return hashes, nil
}

func (o overlay) add(n int64, entry []byte) error {
	hashes, err := tlog.StoredHashes(n, entry, o)
	if err != nil {
		return err
	}
	first := tlog.StoredHashIndex(0, n)
	for i, hash := range hashes {
		o.known[first+int64(i)] = hash
	}
	return nil
}

// planBundles writes the bundles that the entries from size on fall into. The
// first of them may begin with entries that are there already.
func (l *Log) planBundles(p *plan, size int64, entries [][]byte) error {
	var bundle []byte
	if width := int(size % tileWidth); width > 0 {
		old, err := l.reader.lastBundle(size/tileWidth, width)
		if err != nil {
			return err
		}
		for _, entry := range old {
			bundle = appendEntry(bundle, entry)
		}
	}
	for i, entry := range entries {
		bundle = appendEntry(bundle, entry)
		after := size + int64(i) + 1
		if width := int(after % tileWidth); width == 0 {
			p.write(l.path(tilePath(entriesLevel, after/tileWidth-1, tileWidth)), bundle)
			bundle = nil
		} else if i == len(entries)-1 {
			p.write(l.path(tilePath(entriesLevel, after/tileWidth, width)), bundle)
		}
	}
	return nil
}

// lastBundle reads the entries of the bundle that is not full, checked against
// the tree.
func (r *Reader) lastBundle(n int64, width int) ([][]byte, error) {
	entries, leaves, err := r.bundle(n, width)
	if err != nil {
		return nil, err
	}
	indexes := make([]int64, width)
	for i := range indexes {
		indexes[i] = tlog.StoredHashIndex(0, n*tileWidth+int64(i))
	}
	hashes, err := r.hashesOf(r.tree).ReadHashes(indexes)
	if err != nil {
		return nil, damaged(r.dir, err)
	}
	for i, hash := range hashes {
		if !bytes.Equal(hash[:], leaves[i*tlog.HashSize:(i+1)*tlog.HashSize]) {
			return nil, ErrDamaged.Of(r.dir, "leaf %d is not the one of the tree", n*tileWidth+int64(i))
		}
	}
	return entries, nil
}

func (l *Log) planTiles(p *plan, from, to int64, tree tlog.HashReader) error {
	for _, t := range tlog.NewTiles(tileHeight, from, to) {
		data, err := tlog.ReadTileData(t, tree)
		if err != nil {
			return damaged(l.config.Dir, err)
		}
		p.write(l.path(tilePath(t.L, t.N, t.W)), data)
	}
	return nil
}

func (p *plan) write(path string, data []byte) {
	p.steps = append(p.steps, step{writeOnce, path, data})
}

// planCleaning removes the partial versions of what is full now, and in the
// end the plan.
func (l *Log) planCleaning(from, to int64) []step {
	var steps []step
	for _, t := range tlog.NewTiles(tileHeight, from, to) {
		if t.W < tileWidth {
			continue
		}
		steps = append(steps, step{removeAll, l.path(partialDir(t.L, t.N)), nil})
		if t.L == 0 {
			steps = append(steps, step{removeAll, l.path(partialDir(entriesLevel, t.N)), nil})
		}
	}
	return append(steps, step{removeAll, l.path(pendingName), nil})
}

func (l *Log) carryOut(steps []step) error {
	for _, s := range steps {
		if err := s.do(s.path, s.data); err != nil {
			l.broken = &Error{Object: l.config.Dir, Reason: ErrUnfinished, Err: err}
			return l.broken
		}
	}
	return nil
}

// writeOnce makes a file that never changes. If it is there, from an addition
// that was interrupted, it must have these bytes.
func writeOnce(path string, data []byte) error {
	if err := durable.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	there, err := readBounded(path, maxBundle)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return durable.WriteFile(path, data, 0o644)
	case err != nil:
		return err
	case !bytes.Equal(there, data):
		return ErrDamaged.Of(path, "the file exists with other bytes")
	}
	return durable.SyncDir(filepath.Dir(path)) // its name may not have reached the device
}

func replace(path string, data []byte) error { return durable.WriteFile(path, data, 0o644) }

func removeAll(path string, _ []byte) error {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.RemoveAll(path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

const pendingHeader = "phase log pending v1"

// pending is an addition that was begun: from which tree to which, and with
// what. As a file: a header, both sizes and roots, the hash of the rest, an
// empty line, and the entries as in a bundle.
type pending struct {
	base, target logproof.Checkpoint
	entries      [][]byte
}

func (p pending) bytes() []byte {
	var body []byte
	for _, entry := range p.entries {
		body = appendEntry(body, entry)
	}
	sum := sha256.Sum256(body)
	head := fmt.Sprintf("%s\n%d %s\n%d %s\n%x\n\n", pendingHeader,
		p.base.Size, p.base.Root, p.target.Size, p.target.Root, sum)
	return append([]byte(head), body...)
}

// readPending returns nil if nothing was begun.
func readPending(path string) (*pending, error) {
	raw, err := readBounded(path, maxBatchBytes+2*MaxBatch+maxNoteSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	p, err := parsePending(raw)
	if err != nil {
		return nil, damaged(path, err)
	}
	return p, nil
}

func parsePending(raw []byte) (*pending, error) {
	head, body, _ := bytes.Cut(raw, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	if len(lines) != 4 || lines[0] != pendingHeader {
		return nil, errors.New("not a plan of additions")
	}
	var p pending
	var err error
	for i, c := range []*logproof.Checkpoint{&p.base, &p.target} {
		size, root, _ := strings.Cut(lines[1+i], " ")
		if c.Size, err = strconv.ParseInt(size, 10, 64); err != nil {
			return nil, err
		}
		if c.Root, err = tlog.ParseHash(root); err != nil {
			return nil, err
		}
	}
	if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != lines[3] {
		return nil, errors.New("it does not have its checksum")
	}
	count := p.target.Size - p.base.Size
	if p.base.Size < 0 || count < 1 || count > MaxBatch {
		return nil, errors.New("its sizes are wrong")
	}
	if p.entries, err = parseBundle(body, int(count)); err != nil {
		return nil, err
	}
	return &p, checkEntries(p.entries)
}

// finish carries out an addition that was begun, from the folder as it is.
func (l *Log) finish(begun *pending) error {
	tree := l.reader.tree
	if tree.Size == begun.target.Size && tree.Root == begun.target.Root {
		return l.carryOut(l.planCleaning(begun.base.Size, begun.target.Size))
	}
	if tree.Size != begun.base.Size || tree.Root != begun.base.Root {
		return ErrRolledBack.Of(l.path(pendingName), "it continues a tree of size %d, the checkpoint has %d", begun.base.Size, tree.Size)
	}
	p, err := l.plan(begun.entries)
	if err != nil {
		return err
	}
	if p.reader.tree.Root != begun.target.Root {
		return ErrDamaged.Of(l.path(pendingName), "it leads to another tree")
	}
	if err := l.checkMemory(p.reader.tree); err != nil {
		return err
	}
	if err := l.carryOut(p.steps); err != nil {
		return err
	}
	l.reader = p.reader
	return nil
}
