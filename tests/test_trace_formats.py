import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from edm_policy.errors import EdmError, UsageError
from edm_workload import Trace

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

ROWS = [(10, 2**33 + 5, 4096, 2), (10, 7, 512, -1), (12, 2**33 + 5, 8192, -1)]


def put(path, data):
    path.write_bytes(data)
    return path


def test_oracle_general(tmp_path):
    raw = b"".join(struct.pack("<IQIq", *row) for row in ROWS)
    for path in (
        put(tmp_path / "a.oracleGeneral.bin", raw),
        put(tmp_path / "a.oracleGeneral.zst", zstandard.compress(raw)),
        put(tmp_path / "a.oracleGeneral.gz", gzip.compress(raw)),
    ):
        trace = Trace.load(path)
        assert trace.page.tolist() == [2**33 + 5, 7, 2**33 + 5]
        assert trace.t_ns.tolist() == [0, 0, 2 * 10**9]
        assert trace.size.tolist() == [4096, 512, 8192]
        assert trace.write is None


def lcs(version, rows, count=None):
    magic = 0x123456789ABCDEF0
    statistics = struct.pack("<qq", 1, len(rows) if count is None else count)
    return (
        struct.pack("<QQ", magic, version)
        + statistics.ljust(8168, b"\0")
        + struct.pack("<Q", magic)
        + b"".join(rows)
    )


@pytest.mark.parametrize("version", [1, 2, 3, 4, 8])
def test_lcs_versions(tmp_path, version):
    op_tenant = b"\x01\x02\x00\x00"
    rows = []
    for time, page, size, nxt in ROWS:
        row = struct.pack("<IQ", time, page) + struct.pack("<I" if version < 3 else "<q", size)
        row += op_tenant if version > 1 else b""
        row += struct.pack("<I", 60) if version > 2 else b""
        row += struct.pack("<q", nxt)
        rows.append(row + bytes(4 * {4: 1, 8: 16}.get(version, 0)))
    trace = Trace.load(put(tmp_path / "a.lcs", lcs(version, rows)))
    assert trace.page.tolist() == [2**33 + 5, 7, 2**33 + 5]
    assert trace.size.tolist() == [4096, 512, 8192]


def test_lcs_that_lost_its_end_is_refused(tmp_path):
    row = struct.pack("<IQIq", *ROWS[0])
    with pytest.raises(EdmError, match="1 of 5 records"):
        Trace.load(put(tmp_path / "a.lcs", lcs(1, [row], count=5)))


@pytest.mark.parametrize("version", [1, 2])
def test_vscsi(tmp_path, version):
    rows = b""
    for i, cmd in enumerate((0x28, 0x2A)):
        if version == 1:
            rows += struct.pack("<IIIHHQQ", i, 4096, 1, cmd, 1 << 8, 100 + i, 5000 + i)
        else:
            rows += struct.pack("<HHIIIQQQ", cmd, 2 << 8, i, 4096, 1, 100 + i, 5000 + i, 9)
    # Lengths that are multiples of both record sizes must still be told apart.
    trace = Trace.load(put(tmp_path / "a.vscsi", rows * 20), None)
    assert trace.page[:2].tolist() == [100, 101]
    assert trace.write[:2].tolist() == [False, True]
    assert trace.metadata["source"] == f"vscsi {version}"


@pytest.mark.parametrize(("suffix", "dtype"), [("u32", "<u4"), ("u64", "<u8")])
def test_binary_ids(tmp_path, suffix, dtype):
    raw = np.array([3, 1, 2**32 - 1], dtype=dtype).tobytes()
    for path in (
        put(tmp_path / f"a.{suffix}", raw),
        put(tmp_path / f"a.{suffix}.zst", zstandard.compress(raw)),
        put(tmp_path / f"a.{suffix}.gz", gzip.compress(raw)),
    ):
        assert Trace.load(path).page.tolist() == [3, 1, 2**32 - 1]


def test_zstd_of_several_frames_is_read_whole(tmp_path):
    frames = b"".join(zstandard.compress(np.uint32(i).tobytes()) for i in range(3))
    assert Trace.load(put(tmp_path / "a.u32.zst", frames)).page.tolist() == [0, 1, 2]


def test_text_of_numbers_and_of_words(tmp_path):
    assert Trace.load(put(tmp_path / "a.txt", b"# ids\n5\n\n 3 \n5\n")).page.tolist() == [5, 3, 5]
    assert Trace.load(put(tmp_path / "b.txt", b"x\ny\nx\n")).page.tolist() == [0, 1, 0]


def test_csv_with_and_without_a_header(tmp_path):
    named = b"t_ns,op,page,tid\n0,read,9,0\n5,write,8,1\n5,W,9,0\n"
    trace = Trace.load(put(tmp_path / "a.csv", named))
    assert trace.page.tolist() == [9, 8, 9]
    assert trace.write.tolist() == [False, True, True]
    assert trace.tid.tolist() == [0, 1, 0] and trace.t_ns.tolist() == [0, 5, 5]
    assert Trace.load(put(tmp_path / "b.csv", b"4,x\n2,y\n")).page.tolist() == [4, 2]
    assert Trace.load(put(tmp_path / "c.csv", b"obj_id\nk1\nk2\nk1\n")).page.tolist() == [0, 1, 0]


def parquet(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


def test_parquet_of_another_program(tmp_path):
    assert Trace.load(parquet(tmp_path / "a.parquet", page=[3, 4])).page.tolist() == [3, 4]


def bad_files(folder):
    ok = folder / "ok.parquet"
    Trace(np.arange(5000)).save(ok)
    newer = pa.table({"page": [1]}).replace_schema_metadata(
        {b"edm_trace": json.dumps({"format_version": 99})}
    )
    pq.write_table(newer, folder / "newer.parquet")
    return {
        "missing.parquet": None,
        "cut.parquet": ok.read_bytes()[:-100],
        "text.parquet": b"hello, this is text and not Parquet",
        "empty.parquet": b"",
        "newer.parquet": (folder / "newer.parquet").read_bytes(),
        "column.parquet": parquet(folder / "x.parquet", id=[1]).read_bytes(),
        "null.parquet": parquet(folder / "x.parquet", page=[1, None]).read_bytes(),
        "float.parquet": parquet(folder / "x.parquet", page=[1.5]).read_bytes(),
        "words.parquet": parquet(folder / "x.parquet", page=["a"]).read_bytes(),
        "cut.u32": b"\0" * 6,
        "empty.u32": b"",
        "damaged.u32.zst": zstandard.compress(np.random.default_rng(1).bytes(400_000))[:300_000],
        "damaged.u32.gz": gzip.compress(bytes(range(200)))[:-9],
        "cut.oracleGeneral": b"\0" * 25,
        "short.lcs": b"\0" * 100,
        "magic.lcs": b"\0" * 9000,
        "version.lcs": lcs(77, []),
        "none.vscsi": b"\0" * 64,
        "empty.csv": b"",
        "names.csv": b"a,b\n1,2\n",
        "ragged.csv": b"page,write\n1,2\n1,2,3,4\n",
        "gap.csv": b"page,write\n1,1\n,1\n",
        "time.csv": b"page,t_ns\n1,-5\n",
        "empty.txt": b"\n\n",
    }


def test_every_bad_file_is_one_line_that_names_it(tmp_path):
    for name, content in bad_files(tmp_path).items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(EdmError) as caught:
            Trace.load(path)
        message = str(caught.value)
        assert "\n" not in message, name
        assert name in message or "trace:" in message, (name, message)


def test_a_name_that_tells_no_format_is_a_usage_error(tmp_path):
    path = put(tmp_path / "a.xyz", b"1\n")
    with pytest.raises(UsageError, match="--format"):
        Trace.load(path)
    assert Trace.load(path, "text").page.tolist() == [1]
    with pytest.raises(UsageError, match="did you mean text"):
        Trace.load(path, "tex")


def test_a_folder_is_one_line(tmp_path):
    (tmp_path / "d.parquet").mkdir()
    with pytest.raises(EdmError):
        Trace.load(tmp_path / "d.parquet")


@pytest.mark.skipif(not DATA.exists(), reason="../shared/data is not here")
def test_shared_traces_have_their_footprints():
    expected = json.loads((DATA / "expected.json").read_text())
    for name, entry in expected["traces"].items():
        trace = Trace.load(DATA / f"{name}.u32.zst")
        assert len(trace) == entry["requests"] and trace.footprint == entry["footprint"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "page\n1\n1.5\n", "record 2 has 1.5"),
        ("a.csv", "page\n1.0\n-1.0\n", "record 2 has -1"),
        ("a.csv", "page\n1e300\n", "record 1 has 1e"),
        ("a.txt", "1.5\n2\n", "record 1 has 1.5"),
        ("a.csv", "page,write\n1,1\n2,\n", "record 2 does not say whether it writes"),
    ],
)
def test_numbers_that_are_no_page_are_refused_and_not_taken_for_names(tmp_path, name, text, said):
    with pytest.raises(EdmError, match=said):
        Trace.load(put(tmp_path / name, text.encode()))


def test_whole_numbers_written_as_floats_are_themselves(tmp_path):
    trace = Trace.load(put(tmp_path / "a.csv", b"page,write\n1e3,1.0\n2.0,0.0\n"))
    assert trace.page.tolist() == [1000, 2] and trace.write.tolist() == [True, False]
    assert Trace.load(put(tmp_path / "b.txt", b"7.0\n7\nx9\n7.0\n")).page.tolist() == [0, 1, 2, 0]
