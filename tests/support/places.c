/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/places.h"

const char places_build[] = TEST_BUILD_DIR, places_bin[] = TEST_BUILD_DIR "/bin/";
const char places_source[] = TEST_SOURCE_DIR, places_manual[] = TEST_SOURCE_DIR "/docs/man/shmetactl.1.scd";
const char places_shmetad[] = TEST_BUILD_DIR "/bin/shmetad", places_shmetactl[] = TEST_BUILD_DIR "/bin/shmetactl";
