package wasm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tetratelabs/wazero/experimental/sys"

	"github.com/phasebased/phase/internal/job"
)

// Functions of WASI that have to do with files, by their parameters: w is 32, d 64 bits.
var fileCalls = map[string]string{
	"path_open": "wwwwwddww", "fd_read": "wwww", "fd_pread": "wwwdw", "fd_write": "wwww", "fd_pwrite": "wwwdw", "fd_close": "w",
	"fd_seek": "wdww", "fd_tell": "ww", "fd_readdir": "wwwdw", "fd_filestat_get": "ww", "fd_filestat_set_size": "wd",
	"fd_filestat_set_times": "wddw", "fd_allocate": "wdd", "fd_fdstat_get": "ww", "fd_fdstat_set_flags": "ww",
	"fd_fdstat_set_rights": "wdd", "fd_sync": "w", "fd_datasync": "w", "fd_advise": "wddw", "fd_renumber": "ww", "fd_prestat_get": "ww",
	"fd_prestat_dir_name": "www", "path_filestat_get": "wwwww", "path_filestat_set_times": "wwwwddw",
	"path_create_directory": "www", "path_remove_directory": "www", "path_unlink_file": "www", "path_rename": "wwwwww",
	"path_link": "wwwwwww", "path_symlink": "wwwww", "path_readlink": "wwwwww",
}

// Errnos of WASI preview 1.
const (
	eOK, eAgain, eBadf, eExist, eInval, eIsdir, eNametoolong, eNoent = 0, 6, 8, 20, 28, 31, 37, 44
	eNosys, eNotdir, eNotsup, ePerm, eRofs                           = 52, 54, 58, 63, 69
)

// Where a scripted guest has what.
const (
	atIovs   = 0    // address and length: all of atBuffer
	atResult = 64   // what calls give back
	atErrnos = 1024 // a byte for each step
	atPaths  = 2048
	atBuffer = 8192
	bufLen   = 4096
)

// step is a call with what it has to answer. A string among the arguments stands for
// its address and length.
type step struct {
	call  string
	args  []any
	errno int
}

// script is a guest that makes calls one after the other, and then writes all it has in
// memory.
func script(t *testing.T, steps []step) []byte {
	t.Helper()
	var body, imports strings.Builder
	paths := ""
	for i, s := range steps {
		sig, n := fileCalls[s.call], 0
		arg := func(v int64) {
			fmt.Fprintf(&body, " i%d.const %d", map[byte]int{'w': 32, 'd': 64}[sig[n]], v)
			n++
		}
		fmt.Fprintf(&body, "\ni32.const %d", atErrnos+i)
		for _, a := range s.args {
			switch a := a.(type) {
			case string:
				arg(int64(atPaths + len(paths)))
				arg(int64(len(a)))
				paths += a
			case int:
				arg(int64(a))
			}
		}
		if n != len(sig) {
			t.Fatalf("step %d: %d arguments of %s, which has %d", i, n, s.call, len(sig))
		}
		fmt.Fprintf(&body, " call $%s i32.store8", s.call)
	}
	for name, sig := range fileCalls {
		params := strings.NewReplacer("w", " i32", "d", " i64").Replace(sig)
		fmt.Fprintf(&imports, "(import %q %q (func $%s (param%s) (result i32)))\n", wasiModule, name, name, params)
	}
	escaped := ""
	for _, c := range []byte(paths) {
		escaped += fmt.Sprintf("\\%02x", c)
	}
	return assemble(t, fmt.Sprintf(`(module %s (memory (export "memory") 2) (data (i32.const %d) "%s")
		(func (export "_start")
			i32.const %d i32.const %d i32.store i32.const %d i32.const %d i32.store
			%s
			i32.const %d i32.const 0 i32.store i32.const %d i32.const %d i32.store
			i32.const 1 i32.const %d i32.const 1 i32.const %d call $fd_write drop))`,
		imports.String(), atPaths, escaped, atIovs, atBuffer, atIovs+4, bufLen,
		body.String(), 16384, 16388, atBuffer+bufLen, 16384, 16392))
}

// play runs a script on both engines and gives the memory that it leaves.
func play(t *testing.T, files []InputFile, steps []step) (memory []byte, out Outcome) {
	t.Helper()
	out, memory = runWithFiles(t, script(t, steps), 1_000_000, files)
	if out.State != job.Exited || len(memory) != atBuffer+bufLen {
		t.Fatalf("%+v, %d bytes", out, len(memory))
	}
	for i, s := range steps {
		if got := int(memory[atErrnos+i]); got != s.errno {
			t.Errorf("step %d, %s%v: errno %d, want %d", i, s.call, s.args, got, s.errno)
		}
	}
	return memory, out
}

var twoFiles = []InputFile{{"b.txt", []byte("contents of b")}, {"a", nil}}

// Rights and flags of path_open.
const (
	rightRead, rightWrite                    = 1 << 1, 1 << 6
	flagCreate, flagFolder, flagNew, flagCut = 1, 2, 4, 8
)

func open(path any, flags, rights, errno int) step {
	return step{"path_open", []any{3, 1, path, flags, rights, 0, 0, atResult}, errno}
}

func TestGuestReadsInputs(t *testing.T) {
	memory, _ := play(t, twoFiles, []step{
		{"fd_prestat_get", []any{3, 128}, eOK},
		{"fd_prestat_dir_name", []any{3, 136, 3}, eOK},
		{"fd_prestat_get", []any{4, 256}, eBadf}, // one folder, no more
		open("b.txt", 0, rightRead, eOK),         // 4
		{"fd_read", []any{4, atIovs, 1, 200}, eOK},
		{"fd_read", []any{4, atIovs, 1, 204}, eOK}, // the end
		{"fd_seek", []any{4, -6, 2, 208}, eOK},
		{"fd_tell", []any{4, 216}, eOK},
		{"fd_seek", []any{4, 1 << 40, 0, 256}, eOK},
		{"fd_read", []any{4, atIovs, 1, 256}, eOK}, // behind the end
		{"fd_seek", []any{4, -1, 0, 256}, eInval},
		{"fd_seek", []any{4, 1<<63 - 1, 1, 256}, eInval},
		{"fd_seek", []any{4, 0, 9, 256}, eInval},
		{"fd_pread", []any{4, atIovs, 1, 12, 224}, eOK}, // over the first byte of what was read
		{"fd_pread", []any{4, atIovs, 1, -1, 256}, eInval},
		open("a", 0, rightRead, eOK), // 5
		{"fd_read", []any{5, atIovs, 1, 228}, eOK},
		{"fd_filestat_get", []any{4, 512}, eOK},
		{"path_filestat_get", []any{3, 1, "b.txt", 576}, eOK},
		{"path_filestat_get", []any{3, 0, "./a", 640}, eOK},
		{"fd_filestat_get", []any{3, 704}, eOK},
		{"fd_close", []any{4}, eOK},
		{"fd_read", []any{4, atIovs, 1, 256}, eBadf},
		{"fd_advise", []any{5, 0, 0, 0}, eOK},
		{"fd_sync", []any{5}, eOK},
		{"fd_datasync", []any{5}, eOK},
	})
	word := func(at int) uint32 { return binary.LittleEndian.Uint32(memory[at:]) }
	if got := string(memory[136:139]); got != "/in" || word(132) != 3 {
		t.Errorf("the folder is called %q, of %d bytes", got, word(132))
	}
	if got := string(memory[atBuffer : atBuffer+13]); got != "bontents of b" {
		t.Errorf("read %q", got)
	}
	if word(200) != 13 || word(204) != 0 || word(208) != 7 || word(216) != 7 || word(224) != 1 || word(228) != 0 {
		t.Errorf("read %d, %d, at %d, %d, read %d, %d", word(200), word(204), word(208), word(216), word(224), word(228))
	}
	stat := func(ino, kind, size uint64) (b []byte) {
		for _, v := range []uint64{1, ino, kind, 1, size, inputTime, inputTime, inputTime} {
			b = binary.LittleEndian.AppendUint64(b, v)
		}
		return b
	}
	for at, want := range map[int][]byte{512: stat(3, 4, 13), 576: stat(3, 4, 13), 640: stat(2, 4, 0), 704: stat(1, 3, 0)} {
		if got := memory[at : at+64]; !bytes.Equal(got, want) {
			t.Errorf("stat at %d is\n%x, want\n%x", at, got, want)
		}
	}
}

// The list is the same on every node, in one piece or in many.
func TestGuestListsInputs(t *testing.T) {
	var files []InputFile
	var want []string
	for i := range job.MaxInputs {
		name := fmt.Sprintf("%c%s", 'z'-i, strings.Repeat("x", i))
		files, want = append(files, InputFile{name, nil}), append(want, name)
	}
	slices.Sort(want)
	want = append([]string{".", ".."}, want...)
	whole, _ := play(t, files, []step{{"fd_readdir", []any{3, atBuffer, bufLen, 0, 200}, eOK}})
	steps := []step{open(".", flagFolder, rightRead, eOK)}
	for i := range want { // of each call, only the first entry is used
		steps = append(steps, step{"fd_readdir", []any{4, atBuffer + 64*i, 64, i, 200}, eOK})
	}
	steps = append(steps, step{"fd_readdir", []any{4, atResult, 64, len(want), 204}, eOK},
		step{"fd_readdir", []any{4, atResult, 64, 1 << 40, 208}, eNoent})
	pieces, _ := play(t, files, steps)
	at := atBuffer
	for i, name := range want {
		entry := whole[at:]
		next, ino, size := binary.LittleEndian.Uint64(entry), binary.LittleEndian.Uint64(entry[8:]), binary.LittleEndian.Uint32(entry[16:])
		wantIno := uint64(i)
		if i == 0 {
			wantIno = 1
		} else if i == 1 {
			wantIno = 0 // the engine does not look above
		}
		if string(entry[24:24+size]) != name || next != uint64(i+1) || ino != wantIno {
			t.Errorf("entry %d: %q, number %d, then %d; want %q, %d", i, entry[24:24+size], ino, next, name, wantIno)
		}
		if n := 24 + int(size); !bytes.Equal(pieces[atBuffer+64*i:atBuffer+64*i+n], entry[:n]) {
			t.Errorf("entry %d is another one when it is asked for alone", i)
		}
		at += 24 + int(size)
	}
	if n := binary.LittleEndian.Uint32(pieces[204:]); n != 0 {
		t.Errorf("%d bytes behind the end of the list", n)
	}
}

// What would leave the folder, or change it.
func TestGuestCannotLeaveOrChangeInputs(t *testing.T) {
	long := strings.Repeat("n", maxPathBytes+1)
	var steps []step
	for _, path := range []string{"..", "../etc/passwd", "/etc/passwd", "a/../../b", "./..", "../in/a", "/in/a", "", "\x00"} {
		errno := ePerm
		switch path {
		case "":
			errno = eInval
		case "\x00":
			errno = eNoent
		}
		steps = append(steps, open(path, 0, rightRead, errno))
	}
	steps = append(steps,
		open("missing", 0, rightRead, eNoent), open("B.txt", 0, rightRead, eNoent), open("a\x00", 0, rightRead, eNoent),
		open("a/", 0, rightRead, eNotdir), open("a/b", 0, rightRead, eNotdir), open("a", flagFolder, rightRead, eNotdir),
		open("b.tx", 0, rightRead, eNoent), open(long, 0, rightRead, eNametoolong),
		open("a", 0, rightRead|rightWrite, eRofs), open("a", 0, rightWrite, eRofs), open("a", flagCut, rightRead|rightWrite, eRofs),
		open("a", flagCut, rightRead, eRofs), open("a", flagCreate, rightRead, eRofs), open("new", flagCreate, rightRead|rightWrite, eRofs),
		open("a", flagCreate|flagNew, rightRead|rightWrite, eExist), open(".", flagFolder, rightRead|rightWrite, eIsdir),
		open("new", flagCreate|flagFolder, rightRead, eInval),
		step{"path_open", []any{3, 1, "a", 0, rightRead, 0, 1, atResult}, eRofs}, // to append
		step{"path_open", []any{9, 1, "a", 0, rightRead, 0, 0, atResult}, eBadf},
		step{"path_open", []any{0, 1, "a", 0, rightRead, 0, 0, atResult}, eNotdir},
		open("b.txt", 0, 0, eOK), // 4: rights are what the file has
		step{"path_open", []any{4, 1, "a", 0, rightRead, 0, 0, atResult}, eNotdir},
		step{"fd_write", []any{4, atIovs, 1, atResult}, eBadf}, step{"fd_pwrite", []any{4, atIovs, 1, 0, atResult}, eBadf},
		step{"fd_write", []any{3, atIovs, 1, atResult}, eIsdir}, step{"fd_read", []any{3, atIovs, 1, atResult}, eIsdir},
		step{"fd_filestat_set_size", []any{4, 0}, eRofs}, step{"fd_filestat_set_times", []any{4, 0, 0, 5}, eRofs},
		step{"fd_filestat_set_times", []any{3, 0, 0, 5}, eRofs},
		step{"fd_allocate", []any{4, 0, 13}, eOK}, // it has them
		step{"fd_allocate", []any{4, 0, 14}, eRofs},
		step{"fd_fdstat_set_flags", []any{4, 1}, eRofs}, step{"fd_fdstat_set_flags", []any{4, 0}, eOK},
		step{"fd_renumber", []any{4, 1 << 30}, eNotsup}, step{"fd_renumber", []any{4, 1}, eNotsup}, step{"fd_renumber", []any{77, 78}, eNotsup},
		step{"path_create_directory", []any{3, "new"}, eRofs}, step{"path_remove_directory", []any{3, "a"}, eRofs},
		step{"path_unlink_file", []any{3, "a"}, eRofs}, step{"path_unlink_file", []any{3, "../a"}, ePerm},
		step{"path_rename", []any{3, "a", 3, "c"}, eRofs}, step{"path_link", []any{3, 0, "a", 3, "c"}, eRofs},
		step{"path_symlink", []any{"/etc", 3, "c"}, eRofs}, step{"path_readlink", []any{3, "a", atResult, 64, 128}, eInval},
		step{"path_readlink", []any{3, "c", atResult, 64, 128}, eNoent},
		step{"path_filestat_set_times", []any{3, 1, "a", 0, 0, 5}, eRofs}, step{"path_filestat_set_times", []any{3, 0, "a", 0, 0, 5}, eRofs},
		step{"fd_readdir", []any{4, atBuffer, 64, 0, 200}, eBadf}, step{"fd_seek", []any{3, 0, 0, 200}, eIsdir},
		step{"fd_read", []any{4, atIovs, 1, 200}, eOK},
		step{"fd_close", []any{3}, eOK}, open("a", 0, rightRead, eBadf),
	)
	memory, _ := play(t, twoFiles, steps)
	if got := string(memory[atBuffer : atBuffer+13]); got != "contents of b" {
		t.Errorf("afterwards the file holds %q", got)
	}
}

// A job without inputs has no files at all.
func TestNoInputsNoFiles(t *testing.T) {
	play(t, nil, []step{{"fd_prestat_get", []any{3, 128}, eBadf}, open("a", 0, rightRead, eBadf), {"fd_readdir", []any{3, atBuffer, 64, 0, 200}, eBadf}})
}

// Folders opened in folders have ever longer names in the engine, and what is open takes
// memory of the host's.
func TestWhatIsOpenIsBounded(t *testing.T) {
	var files, nested []step
	for i := range maxOpenFiles {
		errno := eOK
		if i == maxOpenFiles-1 { // one is the folder
			errno = eAgain
		}
		files = append(files, open("a", 0, rightRead, errno))
	}
	files = append(files, step{"fd_close", []any{9}, eOK}, open("a", 0, rightRead, eOK), open("a", 0, rightRead, eAgain))
	play(t, twoFiles, files)
	for i := range 40 {
		nested = append(nested, step{"path_open", []any{3 + i, 1, ".", flagFolder, rightRead, 0, 0, atResult}, eOK})
	}
	play(t, twoFiles, nested)
	d := newInputFolder(twoFiles)
	if _, errno := d.OpenFile(strings.Repeat("/.", maxPathBytes), sys.O_RDONLY, 0); errno != sys.ENAMETOOLONG || d.open != 0 {
		t.Errorf("a folder deep in itself: %v, %d are open", errno, d.open)
	}
}

// A call that reads a megabyte costs more than one that reads a byte, by the same number
// on every engine, and more than there is ends the guest.
func TestReadingIsPaidForByLength(t *testing.T) {
	read := func(size, budget int) Outcome {
		module := script(t, []step{open("f", 0, rightRead, eOK), {"fd_read", []any{4, atIovs, 1, 200}, eOK}})
		out, _ := runWithFiles(t, module, int64(budget), []InputFile{{"f", make([]byte, size)}})
		return out
	}
	few, many := read(8, 1_000_000), read(bufLen+1, 1_000_000)
	if got, want := many.FuelUsed-few.FuelUsed, int64(bufLen/8-1); got != want {
		t.Errorf("%d bytes more cost %d, want %d", bufLen-8, got, want)
	}
	if out := read(bufLen, int(many.FuelUsed)-100); out.State != job.OutOfFuel {
		t.Errorf("with too little: %+v", out)
	}
	if out := read(bufLen, int(many.FuelUsed)); out.State != job.Exited {
		t.Errorf("with just enough: %+v", out)
	}
}

// FuzzInputPath: whatever a path and flags, what is opened is the folder or a file of it,
// for reading, and everything is closed again.
func FuzzInputPath(f *testing.F) {
	f.Fuzz(func(t *testing.T, path string, flags uint32) {
		d := newInputFolder(twoFiles)
		file, errno := d.OpenFile(path, sys.Oflag(flags), 0o777)
		st, statErrno := d.Stat(path)
		link, linkErrno := d.Readlink(path)
		if link != "" || linkErrno == 0 {
			t.Errorf("%q is a link to %q", path, link)
		}
		if errno != 0 {
			if file != nil || d.open != 0 {
				t.Errorf("%q: %v, yet a file", path, errno)
			}
			return
		}
		own, errno := file.Stat()
		if statErrno != 0 || errno != 0 || own != st {
			t.Errorf("%q: %v by name, %v opened: %v, %v", path, st, own, statErrno, errno)
		}
		folder, _ := file.IsDir()
		content, buf := "", make([]byte, 64)
		if !folder {
			n, errno := file.Read(buf)
			if errno != 0 {
				t.Errorf("%q cannot be read: %v", path, errno)
			}
			content = string(buf[:n])
		}
		name := strings.Trim(path, "/.")
		for _, want := range twoFiles {
			if strings.HasSuffix(name, want.Name) && !folder && content == string(want.Data) {
				name = ""
			}
		}
		if !folder && name != "" || folder != (st.Ino == folderNumber) {
			t.Errorf("%q opens %+v with %q", path, st, content)
		}
		for what, write := range map[string]sys.Errno{
			"append": file.SetAppend(true), "truncate": file.Truncate(0), "times": file.Utimens(0, 0),
		} {
			if write == 0 {
				t.Errorf("%q: %s is possible", path, what)
			}
		}
		if n, errno := file.Write([]byte("x")); n != 0 || errno == 0 {
			t.Errorf("%q can be written to", path)
		}
		if n, errno := file.Pwrite([]byte("x"), 0); n != 0 || errno == 0 {
			t.Errorf("%q can be written to", path)
		}
		if file.Close() != 0 || d.open != 0 || string(d.files[1].Data) != "contents of b" {
			t.Errorf("%q: %d are open afterwards, the file holds %q", path, d.open, d.files[1].Data)
		}
	})
}
