// Command world prints all that a guest can see of the world. Tests build it
// for wasip1.
package main

import (
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"
)

func main() {
	fmt.Printf("args %q\n", os.Args)
	env := os.Environ()
	slices.Sort(env)
	fmt.Printf("env %q\n", env)
	in, err := io.ReadAll(os.Stdin)
	fmt.Printf("stdin %q %v\n", in, err)
	for _, path := range []string{"/", ".", "/etc/passwd", "../../etc/passwd", "/proc/self/environ"} {
		_, err := os.ReadFile(path)
		fmt.Printf("read %s: %v\n", path, err != nil)
	}
	fmt.Printf("create: %v\n", os.WriteFile("file", []byte("x"), 0o600) != nil)
	_, err = net.Dial("tcp", "127.0.0.1:80")
	fmt.Printf("dial: %v\n", err != nil)
	fmt.Println("time", time.Now().UTC().Format(time.DateOnly))
	random := make([]byte, 8)
	_, err = rand.Read(random)
	fmt.Printf("random %x %v\n", random, err)
}
