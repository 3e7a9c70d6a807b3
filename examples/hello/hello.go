// Command hello is the hello job in plain Go: it writes its arguments, joined
// by spaces, backwards by Unicode code points and ends the line. The job a
// node runs by default is its small twin, hello.wat.
//
//	GOOS=wasip1 GOARCH=wasm go build -o hello-go.wasm ./examples/hello
package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

func main() {
	points := []rune(strings.Join(os.Args[1:], " "))
	slices.Reverse(points)
	fmt.Println(string(points))
}
