/* members.h: the URLs of a store that is made of others: "A,[B,with=commas],C?option=value". */
#ifndef EDM_MEMBERS_H
#define EDM_MEMBERS_H

#include "stores.h"

/* Cuts the next URL off `rest`, and the brackets around it; NULL: none is left. */
char *edm_member_next(char **rest);
/* Cuts "?name=value&..." off the end if the first name is among `known`: else the options are the last
 * member's. "": none. */
char *edm_member_options(char *urls, const edm_url_option *known);

#endif
