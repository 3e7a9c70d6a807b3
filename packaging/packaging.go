// Package packaging holds what packages of the programs bring beside them: the
// systemd unit, the system group, and what Debian's packages say and do.
//
// All of it is as people would copy it by hand; package deb puts it in its places.
package packaging

import "embed"

// Files are this folder's, by their paths in it.
//
//go:embed systemd deb
var Files embed.FS
