package trust

import (
	"errors"
	"fmt"
	"strings"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/durable"
	"github.com/phasebased/phase/logproof"
	"github.com/phasebased/phase/manifest"
)

// Release is the documents of a release that this medium booted. They were
// verified then; whoever reads them here verifies them again.
type Release struct {
	Manifest  []byte      // the manifest file
	Proof     []byte      // its log proof; nil: there was none
	Payload   blob.Digest // of the signed bytes, a manifest's identity
	Confirmed bool        // its system came up and said so
}

// Tried remembers a release whose kernel was loaded. It takes the place of the
// one tried before; the confirmed one stays. payload is the digest of the
// manifest's signed bytes. After a crash at any moment the old release is
// remembered or the new one.
func (s *State) Tried(want manifest.Want, payload blob.Digest, manifestFile, proof []byte) error {
	if s == nil {
		return nil
	}
	err := checkWant(want)
	if err == nil {
		err = checkRelease(payload, manifestFile, proof)
	}
	if err == nil {
		err = s.locked(func() error { return s.saveTried(want, payload, manifestFile, proof) })
	}
	return releaseError("save", want, err)
}

func checkRelease(payload blob.Digest, manifestFile, proof []byte) error {
	switch {
	case payload.IsZero():
		return errors.New("its digest is missing")
	case len(manifestFile) == 0 || len(manifestFile) > manifest.MaxManifestBytes:
		return fmt.Errorf("a manifest of %d bytes cannot be kept", len(manifestFile))
	case len(proof) > logproof.MaxProofSize:
		return fmt.Errorf("a log proof of %d bytes cannot be kept", len(proof))
	}
	return nil
}

// saveTried first writes the files, then the index that names them.
func (s *State) saveTried(want manifest.Want, payload blob.Digest, manifestFile, proof []byte) error {
	tried := entry{payload: payload, manifest: blob.Of(manifestFile)}
	if len(proof) > 0 {
		tried.proof = blob.Of(proof)
	}
	return s.indexSlots(want).update(func(stored index) (index, error) {
		if tried == stored.confirmed {
			return stored, nil
		}
		swept := s.sweepReleases(want) // makes room; not being able to is no reason to give up
		err := s.saveDocument(want, tried.manifest, manifestFile)
		if err == nil && len(proof) > 0 {
			err = s.saveDocument(want, tried.proof, proof)
		}
		if err != nil {
			err = errors.Join(err, swept)
		}
		return index{confirmed: stored.confirmed, tried: tried}, err
	})
}

// Confirm says that the system of a release that was tried came up, and is good
// to go back to. payload is the digest of its manifest's signed bytes. If that
// is confirmed already nothing is written; if the release is not among those of
// LastGood, the error is an *Error around ErrNotTried.
func (s *State) Confirm(want manifest.Want, payload blob.Digest) error {
	if s == nil {
		return nil
	}
	err := checkWant(want)
	if err == nil {
		err = s.locked(func() error { return s.confirm(want, payload) })
	}
	return releaseError("confirm", want, err)
}

func (s *State) confirm(want manifest.Want, payload blob.Digest) error {
	stored, _, err := s.indexSlots(want).read()
	if err != nil {
		return err // nothing to start over with
	}
	for _, good := range candidates(stored) {
		switch {
		case payload.IsZero() || good.payload != payload:
			continue
		case good.confirmed:
			return nil
		}
		return s.indexSlots(want).update(func(current index) (index, error) {
			if current.tried == good.entry {
				current.tried = entry{}
			}
			current.confirmed = good.entry
			return current, nil
		})
	}
	return fmt.Errorf("%w: %s", ErrNotTried, payload)
}

// LastGood returns the releases to go back to, the best first: the confirmed
// one, the one confirmed before if it is still there, then those that were only
// tried. What can be read is returned even if there is an error, an *Error that
// says what cannot, as a warning.
func (s *State) LastGood(want manifest.Want) ([]Release, error) {
	if s == nil {
		return nil, nil
	}
	if err := checkWant(want); err != nil {
		return nil, releaseError("load", want, err)
	}
	stored, bad, err := s.indexSlots(want).read()
	if err != nil {
		return nil, releaseError("load", want, err)
	}
	var releases []Release
	var causes []error
	if bad != nil {
		causes = append(causes, bad) // the release that is missing below may be the best
	}
	seen := map[entry]bool{{}: true}
	for _, good := range candidates(stored) {
		if seen[good.entry] {
			continue
		}
		seen[good.entry] = true
		r, err := s.loadRelease(want, good.entry)
		if err != nil {
			causes = append(causes, err)
			continue
		}
		r.Confirmed = good.confirmed
		releases = append(releases, r)
	}
	if len(causes) > 0 {
		err = fmt.Errorf("%w: %w", ErrUnreadable, errors.Join(causes...))
	}
	return releases, releaseError("load", want, err)
}

// candidate is an entry on its way to a Release.
type candidate struct {
	entry
	confirmed bool
}

// candidates returns all entries of an index, confirmed ones first.
func candidates(stored []record[index]) (list []candidate) {
	for _, r := range stored {
		list = append(list, candidate{r.value.confirmed, true})
	}
	for _, r := range stored {
		list = append(list, candidate{r.value.tried, false})
	}
	return list
}

// index names the releases of one channel by the digests of their files.
type index struct{ confirmed, tried entry }

// entry is one release; the zero entry is none.
type entry struct{ payload, manifest, proof blob.Digest }

// indexSlots have no twin: the index before names the release to go back to if
// the newest does not start.
func (s *State) indexSlots(want manifest.Want) slots[index] {
	return slots[index]{
		path: s.path(prefix(want) + "releases"),
		kind: "phase-releases-1 " + want.Channel + " " + want.Arch, format: formatIndex, parse: parseIndex,
	}
}

func formatIndex(x index) string {
	var fields []string
	for _, e := range []entry{x.confirmed, x.tried} {
		fields = append(fields, formatDigest(e.payload), formatDigest(e.manifest), formatDigest(e.proof))
	}
	return strings.Join(fields, " ")
}

func parseIndex(line string) (x index, err error) {
	fields := strings.Split(line, " ")
	into := []*blob.Digest{
		&x.confirmed.payload, &x.confirmed.manifest, &x.confirmed.proof,
		&x.tried.payload, &x.tried.manifest, &x.tried.proof,
	}
	if len(fields) != len(into) {
		return x, fmt.Errorf("%.80q is not an index of releases", line)
	}
	for i, digest := range into {
		if *digest, err = parseDigest(fields[i]); err != nil {
			return x, err
		}
	}
	for _, e := range []entry{x.confirmed, x.tried} {
		if e != (entry{}) && (e.payload.IsZero() || e.manifest.IsZero()) {
			return x, errors.New("a release in the index lacks its manifest")
		}
	}
	return x, nil
}

func (s *State) documentPath(want manifest.Want, d blob.Digest) string {
	return s.path(prefix(want) + d.Hex() + documentEnding)
}

const documentEnding = ".document"

func (s *State) saveDocument(want manifest.Want, digest blob.Digest, data []byte) error {
	if _, err := s.loadDocument(want, digest, len(data)); err == nil {
		return nil
	}
	return durable.WriteFile(s.documentPath(want, digest), data, 0o644)
}

func (s *State) loadDocument(want manifest.Want, digest blob.Digest, limit int) ([]byte, error) {
	path := s.documentPath(want, digest)
	data, err := readSmall(path, limit)
	if err == nil && blob.Of(data) != digest {
		err = errors.New("the content is damaged")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, nil
}

func (s *State) loadRelease(want manifest.Want, e entry) (r Release, err error) {
	r.Payload = e.payload
	r.Manifest, err = s.loadDocument(want, e.manifest, manifest.MaxManifestBytes)
	if err == nil && !e.proof.IsZero() {
		r.Proof, err = s.loadDocument(want, e.proof, logproof.MaxProofSize)
	}
	return r, err
}

// sweepReleases removes the documents of want that no slot of its index names,
// and what writers left behind that were interrupted.
func (s *State) sweepReleases(want manifest.Want) error {
	stored, _, err := s.indexSlots(want).read()
	if err != nil {
		stored = nil // whatever there is cannot be reached any more
	}
	named := map[string]bool{}
	for _, r := range stored {
		for _, e := range []entry{r.value.confirmed, r.value.tried} {
			named[s.documentPath(want, e.manifest)], named[s.documentPath(want, e.proof)] = true, true
		}
	}
	return s.sweep(func(file string) bool {
		ours := strings.HasPrefix(file, prefix(want)) && strings.HasSuffix(file, documentEnding)
		return ours && !named[s.path(file)]
	})
}
