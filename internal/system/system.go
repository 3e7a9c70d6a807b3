// Package system knows what the systems of Phase consist of: the seed that a
// medium starts, the node system that it lands in, the USB image, and an image
// that starts the node directly, to compare with.
//
// It decides which file goes where and asks package image to write the
// containers. Inputs are named files (a kernel, a loader, programs, documents)
// and a time; equal inputs give equal bytes. Every input is checked for what it
// claims to be before it is put on a medium: a loader is an EFI program of the
// architecture, a program is static, a root document is self-signed, a log
// policy can be read. There is no way to build a medium without a real root.
//
// Trust: kernel, modules, loader and CA certificates come from the distribution
// through apt, or are given by the person who builds. Their names, versions and
// digests are written to the medium as its bill of materials.
package system

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/logproof"
	"github.com/phasebased/phase/manifest"
)

// A Build holds what all products of one build have in common. Its methods may
// be called at the same time, but not for the same output path.
type Build struct {
	Inputs  *Inputs
	Version string    // of the product, for build.json and os-release
	Time    time.Time // SOURCE_DATE_EPOCH: every date inside the products
	// MinVersion is the version floor built into the seed: releases below it are
	// refused even by a medium that remembers nothing; 0 refuses none.
	MinVersion int64
	// Reuse is a folder of earlier outputs, found by a digest of all that went
	// into them; "" compresses everything anew. The digest covers inputs, not
	// this program: release builds leave Reuse empty.
	Reuse string
	Log   *slog.Logger // nil: silent
}

// An Output is a file that was built.
type Output struct {
	Path   string
	Size   int64
	Digest blob.Digest
	Reused bool          // taken from Build.Reuse
	Took   time.Duration // wall time
}

// buildInfo is /phase/build.json: what the running system knows of itself.
type buildInfo struct {
	Version   string `json:"version"`
	BuildTime string `json:"build_time"` // RFC 3339, UTC; also the clock's floor
	Arch      string `json:"arch"`
	Kernel    string `json:"kernel"` // release, as in uname -r
	// MinVersion is the lowest release that a seed accepts, whatever it remembers.
	MinVersion int64 `json:"min_manifest_version"`
}

func (b *Build) info() buildInfo {
	return buildInfo{
		Version: b.Version, BuildTime: b.Time.UTC().Format(time.RFC3339),
		Arch: b.Inputs.Arch, Kernel: b.Inputs.Kernel.Release, MinVersion: b.MinVersion,
	}
}

// check refuses a build that lacks what every product needs.
func (b *Build) check() error {
	switch {
	case b.Inputs == nil:
		return errors.New("system: no inputs")
	case b.MinVersion < 0:
		return fmt.Errorf("system: the version floor %d is negative", b.MinVersion)
	case b.Version == "":
		return errors.New("system: no version")
	case b.Time.Year() < 2020 || b.Time.Year() > 2105:
		// Earlier dates are a forgotten SOURCE_DATE_EPOCH, and the seed takes this
		// time as the earliest that its clock may show.
		return fmt.Errorf("system: build time %v is not plausible; set SOURCE_DATE_EPOCH", b.Time.UTC())
	}
	return nil
}

// A RootError reports that there is no root document to put on a medium.
type RootError struct{ Err error }

func (e *RootError) Error() string {
	return fmt.Sprintf("system: refusing to build a medium without a valid root.json: %v", e.Err)
}

func (e *RootError) Unwrap() error { return e.Err }

// Hint says how to get a root.
func (e *RootError) Hint() string {
	return "Create the release keys and root.json first; a medium trusts nothing but its root."
}

func checkRoot(root []byte) error {
	if len(root) == 0 {
		return &RootError{errors.New("it is empty or missing")}
	}
	if _, err := manifest.ParseRoot(root); err != nil {
		return &RootError{err}
	}
	return nil
}

// checkLogPolicy refuses a policy that the seed could not read: it would stop
// there, as a rule that nobody can apply must not be ignored.
func checkLogPolicy(policy []byte) error {
	if len(policy) == 0 {
		return nil
	}
	if _, err := logproof.ParsePolicy(policy); err != nil {
		return fmt.Errorf("system: refusing to build a medium with this log policy: %w", err)
	}
	return nil
}

func (b *Build) logf(msg string, args ...any) {
	if b.Log != nil {
		b.Log.Info(msg, args...)
	}
}

// place moves a finished temporary file to its name, so that a build that fails
// leaves nothing that looks like a product.
func place(tmp, path string, write func(tmp string) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("system: %w", err)
	}
	if err := write(tmp); err != nil {
		os.Remove(tmp)
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		os.Remove(tmp)
		return fmt.Errorf("system: %w", err)
	}
	return nil
}
