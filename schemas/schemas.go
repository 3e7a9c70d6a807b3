// Package schemas holds JSON Schemas (draft 2020-12) of the signed documents,
// for people who make or read them in other languages.
//
// They describe what the parsers of packages manifest, receipt, quorum and
// internal/job accept, as far as a schema can: tests compare both on every vector
// and on thousands of changed documents. What a schema cannot say stands in its $comment. A schema
// is never a substitute for verification: it sees no signature.
package schemas

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

//go:embed *.schema.json
var files embed.FS

const suffix = ".schema.json"

// Names returns the names of all schemas, sorted: "manifest" and "pointer" are
// the files that travel, "manifest-payload" and "pointer-payload" the signed
// bytes in them.
func Names() []string {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return nil // cannot happen: the folder is part of the program
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), suffix))
	}
	slices.Sort(names)
	return names
}

// Get returns the text of a schema.
func Get(name string) ([]byte, error) {
	text, err := files.ReadFile(name + suffix)
	if err != nil {
		return nil, fmt.Errorf("no schema is called %.40q; there are %s", name, strings.Join(Names(), ", "))
	}
	return text, nil
}

//go:embed jobs.openapi.json
var jobsAPI []byte

// JobsAPI returns the OpenAPI 3.1 document of the HTTP API on a node's socket.
func JobsAPI() []byte { return bytes.Clone(jobsAPI) }
