#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Records of the store are changed in one place of the writer, writer/apply/record_changes.c: what is to hear of every change hooks in there.
# Only META, which is about the store itself, is written beside it.
set -euo pipefail
cd "$(dirname "$0")/../.."
! git grep -nE '\bshmeta__(put|delete|touch)\(' -- writer ':!writer/apply/record_changes.c' | grep -v 'SHMETA_DB_META'
