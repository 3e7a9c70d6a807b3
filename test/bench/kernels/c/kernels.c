// kernels is work for a processor, of several kinds: its first argument names the kind,
// the second how much of it. It writes a number that depends on all of the work.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t seed = 88172645463325252u;

// next is xorshift64 (Marsaglia 2003).
static uint64_t next(void) {
	seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
	return seed;
}

// matrix multiplies two n × n matrices of floats.
static uint64_t matrix(int n) {
	double *a = malloc(sizeof(double) * n * n), *b = malloc(sizeof(double) * n * n), sum = 0;
	for (int i = 0; i < n * n; i++)
		a[i] = (double)(next() % 1000) / 100, b[i] = (double)(next() % 1000) / 100;
	for (int i = 0; i < n; i++)
		for (int j = 0; j < n; j++) {
			double dot = 0;
			for (int k = 0; k < n; k++)
				dot += a[i * n + k] * b[k * n + j];
			sum += dot;
		}
	return (uint64_t)sum;
}

typedef struct {
	double x[3], v[3], m;
} body;

// bodies moves five of them n steps under gravity.
static uint64_t bodies(int n) {
	body s[5];
	double energy = 0;
	for (int i = 0; i < 5; i++) {
		for (int k = 0; k < 3; k++)
			s[i].x[k] = (double)(next() % 1000) / 50 - 10, s[i].v[k] = (double)(next() % 1000) / 1000;
		s[i].m = 1 + (double)i;
	}
	for (; n > 0; n--) {
		for (int i = 0; i < 5; i++)
			for (int j = i + 1; j < 5; j++) {
				double d[3], square = 0.1;
				for (int k = 0; k < 3; k++)
					d[k] = s[i].x[k] - s[j].x[k], square += d[k] * d[k];
				double pull = 0.001 / (square * sqrt(square));
				for (int k = 0; k < 3; k++)
					s[i].v[k] -= d[k] * s[j].m * pull, s[j].v[k] += d[k] * s[i].m * pull;
			}
		for (int i = 0; i < 5; i++)
			for (int k = 0; k < 3; k++)
				s[i].x[k] += 0.001 * s[i].v[k];
	}
	for (int i = 0; i < 5; i++)
		energy += s[i].m * (s[i].v[0] * s[i].v[0] + s[i].v[1] * s[i].v[1] + s[i].v[2] * s[i].v[2]);
	return (uint64_t)(energy * 1e6);
}

// sieve counts the primes below n.
static uint64_t sieve(int n) {
	uint8_t *composite = calloc((size_t)n, 1);
	uint64_t count = 0;
	for (int i = 2; i < n; i++) {
		if (composite[i])
			continue;
		count++;
		for (int64_t j = (int64_t)i * i; j < n; j += i)
			composite[j] = 1;
	}
	return count;
}

// queens counts the ways to place n of them, by recursion.
static uint64_t queens(uint32_t all, uint32_t columns, uint32_t left, uint32_t right) {
	if (columns == all)
		return 1;
	uint64_t ways = 0;
	for (uint32_t free = all & ~(columns | left | right); free;) {
		uint32_t bit = free & -free;
		free ^= bit;
		ways += queens(all, columns | bit, (left | bit) << 1, (right | bit) >> 1);
	}
	return ways;
}

static int ascending(const void *a, const void *b) {
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return x < y ? -1 : x > y;
}

// sort sorts n numbers through a function that is called by its address.
static uint64_t sort(int n) {
	uint32_t *numbers = malloc(sizeof(uint32_t) * n);
	uint64_t sum = 0;
	for (int i = 0; i < n; i++)
		numbers[i] = (uint32_t)next();
	qsort(numbers, n, sizeof(uint32_t), ascending);
	for (int i = 0; i < n; i++)
		sum = sum * 31 + numbers[i];
	return sum;
}

// machine interprets n instructions of a small machine.
static uint64_t machine(int n) {
	uint8_t code[256];
	uint64_t r[8] = {1, 2, 3, 4, 5, 6, 7, 8};
	for (int i = 0; i < 256; i++)
		code[i] = (uint8_t)next();
	for (uint32_t pc = 0; n > 0; n--) {
		uint8_t op = code[pc++ & 255];
		uint64_t *to = &r[op >> 3 & 7], from = r[(op >> 5) ^ 5];
		switch (op & 7) {
		case 0: *to += from; break;
		case 1: *to ^= from; break;
		case 2: *to = *to << 7 | *to >> 57; break;
		case 3: *to *= from | 1; break;
		case 4: *to -= from; break;
		case 5: pc += (uint32_t)(*to & 1); break;
		case 6: *to = from; break;
		default: *to = ~*to + 3;
		}
	}
	return r[0] ^ r[1] ^ r[2] ^ r[3] ^ r[4] ^ r[5] ^ r[6] ^ r[7];
}

// words counts n of them in a table of chains.
static uint64_t words(int n) {
	typedef struct entry {
		struct entry *chain;
		char word[12];
		uint32_t count;
	} entry;
	static entry *table[4096];
	uint64_t sum = 0;
	for (int i = 0; i < n; i++) {
		char word[12] = "";
		uint32_t hash = 2166136261u;
		uint64_t random = next() % 20000;
		for (int k = 0; k < 4; k++, random /= 12)
			word[k] = (char)('a' + random % 12);
		for (char *c = word; *c; c++)
			hash = (hash ^ (uint8_t)*c) * 16777619;
		entry **at = &table[hash & 4095];
		while (*at && strcmp((*at)->word, word))
			at = &(*at)->chain;
		if (!*at) {
			*at = calloc(1, sizeof(entry));
			memcpy((*at)->word, word, sizeof word);
		}
		sum += ++(*at)->count * (hash & 255);
	}
	return sum;
}

int main(int argc, char **argv) {
	if (argc != 3)
		return 2;
	int n = atoi(argv[2]);
	uint64_t result;
	if (!strcmp(argv[1], "matrix"))
		result = matrix(n);
	else if (!strcmp(argv[1], "bodies"))
		result = bodies(n);
	else if (!strcmp(argv[1], "sieve"))
		result = sieve(n);
	else if (!strcmp(argv[1], "queens"))
		result = queens((1u << n) - 1, 0, 0, 0);
	else if (!strcmp(argv[1], "sort"))
		result = sort(n);
	else if (!strcmp(argv[1], "machine"))
		result = machine(n);
	else if (!strcmp(argv[1], "words"))
		result = words(n);
	else
		return 2;
	printf("%llu\n", (unsigned long long)result);
	return 0;
}
