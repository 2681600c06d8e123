/* SPDX-License-Identifier: Apache-2.0
 * What fuzz targets share: the entry point, a check, and an input that is taken apart from its
 * front.
 *
 * `make fuzz` links a target with libFuzzer; `make test` links it with replay/main.c, which feeds
 * it its corpus. */
#ifndef SHMETA_TESTS_FUZZ_FUZZ_H
#define SHMETA_TESTS_FUZZ_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* 0, always: -1 would keep the input out of the corpus. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* Ends the process: the input is a finding. */
static inline void require(bool holds)
{
	if (!holds)
		abort();
}

/* What is left of an input. Beyond its end there are zeros. */
struct fuzz_input {
	const uint8_t *at;
	size_t left;
};

static inline void fuzz_take(struct fuzz_input *in, void *ret, size_t bytes)
{
	size_t there = bytes < in->left ? bytes : in->left;

	memset(ret, 0, bytes);
	if (there > 0)
		memcpy(ret, in->at, there);
	in->at += there;
	in->left -= there;
}

static inline uint8_t fuzz_u8(struct fuzz_input *in)
{
	uint8_t value;

	fuzz_take(in, &value, sizeof value);
	return value;
}

static inline uint16_t fuzz_u16(struct fuzz_input *in)
{
	uint16_t value;

	fuzz_take(in, &value, sizeof value);
	return value;
}

static inline uint64_t fuzz_u64(struct fuzz_input *in)
{
	uint64_t value;

	fuzz_take(in, &value, sizeof value);
	return value;
}

/* So many bytes, or what is left; borrowed. */
static inline const uint8_t *fuzz_bytes(struct fuzz_input *in, size_t wanted, size_t *ret_bytes)
{
	const uint8_t *at = in->at;

	*ret_bytes = wanted < in->left ? wanted : in->left;
	in->at += *ret_bytes;
	in->left -= *ret_bytes;
	return at;
}

#endif
