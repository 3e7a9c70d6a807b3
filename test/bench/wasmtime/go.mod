// The reference of the benchmark of engines. It is a module of its own because it needs
// cgo and a library in Rust, which the product must not have.
module github.com/phasebased/phase/test/bench/wasmtime

go 1.26.0

require github.com/bytecodealliance/wasmtime-go/v39 v39.0.1
