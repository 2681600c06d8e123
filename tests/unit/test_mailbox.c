/* SPDX-License-Identifier: Apache-2.0
 * From the engine's thread to the loop: an answer that is owed can be given whatever the memory
 * says. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "writer/daemon/mailbox.h"

TestSuite(mailbox, .timeout = 20);

static struct mailbox *box;

static void start(void)
{
	struct shmeta_err err = {.code = SHMETA_OK};

	cr_assert_eq(mailbox_new(&box, &err), SHMETA_OK, "%s", err.text);
}

static void stop(void)
{
	mailbox_free(box);
}

Test(mailbox, every_answer_that_is_owed_has_a_letter_without_memory, .init = start, .fini = stop)
{
	enum { OWED = 300 };
	char longer[1000];
	size_t taken = 0;

	memset(longer, 'x', sizeof longer - 1);
	longer[sizeof longer - 1] = '\0';
	for (int i = 0; i < OWED; i++)
		cr_assert(mailbox_owe(box));
	for (uint64_t i = 0; i < OWED; i++) {
		struct mail *letter = mailbox_spare(box, MAIL_ANSWER, i % 2 == 0 ? "short" : longer);
		cr_assert_not_null(letter);
		letter->ticket = i;
		mailbox_post(box, letter);
		mailbox_settle(box);
	}
	for (struct mail *letter = mailbox_take(box), *next; letter != NULL; letter = next) {
		next = letter->next;
		cr_expect_eq(letter->kind, MAIL_ANSWER);
		cr_expect_eq(letter->ticket, taken);
		cr_expect(taken % 2 == 0 ? strcmp(letter->text, "short") == 0
		                         : strncmp(letter->text, longer, 100) == 0);
		cr_expect_lt(strlen(letter->text), letter->bytes);
		taken++;
		free(letter);
	}
	cr_expect_eq(taken, OWED);
}

Test(mailbox, letters_put_aside_are_used_again_and_given_back, .init = start, .fini = stop)
{
	for (int round = 0; round < 10; round++) {
		for (int i = 0; i < 500; i++)
			cr_assert(mailbox_owe(box));
		for (int i = 0; i < 500; i++)
			mailbox_settle(box);
	}
	cr_assert(mailbox_owe(box));
	free(mailbox_spare(box, MAIL_ANSWER, ""));
	mailbox_settle(box);
}
