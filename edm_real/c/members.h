/* members.h: what stores that are made of others have in common: URLs as "A,[B,with=commas],C?option=value",
 * what a member's error tells, figures. */
#ifndef EDM_MEMBERS_H
#define EDM_MEMBERS_H

#include "stores.h"

/* Cuts the next URL off `rest`, and the brackets around it; NULL: none is left. */
char *edm_member_next(char **rest);
/* Cuts "?name=value&..." off the end if the first name is among `known`: else the options are the last
 * member's. "": none. */
char *edm_member_options(char *urls, const edm_url_option *known);

/* 1 if a member's error tells that it gave no answer; 0 for errors of one page. -EHOSTDOWN is one: a part of
 * the member is dead, and it says so at once (store_striped.c). */
int edm_is_silence(int error);
/* 1 if it is dead: silent, though the call had a fair time (begun then, to end by its deadline) and we were not stopped. */
int edm_is_dead(int error, uint64_t begun_ns, uint64_t deadline_ns);
/* Adds what a member's own members did. */
void edm_stats_of_member(edm_store_stats *out, const edm_store_stats *one);

#endif
