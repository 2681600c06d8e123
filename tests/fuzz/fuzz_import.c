/* SPDX-License-Identifier: Apache-2.0
 * Lines of a file for `shmetactl import`: any bytes are refused with a sentence, or are a row that
 * export spells the same way again. */
#include "tests/fuzz/fuzz.h"
#include "tools/shmetactl/move_rows.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	json_t *line = json_loadb((const char *)data, bytes, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL), *again;
	char fault[480] = "", fault_again[480] = "";
	struct backend_row row, same;
	void *map = NULL, *same_map = NULL;

	if (line == NULL)
		return 0;
	if (!move_row_parse(line, &row, &map, fault)) {
		require(fault[0] != '\0' && memchr(fault, 0, sizeof fault) != NULL);
	} else {
		again = move_row_json(&row);
		if (again != NULL) {
			require(move_row_parse(again, &same, &same_map, fault_again) && same.kind == row.kind);
			json_decref(again);
		}
	}
	free(map);
	free(same_map);
	json_decref(line);
	return 0;
}
