/* report.h: what `python -m edm_real run` and the library it preloads tell each other. */
#ifndef EDM_REPORT_H
#define EDM_REPORT_H

#include "board.h"
#include "runtime.h"

/* cffi-begin */
typedef struct edm_run_config { /* in EDM_RUN_CONFIG, as hexadecimal digits */
    edm_region_config region;
    uint64_t least; /* bytes: smaller pieces are not paged */
} edm_run_config;

typedef struct edm_run_report { /* appended to the file in EDM_RUN_REPORT when a process ends */
    edm_figures figures;
    uint64_t elapsed_ns;
    uint64_t most;     /* bytes given out of the region at once, at the most */
    uint64_t left_out; /* bytes of pieces that were not paged: no room in the region */
} edm_run_report;
/* cffi-end */

#endif
