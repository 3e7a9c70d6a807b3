//go:build !linux && !darwin

package disks

import (
	"context"
	"errors"
)

// List fails: this system's disks are not known here.
func List(context.Context) ([]Disk, error) { return nil, errors.ErrUnsupported }

// Find fails: see List.
func Find(context.Context, string) (Disk, string, error) { return Disk{}, "", errors.ErrUnsupported }

// Holds fails: see List.
func Holds(context.Context, Disk, string) (bool, error) { return false, errors.ErrUnsupported }
