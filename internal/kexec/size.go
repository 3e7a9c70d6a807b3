package kexec

import "io"

// sizeX86 is what an x86_64 kernel takes in memory beside its file.
func sizeX86(kernel []byte) (int64, error) {
	img, err := parseX86(kernel)
	return int64(max(img.size, uint64(len(img.code)))), err
}

// sizeARM is what an arm64 kernel takes in memory beside its file, which if it is
// packed is in memory once more, unpacked.
func sizeARM(kernel []byte) (int64, error) {
	if isX86(kernel) {
		_, err := parseARM(kernel)
		return 0, err
	}
	method, packed, err := findPacked(kernel)
	if err != nil {
		return 0, err
	}
	if method == "" {
		img, err := parseHeader(kernel)
		return int64(max(img.size, uint64(len(kernel)))), err
	}
	head, err := headOf(method, packed)
	if err != nil {
		return 0, err
	}
	img, err := parseHeader(head)
	return 2 * int64(img.size), err
}

// headOf unpacks the header of an Image.
func headOf(method string, packed []byte) ([]byte, error) {
	r, err := inflater(method, packed)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	head := make([]byte, armHeaderSize)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, kindImage.error(stepImage, err, "it cannot be unpacked")
	}
	return head, nil
}
