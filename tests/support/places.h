/* SPDX-License-Identifier: Apache-2.0
 * Where the programs and the tree are that a test belongs to. Only places.c is compiled with their
 * paths, so that the objects of all other tests are the same in every tree. */
#ifndef SHMETA_TESTS_SUPPORT_PLACES_H
#define SHMETA_TESTS_SUPPORT_PLACES_H

extern const char places_build[], places_bin[]; /* the folder of a build; the programs in it, with a
                                                 * '/' at the end */
extern const char places_source[], places_manual[];
extern const char places_shmetad[], places_shmetactl[];

#endif
