package translog

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/phasebased/phase/logproof"
)

// Limits on what is read of cosignatures: the newest sizes, and lines of each.
const (
	maxCosignedSizes = 256
	maxCosigners     = 64
)

// Proof is a proof that an entry is in the log.
type Proof struct {
	Bytes     []byte   // C2SP tlog-proof@v1
	Size      int64    // of the tree that it is about
	Cosigners []string // names on the witnesses' lines; checked only under a policy
}

// Prove writes down that entry number index is in the log, under the
// checkpoint that has the most cosignatures, the newest of several. With a
// policy it takes the newest checkpoint under which the policy accepts the
// proof, and fails with that policy's error if there is none.
func (r *Reader) Prove(index int64, policy *logproof.Policy) (*Proof, error) {
	if index < 0 || index >= r.tree.Size {
		return nil, ErrNotLogged.Of(r.dir, "index %d of %d entries", index, r.tree.Size)
	}
	candidates, err := r.cosignedFrom(index + 1)
	if err != nil {
		return nil, err
	}
	best := slices.MaxFunc(candidates, func(a, b *cosigned) int { return cmp.Compare(len(a.lines), len(b.lines)) })
	if policy == nil {
		return r.proofUnder(best, index)
	}
	entry, err := r.Entry(index)
	if err != nil {
		return nil, err
	}
	// The best comes last: if nothing is accepted, its refusal says most.
	for _, c := range append(candidates, best) {
		var proof *Proof
		if proof, err = r.proofUnder(c, index); err != nil {
			return nil, err
		}
		if _, err = policy.Verify(proof.Bytes, entry); err == nil {
			return proof, nil
		}
	}
	return nil, fmt.Errorf("%s: entry %d under the checkpoint of size %d: %w", r.dir, index, best.tree.Size, err)
}

// Entry is entry number index, checked against the tree.
func (r *Reader) Entry(index int64) ([]byte, error) {
	if index < 0 || index >= r.tree.Size {
		return nil, ErrNotLogged.Of(r.dir, "index %d of %d entries", index, r.tree.Size)
	}
	n := index / tileWidth
	entries, err := r.lastBundle(n, int(min(tileWidth, r.tree.Size-n*tileWidth)))
	if err != nil {
		return nil, err
	}
	return entries[index%tileWidth], nil
}

func (r *Reader) proofUnder(c *cosigned, index int64) (*Proof, error) {
	path, err := tlog.ProveRecord(c.tree.Size, index, r.hashesOf(c.tree))
	if err != nil {
		return nil, damaged(r.dir, err)
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, "c2sp.org/tlog-proof@v1\nindex %d\n", index)
	for _, hash := range path {
		fmt.Fprintln(&text, hash)
	}
	text.WriteByte('\n')
	text.Write(c.signed)
	proof := &Proof{Size: c.tree.Size}
	for _, line := range c.lines {
		fmt.Fprintf(&text, "— %s %s\n", line.Name, line.Base64)
		proof.Cosigners = append(proof.Cosigners, line.Name)
	}
	proof.Bytes = text.Bytes()
	if len(proof.Bytes) > logproof.MaxProofSize {
		return nil, fmt.Errorf("the proof has %d bytes, limit %d: too many cosignatures", len(proof.Bytes), logproof.MaxProofSize)
	}
	return proof, nil
}

// cosigned is a checkpoint of the log with the lines that witnesses made for
// it. The log's signature is checked; the lines are not, because only a policy
// knows the witnesses' keys.
type cosigned struct {
	tree   logproof.Checkpoint
	signed []byte // with the log's signature alone
	lines  []note.Signature
}

// cosignedFrom lists the current checkpoint and those that were cosigned, of
// at least size entries, the newest first.
func (r *Reader) cosignedFrom(size int64) ([]*cosigned, error) {
	sizes, err := r.cosignedSizes()
	if err != nil {
		return nil, err
	}
	current, err := r.openCosigned(r.signed)
	if err != nil {
		return nil, err
	}
	list := []*cosigned{current}
	for _, s := range sizes {
		if s < size || len(list) > maxCosignedSizes {
			break
		}
		c, err := r.cosignedAt(s)
		if err != nil {
			return nil, err
		}
		if c == nil {
			continue
		}
		if c.tree.Size == current.tree.Size {
			c.addLines(current.lines)
			list[0] = c
			continue
		}
		list = append(list, c)
	}
	return list, nil
}

// cosignedSizes are the tree sizes for which there are cosignatures, the
// largest first.
func (r *Reader) cosignedSizes() ([]int64, error) {
	folders, err := os.ReadDir(filepath.Join(r.dir, cosignaturesName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var sizes []int64
	for _, f := range folders {
		size, err := strconv.ParseInt(f.Name(), 10, 64)
		if err == nil && strconv.FormatInt(size, 10) == f.Name() {
			sizes = append(sizes, size)
		}
	}
	slices.Sort(sizes)
	slices.Reverse(sizes)
	return sizes, nil
}

// cosignedAt collects the cosignatures on the checkpoint of one size. Each
// file is a whole checkpoint, which must be the log's own and part of this
// tree: another one would be the proof of a fork.
func (r *Reader) cosignedAt(size int64) (*cosigned, error) {
	dir := filepath.Join(r.dir, cosignaturesName, strconv.FormatInt(size, 10))
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	if len(files) > maxCosigners {
		return nil, ErrDamaged.Of(dir, "%d files, limit %d", len(files), maxCosigners)
	}
	var all *cosigned
	for _, f := range files {
		if !isKeyHash(f.Name()) {
			continue
		}
		path := filepath.Join(dir, f.Name())
		raw, err := readBounded(path, maxNoteSize)
		if err != nil {
			return nil, damaged(path, err)
		}
		c, err := r.openCosigned(raw)
		if err != nil {
			return nil, damaged(path, err)
		}
		if c.tree.Size != size {
			return nil, ErrDamaged.Of(path, "it is of a tree of size %d", c.tree.Size)
		}
		if err := r.consistent(c.tree); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if all == nil {
			all = c
		} else {
			all.addLines(c.lines)
		}
	}
	return all, nil
}

// isKeyHash tells the files of witnesses from what an interrupted write left.
func isKeyHash(name string) bool {
	_, err := strconv.ParseUint(name, 16, 32)
	return err == nil && len(name) == 8
}

// openCosigned verifies the log's signature and takes the other lines apart.
func (r *Reader) openCosigned(raw []byte) (*cosigned, error) {
	tree, err := openCheckpoint(raw, r.key)
	if err != nil {
		return nil, err
	}
	opened, err := note.Open(raw, note.VerifierList(r.key))
	if err != nil {
		return nil, err
	}
	if len(tree.Extensions) > 0 {
		return nil, errors.New("extension lines, which this log does not use")
	}
	c := &cosigned{tree: tree}
	c.signed = fmt.Appendf(nil, "%s\n— %s %s\n", opened.Text, opened.Sigs[0].Name, opened.Sigs[0].Base64)
	c.addLines(opened.UnverifiedSigs)
	return c, nil
}

// addLines adds one line for each key.
func (c *cosigned) addLines(lines []note.Signature) {
	for _, line := range lines {
		same := func(have note.Signature) bool { return have.Name == line.Name && have.Hash == line.Hash }
		if raw, err := base64.StdEncoding.DecodeString(line.Base64); err == nil && len(raw) > 4 && !slices.ContainsFunc(c.lines, same) {
			c.lines = append(c.lines, line)
		}
	}
}
