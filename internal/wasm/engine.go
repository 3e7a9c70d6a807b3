package wasm

import (
	"context"
	"io"
	"time"

	"github.com/phasebased/phase/blob"
	"github.com/phasebased/phase/internal/job"
)

// Engine executes guests. It is the only door to the WebAssembly library, so
// that another one can take its place.
type Engine interface {
	// Name is what receipts call the engine, with its version and kind.
	Name() string
	// Run compiles and executes one guest. It returns a *job.Refusal for a
	// module it cannot run; everything the guest does wrong is an Outcome.
	// It does not watch ctx while the guest runs: the deadline is enforced
	// from outside the process.
	Run(ctx context.Context, g Guest) (Outcome, error)
}

// Guest is a module with everything it will ever see of the world.
type Guest struct {
	Module         []byte
	Digest         blob.Digest // of Module; zero: never kept for a later guest
	Args           []string    // with the program name in front
	Env            [][2]string
	Stdin          io.Reader
	Stdout, Stderr io.Writer   // a write error ends the guest
	Inputs         []InputFile // below job.InputFolder; none: the guest has no files at all
	MemoryBytes    int64       // cap of linear memory
	Fuel           int64       // budget of executed instructions, in the units of package fuel
	CanonicalNaN   bool        // see fuel.Options
	Seed           [32]byte    // of its random numbers
}

// Outcome is how a guest ended, as the engine saw it.
type Outcome struct {
	State     job.State // Exited, Trapped, OutOfFuel, OutOfMemory, OutputCap or InfraError
	ExitCode  int
	Detail    string
	PeakBytes int64 // largest linear memory
	FuelUsed  int64 // at most the budget
	Compile   time.Duration
	Run       time.Duration
}
