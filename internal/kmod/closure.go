package kmod

import (
	"fmt"
	"strings"
)

// MissingError is a module that modules.dep does not know.
type MissingError struct {
	Name     string // the module
	WantedBy string // the module that depends on it; empty if it was asked for
}

func (e *MissingError) Error() string {
	if e.WantedBy == "" {
		return fmt.Sprintf("no module %s in this kernel's package", e.Name)
	}
	return fmt.Sprintf("no module %s in this kernel's package, wanted by %s", e.Name, e.WantedBy)
}

// CycleError is a module that depends on itself.
type CycleError struct{ Name string }

func (e *CycleError) Error() string { return fmt.Sprintf("module %s depends on itself", e.Name) }

// Closure gives the files of the named modules and of everything they need,
// relative to the module directory, in an order in which they can be loaded:
// dependencies and "pre" soft dependencies first, "post" ones after. What is
// built into the kernel needs no file. A soft dependency may be missing or may
// be an alias; a named module or a hard dependency that is missing is a
// *MissingError.
func (x *Index) Closure(names ...string) ([]string, error) {
	w := walk{x: x, state: make(map[string]int)}
	for _, name := range names {
		if err := w.visit(Name(name), ""); err != nil {
			return nil, err
		}
	}
	return w.order, nil
}

// walk is one depth-first walk through the dependencies.
type walk struct {
	x     *Index
	state map[string]int // by normal name
	order []string
}

const (
	entered = 1
	left    = 2
)

func (w *walk) visit(name, wantedBy string) error {
	switch {
	case w.state[name] == left || w.x.builtin[name]:
		return nil
	case w.state[name] == entered:
		return &CycleError{Name: name}
	}
	line, ok := w.x.deps[name]
	if !ok {
		return &MissingError{Name: name, WantedBy: wantedBy}
	}
	w.state[name] = entered
	w.visitSoft(w.x.soft[name].pre)
	for _, dep := range strings.Fields(line.deps) {
		if err := w.visit(Name(dep), name); err != nil {
			delete(w.state, name) // a soft dependency's failure is forgotten
			return err
		}
	}
	w.state[name] = left
	w.order = append(w.order, line.path)
	w.visitSoft(w.x.soft[name].post)
	return nil
}

// visitSoft loads what can be loaded: soft dependencies may lack a module, and
// some name each other in a circle. What a failed visit has added stays; it is
// only more than was needed.
func (w *walk) visitSoft(names []string) {
	for _, name := range names {
		resolved := []string{name}
		if !w.x.Has(name) {
			resolved, _ = w.x.Resolve(name)
		}
		for _, r := range resolved {
			if w.state[r] == 0 {
				_ = w.visit(r, "") // soft: its failure is no failure
			}
		}
	}
}
