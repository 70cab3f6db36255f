/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What is logged, to be counted.
 */
#ifndef LOGTAP_H
#define LOGTAP_H

/* From now on lines go to a file that nobody else sees. */
void		 logtap_open(void);
void		 logtap_close(void);
/* Lines of which text is a part, since the last logtap_clear(). */
unsigned	 logtap_count(const char *text);
void		 logtap_clear(void);

#endif
