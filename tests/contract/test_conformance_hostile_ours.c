/* SPDX-License-Identifier: Apache-2.0
 * Conformance, our part, on sources with a hostile schema. */
#include "tests/support/conformance.h"

#undef CONFORMANCE_ENGINES
#define CONFORMANCE_ENGINES(E, claim) CONFORMANCE_HOSTILE(E, claim)

#include "tests/contract/test_conformance_ours.c" /* NOLINT(bugprone-suspicious-include) */
