package debpkg

import (
	"context"
	"strings"
)

// Depends returns the names of the packages that this one needs, in its own
// order: of alternatives the first, without versions.
func (p Package) Depends(ctx context.Context) ([]string, error) {
	out, err := runIn(ctx, "", "dpkg-deb", "--showformat=${Pre-Depends},${Depends}\n", "--show", p.Path())
	if err != nil {
		return nil, err
	}
	return parseDepends(string(out)), nil
}

// parseDepends reads "a (>= 1), b | c, d:any" (Debian policy 7.1). What is no
// name of a package is left out.
func parseDepends(text string) []string {
	var names []string
	seen := map[string]bool{}
	for item := range strings.SplitSeq(text, ",") {
		name := strings.TrimSpace(item)
		if i := strings.IndexAny(name, " \t\n(|:["); i >= 0 {
			name = name[:i]
		}
		if validName(name) && !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}
