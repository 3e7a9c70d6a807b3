package manifest

import "github.com/phasebased/phase/blob"

// Floor is what a machine remembers of the manifests it accepted: older ones
// are refused, and so is another manifest of the same version. The zero Floor
// means that nothing was seen.
//
// A floor that a person demands, in a setting for instance, should carry the
// version of the root at hand, so that no FloorReset lowers it.
type Floor struct {
	ManifestVersion int64       // newest accepted so far
	Digest          blob.Digest // of its signed payload; zero: only the version is known
	SecurityFloor   int64       // highest signed security floor accepted so far; 0: none
	RootVersion     int64       // root under which it was accepted; 0: unknown, so older than any
}

// FloorReset says what a floor is worth that was accepted under an older root:
// it counts as Version, whether it was higher or lower. Publishers need it
// after somebody with stolen keys signed a manifest of an enormous version,
// which would keep every machine that saw it from accepting a proper one.
//
// TUF forgets such versions by itself whenever the keys of a role change
// (specification 1.0.34, section 5.3.11). That would drop the protection
// against rollback at every ordinary rotation, so here it has to be said.
type FloorReset struct {
	Root    int64 // floors accepted under a root older than this count as Version; at least 1
	Version int64 // at least 1
}

// EffectiveFloor returns what stored is worth for manifests of channel under r:
// stored itself, unless r resets the floors of that channel. It changes nothing
// that was stored; a floor is stored when the next manifest was booted.
func (r *Root) EffectiveFloor(channel string, stored Floor) Floor {
	if r == nil {
		return stored
	}
	reset, ok := r.floors[channel]
	if !ok || stored.RootVersion >= reset.Root {
		return stored
	}
	return Floor{
		ManifestVersion: reset.Version,
		SecurityFloor:   min(stored.SecurityFloor, reset.Version),
		RootVersion:     r.version,
	}
}

// check refuses what is older than f, or as old but different.
func (f Floor) check(version int64, digest blob.Digest) error {
	if version < f.ManifestVersion {
		return refuse("manifest", RuleRollback, "it has version %d, but version %d was accepted before", version, f.ManifestVersion)
	}
	if err := f.checkSecurity(version); err != nil {
		return err
	}
	return f.checkSame(version, digest)
}

func (f Floor) checkSecurity(version int64) error {
	if version < f.SecurityFloor {
		return refuse("manifest", RuleRollback, "it has version %d, but a newer manifest withdrew all before version %d", version, f.SecurityFloor)
	}
	return nil
}

func (f Floor) checkSame(version int64, digest blob.Digest) error {
	if version == f.ManifestVersion && !f.Digest.IsZero() && digest != f.Digest {
		return refuse("manifest", RuleSameVersion, "another manifest with version %d was accepted before (%s, this is %s)",
			version, f.Digest, digest)
	}
	return nil
}

// checkLastGood is check for a manifest that a machine kept from an earlier
// start. It may be older than f, because the newest release may be the one that
// fails, but not older than what a signer declared the oldest.
func (f Floor) checkLastGood(r *Root, channel string, version int64, digest blob.Digest) error {
	if err := f.checkSecurity(version); err != nil {
		return err
	}
	if reset, ok := r.floors[channel]; ok && version < reset.Version {
		return refuse("manifest", RuleRollback, "it has version %d, but root version %d withdrew all before version %d",
			version, r.version, reset.Version)
	}
	return f.checkSame(version, digest)
}

// raise returns what to remember once m was booted under root r.
func (f Floor) raise(m Manifest, digest blob.Digest, r *Root) Floor {
	security := max(f.SecurityFloor, m.SecurityFloor)
	switch {
	case m.ManifestVersion < f.ManifestVersion: // a last good release
		return Floor{f.ManifestVersion, f.Digest, security, f.RootVersion}
	case m.ManifestVersion == f.ManifestVersion:
		return Floor{m.ManifestVersion, digest, security, max(f.RootVersion, r.version)}
	}
	return Floor{m.ManifestVersion, digest, security, r.version}
}
