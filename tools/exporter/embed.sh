#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The files of the page as C: embed.sh FILE... Each "x/page.css" gives page_css[], its text, and page_css_hash[], its SHA-256 in base64.
set -euo pipefail
echo '#include "tools/exporter/page_assets.h"'
for file in "$@"; do
	name=$(basename "$file" | tr . _)
	printf '\nconst char %s[] =\n' "$name"
	sed 's/\\/\\\\/g; s/"/\\"/g; s/^/\t"/; s/$/\\n"/' "$file"
	printf '\t"";\nconst char %s_hash[] = "%s";\n' "$name" \
		"$(sha256sum "$file" | cut -c1-64 | tr a-f A-F | basenc --base16 --decode | base64 --wrap=0)"
done
