package debpkg

import (
	"io/fs"
	"strings"
)

// cleanName turns the name of an archive member ("./usr/lib/") into a relative
// path, and refuses one that points outside.
func cleanName(name string) (string, error) {
	clean := strings.TrimSuffix(strings.TrimPrefix(name, "./"), "/")
	if clean == "" {
		clean = "."
	}
	if !fs.ValidPath(clean) || strings.ContainsRune(clean, 0) {
		return "", &MemberError{name, "points outside the package"}
	}
	return clean, nil
}
