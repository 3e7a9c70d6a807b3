package provider

import (
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/phasebased/phase/blob"
)

// measured is a file's digest, valid while size, modification time and inode
// stay.
type measured struct {
	info   fs.FileInfo
	digest blob.Digest
	at     time.Time
}

func (m measured) matches(info fs.FileInfo) bool {
	return m.info != nil && m.info.Size() == info.Size() && m.info.ModTime().Equal(info.ModTime()) && os.SameFile(m.info, info)
}

// files are what was measured in the folder, by path below it and by what it
// is. A file counts from the moment it is measured, also while a scan of a large
// folder goes on. The zero value is empty; it is safe for concurrent use.
type files struct {
	mu       sync.RWMutex
	byName   map[string]measured
	byDigest map[blob.Digest][]string
	lists    map[blob.Digest][]byte // chunk lists that no file holds
	total    sum                    // of byName; digests are not counted
}

func (f *files) get(name string) (measured, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	m, ok := f.byName[name]
	return m, ok
}

// named are the files that had a digest when they were measured.
func (f *files) named(d blob.Digest) []string {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return slices.Clone(f.byDigest[d])
}

func (f *files) list(d blob.Digest) ([]byte, bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	raw, ok := f.lists[d]
	return raw, ok
}

func (f *files) put(name string, m measured) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byName == nil {
		f.byName, f.byDigest = map[string]measured{}, map[blob.Digest][]string{}
	}
	f.drop(name)
	f.total.add(name, m, 1)
	f.byName[name] = m
	f.byDigest[m.digest] = append(f.byDigest[m.digest], name)
}

// drop is for those who hold the lock.
func (f *files) drop(name string) {
	m, ok := f.byName[name]
	if !ok {
		return
	}
	f.total.add(name, m, -1)
	delete(f.byName, name)
	left := slices.DeleteFunc(f.byDigest[m.digest], func(other string) bool { return other == name })
	if f.byDigest[m.digest] = left; len(left) == 0 {
		delete(f.byDigest, m.digest)
	}
}

// keep forgets all files but these, and takes over the chunk lists.
func (f *files) keep(found map[string]bool, lists map[blob.Digest][]byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name := range f.byName {
		if !found[name] {
			f.drop(name)
		}
	}
	f.lists = lists
}

// digests are those of all that is there, in no order.
func (f *files) digests() []blob.Digest {
	f.mu.RLock()
	defer f.mu.RUnlock()
	all := slices.Collect(maps.Keys(f.byDigest))
	for d := range f.lists {
		if _, ok := f.byDigest[d]; !ok {
			all = append(all, d)
		}
	}
	return all
}

// A sum is how much is in the folder.
type sum struct {
	files, digests, blobs int
	rotten                int // files of the blobs folder that are not what their name says
	bytes                 int64
}

// add counts a file in, or out if n is -1.
func (s *sum) add(name string, m measured, n int) {
	s.files += n
	s.bytes += int64(n) * m.info.Size()
	if d, ok := blobDigest(name); ok {
		s.blobs += n
		if d != m.digest {
			s.rotten += n
		}
	}
}

// sum does not look at each file: strangers may ask for it as often as they like.
func (f *files) sum() sum {
	f.mu.RLock()
	defer f.mu.RUnlock()
	s := f.total
	s.digests = len(f.byDigest)
	for d := range f.lists {
		if _, ok := f.byDigest[d]; !ok {
			s.digests++
		}
	}
	return s
}

// blobDir is the folder of blobs.
const blobDir = "blobs"

// blobName is where a blob lies below the folder.
func blobName(d blob.Digest) string {
	return path.Join(blobDir, d.Hex()[:2], d.Hex()+".bin")
}

// blobDigest is blobName's inverse, and false for all other names.
func blobDigest(name string) (blob.Digest, bool) {
	hex, ok := strings.CutSuffix(path.Base(name), ".bin")
	if !ok {
		return blob.Digest{}, false
	}
	d, err := blob.Parse(blob.Prefix + hex)
	return d, err == nil && blobName(d) == name
}
