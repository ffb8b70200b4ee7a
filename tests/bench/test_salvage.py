"""A store that lost a part of itself gives back what can still be read."""

import json
import os

import pytest
import torch

from cfkit.bench.salvage import open_store
from cfkit.bench.store import CaseRow, Store


def filled(folder, count=400):
    store = Store(folder)
    for k in range(count):
        arrays = {"margin": torch.full((20,), float(k))}
        store.add_cases([CaseRow(f"{k:024d}", "m", "edit", f"film{k}", "Edema", True, 0, arrays=arrays)], {})
    store.close()
    return folder / "cases.sqlite"


def test_a_sound_store_is_opened_as_it_is(tmp_path):
    filled(tmp_path, 3)
    store, said = open_store(tmp_path)
    assert said == "" and len(store.finished()) == 3


@pytest.mark.parametrize("harm", ["tail cut off", "tail zeroed", "middle overwritten"])
def test_a_damaged_store_keeps_what_can_be_read(tmp_path, harm):
    path = filled(tmp_path)
    size = path.stat().st_size
    if harm == "tail cut off":
        os.truncate(path, size - 3 * 4096 - 100)
    else:
        with path.open("r+b") as stream:
            stream.seek(size - 4 * 4096 if harm == "tail zeroed" else size // 2)
            stream.write(b"\0" * 3 * 4096 if harm == "tail zeroed" else b"garbage!" * 3 * 512)
    store, said = open_store(tmp_path)
    rows = list(store.cases())
    assert "was damaged" in said and "\n" not in said
    assert 200 < len(rows) < 400
    for row in rows:
        assert row.arrays["margin"].tolist() == [float(int(row.key))] * 20
    store.add_cases([CaseRow("x" * 24, "m", "edit", "f", "Edema", True, 0)], {})
    assert (tmp_path / "cases.sqlite.damaged").is_file()
    assert open_store(tmp_path)[1] == ""


def test_a_torn_log_loses_its_last_rows_alone(tmp_path):
    filled(tmp_path, 5)
    store = Store(tmp_path)
    store.db.execute("PRAGMA wal_autocheckpoint=0")
    for k in range(5, 10):
        store.add_cases([CaseRow(f"{k:024d}", "m", "edit", f"film{k}", "Edema", True, 0)], {})
    log = (tmp_path / "cases.sqlite-wal").read_bytes()
    main = (tmp_path / "cases.sqlite").read_bytes()
    store.close()
    (tmp_path / "cases.sqlite").write_bytes(main)
    (tmp_path / "cases.sqlite-wal").write_bytes(log[:-5000])
    again, said = open_store(tmp_path)
    assert said == "" and 5 <= len(again.finished()) < 10
    assert json.dumps(sorted(again.finished()))
