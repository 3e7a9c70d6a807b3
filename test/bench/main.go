// Command bench measures what Phase Boot costs, as ratios against a reference
// that runs side by side in the same run, because machines and their load
// differ. It prints a table and writes build/bench.json.
//
// It must run in the root of the sources after `make tools target`. Discovery at a
// round trip of 100 ms and all walls around jobs need root.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/vm"
)

// Figure is one line of the result.
type Figure struct {
	Name      string  `json:"name"`
	Value     float64 `json:"value"`
	Unit      string  `json:"unit"`
	Reference float64 `json:"reference"` // measured in the same run; 0: none
	Ratio     float64 `json:"ratio"`     // value / reference; 0: none
	Goal      string  `json:"goal"`
}

func main() {
	pairs := flag.Int("pairs", 3, "pairs of boots to measure; medians are reported")
	accel := flag.String("accel", vm.AccelAuto, "hardware virtualisation: auto, kvm or tcg")
	only := flag.String("only", "", "measure only this `part`: discovery, transfer, verify, write, delta, jobs, nodes, quorum, engines, boot, cached or media")
	searches := flag.Int("searches", 11, "searches of each client to measure; medians are reported")
	jobs := flag.Int("jobs", 10_000, "jobs that a node runs while its memory is watched")
	out := flag.String("out", filepath.Join("build", "bench.json"), "where to write the figures")
	flag.Parse()
	if *pairs < 1 || *searches < 1 || *jobs < 100 {
		fmt.Fprintln(os.Stderr, "bench: -pairs and -searches must be at least 1, -jobs at least 100")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	figures, err := measureParts(*only, []part{
		{"discovery", func() ([]Figure, error) { return discoveryFigures(ctx, *searches) }},
		{"transfer", func() ([]Figure, error) { return transferFigures(ctx, *pairs) }},
		{"verify", verifyFigures},
		{"write", func() ([]Figure, error) { return writeFigures(ctx, *pairs) }},
		{"delta", func() ([]Figure, error) { return deltaFigures(ctx) }},
		{"jobs", func() ([]Figure, error) { return jobFigures(ctx, *jobs) }},
		{"nodes", func() ([]Figure, error) { return nodeFigures(ctx, *jobs) }},
		{"quorum", func() ([]Figure, error) { return quorumFigures(ctx) }},
		{"engines", func() ([]Figure, error) { return engineFigures(ctx, *pairs) }},
		{"boot", func() ([]Figure, error) { return measure(ctx, *pairs, *accel) }},
		{"cached", func() ([]Figure, error) { return cachedFigures(ctx, *pairs, *accel) }},
		{"media", func() ([]Figure, error) { return mediaFigures(ctx, *pairs) }},
	})
	if err == nil {
		err = report(figures, *out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// part is something that can be measured by itself.
type part struct {
	name    string
	measure func() ([]Figure, error)
}

// measureParts measures one part, or all if only is empty.
func measureParts(only string, parts []part) ([]Figure, error) {
	var out []Figure
	known := false
	for _, p := range parts {
		if only != "" && only != p.name {
			continue
		}
		known = true
		figures, err := p.measure()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
		out = append(out, figures...)
	}
	if !known {
		return nil, fmt.Errorf("no part is called %.40q", only)
	}
	return out, nil
}

func report(figures []Figure, out string) error {
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "name\tvalue\tunit\treference\tratio\tgoal")
	for _, f := range figures {
		fmt.Fprintf(table, "%s\t%.2f\t%s\t%.2f\t%.2f\t%s\n", f.Name, f.Value, f.Unit, f.Reference, f.Ratio, f.Goal)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	data, err := json.MarshalIndent(figures, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(out, append(data, '\n'), 0o644)
}

// bench is one published release and the two media that boot it.
type bench struct {
	lab      *lab.Lab
	run      string
	accel    string
	base     string // of the provider
	provider *lab.Provider
}

// sample is one boot.
type sample struct {
	total time.Duration // power-on to the delivered receipt
	boot  *lab.Outcome
}

func measure(ctx context.Context, pairs int, accel string) ([]Figure, error) {
	b, corridor, direct, err := prepare(ctx, accel)
	if err != nil {
		return nil, err
	}
	defer b.provider.Stop()
	var through, straight []sample
	for i := range pairs {
		for _, boot := range []struct {
			image string
			into  *[]sample
		}{{corridor, &through}, {direct, &straight}} {
			s, err := b.boot(ctx, boot.image)
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(os.Stderr, "pair %d: %s %.1f s\n", i+1, filepath.Base(boot.image), s.total.Seconds())
			*boot.into = append(*boot.into, s)
		}
	}
	return b.figures(through, straight), nil
}

func prepare(ctx context.Context, accel string) (b *bench, corridor, direct string, err error) {
	work, err := filepath.Abs(filepath.Join("build", "lab"))
	if err != nil {
		return nil, "", "", err
	}
	l, err := lab.New(ctx, lab.Config{
		Arch: vm.X8664, Target: filepath.Join("build", "target", vm.X8664), Plasmd: filepath.Join("build", "bin", "plasmd"),
		Work: work, Version: "bench", Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	})
	if err != nil {
		return nil, "", "", err
	}
	b = &bench{lab: l, accel: accel, run: l.RunDir("bench")}
	if err := os.RemoveAll(b.run); err != nil {
		return nil, "", "", err
	}
	ports, err := lab.FreePorts()
	if err != nil {
		return nil, "", "", err
	}
	b.base = ports.Base()
	folder := filepath.Join(b.run, "published")
	published, err := l.Publish(folder, l.Release(1, ports.Base()), "")
	if err != nil {
		return nil, "", "", err
	}
	if b.provider, err = l.Serve(ctx, folder, ports, b.run); err != nil {
		return nil, "", "", err
	}
	node := lab.Node{PeerID: b.provider.Ready.PeerID, Address: b.provider.Bootstrap()}
	corridor, direct = filepath.Join(b.run, "corridor.img"), filepath.Join(b.run, "direct.img")
	if _, err := l.Image(ctx, lab.ImageOptions{Out: corridor, Mode: "internet", Nodes: []lab.Node{node}}); err != nil {
		return nil, "", "", err
	}
	_, err = l.DirectImage(ctx, direct, ports.Base(), published, node)
	return b, corridor, direct, err
}

// bootWithin bounds one boot.
const bootWithin = 5 * time.Minute

// boot starts a machine from a copy-on-write view of the image, so that every
// boot finds an empty cache, and follows it to its delivered receipt.
func (b *bench) boot(ctx context.Context, image string) (sample, error) {
	ctx, cancel := context.WithTimeout(ctx, bootWithin)
	defer cancel()
	machine, err := b.lab.Boot(ctx, lab.BootOptions{Image: image, Run: b.run, Accel: b.accel, Snapshot: true})
	if err != nil {
		return sample{}, err
	}
	defer machine.Quit(context.WithoutCancel(ctx))
	outcome, err := lab.Follow(ctx, machine, lab.ReceiptDelivered)
	if err != nil {
		return sample{}, err
	}
	if outcome.Failure != nil {
		return sample{}, fmt.Errorf("%s stopped: %s", filepath.Base(image), outcome.Failure.Text)
	}
	return sample{outcome.Elapsed, outcome}, nil
}

func (b *bench) figures(through, straight []sample) []Figure {
	corridor, direct := medianOf(through, total), medianOf(straight, total)
	const mib = 1 << 20
	return []Figure{
		{"power-on to receipt, through the corridor", corridor, "s", direct, corridor / direct, "ratio <= 2.2"},
		{"seed: most memory its init held", medianOf(through, func(s sample) float64 { return float64(s.boot.Memory.InitPeak) / mib }), "MiB", 0, 0, ""},
		{"seed: memory in use with the new kernel loaded", medianOf(through, func(s sample) float64 { return float64(s.boot.Memory.Used) / mib }), "MiB", 0, 0, ""},
		{"seed initramfs", float64(b.lab.Built["seed"].Size) / 1e6, "MB", 0, 0, "<= 20"},
		{"node initramfs", float64(b.lab.Built["initramfs"].Size) / 1e6, "MB", 0, 0, "<= 50"},
		{"node rootfs", float64(b.lab.Built["rootfs"].Size) / 1e6, "MB", 0, 0, "<= 300"},
	}
}

func total(s sample) float64 { return s.total.Seconds() }

func medianOf[T any](samples []T, of func(T) float64) float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	return middle(values)
}
