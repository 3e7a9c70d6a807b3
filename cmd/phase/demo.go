package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/phasebased/phase/internal/doctor"
	"github.com/phasebased/phase/internal/failure"
	"github.com/phasebased/phase/internal/lab"
	"github.com/phasebased/phase/internal/release"
	"github.com/phasebased/phase/internal/term"
	"github.com/phasebased/phase/internal/vm"
	"github.com/phasebased/phase/media"
)

// demo is one run of the whole system.
type demo struct {
	workshop
	tamper, mode, accel, format string
	keep, json                  bool
	timeout                     time.Duration

	console   *term.Console // on stderr: what is being done
	run       string        // folder of this run
	lastLines []string      // of the machine's console
}

const demoExample = `  phase demo --install             power-on to a verified receipt, installing QEMU and the rest if needed
  phase demo --tamper kernel       the same with a changed byte in the kernel: the machine refuses
  phase demo --mode private --keep keep the medium, the published folder and the logs
  phase demo --arch arm64          the same with an arm64 machine, whatever this one is
  phase demo --json                the result for machines`

func newDemo() *cobra.Command {
	d := &demo{}
	cmd := &cobra.Command{
		Use: "demo", Short: "Boot a machine over the network, from power-on to a verified receipt",
		Long: `Builds a node system and a USB medium, signs and serves a release, starts a
virtual machine from the medium, and verifies the receipt of the first job that
the machine runs. With --tamper it shows that a changed release is refused; the
exit status is 0 when the machine did refuse. The account of what is done goes to
standard error, the result to standard output.`,
		Example: demoExample, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return d.execute(cmd.Context()) },
	}
	d.flags(cmd)
	archFlag(cmd, &d.arch)
	flags := cmd.Flags()
	flags.StringVar(&d.tamper, "tamper", "", "attack to stage: "+strings.Join(lab.Tampers(), ", "))
	flags.StringVar(&d.mode, "mode", "internet", "boot mode: "+strings.Join(media.Modes(), ", "))
	flags.StringVar(&d.accel, "accel", vm.AccelAuto, "hardware virtualisation: auto, kvm or tcg (emulation)")
	flags.DurationVar(&d.timeout, "timeout", 10*time.Minute, "how long the machine may take")
	flags.BoolVar(&d.keep, "keep", false, "keep the medium, the published folder and the logs")
	flags.StringVarP(&d.format, "format", "f", "text", "form of the result: text or json")
	flags.BoolVar(&d.json, "json", false, "the same as --format json")
	return cmd
}

// result is what --json prints.
type result struct {
	OK         bool            `json:"ok"`
	Arch       string          `json:"arch"`
	Tamper     string          `json:"tamper,omitempty"`
	Mode       string          `json:"mode"`
	Accel      string          `json:"accel"`
	ElapsedMS  int64           `json:"elapsed_ms"` // power-on to the last event
	Timeline   []lab.Stage     `json:"timeline"`   // times in nanoseconds since power-on
	Node       *lab.NodeInfo   `json:"node,omitempty"`
	Receipt    json.RawMessage `json:"receipt,omitempty"`    // the verified envelope
	Failure    *lab.Failure    `json:"failure,omitempty"`    // what the machine said when it stopped
	Error      string          `json:"error,omitempty"`      // why the demo failed
	Hint       string          `json:"hint,omitempty"`       // what to do about the error
	LastLines  []string        `json:"last_lines,omitempty"` // of the machine's console, where it failed
	ConsoleLog string          `json:"console_log,omitempty"`
}

func (d *demo) execute(ctx context.Context) error {
	if err := d.check(); err != nil {
		return usageError{err}
	}
	d.console = newConsole(os.Stderr)
	d.console.Header("Phase Boot demo", "A machine boots from a USB medium, over the network, into a verified system.")
	outcome, err := d.walk(ctx)
	return d.conclude(outcome, err)
}

func (d *demo) check() (err error) {
	if d.arch, err = parseArch(d.arch); err != nil {
		return err
	}
	if d.json {
		d.format = "json"
	}
	if d.format != "text" && d.format != "json" {
		return fmt.Errorf("--format %s: choose text or json", d.format)
	}
	if d.tamper != "" && !slices.Contains(lab.Tampers(), d.tamper) {
		return fmt.Errorf("--tamper %s: choose one of %s", d.tamper, strings.Join(lab.Tampers(), ", "))
	}
	if !slices.Contains(media.Modes(), d.mode) {
		return fmt.Errorf("--mode %s: choose one of %s", d.mode, strings.Join(media.Modes(), ", "))
	}
	if !slices.Contains([]string{vm.AccelAuto, vm.AccelKVM, vm.AccelTCG}, d.accel) {
		return fmt.Errorf("--accel %s: choose auto, kvm or tcg", d.accel)
	}
	return nil
}

// step runs f under a line of the console.
func (d *demo) step(name string, f func() (note string, err error)) error {
	step := d.console.Step(name)
	note, err := f()
	if err != nil {
		step.Fail("")
		return fmt.Errorf("%s: %w", strings.ToLower(name), err)
	}
	step.Done(note)
	return nil
}

// walk builds, serves, boots and collects. The outcome is nil until a machine
// was started.
func (d *demo) walk(ctx context.Context) (*lab.Outcome, error) {
	// Outside of the steps: what apt says while it installs is its own.
	if err := d.tools(ctx, doctor.Demo); err != nil {
		return nil, err
	}
	var l *lab.Lab
	err := d.step("Build", func() (note string, err error) {
		l, err = d.open(ctx)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("seed %s, kernel %s, initramfs %s, rootfs %s", term.Bytes(l.Built["seed"].Size),
			term.Bytes(l.Built["kernel"].Size), term.Bytes(l.Built["initramfs"].Size), term.Bytes(l.Built["rootfs"].Size)), nil
	})
	if err != nil {
		return nil, err
	}
	d.run = l.RunDir(time.Now().UTC().Format("20060102-150405.000"))
	if err := os.MkdirAll(d.run, 0o755); err != nil {
		return nil, err
	}
	ports, err := lab.FreePorts()
	if err != nil {
		return nil, err
	}
	published, err := d.publish(l, ports)
	if err != nil {
		return nil, err
	}
	provider, err := d.serve(ctx, l, ports)
	if err != nil {
		return nil, err
	}
	defer provider.Stop()
	image, err := d.medium(ctx, l, ports, provider)
	if err != nil {
		return nil, err
	}
	outcome, err := d.boot(ctx, l, image)
	if err != nil || d.tamper != "" || outcome.Failure != nil {
		return outcome, err
	}
	return outcome, l.Collect(provider, outcome, published)
}

func (d *demo) publish(l *lab.Lab, ports lab.Ports) (published *release.Published, err error) {
	return published, d.step("Sign", func() (string, error) {
		published, err = l.Publish(d.folder(), l.Release(1, ports.Base()), d.tamper)
		if err != nil {
			return "", err
		}
		note := fmt.Sprintf("release %d of channel %s, manifest %.23s…", published.Version, lab.Channel, published.Manifest)
		if d.tamper != "" {
			note = "release 1, then tampered with: " + d.tamper
		}
		return note, nil
	})
}

func (d *demo) folder() string { return filepath.Join(d.run, "published") }

func (d *demo) serve(ctx context.Context, l *lab.Lab, ports lab.Ports) (p *lab.Provider, err error) {
	return p, d.step("Serve", func() (string, error) {
		if p, err = l.Serve(ctx, d.folder(), ports, d.run); err != nil {
			return "", err
		}
		return fmt.Sprintf("plasmd: HTTP on port %d, DHT peer %s", ports.HTTP, p.Ready.PeerID), nil
	})
}

// medium writes the USB image. A machine in local mode does not ask the DHT,
// and QEMU's user network carries no mDNS, so it is given the provider by hand.
func (d *demo) medium(ctx context.Context, l *lab.Lab, ports lab.Ports, p *lab.Provider) (image string, err error) {
	image = filepath.Join(d.run, "phase.img")
	options := lab.ImageOptions{
		Out: image, Mode: d.mode, Menu: 1, Nodes: []lab.Node{{PeerID: p.Ready.PeerID, Address: p.Bootstrap()}},
	}
	if d.mode == "local" {
		options.Options = "phase.provider=" + ports.Base()
	}
	return image, d.step("Medium", func() (string, error) {
		report, err := l.Image(ctx, options)
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("%s, %d partitions", term.Bytes(report.Size), len(report.Partitions)), nil
	})
}

func (d *demo) boot(ctx context.Context, l *lab.Lab, image string) (*lab.Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	var machine *vm.Machine
	err := d.step("Machine", func() (note string, err error) {
		machine, err = l.Boot(ctx, lab.BootOptions{Image: image, Run: d.run, Accel: d.accel})
		if err != nil {
			return "", err
		}
		accel, why := machine.Accel()
		if why != "" {
			why = " (" + why + ")"
		}
		if accel == vm.AccelTCG {
			return "emulated: slower, otherwise the same" + why, nil
		}
		return accel + why, nil
	})
	if err != nil {
		return nil, err
	}
	defer machine.Quit(context.WithoutCancel(ctx))
	shown := make(chan struct{})
	showing, stop := context.WithCancel(ctx)
	go func() { d.showConsole(showing, machine); close(shown) }()
	outcome, err := lab.Follow(ctx, machine, d.lastWord())
	settle(machine)
	stop()
	<-shown
	d.lastLines = machine.ConsoleTail(20)
	return outcome, err
}

// lastWord is what the machine is followed to: in private mode it shows its
// receipt and delivers it to nobody.
func (d *demo) lastWord() lab.LastWord {
	if d.mode == "private" {
		return lab.ReceiptShown
	}
	return lab.ReceiptDelivered
}

// settle lets the console catch up with the report port: the machine is done,
// and its last lines are on their way.
func settle(machine *vm.Machine) {
	select {
	case <-machine.Done():
	case <-time.After(500 * time.Millisecond):
	}
}

// showConsole repeats what the machine's serial console shows.
func (d *demo) showConsole(ctx context.Context, machine *vm.Machine) {
	for line := range machine.Lines(ctx) {
		if speaks(line.Text) {
			fmt.Fprintln(os.Stderr, "  |", line.Text)
		}
	}
}

// speaks says whether a console line is more than the firmware's decoration.
func speaks(line string) bool {
	return strings.ContainsFunc(line, func(r rune) bool { return unicode.IsLetter(r) || r == '-' || r == '%' })
}

// conclude prints the result and decides whether the demo succeeded.
func (d *demo) conclude(outcome *lab.Outcome, err error) error {
	refused := outcome != nil && outcome.Failure != nil
	switch {
	case err == nil && refused && d.tamper == "":
		err = fmt.Errorf("the machine stopped in stage %s: %s (%s)", outcome.Failure.Stage, outcome.Failure.Text, outcome.Failure.Code)
	case err == nil && d.tamper != "":
		err = lab.CheckRefusal(d.tamper, outcome)
	}
	res := d.result(outcome, err)
	if d.format == "json" {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(res); err != nil {
			return err
		}
	} else if err != nil {
		d.show(d.console, outcome, res) // a demo that failed has no result
	} else {
		d.show(newConsole(os.Stdout), outcome, res)
	}
	if err == nil && !d.keep && d.run != "" {
		return os.RemoveAll(d.run)
	}
	return err
}

func (d *demo) result(outcome *lab.Outcome, err error) result {
	res := result{OK: err == nil, Arch: d.arch, Tamper: d.tamper, Mode: d.mode, Timeline: []lab.Stage{}}
	if err != nil {
		res.Error, res.Hint, res.LastLines = err.Error(), failure.Hint(err), d.lastLines
	}
	if d.run != "" && (d.keep || err != nil) {
		res.ConsoleLog = filepath.Join(d.run, "console.log")
	}
	if outcome == nil {
		return res
	}
	res.Accel, res.ElapsedMS, res.Timeline = outcome.Accel, outcome.Elapsed.Milliseconds(), append(res.Timeline, outcome.Stages...)
	res.Node, res.Failure = outcome.Node, outcome.Failure
	if outcome.Receipt != nil {
		res.Receipt = outcome.Receipt.Raw
	}
	return res
}

// show prints the result for people.
func (d *demo) show(out *term.Console, outcome *lab.Outcome, res result) {
	if outcome != nil && len(outcome.Stages) > 0 {
		out.Title("Timeline, from power-on")
		var rows []term.Row
		for _, s := range outcome.Stages {
			rows = append(rows, term.Row{Name: s.Name, Group: s.Kernel, Start: s.Start, Took: s.End - s.Start})
		}
		out.Timeline(rows)
	}
	if res.OK && res.Failure != nil {
		out.Title(fmt.Sprintf("The machine refused the tampered %s, as it must", d.tamper))
		out.Pairs([]term.Pair{{Key: "it said", Value: res.Failure.Text}, {Key: "code", Value: res.Failure.Code}})
	}
	if outcome != nil && outcome.Receipt != nil {
		showReceipt(out, outcome)
	}
	if res.ConsoleLog != "" {
		out.Linef("The machine's console log: %s", res.ConsoleLog)
	}
}

func showReceipt(out *term.Console, outcome *lab.Outcome) {
	result, seen := outcome.Receipt.Statement.Result, outcome.Receipt.Statement.Observation
	out.Title("Receipt, verified against the node's own key")
	out.Pairs([]term.Pair{
		{Key: "node key", Value: lab.KeyText(seen.NodeKey)},
		{Key: "booted", Value: fmt.Sprintf("release %d, manifest %s", seen.Booted.ManifestVersion, seen.Booted.ManifestDigest)},
		{Key: "job", Value: result.JobID.String()},
		{Key: "module", Value: result.Module.String()},
		{Key: "arguments", Value: fmt.Sprintf("%q", result.Args)},
		{Key: "answer", Value: fmt.Sprintf("%q, %s", lab.HelloAnswer, result.Stdout.Digest)},
		{Key: "end", Value: fmt.Sprintf("%s, code %d", result.EndState, result.ExitCode)},
		{Key: "walls", Value: strings.Join(seen.Walls, ", ")},
	})
	out.Title(fmt.Sprintf("From power-on to a verified receipt in %.1f s", outcome.Elapsed.Seconds()))
}
