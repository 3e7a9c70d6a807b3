// checksum hashes a file, or its standard input, with SHA-256, piece by piece, and
// writes the digest as sha256sum does. The inputs of a job are files in /in. With a
// number it hashes the digest again that often, which is slow on purpose.
// ../checksum/main.go says the same in Go and writes the same bytes.
//
//	clang --target=wasm32-wasi -O2 -o checksum.wasm examples/c/checksum.c
//
// Source: FIPS 180-4.
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

// MAX_ROUNDS bounds how often the digest is hashed again.
#define MAX_ROUNDS 1000000000L

// The first 32 bits of the fractional parts of the cube roots of the first 64 primes.
static const uint32_t K[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

typedef struct {
	uint32_t state[8];
	uint64_t length; // bytes so far
	uint8_t block[64];
} sha256;

static uint32_t rotate(uint32_t x, int n) { return x >> n | x << (32 - n); }

static void start(sha256 *h) {
	static const uint32_t first[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
	                                  0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
	memcpy(h->state, first, sizeof first);
	h->length = 0;
}

static void compress(uint32_t state[8], const uint8_t *p) {
	uint32_t w[64];
	for (int i = 0; i < 16; i++, p += 4)
		w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
	for (int i = 16; i < 64; i++) {
		uint32_t s0 = rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3;
		uint32_t s1 = rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10;
		w[i] = w[i - 16] + s0 + w[i - 7] + s1;
	}
	uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
	uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
	for (int i = 0; i < 64; i++) {
		uint32_t s1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
		uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + K[i] + w[i];
		uint32_t s0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
		uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
		h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
	}
	state[0] += a, state[1] += b, state[2] += c, state[3] += d;
	state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

static void update(sha256 *h, const uint8_t *p, size_t n) {
	size_t have = h->length % 64;
	h->length += n;
	if (have + n < 64) {
		memcpy(h->block + have, p, n);
		return;
	}
	if (have > 0) {
		memcpy(h->block + have, p, 64 - have);
		compress(h->state, h->block);
		p += 64 - have, n -= 64 - have;
	}
	for (; n >= 64; p += 64, n -= 64)
		compress(h->state, p);
	memcpy(h->block, p, n);
}

static void finish(sha256 *h, uint8_t digest[32]) {
	static const uint8_t padding[64] = {0x80};
	uint8_t bits[8];
	for (int i = 0; i < 8; i++)
		bits[i] = (uint8_t)(h->length * 8 >> (56 - 8 * i));
	update(h, padding, 1 + (119 - h->length % 64) % 64);
	update(h, bits, 8);
	for (int i = 0; i < 32; i++)
		digest[i] = (uint8_t)(h->state[i / 4] >> (24 - 8 * (i % 4)));
}

// number reads decimal digits and nothing else; -1 if there is anything else.
static long number(const char *s) {
	long n = 0;
	if (*s == 0)
		return -1;
	for (; *s; s++) {
		if (*s < '0' || *s > '9' || (n = n * 10 + (*s - '0')) > MAX_ROUNDS)
			return -1;
	}
	return n;
}

int main(int argc, char **argv) {
	const char *name = "-";
	if (argc > 1 && argv[1][0] == '/')
		name = argv[1], argc--, argv++;
	long rounds = argc == 2 ? number(argv[1]) : 0;
	if (argc > 2 || rounds < 0) {
		fputs("usage: checksum [/in/NAME] [ROUNDS]\n", stderr);
		return 2;
	}
	int input = name[0] == '/' ? open(name, O_RDONLY) : STDIN_FILENO;
	static uint8_t piece[64 << 10];
	uint8_t digest[32];
	sha256 h;
	ssize_t n;
	start(&h);
	while ((n = read(input, piece, sizeof piece)) > 0)
		update(&h, piece, (size_t)n);
	if (n < 0) {
		fputs("checksum: the input cannot be read\n", stderr);
		return 1;
	}
	finish(&h, digest);
	for (; rounds > 0; rounds--) {
		start(&h);
		update(&h, digest, sizeof digest);
		finish(&h, digest);
	}
	for (int i = 0; i < 32; i++)
		printf("%02x", digest[i]);
	printf("  %s\n", name);
	return 0;
}
