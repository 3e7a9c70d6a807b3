package wasm

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/phasebased/phase/internal/job"
)

// PageBytes is the size of one page of linear memory.
const PageBytes = 64 << 10

// Bounds on what is handed to the compiler. Memory limits do not cover
// functions and tables, and compiling is where a small module can cost most.
const (
	maxFunctions     = 100_000
	maxFunctionBytes = 8 << 20
	maxTables        = 16
	maxTableElements = 1 << 20
	// Sections, and what one of them holds. A byte or three of a module can make
	// the compiler allocate a hundred.
	maxSections = 1_000
	maxEntries  = 100_000
)

// wasiModule is the only module a guest may import from.
const wasiModule = "wasi_snapshot_preview1"

// Section numbers of the binary format (Core Specification 2.0, 5.5.2).
const (
	sectionType     = 1
	sectionImport   = 2
	sectionFunction = 3
	sectionTable    = 4
	sectionMemory   = 5
	sectionGlobal   = 6
	sectionExport   = 7
	sectionElement  = 9
	sectionCode     = 10
	sectionData     = 11
	sectionLast     = 12
)

// Inspect reads the outline of a module without executing or compiling any of
// it: preamble, section sizes, imports, memories, tables, function sizes. It
// refuses what this sandbox does not run, each with directions, and what asks
// for more than limits. It does not validate code; the engine does. Errors are
// *job.Refusal.
func Inspect(module []byte, limits job.Limits) error {
	if err := inspectPreamble(module); err != nil {
		return err
	}
	r := reader{rest: module[8:]}
	for sections := 1; len(r.rest) > 0; sections++ {
		if sections > maxSections {
			return tooBig("the module has more than %d sections", maxSections)
		}
		id := r.byte()
		body := r.take(r.u32())
		if r.failed {
			return malformed("a section does not fit the module")
		}
		if err := inspectSection(id, body, limits); err != nil {
			return err
		}
	}
	return nil
}

func inspectPreamble(module []byte) error {
	switch {
	case len(module) == 0:
		return malformed("the module is empty")
	case len(module) < 8 || !bytes.HasPrefix(module, []byte("\x00asm")):
		return malformed("the file is not a WebAssembly module")
	}
	version, layer := binary.LittleEndian.Uint16(module[4:]), binary.LittleEndian.Uint16(module[6:])
	switch {
	case layer == 1:
		return unsupported("the module is a WebAssembly component",
			"Build a core module for WASI preview 1 instead (wasm32-wasip1, GOOS=wasip1), or unwrap the component's core module.")
	case version != 1 || layer != 0:
		return unsupported(fmt.Sprintf("the module has WebAssembly version %d", version),
			"Only version 1 of the binary format exists for core modules; build the module again.")
	}
	return nil
}

func inspectSection(id byte, body []byte, limits job.Limits) error {
	r := reader{rest: body}
	var err error
	switch id {
	case sectionImport:
		err = inspectImports(&r)
	case sectionFunction:
		if n := r.u32(); n > maxFunctions {
			return tooBig("the module has %d functions, at most %d are allowed", n, maxFunctions)
		}
	case sectionType, sectionGlobal, sectionExport, sectionElement, sectionData:
		if n := r.u32(); n > maxEntries {
			return tooBig("section %d of the module has %d entries, at most %d are allowed", id, n, maxEntries)
		}
	case sectionTable:
		err = inspectTables(&r)
	case sectionMemory:
		err = inspectMemories(&r, limits)
	case sectionCode:
		err = inspectCode(&r)
	default:
		if id > sectionLast {
			return unsupported(fmt.Sprintf("the module has a section of unknown kind %d", id),
				"Build it without proposals beyond WebAssembly 2.0 (exceptions, threads, memory64, GC).")
		}
	}
	if err == nil && r.failed {
		return malformed("section %d of the module ends early", id)
	}
	return err
}

// inspectImports lets only functions of WASI preview 1 in. Types other than
// functions cannot come from there.
func inspectImports(r *reader) error {
	n := r.u32()
	if n > maxEntries {
		return tooBig("the module has %d imports, at most %d are allowed", n, maxEntries)
	}
	for ; n > 0 && !r.failed; n-- {
		from, name := r.name(), r.name()
		kind := r.byte()
		r.u32()
		switch {
		case r.failed:
		case from != wasiModule:
			return unsupported(fmt.Sprintf("the module imports %q from %q", name, from),
				"Only WASI preview 1 is offered; build for GOOS=wasip1 or wasm32-wasip1, not for a browser.")
		case kind != 0:
			return unsupported(fmt.Sprintf("the module imports %q, which is not a function", name),
				"Define memory, tables and globals inside the module.")
		}
	}
	return nil
}

func inspectTables(r *reader) error {
	tables := r.u32()
	if tables > maxTables {
		return tooBig("the module has %d tables, at most %d are allowed", tables, maxTables)
	}
	for ; tables > 0 && !r.failed; tables-- {
		r.byte() // element type
		flags, least := r.byte(), r.u32()
		if flags&1 != 0 {
			r.u32()
		}
		if least > maxTableElements {
			return tooBig("the module has a table of %d elements, at most %d are allowed", least, maxTableElements)
		}
	}
	return nil
}

func inspectMemories(r *reader, limits job.Limits) error {
	for n := r.u32(); n > 0 && !r.failed; n-- {
		flags := r.byte()
		switch {
		case r.failed:
			return nil
		case flags&4 != 0:
			return unsupported("the module uses 64-bit memory", "Build it for wasm32.")
		case flags&2 != 0:
			return unsupported("the module uses shared memory (threads)", "Build it without threads.")
		}
		least := int64(r.u32()) * PageBytes
		if flags&1 != 0 {
			r.u32()
		}
		if least > limits.MemoryBytes {
			return tooBig("the module needs %d bytes of memory to start, the job allows %d", least, limits.MemoryBytes)
		}
	}
	return nil
}

func inspectCode(r *reader) error {
	for n := r.u32(); n > 0 && !r.failed; n-- {
		size := r.u32()
		if r.failed {
			return nil
		}
		if size > maxFunctionBytes {
			return tooBig("the module has a function of %d bytes, at most %d are allowed", size, maxFunctionBytes)
		}
		r.take(size)
	}
	return nil
}

func malformed(format string, args ...any) error {
	return &job.Refusal{Reason: job.Malformed, Detail: fmt.Sprintf(format, args...)}
}

func tooBig(format string, args ...any) error {
	return &job.Refusal{Reason: job.TooBig, Detail: fmt.Sprintf(format, args...)}
}

func unsupported(detail, directions string) error {
	return &job.Refusal{Reason: job.Unsupported, Detail: detail, Directions: directions}
}

// reader walks over the binary format. After the first read that does not
// fit, failed is set and every read gives zero, so callers check once.
type reader struct {
	rest   []byte
	failed bool
}

func (r *reader) take(n uint32) []byte {
	if r.failed || uint64(n) > uint64(len(r.rest)) {
		r.failed, r.rest = true, nil
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) name() string { return string(r.take(r.u32())) }

// u32 reads an unsigned LEB128 of at most five bytes and 32 bits.
func (r *reader) u32() uint32 {
	var v uint64
	for shift := 0; shift < 35; shift += 7 {
		b := r.byte()
		v |= uint64(b&0x7f) << shift
		if b&0x80 == 0 {
			if v > 1<<32-1 {
				break
			}
			return uint32(v)
		}
	}
	r.failed, r.rest = true, nil
	return 0
}
