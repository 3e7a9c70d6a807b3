package sums

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/durable"
)

// Watch is told how many bytes of the file name were read, of size. An error from
// it ends the work. A nil Watch is not told.
type Watch func(name string, done, size int64) error

// Folder lists all files below dir but the list itself and its signatures. A
// link, a device or a name that no list can have is refused: who signs a folder
// signs all of it.
func Folder(dir string, watch Watch) (List, error) {
	var list List
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(rel)
		if own(name) {
			return nil
		}
		if err := CheckName(name); err != nil {
			return err
		}
		if len(list) == MaxFiles {
			return ErrList.Of(dir, "more than %d files", MaxFiles)
		}
		digest, err := Digest(path, name, watch)
		list = append(list, Entry{name, digest})
		return err
	})
	return list, err
}

// own reports whether a file is one of the three that are not in the list.
func own(name string) bool { return name == Name || name == SigName || name == MinisigName }

// Digest reads a regular file, not a link, and returns its digest.
func Digest(path, name string, watch Watch) (blob.Digest, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return blob.Digest{}, err
	}
	if !info.Mode().IsRegular() {
		return blob.Digest{}, &fs.PathError{Op: "read", Path: path, Err: durable.ErrNotRegular}
	}
	f, err := os.Open(path)
	if err != nil {
		return blob.Digest{}, err
	}
	defer f.Close()
	return ReaderDigest(io.LimitReader(f, info.Size()), name, info.Size(), watch)
}

// ReaderDigest reads in to its end; size is what watch is told.
func ReaderDigest(in io.Reader, name string, size int64, watch Watch) (blob.Digest, error) {
	h, buf, done := sha256.New(), make([]byte, 1<<20), int64(0)
	for {
		n, err := in.Read(buf)
		h.Write(buf[:n])
		done += int64(n)
		if watch != nil && n > 0 {
			if err := watch(name, done, size); err != nil {
				return blob.Digest{}, err
			}
		}
		if errors.Is(err, io.EOF) {
			return blob.FromSum([sha256.Size]byte(h.Sum(nil))), nil
		}
		if err != nil {
			return blob.Digest{}, err
		}
	}
}

// OpenFolder reads the list of a folder and verifies it with whichever of its
// signatures are there, at least one: all of them have to be right.
func OpenFolder(dir string, key ed25519.PublicKey) (List, error) {
	return OpenFile(filepath.Join(dir, Name), key)
}

// OpenFile is OpenFolder for a list at path, whose signatures lie beside it.
func OpenFile(path string, key ed25519.PublicKey) (List, error) {
	raw, err := durable.ReadSmall(path, MaxBytes, durable.FollowLinks)
	if errors.Is(err, durable.ErrTooLarge) {
		return nil, ErrList.Of(path, "%w", err)
	}
	if err != nil {
		return nil, err
	}
	var list List
	for _, ext := range []string{".sig", ".minisig"} {
		sig, err := durable.ReadSmall(path+ext, maxSigFile, durable.FollowLinks)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if errors.Is(err, durable.ErrTooLarge) {
			return nil, ErrSigFile.Of(path+ext, "%w", err)
		}
		if err != nil {
			return nil, err
		}
		if ext == ".sig" && len(sig) != ed25519.SignatureSize {
			return nil, ErrSigFile.Of(path+ext, "%d bytes, not %d", len(sig), ed25519.SignatureSize)
		}
		if list, err = Open(raw, sig, key); err != nil {
			return nil, err
		}
	}
	if list == nil {
		return nil, ErrSigFile.Of(path, "there is no signature beside it")
	}
	return list, nil
}

// Check compares the files below dir with the list: the first that is missing,
// differs or does not stand in it is an error.
func (l List) Check(dir string, watch Watch) error {
	for _, e := range l {
		got, err := Digest(filepath.Join(dir, filepath.FromSlash(e.Name)), e.Name, watch)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return &Error{Object: e.Name, Reason: ErrMissing}
		case err != nil:
			return err
		case got != e.SHA256:
			return ErrDiffers.Of(e.Name, "it has %s, expected %s", got, e.SHA256)
		}
	}
	return l.nothingElse(dir)
}

func (l List) nothingElse(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(rel)
		if own(name) || slices.ContainsFunc(l, func(e Entry) bool { return e.Name == name }) {
			return nil
		}
		return &Error{Object: name, Reason: ErrUnlisted}
	})
}
