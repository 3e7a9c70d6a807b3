// Package doctor knows which programs and files the project's own tasks need
// on this machine, finds out which are missing, and installs them with apt.
//
// It is for the machine of the person who builds or tries the project, not for
// the systems that the project boots. Programs are looked up in PATH, which is
// trusted as the user's shell trusts it.
package doctor

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/phasebased/phase/internal/vm"
)

// Task is something that a person wants to do with the project.
type Task string

// The tasks.
const (
	Demo    Task = "demo"    // boot a machine and watch it reach its receipt
	Image   Task = "image"   // build the boot medium and the system that it fetches
	VM      Task = "vm"      // start virtual machines from a medium
	Write   Task = "write"   // write a medium to a stick
	Release Task = "release" // build a release and all its media
	Test    Task = "test"    // run all tests
	Lint    Task = "lint"    // check the source code
)

// archs are the architectures of the machines that demo and tests start.
var archs = []string{vm.X8664, vm.ARM64}

// Tasks lists all tasks.
func Tasks() []Task { return []Task{Demo, Image, VM, Write, Release, Test, Lint} }

// Host is the machine to look at.
type Host struct {
	// Path lists the folders with programs, separated by colons, as PATH does.
	Path string
	// Root is the folder in which files are looked up; empty means "/".
	Root string
	// UID is the user on whose behalf we act; 0 needs no sudo.
	UID int
}

// This is the machine we run on, for a user with the given PATH. The folders
// of system programs are added: Debian keeps mke2fs there, and leaves them out
// of the PATH of ordinary users.
func This(path string) Host {
	return Host{Path: path + ":/usr/local/sbin:/usr/sbin:/sbin", UID: os.Geteuid()}
}

// Finding is one thing that a task needs, and whether it is here.
type Finding struct {
	Name    string `json:"name"` // of the program or file, such as "mksquashfs"
	Why     string `json:"why"`  // what it is needed for
	OK      bool   `json:"ok"`
	Detail  string `json:"detail"`            // where it was found or which version; or what is wrong
	Package string `json:"package,omitempty"` // Debian and Ubuntu package that has it; empty: apt cannot help
	Hint    string `json:"hint,omitempty"`    // what to do without a package
	// Optional says that the task can be done without.
	Optional bool `json:"optional,omitempty"`
}

// String is one line for people.
func (f Finding) String() string {
	state := "ok     "
	switch {
	case f.OK:
	case f.Optional:
		state = "without"
	default:
		state = "missing"
	}
	return fmt.Sprintf("%s  %-30s %s (%s)", state, f.Name, f.Detail, f.Why)
}

// Check looks for everything that a task needs, in the order of the tables. Arch
// is the architecture of the machines that the demo starts, as package vm calls it;
// the tests start machines of all. It fails only for an unknown task or
// architecture, or when ctx ends.
func (h Host) Check(ctx context.Context, task Task, arch string) ([]Finding, error) {
	if !slices.Contains(Tasks(), task) {
		return nil, fmt.Errorf("unknown task %q (known: %v)", task, Tasks())
	}
	if machineNeeds(arch) == nil {
		return nil, fmt.Errorf("unknown architecture %q (known: %v)", arch, archs)
	}
	all := needs()
	for _, a := range archs {
		if a == arch || task == Test {
			all = append(all, machineNeeds(a)...)
		}
	}
	return h.look(ctx, task, all)
}

// look checks what is for a task.
func (h Host) look(ctx context.Context, task Task, all []need) ([]Finding, error) {
	var found []Finding
	for _, n := range all {
		if !slices.Contains(n.tasks, task) {
			continue
		}
		f := Finding{Name: n.name, Why: n.why, Package: n.pkg, Hint: n.hint}
		detail, err := n.check(ctx, h)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		f.OK, f.Detail = err == nil, detail
		if err != nil {
			f.Detail = err.Error()
		}
		found = append(found, f)
	}
	return found, nil
}

// Missing returns the findings that are not ok, and needed.
func Missing(found []Finding) []Finding {
	var missing []Finding
	for _, f := range found {
		if !f.OK && !f.Optional {
			missing = append(missing, f)
		}
	}
	return missing
}

// Packages returns the packages that bring what is missing, sorted, each once.
func Packages(found []Finding) []string {
	var pkgs []string
	for _, f := range Missing(found) {
		if f.Package != "" {
			pkgs = append(pkgs, f.Package)
		}
	}
	slices.Sort(pkgs)
	return slices.Compact(pkgs)
}

// LookPath finds a program as exec.LookPath does, in h.Path.
func (h Host) LookPath(name string) (string, error) {
	for _, dir := range filepath.SplitList(h.Path) {
		if !filepath.IsAbs(dir) {
			continue // what the current folder holds is nobody's tool
		}
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", &missingProgram{name}
}

// missingProgram is an fs.ErrNotExist in fewer words.
type missingProgram struct{ name string }

func (e *missingProgram) Error() string        { return e.name + " not found" }
func (e *missingProgram) Is(target error) bool { return target == fs.ErrNotExist }

func (h Host) root() string {
	if h.Root == "" {
		return "/"
	}
	return h.Root
}

// environ is the environment for programs that we run: the user's, with h.Path.
func (h Host) environ(extra ...string) []string {
	env := slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "PATH=") })
	return append(append(env, "PATH="+h.Path), extra...)
}
