/* SPDX-License-Identifier: Apache-2.0
 * Conformance, the first part, where the store has one partition at a time: what it does not have
 * is resolved by FRESH. */
#include "tests/support/conformance.h"

#undef CONFORMANCE_ENGINES
#define CONFORMANCE_ENGINES(E, claim) CONFORMANCE_BOUNDED(E, claim)

#include "tests/contract/test_conformance.c" /* NOLINT(bugprone-suspicious-include) */
