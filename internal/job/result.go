package job

import "time"

// State is how a job ended.
type State string

const (
	Exited      State = "exited"        // the guest returned or called proc_exit; ExitCode says with what
	Trapped     State = "trapped"       // the guest broke a rule of WebAssembly; Detail names it
	OutOfFuel   State = "out_of_fuel"   // the guest executed more than its limit
	OutOfMemory State = "out_of_memory" // the guest needed more memory than its limit and could not go on
	Deadline    State = "deadline"      // wall time ran out; the guest was killed
	OutputCap   State = "output_cap"    // the guest wrote more than its limit to stdout or stderr
	Refused     State = "refused"       // never started; a Refusal says why
	InfraError  State = "infra_error"   // the node failed, not the job: the only state worth retrying elsewhere
)

// Timings are where the time of one job went. A step that did not happen is 0.
type Timings struct {
	Queue   time.Duration // waiting for a free slot
	Fetch   time.Duration // getting the module
	Spawn   time.Duration // starting the jailed process, until it was ready
	Compile time.Duration // decoding, validating, compiling the module
	Run     time.Duration // executing the guest
}

// Result is what came of a job that was started.
type Result struct {
	State    State
	ExitCode int    // only for Exited
	Detail   string // for a person: kind of trap, which cap, what failed; "" for Exited

	Stdout, Stderr                   []byte // at most the job's limits
	StdoutTruncated, StderrTruncated bool   // the guest wrote more than is kept here

	FuelUsed        int64    // of the job's fuel; 0 if the guest was killed
	PeakMemoryBytes int64    // largest size of the guest's linear memory
	Engine          string   // what executed the guest, e.g. "wazero 1.12.0 compiler"
	Walls           []string // barriers that really stood around the guest
	Timings         Timings
}
