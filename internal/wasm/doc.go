// Package wasm runs WebAssembly modules of strangers: each in a process of its own,
// behind walls that are built before the first foreign byte is read, and counted so
// that the same job ends alike on every node.
//
// A Sandbox is the node's side. It starts runners (ServeRunner, in plasm-jail or a
// copy of the node's own program), looks at the walls around them from outside, and
// kills what outlives its deadline. A runner reads a job and its module from a pipe,
// inspects the module, has package fuel rewrite it, and gives it to an Engine, which
// is the only door to the WebAssembly library.
//
// Trust: the module, its arguments and its input are foreign, and so is the runner
// from the moment it has read them. What it says over its pipes is bounded, cut at
// the job's limits a second time, and taken for the node's own failure where it makes
// no sense. A wall is reported only if it was found by trying or by looking;
// docs/jobs.md lists them, and what each is for.
package wasm
