/* SPDX-License-Identifier: Apache-2.0
 * page.css and page.js as text, and their SHA-256 in base64, as a content security policy wants it.
 * Made by embed.sh. */
#ifndef SHMETA_TOOLS_EXPORTER_PAGE_ASSETS_H
#define SHMETA_TOOLS_EXPORTER_PAGE_ASSETS_H

extern const char page_css[], page_css_hash[];
extern const char page_js[], page_js_hash[];

#endif
