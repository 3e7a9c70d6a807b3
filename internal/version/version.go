// Package version names the release a binary was built from.
package version

// Version is the release, set at link time with
// -ldflags "-X github.com/phasebased/phase/internal/version.Version=…".
// It is part of the image, so it must come from the sources, never from
// the clock or the machine that built them.
var Version = "devel"

// Epoch is the time of the sources in seconds since 1970, set in the same way.
// It dates everything inside an image.
var Epoch = ""

// Commit is the commit of the sources, set in the same way in the commands that people
// run. It is not in what goes onto media, so that their bytes depend on the sources
// and not on who has their history.
var Commit = ""
