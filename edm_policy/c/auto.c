/* auto.c: a limit that follows the program's working set.
 *
 * The signal is the rate of working-set refaults (workingset.c), as in Weiner et al., "TMO:
 * Transparent memory offloading in datacenters", ASPLOS 2022, where pressure is held at a target
 * by giving memory quickly and taking it slowly. Every `interval` of `now`, at the next fault or
 * turn of LPET (a driver that calls edm_reclaim() now and then takes memory from a program
 * that does not fault at all):
 *
 *     rate = working-set refaults since the last look * 10^6 / (now - last look)
 *
 *     rate > target      limit += max(1, limit / 8)     up to config.limit
 *     rate < target / 2  limit -= max(1, limit / 64)     down to auto_min
 *     between            it stays        (after k quiet intervals it sinks k times, 64 at most)
 *
 * high and low follow as they do by default: a 128th of the limit apart, 64 pages at most. Pages
 * above a limit that sank are put out by the next reclaim: until then there are more than
 * the limit, never more than config.limit. Only events and their `now` are looked at, so a
 * log replays to the same limits.
 */
#include "core.h"

static void move_limit(edm_pager *p, uint32_t limit) {
    uint32_t gap = limit / 128;
    if (gap > 64) gap = 64;
    if (gap < 1) gap = 1;
    p->limit = limit;
    p->high = limit > gap ? limit - gap : 1;
    p->low = p->high > gap ? p->high - gap : 0;
}

static uint32_t sunk(const edm_pager *p, uint64_t times) {
    uint32_t limit = p->limit;
    for (uint64_t k = 0; k < times && k < 64; k++) limit -= limit / 64 ? limit / 64 : limit > 1;
    return limit > p->config.auto_min ? limit : p->config.auto_min;
}

void edm_auto(edm_pager *p) {
    const edm_config *c = &p->config;
    uint64_t elapsed = p->now - p->auto_since;
    if (p->now < p->auto_since || elapsed < c->auto_interval) return;
    double rate = (double)(p->stats.workingset_refaults - p->auto_refaults) * 1e6 / (double)elapsed;
    p->auto_since = p->now;
    p->auto_refaults = p->stats.workingset_refaults;
    uint32_t up = p->limit / 8 ? p->limit / 8 : 1;
    if (rate > c->auto_target && p->limit < c->limit) {
        move_limit(p, up < c->limit - p->limit ? p->limit + up : c->limit);
        p->stats.grown++;
    } else if (rate * 2 < c->auto_target && p->limit > c->auto_min) {
        move_limit(p, sunk(p, elapsed / c->auto_interval));
        p->stats.shrunk++;
    }
}
