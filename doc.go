// Package phase is the root of Phase Boot. It holds no code: the test beside
// this file states the architecture, who may import whom, and checks it.
package phase
