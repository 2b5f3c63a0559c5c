/*
 * A tool for valgrind that writes a program's memory references as pages, to a file descriptor.
 *
 * It does what lackey --trace-mem=yes and the first step of reduce.h do together, without text:
 * lackey prints a line and makes a system call for each instruction and each access; here
 * an access costs a call of a few instructions, and consecutive references to one page become
 * one record (struct edm_reference) in a buffer. So it is some fifty times as fast. The
 * records are lackey's to the last one: a load and a store of one place by one instruction are
 * one reference that writes, and time is instructions executed.
 *
 * How: each block of code that valgrind translates gets a call in front of every access. The
 * instructions since the last call are an argument of it, known when the block is translated;
 * before a jump out of the block, what was not told yet is told.
 *
 * tracer.py compiles it. The source is MIT as everything here; what is made of it contains
 * valgrind's core, which is under GPL 2 or later.
 */
#include "pub_tool_basics.h"
#include "pub_tool_libcassert.h"
#include "pub_tool_libcbase.h"
#include "pub_tool_libcfile.h"
#include "pub_tool_libcprint.h"
#include "pub_tool_libcproc.h"
#include "pub_tool_machine.h"
#include "pub_tool_options.h"
#include "pub_tool_tooliface.h"

#include "reduce.h"

/* The core has these, the tools' headers do not. The first moves a descriptor out of the program's
 * reach. */
extern Int VG_(safe_fd)(Int fd);
extern Int VG_(fcntl)(Int fd, Int command, Addr argument);

#define F_SETPIPE_SZ 1031 /* Linux' fcntl.h; no libc's header can be had here */
#define NO_PAGE (~(uint64_t)0)
#define RECORDS 2048 /* 48 KiB, less than a pipe holds */

static struct edm_reference records[RECORDS];
static UInt filled;
static struct edm_reference current = {.page = NO_PAGE};
static uint64_t now; /* instructions */

static Long output = -1;
static Bool fetches = False; /* instruction fetches are references, too */

/* -- while the program runs */

static void flush(void)
{
    const char *at = (const char *)records;
    Int left = (Int)(filled * sizeof *records);
    while (output >= 0 && left > 0) {
        Int written = VG_(write)((Int)output, at, left);
        if (written <= 0)
            VG_(exit)(1); /* nobody reads any more */
        at += written;
        left -= written;
    }
    filled = 0;
}

static void end_current(void)
{
    if (current.page == NO_PAGE)
        return;
    records[filled++] = current;
    if (filled == RECORDS)
        flush();
}

/* what: instructions since the last call (upper half), bytes << 1 | whether it writes. */
static VG_REGPARM(2) void on_access(Addr address, UWord what)
{
    UInt write = what & 1, bytes = (UInt)what >> 1;
    uint64_t page = address >> EDM_PAGE_SHIFT, last = (address + bytes - 1) >> EDM_PAGE_SHIFT;
    now += what >> 32;
    for (; page <= last; page++) {
        if (page == current.page && current.hits < 0xffffffff) {
            current.hits++;
            current.write |= write;
            continue;
        }
        end_current();
        current = (struct edm_reference){.page = page, .t = now, .write = write};
    }
}

static VG_REGPARM(1) void on_instructions(UWord count)
{
    now += count;
}

/* -- while a block is translated */

struct block {
    IRSB *to;
    UWord instructions; /* that no call has told yet */
    IRDirty *load;      /* the last access, if it is a load of this instruction */
    const IRExpr *load_address;
    Int load_bytes;
};

static void tell_instructions(struct block *b)
{
    if (!b->instructions)
        return;
    IRExpr **arguments = mkIRExprVec_1(mkIRExpr_HWord(b->instructions));
    IRDirty *call = unsafeIRDirty_0_N(1, "on_instructions",
                                      VG_(fnptr_to_fnentry)((void *)on_instructions), arguments);
    addStmtToIRSB(b->to, IRStmt_Dirty(call));
    b->instructions = 0;
}

/* guard: the access is made if it is true (NULL: always). */
static void tell_access(struct block *b, IRExpr *address, Int bytes, Bool write, IRExpr *guard)
{
    if (write && !guard && b->load && b->load_bytes == bytes &&
        eqIRAtom(b->load_address, address)) { /* add to memory: the load becomes a write */
        b->load->args[1] = mkIRExpr_HWord(b->load->args[1]->Iex.Const.con->Ico.U64 | 1);
        b->load = NULL;
        return;
    }
    if (guard)
        tell_instructions(b);
    UWord what = b->instructions << 32 | (UWord)bytes << 1 | write;
    IRDirty *call = unsafeIRDirty_0_N(2, "on_access", VG_(fnptr_to_fnentry)((void *)on_access),
                                      mkIRExprVec_2(address, mkIRExpr_HWord(what)));
    if (guard)
        call->guard = guard;
    addStmtToIRSB(b->to, IRStmt_Dirty(call));
    b->instructions = 0;
    b->load = write || guard ? NULL : call;
    b->load_address = address;
    b->load_bytes = bytes;
}

static void statement(struct block *b, const IRTypeEnv *types, const IRStmt *s)
{
    switch (s->tag) {
    case Ist_IMark:
        b->instructions++;
        b->load = NULL;
        if (fetches) {
            tell_access(b, mkIRExpr_HWord(s->Ist.IMark.addr), (Int)s->Ist.IMark.len, False, NULL);
            b->load = NULL;
        }
        break;
    case Ist_WrTmp: {
        const IRExpr *data = s->Ist.WrTmp.data;
        if (data->tag == Iex_Load)
            tell_access(b, data->Iex.Load.addr, sizeofIRType(data->Iex.Load.ty), False, NULL);
        break;
    }
    case Ist_Store: {
        Int bytes = sizeofIRType(typeOfIRExpr(types, s->Ist.Store.data));
        tell_access(b, s->Ist.Store.addr, bytes, True, NULL);
        break;
    }
    case Ist_LoadG: {
        const IRLoadG *load = s->Ist.LoadG.details;
        IRType wide, type;
        typeOfIRLoadGOp(load->cvt, &wide, &type);
        tell_access(b, load->addr, sizeofIRType(type), False, load->guard);
        break;
    }
    case Ist_StoreG: {
        const IRStoreG *store = s->Ist.StoreG.details;
        Int bytes = sizeofIRType(typeOfIRExpr(types, store->data));
        tell_access(b, store->addr, bytes, True, store->guard);
        break;
    }
    case Ist_Dirty: {
        const IRDirty *call = s->Ist.Dirty.details;
        if (call->mFx == Ifx_Read || call->mFx == Ifx_Modify)
            tell_access(b, call->mAddr, call->mSize, False, NULL);
        if (call->mFx == Ifx_Write || call->mFx == Ifx_Modify)
            tell_access(b, call->mAddr, call->mSize, True, NULL);
        break;
    }
    case Ist_CAS: {
        const IRCAS *cas = s->Ist.CAS.details;
        Int bytes = sizeofIRType(typeOfIRExpr(types, cas->dataLo));
        if (cas->dataHi)
            bytes *= 2;
        tell_access(b, cas->addr, bytes, False, NULL);
        tell_access(b, cas->addr, bytes, True, NULL);
        break;
    }
    case Ist_LLSC: {
        const IRExpr *stored = s->Ist.LLSC.storedata;
        IRType type =
            stored ? typeOfIRExpr(types, stored) : typeOfIRTemp(types, s->Ist.LLSC.result);
        tell_access(b, s->Ist.LLSC.addr, sizeofIRType(type), stored != NULL, NULL);
        break;
    }
    case Ist_Exit:
        tell_instructions(b);
        break;
    default: /* touches no memory */
        break;
    }
}

static IRSB *translate(VgCallbackClosure *closure, IRSB *from, const VexGuestLayout *layout,
                       const VexGuestExtents *extents, const VexArchInfo *processor,
                       IRType guest_word, IRType host_word)
{
    (void)closure, (void)layout, (void)extents, (void)processor;
    tl_assert(guest_word == Ity_I64 && host_word == Ity_I64);
    struct block b = {.to = deepCopyIRSBExceptStmts(from)};
    for (Int i = 0; i < from->stmts_used; i++) {
        IRStmt *s = from->stmts[i];
        if (!s || s->tag == Ist_NoOp)
            continue;
        statement(&b, from->tyenv, s);
        addStmtToIRSB(b.to, s);
    }
    tell_instructions(&b);
    return b.to;
}

/* -- the tool */

static Bool option(const HChar *arg)
{
    return VG_INT_CLO(arg, "--output-fd", output) || VG_BOOL_CLO(arg, "--fetches", fetches);
}

static void no_usage(void)
{
}

static void begin(void)
{
    if (output < 0)
        return;
    output = VG_(safe_fd)((Int)output);
    VG_(fcntl)((Int)output, F_SETPIPE_SZ, 1 << 20); /* as refused as granted: fewer turns */
}

/* A byte after the last record: this was the end. Who gives way to another program (execve) never
 * comes here. */
static void end(Int code)
{
    (void)code;
    end_current();
    flush();
    if (output >= 0)
        VG_(write)((Int)output, "\n", 1);
}

/* A forked child is another program: its references are not told. */
static void in_child(ThreadId thread)
{
    (void)thread;
    if (output >= 0)
        VG_(close)((Int)output);
    output = -1;
}

static void register_tool(void)
{
    VG_(details_name)("edm");
    VG_(details_version)(NULL);
    VG_(details_description)("a program's memory references, as pages");
    VG_(details_copyright_author)("the authors of EDM");
    VG_(details_bug_reports_to)("the authors of EDM");
    VG_(basic_tool_funcs)(begin, translate, end);
    VG_(needs_command_line_options)(option, no_usage, no_usage);
    VG_(atfork)(NULL, NULL, in_child);
}

VG_DETERMINE_INTERFACE_VERSION(register_tool)
