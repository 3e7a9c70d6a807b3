package nettest

import (
	"flag"
	"strconv"
	"testing"
)

// atOnce is how many tests of a package run at the same time under Main.
const atOnce = 8

// Main is for TestMain of packages whose tests mostly wait for a network: it runs
// more of them at once than there are processors, unless the tester chose a number.
func Main(m *testing.M) int {
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if n, err := strconv.Atoi(flag.Lookup("test.parallel").Value.String()); err == nil && n < atOnce && !chosen {
		_ = flag.Set("test.parallel", strconv.Itoa(atOnce)) // a flag of every test
	}
	return m.Run()
}
