package release

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/phasebased/phase/manifest"
)

// RootFile is a root and what to call it in messages. Chain fills in Root.
type RootFile struct {
	Name  string
	Raw   []byte
	Draft *manifest.Draft // what it says, unverified
	Root  *manifest.Root  // verified by the one before it; nil: not yet
}

// OpenRoot reads what a root file says, without verifying it.
func OpenRoot(name string, raw []byte) (RootFile, error) {
	draft, err := manifest.OpenRootDraft(raw)
	if err != nil {
		return RootFile{}, fmt.Errorf("%s: %w", name, err)
	}
	return RootFile{Name: name, Raw: raw, Draft: draft}, nil
}

func (f RootFile) version() int64 { return f.Draft.Spec().Version }

// Same reports whether both say the same, whoever has signed them.
func (f RootFile) Same(d *manifest.Draft) bool { return f.Draft.Digest() == d.Digest() }

// RootError says which root file is refused. Its cause is package manifest's.
type RootError struct {
	File RootFile
	Err  error
}

func (e *RootError) Error() string { return e.File.Name + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *RootError) Unwrap() error { return e.Err }

// Chain puts roots, given in any order, into that of their versions, and follows
// them from the lowest, which is taken as it is, to the newest, as a machine with
// the lowest has to. Of files that say the same the first one counts. It fails
// with a *FolderError where one is missing or two contradict each other, and with
// a *RootError.
func Chain(list []RootFile) (chain []RootFile, err error) {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b RootFile) int { return cmp.Compare(a.version(), b.version()) })
	for i, next := range list {
		if i == 0 {
			next.Root, err = manifest.ParseRoot(next.Raw)
		} else {
			last := chain[len(chain)-1]
			switch version := last.Root.Version(); {
			case next.version() == version && last.Same(next.Draft):
				continue
			case next.version() == version:
				return nil, &FolderError{fmt.Sprintf("%s and %s are two different roots of version %d", last.Name, next.Name, version),
					"Find out which of the two is right before anything else: machines follow either."}
			case next.version() > version+1:
				return nil, &FolderError{fmt.Sprintf("root version %d is missing between %s and %s", version+1, last.Name, next.Name),
					"Name the roots in between with --root as well."}
			}
			next.Root, err = last.Root.Update(next.Raw)
		}
		if err != nil {
			return nil, &RootError{next, err}
		}
		chain = append(chain, next)
	}
	return chain, nil
}
