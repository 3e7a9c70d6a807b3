package sysinit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
)

// NoPartitionError says that no disk has shown a partition in time.
type NoPartitionError struct {
	Label string
	Err   error // why the waiting ended
}

func (e *NoPartitionError) Error() string {
	return fmt.Sprintf("no partition named %s: %v", e.Label, e.Err)
}

func (e *NoPartitionError) Unwrap() error { return e.Err }

// WaitPartition waits until a partition with that GPT name exists, looking
// again at each event of a block device, and returns all that have it. The
// device node is there by then: devtmpfs makes it before the event.
func WaitPartition(ctx context.Context, label string) ([]Partition, error) {
	return WaitPartitions(ctx, label, func(Partition) bool { return true })
}

// WaitPartitions is WaitPartition for those of which wanted is true. It is asked
// again about each of them whenever there is another.
func WaitPartitions(ctx context.Context, label string, wanted func(Partition) bool) ([]Partition, error) {
	return waitFor(ctx, label, func(sys fs.FS) ([]Partition, int, error) {
		found, err := Partitions(sys, label)
		return slices.DeleteFunc(found, func(p Partition) bool { return !wanted(p) }), 0, err
	})
}

// waitFor looks until something is found. A look says as well how many drives there
// are whose discs are no events.
func waitFor(ctx context.Context, label string, look func(sys fs.FS) (found []Partition, drives int, err error)) ([]Partition, error) {
	w, err := NewWatcher()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	sys := os.DirFS("/sys")
	for {
		// Looking comes after the socket was opened, so that nothing falls between.
		found, drives, err := look(sys)
		if err == nil && len(found) > 0 {
			return found, nil
		}
		if err := nextLook(ctx, w, drives); err != nil {
			return nil, &NoPartitionError{Label: label, Err: err}
		}
	}
}

func nextBlockEvent(ctx context.Context, w *Watcher) error {
	for {
		u, err := w.Next(ctx)
		if errors.Is(err, ErrLost) || err == nil && u.Env["SUBSYSTEM"] == "block" {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
