from gptexp.runs.timings import describe_speed, drop_timings

ROW = {
    "step": 10,
    "seconds": 1.5,
    "train/loss": 2.5,
    "speed/tokens_per_second": 16532.4,
    "speed/step_ms": 12.34,
    "speed/tflops_per_device": 0.0514,
    "speed/peak_memory_gib": 0.4821,
    "speed/data_share": 0.004,
    "speed/validation_share": 0.123,
}


def test_equal_runs_have_equal_rows_without_the_timings():
    assert drop_timings(ROW) == {"step": 10, "train/loss": 2.5}


def test_the_speed_of_a_row_is_described_with_the_time_that_is_lost():
    assert describe_speed(ROW) == [
        "16,532 tokens/s",
        "12.3 ms/step",
        "0.0514 TFLOP/s",
        "0.48 GiB",
        "12% validation",
    ]
    assert "MFU 41.7%" in describe_speed({**ROW, "speed/mfu": 0.4168})
    assert describe_speed({"step": 10}) == []
