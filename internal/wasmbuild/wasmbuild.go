// Package wasmbuild compiles programs to WASI modules, for the tests and benchmarks of
// this repository, with the commands that docs/examples.md tells people to type. It
// compiles only what belongs to the repository.
package wasmbuild

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// ErrNoCompiler is what errors wrap where a compiler, or a part of it, is missing.
var ErrNoCompiler = errors.New("no compiler")

// Go compiles the Go package in a folder to the file out.
func Go(ctx context.Context, folder, out string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, ".")
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	return run(cmd)
}

// C compiles one file of C to the file out. It needs clang, lld, wasi-libc and
// clang's runtime for wasm32.
func C(ctx context.Context, source, out string) error {
	if _, err := exec.LookPath("wasm-ld"); err != nil {
		return fmt.Errorf("%w: %w", ErrNoCompiler, err)
	}
	err := run(exec.CommandContext(ctx, "clang", "--target=wasm32-wasi", "-O2", "-s", "-o", out, source))
	if err != nil && !errors.Is(err, ErrNoCompiler) && !linksNothing(ctx, out) {
		return fmt.Errorf("%w: clang has no C library or no runtime for wasm32-wasi: %w", ErrNoCompiler, err)
	}
	return err
}

// linksNothing says whether a program that does nothing can be compiled.
func linksNothing(ctx context.Context, out string) bool {
	cmd := exec.CommandContext(ctx, "clang", "--target=wasm32-wasi", "-x", "c", "-o", out, "-")
	cmd.Stdin = bytes.NewReader([]byte("#include <stdio.h>\nint main(void) { puts(\"\"); return 0; }\n"))
	return cmd.Run() == nil
}

// run runs a compiler and gives what it says if it fails.
func run(cmd *exec.Cmd) error {
	out, err := cmd.CombinedOutput()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("%w: %w", ErrNoCompiler, err)
	case err != nil:
		return fmt.Errorf("%s: %w\n%.4000s", cmd.Args[0], err, out)
	}
	return nil
}
