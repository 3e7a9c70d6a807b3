// Command wasmtime runs a WASI module in Wasmtime with fuel, as often as it is told to:
// once for each line of its standard input. For each run it writes a line with the
// processor time of the run in nanoseconds, without that of compiling. It is what the
// node's engine is measured against, and is a module of its own because it links a
// library in Rust that nothing else must have.
//
//	wasmtime [-nan] -stdin FILE -stdout FILE MODULE [ARG…]
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"runtime"
	"syscall"
	"time"

	"github.com/bytecodealliance/wasmtime-go/v39"
)

func main() {
	nan := flag.Bool("nan", false, "make all NaNs canonical")
	stdin := flag.String("stdin", os.DevNull, "the module's standard input")
	stdout := flag.String("stdout", os.DevNull, "where the last run's output goes")
	flag.Parse()
	if err := serve(*nan, *stdin, *stdout, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "wasmtime:", err)
		os.Exit(1)
	}
}

func serve(nan bool, stdin, stdout string, argv []string) error {
	if len(argv) == 0 {
		return errors.New("name a module")
	}
	runtime.LockOSThread() // whose time is measured
	cfg := wasmtime.NewConfig()
	cfg.SetConsumeFuel(true)
	cfg.SetCraneliftOptLevel(wasmtime.OptLevelSpeed)
	cfg.SetCraneliftNanCanonicalization(nan)
	engine := wasmtime.NewEngineWithConfig(cfg)
	module, err := wasmtime.NewModuleFromFile(engine, argv[0])
	if err != nil {
		return err
	}
	linker := wasmtime.NewLinker(engine)
	if err := linker.DefineWasi(); err != nil {
		return err
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		took, err := run(engine, linker, module, stdin, stdout, argv)
		if err != nil {
			return err
		}
		fmt.Println(took.Nanoseconds())
	}
	return nil
}

// run makes an instance and runs its command to its end.
func run(engine *wasmtime.Engine, linker *wasmtime.Linker, module *wasmtime.Module, stdin, stdout string, argv []string) (time.Duration, error) {
	store := wasmtime.NewStore(engine)
	defer store.Close()
	if err := store.SetFuel(math.MaxInt64); err != nil {
		return 0, err
	}
	wasi := wasmtime.NewWasiConfig()
	wasi.SetArgv(append([]string{"job"}, argv[1:]...))
	if err := errors.Join(wasi.SetStdinFile(stdin), wasi.SetStdoutFile(stdout)); err != nil {
		return 0, err
	}
	store.SetWasi(wasi)
	before, err := threadTime()
	if err != nil {
		return 0, err
	}
	instance, err := linker.Instantiate(store, module)
	if err != nil {
		return 0, err
	}
	if _, err := instance.GetFunc(store, "_start").Call(store); err != nil {
		var exit *wasmtime.Error
		if !errors.As(err, &exit) {
			return 0, err
		}
		if status, ok := exit.ExitStatus(); !ok || status != 0 {
			return 0, err
		}
	}
	after, err := threadTime()
	return after - before, err
}

// threadTime is the processor time that this thread has used. Source: getrusage(2).
func threadTime() (time.Duration, error) {
	const thread = 1 // RUSAGE_THREAD
	var used syscall.Rusage
	err := syscall.Getrusage(thread, &used)
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()), err
}
