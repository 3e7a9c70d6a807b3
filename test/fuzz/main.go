// Fuzz runs every fuzz target of the module for a short, bounded time: before
// a release, and after a parser changed. What go test runs of them are their
// committed inputs, each the same every time; a search at random would let a
// change fail for a fault that is older than itself. Who hunts for longer gives
// -time and -match, or uses go test -fuzz directly.
//
//	go run ./test/fuzz                        every target for 2 s
//	go run ./test/fuzz -time 10m -match Root  some, thoroughly
//
// A target without a committed corpus (testdata/fuzz/FuzzX) fails, and so does
// a corpus without a target: after a rename either one is fuzzing from nothing
// in silence. Each package is compiled once, with coverage instrumentation;
// its targets then run as plain processes, one per processor. Every run starts
// from the committed inputs, so that it takes the same time tomorrow; -keep
// continues where earlier runs ended, from the inputs in Go's build cache.
//
// Exit status: 0 nothing found, 1 something found or not run, 2 wrong usage.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"time"
)

// config is a checked command line.
type config struct {
	dir   string         // folder inside the module
	match *regexp.Regexp // names "import/path.FuzzX" to run; nil: all
	time  time.Duration  // for each target
	total time.Duration  // for everything, building included
	jobs  int            // targets at a time, one processor each
	keep  bool           // start from and add to what earlier runs found
}

func main() {
	cfg, err := parseArgs(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, cfg, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "fuzz:", err)
		os.Exit(1)
	}
}

func parseArgs(args []string) (config, error) {
	cfg := config{dir: "."}
	flags := flag.NewFlagSet("fuzz", flag.ContinueOnError)
	flags.DurationVar(&cfg.time, "time", 2*time.Second, "how long each target runs")
	flags.DurationVar(&cfg.total, "total", 0, "limit for everything (default: 5 minutes, or what -time needs)")
	flags.IntVar(&cfg.jobs, "parallel", runtime.NumCPU(), "targets at a time")
	flags.BoolVar(&cfg.keep, "keep", false, "continue from what earlier runs with -keep, or go test -fuzz, found")
	match := flags.String("match", "", "run only targets whose import/path.FuzzX matches this regular expression")
	if err := flags.Parse(args); err != nil {
		return cfg, err
	}
	if flags.NArg() > 0 {
		return cfg, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if cfg.time <= 0 || cfg.total < 0 || cfg.jobs < 1 {
		return cfg, fmt.Errorf("-time and -parallel must be above zero")
	}
	if *match != "" {
		var err error
		if cfg.match, err = regexp.Compile(*match); err != nil {
			return cfg, fmt.Errorf("-match: %w", err)
		}
	}
	return cfg, nil
}
