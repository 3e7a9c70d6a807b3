// fractal draws a part of the Mandelbrot set and writes it as a PNG to its standard
// output, row by row. ../fractal/main.go says the same in Go and writes the same bytes:
// both do the same sums with floats in the same order, and pack the picture without
// compressing it.
//
//	clang --target=wasm32-wasi -O2 -o fractal.wasm examples/c/fractal.c
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#pragma STDC FP_CONTRACT OFF

#define MAX_SIDE 10000 // a row fits into one block of zlib's, of 65,535 bytes
#define MAX_ITERATIONS 1000000
#define SAMPLES 2 // points of a side of a pixel, of whose colours it is the mean

// view is what to draw: the middle, and how wide the picture is.
typedef struct {
	int width, height;
	double x, y, span;
	int iterations;
} view;

// whole reads digits; 0 if there is anything else or it is too much.
static int whole(const char *s, int most) {
	if (*s == 0 || strspn(s, "0123456789") != strlen(s) || strlen(s) > 9 || atoi(s) > most)
		return 0;
	return atoi(s);
}

// decimal reads a number such as -0.75; 0 says that it is none.
static int decimal(const char *s, double *to) {
	char *end;
	*to = strtod(s, &end);
	return *s && *end == 0 && strspn(s, "-.0123456789") == strlen(s) && *to >= -1000 && *to <= 1000;
}

static int parse(view *v, int argc, char **argv) {
	switch (argc) {
	case 7:
		if (!(v->iterations = whole(argv[6], MAX_ITERATIONS)))
			return 0;
		// fall through
	case 6:
		if (!decimal(argv[3], &v->x) || !decimal(argv[4], &v->y) || !decimal(argv[5], &v->span))
			return 0;
		// fall through
	case 3:
		v->width = whole(argv[1], MAX_SIDE), v->height = whole(argv[2], MAX_SIDE);
		return v->width && v->height;
	case 1:
		return 1;
	}
	return 0;
}

// escape counts the steps of z = z² + c until it is sure to go to infinity, at most
// so many.
static int escape(double x, double y, int most) {
	double re = 0, im = 0;
	for (int n = 0; n < most; n++) {
		double re2 = re * re, im2 = im * im;
		if (re2 + im2 > 16)
			return n;
		im = 2 * re * im + y;
		re = re2 - im2 + x;
	}
	return most;
}

// shades are passed through every 128 steps; what never escapes is black.
static const int shades[4][3] = {{0, 7, 100}, {32, 107, 203}, {237, 255, 255}, {255, 170, 0}};

static void add_colour(int sum[3], int n, int most) {
	if (n == most)
		return;
	const int *from = shades[n / 32 % 4], *to = shades[(n / 32 + 1) % 4];
	int part = n % 32;
	for (int k = 0; k < 3; k++)
		sum[k] += (from[k] * (32 - part) + to[k] * part) / 32;
}

// draw_row gives the pixels of a row, behind the number of PNG's filter "none".
static void draw_row(const view *v, int y, uint8_t *row) {
	double step = v->span / (v->width * SAMPLES);
	*row++ = 0;
	for (int x = 0; x < v->width; x++) {
		int sum[3] = {0, 0, 0};
		for (int i = 0; i < SAMPLES * SAMPLES; i++) {
			double right = (double)(2 * (x * SAMPLES + i % SAMPLES) - v->width * SAMPLES + 1) / 2;
			double down = (double)(2 * (y * SAMPLES + i / SAMPLES) - v->height * SAMPLES + 1) / 2;
			add_colour(sum, escape(v->x + right * step, v->y - down * step, v->iterations), v->iterations);
		}
		for (int k = 0; k < 3; k++)
			*row++ = (uint8_t)(sum[k] / (SAMPLES * SAMPLES));
	}
}

static void put32(uint8_t *p, uint32_t n) {
	p[0] = (uint8_t)(n >> 24), p[1] = (uint8_t)(n >> 16), p[2] = (uint8_t)(n >> 8), p[3] = (uint8_t)n;
}

// crc32 is that of PNG; its table is made at the first call.
static uint32_t crc32(const uint8_t *p, size_t n) {
	static uint32_t table[256];
	if (!table[1]) {
		for (uint32_t i = 0; i < 256; i++) {
			table[i] = i;
			for (int k = 0; k < 8; k++)
				table[i] = table[i] & 1 ? 0xedb88320 ^ table[i] >> 1 : table[i] >> 1;
		}
	}
	uint32_t c = 0xffffffff;
	for (; n > 0; n--)
		c = table[(c ^ *p++) & 0xff] ^ c >> 8;
	return ~c;
}

// adler is the two sums of zlib's checksum.
typedef struct {
	uint32_t a, b;
} adler;

static void adler_add(adler *s, const uint8_t *p, size_t n) {
	for (; n > 0; n--) {
		s->a = (s->a + *p++) % 65521;
		s->b = (s->b + s->a) % 65521;
	}
}

// chunk writes a chunk whose n bytes of data stand behind eight free ones.
static void chunk(const char *kind, uint8_t *room, size_t n) {
	uint8_t crc[4];
	put32(room, (uint32_t)n);
	memcpy(room + 4, kind, 4);
	put32(crc, crc32(room + 4, n + 4));
	fwrite(room, 1, n + 8, stdout);
	fwrite(crc, 1, 4, stdout);
}

// write_picture writes the picture. Source: PNG (W3C, third edition), sections 5 and 11;
// RFC 1950 and 1951 (stored blocks).
static int write_picture(const view *v) {
	size_t length = 1 + 3 * (size_t)v->width;
	uint8_t *room = malloc(8 + 2 + 5 + length + 4);
	adler sum = {1, 0};
	if (!room)
		return 1;
	fwrite("\x89PNG\r\n\x1a\n", 1, 8, stdout);
	put32(room + 8, (uint32_t)v->width);
	put32(room + 12, (uint32_t)v->height);
	memcpy(room + 16, "\x08\x02\0\0\0", 5); // eight bits each of red, green and blue
	chunk("IHDR", room, 13);
	for (int y = 0; y < v->height; y++) {
		uint8_t *p = room + 8;
		int last = y == v->height - 1;
		if (y == 0)
			*p++ = 0x78, *p++ = 0x01;
		*p++ = (uint8_t)last;
		*p++ = (uint8_t)length, *p++ = (uint8_t)(length >> 8);
		*p++ = (uint8_t)~length, *p++ = (uint8_t)(~length >> 8);
		draw_row(v, y, p);
		adler_add(&sum, p, length);
		p += length;
		if (last)
			put32(p, sum.b << 16 | sum.a), p += 4;
		chunk("IDAT", room, (size_t)(p - room - 8));
	}
	chunk("IEND", room, 0);
	free(room);
	return fflush(stdout) != 0;
}

int main(int argc, char **argv) {
	view v = {480, 360, -0.7476, 0.1130, 0.009, 400};
	if (!parse(&v, argc, argv)) {
		fputs("usage: fractal [WIDTH HEIGHT [X Y SPAN [ITERATIONS]]]\n", stderr);
		return 2;
	}
	return write_picture(&v);
}
