package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
	"github.com/phasebased/phase/internal/jobapi"
	"github.com/phasebased/phase/internal/sums"
	phaseterm "github.com/phasebased/phase/internal/term"
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
func openInputs(ctx context.Context, console *phaseterm.Console, args []string) (inputs map[string]job.Input, files inputFiles, err error) {
	named := map[string]bool{}
	var total int64
	for _, arg := range args {
		name, path, ok := strings.Cut(arg, "=")
		switch {
		case !ok || !job.IsInputName(name):
			return nil, nil, usageError{fmt.Errorf("--input %.80q is not NAME=FILE; a name has letters, digits, dots, hyphens and underscores", arg)}
		case named[name]:
			return nil, nil, usageError{fmt.Errorf("--input %s is given twice", name)}
		}
		f, err := openInput(name, path)
		if err != nil {
			return nil, nil, fmt.Errorf("--input %s: %w", name, err)
		}
		named[name], total, files = true, total+f.Size, append(files, f)
	}
	bar := newLateBar(console, "read")
	defer bar.end()
	inputs = map[string]job.Input{}
	var filled inputFiles
	var before int64
	for _, f := range files {
		if err := f.read(ctx, func(done int64) { bar.set(before+done, total) }); err != nil {
			return nil, nil, early(ctx, fmt.Errorf("--input %s: %w", f.name, err))
		}
		before += f.Size
		if inputs[f.name] = f.Input; f.Size > 0 {
			filled = append(filled, f)
		}
	}
	return inputs, filled, nil
}

func openInput(name, path string) (f inputFile, err error) {
	f.name = name
	info, err := os.Stat(path) // opening something else might wait for ever
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", path)
	}
	if err != nil {
		return f, err
	}
	f.Size = info.Size()
	f.file, err = os.Open(path)
	return f, err
}

// read reads the whole file, to know its digest, and tells how many bytes it has read.
func (f *inputFile) read(ctx context.Context, tell func(done int64)) (err error) {
	size := f.Size
	f.Size = 0
	f.Digest, err = sums.ReaderDigest(f.file, f.name, size, func(_ string, done, _ int64) error {
		f.Size = done // which is not what it was, if somebody writes there
		tell(done)
		return context.Cause(ctx)
	})
	return err
}

// uploads are what a node is given of a job.
type uploads []upload

type upload struct {
	what string // for messages; "": the module
	job.Input
	content io.ReaderAt
}

// uploads are the files.
func (files inputFiles) uploads() (list uploads) {
	for _, f := range files {
		list = append(list, upload{"input " + f.name, f.Input, f.file})
	}
	return list
}

// bring gives the node what it lacks of them. It compares what comes with the digest:
// a file that has changed meanwhile is refused.
func (list uploads) bring(ctx context.Context, c *jobapi.Client, console *phaseterm.Console) error {
	var total, before int64
	for _, u := range list {
		total += u.Size
	}
	bar := newLateBar(console, "upload")
	defer bar.end()
	for _, u := range list {
		begin := before // of this one: a body may be read on after the answer
		bar.set(begin, total)
		content := watchedAt{u.content, func(at int64) { bar.set(begin+at, total) }}
		if err := c.UploadFrom(ctx, u.Digest, u.Size, content); err != nil {
			if u.what != "" {
				err = fmt.Errorf("%s: %w", u.what, err)
			}
			return early(ctx, err)
		}
		before += u.Size
	}
	return nil
}

// early says, if the person did not wait, that nothing has come of it.
func early(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return errors.New("interrupted: the job was not handed in")
	}
	return err
}

// watchedAt tells up to where something has been read.
type watchedAt struct {
	io.ReaderAt
	tell func(at int64)
}

// ReadAt reads, and tells.
func (r watchedAt) ReadAt(p []byte, at int64) (int, error) {
	n, err := r.ReaderAt.ReadAt(p, at)
	r.tell(at + int64(n))
	return n, err
}

// contents are the files by digest.
func (files inputFiles) contents() map[blob.Digest]io.ReaderAt {
	all := map[blob.Digest]io.ReaderAt{}
	for _, f := range files {
		all[f.Digest] = f.file
	}
	return all
}
