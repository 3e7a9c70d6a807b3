package debpkg

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// kernelPackages names the meta package of the virtual-machine kernel by
// distribution (ID in os-release) and Debian architecture.
var kernelPackages = map[[2]string]string{
	{"debian", "amd64"}: "linux-image-cloud-amd64",
	{"debian", "arm64"}: "linux-image-cloud-arm64",
	{"ubuntu", "amd64"}: "linux-image-virtual",
	{"ubuntu", "arm64"}: "linux-image-virtual",
}

// genericPackages are those of the kernel for real machines.
var genericPackages = map[[2]string]string{
	{"debian", "amd64"}: "linux-image-amd64",
	{"debian", "arm64"}: "linux-image-arm64",
	{"ubuntu", "amd64"}: "linux-image-generic",
	{"ubuntu", "arm64"}: "linux-image-generic",
}

// kernelParts are the beginnings of package names that hold parts of a kernel:
// Debian keeps all in linux-image-*, Ubuntu splits the modules off.
var kernelParts = []string{"linux-image-", "linux-modules-"}

// KernelPackage names the package of the virtual-machine kernel for a Debian
// architecture on the distribution that apt serves here.
func KernelPackage(arch string) (string, error) { return kernelPackage(kernelPackages, arch) }

// GenericKernelPackage is that of the kernel for real machines, which is larger
// and has the drivers of wireless cards.
func GenericKernelPackage(arch string) (string, error) { return kernelPackage(genericPackages, arch) }

func kernelPackage(packages map[[2]string]string, arch string) (string, error) {
	id := distribution()
	name, ok := packages[[2]string{id, arch}]
	if !ok {
		return "", fmt.Errorf("debpkg: no kernel package known for %q on %s; name a package, or a kernel file and its modules folder", id, arch)
	}
	return name, nil
}

func distribution() string {
	f, err := os.Open("/etc/os-release")
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	return distributionFrom(io.LimitReader(f, 64<<10))
}

// distributionFrom reads os-release(5): the ID, or the first known one of the
// distributions it is derived from.
func distributionFrom(r io.Reader) string {
	id, like := "unknown", ""
	for s := bufio.NewScanner(r); s.Scan(); {
		key, value, _ := strings.Cut(s.Text(), "=")
		switch value = strings.Trim(value, `"'`); key {
		case "ID":
			id = value
		case "ID_LIKE":
			like = value
		}
	}
	for _, candidate := range append([]string{id}, strings.Fields(like)...) {
		if _, ok := kernelPackages[[2]string{candidate, "amd64"}]; ok {
			return candidate
		}
	}
	return id
}

// resolveKernel follows the dependencies of a meta package to the packages that
// hold a kernel. A package without such dependencies is itself what is wanted.
func (a apt) resolveKernel(ctx context.Context, name string) ([]string, error) {
	const maxPackages = 16
	var found []string
	queue, seen := []string{name}, map[string]bool{name: true}
	for len(queue) > 0 {
		next := queue[0]
		queue = queue[1:]
		out, err := a.run(ctx, "", "apt-cache", "depends", "--important", next+":"+a.arch)
		if err != nil {
			return nil, missing(next, a, err)
		}
		parts := kernelDepends(out)
		if next != name || len(parts) == 0 {
			found = append(found, next)
		}
		for _, p := range parts {
			if !seen[p] && len(seen) < maxPackages {
				seen[p] = true
				queue = append(queue, p)
			}
		}
	}
	slices.Sort(found)
	return found, nil
}

// kernelDepends picks the kernel parts out of the answer of apt-cache depends.
func kernelDepends(out []byte) []string {
	var names []string
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		dep, ok := strings.CutPrefix(strings.TrimSpace(s.Text()), "Depends: ")
		if !ok {
			continue
		}
		dep, _, _ = strings.Cut(dep, ":")
		isPart := slices.ContainsFunc(kernelParts, func(p string) bool { return strings.HasPrefix(dep, p) })
		if isPart && validName(dep) {
			names = append(names, dep)
		}
	}
	return names
}
