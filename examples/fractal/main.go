// Command fractal draws a part of the Mandelbrot set and writes it as a PNG to its
// standard output, row by row. ../c/fractal.c says the same in C and writes the same
// bytes: both do the same sums with floats in the same order, and pack the picture
// without compressing it.
//
//	GOOS=wasip1 GOARCH=wasm go build -o fractal.wasm ./examples/fractal
package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/adler32"
	"hash/crc32"
	"io"
	"os"
	"strconv"
	"strings"
)

// view is what to draw.
type view struct {
	width, height int
	x, y, span    float64 // the middle, and how wide the picture is
	iterations    int
}

const (
	maxSide       = 10_000 // a row fits into one block of zlib's, of 65,535 bytes
	maxIterations = 1_000_000
)

func main() {
	v, ok := parse(os.Args[1:])
	if !ok {
		fmt.Fprintln(os.Stderr, "usage: fractal [WIDTH HEIGHT [X Y SPAN [ITERATIONS]]]")
		os.Exit(2)
	}
	out := bufio.NewWriterSize(os.Stdout, 64<<10)
	v.write(out)
	if err := out.Flush(); err != nil {
		os.Exit(1)
	}
}

func parse(args []string) (view, bool) {
	v := view{width: 480, height: 360, x: -0.7476, y: 0.1130, span: 0.009, iterations: 400}
	ok := true
	whole := func(s string, most int) int {
		n, err := strconv.Atoi(s)
		ok = ok && err == nil && strings.Trim(s, "0123456789") == "" && n >= 1 && n <= most
		return n
	}
	decimal := func(s string) float64 {
		f, err := strconv.ParseFloat(s, 64)
		ok = ok && err == nil && strings.Trim(s, "-.0123456789") == "" && f >= -1000 && f <= 1000
		return f
	}
	switch len(args) {
	case 6:
		v.iterations = whole(args[5], maxIterations)
		fallthrough
	case 5:
		v.x, v.y, v.span = decimal(args[2]), decimal(args[3]), decimal(args[4])
		fallthrough
	case 2:
		v.width, v.height = whole(args[0], maxSide), whole(args[1], maxSide)
	case 0:
	default:
		ok = false
	}
	return v, ok
}

// write writes the picture. Source: PNG (W3C, third edition), sections 5 and 11; RFC
// 1950 and 1951 (stored blocks).
func (v view) write(out io.Writer) {
	io.WriteString(out, "\x89PNG\r\n\x1a\n")
	head := binary.BigEndian.AppendUint32(nil, uint32(v.width))
	head = binary.BigEndian.AppendUint32(head, uint32(v.height))
	chunk(out, "IHDR", append(head, 8, 2, 0, 0, 0)) // eight bits each of red, green and blue
	sum := adler32.New()
	for y := range v.height {
		row := v.row(y)
		sum.Write(row)
		var data []byte
		last := byte(0)
		if y == 0 {
			data = append(data, 0x78, 0x01)
		}
		if y == v.height-1 {
			last = 1
		}
		data = append(data, last)
		data = binary.LittleEndian.AppendUint16(data, uint16(len(row)))
		data = binary.LittleEndian.AppendUint16(data, ^uint16(len(row)))
		data = append(data, row...)
		if last == 1 {
			data = sum.Sum(data)
		}
		chunk(out, "IDAT", data)
	}
	chunk(out, "IEND", nil)
}

func chunk(out io.Writer, kind string, data []byte) {
	body := append([]byte(kind), data...)
	out.Write(binary.BigEndian.AppendUint32(nil, uint32(len(data))))
	out.Write(body)
	out.Write(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(body)))
}

// samples is how many points a side of a pixel has, of whose colours it is the mean.
const samples = 2

// row gives the pixels of a row, behind the number of PNG's filter "none".
func (v view) row(y int) []byte {
	row := make([]byte, 1, 1+3*v.width)
	step := v.span / float64(v.width*samples)
	for x := range v.width {
		var sum [3]int
		for i := range samples * samples {
			right := float64(2*(x*samples+i%samples)-v.width*samples+1) / 2
			down := float64(2*(y*samples+i/samples)-v.height*samples+1) / 2
			c := colour(escape(v.x+float64(right*step), v.y-float64(down*step), v.iterations), v.iterations)
			for k := range sum {
				sum[k] += c[k]
			}
		}
		for _, s := range sum {
			row = append(row, byte(s/(samples*samples)))
		}
	}
	return row
}

// escape counts the steps of z = z² + c until it is sure to go to infinity, at most
// so many. The conversions keep compilers from fusing two operations into one.
func escape(x, y float64, most int) int {
	var re, im float64
	for n := range most {
		re2, im2 := float64(re*re), float64(im*im)
		if re2+im2 > 16 {
			return n
		}
		im = float64(2*re*im) + y
		re = re2 - im2 + x
	}
	return most
}

// shades are passed through every 128 steps; what never escapes is black.
var shades = [4][3]int{{0, 7, 100}, {32, 107, 203}, {237, 255, 255}, {255, 170, 0}}

func colour(n, most int) (c [3]int) {
	if n == most {
		return c
	}
	from, to, part := shades[n/32%4], shades[(n/32+1)%4], n%32
	for k := range c {
		c[k] = (from[k]*(32-part) + to[k]*part) / 32
	}
	return c
}
