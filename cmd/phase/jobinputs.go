package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobapi"
)

// inputFile is a file that a job names by what it held when it was read.
type inputFile struct {
	name string
	job.Input
	file *os.File // open until the program ends
}

// inputFiles are those of a job that are not empty.
type inputFiles []inputFile

// openInputs reads NAME=FILE of each of args.
func openInputs(args []string) (inputs map[string]job.Input, files inputFiles, err error) {
	inputs = map[string]job.Input{}
	for _, arg := range args {
		name, path, ok := strings.Cut(arg, "=")
		switch _, twice := inputs[name]; {
		case !ok || !job.IsInputName(name):
			return nil, nil, usageError{fmt.Errorf("--input %.80q is not NAME=FILE; a name has letters, digits, dots, hyphens and underscores", arg)}
		case twice:
			return nil, nil, usageError{fmt.Errorf("--input %s is given twice", name)}
		}
		f, err := openInput(name, path)
		if err != nil {
			return nil, nil, fmt.Errorf("--input %s: %w", name, err)
		}
		if inputs[name] = f.Input; f.Size > 0 {
			files = append(files, f)
		}
	}
	return inputs, files, nil
}

// openInput reads a whole file, to know its digest.
func openInput(name, path string) (f inputFile, err error) {
	f.name = name
	info, err := os.Stat(path) // opening something else might wait for ever
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	if err != nil {
		return f, err
	}
	if f.file, err = os.Open(path); err != nil {
		return f, err
	}
	sum := sha256.New()
	if f.Size, err = io.Copy(sum, f.file); err != nil {
		f.file.Close()
		return f, err
	}
	f.Digest = blob.FromSum([32]byte(sum.Sum(nil)))
	return f, nil
}

// upload gives the node what it lacks of them. It compares what comes with the digest:
// a file that has changed meanwhile is refused.
func (files inputFiles) upload(ctx context.Context, c *jobapi.Client) error {
	for _, f := range files {
		if err := c.UploadFrom(ctx, f.Digest, f.Size, f.file); err != nil {
			return fmt.Errorf("input %s: %w", f.name, err)
		}
	}
	return nil
}

// contents are the files by digest.
func (files inputFiles) contents() map[blob.Digest]io.ReaderAt {
	all := map[blob.Digest]io.ReaderAt{}
	for _, f := range files {
		all[f.Digest] = f.file
	}
	return all
}
