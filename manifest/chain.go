package manifest

// MaxRootChain is how many successors a machine follows from one root at most.
// Update takes one step; whoever calls it in a loop keeps to this bound, so
// that nobody leads a machine along an endless chain.
const MaxRootChain = 64

// Update returns the root in raw if it is the successor of r. It takes the
// steps of the TUF specification 1.0.34, section 5.3, that need no network:
//
//   - 5.3.4: raw is signed by a threshold of r's root keys and by a threshold
//     of its own root keys. A key that is in both counts for both.
//   - 5.3.5: its version is r's plus one, exactly.
//   - 5.3.6: its expiry does not matter, nor does r's. Only the last root of a
//     chain is judged (5.3.10), by a Verifier.
//
// raw is read as strictly as ParseRoot does. Errors are *Error; a successor
// that breaks one of these steps is refused by RuleRootChain, and one that
// nobody would accept by the rules of ParseRoot. r stays as it is.
//
// Section 5.3.11, the deletion of versions that replaced keys had signed, is
// not followed: see FloorReset.
func (r *Root) Update(raw []byte) (*Root, error) {
	if !r.usable() || r.version == 0 {
		return nil, refuse("root", RuleRootChain, "there is no root that it could follow")
	}
	next, file, err := readRoot(raw)
	if err != nil {
		return nil, err
	}
	old, own := r.roles[RoleRoot], next.roles[RoleRoot]
	if valid := file.count(old); valid < old.Threshold {
		return nil, refuse("root", RuleRootChain, "%d valid signatures by the keys of root version %d, %d are required",
			valid, r.version, old.Threshold)
	}
	if valid := file.count(own); valid < own.Threshold {
		return nil, refuse("root", RuleRootChain, "%d valid signatures of its own root role, %d are required", valid, own.Threshold)
	}
	if next.version != r.version+1 {
		return nil, refuse("root", RuleRootChain, "it has version %d, after version %d comes %d", next.version, r.version, r.version+1)
	}
	return next, nil
}
