// Package examples carries the jobs that Phase Boot ships with.
package examples

import _ "embed"

// Hello is the hello job's WASI module: it writes its arguments backwards.
// Its source is hello/hello.wat, and hello/hello.go says the same in Go.
//
//go:embed hello/hello.wasm
var Hello []byte
