from leaf_fer.bench.devices import free, slots, visible_gpus


def test_cells_are_dealt_to_the_gpus_in_turn():
    found = slots(1, 2, ["0", "GPU-ab"], 8, {})
    assert [slot.environment for slot in found] == [
        {"OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": gpu} for gpu in ("0", "GPU-ab") * 2
    ]


def test_without_a_gpu_cells_share_the_cores():
    assert [slot.environment for slot in slots(1, 3, [], 2, {})] == [{"OMP_NUM_THREADS": "1"}] * 3
    assert [slot.environment for slot in slots(2, None, [], 8, {})] == [
        {"OMP_NUM_THREADS": "4"}
    ] * 2
    assert [slot.environment for slot in slots(1, None, [], 8, {})] == [{}]
    assert [slot.environment for slot in slots(2, None, [], 8, {"OMP_NUM_THREADS": "8"})] == [
        {}
    ] * 2


def test_the_next_cell_goes_where_the_fewest_run():
    two = slots(1, 2, ["0", "1"], 8, {})
    order, busy = [], []
    for _ in range(4):
        busy.append(free(two, busy))
        order.append(two[busy[-1]].gpu)
    assert order == ["0", "1", "0", "1"]
    assert free(two, busy) is None
    assert two[free(two, [2])].gpu == "1"
    assert two[free(two, [1])].gpu == "0"


def test_the_gpus_are_those_that_the_environment_allows_or_that_the_driver_lists(
    tmp_path, monkeypatch
):
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "3, GPU-ab"}) == ["3", "GPU-ab"]
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": ""}) == []
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus({}) == []
    driver = tmp_path / "nvidia-smi"
    driver.write_text('#!/bin/sh\necho "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1a-2b)"\n')
    driver.chmod(0o755)
    assert visible_gpus({}) == ["GPU-1a-2b"]
