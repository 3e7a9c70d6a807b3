package provider

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strconv"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/manifest"
)

// roots reads the newest root of a release's folder, and looks at those before
// it as a machine with an old medium does, which asks for one after the other.
// What would stop that machine is a problem of the release.
func (s *scan) roots(r *release, dir string) (*manifest.Root, error) {
	raw, err := s.readSmall(path.Join(dir, rootFile), manifest.MaxRootBytes)
	if err != nil {
		return nil, fmt.Errorf("cannot be checked without %s: %w", rootFile, err)
	}
	newest, err := manifest.ParseRoot(raw)
	if err != nil {
		return nil, err
	}
	r.Root = newest.Version()
	successor := raw
	for version := newest.Version(); version > max(0, newest.Version()-manifest.MaxRootChain); version-- {
		older, err := s.numbered(r, dir, version)
		if errors.Is(err, fs.ErrNotExist) {
			if version > 1 { // 1 is where every medium begins, and nobody asks for it
				r.Problems = append(r.Problems, fmt.Sprintf("%s is missing: media with an older root cannot follow", rootName(version)))
			}
			break
		}
		if err == nil {
			err = leads(older, successor, version == newest.Version())
		}
		if err != nil {
			r.Problems = append(r.Problems, fmt.Sprintf("%s: %v", rootName(version), err))
			break
		}
		successor = older
	}
	return newest, nil
}

// numbered reads <version>.root.json and lists it.
func (s *scan) numbered(r *release, dir string, version int64) ([]byte, error) {
	r.Documents = s.document(r.Documents, dir, rootName(version))
	return s.readSmall(path.Join(dir, rootName(version)), manifest.MaxRootBytes)
}

func rootName(version int64) string { return strconv.FormatInt(version, 10) + "." + rootFile }

// leads says whether whoever trusts the root in raw arrives at the one in
// successor. The newest is there twice, with a number and without.
func leads(raw, successor []byte, same bool) error {
	if same {
		if blob.Of(raw) != blob.Of(successor) {
			return fmt.Errorf("it is not what %s is", rootFile)
		}
		return nil
	}
	root, err := manifest.ParseRoot(raw)
	if err != nil {
		return err
	}
	if _, err := root.Update(successor); err != nil {
		return fmt.Errorf("its successor is refused: %w", err)
	}
	return nil
}
