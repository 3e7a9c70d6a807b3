package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/phasebased/phase/internal/image"
	"github.com/phasebased/phase/internal/stick"
)

// writeFigures measures how long an image takes to be on a loop device, confirmed,
// beside dd with direct writes and a flush in the end: once an image that is full,
// once one whose larger part is holes, as that of a real image with its empty cache
// is. Reading back is not counted: dd does none.
func writeFigures(ctx context.Context, pairs int) ([]Figure, error) {
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "write: skipped, as loop devices need root")
		return nil, nil
	}
	dir, err := os.MkdirTemp("build", "bench-write-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	var out []Figure
	for _, kind := range []struct {
		name string
		full int64 // bytes of the image that are not holes
		goal string
	}{
		{"writing an image that is full", benchImage, "ratio <= 1.1"},
		{"writing an image that is a quarter full", benchImage / 4, "ratio <= 0.6"},
	} {
		f, err := writePairs(ctx, dir, kind.full, pairs)
		if err != nil {
			return nil, err
		}
		f.Name, f.Goal = kind.name, kind.goal
		out = append(out, f)
	}
	return out, nil
}

// benchImage is the size of the images: long enough for a disk to show its speed.
const benchImage = 512 << 20

func writePairs(ctx context.Context, dir string, full int64, pairs int) (Figure, error) {
	path := filepath.Join(dir, "image")
	if err := makeBenchImage(path, full); err != nil {
		return Figure{}, err
	}
	var ours, theirs []float64
	for i := range pairs {
		own, err := onLoop(ctx, dir, func(device string) (time.Duration, error) { return writeOurs(ctx, path, device) })
		if err != nil {
			return Figure{}, err
		}
		other, err := onLoop(ctx, dir, func(device string) (time.Duration, error) { return writeDD(ctx, path, device) })
		if err != nil {
			return Figure{}, err
		}
		fmt.Fprintf(os.Stderr, "pair %d: image write %.2f s, dd %.2f s\n", i+1, own.Seconds(), other.Seconds())
		ours, theirs = append(ours, own.Seconds()), append(theirs, other.Seconds())
	}
	value, reference := middle(ours), middle(theirs)
	return Figure{Value: value, Unit: "s", Reference: reference, Ratio: value / reference}, nil
}

// makeBenchImage makes an image of one partition, of which so many bytes are random.
func makeBenchImage(path string, full int64) error {
	parts, size, err := image.Layout([]image.Partition{{Label: "phase-esp", Type: image.TypeESP(), Size: benchImage - 2<<20}})
	if err != nil {
		return err
	}
	f, err := image.CreateSparse(path, size)
	if err != nil {
		return err
	}
	defer f.Close()
	random, block := rand.NewChaCha8([32]byte{}), make([]byte, 1<<20)
	for at := parts[0].Offset; at < min(full, size-1<<20); at += int64(len(block)) {
		_, _ = random.Read(block) // never fails
		if at == parts[0].Offset {
			copy(block[82:], "FAT32   ")
			block[510], block[511] = 0x55, 0xaa
		}
		if _, err := f.WriteAt(block, at); err != nil {
			return err
		}
	}
	return errors.Join(image.WriteGPT(f, image.DeriveGUID("bench"), parts, size), f.Sync())
}

// onLoop does something with a loop device whose file has all its blocks, so that
// nobody pays for finding them.
func onLoop(ctx context.Context, dir string, do func(device string) (time.Duration, error)) (took time.Duration, err error) {
	file := filepath.Join(dir, "stick")
	if out, err := exec.CommandContext(ctx, "dd", "if=/dev/zero", "of="+file, "bs=4M", fmt.Sprintf("count=%d", benchImage>>22), "conv=fsync").CombinedOutput(); err != nil {
		return 0, fmt.Errorf("dd: %w: %s", err, out)
	}
	raw, err := exec.CommandContext(ctx, "losetup", "--find", "--show", "--direct-io=on", file).Output()
	if err != nil {
		return 0, fmt.Errorf("losetup: %w", err)
	}
	device := string(bytes.TrimSpace(raw))
	defer func() {
		err = errors.Join(err, exec.CommandContext(context.WithoutCancel(ctx), "losetup", "--detach", device).Run())
	}()
	return do(device)
}

func writeDD(ctx context.Context, path, device string) (time.Duration, error) {
	began := time.Now()
	out, err := exec.CommandContext(ctx, "dd", "if="+path, "of="+device, "bs=4M", "oflag=direct", "conv=fsync").CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("dd: %w: %s", err, out)
	}
	return time.Since(began), nil
}

// writeOurs takes the time until reading back begins.
func writeOurs(ctx context.Context, path, device string) (time.Duration, error) {
	plan, err := stick.Prepare(ctx, stick.Options{Image: path, Device: device, Allow: stick.Allow{Fixed: true}})
	if err != nil {
		return 0, err
	}
	defer plan.Close()
	var took time.Duration
	began := time.Now()
	_, err = plan.Write(ctx, func(phase stick.Phase, _, _ int64) {
		if phase == stick.Reading && took == 0 {
			took = time.Since(began)
		}
	})
	return took, err
}
