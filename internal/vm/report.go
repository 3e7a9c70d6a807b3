package vm

import (
	"bufio"
	"errors"
	"io"
	"time"
)

const (
	maxReportLine  = 64 << 10 // bytes of one report line, without its newline
	reportsWaiting = 512      // reports kept for a reader that is behind: 32 MiB at worst
)

// Report is one line that the guest wrote on the report port.
type Report struct {
	At   time.Time // host clock when the line was complete
	Line []byte    // without its newline; owned by the receiver
	// Dropped is the number of lines lost before this one, because they were
	// longer than 64 KiB or because nobody received them in time.
	Dropped int
}

// readReports splits r into lines and offers them to out until r ends, then
// closes out. It never waits for a receiver: a slow reader loses lines, the
// guest is not held up.
func readReports(r io.Reader, out chan<- Report) {
	defer close(out)
	br := bufio.NewReaderSize(r, maxReportLine+1)
	dropped := 0
	for {
		line, err := br.ReadSlice('\n')
		at := time.Now()
		if errors.Is(err, bufio.ErrBufferFull) {
			dropped++
			err = skipLine(br)
			line = nil
		}
		if err != nil {
			return // an unfinished last line is not a report
		}
		if len(line) <= 1 {
			continue
		}
		rep := Report{At: at, Line: append([]byte(nil), line[:len(line)-1]...), Dropped: dropped}
		select {
		case out <- rep:
			dropped = 0
		default:
			dropped++
		}
	}
}

// skipLine discards the rest of a line.
func skipLine(br *bufio.Reader) error {
	for {
		_, err := br.ReadSlice('\n')
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}
